/* signer.h - a line to `keys` on a loop: requests as in tls/sign_client.h, and the answers to those that do not wait.
 *
 * Use       signer_init, signer_set_fd for each descriptor that super hands over; client's signer (sign_client_signer) goes into
 *           TLS contexts of this loop's thread.
 * Failure   the end of `keys` fails what is awaited at once; signer_is_open is then false until there is a new descriptor.
 */
#ifndef NET_SIGNER_H
#define NET_SIGNER_H
#include "net/loop.h"
#include "tls/sign_client.h"

struct signer {
	struct sign_client client;
	struct loop *loop;
	struct loop_watch watch;
	bool watched;
};

void signer_init(struct signer *, struct loop *, uint32_t ask, uint32_t answer); /* the types of KEY_SIGN and KEY_SIGNED */
void signer_set_fd(struct signer *, int fd); /* takes it over in place of an earlier one; -1: none */
bool signer_is_open(const struct signer *);
void signer_free(struct signer *); /* after the connections that shake hands with it; one that is all zero is fine */

#endif
