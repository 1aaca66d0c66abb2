/* send.c - the role that sends: its loops, channels and the end; see send.h.
 *
 * It opens no file and holds no key; the trust bundle and credentials come as bytes.  A reload is a new generation: this
 * one finishes what it has, then goes.
 */
#include "send/send.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define SWEEP_MS 10000u

enum post_kind { POST_CHANNEL = 1, POST_DRAIN };

const struct role *send_role_of(const struct sender *s)
{
	return s->room->role;
}

void send_check_drained(struct sender *s)
{
	if (!s->draining || s->done || s->delivery_count > 0)
		return;
	s->done = true;
	if (atomic_fetch_sub(&s->room->busy, 1) == 1)
		loop_wake(&s->room->drained);
}

/* ---- frames of queue ---- */

/* A delivery that cannot even begin is decided here: the queue gets an outcome for everything it sends. */
static void refuse(struct sender *s, const struct wire_DELIVER *m, const char *words)
{
	struct wire_result r = { .kind = WIRE_DEFERRED, .code = 451, .enhanced = { 4, 3, 0 }, .text = view_cstr(words), .local = 1 };
	struct wire_OUTCOME o = { .stream = m->stream };
	struct view list = m->rcpts;
	struct wire_rcpt rcpt;
	struct buf results;

	buf_init(&results, &alloc_libc, CHANNEL_FRAME_MAX);
	while (wire_rcpt_next(&list, &rcpt) == 1)
		if (!wire_result_add(&results, &r))
			break;
	o.results = buf_view(&results);
	wire_send_OUTCOME(s->queue, &o);
	buf_free(&results);
}

static bool take_delivery(struct sender *s, struct view payload)
{
	struct wire_DELIVER m;
	struct target *t;
	struct send_delivery *d;

	if (wire_read_DELIVER(payload, &m) == -1 || send_delivery_find(s, m.stream))
		return false;
	t = send_target_get(s, m.dest);
	d = t ? send_delivery_new(s, &m) : NULL;
	if (!d) {
		refuse(s, &m, "the delivery could not be begun");
		return true;
	}
	send_target_push(t, d, false);
	send_target_run(t);
	return true;
}

static bool take_bytes(struct sender *s, struct view payload)
{
	struct wire_DELIVER_BYTES m;
	struct send_delivery *d;

	if (wire_read_DELIVER_BYTES(payload, &m) == -1)
		return false;
	d = send_delivery_find(s, m.stream);
	if (!d)
		return true; /* its outcome is on the way */
	if (d->last || !buf_add(&d->body, m.bytes))
		return false; /* more than the credit: our queue does not do that */
	d->last = m.last;
	if (d->link)
		send_link_body(d->link);
	return true;
}

static bool take_abort(struct sender *s, struct view payload)
{
	struct wire_DELIVER_ABORT m;
	struct send_delivery *d;
	struct target *t;

	if (wire_read_DELIVER_ABORT(payload, &m) == -1)
		return false;
	d = send_delivery_find(s, m.stream);
	if (!d)
		return true;
	t = d->target;
	if (d->link)
		send_link_free(d->link); /* cut in the middle: the remote never sees an end */
	else
		send_target_remove(t, d);
	send_delivery_drop(d);
	send_target_run(t); /* others may have waited for that link */
	return true;
}

static bool take_explain(struct sender *s, struct view payload)
{
	struct wire_EXPLAIN m;

	if (wire_read_EXPLAIN(payload, &m) == -1)
		return false;
	send_explain(s, &m);
	return true;
}

static void on_queue_closed(void *arg, struct channel *ch)
{
	struct sender *s = arg;

	channel_free(ch);
	if (s->queue != ch)
		return;
	s->queue = NULL;
	/* The queue starts anew and will hand everything out again: what is under way here would be a double. */
	for (size_t b = 0; b < SEND_BUCKETS; b++)
		while (s->targets[b])
			send_target_free(s->targets[b]);
}

static void on_queue_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct sender *s = arg;
	bool ok = false;

	if (fd != -1)
		close(fd);
	switch (type) {
	case WIRE_DELIVER: ok = take_delivery(s, payload); break;
	case WIRE_DELIVER_BYTES: ok = take_bytes(s, payload); break;
	case WIRE_EXPLAIN: ok = take_explain(s, payload); break;
	case WIRE_DELIVER_ABORT: ok = take_abort(s, payload); break;
	}
	if (ok)
		return;
	EMIT(send_role_of(s)->events, FAULT, F_STR("where", "send"), F_STR("reason", "a frame of queue that is none; the channel ends"));
	on_queue_closed(s, ch);
}

