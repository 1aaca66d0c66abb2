/* context.c - OpenSSL contexts: what we speak, as server and as client.
 *
 * TLS 1.2 and 1.3 only (RFC 8996); no compression (RFC 7525 3.3), no renegotiation, no early data.  A server offers forward
 * secrecy only (a plain RSA key exchange would need decryption by `keys`) and resumes only by tickets, at most one per
 * session.  A client that has to verify is strict; one that need not takes what it can get, because the other choice of
 * opportunistic TLS is clear text (RFC 7435).
 */
#include "tls/openssl.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <limits.h>
#include <stdio.h>
#include <time.h>

#define CHAIN_MAX 16       /* certificates: a chain of public CAs has at most four */
#define RSA_BITS_MIN 2048  /* smaller is breakable, and refused by peers */
#define RSA_BITS_MAX 8192  /* TLS_SIGNATURE_MAX */

#define SERVER_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL:!eNULL:!PSK:!SRP:@SECLEVEL=2"
#define STRICT_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ECDHE+AES:DHE+AES:RSA+AES:!aNULL:!eNULL:!PSK:!SRP:@SECLEVEL=2"
#define LENIENT_CIPHERS "HIGH:!aNULL:!eNULL:!PSK:!SRP:!MD5:!RC4:@SECLEVEL=1"
/* AES-128 first: as safe here, and its SHA-256 makes a handshake a tenth cheaper than the SHA-384 of AES-256. */
#define SERVER_SUITES "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define SIGALGS                                                                                                        \
	"ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"           \
	"RSA+SHA256:RSA+SHA384:RSA+SHA512"
/* Hybrid key exchange where this OpenSSL has it (3.5), else the classic groups. */
#define GROUPS_NEW "X25519MLKEM768:X25519:P-256:P-384:P-521"
#define GROUPS_OLD "X25519:P-256:P-384:P-521"

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

static int complain(struct error *e, enum error_class class, const char *what)
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
	EVP_PKEY_free(c->key);
	EVP_PKEY_free(c->public);
	BIO_meth_free(c->bio);
	if (c->providers[1])
		OSSL_PROVIDER_unload(c->providers[1]);
	if (c->providers[0])
		OSSL_PROVIDER_unload(c->providers[0]);
	OSSL_LIB_CTX_free(c->lib);
	alloc_put(&alloc_libc, c);
}

static struct ossl_context *context_new(bool server)
{
	struct ossl_context *c = alloc_get(&alloc_libc, sizeof *c);

	if (!c)
		return NULL;
	*c = (struct ossl_context){ .base.engine = &ossl_engine, .server = server };
	c->bio = ossl_bio_method();
	return c;
}

