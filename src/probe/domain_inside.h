/* domain_inside.h - what is known of a domain, and who finds it out; private to probe/.
 *
 * First all is gathered (DNS, policy, connections), with the evidence at the check that asks for it; then each check judges from
 * that.  So a check that is left out costs its evidence alone, and the decision is the same.
 */
#ifndef PROBE_DOMAIN_INSIDE_H
#define PROBE_DOMAIN_INSIDE_H
#include "probe/domain.h"
#include "probe/inside.h"
#include "resolve/answer.h"
#include "route/rpt.h"
#include "route/sts.h"
#include "send/send.h"

#define DOMAIN_HOST_ADDRESSES 8u  /* of one mail host that are looked at, as `send` takes them */
#define DOMAIN_WORDS 300u         /* a host, an address and a reason */

/* How one address of a mail host behaved. */
enum domain_reach { DOMAIN_NOT_TRIED = 1, DOMAIN_SILENT, DOMAIN_NO_ROUTE, DOMAIN_NO_STARTTLS, DOMAIN_TLS_BROKE, DOMAIN_TLS_UP };

struct domain_contact {
	struct address address;
	enum domain_reach reach;   /* of the first connection, where nothing is checked */
	char why[DOMAIN_WORDS];    /* what stood in the way; "" */
	STACK_OF(X509) *chain;     /* as shown; NULL: none */
	bool tried;                /* the second one, by what is owed */
	bool up;                   /* and its handshake succeeded */
	bool verified;             /* and the certificate was found right */
	enum tls_fault fault;
	char words[DOMAIN_WORDS];  /* what was said of the certificate, or why the handshake failed */
};

struct domain_host {
	struct domain_contact contacts[DOMAIN_HOST_ADDRESSES];
	unsigned contact_count;
	enum wire_resolve_status status; /* of the addresses */
	char reason[200];
};

enum domain_fetch { DOMAIN_NOT_FETCHED = 1, DOMAIN_FETCH_FAILED, DOMAIN_POLICY_WRONG, DOMAIN_FETCHED };

struct domain_probe {
	const struct probe_domain_options *o;
	struct probe p;                     /* for links: report, finding, clocks */
	struct probe_server_options manners; /* what links ask of it */
	struct probe_finding aside;         /* takes the evidence of a check that was not asked for */
	struct ub_ctx *dns;
	bool validates;                     /* the root's keys were had */
	struct tls_context *tls;            /* as `send` has it */

	struct route_dest dest;
	struct facts *facts;
	struct route_host hosts[ROUTE_HOSTS_MAX];
	size_t host_count;
	struct domain_host about[ROUTE_HOSTS_MAX];
	enum route_plan_result plan;        /* 0: the MX lookup had no answer */
	enum wire_resolve_status mx_status;
	char mx_reason[200];

	const char *sts_record;             /* what is wrong with it; NULL: it is right */
	bool sts_there;                     /* some MTA-STS record is */
	char sts_id[STS_ID_MAX + 1];
	enum domain_fetch fetch;
	char fetch_reason[200];
	struct sts_policy policy;           /* FETCHED */
	struct buf policy_mx;

	unsigned rpt_records;
	const char *rpt_wrong;              /* with the only one; NULL: nothing */
	struct rpt_uri rpt_uris[RPT_URIS_MAX];
	size_t rpt_uri_count;
	enum wire_resolve_status rpt_status;
	struct answer rpt;                  /* holds the record */
};

/* ---- domain.c ---- */

/* Evidence goes to this check from now on. */
void domain_turn_to(struct domain_probe *, unsigned number);
void domain_event(struct domain_probe *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- domain_dns.c ---- */

int domain_dns_open(struct domain_probe *, struct error *);
void domain_dns_close(struct domain_probe *);
/* Asks, tells as evidence; the answer is to be freed. */
void domain_ask(struct domain_probe *, enum wire_resolve_kind, const char *name, struct answer *);

/* ---- domain_facts.c ---- */

/* MX, addresses, TLSA, policy, TLS-RPT; then what is owed to each host.  -1: memory. */
int domain_gather(struct domain_probe *, struct error *);

/* ---- domain_policy.c ---- */

void domain_find_policy(struct domain_probe *);
void domain_find_reports(struct domain_probe *);

/* ---- domain_contact.c ---- */

/* Connects to each address of each host; progress between them. */
void domain_contact_all(struct domain_probe *);
void domain_contacts_free(struct domain_probe *);
/* Does this record (usable) match the certificates? */
bool domain_tlsa_matches(const struct route_tlsa *, STACK_OF(X509) *chain);
const char *domain_place(const struct domain_probe *, size_t host, unsigned contact, char to[DOMAIN_WORDS]); /* "mx.example.org [192.0.2.1]" */

#define domain_say(d, verdict, ...) probe_report_judge((d)->p.report, (d)->p.now, verdict, __VA_ARGS__)

/* ---- domain_checks.c, domain_checks_tls.c: each judges d->p.now ---- */

#define GROUP(hundred, title)
#define CHECK(number, name, severity, needs, reference, title, asks) void domain_check_##name(struct domain_probe *);
#include "spec/probe_domain.def"

#endif
