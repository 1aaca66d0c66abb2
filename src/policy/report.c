/* report.c - see report.h. */
#include "policy/report.h"

#include "policy/dns.h"
#include "policy/fetch.h"
#include "policy/report_text.h"
#include "policy/seal.h"
#include "policy/store.h"
#include "policy/sts.h"
#include "route/rpt.h"

#include <psmtp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct sending { /* one report on its way; id 0: free */
	struct policy *room;
	struct store_report report;
	struct policy_dns_ask dns;
	struct fetch *fetch;
	struct seal seal;
	uint64_t stream; /* at the queue */
	int64_t next;    /* when it is tried again, should it fail */
};

struct report_room {
	struct policy *room;
	bool writing; /* a transaction is open */
	struct loop_timer commit, tick;
	bool haste; /* an operator wants them now: what is made is due at once */
	struct { bool busy; int64_t day; char domain[256]; struct policy_dns_ask dns; } making;
	struct sending sending[REPORT_AT_ONCE_MAX];
	struct channel *queue;
	uint32_t queue_generation;
	uint64_t stream;
};

static void send_due(struct report_room *r);

/* ---- counting ---- */

static void on_commit(void *arg)
{
	struct report_room *r = arg;

	if (r->writing && !store_end(r->room->store))
		EMIT(r->room->role->events, FAULT, F_STR("where", "policy"), F_STR("reason", "TLS results could not be stored"));
	r->writing = false;
}

static bool lower(struct view v, char to[256])
{
	if (v.n > 253 || !psmtp_domain_valid((struct psmtp_view){ v.p, v.n }, false))
		return false;
	for (size_t i = 0; i < v.n; i++)
		to[i] = view_lower(v.p[i]);
	to[v.n] = 0;
	return true;
}

bool report_count(struct policy *room, const struct wire_TLS_RESULT *m)
{
	struct report_room *r = room->reports;
	struct store_result s = { .policy_type = m->policy_type, .result = m->result, .n = m->count,
		.policy_text = view_slice(m->policy_text, 0, REPORT_POLICY_MAX) };
	struct buf text;
	char domain[256];

	if (m->policy_type < WIRE_RPT_NO_POLICY || m->policy_type > WIRE_RPT_STS || !report_result_name(m->result) || !m->count)
		return false;
	if (!room->role->conf->tls_report.send || !lower(m->domain, domain))
		return true;
	if (m->result == WIRE_RPT_STS_POLICY_FETCH_ERROR)
		s.result = (uint8_t)sts_last_failure(room, view_cstr(domain)); /* send only knows that there was none */
	if (m->result != WIRE_RPT_SUCCESS) {
		s.mx = view_slice(m->mx, 0, REPORT_TEXT_MAX);
		s.address = view_slice(m->address, 0, REPORT_TEXT_MAX);
		s.local = view_slice(m->local_address, 0, REPORT_TEXT_MAX);
		s.reason = view_slice(m->reason, 0, REPORT_TEXT_MAX);
	}
	buf_init(&text, &alloc_libc, STS_POLICY_MAX);
	if (m->policy_type == WIRE_RPT_STS && m->policy_text.n == 0 && sts_policy_text(room, view_cstr(domain), &text))
		s.policy_text = view_slice(buf_view(&text), 0, REPORT_POLICY_MAX);
	if (!r->writing && store_begin(room->store)) {
		r->writing = true;
		loop_timer_set(&r->commit, loop_now(room->role->loop) + REPORT_COMMIT_MS);
	}
	store_result_add(room->store, policy_now(room) / REPORT_DAY_S, view_cstr(domain), &s); /* false: this one is not counted */
	buf_free(&text);
	return true;
}

/* ---- making ---- */

static void make_next(struct report_room *r);

struct adding { struct report *report; const char *domain; };

static void add_result(void *arg, const struct store_result *s)
{
	struct adding *a = arg;

	report_add(a->report, a->domain, s);
}

static void about(const struct role *role, const char *domain, int64_t day, const char *id, struct report_about *a)
{
	*a = (struct report_about){ .organization = role->conf->tls_report.organization, .contact = role->conf->tls_report.contact,
		.submitter = role->conf->global.hostname, .domain = domain, .day = day, .id = id };
}

