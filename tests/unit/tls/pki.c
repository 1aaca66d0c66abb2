/* pki.c - see pki.h. */
#include "pki.h"

#include <assert.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

static char *pem_text(BIO *b)
{
	char *p, *copy;
	long n = BIO_get_mem_data(b, &p);

	copy = malloc((size_t)n + 1);
	assert(copy);
	memcpy(copy, p, (size_t)n);
	copy[n] = 0;
	BIO_free(b);
	return copy;
}

static void extend(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *e;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert(e);
	X509_add_ext(x, e, -1);
	X509_EXTENSION_free(e);
}

struct pki pki_make(const char *type, const char *cn, const char *san, const struct pki *issuer, bool ca, int days)
{
	struct pki p = { .cert = X509_new() };
	X509_NAME *name = X509_get_subject_name(p.cert);
	static long serial = 1;
	BIO *b;

	p.key = strncmp(type, "RSA-", 4) == 0 ? EVP_RSA_gen((unsigned)strtoul(type + 4, NULL, 10)) : EVP_EC_gen(type);
	assert(p.key);
	X509_set_version(p.cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(p.cert), serial++);
	X509_gmtime_adj(X509_getm_notBefore(p.cert), -86400L * 365);
	X509_gmtime_adj(X509_getm_notAfter(p.cert), 86400L * days);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(p.cert, issuer ? X509_get_subject_name(issuer->cert) : name);
	X509_set_pubkey(p.cert, p.key);
	if (ca)
		extend(p.cert, issuer ? issuer->cert : p.cert, NID_basic_constraints, "critical,CA:TRUE");
	if (san)
		extend(p.cert, issuer ? issuer->cert : p.cert, NID_subject_alt_name, san);
	assert(X509_sign(p.cert, issuer ? issuer->key : p.key, EVP_sha256()) > 0);
	b = BIO_new(BIO_s_mem());
	PEM_write_bio_X509(b, p.cert);
	p.cert_pem = pem_text(b);
	b = BIO_new(BIO_s_mem());
	PEM_write_bio_PrivateKey(b, p.key, NULL, NULL, 0, NULL, NULL);
	p.key_pem = pem_text(b);
	return p;
}

void pki_free(struct pki *p)
{
	EVP_PKEY_free(p->key);
	X509_free(p->cert);
	free(p->cert_pem);
	free(p->key_pem);
	memset(p, 0, sizeof *p);
}

long pki_sign(void *arg, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n, unsigned char *to, size_t room)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(arg, NULL);
	const EVP_MD *md = digest == TLS_DIGEST_SHA256 ? EVP_sha256() : digest == TLS_DIGEST_SHA384 ? EVP_sha384() : EVP_sha512();
	size_t made = room;
	long r = -1;

	(void)key;
	assert(n == tls_digest_size(digest));
	if (ctx && EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_CTX_set_signature_md(ctx, md) == 1 &&
	    (padding == TLS_PADDING_NONE ||
	     EVP_PKEY_CTX_set_rsa_padding(ctx, padding == TLS_PADDING_PSS ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) == 1) &&
	    (padding != TLS_PADDING_PSS || EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1) &&
	    EVP_PKEY_sign(ctx, to, &made, hash, n) == 1)
		r = (long)made;
	EVP_PKEY_CTX_free(ctx);
	return r;
}
