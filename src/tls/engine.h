/* engine.h - what the two engines share; private to tls/. */
#ifndef TLS_ENGINE_H
#define TLS_ENGINE_H
#include "tls/tls.h"

#include <openssl/core.h>
#include <openssl/types.h>

struct tls_engine {
	struct tls_session *(*start)(struct tls_context *, bool server, const struct tls_peer_check *);
	void (*free)(struct tls_session *);
	enum tls_status (*handshake)(struct tls_session *, struct view *in, struct buf *out);
	enum tls_status (*read)(struct tls_session *, struct view *in, void *to, size_t n, size_t *got, struct buf *out);
	enum tls_status (*write)(struct tls_session *, struct view, struct buf *out);
	void (*close)(struct tls_session *, struct buf *out);
	const struct tls_facts *(*facts)(struct tls_session *);
	void (*context_free)(struct tls_context *);
	int (*context_check)(struct tls_context *, unsigned nth, struct error *);
	bool (*context_works)(const struct tls_context *);
};

/* Both are the first member of the engine's own struct. */
struct tls_context {
	const struct tls_engine *engine;
};

struct tls_session {
	const struct tls_engine *engine;
	char why[256];
	void (*ready)(void *arg); /* of tls_session_watch; NULL: it cannot wait */
	void *ready_arg;
};

/* ---- the provider of keys that are elsewhere (provider.c, provider_key.c) ---- */

/* Loads OpenSSL's default provider and ours into lib, theirs preferred wherever a query does not name ours. */
int tls_provider_load(OSSL_LIB_CTX *lib, OSSL_PROVIDER *loaded[2]);
/* A key with the public part of `public` (EC or RSA) whose private operation asks the signer, which is borrowed. */
EVP_PKEY *tls_provider_key(OSSL_LIB_CTX *lib, EVP_PKEY *public, const struct tls_signer *, uint32_t key);

/* session.c: in the handshake that runs now.  A signature with `ready` and `arg` set to what wakes its session; false: it cannot wait. */
bool tls_signature_init(struct tls_signature *);
/* Leaves the handshake until the signature is made; false: it was given up, and has to be forgotten. */
bool tls_signature_wait(struct tls_signature *);

/* The key object inside the provider, shared by its two files. */
struct provider_key {
	OSSL_LIB_CTX *lib;
	const char *type; /* "EC" or "RSA" */
	EVP_PKEY *public; /* of the default provider: parameters, comparison and export are left to it */
	const struct tls_signer *signer; /* NULL: a public key only */
	uint32_t key;
};
#define PROVIDER_NAME "postrider"
extern const OSSL_DISPATCH provider_ec_keymgmt[], provider_rsa_keymgmt[];

#endif
