/* stop.c - SIGTERM: what is in flight is finished, then everybody goes; all within 10 s.
 *
 * Order: receive first (no new mail; each session ends with 421 at its next safe place), then queue (it hands out nothing
 * new and waits for the outcomes that send and local still owe it), then the rest.  What has not gone at the end is
 * killed by its pid; nothing acknowledged is lost by that.
 */
#include "super/super.h"

#include <signal.h>

static void drain_kind(struct super *s, enum role_kind kind, uint32_t grace_ms)
{
	struct wire_DRAIN m = { .grace_ms = grace_ms };
	struct buf b;

	buf_init(&b, &alloc_libc, 64);
	for (struct child *c = s->children; c; c = c->next)
		if (c->kind == kind && c->link && c->stop_asked < 1 + (kind == ROLE_RECEIVE)) {
			c->stop_asked++;
			c->state = CHILD_DRAINING;
			if (wire_put_DRAIN(&b, &m))
				child_send(c, WIRE_DRAIN, &b, -1);
			buf_clear(&b);
		}
	buf_free(&b);
}

static bool any_of(struct super *s, enum role_kind kind)
{
	for (struct child *c = s->children; c; c = c->next)
		if (c->kind == kind && c->pid > 0)
			return true;
	return false;
}

static bool anybody(struct super *s)
{
	for (struct child *c = s->children; c; c = c->next)
		if (c->pid > 0)
			return true;
	return false;
}

static void kill_all(struct super *s)
{
	for (struct child *c = s->children; c; c = c->next)
		if (c->pid > 0) {
			kill(c->pid, SIGKILL);
			s->killed++;
		}
}

static void on_time(void *arg)
{
	struct super *s = arg;
	uint64_t spent = loop_now(s->loop) - s->stop_since;

	if (spent >= SUPER_STOP_ALL_MS)
		kill_all(s);
	stop_step(s);
}

void stop_step(struct super *s)
{
	uint64_t spent = loop_now(s->loop) - s->stop_since, next = SUPER_STOP_RECEIVE_MS;

	if (!anybody(s)) {
		EMIT(s->events, STOPPED, F_U64("ms", spent), F_U64("killed", s->killed));
		loop_stop(s->loop);
		return;
	}
	if (!any_of(s, ROLE_RECEIVE) || spent >= SUPER_STOP_RECEIVE_MS) {
		drain_kind(s, ROLE_QUEUE, SUPER_STOP_QUEUE_MS - SUPER_STOP_RECEIVE_MS);
		next = SUPER_STOP_QUEUE_MS;
		if (!any_of(s, ROLE_QUEUE) || spent >= SUPER_STOP_QUEUE_MS) {
			static const enum role_kind rest[] = { ROLE_SEND, ROLE_LOCAL, ROLE_WORKER, ROLE_POLICY, ROLE_RESOLVE, ROLE_KEYS };
			for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
				drain_kind(s, rest[i], 1000);
			next = SUPER_STOP_ALL_MS;
		}
	}
	if (spent >= SUPER_STOP_ALL_MS)
		next = spent + 100; /* corpses are on their way */
	loop_timer_set(&s->stop_timer, s->stop_since + next);
}

void stop_begin(struct super *s)
{
	if (s->phase == SUPER_STOPPING)
		return;
	s->phase = SUPER_STOPPING;
	s->stop_since = loop_now(s->loop);
	notify_service("STOPPING=1");
	loop_timer_init(&s->stop_timer, s->loop, on_time, s);
	for (struct child *c = s->children, *next; c; c = next) {
		next = c->next;
		if (c->pid == 0)
			child_forget(c); /* it waited for its restart */
	}
	drain_kind(s, ROLE_RECEIVE, SUPER_STOP_RECEIVE_MS - 500);
	drain_kind(s, ROLE_WEB, SUPER_STOP_RECEIVE_MS - 500); /* nobody waits for it: it has nothing that could be lost */
	stop_step(s);
}
