/* target.c - one destination: its waiting deliveries, its links, and which address is tried next; see send.h. */
#include "send/send.h"

#include <stdlib.h>

static struct target **bucket(struct sender *s, struct view key)
{
	return &s->targets[view_hash(key) % SEND_BUCKETS];
}

struct target *send_target_get(struct sender *s, struct view dest)
{
	struct target **at = bucket(s, dest), *t = *at;

	while (t && !view_eq(t->key, dest))
		t = t->next;
	if (t)
		return t;
	if (s->target_count >= s->target_most) {
		send_target_sweep(s, 0);
		s->target_most = s->target_count * 2 > SEND_TARGETS_KEPT ? s->target_count * 2 : SEND_TARGETS_KEPT;
		at = bucket(s, dest);
	}
	t = dest.n < sizeof t->dest_text ? calloc(1, sizeof *t) : NULL;
	if (!t)
		return NULL;
	memcpy(t->dest_text, dest.p, dest.n);
	t->key = view_of(t->dest_text, dest.n);
	t->sender = s;
	t->state = PLAN_NONE;
	t->waiting_end = &t->waiting;
	t->used = loop_now(s->loop);
	if (route_dest_parse(t->key, &t->dest) == -1 || route_dest_role(t->key) != ROUTE_BY_SEND) {
		free(t);
		return NULL;
	}
	t->next = *at;
	*at = t;
	s->target_count++;
	return t;
}

void send_target_free(struct target *t)
{
	struct target **at = bucket(t->sender, t->key);

	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	t->sender->target_count--;
	while (t->links) {
		struct send_delivery *d = t->links->delivery;
		send_link_free(t->links);
		if (d)
			send_delivery_drop(d);
	}
	while (t->waiting)
		send_delivery_drop(send_target_pop(t));
	send_explain_done(t, "the destination was given up");
	send_plan_forget(t);
	free(t);
}

void send_target_push(struct target *t, struct send_delivery *d, bool front)
{
	d->target = t;
	d->link = NULL;
	t->waiting_n++;
	if (front) {
		d->queued = t->waiting;
		t->waiting = d;
		if (!d->queued)
			t->waiting_end = &d->queued;
	} else {
		d->queued = NULL;
		*t->waiting_end = d;
		t->waiting_end = &d->queued;
	}
	t->used = loop_now(t->sender->loop);
}

struct send_delivery *send_target_pop(struct target *t)
{
	struct send_delivery *d = t->waiting;

	if (!d)
		return NULL;
	t->waiting = d->queued;
	if (!t->waiting)
		t->waiting_end = &t->waiting;
	d->queued = NULL;
	t->waiting_n--;
	return d;
}

void send_target_remove(struct target *t, struct send_delivery *d)
{
	struct send_delivery **at = &t->waiting;

	while (*at != d)
		at = &(*at)->queued;
	*at = d->queued;
	if (!*at)
		t->waiting_end = at;
	d->queued = NULL;
	t->waiting_n--;
}

void send_target_fail_waiting(struct target *t, const struct wire_result *result, bool host_failed, const struct link *last)
{
	struct send_delivery *d;

	while ((d = send_target_pop(t)) != NULL) {
		send_delivery_decide_rest(d, result, VIEW(""));
		send_delivery_finish(d, host_failed, false, false, last);
	}
}

size_t send_target_candidate(struct target *t, size_t from)
{
	uint64_t now = loop_now(t->sender->loop);

	while (from < t->candidate_count && t->candidates[from].bad_until > now)
		from++;
	return from;
}

void send_idle_begins(struct link *l)
{
	struct sender *s = l->sender;

	l->target->idle_n++;
	s->idle_n++;
	l->idle_prev = s->idle_last;
	*(s->idle_last ? &s->idle_last->idle_next : &s->idle_first) = l;
	s->idle_last = l;
}

void send_idle_ends(struct link *l)
{
	struct sender *s = l->sender;

	l->target->idle_n--;
	s->idle_n--;
	*(l->idle_prev ? &l->idle_prev->idle_next : &s->idle_first) = l->idle_next;
	*(l->idle_next ? &l->idle_next->idle_prev : &s->idle_last) = l->idle_prev;
	l->idle_prev = l->idle_next = NULL;
}

static struct link *idle_link(struct target *t)
{
	struct link *l = t->idle_n ? t->links : NULL;

	while (l && l->state != LINK_IDLE)
		l = l->next;
	return l;
}

void send_target_run(struct target *t)
{
	struct link *l;
	size_t first;

	while (t->waiting && (l = idle_link(t)) != NULL)
		send_link_give(l, send_target_pop(t));
	if (!t->waiting || t->state == PLAN_ASKING)
		return;
	/* Links that are at work need their candidate no more, so a busy destination learns of changes in the DNS too. */
	if (t->state == PLAN_NONE || (t->plan_until <= loop_now(t->sender->loop) && t->opening_n == 0)) {
		send_plan_start(t); /* comes back here when it is done */
		return;
	}
	if (t->state == PLAN_FAILED) {
		struct wire_result failure = t->failure; /* the run may end in a new plan */
		send_target_fail_waiting(t, &failure, failure.kind == WIRE_DEFERRED, NULL);
		return;
	}
	first = send_target_candidate(t, 0);
	if (first == t->candidate_count)
		first = 0; /* all are bad: the queue's back-off decided that it is time to try again */
	while (t->opening_n < t->waiting_n && send_link_open(t, first))
		;
}

void send_target_leave(struct target *t)
{
	struct link *l;

	while ((l = idle_link(t)) != NULL)
		send_link_leave(l); /* idle no more, or gone */
}

void send_target_sweep(struct sender *s, uint64_t idle_ms)
{
	uint64_t now = loop_now(s->loop);

	for (size_t b = 0; b < SEND_BUCKETS; b++)
		for (struct target *t = s->targets[b], *next; t; t = next) {
			next = t->next;
			if (!t->links && !t->waiting && t->state != PLAN_ASKING && t->used + idle_ms <= now)
				send_target_free(t);
		}
}
