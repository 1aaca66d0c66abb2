/* openssl.h - the OpenSSL engine's structs, shared by context.c and session.c; private to tls/. */
#ifndef TLS_OPENSSL_H
#define TLS_OPENSSL_H
#include "tls/engine.h"

#include <openssl/bio.h>
#include <openssl/ssl.h>

/* RFC 7218: of a TLSA record, the fields that SMTP knows.  Zero is legal there. */
#define TLSA_DANE_TA 2
#define TLSA_DANE_EE 3
#define TLSA_CERT 0
#define TLSA_KEY 1
#define TLSA_WHOLE 0
#define TLSA_SHA256 1
#define TLSA_SHA512 2

#define OSSL_PEER_MAX 256 /* a domain name (RFC 1035 2.3.4) and NUL */

struct ossl_context {
	struct tls_context base;
	SSL_CTX *ssl;
	BIO_METHOD *bio;      /* reads from a view, writes to a buf: session.c */
	bool server;
	/* client: ssl takes what it can get; strict is for sessions that must verify; both have the same store */
	SSL_CTX *strict;
	bool trusting;        /* a trust bundle was given */
	struct ossl_cache *cache;
	/* server: a library context of its own, because the provider is loaded into it */
	OSSL_LIB_CTX *lib;
	OSSL_PROVIDER *providers[2];
	EVP_PKEY *key, *public;
	struct tls_signer signer;
};

extern const struct tls_engine ossl_engine;
struct tls_session *ossl_start(struct tls_context *, bool server, const struct tls_peer_check *);
/* Makes the session ask and check: check.c.  False: memory, an impossible name, or a check without what it needs. */
bool ossl_check_set(SSL *, const struct tls_peer_check *);
void ossl_check_watch(SSL_CTX *); /* session.c: remembers the peer's subject, also when it is refused */
enum tls_fault ossl_check_fault(long verify_result);
void ossl_resume_watch(SSL_CTX *); /* session.c: puts the sessions that can be resumed into the context's cache */
BIO_METHOD *ossl_bio_method(void);
/* The words of the oldest error in OpenSSL's queue, which is emptied. */
const char *ossl_words(char *to, size_t room);
/* cache.c: sessions of a client that can be resumed; `key` as ossl_cache_key makes it */
struct ossl_cache *ossl_cache_new(void);
void ossl_cache_free(struct ossl_cache *); /* NULL is fine */
bool ossl_cache_key(struct buf *to, const struct tls_peer_check *);
void ossl_cache_put(struct ossl_cache *, struct view key, SSL_SESSION *, const char *peer); /* takes the session over */
SSL_SESSION *ossl_cache_take(struct ossl_cache *, struct view key, char peer[OSSL_PEER_MAX]); /* the caller's; NULL: none */
/* context.c */
void ossl_context_free(struct tls_context *);
int ossl_context_check(struct tls_context *, struct error *);

#endif
