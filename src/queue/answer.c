/* answer.c - the commands of control.h. */
#include "queue/client.h"
#include "queue/control.h"
#include "queue/deliver.h"
#include "queue/schedule.h"
#include "mail/dsn.h"
#include "mail/scan.h"
#include "route/dest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define LIST_RCPTS   10  /* recipients of an envelope in `list` */
#define STATUS_DESTS 100 /* destinations in `status` */
#define LIST_DEFAULT UINT64_MAX

static void fail(struct client *c, const char *why)
{
	client_put(c, json_pack("{s:b, s:s}", "ok", 0, "error", why));
	client_finish(c);
}

static json_t *id_json(uint64_t id)
{
	char text[EVENT_ID_SIZE];

	return json_string(event_id_text(id, text));
}

/* ---- an envelope as JSON ---- */

/* NULL when there is no memory for all of them: a list with one missing must not pass for whole. */
static json_t *rcpts_json(const struct queue_envelope *env, uint32_t most)
{
	json_t *list = json_array();
	uint32_t i;

	for (i = 0; list && i < env->n && i < most; i++) {
		const struct queue_rcpt *r = &env->rcpts[i];
		json_t *one = json_pack("{s:o, s:i, s:o, s:o, s:I}", "address", client_text(r->address), "code",
					r->last.code, "text", client_text(r->last.text), "remote",
					client_text(r->last.remote), "last", (json_int_t)r->last.when);

		if (json_array_append_new(list, one)) {
			json_decref(list);
			list = NULL;
		}
	}
	return list;
}

static const char *state_of(const struct queue *q, const struct spool_envelope *e, const struct queue_envelope *env)
{
	const struct dest *d = schedule_find(q, e->dest);

	if (e->held)
		return "held";
	if (d && d->in_flight && deliver_is_active(q, e->id, e->slot))
		return "active";
	return e->attempts || (env->n && env->rcpts[0].last.when) ? "deferred" : "queued";
}

static json_t *envelope_json(struct client *c, const struct spool_envelope *e, uint32_t most)
{
	struct queue_envelope env;
	struct arena arena;
	json_t *o = NULL;
	int status;

	arena_init(&arena, &alloc_libc, DELIVER_ARENA_MAX);
	status = queue_envelope_decode(e->data, &env, &arena);
	if (status == -1) /* shown all the same: the operator must see what is wrong */
		env = (struct queue_envelope){ .sender = VIEW("?"), .n = 0 };
	if (status != -2) /* memory: nothing is wrong with it, and it cannot be told now */
		o = json_pack("{s:o, s:i, s:o, s:s, s:o, s:I, s:i, s:I, s:I, s:I, s:i, s:o}", "id", id_json(e->id), "slot",
			      (int)e->slot, "dest", client_text(e->dest), "state", state_of(c->q, e, &env), "sender",
			      client_text(env.sender), "size", (json_int_t)e->body_size, "attempts", (int)e->attempts, "due",
			      (json_int_t)e->due, "created", (json_int_t)e->created, "expires", (json_int_t)e->expires, "nrcpt",
			      (int)env.n, "recipients", rcpts_json(&env, most));
	arena_free(&arena);
	return o;
}

/* ---- why ---- */

static void put_time(struct buf *b, int64_t ms)
{
	int64_t s = ms > 0 ? (ms + 999) / 1000 : 0;

	if (s < 120)
		buf_addf(b, "%" PRId64 " s", s);
	else if (s < 7200)
		buf_addf(b, "%" PRId64 " min", s / 60);
	else
		buf_addf(b, "%" PRId64 " h", s / 3600);
}

