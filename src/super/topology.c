/* topology.c - channels between roles, from edges.def: made when both ends run, and again when one was started anew.
 *
 * Rooms with several loops (receive, send) get one channel a loop to each peer.  A new generation of `receive` talks to
 * the same queue, local and keys; a new `send` to the same queue and to the `resolve` of its own generation.
 *
 * A channel that cannot be made (no descriptor, no memory) is owed: two roles that run without it would wait for each other
 * for ever.  It is tried again until it is there, or one of the two has ended, whose successor is joined anew.
 */
#include "super/super.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned loops_of(const struct super *s, enum role_kind kind)
{
	const struct role_ops *ops = super_ops(kind);

	return ops->loops ? ops->loops(s->conf) : 1;
}

static bool tell(struct child *to, struct child *peer, uint32_t index, int fd)
{
	struct wire_CHANNEL m = { .peer = (uint8_t)peer->kind, .index = index, .generation = peer->generation };
	struct buf b;
	bool ok;

	buf_init(&b, &alloc_libc, 64);
	ok = wire_put_CHANNEL(&b, &m) && child_send(to, WIRE_CHANNEL, &b, fd);
	buf_free(&b);
	return ok;
}

/* False: not now.  An end that was handed over alone is closed with the other, and its role waits for the next. */
static bool join_one(struct child *a, struct child *b, uint32_t index)
{
	int pair[2];
	bool ok;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1)
		return false;
	ok = tell(a, b, index, pair[0]) && tell(b, a, index, pair[1]);
	close(pair[0]); /* channel_send_fd took duplicates */
	close(pair[1]);
	return ok;
}

static void on_owed(void *arg);

static void owe(struct child *a, struct child *b, uint32_t index)
{
	struct super *s = a->super;

	EMIT(s->events, FAULT, F_STR("where", "super"), F_STR("reason", "a channel between two roles could not be made; it is tried again"));
	if (s->owed_n == SUPER_OWED_MAX) { /* its successor is joined anew */
		kill(a->pid, SIGKILL);
		return;
	}
	s->owed[s->owed_n++] = (struct owed){ .a = a->pid, .b = b->pid, .index = index };
	if (!s->owed_timer.loop)
		loop_timer_init(&s->owed_timer, s->loop, on_owed, s);
	loop_timer_set(&s->owed_timer, loop_now(s->loop) + SUPER_WAITING_RETRY_MS);
}

static void join(struct child *a, struct child *b)
{
	struct super *s = a->super;
	unsigned n = loops_of(s, a->kind), other = loops_of(s, b->kind);

	if (other > n)
		n = other;
	for (unsigned i = 0; i < n; i++)
		if (!join_one(a, b, i))
			owe(a, b, i);
}

static bool runs(const struct child *c)
{
	return c->state == CHILD_RUNNING && c->link;
}

/* An old `receive` (or `web`) that waits for its last sessions still needs the others when one of them was started anew. */
static bool needs_others(const struct child *c)
{
	bool listens = c->kind == ROLE_RECEIVE || c->kind == ROLE_WEB;

	return runs(c) || (listens && c->state == CHILD_DRAINING && c->link && c->super->phase == SUPER_SERVING);
}

/* receive, send and resolve belong to their generation; send and resolve go together.  Of `local` only the newest is asked:
 * an older one would not know the folders. */
static bool belong_together(const struct child *a, const struct child *b)
{
	bool pair = (a->kind == ROLE_SEND && b->kind == ROLE_RESOLVE) || (a->kind == ROLE_RESOLVE && b->kind == ROLE_SEND);

	if ((a->kind == ROLE_LOCAL && !a->current) || (b->kind == ROLE_LOCAL && !b->current))
		return false;
	return !pair || a->generation == b->generation;
}

