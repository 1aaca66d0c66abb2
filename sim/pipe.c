/* pipe.c - channels between roles as between processes: frames take a while, and either end can die; see sim.h.
 *
 * A duct is two pairs in memory with the world between them.  Each direction keeps its order, as a stream does; frames on
 * different ducts overtake each other.  When a role dies, what it had written and had not arrived yet is lost from some
 * frame on, and the other end sees the end of file behind the rest.
 */
#include "sim/sim.h"

#include <stdlib.h>

struct held { struct held *next; uint32_t type; int64_t at; size_t n; char octets[]; };

struct way {
	struct duct *duct;
	unsigned side; /* of the writer */
	struct held *first, **last;
	struct happening h;
	int64_t free_at; /* nothing arrives before */
	bool ended;      /* the writer has gone: the reader is told behind what is held */
};

struct duct {
	struct channel *mid[2]; /* our ends, by the role that they face */
	struct way way[2];
	bool dead[2];
	const char *what;
};

static void end_reader(struct way *w)
{
	struct channel *to = w->duct->mid[1 - w->side];

	w->duct->mid[1 - w->side] = NULL;
	if (to)
		channel_free(to);
}

static void go_on(void *arg)
{
	struct way *w = arg;
	struct channel *to = w->duct->mid[1 - w->side];
	struct held *one;

	while ((one = w->first) != NULL && one->at <= world.now) {
		w->first = one->next;
		if (!w->first)
			w->last = &w->first;
		if (to && !w->duct->dead[1 - w->side])
			channel_send(to, one->type, view_of(one->octets, one->n));
		free(one);
	}
	if (w->first)
		happen_at(&w->h, w->first->at, go_on, w);
	else if (w->ended)
		end_reader(w);
}

static void on_frame(void *arg, struct channel *c, uint32_t type, struct view payload, int fd)
{
	struct way *w = arg;
	struct channel *to = w->duct->mid[1 - w->side];
	struct held *one;
	int64_t late = 0;

	(void)c;
	(void)fd;
	if (w->duct->dead[w->side]) {
		world_fault(FAULT_FRAME_LOST);
		return;
	}
	if (world.faults && rng_chance(&world.net, 60)) {
		late = rng_span(&world.net, 1, rng_chance(&world.net, 100) ? 8000 : 60);
		world_fault(FAULT_FRAME_LATE);
	}
	if (world.broken == BREAK_GARBLE && rng_chance(&world.net, 5))
		type = UINT16_MAX;
	if (!late && !w->first && w->free_at <= world.now) {
		if (to && !w->duct->dead[1 - w->side])
			channel_send(to, type, payload);
		return;
	}
	one = malloc(sizeof *one + payload.n);
	if (!one)
		abort();
	if (world.now + late > w->free_at)
		w->free_at = world.now + late;
	*one = (struct held){ .type = type, .at = w->free_at, .n = payload.n };
	if (payload.n)
		memcpy(one->octets, payload.p, payload.n);
	*w->last = one;
	w->last = &one->next;
	if (w->first == one)
		happen_at(&w->h, one->at, go_on, w);
}

static void on_closed(void *arg, struct channel *c)
{
	struct way *w = arg;

	w->duct->mid[w->side] = NULL;
	channel_free(c);
	w->ended = true;
	if (!w->first)
		happen_in(&w->h, 0, go_on, w);
}

static const struct channel_handler handler = { on_frame, on_closed, NULL };

struct duct *duct_new(struct loop *loop, struct channel *ends[2], const char *what)
{
	struct duct *d = calloc(1, sizeof *d);
	struct channel *pair[2];

	if (!d)
		abort();
	d->what = what;
	for (unsigned side = 0; side < 2; side++) {
		if (channel_pair(loop, pair) == -1)
			abort();
		ends[side] = pair[0];
		d->mid[side] = pair[1];
		d->way[side] = (struct way){ .duct = d, .side = side };
		d->way[side].last = &d->way[side].first;
		channel_set_handler(pair[1], &handler, &d->way[side]);
	}
	return d;
}

void duct_die(struct duct *d, unsigned side)
{
	struct way *w = &d->way[side];
	struct held **at = &w->first, *one;

	if (d->dead[side])
		return;
	d->dead[side] = true;
	while (*at && !rng_chance(&world.net, 300)) /* these were in the socket already */
		at = &(*at)->next;
	while ((one = *at) != NULL) {
		*at = one->next;
		free(one);
		world_fault(FAULT_FRAME_LOST);
	}
	w->last = at;
	/* its end is closed when the role is taken apart; on_closed does the rest */
}
