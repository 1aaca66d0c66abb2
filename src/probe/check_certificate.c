/* check_certificate.c - checks 604 to 606: the certificates shown, looked at once for all three. */
#include "probe/inside.h"

#include "net/address.h"

#include <openssl/x509v3.h>
#include <time.h>

#define RSA_LEAST 2048 /* RFC 9325 4.5 */
#define EC_LEAST  224  /* 112 bits of security, as RSA_LEAST */
#define SOON_DAYS 14   /* those who renew do it a month before; what is left two weeks before was forgotten */

static bool look(struct probe *p)
{
	struct probe_link l;
	STACK_OF(X509) * chain;

	if (p->chain_asked)
		return p->chain != NULL;
	p->chain_asked = true;
	if (!probe_open_tls(p, &l, NULL) || !probe_ehlo(&l)) {
		probe_untested(&l, "no EHLO inside TLS");
	} else if (!(chain = SSL_get_peer_cert_chain(l.ssl)) || sk_X509_num(chain) == 0) {
		probe_say(p, PROBE_FAIL, "no certificate was shown");
	} else {
		p->chain = X509_chain_up_ref(chain);
		p->chain_verdict = SSL_get_verify_result(l.ssl);
		for (int i = 0; i < sk_X509_num(chain); i++) {
			char subject[200], issuer[200];

			X509_NAME_oneline(X509_get_subject_name(sk_X509_value(chain, i)), subject, sizeof subject);
			X509_NAME_oneline(X509_get_issuer_name(sk_X509_value(chain, i)), issuer, sizeof issuer);
			probe_event(&l, "certificate %d: %s, issued by %s", i, subject, issuer);
		}
	}
	probe_leave(&l);
	return p->chain != NULL;
}

/* What is weak in a certificate's key or signature; NULL: nothing. */
static const char *weakness(X509 *x)
{
	EVP_PKEY *key = X509_get0_pubkey(x);
	int digest = NID_undef, bits = key ? EVP_PKEY_get_bits(key) : 0, type = key ? EVP_PKEY_get_base_id(key) : 0;

	if (!key)
		return "a key that cannot be read";
	if ((type == EVP_PKEY_RSA && bits < RSA_LEAST) || (type == EVP_PKEY_EC && bits < EC_LEAST))
		return "a key that is too short";
	/* a root vouches for itself: its signature proves nothing and is not looked at */
	X509_get_signature_info(x, &digest, NULL, NULL, NULL);
	if ((digest == NID_md5 || digest == NID_sha1) &&
	    X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(x)) != 0)
		return "a signature over MD5 or SHA-1";
	return NULL;
}

void probe_check_certificate_chain(struct probe *p)
{
	int n, odd = 0;

	if (!look(p))
		return;
	n = sk_X509_num(p->chain);
	for (int i = 0; i < n; i++) {
		const char *weak = weakness(sk_X509_value(p->chain, i));

		if (weak) {
			probe_say(p, PROBE_FAIL, "certificate %d has %s", i, weak);
			return;
		}
		if (i > 0 && !odd &&
		    X509_check_issued(sk_X509_value(p->chain, i), sk_X509_value(p->chain, i - 1)) != X509_V_OK)
			odd = i;
	}
	if (odd)
		probe_say(p, PROBE_NOTE,
			  "certificate %d did not issue the one before it: not every client finds its way", odd);
	else if (p->chain_verdict == X509_V_OK)
		probe_say(p, PROBE_PASS, "%d certificate%s, to a trusted root", n, n > 1 ? "s" : "");
	else
		probe_say(p, PROBE_NOTE,
			  "no chain to a trusted root (%s): good enough for encryption and DANE-EE, not for MTA-STS",
			  X509_verify_cert_error_string(p->chain_verdict));
}

/* The names of the certificate, for the words. */
static void names_of(X509 *leaf, char *to, size_t room)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	size_t n = 0;

	to[0] = 0;
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == GEN_DNS && n + 2 < room)
			n += (size_t)snprintf(to + n, room - n, "%s%.*s", n ? ", " : "",
					      ASN1_STRING_length(name->d.dNSName),
					      (const char *)ASN1_STRING_get0_data(name->d.dNSName));
		if (n >= room)
			break;
	}
	if (!to[0])
		snprintf(to, room, "no DNS name");
	GENERAL_NAMES_free(names);
}

void probe_check_certificate_name(struct probe *p)
{
	char names[400];
	X509 *leaf;

	if (!look(p)) {
		if (!p->now->text[0])
			probe_say(p, PROBE_UNTESTED, "no certificate: see 604");
		return;
	}
	leaf = sk_X509_value(p->chain, 0);
	names_of(leaf, names, sizeof names);
	probe_report_fact(p->report, "certificate_names", "%s", names);
	if (!p->name)
		probe_say(p, PROBE_UNTESTED, "the server was given by its address, and --name was not: it names %s",
			  names);
	else if (X509_check_host(leaf, p->name, 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1)
		probe_say(p, PROBE_PASS, "it names %s", p->name);
	else
		probe_say(p, PROBE_FAIL, "it does not name %s: %s", p->name, names);
}

void probe_check_certificate_dates(struct probe *p)
{
	int days = 0, seconds = 0;
	char when[32];
	struct tm end = { 0 };
	X509 *leaf;

	if (!look(p)) {
		if (!p->now->text[0])
			probe_say(p, PROBE_UNTESTED, "no certificate: see 604");
		return;
	}
	leaf = sk_X509_value(p->chain, 0);
	ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(leaf));
	ASN1_TIME_to_tm(X509_get0_notAfter(leaf), &end);
	p->report->certificate_end_s = timegm(&end);
	probe_report_fact(p->report, "certificate_expires", "%s",
			  probe_time_words(p->report->certificate_end_s * 1000, when));
	if (X509_cmp_current_time(X509_get0_notBefore(leaf)) > 0)
		probe_say(p, PROBE_FAIL, "it is not valid yet");
	else if (days < 0 || seconds < 0)
		probe_say(p, PROBE_FAIL, "it expired %d days ago", -days);
	else if (days < SOON_DAYS)
		probe_say(p, PROBE_NOTE, "it expires in %d days", days);
	else
		probe_say(p, PROBE_PASS, "%d days are left", days);
}
