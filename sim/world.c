/* world.c - dice, the clock and the trace; see sim.h. */
#include "sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct world world;

const char *const fault_words[FAULT_END] = {
#define FAULT(id, words) [FAULT_##id] = words,
#include "sim/faults.def"
};

const struct breakage_of breakages[BREAK_END] = {
#define BREAKAGE(id, name, law) [BREAK_##id] = { name, law },
#include "sim/breakages.def"
};

/* ---- dice: splitmix64 ---- */

uint64_t rng_next(struct rng *r)
{
	uint64_t z = (r->s += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint64_t rng_below(struct rng *r, uint64_t bound)
{
	return bound ? rng_next(r) % bound : 0;
}

int64_t rng_span(struct rng *r, int64_t least, int64_t most)
{
	return least + (int64_t)rng_below(r, (uint64_t)(most - least + 1));
}

bool rng_chance(struct rng *r, unsigned permille)
{
	return rng_below(r, 1000) < permille;
}

/* ---- the trace ---- */

void world_hash(const void *p, size_t n)
{
	const unsigned char *c = p;
	uint64_t h = world.hash;

	for (size_t i = 0; i < n; i++)
		h = (h ^ c[i]) * 0x100000001b3u; /* FNV-1a */
	world.hash = h;
}

void say(const char *fmt, ...)
{
	char line[2048];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof line - 1)
		n = (int)sizeof line - 1;
	world_hash(&world.now, sizeof world.now);
	world_hash(line, (size_t)n);
	if (world.trace)
		printf("%8lld.%03lld %s\n", (long long)(world.now / 1000), (long long)(world.now % 1000), line);
}

void world_fault(enum fault f)
{
	world.faults_n[f]++;
}

void law_broken(const char *law, const char *fmt, ...)
{
	char words[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(words, sizeof words, fmt, ap);
	va_end(ap);
	say("LAW %s: %s", law, words);
	/* in a negative control only the law that it is for counts: the world is allowed to be as bad as it likes */
	if (!world.failure[0] && (!world.broken || strcmp(breakages[world.broken].law, law) == 0))
		snprintf(world.failure, sizeof world.failure, "%s: %s", law, words);
}

/* ---- what happens when ---- */

static bool earlier(const struct happening *a, const struct happening *b)
{
	return a->at < b->at || (a->at == b->at && a->seq < b->seq);
}

static void put(size_t i, struct happening *h)
{
	world.heap[i] = h;
	h->place = i + 1;
}

static void up(size_t i, struct happening *h)
{
	for (; i > 0 && earlier(h, world.heap[(i - 1) / 2]); i = (i - 1) / 2)
		put(i, world.heap[(i - 1) / 2]);
	put(i, h);
}

static void down(size_t i, struct happening *h)
{
	size_t child;

	for (; (child = 2 * i + 1) < world.heap_n; i = child) {
		if (child + 1 < world.heap_n && earlier(world.heap[child + 1], world.heap[child]))
			child++;
		if (!earlier(world.heap[child], h))
			break;
		put(i, world.heap[child]);
	}
	put(i, h);
}

void happen_never(struct happening *h)
{
	size_t i = h->place;
	struct happening *last;

	if (!i)
		return;
	h->place = 0;
	last = world.heap[--world.heap_n];
	if (last == h)
		return;
	up(i - 1, last);
	down(last->place - 1, last);
}

void happen_at(struct happening *h, int64_t at, void (*run)(void *arg), void *arg)
{
	happen_never(h);
	h->at = at < world.now ? world.now : at;
	h->seq = ++world.seq;
	h->run = run;
	h->arg = arg;
	if (world.heap_n == world.heap_cap) {
		world.heap_cap = world.heap_cap ? world.heap_cap * 2 : 256;
		world.heap = realloc(world.heap, world.heap_cap * sizeof *world.heap);
		if (!world.heap)
			abort();
	}
	world.heap_n++;
	up(world.heap_n - 1, h);
}

void happen_in(struct happening *h, int64_t ms, void (*run)(void *arg), void *arg)
{
	happen_at(h, world.now + ms, run, arg);
}

struct once { struct happening h; void (*run)(void *arg); void *arg; };

static void run_once(void *arg)
{
	struct once *o = arg;

	o->run(o->arg);
	free(o);
}

void happen_once(int64_t ms, void (*run)(void *arg), void *arg)
{
	struct once *o = calloc(1, sizeof *o);

	if (!o)
		abort();
	o->run = run;
	o->arg = arg;
	happen_in(&o->h, ms, run_once, o);
}

/* ---- the clock ---- */

static void settle(void)
{
	for (unsigned i = 0; i < world.nodes_n; i++) {
		world.turns++;
		world.running = world.nodes[i];
		if (!loop_settle(world.nodes[i]->loop)) {
			law_broken("no loop spins", "%s works for ever at one moment", world.nodes[i]->name);
			return;
		}
	}
}

void world_run_until(int64_t until)
{
	while (!world.failure[0]) {
		int64_t next = world.heap_n ? world.heap[0]->at : INT64_MAX;

		settle();
		if (world.heap_n && world.heap[0]->at < next)
			next = world.heap[0]->at;
		for (unsigned i = 0; i < world.nodes_n; i++) {
			int64_t at = loop_wakes_at(world.nodes[i]->loop);
			if (at >= 0 && at < next)
				next = at;
		}
		if (next > until)
			break;
		if (next > world.now)
			world.now = next;
		while (world.heap_n && world.heap[0]->at <= world.now) {
			struct happening *h = world.heap[0];
			happen_never(h);
			h->run(h->arg);
		}
	}
	if (world.now < until && !world.failure[0])
		world.now = until;
}
