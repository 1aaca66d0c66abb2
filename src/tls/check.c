/* check.c - whom a client session accepts: names and TLSA records given to OpenSSL, and its verdicts in our words.
 *
 * DANE is OpenSSL's (SSL_dane_enable): it also prefers the strongest digest of each usage and selector (RFC 7671 9), takes
 * DANE-EE without name and date when told so, and looks for the DANE-TA in the chain that the server sends (RFC 7672 3.1.2).
 */
#include "tls/openssl.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <limits.h>

#define NAME_OCTETS 255 /* a domain name (RFC 1035 2.3.4) */

/* ---- TLSA records ---- */

/* Matching 0: the data itself is the certificate or the key. */
static bool is_readable(const struct tls_tlsa *r)
{
	const unsigned char *p = (const unsigned char *)r->data.p, *end = r->data.n ? p + r->data.n : p;
	X509 *x = NULL;
	EVP_PKEY *k = NULL;
	bool fine;

	if (r->data.n == 0 || r->data.n > LONG_MAX)
		return false;
	if (r->selector == TLSA_CERT)
		fine = (x = d2i_X509(NULL, &p, (long)r->data.n)) != NULL && p == end && X509_get0_pubkey(x);
	else
		fine = (k = d2i_PUBKEY(NULL, &p, (long)r->data.n)) != NULL && p == end;
	X509_free(x);
	EVP_PKEY_free(k);
	ERR_clear_error();
	return fine;
}

bool tls_tlsa_is_usable(const struct tls_tlsa *r)
{
	if ((r->usage != TLSA_DANE_TA && r->usage != TLSA_DANE_EE) || r->selector > TLSA_KEY)
		return false;
	switch (r->matching) {
	case TLSA_WHOLE: return is_readable(r);
	case TLSA_SHA256: return r->data.n == 32;
	case TLSA_SHA512: return r->data.n == 64;
	default: return false;
	}
}

/* True with at least one record that OpenSSL takes. */
static bool set_records(SSL *ssl, const struct tls_peer_check *check)
{
	unsigned i, n = 0, all = check->records_n < TLS_TLSA_MAX ? check->records_n : TLS_TLSA_MAX;

	SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS); /* RFC 7672 3.1.1 */
	for (i = 0; i < all; i++) {
		const struct tls_tlsa *r = &check->records[i];
		int added;

		if (!tls_tlsa_is_usable(r))
			continue;
		added = SSL_dane_tlsa_add(ssl, r->usage, r->selector, r->matching, (const unsigned char *)r->data.p, r->data.n);
		if (added < 0)
			return false; /* memory */
		n += added > 0;
	}
	return n > 0;
}

/* ---- names ---- */

/* Without the final dot. */
static bool normal(const char *name, char to[NAME_OCTETS + 1])
{
	size_t n = strlen(name);

	if (n && name[n - 1] == '.')
		n--;
	if (n == 0 || n > NAME_OCTETS)
		return false;
	memcpy(to, name, n);
	to[n] = 0;
	return true;
}

static bool is_address(const char *name)
{
	ASN1_OCTET_STRING *ip = a2i_IPADDRESS(name);

	ASN1_OCTET_STRING_free(ip);
	ERR_clear_error();
	return ip != NULL;
}

static bool set_names(SSL *ssl, const struct tls_peer_check *check)
{
	const char *const *names = check->names_n ? check->names : &check->name;
	unsigned i, n = check->names_n ? check->names_n : check->name ? 1 : 0;
	X509_VERIFY_PARAM *p = SSL_get0_param(ssl);
	char host[NAME_OCTETS + 1];

	/* the subject's common name decides nothing: RFC 6125 6.4.4, RFC 7817 */
	X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (n > TLS_NAMES_MAX || (n == 0 && check->how != TLS_CHECK_NONE))
		return false; /* a strict client without a name would check none */
	for (i = 0; i < n; i++) {
		if (!normal(names[i], host))
			return false;
		if (is_address(host)) /* beside host names it would be owed as well, not instead */
			return n == 1 && check->how != TLS_CHECK_DANE && X509_VERIFY_PARAM_set1_ip_asc(p, host) == 1;
		if (i == 0 && check->how == TLS_CHECK_DANE && SSL_dane_enable(ssl, host) <= 0)
			return false;
		if (i == 0 ? SSL_set1_host(ssl, host) != 1 : SSL_add1_host(ssl, host) != 1)
			return false;
	}
	return true;
}

bool ossl_check_set(SSL *ssl, const struct tls_peer_check *check)
{
	char host[NAME_OCTETS + 1];

	if (check->name) {
		if (!normal(check->name, host))
			return false;
		/* RFC 6066 3 forbids addresses in SNI */
		if (!is_address(host) && SSL_set_tlsext_host_name(ssl, host) != 1)
			return false;
	}
	return set_names(ssl, check) && (check->how != TLS_CHECK_DANE || set_records(ssl, check));
}

/* ---- verdicts ---- */

enum tls_fault ossl_check_fault(long verify_result)
{
	switch (verify_result) {
	case X509_V_OK: return TLS_FAULT_NONE;
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID: return TLS_FAULT_EXPIRED;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH: return TLS_FAULT_NAME;
	case X509_V_ERR_DANE_NO_MATCH: return TLS_FAULT_TLSA;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_UNTRUSTED:
	case X509_V_ERR_CERT_REJECTED: return TLS_FAULT_NOT_TRUSTED;
	default: return TLS_FAULT_OTHER;
	}
}
