/* context.c - OpenSSL contexts: what server (server.c) and client have in common, and the client.
 *
 * TLS 1.2 and 1.3 only (RFC 8996); no compression (RFC 7525 3.3), no renegotiation, no early data.  A server offers forward
 * secrecy only (a plain RSA key exchange would need decryption by `keys`) and resumes only by tickets, at most one per
 * session.  A client that has to verify is strict; one that need not takes what it can get, because the other choice of
 * opportunistic TLS is clear text (RFC 7435).
 */
#include "tls/openssl.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#define STRICT_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ECDHE+AES:DHE+AES:RSA+AES:!aNULL:!eNULL:!PSK:!SRP:@SECLEVEL=2"
#define LENIENT_CIPHERS "HIGH:!aNULL:!eNULL:!PSK:!SRP:!MD5:!RC4:@SECLEVEL=1"

const char *ossl_words(char *to, size_t room)
{
	unsigned long e = ERR_get_error();
	const char *reason = e ? ERR_reason_error_string(e) : NULL;

	if (reason)
		snprintf(to, room, "%s", reason);
	else if (e)
		snprintf(to, room, "error %lx", e);
	else
		snprintf(to, room, "unknown error");
	ERR_clear_error();
	return to;
}

int ossl_complain(struct error *e, enum error_class class, const char *what)
{
	char words[200];

	return error_set(e, class, "%s: %s", what, ossl_words(words, sizeof words));
}

void ossl_context_free(struct tls_context *base)
{
	struct ossl_context *c = (struct ossl_context *)base;

	SSL_CTX_free(c->ssl);
	SSL_CTX_free(c->strict);
	ossl_cache_free(c->cache);
	ossl_server_free(c);
	for (unsigned i = 0; i < c->certificate_count; i++)
		ossl_certificate_free(&c->certificates[i]);
	free(c->certificates);
	BIO_meth_free(c->bio);
	if (c->providers[1])
		OSSL_PROVIDER_unload(c->providers[1]);
	if (c->providers[0])
		OSSL_PROVIDER_unload(c->providers[0]);
	OSSL_LIB_CTX_free(c->lib);
	alloc_put(&alloc_libc, c);
}

struct ossl_context *ossl_context_new(bool server)
{
	struct ossl_context *c = alloc_get(&alloc_libc, sizeof *c);

	if (!c)
		return NULL;
	*c = (struct ossl_context){ .base.engine = &ossl_engine, .server = server };
	c->bio = ossl_bio_method();
	return c;
}

