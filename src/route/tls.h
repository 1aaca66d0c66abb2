/* tls.h - what TLS is owed to each host of a destination, how the host proves itself, and why.  Pure: facts in, judgement out.
 *
 * The one place where DANE (RFC 7672), MTA-STS (RFC 8461), REQUIRETLS and "TLS-Required: No" (RFC 8689) and our own
 * configuration meet.  `send` follows it, `postrider route explain` tells it.
 *
 *   1  gather the MX lookup, the addresses of each host, and the policy of MTA-STS
 *   2  route_tls_ask says for which names TLSA records are to be looked up; each answer goes into the host's facts, in order,
 *      until it says that no more are needed
 *   3  route_tls_judge says of one host: whether mail may go there, the level owed, what the certificate must be
 *   4  after the session route_tls_result says what TLS-RPT calls its end (RFC 8460 4.3)
 *
 * The rules
 *   - The configuration's level is the floor; every other source can only raise it (design 1.3).  `none` is the operator's word
 *     that this hop has no TLS: then nothing else is looked at, and mail with REQUIRETLS does not go there.
 *   - DANE counts only where the MX lookup and the addresses are secure.  Then a failed or bogus TLSA lookup leaves the host
 *     unreachable: never clear, never a fallback.  Records that are there but unusable: TLS without authentication is owed.
 *   - Where DANE is usable, MTA-STS is not asked (RFC 8461 2).  Else `enforce` owes the name in a chain to the trust bundle, and
 *     an MX that is not in the policy gets nothing; `testing` is watched and told, and changes nothing.
 *   - REQUIRETLS owes a verified name, and a name that is itself proven: by DNSSEC or by the policy of MTA-STS (RFC 8689 4.2.1).
 *   - "TLS-Required: No" sets DANE and MTA-STS aside, not the configuration; REQUIRETLS beats it (RFC 8689 4.2.2, 4.1).
 *
 * Ownership: names and records are borrowed from the facts; a judgement must not outlive them.
 */
#ifndef ROUTE_TLS_H
#define ROUTE_TLS_H
#include "route/tlsa.h"

#define ROUTE_TLS_BASES 2 /* where TLSA records may stand: the host's name behind its CNAMEs, and as it was said */
#define ROUTE_TLS_NAMES 4 /* of the host, and of the domain, each before and behind CNAMEs (RFC 7672 3.2.2) */
#define ROUTE_TLS_WORDS 240 /* a sentence and two names, cut: it is for the log */

/* ---- facts ---- */

enum route_lookup { ROUTE_FOUND = 1, ROUTE_NOTHING, ROUTE_FAILED, ROUTE_BOGUS };

struct route_answer {
	enum route_lookup status; /* 0: not asked */
	bool secure;              /* by our own validation, the whole way with all CNAMEs; counts for NOTHING as well */
};

struct route_tlsa_set {
	struct route_answer answer;
	const struct route_tlsa *records;
	size_t n;
};

struct route_tls_host {
	const char *name;     /* as the MX record, or the configuration, says it */
	const char *expanded; /* behind CNAMEs; NULL or "": there is none */
	bool literal;         /* an address, or a socket: it has no name that could be proven */
	struct route_answer address;
	bool alias_secure;    /* where the addresses are not: the first CNAME alone is (RFC 7672 2.2.2) */
	struct route_tlsa_set tlsa[ROUTE_TLS_BASES];
};

enum route_sts { ROUTE_STS_NONE = 1, ROUTE_STS_FAILED, ROUTE_STS_MODE_NONE, ROUTE_STS_TESTING, ROUTE_STS_ENFORCE };

/* The numbers of enum conf_tls, and one more. */
enum route_level { ROUTE_LEVEL_NONE = 1, ROUTE_LEVEL_MAY, ROUTE_LEVEL_ENCRYPT, ROUTE_LEVEL_VERIFY, ROUTE_LEVEL_DANE };

