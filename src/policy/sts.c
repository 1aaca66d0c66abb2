/* sts.c - see sts.h. */
#include "policy/sts.h"

#include "policy/dns.h"
#include "policy/store.h"

#include <psmtp.h>
#include <stdio.h>
#include <stdlib.h>

#define DOMAIN_SIZE 254 /* RFC 1035 2.3.4 as text, and NUL */

struct waiter {
	struct waiter *next;
	struct policy_peer *peer;
	uint64_t stream;
};

struct lookup {
	struct lookup *next;
	struct policy *room;
	char domain[DOMAIN_SIZE];
	struct waiter *waiters;
	struct policy_dns_ask dns;
	struct fetch *fetch;
	struct store_policy cached;
	bool has_cached;        /* and it is not over */
	bool refresh;           /* fetch, even when the id is that of the cached one */
	char id[STS_ID_MAX + 1]; /* of the record; "" when there is none */
	uint64_t begun;
};

struct failure {
	char domain[DOMAIN_SIZE], id[STS_ID_MAX + 1], reason[160];
	enum wire_rpt_result result;
	int64_t until;
};

struct sts_room {
	struct lookup *lookups;
	size_t count, waiting;
	struct loop_timer refresh;
	struct failure failures[STS_FAILURES];
};

/* ---- failures ---- */

static struct failure *failure_of(const struct policy *room, const char *domain)
{
	return &room->sts->failures[view_hash(view_cstr(domain)) % STS_FAILURES];
}

static void remember(struct lookup *l, enum wire_rpt_result result, const char *reason)
{
	struct failure *f = failure_of(l->room, l->domain);

	snprintf(f->domain, sizeof f->domain, "%s", l->domain);
	snprintf(f->id, sizeof f->id, "%s", l->id);
	snprintf(f->reason, sizeof f->reason, "%s", reason);
	f->result = result;
	f->until = policy_now(l->room) + STS_PAUSE_S;
}

static bool lower(struct view name, char to[DOMAIN_SIZE])
{
	if (name.n >= DOMAIN_SIZE || !psmtp_domain_valid((struct psmtp_view){ name.p, name.n }, false))
		return false;
	for (size_t i = 0; i < name.n; i++)
		to[i] = view_lower(name.p[i]);
	to[name.n] = 0;
	return true;
}

enum wire_rpt_result sts_last_failure(const struct policy *room, struct view domain)
{
	char name[DOMAIN_SIZE];
	const struct failure *f = lower(domain, name) ? failure_of(room, name) : NULL;

	return f && strcmp(f->domain, name) == 0 ? f->result : WIRE_RPT_STS_POLICY_FETCH_ERROR;
}

/* ---- answers ---- */

static void answer_one(struct policy_peer *peer, uint64_t stream, enum wire_sts_status status, const struct store_policy *p, int64_t now, const char *reason)
{
	struct wire_STS_POLICY m = { .stream = stream, .status = (uint8_t)status, .mode = WIRE_STS_MODE_NONE, .reason = view_cstr(reason) };
	int64_t left = p ? p->fetched + p->max_age - now : 0;

	if (p) {
		m.mode = (uint8_t)p->mode; /* the words stand in the same order */
		m.ttl_s = left > 0 ? (uint32_t)left : 0;
		m.id = view_cstr(p->id);
		m.mx = buf_view(&p->mx);
	}
	wire_send_STS_POLICY(peer->channel, &m); /* false: it is gone, and closed will say so */
}

static void answer(struct lookup *l, enum wire_sts_status status, const struct store_policy *p, const char *reason)
{
	struct policy *room = l->room;
	int64_t now = policy_now(room);
	struct waiter *w;

	if (l->waiters && p)
		store_policy_used(room->store, view_cstr(l->domain), now);
	while ((w = l->waiters) != NULL) {
		l->waiters = w->next;
		room->sts->waiting--;
		answer_one(w->peer, w->stream, status, p, now, reason);
		free(w);
	}
}

static void lookup_end(struct lookup *l)
{
	struct sts_room *sts = l->room->sts;
	struct lookup **at = &sts->lookups;
	struct waiter *w;

	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	sts->count--;
	while ((w = l->waiters) != NULL) {
		l->waiters = w->next;
		sts->waiting--;
		free(w);
	}
	policy_dns_cancel(&l->dns);
	if (l->fetch)
		fetch_cancel(l->fetch);
	store_policy_free(&l->cached);
	free(l);
}