static void put_words(struct buf *b, const struct queue_envelope *env)
{
	const struct queue_rcpt *r = env->n ? &env->rcpts[0] : NULL;

	if (!r || !r->last.when)
		return;
	if (r->last.remote.n)
		buf_addf(b, "; %.*s", VIEW_ARGS(r->last.remote));
	else
		buf_addf(b, "; the last result");
	buf_addf(b, r->last.local ? ": " : " said: ");
	if (r->last.code)
		buf_addf(b, "%u ", r->last.code);
	buf_addf(b, "%.*s (for %.*s", VIEW_ARGS(r->last.text), VIEW_ARGS(r->address));
	if (env->n > 1)
		buf_addf(b, " and %u more", env->n - 1);
	buf_addf(b, ")");
}

static void put_waiting(struct queue *q, struct buf *b, const struct spool_envelope *e, const struct dest *d)
{
	enum route_dest_role by = route_dest_role(e->dest);

	if (by != ROUTE_BY_QUEUE && !deliver_pick_peer(q, by == ROUTE_BY_LOCAL ? ROLE_LOCAL : ROLE_SEND))
		buf_addf(b, "It is due, but the role %s is not running", by == ROUTE_BY_LOCAL ? "local" : "send");
	else if (d && d->in_flight >= d->window)
		buf_addf(b, "It waits its turn: %u deliveries to its destination are in flight, the most it gets now",
			 d->in_flight);
	else if (q->schedule.in_flight >= q->conf->global.deliveries)
		buf_addf(b, "It waits its turn: %u deliveries are in flight, the most that `deliveries` allows",
			 q->schedule.in_flight);
	else
		buf_addf(b, "It is due and will be tried at once");
}

static void put_why(struct queue *q, struct buf *b, const struct spool_envelope *e, const struct queue_envelope *env)
{
	const struct dest *d = schedule_find(q, e->dest);
	int64_t now = queue_now(q);

	if (e->held)
		buf_addf(b, "It is on hold until the operator releases it");
	else if (d && d->in_flight && deliver_is_active(q, e->id, e->slot))
		buf_addf(b, "It is being delivered right now");
	else if (d && d->blocked_until > now) {
		buf_addf(b, "Its destination failed %u time%s in a row and is tried again in ", d->failures,
			 d->failures == 1 ? "" : "s");
		put_time(b, d->blocked_until - now);
		put_words(b, env);
	} else if (e->due > now) {
		buf_addf(b, "It was tried %u time%s; the next attempt is in ", e->attempts,
			 e->attempts == 1 ? "" : "s");
		put_time(b, e->due - now);
		put_words(b, env);
	} else {
		put_waiting(q, b, e, d);
		put_words(b, env);
	}
	buf_addf(b, ".");
}

static json_t *why_json(struct client *c, const struct spool_envelope *e)
{
	const struct dest *d = schedule_find(c->q, e->dest);
	int64_t next = d && d->blocked_until > e->due ? d->blocked_until : e->due;
	struct queue_envelope env;
	struct arena arena;
	struct buf text;
	json_t *o = NULL;
	int status;

	arena_init(&arena, &alloc_libc, DELIVER_ARENA_MAX);
	buf_init(&text, &alloc_libc, 16384);
	status = queue_envelope_decode(e->data, &env, &arena);
	if (status == -1)
		buf_addf(&text, "Its record cannot be read; it is kept on hold.");
	else if (status == 0)
		put_why(c->q, &text, e, &env);
	if (buf_len(&text)) /* empty: no memory, and no reason to invent one */
		o = json_pack("{s:o, s:i, s:o, s:o, s:I}", "id", id_json(e->id), "slot", (int)e->slot, "dest",
			      client_text(e->dest), "why", client_text(buf_view(&text)), "next", (json_int_t)next);
	buf_free(&text);
	arena_free(&arena);
	return o;
}

/* ---- list, show, why ---- */

static void step(struct client *c);

