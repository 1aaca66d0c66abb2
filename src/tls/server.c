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
#include <limits.h>
#include <stdlib.h>
#include <time.h>

#define CHAIN_MAX 16       /* certificates: a chain of public CAs has at most four */
#define RSA_BITS_MIN 2048  /* smaller is breakable, and refused by peers */
#define RSA_BITS_MAX 8192  /* TLS_SIGNATURE_MAX */

/* ECDSA before RSA, so that of two certificates the cheaper is shown to a client of TLS 1.2 too (in 1.3 SIGALGS says so). */
#define SERVER_CIPHERS                                                                                                 \
	"ECDHE+aECDSA+AESGCM:ECDHE+aECDSA+CHACHA20:ECDHE+aRSA+AESGCM:ECDHE+aRSA+CHACHA20:ECDHE+aECDSA+AES:ECDHE+aRSA+AES:" \
	"!aNULL:!eNULL:!PSK:!SRP:@SECLEVEL=2"
/* AES-128 first: as safe here, and its SHA-256 makes a handshake a tenth cheaper than the SHA-384 of AES-256. */
#define SERVER_SUITES "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define SIGALGS                                                                                                        \
	"ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"           \
	"RSA+SHA256:RSA+SHA384:RSA+SHA512"

/* ---- certificates ---- */

static void certificate_free(struct ossl_certificate *x)
{
	SSL_CTX_free(x->alone);
	EVP_PKEY_free(x->key);
	X509_free(x->leaf);
	sk_X509_pop_free(x->chain, X509_free);
	for (size_t i = 0; i < x->name_count; i++)
		free(x->names[i]);
	free(x->names);
	*x = (struct ossl_certificate){ .broken = true };
}

static int load_chain(struct ossl_context *c, struct ossl_certificate *x, struct view chain, struct error *e)
{
	BIO *pem;
	X509 *one;
	int n = 0;
	bool ok = true;

	if (chain.n == 0)
		return error_set(e, ERROR_INPUT, "the chain holds no certificate");
	x->chain = sk_X509_new_null();
	if (!x->chain || chain.n > INT_MAX || !(pem = BIO_new_mem_buf(chain.p, (int)chain.n)))
		return error_set(e, ERROR_AGAIN, "the chain cannot be read: out of memory");
	while (ok && n <= CHAIN_MAX && (one = ossl_next_certificate(c->lib, pem)) != NULL) {
		if (n++ == 0)
			x->leaf = one;
		else if (!(ok = sk_X509_push(x->chain, one) > 0))
			X509_free(one);
	}
	BIO_free(pem);
	if (!ok)
		return error_set(e, ERROR_AGAIN, "the chain cannot be read: out of memory");
	if (n > CHAIN_MAX)
		return error_set(e, ERROR_INPUT, "the chain has more than %d certificates", CHAIN_MAX);
	if (!ossl_at_end())
		return ossl_complain(e, ERROR_INPUT, "the chain is not valid PEM");
	if (n == 0)
		return error_set(e, ERROR_INPUT, "the chain holds no certificate");
	return 0;
}

/* What our provider and `keys` can do: ECDSA with P-256 or P-384, RSA. */
static int check_kind(EVP_PKEY *k, struct error *e)
{
	char group[32];
	size_t n = 0;

	if (EVP_PKEY_is_a(k, "EC")) {
		if (EVP_PKEY_get_group_name(k, group, sizeof group, &n) == 1 &&
		    (strcmp(group, "prime256v1") == 0 || strcmp(group, "P-256") == 0 || strcmp(group, "secp384r1") == 0 ||
		     strcmp(group, "P-384") == 0))
			return 0;
		return error_set(e, ERROR_INPUT, "the certificate's curve is neither P-256 nor P-384");
	}
	if (EVP_PKEY_is_a(k, "RSA")) {
		if (EVP_PKEY_get_bits(k) >= RSA_BITS_MIN && EVP_PKEY_get_bits(k) <= RSA_BITS_MAX)
			return 0;
		return error_set(e, ERROR_INPUT, "the certificate's RSA key has %d bits; %d to %d are right", EVP_PKEY_get_bits(k),
				 RSA_BITS_MIN, RSA_BITS_MAX);
	}
	return error_set(e, ERROR_INPUT, "the certificate's key is neither ECDSA nor RSA");
}

static int load(struct ossl_context *c, unsigned nth, const struct tls_server_certificate *from, struct error *e)
{
	struct ossl_certificate *x = &c->certificates[nth];
	EVP_PKEY *public;
	int r, only = (int)nth;

	ERR_clear_error();
	if (load_chain(c, x, from->chain, e) == -1)
		return -1;
	public = X509_get0_pubkey(x->leaf);
	if (!public)
		return ossl_complain(e, ERROR_INPUT, "the certificate's public key is unusable");
	if (check_kind(public, e) == -1)
		return -1;
	x->rsa = EVP_PKEY_is_a(public, "RSA");
	x->key = tls_provider_key(c->lib, public, &c->signer, from->key);
	if (!x->key || !ossl_sni_names(x) || X509_digest(x->leaf, c->sha256, x->id, NULL) != 1)
		return ossl_complain(e, ERROR_OURS, "the certificate cannot be used with a key that is elsewhere");
	x->alone = ossl_server_ssl(c, &only, 1);
	r = x->alone ? 0 : ossl_complain(e, ERROR_OURS, "the certificate cannot be used with a key that is elsewhere");
	x->broken = r == -1;
	return r;
}

