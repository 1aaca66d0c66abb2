/* intake.c - see intake.h. */
#include "queue/intake.h"
#include "mail/scan.h"
#include "queue/control.h"
#include "queue/deliver.h"
#include "queue/schedule.h"

#include <assert.h>
#include <malloc.h>
#include <stdlib.h>

/* A channel of receive (or policy); outlives it while accepts are under way. */
struct intake_peer {
	struct intake_peer *next;
	struct queue *q;
	enum role_kind kind;
	uint32_t index, generation;
	struct channel *channel; /* NULL: gone */
	struct map streams;
	uint32_t accepting; /* messages whose accept is under way */
	uint32_t coming;    /* sessions there that will soon submit one */
};

/* A message that comes in. */
struct stream {
	struct map_node node;
	struct spool_body *body; /* NULL after a failure */
	uint8_t status;          /* enum wire_done_status: WIRE_DONE_OK until something failed */
	uint32_t credit;         /* octets that the peer may still send */
	uint32_t taken;          /* octets taken and not granted again */
	uint64_t size;
	struct mail_scan scan;
	struct buf small; /* the body so far, while it is small */
	bool is_small;
};

/* A submitted message, until the spool says done. */
struct accept {
	struct intake_peer *peer;
	struct queue *q;
	uint64_t stream;
	struct arena arena;
	struct intake_message m;
	struct intake_group *groups;
	struct queue_bytes *bytes;
};

/* ---- small bodies in memory ---- */

struct queue_bytes *queue_bytes_new(struct queue *q, struct view first, struct view second)
{
	size_t n = first.n + second.n;
	struct queue_bytes *b;

	if (n > QUEUE_BYTES_MAX || q->bytes_total + n > QUEUE_BYTES_TOTAL)
		return NULL;
	b = malloc(sizeof *b + n);
	if (!b)
		return NULL;
	*b = (struct queue_bytes){ .refs = 1, .q = q, .n = n };
	if (first.n)
		memcpy(b->p, first.p, first.n);
	if (second.n)
		memcpy(b->p + first.n, second.p, second.n);
	q->bytes_total += n;
	return b;
}

struct queue_bytes *queue_bytes_ref(struct queue_bytes *b)
{
	b->refs++;
	return b;
}

void queue_bytes_unref(struct queue_bytes *b)
{
	if (!b || --b->refs)
		return;
	b->q->bytes_total -= b->n;
	free(b);
}

/* ---- streams ---- */

static struct stream *stream_of(struct map_node *node)
{
	return (struct stream *)((char *)node - offsetof(struct stream, node));
}

static struct stream *find(struct intake_peer *p, uint64_t id)
{
	struct map_node *node = map_get(&p->streams, id);

	return node ? stream_of(node) : NULL;
}

static void fail(struct stream *s, enum wire_done_status status)
{
	if (s->status != WIRE_DONE_OK)
		return;
	s->status = (uint8_t)status;
	if (s->body)
		spool_body_abort(s->body);
	s->body = NULL;
	s->is_small = false;
	buf_free(&s->small);
}

static enum wire_done_status done_status(enum spool_status status)
{
	switch (status) {
	case SPOOL_OK: return WIRE_DONE_OK;
	case SPOOL_FULL: return WIRE_DONE_FULL;
	case SPOOL_SICK: return WIRE_DONE_SICK;
	case SPOOL_AGAIN:
	case SPOOL_GONE: break;
	}
	return WIRE_DONE_AGAIN;
}

static void end_stream(struct intake_peer *p, struct stream *s)
{
	map_remove(&p->streams, &s->node);
	if (s->body)
		spool_body_abort(s->body);
	buf_free(&s->small);
	free(s);
}

static const char *take_begin(struct intake_peer *p, struct view payload)
{
	struct wire_BODY_BEGIN m;
	struct stream *s;

	if (wire_read_BODY_BEGIN(payload, &m))
		return "malformed";
	if (find(p, m.stream))
		return "the stream is begun already";
	if (p->streams.count >= INTAKE_STREAMS_MAX)
		return "too many streams";
	s = calloc(1, sizeof *s);
	if (!s || !map_put(&p->streams, &s->node, m.stream)) {
		free(s);
		return "no memory for a stream"; /* nothing can be kept in mind of it: the sessions get their 451 */
	}
	s->status = WIRE_DONE_OK;
	s->credit = WIRE_BODY_WINDOW;
	s->is_small = true;
	buf_init(&s->small, &alloc_libc, QUEUE_BYTES_MAX);
	s->body = spool_body_begin(p->q->spool, m.size_hint);
	if (!s->body)
		fail(s, WIRE_DONE_AGAIN);
	return NULL;
}

