/* deliver.c - see deliver.h. */
#include "queue/deliver.h"
#include "queue/bounce.h"
#include "queue/control.h"
#include "queue/outcome.h"
#include "queue/schedule.h"
#include "route/dest.h"

#include <assert.h>
#include <stdlib.h>

/* ---- a delivery's life ---- */

static bool decode(struct delivery *d, const struct spool_envelope *e, int *status)
{
	struct view dest = arena_copy(&d->arena, e->dest), data = arena_copy(&d->arena, e->data);

	*status = -2;
	if (!dest.p || !data.p)
		return false;
	d->e = *e;
	d->e.dest = dest;
	d->e.data = data;
	d->route = dest;
	*status = queue_envelope_decode(data, &d->env, &d->arena);
	if (*status)
		return false;
	*status = -2;
	d->chosen = arena_take(&d->arena, d->env.n * sizeof *d->chosen);
	d->results = arena_take(&d->arena, d->env.n * sizeof *d->results);
	return d->chosen && d->results;
}

static void held(void *arg, enum spool_status status, spool_id n)
{
	struct queue *q = arg;

	(void)status;
	(void)n;
	q->owed--;
	queue_check_drained(q);
}

struct delivery *delivery_new(struct queue *q, struct dest *dest, const struct spool_envelope *e)
{
	struct delivery *d = calloc(1, sizeof *d);
	int status = -2;

	if (d) {
		d->q = q;
		d->dest = dest;
		d->stage = DELIVERY_SETTLING;
		arena_init(&d->arena, &alloc_libc, DELIVER_ARENA_MAX);
		if (decode(d, e, &status))
			return d;
		arena_free(&d->arena);
		free(d);
	}
	EMIT(q->events, SPOOL_FAULT, F_ID("id", e->id), F_VIEW("dest", e->dest), F_STR("what", "envelope"),
	     F_STR("status", status == -1 ? "malformed, put on hold" : "memory"));
	if (status == -1) { /* never guessed at: the operator decides */
		q->owed++;
		spool_hold(q->spool, e->id, e->dest, true, held, q);
	} else
		schedule_note_due(q, queue_now(q) + 1000);
	spool_unlease(q->spool, e->id, e->slot);
	queue_pump_soon(q);
	return NULL;
}

void delivery_leave_peer(struct delivery *d)
{
	struct peer *p = d->peer;

	if (!p)
		return;
	*(d->prev ? &d->prev->next : &p->first) = d->next;
	if (d->next)
		d->next->prev = d->prev;
	d->prev = d->next = NULL;
	p->count--;
	d->peer = NULL;
	map_remove(&d->q->deliveries, &d->node);
}

static void release(struct delivery *d)
{
	queue_bytes_unref(d->bytes);
	arena_free(&d->arena);
	free(d);
}

void delivery_end(struct delivery *d)
{
	struct dest *dest = d->dest;
	bool put_off = d->put_off;

	delivery_leave_peer(d);
	bounce_free(d);
	if (!d->q->stopping) /* what is under way now is not known to have failed: the next life says so */
		flight_clear(&d->q->flight, d->mark);
	if (d->reading)
		d->over = true;
	else
		release(d);
	if (put_off)
		schedule_swept(dest);
	else
		schedule_done(dest);
}

/* ---- where to, by the configuration of now ---- */

/* The text of the envelope's destination may be older than the configuration.  The first recipient decides; those that
 * now go elsewhere stay queued and follow at once. */
static bool choose(struct delivery *d)
{
	struct buf dest, address;
	bool ok = true, rewritten;
	uint32_t i;

	buf_init(&dest, &alloc_libc, 4096);
	buf_init(&address, &alloc_libc, 4096);
	for (i = 0; ok && i < d->env.n; i++) {
		buf_clear(&dest);
		ok = route_dest_build(d->q->conf, d->env.rcpts[i].address, &dest, &address, &rewritten) &&
		     route_dest_mark(&dest, d->env.flags & WIRE_REQUIRETLS, d->env.flags & WIRE_RELAXED) && route_dest_raise(&dest, d->e.dest);
		if (ok && i == 0 && !view_eq(buf_view(&dest), d->route)) {
			d->route = arena_copy(&d->arena, buf_view(&dest));
			ok = d->route.p != NULL;
		}
		d->chosen[i] = ok && view_eq(buf_view(&dest), d->route);
		d->chosen_n += d->chosen[i];
	}
	buf_free(&dest);
	buf_free(&address);
	return ok;
}