static void header_read(void *arg, enum spool_status status, struct view bytes)
{
	struct client *c = arg;
	struct mail_scan scan = { 0 };

	if (client_resume(c))
		return;
	if (status != SPOOL_OK)
		bytes = VIEW("");
	mail_scan_bytes(&scan, bytes);
	mail_scan_end(&scan);
	client_put(c, json_pack("{s:b, s:I, s:o}", "ok", 1, "n", (json_int_t)c->n, "header",
				client_text(view_slice(bytes, 0, (size_t)scan.header_end))));
	client_finish(c);
}

static void end_of_list(struct client *c, bool cut)
{
	if (c->task != CLIENT_LIST && !c->n) {
		fail(c, "no such message");
	} else if (c->task == CLIENT_SHOW) {
		c->pending = true;
		spool_read(c->q->spool, c->id, 0, MAIL_DSN_HEADER_MAX, header_read, c);
		queue_pump_soon(c->q);
	} else {
		client_put(c, json_pack("{s:b, s:I, s:b}", "ok", 1, "n", (json_int_t)c->n, "more", cut));
		client_finish(c);
	}
}

static void listed(void *arg, enum spool_status status, const struct spool_envelope *e, size_t n)
{
	struct client *c = arg;
	json_t *item;
	size_t i;

	if (client_resume(c))
		return;
	if (status != SPOOL_OK) {
		fail(c, spool_status_name(status));
		return;
	}
	for (i = 0; i < n; i++) {
		if ((c->task != CLIENT_LIST && e[i].id != c->id) || c->n == c->max) {
			end_of_list(c, c->task == CLIENT_LIST);
			return;
		}
		if (c->task == CLIENT_WHY)
			item = why_json(c, &e[i]);
		else
			item = envelope_json(c, &e[i], c->task == CLIENT_SHOW ? UINT32_MAX : LIST_RCPTS);
		client_put(c, json_pack("{s:o}", "item", item));
		c->n++;
		c->after_id = e[i].id;
		c->after_slot = e[i].slot;
	}
	if (n < CLIENT_BATCH) {
		end_of_list(c, false);
		return;
	}
	c->more = true; /* when the client has read this */
	loop_watch_want(&c->watch, LOOP_WRITE);
}

static void step(struct client *c)
{
	c->more = false;
	c->pending = true;
	spool_list(c->q->spool, c->after_id, c->after_slot, c->dest, CLIENT_BATCH, listed, c);
	queue_pump_soon(c->q);
}

void client_continue(struct client *c)
{
	step(c);
}

static void begin_list(struct client *c, enum client_task task)
{
	json_t *max = json_object_get(c->request, "max");

	c->task = task;
	c->n = 0;
	c->max =
		json_is_integer(max) && json_integer_value(max) >= 0 ? (uint64_t)json_integer_value(max) : LIST_DEFAULT;
	c->after_id = 0;
	c->after_slot = 0;
	if (task != CLIENT_LIST) {
		if (!c->id) {
			fail(c, "an id is wanted: 16 hex digits");
			return;
		}
		c->dest = VIEW("");
		c->after_id = c->id - 1;
		c->after_slot = UINT32_MAX;
	}
	step(c);
}

/* ---- flush, hold, release, delete ---- */

static void emit(struct client *c, uint64_t n)
{
	struct event_field fields[] = { F_ID("id", c->id), F_VIEW("dest", c->dest), F_U64("n", n),
					F_U64("uid", c->uid) };
	bool checked = false; /* one place, several events */

	events_emit(c->q->events, c->event, &checked, fields, sizeof fields / sizeof fields[0]);
}