/* Nothing new was had: what is cached holds on, if anything is. */
static void conclude(struct lookup *l, bool failed, const char *reason)
{
	if (l->has_cached)
		answer(l, WIRE_STS_FOUND, &l->cached, reason);
	else
		answer(l, failed ? WIRE_STS_FAILED : WIRE_STS_NONE, NULL, reason);
	lookup_end(l);
}

/* ---- the fetch ---- */

static void fail(struct lookup *l, enum wire_rpt_result result, const char *reason)
{
	remember(l, result, reason);
	EMIT(l->room->role->events, POLICY_FAILED, F_STR("domain", l->domain), F_STR("id", l->id), F_STR("reason", reason),
	     F_STR("kept", l->has_cached ? l->cached.id : ""));
	conclude(l, true, reason);
}

/* RFC 8461 3.2: text/plain, so that a page which users of a site can write is none; parameters do not matter here. */
static bool is_plain(const char *type)
{
	struct view v = view_cstr(type);

	return view_eq_nocase(view_trim(view_slice(v, 0, view_find(v, ';'))), VIEW("text/plain"));
}

bool sts_read_fetched(const struct fetch_result *r, struct sts_policy *read, struct buf *mx, enum wire_rpt_result *result, char reason[STS_REASON_SIZE])
{
	const char *wrong;

	if (r->end == FETCH_OK && r->status == 200 && is_plain(r->type)) {
		wrong = sts_policy_read(r->body, read, mx);
		if (!wrong)
			return true;
		snprintf(reason, STS_REASON_SIZE, "the policy cannot be used: %s", wrong);
		*result = WIRE_RPT_STS_POLICY_INVALID;
		return false;
	}
	if (r->end == FETCH_OK && r->status == 200)
		snprintf(reason, STS_REASON_SIZE, "the policy is of type \"%s\", not text/plain", r->type);
	else
		snprintf(reason, STS_REASON_SIZE, "the policy cannot be fetched: %.120s", r->reason);
	*result = r->end == FETCH_TLS ? WIRE_RPT_STS_WEBPKI_INVALID : WIRE_RPT_STS_POLICY_FETCH_ERROR;
	return false;
}

static void take_policy(struct lookup *l, struct store_policy *fresh, const struct sts_policy *read)
{
	struct policy *room = l->room;

	snprintf(fresh->id, sizeof fresh->id, "%s", l->id);
	fresh->mode = read->mode;
	fresh->max_age = read->max_age;
	fresh->fetched = policy_now(room);
	fresh->used = l->waiters || !l->has_cached ? fresh->fetched : l->cached.used;
	if (!store_policy_put(room->store, view_cstr(l->domain), fresh))
		EMIT(room->role->events, FAULT, F_STR("where", "policy"), F_STR("reason", "a policy could not be stored"));
	failure_of(room, l->domain)->until = 0;
	EMIT(room->role->events, POLICY_FETCHED, F_STR("domain", l->domain), F_STR("id", fresh->id), F_STR("mode", sts_mode_name(fresh->mode)),
	     F_U64("max_age", fresh->max_age), F_U64("ms", loop_now(room->role->loop) - l->begun));
	answer(l, WIRE_STS_FOUND, fresh, "");
}

static void on_fetched(void *arg, const struct fetch_result *r)
{
	struct lookup *l = arg;
	char reason[STS_REASON_SIZE];
	enum wire_rpt_result result = WIRE_RPT_STS_POLICY_INVALID;
	struct store_policy fresh;
	struct sts_policy read;

	l->fetch = NULL; /* it goes by itself */
	store_policy_init(&fresh);
	if (!sts_read_fetched(r, &read, &fresh.mx, &result, reason)) {
		fail(l, result, reason);
	} else if (!buf_add(&fresh.text, r->body)) {
		fail(l, result, "the policy cannot be used: there is no memory for it");
	} else {
		take_policy(l, &fresh, &read);
		lookup_end(l);
	}
	store_policy_free(&fresh);
}

void sts_url(const char *domain, unsigned port, char host[STS_HOST_SIZE], char url[FETCH_URL_MAX])
{
	char other[8] = "";

	if (port != 443)
		snprintf(other, sizeof other, ":%u", port);
	snprintf(host, STS_HOST_SIZE, "mta-sts.%s", domain);
	snprintf(url, FETCH_URL_MAX, "https://%s%s/.well-known/mta-sts.txt", host, other); /* RFC 8461 3.2 */
}

