/* schedule.c - see schedule.h. */
#include "queue/schedule.h"
#include "queue/deliver.h"
#include "queue/outcome.h"
#include "route/dest.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void run(void *arg);

/* ---- lists ---- */

static struct dest_list_head *list_of(struct dest *d)
{
	struct schedule *s = &d->q->schedule;

	switch (d->on) {
	case DEST_ON_READY: return &s->ready;
	case DEST_ON_ASIDE: return &s->aside;
	case DEST_ON_IDLE: return &s->idle;
	case DEST_ON_NONE: break;
	}
	return NULL;
}

static void unlist(struct dest *d)
{
	struct dest_list_head *l = list_of(d);

	if (!l)
		return;
	*(d->prev ? &d->prev->next : &l->first) = d->next;
	*(d->next ? &d->next->prev : &l->last) = d->prev;
	d->prev = d->next = NULL;
	d->on = DEST_ON_NONE;
	l->n--;
}

static void enlist(struct dest *d, enum dest_list on)
{
	struct dest_list_head *l;

	unlist(d);
	d->on = on;
	l = list_of(d);
	l->n++;
	if (on == DEST_ON_ASIDE && d->by == ROUTE_BY_QUEUE) { /* they wait for nobody */
		d->next = l->first;
		*(l->first ? &l->first->prev : &l->last) = d;
		l->first = d;
		return;
	}
	d->prev = l->last;
	*(l->last ? &l->last->next : &l->first) = d;
	l->last = d;
}

static void forget(struct dest *d)
{
	assert(!d->in_flight && !d->asked && !d->swept);
	unlist(d);
	map_remove(&d->q->schedule.dests, &d->node);
	free(d);
}

static struct dest *find(const struct queue *q, struct view name)
{
	struct map_node *node;

	for (node = map_get(&q->schedule.dests, view_hash(name)); node; node = map_next(node)) {
		struct dest *d = (struct dest *)((char *)node - offsetof(struct dest, node));

		if (view_eq(dest_name(d), name))
			return d;
	}
	return NULL;
}

/* How long a failing destination is remembered after its pause: its next mail may come late. */
static bool may_forget(const struct dest *d, int64_t now)
{
	return !d->failures || now >= d->blocked_until + (int64_t)d->q->conf->global.retry_max;
}

static void forget_some(struct queue *q)
{
	struct schedule *s = &q->schedule;
	int64_t now = queue_now(q);
	unsigned tries;

	for (tries = 0; tries < 4 && s->idle.n > SCHEDULE_IDLE_MAX; tries++) {
		struct dest *d = s->idle.first;

		if (may_forget(d, now))
			forget(d);
		else
			enlist(d, DEST_ON_IDLE);
	}
}

static struct dest *find_or_make(struct queue *q, struct view name)
{
	struct dest *d = find(q, name);

	if (d)
		return d;
	forget_some(q);
	d = calloc(1, sizeof *d + name.n + 1);
	if (!d)
		return NULL;
	d->q = q;
	d->on = DEST_ON_NONE;
	d->n = name.n;
	memcpy(d->name, name.p, name.n);
	d->by = route_dest_role(name);
	d->window = d->by == ROUTE_BY_QUEUE ? SCHEDULE_OWN_WINDOW : SCHEDULE_WINDOW_FIRST;
	if (d->window > q->conf->global.destination_window && d->by != ROUTE_BY_QUEUE)
		d->window = q->conf->global.destination_window ? (uint32_t)q->conf->global.destination_window : 1;
	if (!map_put(&q->schedule.dests, &d->node, view_hash(name))) {
		free(d);
		return NULL;
	}
	return d;
}

/* ---- may it go? ---- */

static bool blocked(const struct dest *d)
{
	return d->blocked_until && queue_now(d->q) < d->blocked_until;
}

static bool has_peer(const struct dest *d)
{
	return d->by == ROUTE_BY_QUEUE || deliver_pick_peer(d->q, d->by == ROUTE_BY_LOCAL ? ROLE_LOCAL : ROLE_SEND);
}