/* ---- frames of resolve ---- */

static void on_resolve_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct sender *s = arg;
	struct wire_RESOLVED m;

	(void)ch;
	if (fd != -1)
		close(fd);
	if (type == WIRE_RESOLVED && wire_read_RESOLVED(payload, &m) == 0)
		send_plan_answer(s, &m);
	else
		EMIT(send_role_of(s)->events, FAULT, F_STR("where", "send"), F_STR("reason", "a frame of resolve that is none"));
}

static void on_resolve_closed(void *arg, struct channel *ch)
{
	struct sender *s = arg;

	channel_free(ch);
	if (s->resolve == ch) {
		s->resolve = NULL;
		send_plan_lost(s);
	}
}

/* ---- frames of policy ---- */

static void on_policy_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct sender *s = arg;
	struct wire_STS_POLICY m;

	(void)ch;
	if (fd != -1)
		close(fd);
	if (type == WIRE_STS_POLICY && wire_read_STS_POLICY(payload, &m) == 0)
		send_plan_sts(s, &m);
	else
		EMIT(send_role_of(s)->events, FAULT, F_STR("where", "send"), F_STR("reason", "a frame of policy that is none"));
}

static void on_policy_closed(void *arg, struct channel *ch)
{
	struct sender *s = arg;

	channel_free(ch);
	if (s->policy == ch) {
		s->policy = NULL; /* its successor is asked what is open */
	}
}

static const struct channel_handler policy_handler = { on_policy_frame, on_policy_closed, NULL };
static const struct channel_handler queue_handler = { on_queue_frame, on_queue_closed, NULL };
static const struct channel_handler resolve_handler = { on_resolve_frame, on_resolve_closed, NULL };

/* ---- life ---- */

/* Mail waits at `queue` until its first connection can show the certificate that it should. */
static void hear_queue(struct sender *s)
{
	if (s->keys_known || !s->has_identities)
		channel_set_handler(s->queue, &queue_handler, s);
}

static void take_channel(struct sender *s, const struct loop_post *p)
{
	struct channel *ch;

	if (p->peer == ROLE_KEYS) {
		send_identity_keys(s, p->fd);
		s->keys_known = true;
		if (s->queue)
			hear_queue(s);
		return;
	}
	ch = p->channel ? p->channel : channel_new(s->loop, p->fd);
	if (!ch) {
		if (p->fd != -1)
			close(p->fd);
		EMIT(send_role_of(s)->events, FAULT, F_STR("where", "send"), F_STR("reason", "no memory for a channel"));
		return;
	}
	if (p->peer == ROLE_QUEUE) {
		if (s->queue)
			on_queue_closed(s, s->queue);
		s->queue = ch;
		hear_queue(s);
	} else if (p->peer == ROLE_POLICY) {
		if (s->policy)
			on_policy_closed(s, s->policy);
		s->policy = ch;
		s->policy_known = true;
		channel_set_handler(ch, &policy_handler, s);
		send_plan_policy_came(s);
	} else {
		if (s->resolve)
			on_resolve_closed(s, s->resolve);
		s->resolve = ch;
		channel_set_handler(ch, &resolve_handler, s);
	}
}

static void on_post(void *arg, const struct loop_post *p)
{
	struct sender *s = arg;

	switch ((enum post_kind)p->kind) {
	case POST_CHANNEL: take_channel(s, p); break;
	case POST_DRAIN:
		s->draining = true;
		for (size_t b = 0; b < SEND_BUCKETS; b++)
			for (struct target *t = s->targets[b]; t; t = t->next)
				send_target_leave(t);
		send_check_drained(s);
		break;
	}
}

static void on_sweep(void *arg)
{
	struct sender *s = arg;

	send_plan_overdue(s);
	send_target_sweep(s, SEND_TARGET_IDLE_MS);
	loop_timer_set(&s->sweep, loop_now(s->loop) + SWEEP_MS);
}

static unsigned idle_most(const struct send_room *room)
{
	struct rlimit r;
	rlim_t most = SEND_IDLE_MAX;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur / SEND_IDLE_PART / room->count < most)
		most = r.rlim_cur / SEND_IDLE_PART / room->count;
	return most ? (unsigned)most : 1;
}