static bool edge_between(enum role_kind a, enum role_kind b)
{
	static const struct { enum role_kind from, to; } edges[] = {
#define EDGE(f, t, why) { ROLE_##f, ROLE_##t },
#include "wire/edges.def"
	};

	for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
		if ((edges[i].from == a && edges[i].to == b) || (edges[i].from == b && edges[i].to == a))
			return true;
	return false;
}

static bool join_worker(struct child *worker, struct child *local)
{
	struct wire_WORKER m = { .uid = (uint32_t)worker->uid };
	struct buf b;
	int pair[2];
	bool ok;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1)
		return false;
	buf_init(&b, &alloc_libc, 64);
	ok = wire_put_WORKER(&b, &m) && tell(worker, local, 0, pair[1]) && child_send(local, WIRE_WORKER, &b, pair[0]);
	buf_free(&b);
	close(pair[0]);
	close(pair[1]);
	return ok;
}

static struct child *of_pid(struct super *s, pid_t pid)
{
	for (struct child *c = s->children; c; c = c->next)
		if (c->pid == pid)
			return c;
	return NULL;
}

static void on_owed(void *arg)
{
	struct super *s = arg;
	unsigned n = s->owed_n, kept = 0;

	for (unsigned i = 0; i < n; i++) {
		const struct owed o = s->owed[i];
		struct child *a = of_pid(s, o.a), *b = of_pid(s, o.b);

		if (a && b && runs(a) && needs_others(b) && !(a->kind == ROLE_WORKER ? join_worker(a, b) : join_one(a, b, o.index)))
			s->owed[kept++] = o;
	}
	s->owed_n = kept;
	if (kept)
		loop_timer_set(&s->owed_timer, loop_now(s->loop) + SUPER_WAITING_RETRY_MS);
}

void topology_stop(struct super *s)
{
	s->owed_n = 0;
	if (s->owed_timer.loop)
		loop_timer_stop(&s->owed_timer);
}

void topology_connect(struct child *c)
{
	if (c->kind == ROLE_WORKER) {
		struct child *local = child_current(c->super, ROLE_LOCAL);

		if (local && runs(local) && !join_worker(c, local))
			owe(c, local, 0);
		return;
	}
	for (struct child *o = c->super->children; o; o = o->next)
		if (o != c && needs_others(o) && edge_between(c->kind, o->kind) && belong_together(c, o))
			join(c, o);
}

static void tell_counters(struct child *queue, struct child *of)
{
	struct wire_COUNTERS m = { .role = (uint8_t)of->kind, .generation = of->generation };
	struct buf b;

	/* the memory outlives the process: a queue that was told twice would count twice */
	if (of->counted_by == queue->pid)
		return;
	of->counted_by = queue->pid;
	buf_init(&b, &alloc_libc, 64);
	if (wire_put_COUNTERS(&b, &m))
		child_send(queue, WIRE_COUNTERS, &b, of->counters_fd);
	buf_free(&b);
}

void topology_counters(struct child *c)
{
	struct child *queue = child_current(c->super, ROLE_QUEUE);

	if (!queue || !runs(queue) || c->kind == ROLE_WORKER)
		return;
	if (c != queue) {
		tell_counters(queue, c);
		return;
	}
	for (struct child *o = c->super->children; o; o = o->next)
		if (o->counters_fd != -1 && o->kind != ROLE_WORKER)
			tell_counters(queue, o);
}

void topology_listeners(struct child *c)
{
	for (struct bound *b = c->super->bound; b; b = b->next) {
		struct wire_LISTENER m = { .listener = b->listener, .address = b->number };
		struct buf frame;
		if (!b->wanted || b->kind != c->kind)
			continue;
		buf_init(&frame, &alloc_libc, 64);
		if (!wire_put_LISTENER(&frame, &m) || !child_send(c, WIRE_LISTENER, &frame, b->fd))
			EMIT(c->super->events, FAULT, F_STR("where", "super"), F_STR("reason", "a listener could not be handed over"));
		buf_free(&frame);
	}
}