static uint32_t cap_left(const struct queue *q)
{
	uint64_t cap = q->conf->global.deliveries ? q->conf->global.deliveries : 1;

	return q->schedule.in_flight < cap ? (uint32_t)(cap - q->schedule.in_flight) : 0;
}

static void take_places(struct dest *d, uint32_t n)
{
	d->in_flight += n;
	if (d->by != ROUTE_BY_QUEUE)
		d->q->schedule.in_flight += n;
}

static void give_places(struct dest *d, uint32_t n)
{
	assert(d->in_flight >= n);
	d->in_flight -= n;
	if (d->by != ROUTE_BY_QUEUE) {
		assert(d->q->schedule.in_flight >= n);
		d->q->schedule.in_flight -= n;
	}
}

static void run_soon(struct queue *q)
{
	if (!q->draining && !q->stopping)
		loop_later(q->loop, &q->schedule.run);
}

/* Puts d where it belongs after anything changed. */
static void place(struct dest *d)
{
	if (d->asked || d->swept || (d->in_flight && !d->more)) {
		unlist(d); /* whoever ends that comes by here */
	} else if (d->more) {
		enum dest_list on = blocked(d) || d->by == ROUTE_BY_QUEUE ? DEST_ON_ASIDE : DEST_ON_READY;

		if (d->on != on)
			enlist(d, on);
		run_soon(d->q);
	} else if (d->on != DEST_ON_IDLE) {
		enlist(d, DEST_ON_IDLE);
		forget_some(d->q);
	}
}

struct dest *schedule_reserve(struct queue *q, struct view name)
{
	struct dest *d;

	if (q->draining)
		return NULL;
	d = find_or_make(q, name);
	if (!d)
		return NULL;
	if (d->more || d->asked || blocked(d) || d->failures || d->in_flight >= d->window ||
	    (d->by != ROUTE_BY_QUEUE && !cap_left(q)) || !has_peer(d)) {
		place(d);
		return NULL;
	}
	take_places(d, 1);
	unlist(d);
	return d;
}

#define PAUSE_LEAST 1000  /* ms: the pause may just have ended */
#define SPREAD_MOST 60000 /* ms; the destination's answer makes all due anyway */

int64_t schedule_after_pause(struct queue *q, const struct dest *d)
{
	int64_t now = queue_now(q), wait = d->blocked_until - now, spread;

	if (wait < PAUSE_LEAST)
		wait = PAUSE_LEAST;
	spread = wait / 4 < SPREAD_MOST ? wait / 4 : SPREAD_MOST;
	return now + wait + (int64_t)env_random_below(q->env, (uint64_t)spread + 1);
}

int64_t schedule_first_due(struct queue *q, struct view name, int64_t now)
{
	const struct dest *d = find(q, name);

	return d && blocked(d) ? schedule_after_pause(q, d) : now;
}

void schedule_arrived(struct queue *q, struct view name)
{
	struct dest *d = find_or_make(q, name);

	if (!d) { /* no memory now: the timer asks the spool again */
		schedule_note_due(q, queue_now(q) + 1000);
		return;
	}
	d->arrivals++;
	d->more = true;
	place(d);
}

void schedule_returned(struct dest *d)
{
	d->arrivals++;
	d->more = true;
}

/* ---- leasing ---- */

static void end_sweep(struct dest *d)
{
	d->sweeping = false;
	d->q->schedule.sweeps--;
}