static void counted(void *arg, enum spool_status status, spool_id n)
{
	struct client *c = arg;
	struct queue *q = c->q;

	if (!q->stopping) { /* what was made due is seen at once, whoever asked may be gone */
		schedule_unblock(q, c->event == EVENT_FLUSHED ? c->dest : VIEW("-"));
		if (c->event == EVENT_FLUSHED || c->event == EVENT_RELEASED)
			schedule_note_due(q, queue_now(q));
	}
	if (status == SPOOL_OK || n > 0) /* a part may be done although the whole is not: no mail goes without a line */
		emit(c, n);
	if (status == SPOOL_SICK) /* what was written and not synced can be there all the same */
		EMIT(q->events, OPERATION_UNSURE, F_STR("what", event_name(c->event)), F_ID("id", c->id), F_VIEW("dest", c->dest), F_U64("uid", c->uid));
	if (client_resume(c))
		return;
	if (status == SPOOL_AGAIN && c->event == EVENT_DELETED) {
		fail(c, n ? "a part is deleted; the rest is being delivered just now; try again in a moment"
			  : "it is being delivered just now; try again in a moment");
	} else if (status == SPOOL_SICK) {
		fail(c, "sick: the disk failed; whether this was done is seen after the next start");
	} else if (status != SPOOL_OK) {
		fail(c, status == SPOOL_GONE ? "no such message" : spool_status_name(status));
	} else {
		client_put(c, json_pack("{s:b, s:I}", "ok", 1, "n", (json_int_t)n));
		client_finish(c);
	}
}

void client_tick(struct client *c)
{
	struct queue *q = c->q;

	if (c->event == EVENT_FLUSHED || c->event == EVENT_RELEASED)
		schedule_note_due(q, queue_now(q));
	client_put(c, json_pack("{s:b}", "working", 1));
	loop_timer_set(&c->timer, loop_now(q->loop) + CLIENT_TICK);
}

static void begin_counted(struct client *c, enum event event)
{
	struct spool *spool = c->q->spool;
	/* another word for the end of all mail than for holding it: no slip makes the one of the other */
	const char *word = event == EVENT_DELETED ? "everything" : "all";

	c->task = CLIENT_COUNTED;
	c->event = event;
	if (!c->id && !c->dest.n && event != EVENT_FLUSHED && !json_is_true(json_object_get(c->request, word))) {
		fail(c, event == EVENT_DELETED ? "an id, a dest, or \"everything\": true is wanted"
					       : "an id, a dest, or \"all\": true is wanted");
		return;
	}
	c->pending = true;
	loop_timer_set(&c->timer, loop_now(c->q->loop) + CLIENT_TICK);
	if (event == EVENT_FLUSHED)
		spool_flush(spool, c->id, c->dest, queue_now(c->q), counted, c);
	else if (event == EVENT_DELETED)
		spool_delete(spool, c->id, c->dest, counted, c);
	else
		spool_hold(spool, c->id, c->dest, event == EVENT_HELD, counted, c);
	queue_pump_soon(c->q);
}

/* ---- status, prometheus, reload, stop ---- */

static json_t *spool_json(struct queue *q)
{
	struct spool_stats s;

	spool_get_stats(q->spool, &s);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:b}", "messages", (json_int_t)s.messages,
			 "envelopes", (json_int_t)s.envelopes, "held", (json_int_t)s.held, "in_flight",
			 (json_int_t)s.in_flight, "segments", (json_int_t)s.segments, "bytes_live",
			 (json_int_t)s.bytes_live, "bytes_total", (json_int_t)s.bytes_total, "commits",
			 (json_int_t)s.commits, "syncs", (json_int_t)s.syncs, "oldest", (json_int_t)s.oldest,
			 "pressure", (int)spool_pressure(q->spool), "sick", (int)s.sick);
}

static json_t *counters_json(struct queue *q)
{
	json_t *o = json_object();
	enum event e;

	for (e = EVENT_NONE + 1; e < EVENT_END; e++) {
		uint64_t n = counters_sum(&q->counters, e);

		if (n)
			json_object_set_new(o, event_name(e), json_integer((json_int_t)n));
	}
	return o;
}

static void add_dest(void *arg, const struct dest *d)
{
	json_t *list = arg;

	if (json_array_size(list) < STATUS_DESTS)
		json_array_append_new(list,
				      json_pack("{s:o, s:i, s:i, s:i, s:I}", "dest", client_text(dest_name(d)),
						"in_flight", (int)d->in_flight, "window", (int)d->window, "failures",
						(int)d->failures, "retry", (json_int_t)d->blocked_until));
}

