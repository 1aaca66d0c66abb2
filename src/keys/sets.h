/* sets.h - the private keys of one generation of the configuration.
 *
 * A key's number is the index of its certificate section; behind all these come the dkim sections.  Which role may ask for it is told
 * by the configuration: `receive` for those of its listeners, `web` for those of its sections, `send` for those that are a
 * client_certificate, `policy` for those of dkim; a role that was broken into cannot speak for another.
 * Ownership: a set owns its keys; whoever signs later holds a reference of its own.  The PEM octets are overwritten once read.
 */
#ifndef KEYS_SETS_H
#define KEYS_SETS_H
#include "wire/role.h"

#include <openssl/types.h>

struct key {
	EVP_PKEY *pkey; /* NULL: cannot be used */
	bool rsa, for_receive, for_web, for_send, for_policy;
};

struct key_set {
	struct key_set *older;
	uint32_t generation;
	size_t count;
	struct key keys[];
};

struct key_set *keys_set_read(struct role *, const struct conf *, const struct handoff *, uint32_t generation); /* NULL: memory */
void keys_set_free(struct key_set *);
/* The key for that role, or NULL and why not. */
const struct key *keys_set_find(const struct key_set *, uint32_t number, enum role_kind peer, const char **why);

#endif