static void on_address(void *arg, const struct wire_RESOLVED *m)
{
	struct lookup *l = arg;
	const struct role *role = l->room->role;
	char host[STS_HOST_SIZE], url[FETCH_URL_MAX], reason[160];
	struct fetch_ask ask = { .url = url, .host = host, .port = (unsigned)role->conf->global.mta_sts_port, .addresses = m->records,
		.trust = handoff_get(role->files, "trust", ""), .most = STS_POLICY_MAX, .done = on_fetched, .arg = l };

	if (m->status != WIRE_DNS_OK) {
		snprintf(reason, sizeof reason, "mta-sts.%.100s has no address%s%.*s", l->domain, m->reason.n ? ": " : "",
		         VIEW_ARGS(view_slice(m->reason, 0, 40)));
		fail(l, WIRE_RPT_STS_POLICY_FETCH_ERROR, reason);
		return;
	}
	if (!ask.trust.n) {
		fail(l, WIRE_RPT_STS_POLICY_FETCH_ERROR, "there is no bundle of trusted certificates (setting trust)");
		return;
	}
	sts_url(l->domain, ask.port, host, url);
	l->fetch = fetch_start(l->room->fetches, &ask);
	if (!l->fetch)
		fail(l, WIRE_RPT_STS_POLICY_FETCH_ERROR, "no memory for a fetch");
}

static void fetch_policy(struct lookup *l)
{
	char host[DOMAIN_SIZE + 8];

	snprintf(host, sizeof host, "mta-sts.%s", l->domain);
	policy_dns_ask(l->room, &l->dns, WIRE_RESOLVE_ADDRESS, host, on_address, l);
}

/* ---- the record ---- */

const char *sts_pick_record(const struct wire_RESOLVED *m, struct view *id)
{
	struct view rest = m->records, found = { 0 };
	struct wire_record r;
	unsigned n = 0;

	if (m->status == WIRE_DNS_NXDOMAIN || m->status == WIRE_DNS_NODATA)
		return "no MTA-STS record";
	if (m->status != WIRE_DNS_OK)
		return "the MTA-STS record cannot be looked up";
	while (wire_record_next(&rest, &r) == 1)
		if (sts_record_is(r.address)) {
			found = r.address;
			n++;
		}
	if (n != 1)
		return n ? "several MTA-STS records, which count as none" : "no MTA-STS record";
	return sts_record_read(found, id) ? "the MTA-STS record is malformed" : NULL;
}

static bool is_old(const struct lookup *l)
{
	int64_t age = policy_now(l->room) - l->cached.fetched;

	return age > STS_REFRESH_S || age > (int64_t)l->cached.max_age / 2;
}

static void on_record(void *arg, const struct wire_RESOLVED *m)
{
	struct lookup *l = arg;
	struct view id = { 0 };
	const char *why = sts_pick_record(m, &id);
	const struct failure *f = failure_of(l->room, l->domain);
	int64_t now = policy_now(l->room);

	l->has_cached = store_policy_get(l->room->store, view_cstr(l->domain), &l->cached) && l->cached.fetched + l->cached.max_age > now &&
	                l->cached.fetched <= now;
	if (!why)
		snprintf(l->id, sizeof l->id, "%.*s", VIEW_ARGS(id));
	else if (l->refresh && l->has_cached) /* the record may be kept from us: the policy itself is what counts */
		snprintf(l->id, sizeof l->id, "%s", l->cached.id);
	if (!l->id[0]) {
		conclude(l, false, why);
		return;
	}
	if (!l->refresh && l->has_cached && strcmp(l->id, l->cached.id) == 0) {
		answer(l, WIRE_STS_FOUND, &l->cached, "");
		if (!is_old(l)) {
			lookup_end(l);
			return;
		}
		l->refresh = true; /* behind the answer */
	}
	if (strcmp(f->domain, l->domain) == 0 && strcmp(f->id, l->id) == 0 && now < f->until)
		conclude(l, true, f->reason);
	else
		fetch_policy(l);
}

/* ---- questions ---- */

static struct lookup *lookup_new(struct policy *room, const char *domain, bool refresh)
{
	struct sts_room *sts = room->sts;
	struct lookup *l = sts->count < STS_LOOKUPS_MAX ? calloc(1, sizeof *l) : NULL;
	char name[DOMAIN_SIZE + 12];

	if (!l)
		return NULL;
	l->next = sts->lookups;
	sts->lookups = l;
	sts->count++;
	l->room = room;
	l->refresh = refresh;
	l->begun = loop_now(room->role->loop);
	store_policy_init(&l->cached);
	snprintf(l->domain, sizeof l->domain, "%s", domain);
	snprintf(name, sizeof name, "_mta-sts.%s", domain);
	policy_dns_ask(room, &l->dns, WIRE_RESOLVE_TXT, name, on_record, l);
	return l;
}

