/* openssl.h - the OpenSSL engine's structs, shared by its files; private to tls/. */
#ifndef TLS_OPENSSL_H
#define TLS_OPENSSL_H
#include "tls/engine.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>

/* RFC 7218: of a TLSA record, the fields that SMTP knows.  Zero is legal there. */
#define TLSA_DANE_TA 2
#define TLSA_DANE_EE 3
#define TLSA_CERT 0
#define TLSA_KEY 1
#define TLSA_WHOLE 0
#define TLSA_SHA256 1
#define TLSA_SHA512 2

#define OSSL_CHAIN_MAX 16 /* certificates: a chain of public CAs has at most four */
#define OSSL_PEER_MAX 256 /* a domain name (RFC 1035 2.3.4) and NUL */

struct ossl_certificate {
	X509 *leaf;           /* NULL: unusable, see why */
	STACK_OF(X509) *chain;
	EVP_PKEY *key;        /* of our provider */
	SSL_CTX *alone;
	char **names;         /* lower case */
	size_t name_count;
	unsigned char id[32]; /* SHA-256 of the leaf */
	bool rsa, broken;     /* broken: its key did not sign when it was tried */
	struct error why;
};

struct ossl_class { /* of names, see sni.c */
	const char *name;  /* borrowed */
	int ec, rsa;       /* places of certificates; -1: none */
	SSL_CTX *both;
};

struct ossl_context {
	struct tls_context base;
	SSL_CTX *ssl;         /* server: that of new sessions, without a certificate */
	BIO_METHOD *bio;      /* reads from a view, writes to a buf: session.c */
	bool server;
	bool trusting;        /* a trust bundle was given */
	/* client: ssl takes what it can get; strict is for sessions that must verify; both have the same store */
	SSL_CTX *strict;
	struct ossl_cache *cache;
	/* with certificates of ours: a library context of its own, because the provider is loaded into it */
	OSSL_LIB_CTX *lib;
	OSSL_PROVIDER *providers[2];
	struct tls_signer signer;
	bool may_wait;        /* some certificate is RSA, and the signer need not block for it */
	struct ossl_certificate *certificates; /* a client's: one */
	unsigned certificate_count;
	/* server */
	struct ossl_class *classes, fallback;
	size_t class_count;
	X509_STORE *trust;    /* clients' */
	enum tls_policy policy;
	struct tls_tickets *tickets;
	EVP_CIPHER *ticket_cipher;
	EVP_MD *sha256;
	unsigned char session_context[32]; /* SHA-256 of the listener's title */
};

extern const struct tls_engine ossl_engine;
struct tls_session *ossl_start(struct tls_context *, bool server, const struct tls_peer_check *);
/* Makes the session ask and check: check.c.  False: memory, an impossible name, or a check without what it needs. */
bool ossl_check_set(SSL *, const struct tls_peer_check *);
void ossl_check_watch(SSL_CTX *); /* session.c: remembers the peer's subject, also when it is refused */
enum tls_fault ossl_check_fault(long verify_result);
void ossl_resume_watch(SSL_CTX *); /* session.c: puts the sessions that can be resumed into the context's cache */
BIO_METHOD *ossl_bio_method(void);
/* groups.c: those of the names (NULL ends them) that this OpenSSL has, in this order.  False: none, or memory. */
extern const char *const ossl_groups[];
bool ossl_groups_set(SSL_CTX *, const char *const *names);
/* The words of the oldest error in OpenSSL's queue, which is emptied. */
const char *ossl_words(char *to, size_t room);
/* cache.c: sessions of a client that can be resumed; `key` as ossl_cache_key makes it */
struct ossl_cache *ossl_cache_new(void);
void ossl_cache_free(struct ossl_cache *); /* NULL is fine */
bool ossl_cache_key(struct buf *to, const struct tls_peer_check *);
void ossl_cache_put(struct ossl_cache *, struct view key, SSL_SESSION *, const char *peer); /* takes the session over */
SSL_SESSION *ossl_cache_take(struct ossl_cache *, struct view key, char peer[OSSL_PEER_MAX]); /* the caller's; NULL: none */
struct ossl_context *ossl_context_of(const SSL *);
/* context.c */
struct ossl_context *ossl_context_new(bool server);
void ossl_context_free(struct tls_context *);
int ossl_complain(struct error *, enum error_class, const char *what); /* with OpenSSL's words */
int ossl_common(SSL_CTX *, const char *ciphers);
int ossl_no_password(char *, int, int, void *);
X509 *ossl_next_certificate(OSSL_LIB_CTX *, BIO *pem); /* lib NULL: the default */
bool ossl_at_end(void); /* reading stopped because there was no further block, not because of a broken one */
/* certificate.c */
int ossl_certificate_load(struct ossl_context *, struct ossl_certificate *, struct view chain, uint32_t key, struct error *);
bool ossl_certificate_show(SSL_CTX *, const struct ossl_certificate *);
void ossl_certificate_free(struct ossl_certificate *);
int ossl_context_check(struct tls_context *, unsigned nth, struct error *);
/* server.c */
SSL_CTX *ossl_server_ssl(struct ossl_context *, const int *certificates, unsigned n);
void ossl_server_free(struct ossl_context *);
bool ossl_context_works(const struct tls_context *);
/* sni.c */
bool ossl_sni_names(struct ossl_certificate *); /* reads them from the leaf */
bool ossl_sni_sort(struct ossl_context *);      /* all certificates are there: who is shown to whom */
void ossl_sni_free(struct ossl_context *);
int ossl_sni_hello(SSL *, int *alert, void *context);
/* tickets.c */
int ossl_ticket_key(SSL *, unsigned char name[16], unsigned char iv[EVP_MAX_IV_LENGTH], EVP_CIPHER_CTX *, EVP_MAC_CTX *, int seal);

#endif