/* What server and client have in common. */
int ossl_common(SSL_CTX *s, const char *ciphers)
{
	SSL_CTX_set_options(s, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
				       SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_mode(s, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(s, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(s, 0); /* what is not of this record stays ours */
	if (SSL_CTX_set_min_proto_version(s, TLS1_2_VERSION) != 1 || SSL_CTX_set_max_proto_version(s, 0) != 1 ||
	    SSL_CTX_set_cipher_list(s, ciphers) != 1)
		return -1;
	return ossl_groups_set(s, ossl_groups) ? 0 : -1;
}

/* ---- PEM ---- */

/* An encrypted PEM block asks for a password: there is nobody to ask. */
int ossl_no_password(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)arg;
	return -1;
}

X509 *ossl_next_certificate(OSSL_LIB_CTX *lib, BIO *pem)
{
	X509 *x = X509_new_ex(lib, NULL);

	if (x && !PEM_read_bio_X509(pem, &x, ossl_no_password, NULL)) {
		X509_free(x);
		return NULL;
	}
	return x;
}

/* True when reading stopped because there was no further block, not because of a broken one. */
bool ossl_at_end(void)
{
	unsigned long e = ERR_peek_last_error();
	bool end = ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;

	if (end)
		ERR_clear_error();
	return end;
}

/* ---- client ---- */

static int load_trust(struct ossl_context *c, struct view trust, struct error *e)
{
	X509_STORE *store = SSL_CTX_get_cert_store(c->ssl);
	BIO *pem;
	X509 *x;
	unsigned n = 0;

	if (trust.n > INT_MAX || !(pem = BIO_new_mem_buf(trust.p, (int)trust.n)))
		return error_set(e, ERROR_AGAIN, "the trust bundle cannot be read: out of memory");
	while ((x = ossl_next_certificate(NULL, pem)) != NULL) {
		bool ok = X509_STORE_add_cert(store, x) == 1; /* a certificate that is there already is fine */

		X509_free(x);
		if (!ok) {
			BIO_free(pem);
			return ossl_complain(e, ERROR_INPUT, "the trust bundle is unusable");
		}
		n++;
	}
	BIO_free(pem);
	if (!ossl_at_end())
		return ossl_complain(e, ERROR_INPUT, "the trust bundle is not valid PEM");
	if (n == 0)
		return error_set(e, ERROR_INPUT, "the trust bundle holds no certificate");
	c->trusting = true;
	return 0;
}

static SSL_CTX *client_ssl(OSSL_LIB_CTX *lib, const char *ciphers, int verify)
{
	SSL_CTX *s = SSL_CTX_new_ex(lib, NULL, TLS_client_method());

	if (!s || ossl_common(s, ciphers) == -1 || SSL_CTX_dane_enable(s) != 1) {
		SSL_CTX_free(s);
		return NULL;
	}
	SSL_CTX_set_verify(s, verify, NULL);
	ossl_check_watch(s);
	ossl_resume_watch(s);
	/* what the operator lists is trusted, also when it is not a root */
	X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(s), X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST);
	return s;
}

/* A certificate to show, where a server asks for one. */
struct identity {
	struct view chain;
	uint32_t key;
	const struct tls_signer *signer;
};

static int begin_identity(struct ossl_context *c, const struct identity *own, struct error *e)
{
	c->signer = *own->signer;
	c->lib = OSSL_LIB_CTX_new();
	c->certificates = calloc(1, sizeof *c->certificates);
	if (!c->certificates || !c->lib || tls_provider_load(c->lib, c->providers) == -1)
		return ossl_complain(e, ERROR_OURS, "no TLS context");
	c->certificate_count = 1;
	return ossl_certificate_load(c, &c->certificates[0], own->chain, own->key, e);
}

/* The trusted certificates come from trust, or are those of `like`, which has parsed them already. */
static struct tls_context *client_new(struct view trust, const struct ossl_context *like, const struct identity *own, struct error *e)
{
	struct ossl_context *c = ossl_context_new(false);

	ERR_clear_error();
	if (!c || !c->bio || !(c->cache = ossl_cache_new())) {
		error_set(e, ERROR_AGAIN, "no TLS context: out of memory");
		goto fail;
	}
	if (own && begin_identity(c, own, e) == -1)
		goto fail;
	c->ssl = client_ssl(c->lib, LENIENT_CIPHERS, SSL_VERIFY_NONE);
	c->strict = client_ssl(c->lib, STRICT_CIPHERS, SSL_VERIFY_PEER);
	if (!c->ssl || !c->strict ||
	    (own && (!ossl_certificate_show(c->ssl, &c->certificates[0]) || !ossl_certificate_show(c->strict, &c->certificates[0])))) {
		ossl_complain(e, ERROR_OURS, "no TLS context");
		goto fail;
	}
	if (trust.n && load_trust(c, trust, e) == -1)
		goto fail;
	if (like) {
		SSL_CTX_set1_cert_store(c->ssl, SSL_CTX_get_cert_store(like->ssl));
		c->trusting = like->trusting;
	}
	SSL_CTX_set1_cert_store(c->strict, SSL_CTX_get_cert_store(c->ssl));
	return &c->base;
fail:
	if (c)
		ossl_context_free(&c->base);
	return NULL;
}

struct tls_context *tls_client_new(struct view trust, struct error *e)
{
	return client_new(trust, NULL, NULL, e);
}

struct tls_context *tls_client_like(const struct tls_context *like, struct error *e)
{
	return client_new(VIEW(""), (const struct ossl_context *)like, NULL, e);
}

struct tls_context *tls_client_with(const struct tls_context *like, struct view chain, uint32_t key, const struct tls_signer *signer, struct error *e)
{
	const struct identity own = { chain, key, signer };

	return client_new(VIEW(""), (const struct ossl_context *)like, &own, e);
}
