/* outcome.c - see outcome.h. */
#include "queue/outcome.h"
#include "queue/bounce.h"
#include "queue/schedule.h"
#include "route/dest.h"
#include "route/tls.h"

#include <stdlib.h>

/* ---- results ---- */

static const uint16_t *class_of(uint8_t kind)
{
	static const uint16_t classes[][3] = {
		[WIRE_DELIVERED] = { 2, 0, 0 }, [WIRE_FAILED] = { 5, 0, 0 }, [WIRE_DEFERRED] = { 4, 0, 0 }
	};

	return classes[kind];
}

static bool keep_result(struct delivery *d, uint32_t i, const struct wire_result *r)
{
	struct delivery_result *to = &d->results[i];

	to->kind = r->kind;
	to->last.code = r->code;
	memcpy(to->last.enhanced, r->enhanced[0] ? r->enhanced : class_of(r->kind), sizeof to->last.enhanced);
	to->last.local = r->local != 0;
	to->last.when = queue_now(d->q);
	to->last.text = arena_copy(&d->arena, view_slice(r->text, 0, QUEUE_WORDS_MAX));
	to->last.remote = arena_copy(&d->arena, view_slice(r->remote, 0, QUEUE_REMOTE_MAX));
	return to->last.text.p && to->last.remote.p;
}

/* The same judgement of ours for all chosen recipients; text is static. */
static void judge_all(struct delivery *d, uint8_t kind, uint16_t code, uint16_t subject, uint16_t detail,
		      const char *text)
{
	uint32_t i;

	for (i = 0; i < d->env.n; i++) {
		struct delivery_result *to = &d->results[i];

		if (!d->chosen[i])
			continue;
		to->kind = kind;
		to->last = (struct queue_last){ .code = code,
						.enhanced = { class_of(kind)[0], subject, detail },
						.local = true,
						.when = queue_now(d->q),
						.text = view_cstr(text),
						.remote = VIEW("") };
	}
}

/* ---- what is told ---- */

static int64_t delay_of(const struct delivery *d)
{
	int64_t delay = queue_now(d->q) - d->e.created;

	return delay > 0 ? delay : 0;
}

static void tell_discarded(struct delivery *d, struct view to, uint32_t n, const char *reason)
{
	EMIT(d->q->events, DISCARDED, F_ID("id", d->e.id), F_ID("session", d->env.session),
	     F_VIEW("from", d->env.sender), F_VIEW("to", to), F_U64("nrcpt", n), F_VIEW("dest", d->route),
	     F_STR("reason", reason));
}

/* A failure ends in a report, or is discarded for a reason with a name (design.md section 1.1). */
static void tell_unreported(struct delivery *d, uint32_t i)
{
	const struct queue_rcpt *r = &d->env.rcpts[i];

	if (bounce_shortened(d))
		return;
	if (d->env.kind == QUEUE_REPORT)
		tell_discarded(d, r->address, 1, "double_bounce");
	else if (!d->env.sender.n)
		tell_discarded(d, r->address, 1, "null_sender");
	else if (!bounce_notify_asks(r->notify, MAIL_DSN_FAILED))
		tell_discarded(d, r->address, 1, "notify");
}

static const char *level_of(uint8_t level)
{
	return level ? route_level_name((enum route_level)level) : "";
}

#define COMMON                                                                                                    \
	F_ID("id", d->e.id), F_ID("session", d->env.session), F_VIEW("from", d->env.sender),                      \
		F_VIEW("to", d->env.rcpts[i].address), F_VIEW("dest", d->route), F_VIEW("relay", r->last.remote), \
		F_I64("delay", delay_of(d)), F_U64("attempts", d->e.attempts + 1), F_VIEW("tls", d->tls),         \
		F_STR("owed", level_of(d->owed)), F_STR("reached", level_of(d->reached)),                         \
		F_VIEW("policy", d->policy), F_VIEW("why", d->tls_why),                                           \
		F_U64("code", r->last.code), F_VIEW("reason", r->last.text)

static void tell(struct delivery *d)
{
	uint32_t i;

	for (i = 0; i < d->env.n; i++) {
		struct delivery_result *r = &d->results[i];

		if (r->told) /* the spool refused it, and it is tried again */
			continue;
		r->told = true;
		if (r->expired) {
			EMIT(d->q->events, EXPIRED, F_ID("id", d->e.id), F_ID("session", d->env.session),
			     F_VIEW("from", d->env.sender), F_VIEW("to", d->env.rcpts[i].address),
			     F_VIEW("dest", d->route), F_I64("delay", delay_of(d)), F_U64("attempts", d->e.attempts),
			     F_VIEW("reason", r->last.text));
			tell_unreported(d, i);
		} else if (r->kind == WIRE_DELIVERED) {
			EMIT(d->q->events, DELIVERED, COMMON);
		} else if (r->kind == WIRE_FAILED) {
			EMIT(d->q->events, FAILED, COMMON);
			tell_unreported(d, i);
		} else if (r->kind == WIRE_DEFERRED &&
			   !d->put_off) { /* put off is no attempt; the destination's line says it */
			EMIT(d->q->events, DEFERRED, COMMON, F_I64("next", d->due));
		}
	}
}

