/* plan.c - from a destination to addresses: asks `resolve` and `policy` as the destination needs, and lists the candidates.
 *
 *   an address literal       no question
 *   a host name              its addresses
 *   a domain (mx)            its MX hosts (route/plan.h orders them), then the addresses of each
 * and of each host, until route/tls.h wants no more: where its CNAME stands, and its TLSA records.  The policy of MTA-STS is asked for
 * beside.  When all is answered, the judgement says to which hosts mail may go.
 * What the DNS cannot say now defers the mail; only a clear "there is no such domain" or "it takes no mail" fails it, and
 * that of a domain alone: a next hop of the configuration that the DNS does not know is the operator's to mend.
 */
#include "send/send.h"

#include <stdio.h>
#include <stdlib.h>

#define SMTP_PORT 25

static const struct wire_result dns_later = { .kind = WIRE_DEFERRED, .code = 451, .enhanced = { 4, 4, 3 }, .local = 1 };
static const struct wire_result no_domain = { .kind = WIRE_FAILED, .code = 550, .enhanced = { 5, 1, 2 }, .local = 1 };
static const struct wire_result no_address = { .kind = WIRE_FAILED, .code = 550, .enhanced = { 5, 4, 4 }, .local = 1 };
static const struct wire_result no_hop = { .kind = WIRE_DEFERRED, .code = 451, .enhanced = { 4, 4, 4 }, .local = 1 };
static const struct wire_result null_mx = { .kind = WIRE_FAILED, .code = 556, .enhanced = { 5, 1, 10 }, .local = 1 };
static const struct wire_result tls_later = { .kind = WIRE_DEFERRED, .code = 451, .enhanced = { 4, 7, 5 }, .local = 1 };
static const struct wire_result no_require = { .kind = WIRE_FAILED, .code = 550, .enhanced = { 5, 7, 30 }, .local = 1 };
static const struct wire_result mail_loop = { .kind = WIRE_FAILED, .code = 554, .enhanced = { 5, 4, 6 }, .local = 1 };

static uint64_t now_of(const struct target *t)
{
	return loop_now(t->sender->loop);
}

static void plan_done(struct target *t)
{
	uint64_t ttl_ms = t->ttl * 1000ull;

	if (ttl_ms < SEND_PLAN_MIN_MS)
		ttl_ms = SEND_PLAN_MIN_MS;
	if (ttl_ms > SEND_PLAN_MAX_MS)
		ttl_ms = SEND_PLAN_MAX_MS;
	t->state = PLAN_READY;
	t->plan_until = now_of(t) + ttl_ms;
	send_explain_done(t, "");
	send_target_run(t);
}

static void plan_fail(struct target *t, const struct wire_result *result, const char *words)
{
	enum route_level owed = t->failure_owed;
	enum route_rpt_policy policy = t->failure_policy;

	snprintf(t->failure_text, sizeof t->failure_text, "%s", words); /* they may be of the facts that go now */
	send_explain_done(t, t->failure_text);
	send_plan_forget(t);
	t->failure_owed = owed;
	t->failure_policy = policy;
	t->failure = *result;
	t->failure.text = view_cstr(t->failure_text);
	t->state = PLAN_FAILED;
	t->plan_until = now_of(t) + SEND_PLAN_MIN_MS;
	send_target_run(t);
}

void send_plan_forget(struct target *t)
{
	while (t->questions) {
		struct question *q = t->questions;
		t->questions = q->next;
		free(q);
	}
	send_facts_free(t->facts);
	t->facts = NULL;
	t->candidate_count = t->host_count = 0;
	t->refused = 0;
	t->failure_owed = 0;
	t->failure_policy = 0;
	t->waits = false;
	t->ttl = UINT32_MAX; /* until an answer says less; what needs no question holds longest */
	t->state = PLAN_NONE;
}

static struct question *add_question(struct target *t, enum wire_resolve_kind kind, size_t host, size_t base)
{
	struct question *q = calloc(1, sizeof *q), **end = &t->questions;