static void leased(void *arg, enum spool_status status, const struct spool_envelope *e, size_t n)
{
	struct dest *d = arg;
	struct queue *q = d->q;
	uint32_t asked = d->asked;
	bool sweeping = d->sweeping;
	size_t i;

	assert(asked && n <= asked);
	d->asked = 0;
	if (status != SPOOL_OK) {
		EMIT(q->events, SPOOL_FAULT, F_VIEW("dest", dest_name(d)), F_STR("what", "lease"),
		     F_STR("status", spool_status_name(status)));
		d->more = false;
		schedule_note_due(q, queue_now(q) + 1000);
		n = 0;
	} else if (n < asked && d->arrivals == d->arrivals_then)
		d->more = false; /* the spool has no more, and nothing came since it was asked */
	/* each takes one of the reserved places along, and gives it back by schedule_done or schedule_swept */
	if (sweeping) {
		d->swept = (uint32_t)n;
		if (!n)
			end_sweep(d);
	} else
		give_places(d, asked - (uint32_t)n);
	for (i = 0; i < n; i++) {
		if (q->stopping)
			sweeping ? schedule_swept(d) : schedule_done(d);
		else if (sweeping)
			outcome_put_off(q, d, &e[i]);
		else
			deliver_start(q, d, &e[i], NULL);
	}
	place(d);
	run_soon(q);
	queue_pump_soon(q);
	queue_check_drained(q);
}

static void lease(struct dest *d, uint32_t want)
{
	unlist(d);
	d->asked = want;
	d->arrivals_then = d->arrivals;
	spool_lease(d->q->spool, dest_name(d), queue_now(d->q), want, leased, d);
	queue_pump_soon(d->q);
}

/* How many deliveries may begin for d now. */
static uint32_t places(const struct dest *d)
{
	uint32_t want, left = cap_left(d->q);

	if (d->in_flight >= d->window || !has_peer(d))
		return 0;
	if (d->failures) /* the pause is over: one message probes it */
		return !d->in_flight && left;
	want = d->window - d->in_flight;
	if (want > SCHEDULE_LEASE_MAX)
		want = SCHEDULE_LEASE_MAX;
	return d->by == ROUTE_BY_QUEUE || want < left ? want : left;
}

static void run(void *arg)
{
	struct queue *q = arg;
	struct schedule *s = &q->schedule;
	struct dest *d;
	uint32_t want;
	size_t n;

	if (q->draining)
		return;
	/* with the cap reached the others keep their place in the line: whose turn it is must not change */
	while ((d = s->ready.first) && cap_left(q)) {
		unlist(d);
		if (blocked(d)) {
			place(d);
			continue;
		}
		/* one that is full or has no peer is dropped: who frees a place or brings a peer puts it back */
		want = places(d);
		if (!want)
			continue;
		take_places(d, want);
		lease(d, want);
	}
	for (n = s->aside.n; n && (d = s->aside.first); n--) {
		unlist(d);
		if (d->by == ROUTE_BY_QUEUE) {
			want = places(d);
			take_places(d, want);
			if (want)
				lease(d, want);
		} else if (!blocked(d)) {
			place(d);
		} else if (s->sweeps >= SCHEDULE_SWEEPS) {
			enlist(d, DEST_ON_ASIDE);
			break; /* those of the queue itself stand before it */
		} else {
			d->sweeping = true;
			s->sweeps++;
			lease(d, SCHEDULE_SWEEP_BATCH);
		}
	}
}

/* ---- the judgement of hosts ---- */

int64_t schedule_pause(struct queue *q, uint32_t n)
{
	uint64_t pause = q->conf->global.retry_min ? q->conf->global.retry_min : 1000, max = q->conf->global.retry_max;

	if (max < pause)
		max = pause;
	for (; n > 1 && pause < max; n--)
		pause *= 2;
	if (pause > max)
		pause = max;
	/* three quarters to five quarters: what failed together shall not come back together */
	return (int64_t)(pause - pause / 4 + env_random_below(q->env, pause / 2 + 1));
}

static void flushed(void *arg, enum spool_status status, spool_id n)
{
	struct queue *q = arg;

	(void)n;
	q->owed--;
	if (status != SPOOL_OK)
		EMIT(q->events, SPOOL_FAULT, F_STR("what", "flush"), F_STR("status", spool_status_name(status)));
	else
		schedule_note_due(q, queue_now(q));
	queue_check_drained(q);
}