/* One report, a row for each place that it goes to. */
static void make(struct report_room *r, const struct rpt_uri *uris, size_t n)
{
	struct policy *room = r->room;
	struct store_report row = { .day = r->making.day, .made = policy_now(room) };
	int64_t due = row.made + (r->haste ? 0 : (int64_t)env_random_below(room->role->env, REPORT_SPREAD_S));
	struct report report;
	struct report_about a;
	struct adding adding = { &report, r->making.domain };
	char id[320];
	bool ok;

	snprintf(id, sizeof id, "%lld.%016llx@%s", (long long)row.day, (unsigned long long)env_random_u64(room->role->env), room->role->conf->global.hostname);
	about(room->role, r->making.domain, row.day, id, &a);
	buf_init(&row.body, &alloc_libc, REPORT_BODY_MAX);
	report_begin(&report);
	store_result_each(room->store, row.day, r->making.domain, add_result, &adding);
	ok = report_end(&report, &a, &row.body);
	snprintf(row.domain, sizeof row.domain, "%s", r->making.domain);
	report_file_name(&a, row.name, sizeof row.name);
	for (size_t i = 0; ok && i < n; i++) {
		snprintf(row.uri, sizeof row.uri, "%.*s", VIEW_ARGS(uris[i].text));
		ok = store_report_put(room->store, &row, due);
	}
	if (ok)
		EMIT(room->role->events, TLS_REPORT_MADE, F_STR("domain", row.domain), F_U64("sessions", report.all_ok),
		     F_U64("failures", report.all_failed), F_U64("n", n));
	else
		EMIT(room->role->events, FAULT, F_STR("where", "policy"), F_STR("reason", "a report could not be made"));
	buf_free(&row.body);
}

/* RFC 8460 3: records that begin otherwise do not count, and then there must be one. */
static bool pick_record(const struct wire_RESOLVED *m, struct rpt_uri uris[RPT_URIS_MAX], size_t *n)
{
	struct view rest = m->records, found = { 0 };
	struct wire_record record;
	unsigned count = 0;

	*n = 0;
	while (wire_record_next(&rest, &record) == 1)
		if (rpt_record_is(record.address)) {
			found = record.address;
			count++;
		}
	return m->status == WIRE_DNS_OK && count == 1 && !rpt_record_read(found, uris, n) && *n > 0;
}

static void on_record(void *arg, const struct wire_RESOLVED *m)
{
	struct report_room *r = arg;
	struct rpt_uri uris[RPT_URIS_MAX];
	size_t n;

	if (pick_record(m, uris, &n))
		make(r, uris, n);
	if (m->status != WIRE_DNS_TEMPORARY && m->status != WIRE_DNS_BOGUS) /* else it is asked again, until it is too old */
		store_result_drop(r->room->store, r->making.day, r->making.domain);
	make_next(r);
}

static void make_next(struct report_room *r)
{
	struct policy *room = r->room;
	char name[272];

	r->making.busy = room->role->conf->tls_report.send &&
	                 store_result_next(room->store, policy_now(room) / REPORT_DAY_S, &r->making.day, r->making.domain);
	if (!r->making.busy) {
		if (r->haste)
			send_due(r);
		r->haste = false;
		return;
	}
	snprintf(name, sizeof name, "_smtp._tls.%s", r->making.domain);
	policy_dns_ask(room, &r->making.dns, WIRE_RESOLVE_TXT, name, on_record, r);
}

/* ---- sending ---- */

static void release(struct sending *s)
{
	policy_dns_cancel(&s->dns);
	if (s->fetch)
		fetch_cancel(s->fetch);
	s->fetch = NULL;
	seal_cancel(&s->seal);
	s->stream = 0;
	s->report.id = 0;
	buf_free(&s->report.body);
}

static void sent(struct sending *s)
{
	store_report_drop(s->room->store, s->report.id);
	EMIT(s->room->role->events, TLS_REPORT_SENT, F_STR("domain", s->report.domain), F_STR("to", s->report.uri), F_U64("attempts", s->report.attempts + 1));
	release(s);
	send_due(s->room->reports);
}

/* Its row says already when it is due again. */
static void failed(struct sending *s, const char *reason)
{
	bool over = s->next > s->report.made + REPORT_LIFE_S + REPORT_SPREAD_S;

	if (over)
		store_report_drop(s->room->store, s->report.id);
	EMIT(s->room->role->events, TLS_REPORT_FAILED, F_STR("domain", s->report.domain), F_STR("to", s->report.uri), F_U64("attempts", s->report.attempts + 1),
	     F_STR("reason", reason), F_STR("again", over ? "no" : "yes"));
	release(s);
}

static void on_posted(void *arg, const struct fetch_result *f)
{
	struct sending *s = arg;

	s->fetch = NULL;
	if (f->end == FETCH_OK)
		sent(s);
	else
		failed(s, f->reason);
}