static void grant(struct intake_peer *p, struct stream *s)
{
	struct wire_BODY_CREDIT m = { .stream = s->node.key, .bytes = s->taken };

	if (s->taken < INTAKE_CREDIT_STEP)
		return;
	s->credit += s->taken;
	s->taken = 0;
	wire_send_BODY_CREDIT(p->channel, &m); /* a channel that is full or closed says so itself */
}

static const char *take_bytes(struct intake_peer *p, struct view payload)
{
	struct wire_BODY_BYTES m;
	struct stream *s;
	enum spool_status status;

	if (wire_read_BODY_BYTES(payload, &m))
		return "malformed";
	s = find(p, m.stream);
	if (!s)
		return "no such stream";
	if (m.bytes.n > WIRE_BODY_FRAME)
		return "too many octets in a frame";
	if (m.bytes.n > s->credit)
		return "more octets than credit";
	s->credit -= (uint32_t)m.bytes.n;
	s->taken += (uint32_t)m.bytes.n;
	s->size += m.bytes.n;
	/* receive enforces the limit to the octet; here it bounds what a broken receive can do to the disk */
	if (s->size > p->q->conf->global.message_size_limit)
		fail(s, WIRE_DONE_FULL);
	if (s->status == WIRE_DONE_OK && m.bytes.n) {
		mail_scan_bytes(&s->scan, m.bytes);
		if (s->is_small && !buf_add(&s->small, m.bytes)) {
			s->is_small = false;
			buf_free(&s->small);
		}
		status = spool_body_write(s->body, m.bytes.p, m.bytes.n);
		if (status != SPOOL_OK)
			fail(s, done_status(status));
	}
	grant(p, s);
	return NULL;
}

static const char *take_abort(struct intake_peer *p, struct view payload)
{
	struct wire_BODY_ABORT m;
	struct stream *s;

	if (wire_read_BODY_ABORT(payload, &m))
		return "malformed";
	s = find(p, m.stream);
	if (!s)
		return "no such stream";
	end_stream(p, s);
	queue_check_drained(p->q);
	return NULL;
}

/* ---- a message is complete ---- */

static void answer(struct intake_peer *p, uint64_t stream, uint8_t status, uint64_t id, const char *reason)
{
	struct wire_BODY_DONE m = { .stream = stream, .status = status, .id = id, .reason = view_cstr(reason) };

	if (p->channel)
		wire_send_BODY_DONE(p->channel, &m);
}

static void refuse(struct intake_peer *p, const struct wire_BODY_SUBMIT *m, uint32_t nrcpt, uint64_t size,
		   uint8_t status, const char *reason)
{
	EMIT(p->q->events, NOT_ACCEPTED, F_ID("session", m->session), F_VIEW("from", m->sender), F_U64("nrcpt", nrcpt),
	     F_U64("size", size), F_VIEW("client", m->client), F_STR("reason", reason));
	answer(p, m->stream, status, 0, reason);
}

static void free_peer_if_over(struct intake_peer *p)
{
	struct queue *q = p->q;
	struct intake_peer **at = &q->intake;

	if (p->channel || p->accepting)
		return;
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	map_free(&p->streams);
	free(p);
	queue_check_drained(q);
}

/* The places that were reserved are given back, or their deliveries begin. */
static void start_groups(struct accept *a, bool ok, spool_id id)
{
	struct intake_group *g;
	uint32_t slot = 0;

	for (g = a->groups; g; g = g->next, slot++) {
		g->e.id = id;
		g->e.slot = slot;
		if (g->place && ok && !a->q->stopping)
			deliver_start(a->q, g->place, &g->e, a->bytes);
		else if (g->place)
			schedule_done(g->place);
		else if (ok && !a->q->stopping && g->e.due > a->m.now)
			schedule_note_due(a->q, g->e.due);
		else if (ok && !a->q->stopping)
			schedule_arrived(a->q, g->dest);
	}
}

