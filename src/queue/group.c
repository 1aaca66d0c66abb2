/* group.c - intake.h's routing: recipients to envelopes. */
#include "queue/intake.h"
#include "route/dest.h"

static bool mark(struct buf *dest, uint32_t flags)
{
	return route_dest_mark(dest, flags & WIRE_REQUIRETLS, flags & WIRE_RELAXED);
}

static void schedule_of(struct queue *q, const struct intake_message *m, struct spool_envelope *e)
{
	uint64_t life = m->sender.n ? q->conf->global.lifetime : q->conf->global.bounce_lifetime;

	e->due = e->created = m->now;
	e->expires = m->now + (int64_t)life;
	e->body_size = m->size;
}

static bool encode(const struct intake_message *m, struct queue_rcpt *rcpts, uint32_t n, struct buf *data)
{
	struct queue_envelope env = { .kind = m->kind,
				      .origin = m->origin,
				      .session = m->session,
				      .flags = m->flags,
				      .ret = m->ret,
				      .sender = m->sender,
				      .envid = m->envid,
				      .client = m->client,
				      .rcpts = rcpts,
				      .n = n };

	return queue_envelope_encode(data, &env);
}

static bool add_rcpt(struct intake_group *g, const struct queue_rcpt *r, struct arena *arena)
{
	struct queue_rcpt *more;
	uint32_t room;

	if (g->n == g->room) {
		room = g->room ? g->room * 2 : 1;
		if (room > QUEUE_ENVELOPE_RCPTS)
			room = QUEUE_ENVELOPE_RCPTS;
		more = arena_take(arena, room * sizeof *more);
		if (!more)
			return false;
		if (g->n)
			memcpy(more, g->rcpts, g->n * sizeof *more);
		g->rcpts = more;
		g->room = room;
	}
	g->rcpts[g->n++] = *r;
	return true;
}

/* The last group of this destination that has room, or a new one at the end. */
static struct intake_group *group_for(struct intake_group **first, struct view dest, struct arena *arena, int *n)
{
	struct intake_group **at, *g;

	for (at = first; (g = *at); at = &g->next)
		if (g->n < QUEUE_ENVELOPE_RCPTS && view_eq(g->dest, dest))
			return g;
	g = arena_take(arena, sizeof *g);
	if (!g)
		return NULL;
	g->dest = arena_copy(arena, dest);
	if (!g->dest.p)
		return NULL;
	*at = g;
	(*n)++;
	return g;
}

static bool group_all(struct queue *q, const struct intake_message *m, struct arena *arena, struct intake_group **first,
		      struct buf *dest, struct buf *address, int *n)
{
	struct intake_group *g;
	bool rewritten;
	uint32_t i;

	for (i = 0; i < m->n; i++) {
		struct queue_rcpt r = m->rcpts[i];

		buf_clear(dest);
		if (!route_dest_build(q->conf, r.address, dest, address, &rewritten) || !mark(dest, m->flags))
			return false;
		if (rewritten) {
			r.address = arena_copy(arena, buf_view(address));
			if (!r.address.p)
				return false;
		}
		g = group_for(first, buf_view(dest), arena, n);
		if (!g || !add_rcpt(g, &r, arena))
			return false;
	}
	return true;
}

int intake_group(struct queue *q, const struct intake_message *m, struct arena *arena, struct intake_group **first)
{
	struct buf dest, address, data;
	struct intake_group *g;
	int n = 0;
	bool ok;

	*first = NULL;
	buf_init(&dest, &alloc_libc, 4096);
	buf_init(&address, &alloc_libc, 4096);
	buf_init(&data, &alloc_libc, INTAKE_ARENA_MAX);
	ok = group_all(q, m, arena, first, &dest, &address, &n);
	for (g = *first; ok && g; g = g->next) {
		buf_clear(&data);
		ok = encode(m, g->rcpts, g->n, &data);
		g->e.dest = g->dest;
		g->e.data = ok ? arena_copy(arena, buf_view(&data)) : VIEW("");
		ok = ok && g->e.data.p;
		schedule_of(q, m, &g->e);
	}
	buf_free(&dest);
	buf_free(&address);
	buf_free(&data);
	return ok ? n : -1;
}

bool intake_envelope_one(struct queue *q, const struct intake_message *m, struct buf *dest, struct buf *data,
			 struct spool_envelope *e)
{
	struct queue_rcpt to = m->rcpts[0];
	struct buf address;
	bool rewritten, ok;

	buf_init(&address, &alloc_libc, 4096);
	ok = route_dest_build(q->conf, to.address, dest, &address, &rewritten) && mark(dest, m->flags);
	if (ok && rewritten)
		to.address = buf_view(&address);
	ok = ok && encode(m, &to, 1, data);
	buf_free(&address);
	*e = (struct spool_envelope){ .dest = buf_view(dest), .data = buf_view(data) };
	schedule_of(q, m, e);
	return ok;
}