/* ---- the body on its way ---- */

static void break_peer(struct peer *p)
{
	p->broken = true;
	loop_later(p->q->loop, &p->q->drop_peers);
}

static bool send_bytes(struct delivery *d, struct view v)
{
	struct wire_DELIVER_BYTES m = { .stream = d->stream };
	size_t n;

	do {
		n = v.n < WIRE_BODY_FRAME ? v.n : WIRE_BODY_FRAME;
		assert(n <= d->credit);
		m.bytes = view_slice(v, 0, n);
		m.last = d->sent + n == d->e.body_size;
		if (!wire_send_DELIVER_BYTES(d->peer->channel, &m)) {
			break_peer(d->peer);
			return false;
		}
		d->sent += n;
		d->credit -= n;
		d->last_sent = m.last;
		if (m.last)
			d->mark = flight_set(&d->q->flight, d->e.id, d->e.slot);
		v = view_slice(v, n, v.n);
	} while (v.n);
	return true;
}

static void feed(struct delivery *d);

static void body_read(void *arg, enum spool_status status, struct view bytes)
{
	struct delivery *d = arg;
	uint64_t left = d->e.body_size - d->sent;

	d->reading = false;
	if (d->over) {
		release(d);
		return;
	}
	if (d->stage != DELIVERY_RUNNING)
		return; /* the outcome came before the end of the body: a refused recipient needs none */
	if (status != SPOOL_OK || !bytes.n || bytes.n > left || bytes.n > d->credit) {
		struct wire_DELIVER_ABORT m = { .stream = d->stream };

		if (!wire_send_DELIVER_ABORT(d->peer->channel, &m))
			break_peer(d->peer);
		delivery_leave_peer(d);
		outcome_unreadable(d,
				   status == SPOOL_OK ? "the body is shorter than it was" : spool_status_name(status));
		return;
	}
	if (send_bytes(d, bytes))
		feed(d);
}

static void feed(struct delivery *d)
{
	uint64_t n = d->e.body_size - d->sent;

	if (d->last_sent || d->reading || d->stage != DELIVERY_RUNNING || d->peer->broken)
		return;
	if (!d->e.body_size) {
		send_bytes(d, VIEW(""));
		return;
	}
	if (n > d->credit)
		n = d->credit;
	if (!n)
		return;
	if (d->bytes) {
		send_bytes(d, view_of((const char *)d->bytes->p + d->sent, (size_t)n));
		return;
	}
	if (n > DELIVER_READ_MAX)
		n = DELIVER_READ_MAX;
	d->reading = true;
	spool_read(d->q->spool, d->e.id, d->sent, (size_t)n, body_read, d);
	queue_pump_soon(d->q);
}

/* ---- beginning ---- */

struct peer *deliver_pick_peer(struct queue *q, enum role_kind kind)
{
	struct peer *p, *best = NULL;

	for (p = q->peers; p; p = p->next) {
		if (p->kind != kind || p->broken)
			continue;
		if (!best || p->generation > best->generation ||
		    (p->generation == best->generation && p->count < best->count))
			best = p;
	}
	return best;
}

static bool put_rcpts(struct buf *list, const struct delivery *d)
{
	uint32_t i;

	for (i = 0; i < d->env.n; i++) {
		const struct queue_rcpt *r = &d->env.rcpts[i];
		struct wire_rcpt w = {
			.address = r->address, .orcpt_type = r->orcpt_type, .orcpt = r->orcpt, .notify = r->notify
		};

		if (d->chosen[i] && !wire_rcpt_add(list, &w))
			return false;
	}
	return true;
}