static void host_ok(struct dest *d)
{
	struct queue *q = d->q;
	uint64_t most = q->conf->global.destination_window;

	if (d->failures) {
		EMIT(q->events, DEST_BACK, F_VIEW("dest", dest_name(d)), F_U64("failures", d->failures));
		d->failures = 0;
		d->blocked_until = 0;
		q->owed++;
		spool_flush(q->spool, 0, dest_name(d), queue_now(q), flushed, q);
		queue_pump_soon(q);
	}
	if (d->window < most)
		d->window++;
}

static void host_failed(struct dest *d, struct view reason)
{
	struct queue *q = d->q;
	int64_t now = queue_now(q), pause;

	d->window = d->window > 1 ? d->window / 2 : 1;
	if (blocked(d))
		return; /* attempts that began together are one failure */
	if (d->failures < UINT32_MAX)
		d->failures++;
	pause = schedule_pause(q, d->failures);
	d->blocked_until = now + pause;
	EMIT(q->events, DEST_FAILED, F_VIEW("dest", dest_name(d)), F_U64("failures", d->failures),
	     F_I64("pause", pause), F_VIEW("reason", reason));
}

void schedule_judge(struct dest *d, enum schedule_verdict verdict, struct view reason)
{
	if (d->by == ROUTE_BY_QUEUE)
		return;
	if (verdict == SCHEDULE_HOST_OK)
		host_ok(d);
	else if (verdict == SCHEDULE_HOST_FAILED)
		host_failed(d, reason);
}

void schedule_done(struct dest *d)
{
	struct queue *q = d->q;

	give_places(d, 1);
	place(d);
	if (q->schedule.ready.first)
		run_soon(q); /* the cap may have held others back */
	queue_check_drained(q);
}

void schedule_swept(struct dest *d)
{
	assert(d->swept);
	if (--d->swept)
		return;
	end_sweep(d);
	place(d);
	run_soon(d->q);
	queue_check_drained(d->q);
}

const struct dest *schedule_find(const struct queue *q, struct view name)
{
	return find(q, name);
}

struct visitor {
	void (*visit)(void *arg, const struct dest *);
	void *arg;
};

static void visit_busy(void *arg, struct map_node *node)
{
	const struct visitor *v = arg;
	const struct dest *d = (const struct dest *)((const char *)node - offsetof(struct dest, node));

	if (d->in_flight || d->failures)
		v->visit(v->arg, d);
}

void schedule_each_busy(const struct queue *q, void (*visit)(void *arg, const struct dest *), void *arg)
{
	struct visitor v = { visit, arg };

	map_each(&q->schedule.dests, visit_busy, &v);
}

static void unblock(void *arg, struct map_node *node)
{
	(void)arg;
	struct dest *d = (struct dest *)((char *)node - offsetof(struct dest, node));

	d->blocked_until = 0;
	d->failures = 0;
}

void schedule_unblock(struct queue *q, struct view name)
{
	struct dest *d;

	if (!name.n)
		map_each(&q->schedule.dests, unblock, NULL);
	else if ((d = find(q, name)))
		unblock(NULL, &d->node);
	run_soon(q);
}

void schedule_reload(struct queue *q)
{
	schedule_unblock(q, VIEW(""));
	schedule_note_due(q, queue_now(q));
}

static void wake_one(void *arg, struct map_node *node)
{
	struct dest *d = (struct dest *)((char *)node - offsetof(struct dest, node));

	(void)arg;
	if (d->more) /* the others have nothing to wake for; and none may be forgotten in the walk */
		place(d);
}

void schedule_wake(struct queue *q)
{
	map_each(&q->schedule.dests, wake_one, NULL);
	run_soon(q);
}

/* ---- beginning and end ---- */

void schedule_init(struct queue *q)
{
	q->schedule.run.run = run;
	q->schedule.run.arg = q;
	schedule_init_due(q);
}

void schedule_free(struct queue *q)
{
	struct schedule *s = &q->schedule;
	struct map_node *node;

	loop_timer_stop(&s->timer);
	loop_later_cancel(q->loop, &s->run);
	while ((node = map_any(&s->dests))) {
		map_remove(&s->dests, node);
		free((char *)node - offsetof(struct dest, node));
	}
	map_free(&s->dests);
}