int64_t tls_chain_expires(struct view chain)
{
	BIO *pem = chain.n && chain.n <= INT_MAX ? BIO_new_mem_buf(chain.p, (int)chain.n) : NULL;
	X509 *x = pem ? ossl_next_certificate(NULL, pem) : NULL;
	struct tm end;
	int64_t at = x && ASN1_TIME_to_tm(X509_get0_notAfter(x), &end) == 1 ? timegm(&end) : 0;

	X509_free(x);
	BIO_free(pem);
	ERR_clear_error();
	return at;
}

int tls_pair_check(struct view chain, struct view key, struct error *e)
{
	BIO *cert_pem = chain.n && chain.n <= INT_MAX ? BIO_new_mem_buf(chain.p, (int)chain.n) : NULL;
	BIO *key_pem = key.n && key.n <= INT_MAX ? BIO_new_mem_buf(key.p, (int)key.n) : NULL;
	X509 *x = cert_pem ? ossl_next_certificate(NULL, cert_pem) : NULL;
	EVP_PKEY *k = key_pem ? PEM_read_bio_PrivateKey(key_pem, NULL, ossl_no_password, NULL) : NULL;
	int r = 0;

	ERR_clear_error();
	if (!x)
		r = error_set(e, ERROR_INPUT, "the chain is missing or holds no certificate");
	else if (!k)
		r = error_set(e, ERROR_INPUT, "the key is missing, or cannot be read without a password");
	else if (X509_check_private_key(x, k) != 1)
		r = error_set(e, ERROR_INPUT, "the private key does not belong to the certificate");
	else
		r = check_kind(k, e);
	EVP_PKEY_free(k);
	X509_free(x);
	BIO_free(key_pem);
	BIO_free(cert_pem);
	ERR_clear_error();
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
	SSL_CTX_set_verify_depth(s, CHAIN_MAX);
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
	for (unsigned i = 0; ok && i < n; i++) {
		struct ossl_certificate *x = &c->certificates[certificates[i]];

		ok = SSL_CTX_use_cert_and_key(s, x->leaf, x->key, x->chain, 0) == 1;
	}
	if (ok) {
		SSL_CTX_set_mode(s, SSL_MODE_NO_AUTO_CHAIN); /* what the operator listed is sent, not what clients are trusted by */
		return s;
	}
	SSL_CTX_free(s);
	return NULL;
}

void ossl_server_free(struct ossl_context *c)
{
	ossl_sni_free(c);
	for (unsigned i = 0; i < c->certificate_count; i++)
		certificate_free(&c->certificates[i]);
	free(c->certificates);
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
		certificate_free(&c->certificates[i]);
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

/* ---- does it work? ---- */

static int try_key(struct ossl_context *c, const struct ossl_certificate *x, struct error *e)
{
	static const unsigned char text[] = "postrider: does this key belong to this certificate?";
	unsigned char sig[TLS_SIGNATURE_MAX];
	size_t n = sizeof sig;
	EVP_MD_CTX *sign = EVP_MD_CTX_new(), *verify = EVP_MD_CTX_new();
	int r = 0;

	if (!sign || !verify)
		r = error_set(e, ERROR_AGAIN, "the key cannot be tried: out of memory");
	else if (EVP_DigestSignInit_ex(sign, NULL, "SHA256", c->lib, NULL, x->key, NULL) != 1 ||
		 EVP_DigestSign(sign, sig, &n, text, sizeof text) != 1)
		r = error_set(e, ERROR_OURS, "the private key cannot sign: it is missing or unreadable, or nobody answers for it");
	else if (EVP_DigestVerifyInit_ex(verify, NULL, "SHA256", c->lib, "provider=default", X509_get0_pubkey(x->leaf), NULL) != 1 ||
		 EVP_DigestVerify(verify, sig, n, text, sizeof text) != 1)
		r = error_set(e, ERROR_INPUT, "the private key does not belong to the certificate");
	EVP_MD_CTX_free(sign);
	EVP_MD_CTX_free(verify);
	return r;
}

int ossl_context_check(struct tls_context *base, unsigned nth, struct error *e)
{
	struct ossl_context *c = (struct ossl_context *)base;
	int r;

	if (!c->server || nth >= c->certificate_count)
		return error_set(e, ERROR_OURS, "no such certificate");
	if (!c->certificates[nth].leaf) {
		*e = c->certificates[nth].why;
		return -1;
	}
	ERR_clear_error();
	r = try_key(c, &c->certificates[nth], e);
	c->certificates[nth].broken = r == -1;
	ERR_clear_error();
	return r;
}

bool ossl_context_works(const struct tls_context *base)
{
	const struct ossl_context *c = (const struct ossl_context *)base;

	for (unsigned i = 0; i < c->certificate_count; i++)
		if (!c->certificates[i].broken)
			return true;
	return !c->server;
}