static json_t *super_json(struct view json)
{
	json_t *o = json.n ? json_loadb(json.p, json.n, JSON_DECODE_ANY, NULL) : NULL;

	return o ? o : json.n ? client_text(json) : json_null();
}

void client_super_answered(struct client *c, struct view json)
{
	json_t *o = json_pack("{s:b, s:o}", "ok", 1, "super", super_json(json)), *list;

	if (o && view_eq(view_cstr(c->cmd), VIEW("status"))) {
		list = json_array();
		schedule_each_busy(c->q, add_dest, list);
		json_object_set_new(o, "spool", spool_json(c->q));
		json_object_set_new(o, "counters", counters_json(c->q));
		json_object_set_new(o, "destinations", list);
	} else if (o && !json.p) {
		json_object_set_new(o, "ok", json_false());
		json_object_set_new(o, "error", json_string("super does not answer"));
	}
	client_put(c, o);
	client_finish(c);
}

static void begin_super(struct client *c, enum wire_control_command command)
{
	struct wire_CONTROL m = { .stream = c->serial, .command = (uint8_t)command };
	struct role *r = c->q->role;
	struct buf payload;

	c->task = CLIENT_SUPER;
	buf_init(&payload, &alloc_libc, 256);
	if (r->to_super && wire_put_CONTROL(&payload, &m)) {
		loop_timer_set(&c->timer, loop_now(c->q->loop) + CLIENT_SUPER_WAIT);
		r->to_super(r, WIRE_CONTROL, buf_view(&payload));
	} else
		client_super_answered(c, view_of(NULL, 0));
	buf_free(&payload);
}

static bool put_gauge(struct buf *b, const char *name, const char *help, uint64_t v)
{
	return buf_addf(b, "# HELP postrider_%s %s\n# TYPE postrider_%s gauge\npostrider_%s %" PRIu64 "\n", name, help,
			name, name, v);
}

static void prometheus(struct client *c)
{
	struct queue *q = c->q;
	struct spool_stats s;
	struct buf b;
	bool ok;

	spool_get_stats(q->spool, &s);
	buf_init(&b, &alloc_libc, CLIENT_OUT_MAX / 2);
	ok = counters_prometheus(&q->counters, &b) &&
	     put_gauge(&b, "queue_messages", "Messages in the queue", s.messages) &&
	     put_gauge(&b, "queue_envelopes", "Envelopes (message and destination) in the queue", s.envelopes) &&
	     put_gauge(&b, "queue_held", "Envelopes on hold", s.held) &&
	     put_gauge(&b, "queue_in_flight", "Envelopes being delivered or settled", s.in_flight) &&
	     put_gauge(&b, "queue_oldest_seconds", "Age of the oldest envelope",
		       s.oldest > 0 && queue_now(q) > s.oldest ? (uint64_t)(queue_now(q) - s.oldest) / 1000 : 0) &&
	     put_gauge(&b, "queue_deliveries", "Deliveries in flight", q->schedule.in_flight) &&
	     put_gauge(&b, "queue_destinations", "Destinations known", q->schedule.dests.count) &&
	     put_gauge(&b, "spool_segments", "Segment files", s.segments) &&
	     put_gauge(&b, "spool_bytes_live", "Octets in use", s.bytes_live) &&
	     put_gauge(&b, "spool_bytes_total", "Octets of all segments", s.bytes_total) &&
	     put_gauge(&b, "spool_commits", "Commits since the start", s.commits) &&
	     put_gauge(&b, "spool_syncs", "Disk syncs since the start", s.syncs) &&
	     put_gauge(&b, "spool_pressure", "How full, 0 to 100", spool_pressure(q->spool)) &&
	     put_gauge(&b, "spool_sick", "1: the disk failed, and nothing is accepted until a restart", s.sick);
	if (ok)
		client_put(c, json_pack("{s:b, s:o}", "ok", 1, "text", client_text(buf_view(&b))));
	buf_free(&b);
	if (ok)
		client_finish(c);
	else
		fail(c, "memory");
}

