/* openssl.h - the OpenSSL engine's structs, shared by context.c and session.c; private to tls/. */
#ifndef TLS_OPENSSL_H
#define TLS_OPENSSL_H
#include "tls/engine.h"

#include <openssl/bio.h>

struct ossl_context {
	struct tls_context base;
	SSL_CTX *ssl;
	BIO_METHOD *bio;      /* reads from a view, writes to a buf: session.c */
	bool server, trusting; /* trusting: a trust bundle was given */
	enum tls_verify verify;
	/* server: a library context of its own, because the provider is loaded into it */
	OSSL_LIB_CTX *lib;
	OSSL_PROVIDER *providers[2];
	EVP_PKEY *key, *public;
	struct tls_signer signer;
};

extern const struct tls_engine ossl_engine;
struct tls_session *ossl_start(struct tls_context *, bool server, const char *name);
BIO_METHOD *ossl_bio_method(void);
/* The words of the oldest error in OpenSSL's queue, which is emptied. */
const char *ossl_words(char *to, size_t room);
/* context.c */
void ossl_context_free(struct tls_context *);
int ossl_context_check(struct tls_context *, struct error *);

#endif
