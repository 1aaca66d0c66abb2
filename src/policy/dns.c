/* dns.c - see dns.h. */
#include "policy/dns.h"

#include <stdio.h>
#include <unistd.h>

static void answer(struct policy_dns_ask *a, const struct wire_RESOLVED *m)
{
	policy_dns_cancel(a);
	a->done(a->arg, m);
}

static void send_one(struct policy_dns_ask *a)
{
	struct wire_RESOLVE m = { .stream = a->stream, .kind = a->kind, .name = view_cstr(a->name) };

	if (a->room->resolve)
		wire_send_RESOLVE(a->room->resolve, &m);
}

static void on_impatient(void *arg)
{
	struct wire_RESOLVED m = { .status = WIRE_DNS_TEMPORARY, .reason = VIEW("resolve does not answer") };

	answer(arg, &m);
}

void policy_dns_ask(struct policy *room, struct policy_dns_ask *a, enum wire_resolve_kind kind, const char *name,
                    void (*done)(void *arg, const struct wire_RESOLVED *), void *arg)
{
	*a = (struct policy_dns_ask){ .next = room->dns, .room = room, .stream = ++room->dns_stream, .kind = (uint8_t)kind, .active = true,
		.done = done, .arg = arg };
	snprintf(a->name, sizeof a->name, "%s", name);
	room->dns = a;
	loop_timer_init(&a->patience, room->role->loop, on_impatient, a);
	loop_timer_set(&a->patience, loop_now(room->role->loop) + DNS_PATIENCE_MS);
	send_one(a);
}

void policy_dns_cancel(struct policy_dns_ask *a)
{
	struct policy_dns_ask **at = &a->room->dns;

	if (!a->active)
		return;
	while (*at != a)
		at = &(*at)->next;
	*at = a->next;
	a->active = false;
	loop_timer_stop(&a->patience);
}

static void on_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct policy *room = arg;
	struct wire_RESOLVED m;

	if (fd != -1)
		close(fd);
	if (type != WIRE_RESOLVED || wire_read_RESOLVED(payload, &m) == -1) {
		EMIT(room->role->events, FRAME_REFUSED, F_STR("peer", "resolve"), F_STR("frame", wire_name(type)), F_STR("reason", "unexpected or malformed"));
		room->resolve = NULL;
		channel_free(ch);
		return;
	}
	for (struct policy_dns_ask *a = room->dns; a; a = a->next)
		if (a->stream == m.stream) {
			answer(a, &m);
			return;
		}
}

static void on_closed(void *arg, struct channel *ch)
{
	((struct policy *)arg)->resolve = NULL; /* the next one is asked again */
	channel_free(ch);
}

void policy_dns_channel(struct policy *room, uint32_t generation, struct channel *ch)
{
	static const struct channel_handler handler = { on_frame, on_closed, NULL };

	if (room->resolve && generation < room->resolve_generation) {
		channel_free(ch);
		return;
	}
	if (room->resolve)
		channel_free(room->resolve);
	room->resolve = ch;
	room->resolve_generation = generation;
	channel_set_handler(ch, &handler, room);
	for (struct policy_dns_ask *a = room->dns; a; a = a->next)
		send_one(a);
}

void policy_dns_stop(struct policy *room)
{
	if (room->resolve)
		channel_free(room->resolve);
	room->resolve = NULL;
	while (room->dns)
		policy_dns_cancel(room->dns);
}