static void accepted(void *arg, enum spool_status status, spool_id id)
{
	struct accept *a = arg;
	struct intake_peer *p = a->peer;
	struct queue *q = a->q;

	q->owed--;
	p->accepting--;
	if (status == SPOOL_OK) {
		/* first the answer: what follows is our business, the client waits */
		answer(p, a->stream, WIRE_DONE_OK, id, "");
		EMIT(q->events, ACCEPTED, F_ID("id", id), F_ID("session", a->m.session), F_VIEW("from", a->m.sender),
		     F_U64("nrcpt", a->m.n), F_U64("size", a->m.size), F_VIEW("client", a->m.client));
	} else {
		EMIT(q->events, NOT_ACCEPTED, F_ID("session", a->m.session), F_VIEW("from", a->m.sender),
		     F_U64("nrcpt", a->m.n), F_U64("size", a->m.size), F_VIEW("client", a->m.client),
		     F_STR("reason", spool_status_name(status)));
		answer(p, a->stream, (uint8_t)done_status(status), 0, spool_status_name(status));
	}
	start_groups(a, status == SPOOL_OK, id);
	queue_bytes_unref(a->bytes);
	arena_free(&a->arena);
	free(a);
	free_peer_if_over(p);
	queue_check_drained(q);
}

/* The recipients of the frame, copied; their number, 0 when the list is bad, -1 without memory. */
static int copy_rcpts(struct arena *arena, struct view list, struct queue_rcpt **to)
{
	struct view rest = list;
	struct wire_rcpt r;
	uint32_t n = 0, i;
	int more;

	while ((more = wire_rcpt_next(&rest, &r)) == 1 && n < INTAKE_RCPTS_MAX)
		n++;
	if (more || !n)
		return 0;
	*to = arena_take(arena, n * sizeof **to);
	if (!*to)
		return -1;
	for (i = 0; i < n && wire_rcpt_next(&list, &r) == 1; i++) {
		if (!r.address.n || r.address.n > QUEUE_ADDRESS_MAX || r.orcpt.n > QUEUE_ORCPT_MAX ||
		    r.orcpt_type.n > 64)
			return 0;
		(*to)[i] = (struct queue_rcpt){ .address = arena_copy(arena, r.address),
						.orcpt_type = arena_copy(arena, r.orcpt_type),
						.orcpt = arena_copy(arena, r.orcpt),
						.notify = r.notify };
		if (!(*to)[i].address.p || !(*to)[i].orcpt_type.p || !(*to)[i].orcpt.p)
			return -1;
	}
	return (int)n;
}

static bool copy_message(struct accept *a, const struct wire_BODY_SUBMIT *m, uint64_t size, bool relaxed)
{
	a->m.kind = QUEUE_MAIL;
	a->m.session = m->session;
	a->m.size = size;
	a->m.ret = m->ret;
	a->m.flags = (m->flags & ~(uint32_t)WIRE_RELAXED) | (relaxed ? WIRE_RELAXED : 0); /* the header's word is read here */
	a->m.now = queue_now(a->q);
	a->m.sender = arena_copy(&a->arena, m->sender);
	a->m.envid = arena_copy(&a->arena, m->envid);
	a->m.client = arena_copy(&a->arena, m->client);
	return a->m.sender.p && a->m.envid.p && a->m.client.p;
}

static void submit_to_spool(struct intake_peer *p, struct stream *s, struct accept *a, struct view prefix, uint32_t n)
{
	struct queue *q = p->q;
	struct spool_envelope *envelopes = arena_take(&a->arena, n * sizeof *envelopes);
	bool *lease = arena_take(&a->arena, n * sizeof *lease), any = false;
	struct spool_body *body = s->body;
	struct intake_group *g;
	uint32_t i = 0;

	if (!envelopes || !lease) {
		for (g = a->groups; g; g = g->next)
			g->place = NULL;
		q->owed++;
		p->accepting++;
		accepted(a, SPOOL_AGAIN, 0);
		return;
	}
	for (g = a->groups; g; g = g->next, i++) {
		g->place = schedule_reserve(q, g->dest);
		lease[i] = g->place != NULL;
		any = any || lease[i];
		if (!g->place)
			g->e.due = schedule_first_due(q, g->dest, a->m.now);
		envelopes[i] = g->e;
	}
	if (any && s->is_small)
		a->bytes = queue_bytes_new(q, prefix, buf_view(&s->small)); /* without: it is read back */
	s->body = NULL;
	q->owed++;
	p->accepting++;
	spool_accept(q->spool, body, envelopes, lease, n, accepted, a);
	queue_pump_soon(q);
}

