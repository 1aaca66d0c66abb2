/* company.c - when a turn of the writer begins: at once, or a moment later, with more messages (docs/decisions/004).
 *
 * A sync takes 200 us here and ends before fifty senders have filled the next batch, so most turns would carry two or three
 * messages.  The owner says how many writers are on their way (spool_expect); while more are coming than are waiting, and
 * messages have come fast lately, the turn waits for them.  So two writers never wait for each other, and fifty share a
 * turn by halves: one half is written while the other half comes.
 */
#include "spool/engine.h"

#include <time.h>

#define COMPANY_ENOUGH 64u              /* more would not make it cheaper */
#define COMPANY_WANTED 8u               /* outcomes whose places others wait for (a destination has 20) */
#define COMPANY_WINDOW_NS 250000000u    /* "lately" */
#define COMPANY_BUSY 16u                /* messages in that time: with fewer, syncs cost nobody anything */
#define COMPANY_WAIT_NS 30000000u       /* at most, whoever was expected */

static uint64_t ns_of(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
}

void company_add(struct spool *s, const struct job *j)
{
	if (j->kind == JOB_ACCEPT)
		s->company.accepts++;
	else if (j->kind != JOB_SETTLE)
		s->company.hurry = true; /* somebody looks on: an operator, a long operation that goes on */
}

bool company_here(const struct spool *s)
{
	const struct company *c = &s->company;
	size_t enough = c->expected < COMPANY_ENOUGH ? c->expected : COMPANY_ENOUGH;

	/* outcomes that nobody waits for ride with the next message */
	return s->stop || c->hurry || c->wanted >= COMPANY_WANTED || (c->accepts >= enough && c->accepts > 0);
}

/* A real clock: lanes with threads are never simulated. */
void company_await(struct spool *s, struct lane *lane)
{
	struct company *c = &s->company;
	struct timespec t;
	uint64_t now, passed;

	if (clock_gettime(CLOCK_MONOTONIC, &t) == -1)
		return;
	now = ns_of(&t);
	passed = now - c->at;
	c->lately = passed < COMPANY_WINDOW_NS ? c->lately - c->lately * passed / COMPANY_WINDOW_NS : 0;
	c->at = now;
	if (c->lately >= COMPANY_BUSY * COMPANY_UNIT && !company_here(s)) {
		now += COMPANY_WAIT_NS;
		t = (struct timespec){ .tv_sec = (time_t)(now / 1000000000u), .tv_nsec = (long)(now % 1000000000u) };
		c->waiting = true;
		while (!company_here(s) && pthread_cond_clockwait(&lane->ready, &s->lock, CLOCK_MONOTONIC, &t) == 0)
			;
		c->waiting = false;
	}
	c->lately += c->accepts * COMPANY_UNIT;
	c->accepts = 0;
	c->wanted = 0;
	c->hurry = false;
}
