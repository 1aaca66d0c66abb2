/* facts.c - what TLS is owed to each host of a destination: gathers the facts for route/tls.h, and keeps its judgement.
 *
 * A target's facts are made with its plan and live until the next: links that open borrow from them, and a plan is never
 * renewed while one opens (target.c).  Names and records are copied into an arena of bounded size; what does not fit is a
 * lookup that failed, so that the host waits.
 */
#include "send/send.h"
#include "route/sts.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* Of all hosts of a destination: names, and ROUTE_TLSA_MAX records of usual size for each; the policy's patterns (RFC 8461 3.2: 64 KiB). */
#define FACTS_ARENA (512u * 1024)

_Static_assert((int)ROUTE_LEVEL_NONE == (int)CONF_TLS_NONE && (int)ROUTE_LEVEL_VERIFY == (int)CONF_TLS_VERIFY, "the same numbers");
_Static_assert((int)ROUTE_RPT_DNSSEC_INVALID == (int)WIRE_RPT_DNSSEC_INVALID && (int)ROUTE_RPT_STS == (int)WIRE_RPT_STS, "the same numbers");

static bool speaks_smtp(const struct route_dest *d)
{
	return d->hop.delivery.kind == CONF_DELIVER_MX || d->hop.delivery.kind == CONF_DELIVER_SMTP;
}

struct facts *send_facts_new(const struct route_dest *d, bool dane)
{
	struct facts *f = calloc(1, sizeof *f);

	if (!f)
		return NULL;
	arena_init(&f->memory, &alloc_libc, FACTS_ARENA);
	f->tls.local = (enum route_level)d->hop.tls;
	f->tls.dane = dane && speaks_smtp(d); /* TLSA speaks of SMTP (RFC 7672 2) */
	f->tls.require = d->require;
	f->tls.relaxed = d->relaxed;
	f->tls.sts = ROUTE_STS_NONE;
	if (d->hop.delivery.kind == CONF_DELIVER_MX)
		f->tls.domain = d->domain;
	return f;
}

void send_facts_free(struct facts *f)
{
	if (!f)
		return;
	arena_free(&f->memory);
	free(f);
}

static const char *keep_text(struct facts *f, struct view v)
{
	char *to = arena_take(&f->memory, v.n + 1);

	if (!to)
		return NULL;
	memcpy(to, v.n ? v.p : "", v.n);
	to[v.n] = '\0';
	return memchr(to, 0, v.n) ? NULL : to;
}

static struct route_answer answer_of(const struct wire_RESOLVED *m)
{
	switch ((enum wire_resolve_status)m->status) {
	case WIRE_DNS_OK: return (struct route_answer){ ROUTE_FOUND, m->secure };
	case WIRE_DNS_NODATA:
	case WIRE_DNS_NXDOMAIN: return (struct route_answer){ ROUTE_NOTHING, m->secure };
	case WIRE_DNS_BOGUS: return (struct route_answer){ ROUTE_BOGUS, false };
	case WIRE_DNS_TEMPORARY: break;
	}
	return (struct route_answer){ ROUTE_FAILED, false };
}

void send_facts_mx(struct facts *f, const struct wire_RESOLVED *m)
{
	f->tls.mx = answer_of(m);
	f->tls.expanded = keep_text(f, m->canonical); /* NULL: one name less that would do */
}

void send_facts_address(struct facts *f, size_t host, const struct wire_RESOLVED *m)
{
	struct route_tls_host *h = &f->hosts[host].tls;

	h->address = answer_of(m);
	h->expanded = keep_text(f, m->canonical);
	if (!h->expanded) /* whether it is an alias is not known: not a host to trust or to mistrust now */
		h->address.status = ROUTE_FAILED;
}

bool send_facts_want_alias(const struct facts *f, size_t host)
{
	const struct route_tls_host *h = &f->hosts[host].tls;

	return f->tls.dane && h->address.status == ROUTE_FOUND && !h->address.secure && h->expanded && *h->expanded && (!f->tls.domain || f->tls.mx.secure);
}