/* What server and client have in common. */
static int common(SSL_CTX *s, const char *ciphers)
{
	SSL_CTX_set_options(s, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
				       SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_mode(s, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(s, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_read_ahead(s, 0); /* what is not of this record stays ours */
	if (SSL_CTX_set_min_proto_version(s, TLS1_2_VERSION) != 1 || SSL_CTX_set_max_proto_version(s, 0) != 1 ||
	    SSL_CTX_set_cipher_list(s, ciphers) != 1)
		return -1;
	if (SSL_CTX_set1_groups_list(s, GROUPS_NEW) != 1) {
		ERR_clear_error();
		if (SSL_CTX_set1_groups_list(s, GROUPS_OLD) != 1)
			return -1;
	}
	return 0;
}

/* ---- server ---- */

/* An encrypted PEM block asks for a password: there is nobody to ask. */
static int no_password(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)arg;
	return -1;
}

static X509 *next_certificate(struct ossl_context *c, BIO *pem)
{
	X509 *x = c->lib ? X509_new_ex(c->lib, NULL) : X509_new();

	if (x && !PEM_read_bio_X509(pem, &x, no_password, NULL)) {
		X509_free(x);
		return NULL;
	}
	return x;
}

/* True when reading stopped because there was no further block, not because of a broken one. */
static bool at_end(void)
{
	unsigned long e = ERR_peek_last_error();
	bool end = ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;

	if (end)
		ERR_clear_error();
	return end;
}

static int load_chain(struct ossl_context *c, struct view chain, struct error *e)
{
	BIO *pem;
	X509 *x;
	unsigned n = 0;
	struct tm end;

	if (chain.n > INT_MAX || !(pem = BIO_new_mem_buf(chain.p, (int)chain.n)))
		return error_set(e, ERROR_AGAIN, "the chain cannot be read: out of memory");
	while ((x = next_certificate(c, pem)) != NULL) {
		bool ok = n < CHAIN_MAX && (n == 0 ? SSL_CTX_use_certificate(c->ssl, x) : SSL_CTX_add1_chain_cert(c->ssl, x)) == 1;

		if (ok && n == 0) {
			if (ASN1_TIME_to_tm(X509_get0_notAfter(x), &end) == 1)
				c->base.expires = timegm(&end);
			c->public = X509_get_pubkey(x);
		}
		X509_free(x);
		if (!ok) {
			BIO_free(pem);
			return n == CHAIN_MAX ? error_set(e, ERROR_INPUT, "the chain has more than %d certificates", CHAIN_MAX) :
						complain(e, ERROR_INPUT, "the chain is unusable");
		}
		n++;
	}
	BIO_free(pem);
	if (!at_end())
		return complain(e, ERROR_INPUT, "the chain is not valid PEM");
	if (n == 0)
		return error_set(e, ERROR_INPUT, "the chain holds no certificate");
	return c->public ? 0 : complain(e, ERROR_INPUT, "the certificate's public key is unusable");
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

static int set_tickets(struct ossl_context *c, const struct tls_server_options *o)
{
	unsigned char id[32]; /* SSL_MAX_SID_CTX_LENGTH */
	unsigned int n = 0;
	unsigned char keys[TLS_TICKET_KEYS];

	if (!o->ticket_keys) {
		SSL_CTX_set_options(c->ssl, SSL_OP_NO_TICKET);
		return SSL_CTX_set_num_tickets(c->ssl, 0) == 1 ? 0 : -1;
	}
	if (EVP_Digest(o->session_context.p, o->session_context.n, id, &n, EVP_sha256(), NULL) != 1 || n != sizeof id ||
	    SSL_CTX_set_session_id_context(c->ssl, id, n) != 1 ||
	    SSL_CTX_get_tlsext_ticket_keys(c->ssl, NULL, 0) != TLS_TICKET_KEYS)
		return -1;
	memcpy(keys, o->ticket_keys, sizeof keys);
	n = SSL_CTX_set_tlsext_ticket_keys(c->ssl, keys, sizeof keys) == 1;
	OPENSSL_cleanse(keys, sizeof keys);
	return n && SSL_CTX_set_num_tickets(c->ssl, 1) == 1 ? 0 : -1;
}

struct tls_context *tls_server_new(const struct tls_server_options *o, struct error *e)
{
	struct ossl_context *c = context_new(true);

	ERR_clear_error();
	if (!c || !c->bio) {
		error_set(e, ERROR_AGAIN, "no TLS context: out of memory");
		goto fail;
	}
	c->signer = o->signer;
	c->lib = OSSL_LIB_CTX_new();
	if (!c->lib || tls_provider_load(c->lib, c->providers) == -1 ||
	    !(c->ssl = SSL_CTX_new_ex(c->lib, NULL, TLS_server_method())) || common(c->ssl, SERVER_CIPHERS) == -1 ||
	    SSL_CTX_set_ciphersuites(c->ssl, SERVER_SUITES) != 1 ||
	    SSL_CTX_set1_sigalgs_list(c->ssl, SIGALGS) != 1) {
		complain(e, ERROR_OURS, "no TLS context");
		goto fail;
	}
	SSL_CTX_set_verify(c->ssl, SSL_VERIFY_NONE, NULL);
	if (load_chain(c, o->chain, e) == -1 || check_kind(c->public, e) == -1)
		goto fail;
	c->key = tls_provider_key(c->lib, c->public, &c->signer, o->key);
	if (!c->key || SSL_CTX_use_PrivateKey(c->ssl, c->key) != 1 || SSL_CTX_check_private_key(c->ssl) != 1) {
		complain(e, ERROR_OURS, "the certificate cannot be used with a key that is elsewhere");
		goto fail;
	}
	if (set_tickets(c, o) == -1) {
		complain(e, ERROR_OURS, "the ticket keys cannot be set");
		goto fail;
	}
	return &c->base;
fail:
	if (c)
		ossl_context_free(&c->base);
	return NULL;
}

int ossl_context_check(struct tls_context *base, struct error *e)
{
	struct ossl_context *c = (struct ossl_context *)base;
	static const unsigned char text[] = "postrider: does this key belong to this certificate?";
	unsigned char sig[TLS_SIGNATURE_MAX];
	size_t n = sizeof sig;
	EVP_MD_CTX *sign, *verify;
	int r = 0;

	if (!c->server)
		return 0;
	ERR_clear_error();
	sign = EVP_MD_CTX_new();
	verify = EVP_MD_CTX_new();
	if (!sign || !verify)
		r = error_set(e, ERROR_AGAIN, "the key cannot be tried: out of memory");
	else if (EVP_DigestSignInit_ex(sign, NULL, "SHA256", c->lib, NULL, c->key, NULL) != 1 ||
		 EVP_DigestSign(sign, sig, &n, text, sizeof text) != 1)
		r = error_set(e, ERROR_OURS, "the private key cannot sign: it is missing or unreadable, or nobody answers for it");
	else if (EVP_DigestVerifyInit_ex(verify, NULL, "SHA256", c->lib, "provider=default", c->public, NULL) != 1 ||
		 EVP_DigestVerify(verify, sig, n, text, sizeof text) != 1)
		r = error_set(e, ERROR_INPUT, "the private key does not belong to the certificate");
	EVP_MD_CTX_free(sign);
	EVP_MD_CTX_free(verify);
	ERR_clear_error();
	return r;
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
	while ((x = next_certificate(c, pem)) != NULL) {
		bool ok = X509_STORE_add_cert(store, x) == 1; /* a certificate that is there already is fine */

		X509_free(x);
		if (!ok) {
			BIO_free(pem);
			return complain(e, ERROR_INPUT, "the trust bundle is unusable");
		}
		n++;
	}
	BIO_free(pem);
	if (!at_end())
		return complain(e, ERROR_INPUT, "the trust bundle is not valid PEM");
	if (n == 0)
		return error_set(e, ERROR_INPUT, "the trust bundle holds no certificate");
	c->trusting = true;
	return 0;
}

static SSL_CTX *client_ssl(const char *ciphers, int verify)
{
	SSL_CTX *s = SSL_CTX_new(TLS_client_method());

	if (!s || common(s, ciphers) == -1 || SSL_CTX_dane_enable(s) != 1) {
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

/* The trusted certificates come from trust, or are those of `like`, which has parsed them already. */
static struct tls_context *client_new(struct view trust, const struct ossl_context *like, struct error *e)
{
	struct ossl_context *c = context_new(false);

	ERR_clear_error();
	if (!c || !c->bio || !(c->cache = ossl_cache_new())) {
		error_set(e, ERROR_AGAIN, "no TLS context: out of memory");
		goto fail;
	}
	c->ssl = client_ssl(LENIENT_CIPHERS, SSL_VERIFY_NONE);
	c->strict = client_ssl(STRICT_CIPHERS, SSL_VERIFY_PEER);
	if (!c->ssl || !c->strict) {
		complain(e, ERROR_OURS, "no TLS context");
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
	return client_new(trust, NULL, e);
}

struct tls_context *tls_client_like(const struct tls_context *like, struct error *e)
{
	return client_new(VIEW(""), (const struct ossl_context *)like, e);
}