static int make_sender(struct send_room *room, struct sender *s, unsigned index, struct error *e)
{
	const struct role *role = room->role;
	struct view trust = handoff_get(role->files, "trust", "");

	s->room = room;
	s->index = index;
	s->target_most = SEND_TARGETS_KEPT;
	s->idle_most = idle_most(room);
	s->policy_known = !role->no_policy;
	if (loop_thread_init(&s->thread, role->env, index == 0 ? role->loop : NULL, on_post, s) == -1)
		return error_set(e, ERROR_AGAIN, "no memory for a loop");
	s->loop = s->thread.loop;
	loop_log(s->loop, role->events);
	loop_timer_init(&s->sweep, s->loop, on_sweep, s);
	loop_timer_set(&s->sweep, loop_now(s->loop) + SWEEP_MS);
	s->tls = index ? tls_client_like(room->senders[0].tls, e) : tls_client_new(trust, e);
	return s->tls ? send_identity_init(s, e) : -1;
}

static void on_drained(void *arg)
{
	struct send_room *room = arg;

	if (room->draining && atomic_load(&room->busy) == 0)
		room->role->drained(room->role);
}

static int prepare(struct role *role, struct error *e)
{
	struct send_room *room = calloc(1, sizeof *room);

	if (!room)
		return error_set(e, ERROR_AGAIN, "no memory");
	role->state = room;
	room->role = role;
	room->count = role->single ? 1 : role_loops(role->conf);
	room->senders = calloc(room->count, sizeof *room->senders);
	if (!room->senders)
		return error_set(e, ERROR_AGAIN, "no memory");
	atomic_store(&room->busy, room->count);
	send_own_read(room);
	if (tls_warm_up(e) == -1)
		return -1;
	if (loop_wake_init(&room->drained, role->loop, on_drained, room) == -1)
		return error_set(e, ERROR_AGAIN, "no descriptor");
	for (unsigned i = 0; i < room->count; i++)
		if (make_sender(room, &room->senders[i], i, e) == -1)
			return -1;
	return 0;
}

static int start(struct role *role, struct error *e)
{
	struct send_room *room = role->state;

	for (unsigned i = 1; i < room->count; i++)
		if (loop_thread_run(&room->senders[i].thread, e) == -1)
			return -1;
	return 0;
}

static void post(struct role *role, struct sender *s, struct loop_post p)
{
	if (loop_thread_post(&s->thread, &p))
		return;
	EMIT(role->events, FAULT, F_STR("where", "send"), F_STR("reason", "no memory for a post"));
	abort(); /* a role without its channels is of no use: super starts it anew */
}

static void on_channel(struct role *role, enum role_kind peer, uint32_t index, uint32_t generation, struct channel *ch)
{
	struct send_room *room = role->state;
	struct loop_post p = { .kind = POST_CHANNEL, .peer = peer, .generation = generation, .fd = -1 };

	if (index >= room->count || (peer != ROLE_QUEUE && peer != ROLE_RESOLVE && peer != ROLE_POLICY && peer != ROLE_KEYS) ||
	    (peer == ROLE_KEYS && role->single)) {
		channel_free(ch);
		return;
	}
	if (index == 0 && peer != ROLE_KEYS)
		p.channel = ch;
	else
		p.fd = channel_detach_fd(ch); /* a channel belongs to one loop; that of keys is read without one */
	post(role, &room->senders[index], p);
}

static void drain(struct role *role, uint32_t grace_ms)
{
	struct send_room *room = role->state;

	(void)grace_ms; /* the queue hands out nothing new; what is under way ends by its own timeouts or by super's */
	room->draining = true;
	for (unsigned i = 0; i < room->count; i++)
		post(role, &room->senders[i], (struct loop_post){ .kind = POST_DRAIN, .fd = -1 });
}

static void free_sender(struct sender *s)
{
	if (!s->loop)
		return;
	loop_thread_stop(&s->thread);
	for (size_t b = 0; b < SEND_BUCKETS; b++)
		while (s->targets[b])
			send_target_free(s->targets[b]);
	if (s->queue)
		channel_free(s->queue);
	if (s->resolve)
		channel_free(s->resolve);
	if (s->policy)
		channel_free(s->policy);
	loop_timer_stop(&s->sweep);
	send_identity_free(s);
	tls_context_free(s->tls);
	loop_thread_free(&s->thread);
}

static void stop(struct role *role)
{
	struct send_room *room = role->state;

	if (!room)
		return;
	for (unsigned i = 0; room->senders && i < room->count; i++)
		free_sender(&room->senders[i]);
	loop_wake_free(&room->drained);
	free(room->senders);
	free(room);
	role->state = NULL;
}

const struct role_ops send_role = {
	.kind = ROLE_SEND, .prepare = prepare, .start = start, .channel = on_channel, .drain = drain, .stop = stop, .loops = role_loops,
};
