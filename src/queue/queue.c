/* queue.c - the role: opens the spool, opens the gates, turns the crank, closes in order.  See queue.h. */
#include "queue/queue.h"
#include "queue/control.h"
#include "queue/deliver.h"
#include "queue/intake.h"
#include "queue/outcome.h"
#include "queue/schedule.h"

#include <stdlib.h>
#include <unistd.h>

#define DRAIN_LINGER \
	200 /* ms: receive may still submit what it has while channels are open and nothing is on its way */

/* ---- the crank ---- */

/* Damage that is met while running heals at a start: so we end, and super starts us anew.  In one process with all
 * others (--single) that is the operator's. */
static void look_for_damage(struct queue *q)
{
	if (q->damage_told || !spool_damaged(q->spool))
		return;
	q->damage_told = true;
	EMIT(q->events, SPOOL_FAULT, F_STR("what", "index"), F_STR("status", "damaged"));
	if (!q->role->single)
		loop_stop(q->role->loop);
}

static void pump(void *arg)
{
	struct queue *q = arg;

	if (!q->spool || q->stopping)
		return;
	if (q->late_set)
		loop_timer_stop(&q->late);
	q->late_set = false;
	spool_kick(q->spool);
	if (q->stepped)
		while (spool_step(q->spool))
			;
	spool_dispatch(q->spool);
	intake_tell_pressure(q);
	look_for_damage(q);
}

static void woken(void *arg)
{
	struct queue *q = arg;

	if (!q->spool || q->stopping)
		return;
	spool_dispatch(q->spool);
	intake_tell_pressure(q); /* a completion that asks for more asks for the pump too */
	look_for_damage(q);
}

static void look_at_space(void *arg)
{
	struct queue *q = arg;

	if (!q->spool || q->stopping)
		return;
	spool_look_at_space(q->spool);
	queue_pump_soon(q); /* stepped: the writer turns there; else its last look is told, and this one's by the next */
	if (q->pressure_told)
		loop_timer_set(&q->space, loop_now(q->loop) + QUEUE_SPACE_MS);
}

static void spool_wakes(void *arg)
{
	struct queue *q = arg;

	loop_wake(&q->wake);
}

/* Stepped: completions are dispatched by the pump itself, and whoever asked also asked for the pump. */
static void no_wake(void *arg)
{
	queue_pump_soon(arg);
}

void queue_pump_soon(struct queue *q)
{
	loop_later(q->loop, &q->pump);
}

void queue_pump_late(struct queue *q)
{
	if (q->stepped) { /* no sync to be saved, and a test turns the crank itself */
		queue_pump_soon(q);
		return;
	}
	if (!q->late_set)
		loop_timer_set(&q->late, loop_now(q->loop) + QUEUE_LATE_MS);
	q->late_set = true;
}

/* ---- the end ---- */

static bool idle(const struct queue *q)
{
	return !q->owed && !q->schedule.in_flight && !q->schedule.sweeps && !intake_has_streams(q);
}

void queue_check_drained(struct queue *q)
{
	uint64_t now = loop_now(q->loop);

	if (!q->draining || q->drained || q->stopping)
		return;
	if (now < q->drain_end) {
		if (!idle(q) || (intake_is_open(q) && now < q->drain_begin + DRAIN_LINGER))
			return;
	}
	q->drained = true;
	loop_timer_stop(&q->drain_timer);
	if (q->spool) {
		struct spool_stats st;

		spool_get_stats(q->spool, &st);
		EMIT(q->events, QUEUE_DRAINED, F_U64("messages", st.messages), F_U64("envelopes", st.envelopes));
	}
	if (q->role->drained)
		q->role->drained(q->role);
}

static void drain_tick(void *arg)
{
	struct queue *q = arg;

	queue_check_drained(q);
	if (!q->drained)
		loop_timer_set(&q->drain_timer, loop_now(q->loop) + DRAIN_LINGER);
}

static void drain(struct role *r, uint32_t grace_ms)
{
	struct queue *q = r->state;

	if (!q || q->draining)
		return;
	q->draining = true;
	q->drain_begin = loop_now(q->loop);
	q->drain_end = q->drain_begin + grace_ms;
	loop_timer_set(&q->drain_timer, q->drain_begin + DRAIN_LINGER);
}

/* Order: no peer may speak any more; then the spool finishes what it was asked for, and its completions find all they
 * refer to; then the rest. */
static void stop(struct role *r)
{
	struct queue *q = r->state;

	if (!q)
		return;
	q->stopping = q->draining = true;
	control_stop(q);
	deliver_free(q);
	intake_free(q);
	if (q->spool)
		spool_close(q->spool);
	q->spool = NULL;
	outcome_free(q);
	schedule_free(q);
	counters_free(&q->counters);
	flight_close(&q->flight);
	loop_later_cancel(q->loop, &q->pump);
	loop_timer_stop(&q->space);
	loop_timer_stop(&q->late);
	loop_timer_stop(&q->drain_timer);
	if (q->wake.impl)
		loop_wake_free(&q->wake);
	if (r->extra_fd != -1)
		close(r->extra_fd);
	r->extra_fd = -1;
	free(q);
	r->state = NULL;
}