/* The message of a stream that came whole.  NULL, or what is wrong with the frame. */
static const char *submit(struct intake_peer *p, struct stream *s, const struct wire_BODY_SUBMIT *m)
{
	struct queue *q = p->q;
	struct accept *a = calloc(1, sizeof *a);
	enum spool_status status;
	int n, groups = -1;

	if (!a) {
		refuse(p, m, 0, s->size, WIRE_DONE_AGAIN, "memory");
		return NULL;
	}
	a->peer = p;
	a->q = q;
	a->stream = m->stream;
	arena_init(&a->arena, &alloc_libc, INTAKE_ARENA_MAX);
	n = copy_rcpts(&a->arena, m->rcpts, &a->m.rcpts);
	if (!n) {
		arena_free(&a->arena);
		free(a);
		return "bad recipients";
	}
	a->m.n = n > 0 ? (uint32_t)n : 0;
	status = spool_body_prefix(s->body, m->prefix);
	if (status == SPOOL_OK && n > 0 && copy_message(a, m, s->size + m->prefix.n, s->scan.fields & MAIL_FIELD_TLS_NO))
		groups = intake_group(q, &a->m, &a->arena, &a->groups);
	if (groups < 1) {
		refuse(p, m, a->m.n, s->size, (uint8_t)(status == SPOOL_OK ? WIRE_DONE_AGAIN : done_status(status)),
		       status == SPOOL_OK ? "memory" : spool_status_name(status));
		arena_free(&a->arena);
		free(a);
		return NULL;
	}
	submit_to_spool(p, s, a, m->prefix, (uint32_t)groups);
	return NULL;
}

static const char *take_submit(struct intake_peer *p, struct view payload)
{
	struct queue *q = p->q;
	struct wire_BODY_SUBMIT m;
	struct stream *s;
	const char *bad = NULL;

	if (wire_read_BODY_SUBMIT(payload, &m))
		return "malformed";
	s = find(p, m.stream);
	if (!s)
		return "no such stream";
	if (m.sender.n > QUEUE_ADDRESS_MAX || m.envid.n > QUEUE_ORCPT_MAX || m.client.n > QUEUE_ORCPT_MAX ||
	    m.prefix.n > 4096)
		return "a text is too long";
	p->coming = m.coming;
	mail_scan_end(&s->scan);
	if (s->status != WIRE_DONE_OK) {
		refuse(p, &m, 0, s->size, s->status,
		       s->status == WIRE_DONE_FULL   ? "full"
		       : s->status == WIRE_DONE_SICK ? "sick"
						     : "again");
	} else if (s->scan.received > q->conf->global.max_hops) {
		refuse(p, &m, 0, s->size, WIRE_DONE_LOOP, "loop"); /* RFC 5321 6.3 */
	} else
		bad = submit(p, s, &m);
	end_stream(p, s);
	queue_check_drained(q);
	return bad;
}

/* ---- the channel ---- */

static void end_peer(struct intake_peer *p)
{
	struct map_node *node;
	bool many;

	if (p->channel)
		channel_free(p->channel);
	p->channel = NULL;
	many = p->streams.count > INTAKE_TRIM_STREAMS;
	while ((node = map_any(&p->streams)))
		end_stream(p, stream_of(node));
	if (many)
		malloc_trim(0);
	free_peer_if_over(p);
}

static const char *take_going(struct intake_peer *p, struct view payload)
{
	struct wire_REPORT_GOING m;

	if (wire_read_REPORT_GOING(payload, &m) == -1)
		return "malformed";
	control_reported(p->q, &m);
	return NULL;
}

