/* sign_client.h - asks the role `keys` for a signature and waits: a struct tls_signer over a descriptor.
 *
 * The exchange blocks the thread that shakes hands, at most SIGN_CLIENT_MS: OpenSSL's private-key operation cannot be
 * left and entered again without its asynchronous jobs, and an ECDSA answer takes some 100 us.  Frames are those of the
 * channel (u32 length, u32 type, payload), read and written here directly, because this floor lies below net/.
 * The answer is a peer's input: length, type, stream number and size are checked; anything wrong closes the descriptor, and every
 * handshake fails (the caller sees sign_client_is_open) until a new descriptor is given.
 */
#ifndef TLS_SIGN_CLIENT_H
#define TLS_SIGN_CLIENT_H
#include "tls/tls.h"

#define SIGN_CLIENT_MS 5000 /* `keys` may be busy with an RSA key of 4096 bits for every thread; more means it is dead */

struct sign_client {
	int fd;
	uint32_t ask, answer; /* the types of KEY_SIGN and KEY_SIGNED, given by the caller (wire/ is above) */
	uint32_t timeout_ms;  /* SIGN_CLIENT_MS; a test may shorten it */
	uint64_t stream;
	uint64_t asked, failed, waited_us; /* counted, for the log */
};

void sign_client_init(struct sign_client *, uint32_t ask, uint32_t answer); /* without a descriptor: every request fails */
void sign_client_set_fd(struct sign_client *, int fd); /* takes it over, closes an earlier one; -1: none */
bool sign_client_is_open(const struct sign_client *);
void sign_client_free(struct sign_client *);
/* To put into struct tls_signer with the sign_client as arg. */
long sign_client_sign(void *arg, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n,
		      unsigned char *to, size_t room);

#endif
