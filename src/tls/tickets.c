/* tickets.c - the keys that seal session tickets, changed while threads use them.
 *
 * The newest seals; the others only open, and what they open is sealed anew (RFC 5077 section 4 has the layout).  A lock is held
 * while a key is copied, nothing else.
 */
#include "tls/openssl.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <pthread.h>

struct ticket_key {
	unsigned char name[16], mac[32], cipher[32];
};
_Static_assert(sizeof(struct ticket_key) == TLS_TICKET_KEY, "no padding");

struct tls_tickets {
	pthread_mutex_t lock;
	unsigned count;
	struct ticket_key keys[TLS_TICKET_KEYS_KEPT]; /* newest first */
};

struct tls_tickets *tls_tickets_new(void)
{
	struct tls_tickets *t = alloc_get(&alloc_libc, sizeof *t);

	if (!t)
		return NULL;
	*t = (struct tls_tickets){ .count = 0 };
	if (pthread_mutex_init(&t->lock, NULL) == 0)
		return t;
	alloc_put(&alloc_libc, t);
	return NULL;
}

void tls_tickets_free(struct tls_tickets *t)
{
	if (!t)
		return;
	pthread_mutex_destroy(&t->lock);
	alloc_put_secret(&alloc_libc, t, sizeof *t);
}

void tls_tickets_change(struct tls_tickets *t, const unsigned char fresh[TLS_TICKET_KEY])
{
	pthread_mutex_lock(&t->lock);
	memmove(&t->keys[1], &t->keys[0], sizeof t->keys - sizeof *t->keys);
	memcpy(&t->keys[0], fresh, sizeof *t->keys);
	if (t->count < TLS_TICKET_KEYS_KEPT)
		t->count++;
	pthread_mutex_unlock(&t->lock);
}

/* The key of that name, or with name NULL the newest: its place, or -1. */
static int find(struct tls_tickets *t, const unsigned char *name, struct ticket_key *to)
{
	int found = -1;

	pthread_mutex_lock(&t->lock);
	for (unsigned i = 0; i < t->count && found == -1; i++)
		if (!name || CRYPTO_memcmp(t->keys[i].name, name, sizeof t->keys[i].name) == 0) {
			*to = t->keys[i];
			found = (int)i;
		}
	pthread_mutex_unlock(&t->lock);
	return found;
}

static bool set_mac(EVP_MAC_CTX *mac, struct ticket_key *k)
{
	char digest[] = "SHA256";
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, k->mac, sizeof k->mac),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};

	return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* For SSL_CTX_set_tlsext_ticket_key_evp_cb: 0 no such key (a full handshake follows), 1 fine, 2 fine and renew, -1 the end. */
int ossl_ticket_key(SSL *ssl, unsigned char name[16], unsigned char iv[EVP_MAX_IV_LENGTH], EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
		    int seal)
{
	const struct ossl_context *c = ossl_context_of(ssl);
	struct ticket_key k;
	int at = find(c->tickets, seal ? NULL : name, &k), ok;

	if (at == -1)
		return 0;
	if (seal) {
		memcpy(name, k.name, sizeof k.name);
		ok = RAND_bytes_ex(c->lib, iv, 16, 0) == 1 && EVP_EncryptInit_ex2(cipher, c->ticket_cipher, k.cipher, iv, NULL) == 1;
	} else {
		ok = EVP_DecryptInit_ex2(cipher, c->ticket_cipher, k.cipher, iv, NULL) == 1;
	}
	ok = ok && set_mac(mac, &k);
	OPENSSL_cleanse(&k, sizeof k);
	if (!ok)
		return -1;
	/* RFC 8446 C.4: a client should use a ticket once, so each session of TLS 1.3 brings a new one */
	return seal || (at == 0 && SSL_version(ssl) != TLS1_3_VERSION) ? 1 : 2;
}