	if (!q)
		return NULL;
	/* the bucket of its target is part of the number, so that an answer finds it */
	q->stream = ++t->sender->asks * SEND_BUCKETS + view_hash(t->key) % SEND_BUCKETS;
	q->kind = kind;
	q->host = host;
	q->base = base;
	while (*end)
		end = &(*end)->next;
	*end = q;
	t->state = PLAN_ASKING;
	return q;
}

static bool ask(struct target *t, enum wire_resolve_kind kind, const char *name, size_t host, size_t base)
{
	struct question *q = t->sender->resolve ? add_question(t, kind, host, base) : NULL;
	struct wire_RESOLVE m = { .kind = (uint8_t)kind, .name = view_cstr(name) };

	if (!q)
		return false;
	m.stream = q->stream;
	return wire_send_RESOLVE(t->sender->resolve, &m); /* false: the plan fails, and forgets its questions */
}

static void put_to_policy(struct target *t, const struct question *q)
{
	struct wire_STS_ASK m = { .stream = q->stream, .domain = view_cstr(t->facts->tls.domain) };

	if (t->sender->policy)
		wire_send_STS_ASK(t->sender->policy, &m); /* a channel that breaks is closed, and its successor is asked */
}

/* While `policy` is away nobody knows whether a policy is cached there: mail waits, rather than go by less than is owed. */
static bool ask_policy(struct target *t)
{
	struct question *q;

	if (!send_facts_want_sts(t->facts) || !t->sender->policy_known)
		return true;
	q = add_question(t, 0, 0, 0);
	if (!q)
		return false;
	q->since = now_of(t);
	put_to_policy(t, q);
	return true;
}

void send_plan_policy_came(struct sender *s)
{
	for (size_t b = 0; b < SEND_BUCKETS; b++)
		for (struct target *t = s->targets[b]; t; t = t->next)
			for (struct question *q = t->questions; q; q = q->next)
				if (t->state == PLAN_ASKING && !q->kind && !q->answered)
					put_to_policy(t, q);
}

static bool is_any(const struct sockaddr *sa)
{
	char text[ADDRESS_TEXT];

	return view_eq(view_cstr(address_host(sa, text)), VIEW("0.0.0.0")) || view_eq(view_cstr(address_host(sa, text)), VIEW("::"));
}

static bool is_ourselves(const struct target *t, const struct address *a)
{
	const struct conf *conf = send_role_of(t->sender)->conf;

	const struct sockaddr *to = (const struct sockaddr *)&a->sa;

	if (t->dest.hop.delivery.kind != CONF_DELIVER_MX)
		return false;
	for (size_t i = 0; i < conf->listener_count; i++)
		for (size_t j = 0; j < conf->listeners[i].address_count; j++) {
			const struct sockaddr *own = (const struct sockaddr *)&conf->listeners[i].addresses[j].sa;
			if (address_port(own) != SMTP_PORT)
				continue;
			if (address_equal_host(own, to) || (is_any(own) && (is_any(to) || address_is_loopback(to) || send_own_has(t->sender->room, to))))
				return true;
		}
	return false;
}

static void add_candidate(struct target *t, const struct address *a, size_t host)
{
	if (t->candidate_count < ROUTE_ADDRESSES_MAX)
		t->candidates[t->candidate_count++] = (struct candidate){ .address = *a, .name = t->hosts[host].name, .host = host };
}

/* A destination that is an address or a socket: one host that needs no question. */
static void plan_one(struct target *t, const struct address *a, const char *name)
{
	struct fact_host *h = &t->facts->hosts[0];

	snprintf(t->hosts[0].name, sizeof t->hosts[0].name, "%s", name);
	t->host_count = 1;
	h->tls = (struct route_tls_host){ .name = t->hosts[0].name, .literal = true };
	send_facts_judge(t->facts, 1);
	if (h->choice.verdict == ROUTE_SKIP) {
		t->failure_owed = h->choice.level;
		t->failure_policy = h->choice.policy;
		plan_fail(t, &no_require, h->choice.why);
		return;
	}
	add_candidate(t, a, 0);
	plan_done(t);
}