/* ---- the beginning ---- */

struct queue *queue_make(struct role *r, struct error *e)
{
	struct queue *q = calloc(1, sizeof *q);

	if (!q) {
		error_set(e, ERROR_AGAIN, "no memory for the queue");
		return NULL;
	}
	q->role = r;
	q->conf = r->conf;
	q->env = r->env;
	q->events = r->events;
	q->loop = r->loop;
	q->pump.run = pump;
	q->pump.arg = q;
	loop_timer_init(&q->late, q->loop, pump, q);
	loop_timer_init(&q->space, q->loop, look_at_space, q);
	r->state = q;
	q->stepped = r->single;
	if (!q->stepped &&
	    loop_wake_init(&q->wake, q->loop, woken, q)) { /* before the spool: its thread wakes us at once */
		error_set(e, ERROR_AGAIN, "cannot watch for the spool's wake");
		free(q);
		r->state = NULL;
		return NULL;
	}
	loop_timer_init(&q->drain_timer, q->loop, drain_tick, q);
	schedule_init(q);
	deliver_init(q);
	outcome_init(q);
	return q;
}

void queue_spool_options(struct queue *q, struct spool_options *o)
{
	*o = (struct spool_options){ .path = q->conf->global.spool,
				     .env = q->env,
				     .threaded = !q->role->single,
				     .segment_size = q->conf->global.queue_segment_size,
				     .index = q->conf->global.queue_index, /* the words stand in the order of the enum */
				     .wake = q->stepped ? no_wake : spool_wakes,
				     .wake_arg = q };
}

int queue_begin(struct queue *q, struct spool *spool, struct error *e)
{
	q->spool = spool;
	schedule_start(q);
	if (q->role->extra_fd != -1 && control_start(q))
		return error_set(e, ERROR_AGAIN, "cannot watch the control socket");
	return 0;
}

/* The directory is opened in start: the queue's sandbox grants it, and the writer's thread must begin confined. */
static int start(struct role *r, struct error *e)
{
	struct queue *q = queue_make(r, e);
	struct spool_recovery found = { 0 };
	struct spool_options o;
	struct spool *spool;

	if (!q)
		return -1;
	queue_spool_options(q, &o);
	if (spool_open(&spool, &o, &found, e))
		return -1;
	EMIT(q->events, SPOOL_OPENED, F_U64("messages", found.messages), F_U64("envelopes", found.envelopes),
	     F_U64("replayed", found.replayed), F_U64("torn_bytes", found.torn_bytes),
	     F_U64("quarantined", found.quarantined), F_U64("segments", found.segments),
	     F_U64("rebuilt", found.rebuilt));
	flight_open(&q->flight, q->env, q->conf->global.spool);
	return queue_begin(q, spool, e);
}

/* ---- what comes in ---- */

static void channel(struct role *r, enum role_kind peer, uint32_t index, uint32_t generation, struct channel *c)
{
	struct queue *q = r->state;

	if (q && (peer == ROLE_RECEIVE || peer == ROLE_POLICY))
		intake_channel(q, peer, index, generation, c);
	else if (q && (peer == ROLE_SEND || peer == ROLE_LOCAL))
		deliver_channel(q, peer, index, generation, c);
	else
		channel_free(c);
}

static void frame(struct role *r, uint32_t type, struct view payload, int fd)
{
	struct queue *q = r->state;
	struct wire_COUNTERS counters;
	struct wire_CONTROL_DONE done;

	if (q && type == WIRE_COUNTERS && fd != -1 && !wire_read_COUNTERS(payload, &counters)) {
		if (counters_add(&q->counters, counters.role, counters.generation, fd))
			EMIT(q->events, FRAME_REFUSED, F_STR("peer", "super"), F_STR("frame", "COUNTERS"),
			     F_STR("reason", "no counters"));
		return;
	}
	if (fd != -1)
		close(fd);
	if (q && type == WIRE_CONTROL_DONE && !wire_read_CONTROL_DONE(payload, &done))
		control_super_done(q, done.stream, done.json);
	else
		EMIT(r->events, FRAME_REFUSED, F_STR("peer", "super"), F_STR("frame", wire_name(type)),
		     F_STR("reason", "unexpected"));
}

static int reload(struct role *r, const struct conf *conf, const struct handoff *files, struct error *e)
{
	struct queue *q = r->state;

	(void)e;
	r->conf = conf;
	r->files = files;
	q->conf = conf; /* nothing of the old one is kept: destinations are texts, deliveries own their arenas */
	schedule_reload(q);
	return 0;
}

static unsigned loops(const struct conf *conf)
{
	(void)conf;
	return 1;
}

const struct role_ops queue_role = {
	.kind = ROLE_QUEUE,
	.prepare = NULL,
	.start = start,
	.channel = channel,
	.frame = frame,
	.reload = reload,
	.drain = drain,
	.stop = stop,
	.loops = loops,
};