static void on_address(void *arg, const struct wire_RESOLVED *m)
{
	struct sending *s = arg;
	char host[256];
	struct fetch_ask ask = { .url = s->report.uri, .host = host, .addresses = m->records, .trust = handoff_get(s->room->role->files, "trust", ""),
		.post_type = "application/tlsrpt+gzip", .post = buf_view(&s->report.body), .most = REPORT_ANSWER_MAX, .done = on_posted, .arg = s };

	if (m->status != WIRE_DNS_OK || !ask.trust.n || !fetch_url_parts(s->report.uri, host, sizeof host, &ask.port)) {
		failed(s, "its host has no address");
		return;
	}
	s->fetch = fetch_start(s->room->fetches, &ask);
	if (!s->fetch)
		failed(s, "no memory");
}

static void post(struct sending *s)
{
	char host[256];
	unsigned port;

	if (fetch_url_parts(s->report.uri, host, sizeof host, &port))
		policy_dns_ask(s->room, &s->dns, WIRE_RESOLVE_ADDRESS, host, on_address, s);
	else
		failed(s, "its address is none");
}

/* The door of `queue`, as receive uses it.  A report fits the window, so no credit is waited for.  With the null sender nobody is told
 * of failures: a report is not worth a report. */
static bool submit(struct report_room *r, struct sending *s, const char *to, struct view mail)
{
	struct wire_BODY_BEGIN begin = { .stream = ++r->stream, .size_hint = mail.n };
	struct wire_rcpt rcpt = { .address = view_cstr(to), .notify = PSMTP_NOTIFY_NEVER };
	struct wire_BODY_SUBMIT m = { .stream = r->stream, .ret = PSMTP_RET_HDRS, .client = VIEW("policy") };
	struct buf list;
	bool ok;

	buf_init(&list, &alloc_libc, 4096);
	ok = mail.n <= WIRE_BODY_WINDOW && wire_rcpt_add(&list, &rcpt) && wire_send_BODY_BEGIN(r->queue, &begin);
	for (size_t at = 0; ok && at < mail.n; at += WIRE_BODY_FRAME) {
		struct wire_BODY_BYTES bytes = { .stream = r->stream, .bytes = view_slice(mail, at, at + WIRE_BODY_FRAME) };
		ok = wire_send_BODY_BYTES(r->queue, &bytes);
	}
	m.rcpts = buf_view(&list);
	ok = ok && wire_send_BODY_SUBMIT(r->queue, &m);
	s->stream = r->stream;
	buf_free(&list);
	return ok;
}

static void on_sealed(void *arg, enum seal_end how, const char *why)
{
	struct sending *s = arg;
	struct report_room *r = s->room->reports;
	char to[RPT_ADDRESS_SIZE];

	if (how == SEAL_FAILED)
		failed(s, why);
	else if (!r->queue)
		failed(s, "queue is not there");
	else if (!rpt_mailto_address(view_cstr(s->report.uri), to) || !submit(r, s, to, seal_mail(&s->seal)))
		failed(s, "it cannot be written as a mail");
}

static void mail_it(struct report_room *r, struct sending *s)
{
	const struct role *role = r->room->role;
	struct report_about a;
	char to[RPT_ADDRESS_SIZE], id[320];
	struct buf mail;

	snprintf(id, sizeof id, "%lld.%016llx@%s", (long long)s->report.day, (unsigned long long)env_random_u64(role->env), role->conf->global.hostname);
	about(role, s->report.domain, s->report.day, id, &a);
	buf_init(&mail, &alloc_libc, WIRE_BODY_WINDOW);
	if (!r->queue)
		failed(s, "queue is not there");
	else if (!rpt_mailto_address(view_cstr(s->report.uri), to) ||
	         !report_mail(&a, role->conf->tls_report.from, to, s->report.name, buf_view(&s->report.body), env_wall_ms(role->env), &mail))
		failed(s, "it cannot be written as a mail");
	else
		seal_start(&s->seal, r->room, role->conf->tls_report.from, buf_view(&mail), on_sealed, s);
	buf_free(&mail);
}

static int64_t pause_after(unsigned attempts)
{
	int64_t pause = REPORT_PAUSE_S;

	while (attempts-- && pause < REPORT_PAUSE_MAX_S)
		pause *= 2;
	return pause < REPORT_PAUSE_MAX_S ? pause : REPORT_PAUSE_MAX_S;
}

static void send_one(struct report_room *r, struct sending *s, int64_t now)
{
	s->next = now + pause_after(s->report.attempts);
	store_report_later(r->room->store, s->report.id, s->next); /* before the try: a crash in it costs a pause, not a flood */
	if (view_starts_nocase(view_cstr(s->report.uri), VIEW("https:")))
		post(s);
	else
		mail_it(r, s);
}