static bool send_deliver(struct delivery *d)
{
	struct wire_DELIVER m = { .stream = d->stream,
				  .id = d->e.id,
				  .dest = d->route,
				  .sender = d->env.sender,
				  .ret = d->env.ret,
				  .envid = d->env.envid,
				  .flags = d->env.flags,
				  .size = d->e.body_size,
				  .attempts = d->e.attempts };
	struct buf list;
	bool ok;

	buf_init(&list, &alloc_libc, CHANNEL_FRAME_MAX);
	ok = put_rcpts(&list, d);
	m.rcpts = buf_view(&list);
	ok = ok && wire_send_DELIVER(d->peer->channel, &m);
	buf_free(&list);
	return ok;
}

static void tell_start(struct delivery *d)
{
	if (d->env.kind == QUEUE_REPORT && !d->e.attempts)
		EMIT(d->q->events, REPORT_QUEUED, F_ID("id", d->e.id), F_ID("of", d->env.origin),
		     F_VIEW("to", d->env.rcpts[0].address), F_VIEW("dest", d->e.dest));
	if (d->env.maybe || flight_suspected(&d->q->flight, d->e.id, d->e.slot, d->e.due)) /* RFC 1047: none can know; so it is counted */
		EMIT(d->q->events, MAYBE_DUPLICATE, F_ID("id", d->e.id), F_ID("session", d->env.session),
		     F_VIEW("dest", d->e.dest), F_U64("nrcpt", d->env.n), F_U64("attempts", d->e.attempts));
}

/* No attempt can be made now: the mail is due again. */
static void give_back(struct delivery *d)
{
	spool_unlease(d->q->spool, d->e.id, d->e.slot);
	schedule_returned(d->dest);
	queue_pump_soon(d->q);
	delivery_end(d);
}

static void hand_over(struct delivery *d, struct peer *p)
{
	struct queue *q = d->q;

	d->stream = q->next_stream++;
	if (!map_put(&q->deliveries, &d->node, d->stream)) {
		give_back(d);
		return;
	}
	d->peer = p;
	d->stage = DELIVERY_RUNNING;
	d->next = p->first;
	if (d->next)
		d->next->prev = d;
	p->first = d;
	p->count++;
	d->credit = WIRE_BODY_WINDOW;
	if (!send_deliver(d)) {
		break_peer(p); /* at the end of the turn it is lost with the others of this peer */
		return;
	}
	feed(d);
}

void deliver_start(struct queue *q, struct dest *dest, const struct spool_envelope *e, struct queue_bytes *bytes)
{
	struct delivery *d = delivery_new(q, dest, e);
	enum route_dest_role by;
	struct peer *p;

	if (!d) {
		schedule_done(dest);
		return;
	}
	if (bytes && bytes->n == e->body_size)
		d->bytes = queue_bytes_ref(bytes);
	if (!choose(d)) {
		give_back(d);
		return;
	}
	tell_start(d);
	by = route_dest_role(d->route);
	if (by == ROUTE_BY_QUEUE) {
		if (view_eq(d->route, VIEW("discard")))
			outcome_discard(d);
		else
			outcome_unroutable(d);
		return;
	}
	p = deliver_pick_peer(q, by == ROUTE_BY_LOCAL ? ROLE_LOCAL : ROLE_SEND);
	if (!p)
		give_back(d);
	else
		hand_over(d, p);
}

/* ---- frames ---- */

static struct delivery *of_stream(struct peer *p, uint64_t stream)
{
	struct map_node *node = map_get(&p->q->deliveries, stream);
	struct delivery *d = node ? (struct delivery *)((char *)node - offsetof(struct delivery, node)) : NULL;

	return d && d->peer == p ? d : NULL;
}

static void take_credit(struct peer *p, struct view payload, const char **bad)
{
	struct wire_DELIVER_CREDIT m;
	struct delivery *d;

	if (wire_read_DELIVER_CREDIT(payload, &m)) {
		*bad = "malformed";
		return;
	}
	d = of_stream(p, m.stream);
	if (!d)
		return; /* it may have been aborted while the credit was under way */
	/* a peer that has decided may grant all the rest at once, to have the body out of the way */
	if (d->credit + m.bytes > d->e.body_size + WIRE_BODY_WINDOW) {
		*bad = "more credit than the message could use";
		return;
	}
	d->credit += m.bytes;
	feed(d);
}