/* What became of hosts that mail may not go to, told once a plan: the log, and TLS-RPT. */
static void note_host(struct target *t, const struct fact_host *h)
{
	const struct route_tls_choice *c = &h->choice;

	t->refused = c->refuse && !t->refused ? c->refuse : t->refused;
	t->waits = t->waits || !c->refuse;
	EMIT(send_role_of(t->sender)->events, SEND_WITHHELD, F_VIEW("dest", t->key), F_STR("host", h->tls.name),
	     F_STR("verdict", route_verdict_name(c->verdict)), F_STR("owed", route_level_name(c->level)), F_STR("why", c->why));
	send_facts_tell(t, h, c->result, VIEW(""), VIEW(""), view_cstr(c->why));
}

static struct question *addresses_of(const struct target *t, size_t host)
{
	struct question *q = t->questions;

	while (q && (q->kind != WIRE_RESOLVE_ADDRESS || q->host != host))
		q = q->next;
	return q;
}

/* What is told of a destination none of whose hosts may have the mail. */
static void fail_withheld(struct target *t, const struct fact_host *h)
{
	char words[SEND_WORDS];
	struct wire_result result = tls_later;

	if (t->refused && !t->waits) {
		result = no_require;
		result.enhanced[2] = t->refused;
	}
	snprintf(words, sizeof words, "%.100s: %.250s", h->tls.name, h->choice.why);
	t->failure_owed = h->choice.level;
	t->failure_policy = h->choice.policy;
	plan_fail(t, &result, words);
}

static bool has_address(const struct fact_host *h)
{
	return h->tls.address.status == ROUTE_FOUND;
}

/* All is known: candidates in the order of the hosts.  An address of ours ends the list, as an MX of ours does;
 * that is a loop only when the DNS knew all the hosts before it. */
static void collect(struct target *t)
{
	bool loop = false, temporary = false;
	const struct fact_host *withheld = NULL;

	send_facts_judge(t->facts, t->host_count);
	for (size_t h = 0; h < t->host_count && !loop; h++) {
		const struct fact_host *fact = &t->facts->hosts[h];
		const struct question *q = addresses_of(t, h);

		temporary = temporary || q->temporary;
		for (size_t i = 0; i < q->found_count && !loop; i++) {
			loop = is_ourselves(t, &q->found[i]);
			if (!loop && fact->choice.verdict == ROUTE_SEND)
				add_candidate(t, &q->found[i], h);
		}
		if (!loop && fact->choice.verdict != ROUTE_SEND && has_address(fact)) {
			note_host(t, fact);
			withheld = withheld ? withheld : fact;
		} else if (!loop && fact->choice.result && fact->choice.verdict != ROUTE_SEND)
			note_host(t, fact); /* a bogus address */
	}
	t->waits = t->waits || temporary;
	if (t->candidate_count > 0)
		plan_done(t);
	else if (withheld)
		fail_withheld(t, withheld);
	else if (temporary)
		plan_fail(t, &dns_later, "the DNS has no answer now for the mail hosts' addresses");
	else if (loop)
		plan_fail(t, &mail_loop, "mail loop: the best mail host is this server");
	else if (t->dest.hop.delivery.kind == CONF_DELIVER_MX)
		plan_fail(t, &no_address, "no mail host of the domain has an address");
	else /* the operator named it: a slip of the pen, or of the DNS, is no verdict on the mail */
		plan_fail(t, &no_hop, "the next hop has no address in the DNS");
}

static void ask_addresses(struct target *t)
{
	for (size_t h = 0; h < t->host_count; h++) {
		t->facts->hosts[h].tls.name = t->hosts[h].name;
		if (!ask(t, WIRE_RESOLVE_ADDRESS, t->hosts[h].name, h, 0)) {
			plan_fail(t, &dns_later, "the resolver cannot be reached");
			return;
		}
	}
}

