/* pki.h - certificates for tests, made while they run: an authority, and leaves with any names. */
#ifndef TEST_PKI_H
#define TEST_PKI_H
#include "base/view.h"
#include "tls/tls.h"

#include <openssl/evp.h>
#include <openssl/x509.h>

struct pki {
	EVP_PKEY *key;
	X509 *cert;
	char *cert_pem, *key_pem; /* NUL-terminated, malloc */
};

/* type: "P-256", "P-384", "P-521", "RSA-2048", "RSA-1024" ...; san: as in openssl.cnf ("DNS:mx.test,IP:127.0.0.1") or NULL.
 * issuer NULL: self-signed.  days from now; negative: expired. */
struct pki pki_make(const char *type, const char *cn, const char *san, const struct pki *issuer, bool ca, int days);
void pki_free(struct pki *);

/* A signer over an EVP_PKEY of this process; arg is the EVP_PKEY. */
long pki_sign(void *arg, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n, unsigned char *to, size_t room);

#endif
