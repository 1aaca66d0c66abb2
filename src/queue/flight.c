/* flight.c - see flight.h. */
#include "queue/flight.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLIGHT_USED 0x70726900u /* in each mark, with the lives it has seen: what is not this is free */

#define FLIGHT_HEAD 0x68726966u
#define MARKS_AT ((off_t)sizeof(struct flight_head))

/* FLIGHT_USED and the next life, or 0: the place is free, or its mark was kept for long enough. */
static uint32_t one_life_more(uint32_t used)
{
	return used >= FLIGHT_USED && used - FLIGHT_USED < FLIGHT_LIVES ? used + 1 : 0;
}

static int by_id(const void *a, const void *b)
{
	const struct flight_mark *x = &((const struct flight_suspect *)a)->mark, *y = &((const struct flight_suspect *)b)->mark;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->slot < y->slot ? -1 : x->slot > y->slot;
}

static bool put(struct flight *f, uint32_t place, const struct flight_mark *m)
{
	const struct env_disk *d = &f->env->disk;

	return d->pwrite(d->arg, f->fd - 1, m, sizeof *m, MARKS_AT + (off_t)(place * sizeof *m)) == (ssize_t)sizeof *m;
}

/* Suspects and free places; false: memory. */
static bool read_places(struct flight *f)
{
	const struct env_disk *d = &f->env->disk;
	struct flight_mark *marks = calloc(FLIGHT_PLACES, sizeof *marks);
	ssize_t got;

	f->suspects = calloc(FLIGHT_PLACES, sizeof *f->suspects);
	f->free_places = malloc(FLIGHT_PLACES * sizeof *f->free_places);
	if (!marks || !f->suspects || !f->free_places) {
		free(marks);
		return false;
	}
	got = d->pread(d->arg, f->fd - 1, marks, FLIGHT_PLACES * sizeof *marks, MARKS_AT);
	if (got >= 0 && (size_t)got < FLIGHT_PLACES * sizeof *marks) /* all places are there from the start: a disk that fills up takes no mark from us */
		d->pwrite(d->arg, f->fd - 1, (char *)marks + got, FLIGHT_PLACES * sizeof *marks - (size_t)got, MARKS_AT + got);
	for (uint32_t i = FLIGHT_PLACES; i-- > 0;) { /* low places are given first */
		bool there = got > 0 && (size_t)got >= (i + 1) * sizeof *marks;
		struct flight_suspect s = { .mark = marks[i] };
		s.mark.used = there ? one_life_more(s.mark.used) : 0;
		if (s.mark.used && f->suspect_count < FLIGHT_KEPT && put(f, i, &s.mark))
			s.place = i + 1;
		else
			f->free_places[f->free_count++] = i;
		if (s.mark.used)
			f->suspects[f->suspect_count++] = s;
	}
	free(marks);
	qsort(f->suspects, f->suspect_count, sizeof *f->suspects, by_id);
	return true;
}

/* Synced, and with it the file itself: what a power cut took would tell of the life before. */
static bool put_head(struct flight *f, bool closed)
{
	const struct env_disk *d = &f->env->disk;
	struct flight_head h = { FLIGHT_HEAD, closed, env_wall_ms(f->env) - env_mono_ms(f->env), f->blind_until, 0 };

	return d->pwrite(d->arg, f->fd - 1, &h, sizeof h, 0) == (ssize_t)sizeof h && d->fsync(d->arg, f->fd - 1) == 0;
}

/* Were marks lost?  An empty file is a first start, or was removed: nothing is known, and nothing is said. */
static void read_head(struct flight *f)
{
	const struct env_disk *d = &f->env->disk;
	struct flight_head h = { 0 };
	int64_t now = env_wall_ms(f->env), began = now - env_mono_ms(f->env);
	ssize_t n = d->pread(d->arg, f->fd - 1, &h, sizeof h, 0);

	if (n == 0)
		return;
	if (n != (ssize_t)sizeof h || h.magic != FLIGHT_HEAD)
		h = (struct flight_head){ 0 };
	f->blind_until = h.blind_until;
	if (!h.closed && (began - h.began > FLIGHT_SAME_RUN || h.began - began > FLIGHT_SAME_RUN))
		f->blind_until = now;
}

void flight_open(struct flight *f, const struct env *env, const char *spool_path)
{
	const struct env_disk *d = &env->disk;
	char path[PATH_MAX];
	int fd;

	memset(f, 0, sizeof *f);
	f->env = env;
	if ((size_t)snprintf(path, sizeof path, "%s/inflight", spool_path) >= sizeof path)
		return;
	fd = d->open(d->arg, path, O_RDWR | O_CREAT, 0600);
	if (fd == -1)
		return;
	f->fd = fd + 1;
	read_head(f);
	if (!put_head(f, false) || !read_places(f)) {
		flight_close(f);
		f->env = env;
	}
}

void flight_close(struct flight *f)
{
	if (f->fd) {
		put_head(f, true); /* what is marked still is true, and is synced too */
		f->env->disk.close(f->env->disk.arg, f->fd - 1);
	}
	free(f->free_places);
	free(f->suspects);
	memset(f, 0, sizeof *f);
}

uint32_t flight_set(struct flight *f, uint64_t id, uint32_t slot)
{
	struct flight_mark m = { id, slot, FLIGHT_USED };
	uint32_t place;

	if (!f->fd || f->free_count == 0)
		return 0;
	place = f->free_places[f->free_count - 1];
	if (!put(f, place, &m))
		return 0;
	f->free_count--;
	return place + 1;
}

void flight_clear(struct flight *f, uint32_t mark)
{
	struct flight_mark none = { 0 };

	if (!f->fd || mark == 0)
		return;
	put(f, mark - 1, &none);
	f->free_places[f->free_count++] = mark - 1;
}

bool flight_suspected(struct flight *f, uint64_t id, uint32_t slot, int64_t due)
{
	struct flight_suspect key = { .mark = { id, slot, 0 } }, *hit;

	if (f->blind_until && due <= f->blind_until)
		return true;
	if (f->suspect_count == 0)
		return false;
	hit = bsearch(&key, f->suspects, f->suspect_count, sizeof key, by_id);
	if (!hit || hit->told)
		return false;
	hit->told = true;
	flight_clear(f, hit->place);
	return true;
}