void send_plan_start(struct target *t)
{
	const struct conf_delivery *d = &t->dest.hop.delivery;
	struct address a;
	char host[ADDRESS_TEXT]; /* without brackets, as TLS wants it */

	send_plan_forget(t);
	t->facts = send_facts_new(&t->dest, send_role_of(t->sender)->conf->global.dane);
	if (!t->facts)
		plan_fail(t, &dns_later, "no memory");
	else if (d->kind == CONF_DELIVER_LMTP_UNIX)
		plan_one(t, &(struct address){ 0 }, "localhost");
	else if (d->kind != CONF_DELIVER_MX && address_parse_host(view_cstr(d->host), d->port, &a))
		plan_one(t, &a, d->host);
	else if (d->kind != CONF_DELIVER_MX) {
		snprintf(t->hosts[0].name, sizeof t->hosts[0].name, "%s", d->host);
		t->host_count = 1;
		ask_addresses(t);
	} else if (t->dest.domain[0] == '[') {
		/* an address literal as a domain: RFC 5321 5.1 asks no DNS */
		if (address_parse_host(view_cstr(t->dest.domain), SMTP_PORT, &a))
			plan_one(t, &a, address_host((const struct sockaddr *)&a.sa, host));
		else
			plan_fail(t, &no_domain, "the address literal cannot be understood");
	} else if (!ask(t, WIRE_RESOLVE_MX, t->dest.domain, 0, 0) || !ask_policy(t))
		plan_fail(t, &dns_later, "the resolver or the role `policy` cannot be reached");
}

static void note_ttl(struct target *t, const struct wire_RESOLVED *m)
{
	if (m->records.n && m->ttl < t->ttl)
		t->ttl = m->ttl;
}

static void take_mx(struct target *t, const struct wire_RESOLVED *m)
{
	const struct role *role = send_role_of(t->sender);
	struct route_mx records[64];
	struct wire_record r;
	struct view list = m->records;
	size_t n = 0;
	enum route_plan_result result;

	note_ttl(t, m);
	send_facts_mx(t->facts, m);
	while (n < sizeof records / sizeof *records && wire_record_next(&list, &r) == 1)
		records[n++] = (struct route_mx){ r.preference, r.name };
	result = route_plan_mx(records, n, view_cstr(t->dest.domain), view_cstr(role->conf->global.hostname), role->env, t->hosts, &t->host_count);
	if (result == ROUTE_PLAN_NULL_MX)
		plan_fail(t, &null_mx, "the domain takes no mail (null MX)");
	else if (result == ROUTE_PLAN_LOOP)
		plan_fail(t, &mail_loop, "mail loop: the best mail host is this server");
	else if (t->host_count == 0)
		plan_fail(t, &no_domain, "that is no domain name");
	else
		ask_addresses(t);
}

/* No host is known, but the domain's owner wants to know that its DNSSEC is broken (RFC 8460 4.3.2.1). */
static void tell_bogus_mx(struct target *t, const struct wire_RESOLVED *m)
{
	struct fact_host *h = &t->facts->hosts[0];

	h->tls.name = "";
	send_facts_mx(t->facts, m);
	send_facts_judge(t->facts, 1);
	send_facts_tell(t, h, h->choice.result, VIEW(""), VIEW(""), view_cstr(h->choice.why));
}

static void take_mx_status(struct target *t, const struct wire_RESOLVED *m)
{
	char words[256];

	switch ((enum wire_resolve_status)m->status) {
	case WIRE_DNS_OK:
	case WIRE_DNS_NODATA: take_mx(t, m); return;
	case WIRE_DNS_NXDOMAIN: plan_fail(t, &no_domain, "there is no such domain"); return;
	case WIRE_DNS_BOGUS: tell_bogus_mx(t, m); break;
	case WIRE_DNS_TEMPORARY: break;
	}
	snprintf(words, sizeof words, "the DNS has no answer now: %.*s", VIEW_ARGS(view_slice(m->reason, 0, 200)));
	plan_fail(t, &dns_later, words);
}

static uint16_t port_of(const struct target *t)
{
	return t->dest.hop.delivery.kind == CONF_DELIVER_MX ? SMTP_PORT : t->dest.hop.delivery.port;
}

/* What else must be known of a host?  False: it cannot be asked for. */
static bool ask_more(struct target *t, size_t host)
{
	char name[SEND_TLSA_NAME];
	size_t base;

	return !send_facts_want_tlsa(t->facts, host, port_of(t), name, &base) || ask(t, WIRE_RESOLVE_TLSA, name, host, base);
}