static struct lookup *lookup_find(struct policy *room, const char *domain)
{
	struct lookup *l = room->sts->lookups;

	while (l && strcmp(l->domain, domain) != 0)
		l = l->next;
	return l;
}

/* Without a lookup: what is cached, or nothing. */
static void answer_now(struct policy_peer *peer, uint64_t stream, const char *domain)
{
	struct policy *room = peer->room;
	int64_t now = policy_now(room);
	struct store_policy p;

	store_policy_init(&p);
	if (store_policy_get(room->store, view_cstr(domain), &p) && p.fetched + p.max_age > now)
		answer_one(peer, stream, WIRE_STS_FOUND, &p, now, "");
	else
		answer_one(peer, stream, WIRE_STS_NONE, NULL, now, "too many policies are being looked up");
	store_policy_free(&p);
}

bool sts_ask(struct policy_peer *peer, const struct wire_STS_ASK *ask)
{
	struct policy *room = peer->room;
	char domain[DOMAIN_SIZE];
	struct lookup *l;
	struct waiter *w;

	if (!room->role->conf->global.mta_sts || !lower(ask->domain, domain)) {
		answer_one(peer, ask->stream, WIRE_STS_NONE, NULL, 0, "");
		return true;
	}
	if (room->sts->waiting >= STS_WAITERS_MAX)
		return false;
	l = lookup_find(room, domain);
	if (!l)
		l = lookup_new(room, domain, false);
	w = l ? malloc(sizeof *w) : NULL;
	if (!w) {
		answer_now(peer, ask->stream, domain);
		return true;
	}
	*w = (struct waiter){ .next = l->waiters, .peer = peer, .stream = ask->stream };
	l->waiters = w;
	room->sts->waiting++;
	return true;
}

void sts_peer_gone(struct policy_peer *peer)
{
	for (struct lookup *l = peer->room->sts->lookups; l; l = l->next)
		for (struct waiter **at = &l->waiters, *w; (w = *at) != NULL;) {
			if (w->peer != peer) {
				at = &w->next;
				continue;
			}
			*at = w->next;
			peer->room->sts->waiting--;
			free(w);
		}
}

bool sts_policy_text(struct policy *room, struct view domain, struct buf *to)
{
	char name[DOMAIN_SIZE];
	struct store_policy p;
	bool ok;

	if (!lower(domain, name))
		return false;
	store_policy_init(&p);
	ok = store_policy_get(room->store, view_cstr(name), &p) && buf_add(to, buf_view(&p.text));
	store_policy_free(&p);
	return ok;
}

/* ---- refreshing ---- */

struct due { struct policy *room; char (*names)[DOMAIN_SIZE]; unsigned n; };

static void is_due(void *arg, const char *domain)
{
	struct due *d = arg;

	if (d->n < STS_REFRESH_MOST && strlen(domain) < DOMAIN_SIZE)
		snprintf(d->names[d->n++], DOMAIN_SIZE, "%s", domain);
}

static void on_refresh(void *arg)
{
	struct policy *room = arg;
	int64_t now = policy_now(room);
	struct due d = { room, calloc(STS_REFRESH_MOST, DOMAIN_SIZE), 0 };

	loop_timer_set(&room->sts->refresh, loop_now(room->role->loop) + STS_REFRESH_EVERY_MS);
	store_policy_sweep(room->store, now);
	if (d.names && room->role->conf->global.mta_sts)
		store_policy_due(room->store, now, now - STS_REFRESH_S, now - STS_REFRESH_USED_S, STS_REFRESH_MOST, is_due, &d);
	for (unsigned i = 0; i < d.n; i++)
		if (!lookup_find(room, d.names[i]))
			lookup_new(room, d.names[i], true);
	free(d.names);
}

int sts_start(struct policy *room, struct error *e)
{
	room->sts = calloc(1, sizeof *room->sts);
	if (!room->sts)
		return error_set(e, ERROR_AGAIN, "no memory");
	loop_timer_init(&room->sts->refresh, room->role->loop, on_refresh, room);
	loop_timer_set(&room->sts->refresh, loop_now(room->role->loop) + STS_REFRESH_EVERY_MS);
	return 0;
}

void sts_stop(struct policy *room)
{
	if (!room->sts)
		return;
	while (room->sts->lookups)
		lookup_end(room->sts->lookups);
	loop_timer_stop(&room->sts->refresh);
	free(room->sts);
	room->sts = NULL;
}
