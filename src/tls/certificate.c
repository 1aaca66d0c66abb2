/* certificate.c - certificates of ours whose keys are elsewhere: read from PEM, judged, tried.
 *
 * A server has several (server.c), a client at most one (context.c).  What cannot be used is refused with the reason.
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

#define RSA_BITS_MIN 2048  /* smaller is breakable, and refused by peers */
#define RSA_BITS_MAX 8192  /* TLS_SIGNATURE_MAX */

void ossl_certificate_free(struct ossl_certificate *x)
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
	while (ok && n <= OSSL_CHAIN_MAX && (one = ossl_next_certificate(c->lib, pem)) != NULL) {
		if (n++ == 0)
			x->leaf = one;
		else if (!(ok = sk_X509_push(x->chain, one) > 0))
			X509_free(one);
	}
	BIO_free(pem);
	if (!ok)
		return error_set(e, ERROR_AGAIN, "the chain cannot be read: out of memory");
	if (n > OSSL_CHAIN_MAX)
		return error_set(e, ERROR_INPUT, "the chain has more than %d certificates", OSSL_CHAIN_MAX);
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

int ossl_certificate_load(struct ossl_context *c, struct ossl_certificate *x, struct view chain, uint32_t key, struct error *e)
{
	EVP_PKEY *public;

	ERR_clear_error();
	if (load_chain(c, x, chain, e) == -1)
		return -1;
	public = X509_get0_pubkey(x->leaf);
	if (!public)
		return ossl_complain(e, ERROR_INPUT, "the certificate's public key is unusable");
	if (check_kind(public, e) == -1)
		return -1;
	x->rsa = EVP_PKEY_is_a(public, "RSA");
	c->may_wait = c->may_wait || (x->rsa && c->signer.begin);
	x->key = tls_provider_key(c->lib, public, &c->signer, key);
	return x->key ? 0 : ossl_complain(e, ERROR_OURS, "the certificate cannot be used with a key that is elsewhere");
}

bool ossl_certificate_show(SSL_CTX *s, const struct ossl_certificate *x)
{
	SSL_CTX_set_mode(s, SSL_MODE_NO_AUTO_CHAIN); /* what the operator listed is sent, not what peers are trusted by */
	return SSL_CTX_use_cert_and_key(s, x->leaf, x->key, x->chain, 0) == 1;
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

	if (nth >= c->certificate_count)
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
