/* keys.h - the role that holds the private keys, alone; the others ask it to sign (KEY_SIGN, KEY_SIGNED).
 *
 * The number of a key is the index of its certificate section in the configuration; behind all these come the dkim sections.  A request is answered with ok=0
 * when the key is unknown or unusable, the hash is not as long as its digest, or the padding is not of the key's kind;
 * only hashes are ever signed, and nothing is ever decrypted.  keys_role is declared in wire/role.h.
 */
#ifndef KEYS_KEYS_H
#define KEYS_KEYS_H
#include "wire/role.h"

/* For --single: signs at once, without a channel.  role: the struct role of `keys`.  The shape of struct tls_signer. */
long keys_sign(void *role, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n, unsigned char *to,
	       size_t room);

#endif
