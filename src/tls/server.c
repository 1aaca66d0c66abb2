/* server.c - the context of a server: certificates whose keys are elsewhere, tickets, and clients that may show one.
 *
 * Each certificate has an SSL_CTX of its own, and so has each pair that a name may want (sni.c); the one that sessions are made
 * of holds none, and hands them on when the ClientHello is there.  All are made alike.
 */
#include "tls/openssl.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>

/* ECDSA before RSA, so that of two certificates the cheaper is shown to a client of TLS 1.2 too (in 1.3 SIGALGS says so). */
#define SERVER_CIPHERS                                                                                                 \
	"ECDHE+aECDSA+AESGCM:ECDHE+aECDSA+CHACHA20:ECDHE+aRSA+AESGCM:ECDHE+aRSA+CHACHA20:ECDHE+aECDSA+AES:ECDHE+aRSA+AES:" \
	"!aNULL:!eNULL:!PSK:!SRP:@SECLEVEL=2"
/* AES-128 first: as safe here, and its SHA-256 makes a handshake a tenth cheaper than the SHA-384 of AES-256. */
#define SERVER_SUITES "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define SIGALGS                                                                                                        \
	"ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"           \
	"RSA+SHA256:RSA+SHA384:RSA+SHA512"

static int load(struct ossl_context *c, unsigned nth, const struct tls_server_certificate *from, struct error *e)
{
	struct ossl_certificate *x = &c->certificates[nth];
	int r, only = (int)nth;

	if (ossl_certificate_load(c, x, from->chain, from->key, e) == -1)
		return -1;
	if (!ossl_sni_names(x) || X509_digest(x->leaf, c->sha256, x->id, NULL) != 1)
		return ossl_complain(e, ERROR_OURS, "the certificate cannot be used with a key that is elsewhere");
	x->alone = ossl_server_ssl(c, &only, 1);
	r = x->alone ? 0 : ossl_complain(e, ERROR_OURS, "the certificate cannot be used with a key that is elsewhere");
	x->broken = r == -1;
	return r;
}

/* ---- contexts ---- */

static bool set_clients(const struct ossl_context *c, SSL_CTX *s)
{
	if (!c->trusting) {
		SSL_CTX_set_verify(s, SSL_VERIFY_NONE, NULL);
		return true;
	}
	SSL_CTX_set_verify(s, SSL_VERIFY_PEER, NULL); /* asked for; one that is wrong, or none, is accepted: session.c */
	SSL_CTX_set1_cert_store(s, c->trust);
	SSL_CTX_set_verify_depth(s, OSSL_CHAIN_MAX);
	X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(s), X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST);
	ossl_check_watch(s);
	return true;
}

static bool set_tickets(struct ossl_context *c, SSL_CTX *s)
{
	if (!c->tickets) {
		SSL_CTX_set_options(s, SSL_OP_NO_TICKET);
		return SSL_CTX_set_num_tickets(s, 0) == 1;
	}
	return SSL_CTX_set_tlsext_ticket_key_evp_cb(s, ossl_ticket_key) == 1 && SSL_CTX_set_num_tickets(s, 1) == 1;
}

SSL_CTX *ossl_server_ssl(struct ossl_context *c, const int *certificates, unsigned n)
{
	SSL_CTX *s = SSL_CTX_new_ex(c->lib, NULL, TLS_server_method());
	bool ok = s && ossl_common(s, SERVER_CIPHERS) == 0 && SSL_CTX_set_ciphersuites(s, SERVER_SUITES) == 1 &&
		  SSL_CTX_set1_sigalgs_list(s, SIGALGS) == 1 && set_clients(c, s) && set_tickets(c, s);

	if (ok && c->policy == TLS_POLICY_MODERN)
		ok = SSL_CTX_set_min_proto_version(s, TLS1_3_VERSION) == 1;
	for (unsigned i = 0; ok && i < n; i++)
		ok = ossl_certificate_show(s, &c->certificates[certificates[i]]);
	if (ok)
		return s;
	SSL_CTX_free(s);
	return NULL;
}

void ossl_server_free(struct ossl_context *c)
{
	ossl_sni_free(c);
	X509_STORE_free(c->trust);
	EVP_CIPHER_free(c->ticket_cipher);
	EVP_MD_free(c->sha256);
}

static int begin(struct ossl_context *c, const struct tls_server_options *o, struct error *e)
{
	const struct ossl_context *clients = (const struct ossl_context *)o->clients;

	c->signer = o->signer;
	c->tickets = o->tickets;
	c->policy = o->policy ? o->policy : TLS_POLICY_INTERMEDIATE;
	c->lib = OSSL_LIB_CTX_new();
	c->certificates = calloc(o->certificates_n + 1, sizeof *c->certificates);
	if (!c->certificates || !c->lib || tls_provider_load(c->lib, c->providers) == -1)
		return ossl_complain(e, ERROR_OURS, "no TLS context");
	c->sha256 = EVP_MD_fetch(c->lib, "SHA256", "provider=default");
	c->ticket_cipher = EVP_CIPHER_fetch(c->lib, "AES-256-CBC", "provider=default");
	if (!c->sha256 || !c->ticket_cipher ||
	    EVP_Digest(o->session_context.p, o->session_context.n, c->session_context, NULL, c->sha256, NULL) != 1)
		return ossl_complain(e, ERROR_OURS, "no TLS context");
	if (clients && clients->trusting) {
		c->trust = SSL_CTX_get_cert_store(clients->ssl);
		X509_STORE_up_ref(c->trust);
		c->trusting = true;
	}
	c->ssl = ossl_server_ssl(c, NULL, 0);
	if (!c->ssl)
		return ossl_complain(e, ERROR_OURS, "no TLS context");
	SSL_CTX_set_client_hello_cb(c->ssl, ossl_sni_hello, c);
	return 0;
}

struct tls_context *tls_server_new(const struct tls_server_options *o, struct error *e)
{
	struct ossl_context *c = ossl_context_new(true);
	struct error why;
	unsigned loaded = 0;

	ERR_clear_error();
	if (!c || !c->bio || o->certificates_n > TLS_CERTIFICATES_MAX) {
		error_set(e, ERROR_AGAIN, "no TLS context: %s", c && c->bio ? "too many certificates" : "out of memory");
		goto fail;
	}
	error_set(e, ERROR_INPUT, "no certificate");
	if (begin(c, o, e) == -1)
		goto fail;
	for (unsigned i = 0; i < o->certificates_n; i++) {
		c->certificate_count++;
		if (load(c, i, &o->certificates[i], &why) == 0) {
			loaded++;
			continue;
		}
		if (loaded == 0)
			*e = why;
		ossl_certificate_free(&c->certificates[i]);
		c->certificates[i].why = why;
	}
	if (loaded == 0)
		goto fail;
	if (!ossl_sni_sort(c)) {
		ossl_complain(e, ERROR_AGAIN, "no TLS context");
		goto fail;
	}
	return &c->base;
fail:
	if (c)
		ossl_context_free(&c->base);
	return NULL;
}

bool ossl_context_works(const struct tls_context *base)
{
	const struct ossl_context *c = (const struct ossl_context *)base;

	for (unsigned i = 0; i < c->certificate_count; i++)
		if (!c->certificates[i].broken)
			return true;
	return !c->server;
}