void send_facts_alias(struct facts *f, size_t host, const struct wire_RESOLVED *m)
{
	/* A lookup that failed must not make it insecure: then the host waits (RFC 7672 2.1.2). */
	if (m->status == WIRE_DNS_BOGUS || m->status == WIRE_DNS_TEMPORARY)
		f->hosts[host].tls.address.status = m->status == WIRE_DNS_BOGUS ? ROUTE_BOGUS : ROUTE_FAILED;
	f->hosts[host].tls.alias_secure = m->status == WIRE_DNS_OK && m->secure;
}

bool send_facts_want_tlsa(struct facts *f, size_t host, uint16_t port, char name[SEND_TLSA_NAME], size_t *base)
{
	struct route_tls_host *h = &f->hosts[host].tls;
	const char *at;

	while ((at = route_tls_ask(&f->tls, h, base)) != NULL) { /* two names at most */
		if (strlen(at) <= 253 - sizeof "_65535._tcp." + 1) {
			snprintf(name, SEND_TLSA_NAME, "_%u._tcp.%s", port, at);
			return true;
		}
		h->tlsa[*base].answer = (struct route_answer){ ROUTE_NOTHING, true }; /* no such name can be: RFC 1035 2.3.4 */
	}
	return false;
}

static bool is_usable(const struct route_tlsa *r)
{
	const struct tls_tlsa same = { r->usage, r->selector, r->matching, r->data };

	return r->usable && tls_tlsa_is_usable(&same);
}

void send_facts_tlsa(struct facts *f, size_t host, size_t base, const struct wire_RESOLVED *m)
{
	struct route_tlsa_set *set = &f->hosts[host].tls.tlsa[base];
	struct route_tlsa *records = arena_take(&f->memory, ROUTE_TLSA_MAX * sizeof *records);
	struct wire_record r;
	struct view list = m->records;
	bool ok = records != NULL;

	set->answer = answer_of(m);
	set->records = records;
	while (ok && set->n < ROUTE_TLSA_MAX && wire_record_next(&list, &r) == 1) {
		struct view data = arena_copy(&f->memory, r.address);
		ok = data.p || !r.address.n;
		records[set->n] = route_tlsa_read(r.address.n ? data : VIEW(""));
		records[set->n].usable = is_usable(&records[set->n]);
		set->n++;
	}
	if (!ok)
		set->answer = (struct route_answer){ ROUTE_FAILED, false };
}

bool send_facts_sts(struct facts *f, const struct wire_STS_POLICY *m)
{
	struct view mx = arena_copy(&f->memory, m->mx);

	switch ((enum wire_sts_status)m->status) {
	case WIRE_STS_NONE: f->tls.sts = ROUTE_STS_NONE; return true;
	case WIRE_STS_FAILED:
		f->tls.sts = ROUTE_STS_FAILED;
		f->tls.sts_why = keep_text(f, m->reason);
		return true;
	case WIRE_STS_FOUND: break;
	}
	if (m->status != WIRE_STS_FOUND || (m->mx.n && !mx.p))
		return false;
	f->tls.sts_mx = mx;
	f->tls.sts = m->mode == WIRE_STS_MODE_ENFORCE ? ROUTE_STS_ENFORCE : m->mode == WIRE_STS_MODE_TESTING ? ROUTE_STS_TESTING : ROUTE_STS_MODE_NONE;
	return m->mode >= WIRE_STS_MODE_NONE && m->mode <= WIRE_STS_MODE_ENFORCE;
}

/* Is the policy of MTA-STS of any interest?  RFC 8461 speaks of mail for a domain; what sets it aside is in route/tls.h. */
bool send_facts_want_sts(const struct facts *f)
{
	return f->tls.domain && f->tls.domain[0] != '[' && f->tls.local != ROUTE_LEVEL_NONE && (!f->tls.relaxed || f->tls.require);
}

static void judge_host(struct facts *f, struct fact_host *h)
{
	struct tls_tlsa *records;

	route_tls_judge(&f->tls, &h->tls, &h->choice);
	if (h->choice.check != ROUTE_CHECK_DANE)
		return;
	records = arena_take(&f->memory, (h->choice.tlsa->n + 1) * sizeof *records);
	if (!records) { /* without them there is no session: it waits */
		h->choice.verdict = ROUTE_DEFER;
		return;
	}
	h->records = records;
	for (size_t i = 0; i < h->choice.tlsa->n; i++) {
		const struct route_tlsa *r = &h->choice.tlsa->records[i];
		if (r->usable)
			records[h->records_n++] = (struct tls_tlsa){ r->usage, r->selector, r->matching, r->data };
	}
}