/* ---- what remains ---- */

static int64_t sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* When the remains are tried again. */
static int64_t next_due(struct delivery *d)
{
	struct queue *q = d->q;
	int64_t now = queue_now(q), due, warn = (int64_t)q->conf->global.delay_warning, wait;

	if (d->chosen_n < d->env.n)
		return now; /* some were not tried: they go another way now */
	if (d->put_off) {
		due = schedule_after_pause(q, d->dest);
	} else if (d->lost) {
		due = now;
		if (d->env.lost > 1) {
			wait = OUTCOME_LOST_PAUSE << (d->env.lost < 20 ? d->env.lost - 2 : 18);
			due = now + sooner(wait, (int64_t)q->conf->global.retry_max);
		}
	} else
		due = now + schedule_pause(q, d->e.attempts + 1);
	if (warn && !d->env.warned && d->e.created + warn > now)
		due = sooner(due, d->e.created + warn);
	return d->e.expires > now ? sooner(due, d->e.expires) : due;
}

static bool put_remains(struct delivery *d, struct buf *data, uint32_t *n)
{
	struct queue_envelope env = d->env;
	uint32_t i;
	bool ok;

	env.rcpts = malloc(d->env.n * sizeof *env.rcpts);
	if (!env.rcpts)
		return false;
	env.n = 0;
	for (i = 0; i < d->env.n; i++) {
		const struct delivery_result *r = &d->results[i];

		if (r->kind && r->kind != WIRE_DEFERRED)
			continue;
		env.rcpts[env.n] = d->env.rcpts[i];
		if (r->kind)
			env.rcpts[env.n].last = r->last;
		env.n++;
	}
	env.maybe = d->maybe;
	if (!d->lost && !d->put_off)
		env.lost = 0;
	env.warned = env.warned || d->warn;
	ok = !env.n || queue_envelope_encode(data, &env);
	*n = env.n;
	free(env.rcpts);
	return ok;
}

static void refused(struct delivery *d)
{
	struct queue *q = d->q;

	if (q->stopping) { /* the mark ends with us: it is due again when the spool opens next */
		delivery_end(d);
		return;
	}
	d->next = q->retries;
	q->retries = d;
	if (!d->next)
		loop_timer_set(&q->retry_timer, loop_now(q->loop) + OUTCOME_RETRY);
}

static void settled(void *arg, enum spool_status status, spool_id id)
{
	struct delivery *d = arg;
	struct queue *q = d->q;

	(void)id;
	q->owed--;
	if (status != SPOOL_OK && status != SPOOL_GONE) {
		EMIT(q->events, SPOOL_FAULT, F_ID("id", d->e.id), F_VIEW("dest", d->e.dest), F_STR("what", "settle"),
		     F_STR("status", spool_status_name(status)));
		refused(d);
		return;
	}
	if (status == SPOOL_OK) {
		bounce_settled(d);
		if (d->due <= queue_now(q)) /* not before: a lease asked for earlier would miss it */
			schedule_returned(d->dest);
		else
			schedule_note_due(q, d->due);
	}
	delivery_end(d);
}

void outcome_commit(struct delivery *d)
{
	struct queue *q = d->q;
	struct spool_new news[BOUNCE_KINDS];
	struct spool_envelope remains = d->e;
	struct buf data;
	uint32_t n = 0;
	int made;

	if (q->stopping) {
		delivery_end(d);
		return;
	}
	buf_init(&data, &alloc_libc, DELIVER_ARENA_MAX);
	if (!put_remains(d, &data, &n) || (made = bounce_news(d, news)) < 0) {
		buf_free(&data);
		EMIT(q->events, SPOOL_FAULT, F_ID("id", d->e.id), F_VIEW("dest", d->e.dest), F_STR("what", "report"),
		     F_STR("status", "again"));
		refused(d);
		return;
	}
	tell(d);
	if (n) {
		remains.data = buf_view(&data);
		remains.attempts += !d->put_off && !d->lost && d->chosen_n;
		remains.due = d->due;
	}
	q->owed++;
	spool_settle(q->spool, d->e.id, d->e.slot, n ? &remains : NULL, news, (size_t)made, settled, d);
	if (d->dest->more || made || q->draining) { /* a backlog waits for this place, a report for its way out */
		spool_wanted(q->spool);
		queue_pump_soon(q);
	} else {
		queue_pump_late(q);
	}
	buf_free(&data);
}

/* All results are known: expiry is judged and delay, then it is made durable.  May be called again. */
static void settle(struct delivery *d)
{
	int64_t now = queue_now(d->q), warn = (int64_t)d->q->conf->global.delay_warning;
	uint32_t i;

	d->stage = DELIVERY_SETTLING;
	for (i = 0; i < d->env.n; i++)
		if (d->results[i].kind == WIRE_DEFERRED && now >= d->e.expires && !d->lost) {
			d->results[i].kind = WIRE_FAILED;
			d->results[i].expired = true;
			d->results[i].told = false; /* it was told as deferred, if a full disk made it wait until now */
		}
	d->warn = warn && !d->env.warned && now - d->e.created >= warn;
	d->due = next_due(d);
	if (d->bounce || !bounce_wanted(d))
		outcome_commit(d);
	else if (bounce_fetch(d))
		refused(d);
}