struct route_tls_facts {
	const char *domain;   /* of the recipients; NULL: the hop is the configuration's */
	const char *expanded; /* the domain behind CNAMEs; NULL or "": there is none */
	struct route_answer mx;
	enum route_sts sts;
	struct view sts_mx;   /* its patterns, one a line */
	const char *sts_why;  /* FAILED: in words; may be NULL */
	enum route_level local;
	bool dane;            /* switched on, and the resolver can validate */
	bool require, relaxed; /* REQUIRETLS; "TLS-Required: No" */
};

/* ---- judgement ---- */

enum route_verdict {
	ROUTE_SEND = 1,
	ROUTE_DEFER, /* not now: try the next host, and this one later */
	ROUTE_SKIP   /* not to this host by what is owed: try the next one; with none left see `refuse` */
};
enum route_check { ROUTE_CHECK_NOTHING = 1, ROUTE_CHECK_CHAIN, ROUTE_CHECK_DANE };

/* RFC 8460 4.3, in the order of wire.h. */
enum route_rpt_policy { ROUTE_RPT_NO_POLICY = 1, ROUTE_RPT_TLSA, ROUTE_RPT_STS };
enum route_rpt_result {
	ROUTE_RPT_SUCCESS = 1, ROUTE_RPT_STARTTLS_NOT_SUPPORTED, ROUTE_RPT_CERTIFICATE_HOST_MISMATCH, ROUTE_RPT_CERTIFICATE_EXPIRED,
	ROUTE_RPT_CERTIFICATE_NOT_TRUSTED, ROUTE_RPT_VALIDATION_FAILURE, ROUTE_RPT_TLSA_INVALID, ROUTE_RPT_DNSSEC_INVALID
};

/* How a session's TLS went. */
enum route_tls_event {
	ROUTE_TLS_UP = 1,      /* and the certificate is right, if that was to be found out */
	ROUTE_TLS_NOT_OFFERED, /* or STARTTLS was refused */
	ROUTE_TLS_NAME, ROUTE_TLS_EXPIRED, ROUTE_TLS_UNTRUSTED,
	ROUTE_TLS_TLSA,        /* no record matches */
	ROUTE_TLS_BROKE        /* the handshake failed otherwise */
};

struct route_tls_choice {
	enum route_verdict verdict;
	enum route_level level;
	enum route_check check;
	bool watch;            /* the name in a chain is to be found out and told, and decides nothing (MTA-STS testing) */
	const char *sni;       /* NULL: none */
	const char *names[ROUTE_TLS_NAMES]; /* one of them must be in the certificate */
	size_t names_n;
	const struct route_tlsa_set *tlsa; /* the set that counts, usable or not; NULL: none */
	bool tlsa_useless;     /* it is there, and not one record is usable */
	enum route_rpt_policy policy;
	enum route_rpt_result result; /* DEFER and SKIP: what is to be told; 0: nothing.  SEND under `watch`: the policy is broken already */
	uint16_t refuse;       /* SKIP: no other host will do either way: 10 or 30 of 5.7.x (RFC 8689 4.2.1); 0: try again later */
	char why[ROUTE_TLS_WORDS];
};

/* The name under which TLSA records are to be looked up next (_PORT._tcp. goes before it), and where the answer belongs;
 * NULL: no more. */
const char *route_tls_ask(const struct route_tls_facts *, const struct route_tls_host *, size_t *base);
void route_tls_judge(const struct route_tls_facts *, const struct route_tls_host *, struct route_tls_choice *);
enum route_rpt_result route_tls_result(const struct route_tls_choice *, enum route_tls_event);

const char *route_level_name(enum route_level); /* "none", "may", "encrypt", "verify", "dane" */
const char *route_verdict_name(enum route_verdict);
const char *route_rpt_policy_name(enum route_rpt_policy); /* as in a report: "tlsa", "sts", "no-policy-found" */
const char *route_rpt_result_name(enum route_rpt_result); /* as in a report: "starttls-not-supported", ...; "successful" */

#endif