void send_facts_judge(struct facts *f, size_t hosts)
{
	for (size_t i = 0; i < hosts && i < ROUTE_HOSTS_MAX; i++)
		judge_host(f, &f->hosts[i]);
}

void send_facts_check(const struct fact_host *h, struct tls_peer_check *check)
{
	static const enum tls_check how[] = { 0, TLS_CHECK_NONE, TLS_CHECK_CHAIN_AND_NAME, TLS_CHECK_DANE };
	const struct route_tls_choice *c = &h->choice;

	*check = (struct tls_peer_check){
		.how = how[c->check],
		.name = c->sni ? c->sni : h->tls.name,
		.names = c->names,
		.names_n = (unsigned)c->names_n,
		.records = h->records,
		.records_n = (unsigned)h->records_n,
	};
}

enum route_tls_event send_facts_event(const struct tls_facts *facts)
{
	switch (facts ? facts->fault : TLS_FAULT_OTHER) {
	case TLS_FAULT_EXPIRED: return ROUTE_TLS_EXPIRED;
	case TLS_FAULT_NAME: return ROUTE_TLS_NAME;
	case TLS_FAULT_NOT_TRUSTED: return ROUTE_TLS_UNTRUSTED;
	case TLS_FAULT_TLSA: return ROUTE_TLS_TLSA;
	case TLS_FAULT_NONE:
	case TLS_FAULT_NO_CERTIFICATE:
	case TLS_FAULT_OTHER: break;
	}
	return ROUTE_TLS_BROKE;
}

/* ---- TLS-RPT ---- */

/* What the report says of the policy (RFC 8460 4.4: policy-string): the records, or the policy's lines. */
static void put_policy(const struct facts *f, const struct route_tls_choice *c, enum route_rpt_policy policy, struct buf *to)
{
	if (policy == ROUTE_RPT_STS) {
		buf_addf(to, "version: STSv1\nmode: %s\n", f->tls.sts == ROUTE_STS_ENFORCE ? "enforce" : "testing");
		for (struct view v = f->tls.sts_mx; v.n;) {
			size_t end = view_find(v, '\n');
			if (end)
				buf_addf(to, "mx: %.*s\n", (int)end, v.p);
			v = view_slice(v, end + 1, v.n);
		}
	}
	for (size_t i = 0; policy == ROUTE_RPT_TLSA && c->tlsa && i < c->tlsa->n; i++)
		if (!route_tlsa_text(&c->tlsa->records[i], to) || !buf_add(to, VIEW("\n")))
			return;
}

static void tell_one(struct target *t, const struct fact_host *h, enum route_rpt_policy policy, enum route_rpt_result result, struct view address,
                     struct view local, struct view reason)
{
	struct wire_TLS_RESULT m = {
		.domain = view_cstr(t->facts->tls.domain),
		.policy_type = (uint8_t)policy,
		.result = (uint8_t)result,
		.mx = view_cstr(h->tls.name),
		.address = address,
		.local_address = local,
		.reason = view_slice(reason, 0, 200),
		.count = 1,
	};
	struct buf text;

	buf_init(&text, &alloc_libc, 16384);
	put_policy(t->facts, &h->choice, policy, &text);
	m.policy_text = buf_view(&text);
	wire_send_TLS_RESULT(t->sender->policy, &m); /* a count that is lost is no harm */
	buf_free(&text);
}

void send_facts_tell(struct target *t, const struct fact_host *h, enum route_rpt_result result, struct view address, struct view local, struct view reason)
{
	if (!t->sender->policy || !t->facts || !t->facts->tls.domain || h->tls.literal || !result)
		return;
	tell_one(t, h, h->choice.policy, result, address, local, reason);
	/* unusable TLSA records beside a policy of MTA-STS: their owner wants to know of both */
	if (h->choice.tlsa_useless && h->choice.policy == ROUTE_RPT_STS)
		tell_one(t, h, ROUTE_RPT_TLSA, ROUTE_RPT_TLSA_INVALID, address, local, VIEW("no usable record"));
}
