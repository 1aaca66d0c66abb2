/* policy.c - the role `policy`: its channels and its life; see policy.h. */
#include "policy/dns.h"
#include "policy/fetch.h"
#include "policy/report.h"
#include "policy/seal.h"
#include "policy/store.h"
#include "policy/sts.h"
#include "tls/tls.h"

#include <stdlib.h>
#include <unistd.h>

/* ---- send ---- */

static void peer_end(struct policy_peer *p)
{
	struct policy_peer **at = &p->room->peers;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	if (p->room->sts)
		sts_peer_gone(p);
	channel_free(p->channel);
	free(p);
}

static bool take_ask(struct policy_peer *p, struct view payload)
{
	struct wire_STS_ASK ask;

	return wire_read_STS_ASK(payload, &ask) == 0 && sts_ask(p, &ask);
}

static bool take_result(struct policy_peer *p, struct view payload)
{
	struct wire_TLS_RESULT m;

	return wire_read_TLS_RESULT(payload, &m) == 0 && report_count(p->room, &m);
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
	if (kind == ROLE_RESOLVE) {
		policy_dns_channel(room, generation, ch);
		return;
	}
	if (kind == ROLE_QUEUE) {
		report_queue_channel(room, generation, ch);
		return;
	}
	if (kind == ROLE_KEYS) {
		seal_channel(room, ch);
		return;
	}
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
	room->fetches = fetch_room_new(role->loop, e);
	return room->fetches ? tls_warm_up(e) : -1; /* what OpenSSL loads late is loaded before the walls */
}

/* Its folder or, where it cannot be had (super has said so), memory: what is kept there only saves asking again. */
static int start(struct role *role, struct error *e)
{
	struct policy *room = role->state;
	const char *folder = role->conf->global.policy_folder;
	bool anew = false;
	struct error why = { 0 };

	if (store_open(&room->store, folder, &anew, &why) == -1) {
		EMIT(role->events, POLICY_FORGETS, F_STR("reason", why.text));
		if (store_open(&room->store, NULL, &anew, e) == -1)
			return -1;
	} else if (anew)
		EMIT(role->events, POLICY_FORGETS, F_STR("reason", "the database was damaged, and is begun anew"));
	return sts_start(room, e) == -1 ? -1 : report_start(room, e);
}

static int reload(struct role *role, const struct conf *conf, const struct handoff *files, struct error *e)
{
	(void)e;
	seal_forget(role->state);
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
	sts_stop(room);
	report_stop(room);
	seal_stop(room);
	policy_dns_stop(room);
	fetch_room_free(room->fetches);
	store_close(room->store);
	free(room);
	role->state = NULL;
}

const struct role_ops policy_role = {
	.kind = ROLE_POLICY, .prepare = prepare, .start = start, .channel = on_channel, .reload = reload, .drain = drain, .stop = stop,
};