static void send_due(struct report_room *r)
{
	int64_t now = policy_now(r->room);

	for (unsigned i = 0; i < REPORT_AT_ONCE_MAX; i++) {
		struct sending *s = &r->sending[i];
		if (s->report.id)
			continue;
		s->room = r->room;
		buf_init(&s->report.body, &alloc_libc, REPORT_BODY_MAX);
		if (!store_report_due(r->room->store, now, &s->report)) {
			s->report.id = 0;
			buf_free(&s->report.body);
			return;
		}
		send_one(r, s, now);
	}
}

/* ---- now ---- */

static void make_all(struct report_room *r)
{
	if (r->making.busy)
		return;
	r->making.day = 0;
	r->making.domain[0] = 0;
	make_next(r);
}

/* What is under way keeps the time of its next try, so that it does not go twice. */
static void hasten(struct report_room *r)
{
	store_report_haste(r->room->store, policy_now(r->room));
	for (unsigned i = 0; i < REPORT_AT_ONCE_MAX; i++)
		if (r->sending[i].report.id)
			store_report_at(r->room->store, r->sending[i].report.id, r->sending[i].next);
}

/* The answer says what there is; what becomes of each is in the log. */
static void go_now(struct report_room *r, struct channel *ch, uint64_t stream)
{
	struct policy *room = r->room;
	struct wire_REPORT_GOING m = { .stream = stream, .on = room->role->conf->tls_report.send };

	on_commit(r);
	if (m.on) {
		m.domains = (uint32_t)store_result_days(room->store, policy_now(room) / REPORT_DAY_S);
		m.reports = (uint32_t)store_report_count(room->store);
		r->haste = true;
		hasten(r);
	}
	wire_send_REPORT_GOING(ch, &m);
	if (m.on) {
		send_due(r);
		make_all(r);
	}
}

/* ---- the queue ---- */

static void queue_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct report_room *r = arg;
	struct wire_REPORT_NOW now;
	struct wire_BODY_DONE m;

	if (fd != -1)
		close(fd);
	if (type == WIRE_REPORT_NOW && wire_read_REPORT_NOW(payload, &now) == 0)
		go_now(r, ch, now.stream);
	if (type != WIRE_BODY_DONE || wire_read_BODY_DONE(payload, &m) == -1) /* PRESSURE, BODY_CREDIT: nothing to slow down here */
		return;
	for (unsigned i = 0; i < REPORT_AT_ONCE_MAX; i++)
		if (r->sending[i].report.id && r->sending[i].stream == m.stream) {
			if (m.status == WIRE_DONE_OK)
				sent(&r->sending[i]);
			else
				failed(&r->sending[i], "the queue did not take it");
			return;
		}
}

static void queue_closed(void *arg, struct channel *ch)
{
	struct report_room *r = arg;

	channel_free(ch);
	r->queue = NULL;
	for (unsigned i = 0; i < REPORT_AT_ONCE_MAX; i++)
		if (r->sending[i].report.id && r->sending[i].stream)
			failed(&r->sending[i], "queue went away");
}

void report_queue_channel(struct policy *room, uint32_t generation, struct channel *ch)
{
	static const struct channel_handler handler = { queue_frame, queue_closed, NULL };
	struct report_room *r = room->reports;

	(void)generation; /* there is one queue at a time */
	if (r->queue)
		queue_closed(r, r->queue);
	r->queue = ch;
	channel_set_handler(ch, &handler, r);
}

/* ---- life ---- */

static void on_tick(void *arg)
{
	struct report_room *r = arg;
	struct policy *room = r->room;

	loop_timer_set(&r->tick, loop_now(room->role->loop) + REPORT_TICK_MS);
	on_commit(r);
	store_result_forget(room->store, policy_now(room) / REPORT_DAY_S - REPORT_KEEP_DAYS);
	make_all(r);
	send_due(r);
}

int report_start(struct policy *room, struct error *e)
{
	struct report_room *r = calloc(1, sizeof *r);

	if (!r)
		return error_set(e, ERROR_AGAIN, "no memory");
	r->room = room;
	room->reports = r;
	loop_timer_init(&r->commit, room->role->loop, on_commit, r);
	loop_timer_init(&r->tick, room->role->loop, on_tick, r);
	loop_timer_set(&r->tick, loop_now(room->role->loop) + REPORT_TICK_MS);
	return 0;
}

void report_stop(struct policy *room)
{
	struct report_room *r = room->reports;

	if (!r)
		return;
	on_commit(r);
	for (unsigned i = 0; i < REPORT_AT_ONCE_MAX; i++)
		if (r->sending[i].report.id)
			release(&r->sending[i]);
	if (r->making.busy)
		policy_dns_cancel(&r->making.dns);
	if (r->queue)
		channel_free(r->queue);
	loop_timer_stop(&r->commit);
	loop_timer_stop(&r->tick);
	free(r);
	room->reports = NULL;
}