static void peer_frame(void *arg, struct channel *c, uint32_t type, struct view payload, int fd)
{
	struct intake_peer *p = arg;
	const char *bad;

	(void)c;
	if (!wire_allowed(type, p->kind, ROLE_QUEUE) || fd != -1)
		bad = "not this role's to send";
	else if (type == WIRE_BODY_BYTES)
		bad = take_bytes(p, payload);
	else if (type == WIRE_BODY_BEGIN)
		bad = take_begin(p, payload);
	else if (type == WIRE_BODY_SUBMIT)
		bad = take_submit(p, payload);
	else if (type == WIRE_BODY_ABORT)
		bad = take_abort(p, payload);
	else if (type == WIRE_REPORT_GOING)
		bad = take_going(p, payload);
	else
		bad = "unexpected";
	if (!bad)
		return;
	EMIT(p->q->events, FRAME_REFUSED, F_STR("peer", role_name(p->kind)), F_STR("frame", wire_name(type)),
	     F_STR("reason", bad));
	wire_accuse(p->q->role, p->kind, p->generation);
	end_peer(p);
}

static void peer_closed(void *arg, struct channel *c)
{
	struct intake_peer *p = arg;

	if (channel_was_broken(c))
		wire_accuse(p->q->role, p->kind, p->generation);
	end_peer(p);
}

static void peer_turn(void *arg, struct channel *c)
{
	struct intake_peer *p = arg;
	uint64_t coming = 0;

	(void)c;
	for (const struct intake_peer *each = p->q->intake; each; each = each->next)
		coming += each->channel ? each->coming : 0;
	spool_expect(p->q->spool, coming < INTAKE_STREAMS_MAX ? (unsigned)coming : INTAKE_STREAMS_MAX);
	queue_pump_soon(p->q);
}

void intake_channel(struct queue *q, enum role_kind kind, uint32_t index, uint32_t generation, struct channel *c)
{
	static const struct channel_handler handler = { peer_frame, peer_closed, peer_turn };
	struct intake_peer *p = calloc(1, sizeof *p);
	struct wire_PRESSURE m = { .level = (uint8_t)q->pressure_told };

	if (!p) {
		channel_free(c);
		return;
	}
	p->q = q;
	p->kind = kind;
	p->index = index;
	p->generation = generation;
	p->channel = c;
	p->next = q->intake;
	q->intake = p;
	channel_set_handler(c, &handler, p);
	if (m.level)
		wire_send_PRESSURE(c, &m);
}

struct channel *intake_channel_of(const struct queue *q, enum role_kind kind)
{
	for (struct intake_peer *p = q->intake; p; p = p->next)
		if (p->kind == kind && p->channel)
			return p->channel;
	return NULL;
}

void intake_tell_pressure(struct queue *q)
{
	unsigned level = spool_pressure(q->spool);
	struct spool_stats st;
	struct wire_PRESSURE m;
	struct intake_peer *p;

	if (level > 100)
		level = 100;
	level -= level % 10; /* in steps, and only changes: a frame each turn would be noise */
	if (level == 100) {
		spool_get_stats(q->spool, &st);
		level = st.sick ? WIRE_PRESSURE_SICK : level;
	}
	if (level == q->pressure_told)
		return;
	q->pressure_told = level;
	if (level && level != WIRE_PRESSURE_SICK && !q->space.place)
		loop_timer_set(&q->space, loop_now(q->loop) + QUEUE_SPACE_MS);
	m.level = (uint8_t)level;
	for (p = q->intake; p; p = p->next)
		if (p->channel)
			wire_send_PRESSURE(p->channel, &m);
}

bool intake_is_open(const struct queue *q)
{
	const struct intake_peer *p;

	for (p = q->intake; p; p = p->next)
		if (p->channel && p->kind == ROLE_RECEIVE) /* policy stays, and has nothing that cannot wait */
			return true;
	return false;
}

bool intake_has_streams(const struct queue *q)
{
	const struct intake_peer *p;

	for (p = q->intake; p; p = p->next)
		if (p->streams.count || p->accepting)
			return true;
	return false;
}

void intake_free(struct queue *q)
{
	struct intake_peer *p, *next;

	for (p = q->intake; p; p = next) {
		next = p->next;
		end_peer(p);
	}
}
