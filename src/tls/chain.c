/* chain.c - what a chain is good for, asked without a context; see tls.h.  The chain is the operator's. */
#include "tls/openssl.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

bool tls_chain_has_name(struct view chain, struct view name)
{
	BIO *pem = chain.n && chain.n <= INT_MAX ? BIO_new_mem_buf(chain.p, (int)chain.n) : NULL;
	X509 *x = pem ? ossl_next_certificate(NULL, pem) : NULL;
	/* RFC 6125 6.4.3 and 6.4.4: a star is a whole label, and the subject's common name counts for nothing */
	bool has = x && name.n && X509_check_host(x, name.p, name.n, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;

	X509_free(x);
	BIO_free(pem);
	ERR_clear_error();
	return has;
}