static bool take_addresses(struct target *t, struct question *q, const struct wire_RESOLVED *m)
{
	struct view list = m->records;
	struct wire_record r;

	q->temporary = m->status == WIRE_DNS_TEMPORARY || m->status == WIRE_DNS_BOGUS;
	note_ttl(t, m);
	while (q->found_count < sizeof q->found / sizeof *q->found && wire_record_next(&list, &r) == 1)
		if (address_from_octets(r.address, port_of(t), &q->found[q->found_count]))
			q->found_count++;
	send_facts_address(t->facts, q->host, m);
	if (send_facts_want_alias(t->facts, q->host))
		return ask(t, WIRE_RESOLVE_ALIAS, t->hosts[q->host].name, q->host, 0);
	return ask_more(t, q->host);
}

static bool take_alias(struct target *t, const struct question *q, const struct wire_RESOLVED *m)
{
	send_facts_alias(t->facts, q->host, m);
	return ask_more(t, q->host);
}

static bool take_tlsa(struct target *t, const struct question *q, const struct wire_RESOLVED *m)
{
	note_ttl(t, m);
	send_facts_tlsa(t->facts, q->host, q->base, m);
	return ask_more(t, q->host);
}

static void check_complete(struct target *t)
{
	for (const struct question *q = t->questions; q; q = q->next)
		if (!q->answered)
			return;
	collect(t);
}

static struct question *find_question(struct sender *s, uint64_t stream, struct target **of)
{
	for (struct target *t = s->targets[stream % SEND_BUCKETS]; t; t = t->next)
		for (struct question *q = t->questions; q; q = q->next)
			if (q->stream == stream && !q->answered) {
				*of = t;
				return q;
			}
	return NULL;
}

void send_plan_answer(struct sender *s, const struct wire_RESOLVED *m)
{
	struct target *t = NULL;
	struct question *q = find_question(s, m->stream, &t);
	bool ok = true;

	if (!q || t->state != PLAN_ASKING || !q->kind)
		return; /* asked by a plan that is forgotten */
	q->answered = true;
	switch (q->kind) {
	case WIRE_RESOLVE_MX: take_mx_status(t, m); break;
	case WIRE_RESOLVE_ADDRESS: ok = take_addresses(t, q, m); break;
	case WIRE_RESOLVE_ALIAS: ok = take_alias(t, q, m); break;
	case WIRE_RESOLVE_TLSA: ok = take_tlsa(t, q, m); break;
	case WIRE_RESOLVE_TXT: break; /* never asked */
	}
	if (!ok)
		plan_fail(t, &dns_later, "the resolver cannot be reached");
	else if (t->state == PLAN_ASKING)
		check_complete(t);
}

void send_plan_sts(struct sender *s, const struct wire_STS_POLICY *m)
{
	struct target *t = NULL;
	struct question *q = find_question(s, m->stream, &t);

	if (!q || t->state != PLAN_ASKING || q->kind)
		return;
	q->answered = true;
	if (!send_facts_sts(t->facts, m)) {
		plan_fail(t, &tls_later, "the policy of MTA-STS cannot be understood now");
		return;
	}
	if (m->status == WIRE_STS_FOUND && m->ttl_s < t->ttl)
		t->ttl = m->ttl_s;
	check_complete(t);
}

void send_plan_lost(struct sender *s)
{
	for (size_t b = 0; b < SEND_BUCKETS; b++)
		for (struct target *t = s->targets[b], *next; t; t = next) {
			next = t->next;
			if (t->state == PLAN_ASKING)
				plan_fail(t, &dns_later, "the resolver was started anew");
		}
}

static bool is_overdue(const struct target *t)
{
	for (const struct question *q = t->questions; q; q = q->next)
		if (!q->kind && !q->answered && q->since + SEND_POLICY_MS <= now_of(t))
			return true;
	return false;
}

void send_plan_overdue(struct sender *s)
{
	for (size_t b = 0; b < SEND_BUCKETS; b++)
		for (struct target *t = s->targets[b], *next; t; t = next) {
			next = t->next;
			if (t->state == PLAN_ASKING && is_overdue(t))
				plan_fail(t, &tls_later, "the role `policy` does not say what is owed");
		}
}
