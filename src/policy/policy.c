/* policy.c - the role `policy`: its channels and its life; see policy.h. */
#include "policy/policy.h"

#include <stdlib.h>
#include <unistd.h>

/* ---- send ---- */

static void peer_end(struct policy_peer *p)
{
	struct policy_peer **at = &p->room->peers;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	channel_free(p->channel);
	free(p);
}

static bool take_ask(struct policy_peer *p, struct view payload)
{
	struct wire_STS_POLICY answer = { .status = WIRE_STS_NONE, .mode = WIRE_STS_MODE_NONE };
	struct wire_STS_ASK ask;

	if (wire_read_STS_ASK(payload, &ask) == -1)
		return false;
	answer.stream = ask.stream;
	return wire_send_STS_POLICY(p->channel, &answer);
}

static bool take_result(struct policy_peer *p, struct view payload)
{
	struct wire_TLS_RESULT m;

	(void)p;
	return wire_read_TLS_RESULT(payload, &m) == 0;
}

static void on_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct policy_peer *p = arg;

	(void)ch;
	if (fd == -1 && type == WIRE_STS_ASK && take_ask(p, payload))
		return;
	if (fd == -1 && type == WIRE_TLS_RESULT && take_result(p, payload))
		return;
	if (fd != -1)
		close(fd);
	EMIT(p->room->role->events, FRAME_REFUSED, F_STR("peer", "send"), F_STR("frame", wire_name(type)), F_STR("reason", "unexpected or malformed"));
	peer_end(p);
}

static void on_closed(void *arg, struct channel *ch)
{
	(void)ch;
	peer_end(arg);
}

static const struct channel_handler send_handler = { on_frame, on_closed, NULL };

static void on_channel(struct role *role, enum role_kind kind, uint32_t index, uint32_t generation, struct channel *ch)
{
	struct policy *room = role->state;
	struct policy_peer *p = kind == ROLE_SEND ? calloc(1, sizeof *p) : NULL;

	(void)index;
	(void)generation;
	if (!p) {
		channel_free(ch);
		return;
	}
	*p = (struct policy_peer){ .next = room->peers, .room = room, .channel = ch };
	room->peers = p;
	channel_set_handler(ch, &send_handler, p);
}

/* ---- the role ---- */

static int prepare(struct role *role, struct error *e)
{
	struct policy *room = calloc(1, sizeof *room);

	if (!room)
		return error_set(e, ERROR_AGAIN, "no memory");
	room->role = role;
	role->state = room;
	return 0;
}

static int start(struct role *role, struct error *e)
{
	(void)role;
	(void)e;
	return 0;
}

static int reload(struct role *role, const struct conf *conf, const struct handoff *files, struct error *e)
{
	(void)e;
	role->conf = conf;
	role->files = files;
	return 0;
}

static void drain(struct role *role, uint32_t grace_ms)
{
	(void)grace_ms; /* whoever asked is gone by now */
	role->drained(role);
}

static void stop(struct role *role)
{
	struct policy *room = role->state;

	if (!room)
		return;
	while (room->peers)
		peer_end(room->peers);
	free(room);
	role->state = NULL;
}

const struct role_ops policy_role = {
	.kind = ROLE_POLICY, .prepare = prepare, .start = start, .channel = on_channel, .reload = reload, .drain = drain, .stop = stop,
};