static void take_outcome(struct peer *p, struct view payload, const char **bad)
{
	struct wire_OUTCOME m;
	struct delivery *d;

	if (wire_read_OUTCOME(payload, &m)) {
		*bad = "malformed";
		return;
	}
	d = of_stream(p, m.stream);
	if (!d)
		return; /* aborted by us meanwhile */
	if (outcome_take(d, &m))
		*bad = "results do not fit the recipients";
}

static void take_explained(struct peer *p, struct view payload, const char **bad)
{
	struct wire_EXPLAINED m;

	if (wire_read_EXPLAINED(payload, &m))
		*bad = "malformed";
	else
		control_explained(p->q, &m);
}

static void peer_frame(void *arg, struct channel *c, uint32_t type, struct view payload, int fd)
{
	struct peer *p = arg;
	const char *bad = NULL;

	(void)c;
	if (p->broken)
		return;
	if (!wire_allowed(type, p->kind, ROLE_QUEUE) || fd != -1)
		bad = "not this role's to send";
	else if (type == WIRE_DELIVER_CREDIT)
		take_credit(p, payload, &bad);
	else if (type == WIRE_OUTCOME)
		take_outcome(p, payload, &bad);
	else if (type == WIRE_EXPLAINED)
		take_explained(p, payload, &bad);
	else
		bad = "unexpected";
	if (bad) {
		EMIT(p->q->events, FRAME_REFUSED, F_STR("peer", role_name(p->kind)), F_STR("frame", wire_name(type)),
		     F_STR("reason", bad));
		wire_accuse(p->q->role, p->kind, p->generation);
		break_peer(p);
	}
}

static void drop_peer(struct peer *p)
{
	struct queue *q = p->q;
	struct peer **at = &q->peers;
	struct delivery *d;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	while ((d = p->first)) {
		EMIT(q->events, DELIVERY_LOST, F_ID("id", d->e.id), F_ID("session", d->env.session),
		     F_VIEW("dest", d->e.dest), F_STR("peer", role_name(p->kind)), F_U64("bytes", d->sent));
		delivery_leave_peer(d);
		outcome_lost(d);
	}
	channel_free(p->channel);
	free(p);
	queue_check_drained(q);
}

static void drop_broken(void *arg)
{
	struct queue *q = arg;
	struct peer *p, *next;

	for (p = q->peers; p; p = next) {
		next = p->next;
		if (p->broken)
			drop_peer(p);
	}
}

static void peer_closed(void *arg, struct channel *c)
{
	struct peer *p = arg;

	if (channel_was_broken(c))
		wire_accuse(p->q->role, p->kind, p->generation);
	break_peer(p); /* later: we may be inside one of its sends */
}

static void peer_turn(void *arg, struct channel *c)
{
	struct peer *p = arg;

	(void)c;
	queue_pump_soon(p->q);
}

void deliver_channel(struct queue *q, enum role_kind kind, uint32_t index, uint32_t generation, struct channel *c)
{
	static const struct channel_handler handler = { peer_frame, peer_closed, peer_turn };
	struct peer *p = calloc(1, sizeof *p);

	if (!p) {
		channel_free(c);
		return;
	}
	p->q = q;
	p->kind = kind;
	p->index = index;
	p->generation = generation;
	p->channel = c;
	p->next = q->peers;
	q->peers = p;
	channel_set_handler(c, &handler, p);
	schedule_wake(q);
}

bool deliver_is_active(const struct queue *q, uint64_t id, uint32_t slot)
{
	const struct peer *p;
	const struct delivery *d;

	for (p = q->peers; p; p = p->next)
		for (d = p->first; d; d = d->next)
			if (d->e.id == id && d->e.slot == slot)
				return true;
	return false;
}

void deliver_init(struct queue *q)
{
	q->next_stream = 1;
	q->drop_peers.run = drop_broken;
	q->drop_peers.arg = q;
}

/* At the end: what was in flight is due again when the spool opens next. */
void deliver_free(struct queue *q)
{
	struct peer *p;
	struct delivery *d;

	loop_later_cancel(q->loop, &q->drop_peers);
	while ((p = q->peers)) {
		q->peers = p->next;
		while ((d = p->first)) {
			delivery_leave_peer(d);
			delivery_end(d);
		}
		channel_free(p->channel);
		free(p);
	}
	map_free(&q->deliveries);
}
