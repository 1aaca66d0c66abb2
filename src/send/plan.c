/* plan.c - from a destination to addresses: asks `resolve` as the destination needs, and lists the candidates.
 *
 *   an address literal       no question
 *   a host name              its addresses
 *   a domain (mx)            its MX hosts (route/plan.h orders them), then the addresses of each
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
	send_target_run(t);
}

static void plan_fail(struct target *t, const struct wire_result *result, const char *words)
{
	send_plan_forget(t);
	snprintf(t->failure_text, sizeof t->failure_text, "%s", words);
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
	t->candidate_count = t->host_count = 0;
	t->ttl = UINT32_MAX; /* until an answer says less; what needs no question holds longest */
	t->state = PLAN_NONE;
}

static bool ask(struct target *t, enum wire_resolve_kind kind, const char *name, size_t host)
{
	struct question *q = calloc(1, sizeof *q), **end = &t->questions;
	struct wire_RESOLVE m = { .kind = (uint8_t)kind, .name = view_cstr(name) };

	if (!q)
		return false;
	/* the bucket of its target is part of the number, so that an answer finds it */
	q->stream = m.stream = ++t->sender->asks * SEND_BUCKETS + view_hash(t->key) % SEND_BUCKETS;
	q->kind = kind;
	q->host = host;
	if (!t->sender->resolve || !wire_send_RESOLVE(t->sender->resolve, &m)) {
		free(q);
		return false;
	}
	while (*end)
		end = &(*end)->next;
	*end = q;
	t->state = PLAN_ASKING;
	return true;
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

static void add_candidate(struct target *t, const struct address *a, const char *host)
{
	struct candidate *c;

	if (t->candidate_count >= ROUTE_ADDRESSES_MAX)
		return;
	c = &t->candidates[t->candidate_count++];
	*c = (struct candidate){ .address = *a };
	snprintf(c->host, sizeof c->host, "%s", host);
}

/* All addresses are known: candidates in the order of the hosts.  An address of ours ends the list, as an MX of ours does;
 * that is a loop only when the DNS knew all the hosts before it. */
static void collect(struct target *t)
{
	bool loop = false, temporary = false;

	for (size_t h = 0; h < t->host_count && !loop; h++)
		for (struct question *q = t->questions; q && !loop; q = q->next) {
			if (q->kind != WIRE_RESOLVE_ADDRESS || q->host != h)
				continue;
			temporary = temporary || q->temporary;
			for (size_t i = 0; i < q->found_count && !loop; i++) {
				loop = is_ourselves(t, &q->found[i]);
				if (!loop)
					add_candidate(t, &q->found[i], t->hosts[h].name);
			}
		}
	if (t->candidate_count > 0)
		plan_done(t);
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
	for (size_t h = 0; h < t->host_count; h++)
		if (!ask(t, WIRE_RESOLVE_ADDRESS, t->hosts[h].name, h)) {
			plan_fail(t, &dns_later, "the resolver cannot be reached");
			return;
		}
}

void send_plan_start(struct target *t)
{
	const struct conf_delivery *d = &t->dest.hop.delivery;
	struct address a;

	send_plan_forget(t);
	if (d->kind == CONF_DELIVER_LMTP_UNIX) {
		add_candidate(t, &(struct address){ 0 }, "localhost");
		plan_done(t);
	} else if (d->kind != CONF_DELIVER_MX && address_parse_host(view_cstr(d->host), d->port, &a)) {
		add_candidate(t, &a, d->host);
		plan_done(t);
	} else if (d->kind != CONF_DELIVER_MX) {
		snprintf(t->hosts[0].name, sizeof t->hosts[0].name, "%s", d->host);
		t->host_count = 1;
		ask_addresses(t);
	} else if (t->dest.domain[0] == '[') {
		/* an address literal as a domain: RFC 5321 5.1 asks no DNS */
		if (address_parse_host(view_cstr(t->dest.domain), SMTP_PORT, &a)) {
			char host[ADDRESS_TEXT]; /* without brackets, as TLS wants it */
			add_candidate(t, &a, address_host((const struct sockaddr *)&a.sa, host));
			plan_done(t);
		} else {
			plan_fail(t, &no_domain, "the address literal cannot be understood");
		}
	} else if (!ask(t, WIRE_RESOLVE_MX, t->dest.domain, 0)) {
		plan_fail(t, &dns_later, "the resolver cannot be reached");
	}
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

static void take_mx_status(struct target *t, const struct wire_RESOLVED *m)
{
	char words[256];

	switch ((enum wire_resolve_status)m->status) {
	case WIRE_DNS_OK:
	case WIRE_DNS_NODATA: take_mx(t, m); return;
	case WIRE_DNS_NXDOMAIN: plan_fail(t, &no_domain, "there is no such domain"); return;
	case WIRE_DNS_TEMPORARY:
	case WIRE_DNS_BOGUS: break;
	}
	snprintf(words, sizeof words, "the DNS has no answer now: %.*s", VIEW_ARGS(view_slice(m->reason, 0, 200)));
	plan_fail(t, &dns_later, words);
}

static uint16_t port_of(const struct target *t)
{
	return t->dest.hop.delivery.kind == CONF_DELIVER_MX ? SMTP_PORT : t->dest.hop.delivery.port;
}

static void take_addresses(struct target *t, struct question *q, const struct wire_RESOLVED *m)
{
	struct view list = m->records;
	struct wire_record r;

	q->answered = true;
	q->temporary = m->status == WIRE_DNS_TEMPORARY || m->status == WIRE_DNS_BOGUS;
	note_ttl(t, m);
	while (q->found_count < sizeof q->found / sizeof *q->found && wire_record_next(&list, &r) == 1)
		if (address_from_octets(r.address, port_of(t), &q->found[q->found_count]))
			q->found_count++;
	for (q = t->questions; q; q = q->next)
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

	if (!q || t->state != PLAN_ASKING)
		return; /* asked by a plan that is forgotten */
	if (q->kind == WIRE_RESOLVE_ADDRESS) {
		take_addresses(t, q, m);
		return;
	}
	t->questions = q->next; /* the only one */
	free(q);
	take_mx_status(t, m);
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