static void retry(void *arg)
{
	struct queue *q = arg;
	struct delivery *d, *next;

	d = q->retries;
	q->retries = NULL;
	for (; d; d = next) {
		next = d->next;
		d->next = NULL;
		settle(d);
	}
}

/* ---- where results come from ---- */

static struct view keep_words(struct delivery *d, struct view v)
{
	struct view copy = arena_copy(&d->arena, view_slice(v, 0, QUEUE_TLS_MAX));

	return copy.p ? copy : VIEW("");
}

static void keep_tls(struct delivery *d, const struct wire_OUTCOME *m)
{
	d->tls = keep_words(d, m->tls);
	d->policy = keep_words(d, m->policy);
	d->tls_why = keep_words(d, m->why);
	d->owed = m->owed <= ROUTE_LEVEL_DANE ? m->owed : 0;
	d->reached = m->reached <= ROUTE_LEVEL_DANE ? m->reached : 0;
}

int outcome_take(struct delivery *d, const struct wire_OUTCOME *m)
{
	struct view list = m->results, reason = VIEW("");
	struct wire_result r;
	uint32_t i;
	bool spoke = false;

	for (i = 0; i < d->env.n; i++) {
		if (!d->chosen[i])
			continue;
		if (wire_result_next(&list, &r) != 1 || r.kind < WIRE_DELIVERED || r.kind > WIRE_DEFERRED ||
		    !keep_result(d, i, &r)) {
			memset(d->results, 0, d->env.n * sizeof *d->results);
			return -1;
		}
		spoke = spoke || (r.code && !r.local) || r.kind == WIRE_DELIVERED;
		if (!reason.n)
			reason = d->results[i].last.text;
	}
	if (wire_result_next(&list, &r) != 0) {
		memset(d->results, 0, d->env.n * sizeof *d->results);
		return -1;
	}
	delivery_leave_peer(d);
	d->dsn = m->dsn != 0;
	d->maybe = m->maybe_delivered != 0;
	keep_tls(d, m);
	schedule_judge(d->dest,
		       m->host_failed ? SCHEDULE_HOST_FAILED
		       : spoke        ? SCHEDULE_HOST_OK
				      : SCHEDULE_UNKNOWN,
		       reason);
	settle(d);
	return 0;
}

void outcome_lost(struct delivery *d)
{
	d->lost = true;
	d->maybe = d->last_sent; /* it had the whole body: the next hop may have said 250 */
	if (d->env.lost < UINT8_MAX)
		d->env.lost++;
	judge_all(d, WIRE_DEFERRED, 0, 3, 0, "the process that delivered it went away");
	settle(d);
}

void outcome_unreadable(struct delivery *d, const char *why)
{
	EMIT(d->q->events, SPOOL_FAULT, F_ID("id", d->e.id), F_VIEW("dest", d->e.dest), F_STR("what", "read"),
	     F_STR("status", why));
	judge_all(d, WIRE_DEFERRED, 0, 3, 0, "the message could not be read from the queue");
	settle(d);
}

void outcome_discard(struct delivery *d)
{
	uint32_t i;

	tell_discarded(d, d->env.rcpts[0].address, d->chosen_n, "configured");
	for (i = 0; i < d->env.n; i++)
		if (d->chosen[i]) {
			d->results[i].kind = WIRE_DELIVERED;
			d->results[i].told = true;
			d->env.rcpts[i].notify = 0; /* nothing was delivered: nothing is said */
		}
	settle(d);
}

void outcome_unroutable(struct delivery *d)
{
	judge_all(d, WIRE_FAILED, 550, 1, 2, "nothing says where mail for this domain goes");
	settle(d);
}

void outcome_put_off(struct queue *q, struct dest *dest, const struct spool_envelope *e)
{
	struct delivery *d = delivery_new(q, dest, e);
	uint32_t i;

	if (!d) {
		schedule_swept(dest);
		return;
	}
	d->put_off = true;
	d->chosen_n = d->env.n;
	d->maybe = d->env.maybe;
	for (i = 0; i < d->env.n; i++)
		d->chosen[i] = true;
	judge_all(d, WIRE_DEFERRED, 0, 4, 1, "its destination does not answer");
	for (i = 0; i < d->env.n; i++) /* words of the remote are worth more than ours */
		if (d->env.rcpts[i].last.when)
			d->results[i].last = d->env.rcpts[i].last;
	settle(d);
}

void outcome_init(struct queue *q)
{
	loop_timer_init(&q->retry_timer, q->loop, retry, q);
}

void outcome_free(struct queue *q)
{
	struct delivery *d;

	loop_timer_stop(&q->retry_timer);
	while ((d = q->retries)) {
		q->retries = d->next;
		d->next = NULL;
		delivery_end(d);
	}
}
