/* resolve.c - the role that asks the DNS for `send` and `policy`, through libunbound on our own loop.
 *
 * One request (RESOLVE) becomes one query (MX) or two (A and AAAA); RESOLVED answers it once.  Caching, retries, CNAMEs
 * and the choice of servers are libunbound's.  What it cannot say is temporary: a SERVFAIL defers mail, it never bounces.
 * The role holds no file: servers come from the configuration or from the bytes of resolv.conf that super handed over.
 */
#include "resolve/answer.h"
#include "resolve/trust.h"
#include "wire/role.h"
#include "wire/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unbound.h>
#include <unbound-event.h>
#include <unistd.h>

/* Requests in flight from one `send`: deliveries in flight are bounded, and each asks for one name at a time. */
#define RESOLVE_REQUESTS_MAX 20000
#define DNS_CLASS_IN 1

struct asker { /* a channel of `send` or `policy` */
	struct asker *next;
	struct resolve *room;
	struct channel *channel;
	enum role_kind kind;
	uint32_t generation;
	struct request *requests;
	unsigned count;
};

struct request {
	struct request *next, **at;
	struct asker *asker; /* NULL: it has gone, and the request is among the orphans */
	uint64_t stream;
	unsigned open;       /* queries without an answer */
	struct query { struct request *request; enum packet_type type; } queries[2];
	enum wire_resolve_kind kind;
	char name[PACKET_NAME_MAX];
	struct answer got;
	bool parked;         /* not asked yet: see trust.h */
};

struct resolve {
	struct role *role;
	struct trust trust;
	struct asker *askers;
	struct request *orphans; /* libunbound holds them still */
};

/* ---- answers ---- */

static void request_link(struct request *r, struct request **list)
{
	r->next = *list;
	r->at = list;
	if (r->next)
		r->next->at = &r->next;
	*list = r;
}

static void request_unlink(struct request *r)
{
	*r->at = r->next;
	if (r->next)
		r->next->at = r->at;
}

static void request_free(struct request *r)
{
	request_unlink(r);
	if (r->asker)
		r->asker->count--;
	answer_free(&r->got);
	free(r);
}

static void answer(struct request *r)
{
	struct wire_RESOLVED m = answer_wire(&r->got);

	m.stream = r->stream;
	if (r->asker && !wire_send_RESOLVED(r->asker->channel, &m) && channel_is_open(r->asker->channel))
		EMIT(r->asker->room->role->events, FAULT, F_STR("where", "resolve"), F_STR("reason", "an answer could not be told"));
	request_free(r);
}

static void on_answer(void *arg, int rcode, void *packet, int length, int security, char *why_bogus, int limited)
{
	struct query *q = arg;
	struct request *r = q->request;

	(void)limited;
	answer_take(&r->got, q->type, rcode, length < 0 ? view_of(NULL, 0) : view_of(packet, (size_t)length), security, why_bogus);
	if (--r->open == 0)
		answer(r);
}

/* ---- questions ---- */

static void ask(struct ub_ctx *ctx, struct request *r, struct query *q, enum packet_type type)
{
	int e;

	q->request = r;
	q->type = type;
	r->open++;
	e = ub_resolve_event(ctx, r->name, (int)type, DNS_CLASS_IN, q, on_answer, NULL);
	if (e != 0) {
		r->open--;
		answer_fail(&r->got, ub_strerror(e));
	}
}

static void start(struct request *r, struct ub_ctx *ctx)
{
	r->parked = false;
	r->open = 1; /* ours, until all queries are out: answers from the cache come at once */
	switch (r->kind) {
	case WIRE_RESOLVE_MX: ask(ctx, r, &r->queries[0], PACKET_MX); break;
	case WIRE_RESOLVE_TXT: ask(ctx, r, &r->queries[0], PACKET_TXT); break;
	case WIRE_RESOLVE_TLSA: ask(ctx, r, &r->queries[0], PACKET_TLSA); break;
	case WIRE_RESOLVE_ALIAS: ask(ctx, r, &r->queries[0], PACKET_CNAME); break;
	case WIRE_RESOLVE_ADDRESS:
		ask(ctx, r, &r->queries[0], PACKET_AAAA);
		ask(ctx, r, &r->queries[1], PACKET_A);
		break;
	}
	if (--r->open == 0)
		answer(r);
}