/* ---- the request ---- */

static bool read_id(json_t *o, uint64_t *id)
{
	const char *text = json_string_value(o), *p;
	uint64_t v = 0;

	*id = 0;
	if (!o)
		return true;
	for (p = text; p && *p; p++) {
		int digit = *p >= '0' && *p <= '9'                           ? *p - '0'
			    : view_lower(*p) >= 'a' && view_lower(*p) <= 'f' ? view_lower(*p) - 'a' + 10
									     : -1;

		if (digit < 0 || p - text >= 16)
			return false;
		v = v << 4 | (uint64_t)digit;
	}
	*id = v;
	return text && v;
}

static void dispatch(struct client *c)
{
	struct view cmd = view_cstr(c->cmd);

	if (view_eq(cmd, VIEW("list")))
		begin_list(c, CLIENT_LIST);
	else if (view_eq(cmd, VIEW("show")))
		begin_list(c, CLIENT_SHOW);
	else if (view_eq(cmd, VIEW("why")))
		begin_list(c, CLIENT_WHY);
	else if (view_eq(cmd, VIEW("flush")))
		begin_counted(c, EVENT_FLUSHED);
	else if (view_eq(cmd, VIEW("hold")))
		begin_counted(c, EVENT_HELD);
	else if (view_eq(cmd, VIEW("release")))
		begin_counted(c, EVENT_RELEASED);
	else if (view_eq(cmd, VIEW("delete")))
		begin_counted(c, EVENT_DELETED);
	else if (view_eq(cmd, VIEW("status")))
		begin_super(c, WIRE_CONTROL_STATUS);
	else if (view_eq(cmd, VIEW("reload")))
		begin_super(c, WIRE_CONTROL_RELOAD);
	else if (view_eq(cmd, VIEW("stop")))
		begin_super(c, WIRE_CONTROL_STOP);
	else if (view_eq(cmd, VIEW("explain")))
		client_begin_explain(c);
	else if (view_eq(cmd, VIEW("reports")))
		client_begin_reports(c);
	else if (view_eq(cmd, VIEW("prometheus")))
		prometheus(c);
	else
		fail(c, "no such command");
}

/* Whether a text of the request stands in its line.  jansson 2.14 drops octets of a long string when memory fails while it
 * reads, and says nothing: a message or a destination would be taken for another.  A line with a backslash may write a
 * text in another way; ours have none. */
static bool stands(struct view line, json_t *text)
{
	size_t n = json_string_length(text);

	return !json_is_string(text) || !n || view_find(line, '\\') < line.n ||
	       memmem(line.p, line.n, json_string_value(text), n);
}

void client_request(struct client *c, struct view line)
{
	json_t *dest, *id;

	c->request = json_loadb(line.p, line.n, JSON_REJECT_DUPLICATES, NULL);
	c->cmd = json_string_value(json_object_get(c->request, "cmd"));
	dest = json_object_get(c->request, "dest");
	id = json_object_get(c->request, "id");
	c->dest = json_is_string(dest) ? view_of(json_string_value(dest), json_string_length(dest)) : VIEW("");
	if (!c->cmd)
		fail(c, "a line must be a JSON object with \"cmd\"");
	else if (!stands(line, dest) || !stands(line, id))
		fail(c, "there is no memory to read the request");
	else if (!read_id(id, &c->id))
		fail(c, "an id is 16 hex digits");
	else if (dest && (!json_is_string(dest) || !c->dest.n))
		fail(c, "dest must be a destination as `list` shows it");
	else
		dispatch(c);
}