/* What waited for the word on DNSSEC, in any order: each is on its own. */
static void on_trust(void *arg)
{
	struct resolve *room = arg;
	struct ub_ctx *ctx = trust_context(&room->trust);

	for (struct asker *a = room->askers, *more; a; a = more) {
		more = a->next;
		for (struct request *r = a->requests, *next; r; r = next) {
			next = r->next;
			if (r->parked)
				start(r, ctx);
		}
	}
}

static bool start_request(struct asker *a, const struct wire_RESOLVE *m)
{
	struct request *r;
	struct ub_ctx *ctx = trust_context(&a->room->trust);

	if (m->kind < WIRE_RESOLVE_MX || m->kind > WIRE_RESOLVE_ALIAS)
		return false;
	r = a->count < RESOLVE_REQUESTS_MAX ? calloc(1, sizeof *r) : NULL;
	if (!r) {
		struct wire_RESOLVED busy = { .stream = m->stream, .status = WIRE_DNS_TEMPORARY, .reason = VIEW("too many questions at once") };
		wire_send_RESOLVED(a->channel, &busy); /* one that has gone meanwhile did nothing wrong */
		return true;
	}
	r->asker = a;
	r->stream = m->stream;
	r->kind = (enum wire_resolve_kind)m->kind;
	answer_init(&r->got);
	request_link(r, &a->requests);
	a->count++;
	if (!answer_name(m->name, r->name)) {
		answer_no_name(&r->got);
		answer(r);
	} else if (ctx)
		start(r, ctx);
	else
		r->parked = true;
	return true;
}

/* ---- channels ---- */

static void drop_asker(struct asker *a)
{
	struct asker **at = &a->room->askers;

	while (a->requests) { /* they end silently */
		struct request *r = a->requests;
		if (r->parked) {
			request_free(r);
			continue;
		}
		request_unlink(r);
		r->asker = NULL;
		request_link(r, &a->room->orphans);
	}
	while (*at != a)
		at = &(*at)->next;
	*at = a->next;
	channel_free(a->channel);
	free(a);
}

static void on_asker_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct asker *a = arg;
	struct wire_RESOLVE m;

	(void)ch;
	if (fd != -1)
		close(fd);
	if (type == WIRE_RESOLVE && wire_allowed(type, a->kind, ROLE_RESOLVE) && wire_read_RESOLVE(payload, &m) == 0 && start_request(a, &m))
		return;
	EMIT(a->room->role->events, FRAME_REFUSED, F_STR("peer", role_name(a->kind)), F_STR("frame", wire_name(type)),
	     F_STR("reason", "unexpected, malformed, or one request too many"));
	wire_accuse(a->room->role, a->kind, a->generation);
	drop_asker(a);
}

static void on_asker_closed(void *arg, struct channel *ch)
{
	struct asker *a = arg;

	if (channel_was_broken(ch))
		wire_accuse(a->room->role, a->kind, a->generation);
	drop_asker(a);
}

static const struct channel_handler asker_handler = { on_asker_frame, on_asker_closed, NULL };

static void on_channel(struct role *role, enum role_kind kind, uint32_t index, uint32_t generation, struct channel *ch)
{
	struct resolve *room = role->state;
	struct asker *a = kind == ROLE_SEND || kind == ROLE_POLICY ? calloc(1, sizeof *a) : NULL;

	(void)index;
	if (!a) {
		channel_free(ch);
		return;
	}
	*a = (struct asker){ .next = room->askers, .room = room, .channel = ch, .kind = kind, .generation = generation };
	room->askers = a;
	channel_set_handler(ch, &asker_handler, a);
}

/* ---- life ---- */

static int prepare(struct role *role, struct error *e)
{
	struct resolve *room = calloc(1, sizeof *room);

	if (!room)
		return error_set(e, ERROR_AGAIN, "no memory");
	room->role = role;
	role->state = room;
	return trust_init(&room->trust, role, on_trust, room, e);
}

static int serve(struct role *role, struct error *e)
{
	struct resolve *room = role->state;

	(void)e;
	trust_start(&room->trust);
	return 0;
}

static void drain(struct role *role, uint32_t grace_ms)
{
	(void)grace_ms; /* who asked is draining too, and does not need the answers */
	role->drained(role);
}

static void stop(struct role *role)
{
	struct resolve *room = role->state;

	if (!room)
		return;
	while (room->askers)
		drop_asker(room->askers);
	trust_free(&room->trust);
	while (room->orphans)
		request_free(room->orphans);
	free(room);
	role->state = NULL;
}

const struct role_ops resolve_role = {
	.kind = ROLE_RESOLVE, .prepare = prepare, .start = serve, .channel = on_channel, .drain = drain, .stop = stop,
};
