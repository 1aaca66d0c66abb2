/* flight.c - see flight.h. */
#include "queue/flight.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLIGHT_USED 0x70726966u /* in each mark: what is not this is free */

static int by_id(const void *a, const void *b)
{
	const struct flight_mark *x = a, *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->slot < y->slot ? -1 : x->slot > y->slot;
}

static void read_suspects(struct flight *f)
{
	const struct env_disk *d = &f->env->disk;
	struct flight_mark *marks = calloc(FLIGHT_PLACES, sizeof *marks);
	ssize_t n = marks ? d->pread(d->arg, f->fd - 1, marks, FLIGHT_PLACES * sizeof *marks, 0) : -1;

	f->suspects = marks;
	for (size_t i = 0; n > 0 && i < (size_t)n / sizeof *marks; i++)
		if (marks[i].used == FLIGHT_USED)
			marks[f->suspect_count++] = marks[i];
	if (marks)
		qsort(marks, f->suspect_count, sizeof *marks, by_id);
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
	read_suspects(f);
	f->free_places = malloc(FLIGHT_PLACES * sizeof *f->free_places);
	if (!f->free_places || d->ftruncate(d->arg, fd, 0) == -1) {
		d->close(d->arg, fd);
		f->fd = 0;
		return;
	}
	for (uint32_t i = 0; i < FLIGHT_PLACES; i++) /* low places first: the file stays small */
		f->free_places[f->free_count++] = FLIGHT_PLACES - 1 - i;
}

void flight_close(struct flight *f)
{
	if (f->fd)
		f->env->disk.close(f->env->disk.arg, f->fd - 1);
	free(f->free_places);
	free(f->suspects);
	memset(f, 0, sizeof *f);
}

static bool put(struct flight *f, uint32_t place, const struct flight_mark *m)
{
	const struct env_disk *d = &f->env->disk;

	return d->pwrite(d->arg, f->fd - 1, m, sizeof *m, (off_t)(place * sizeof *m)) == (ssize_t)sizeof *m;
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

bool flight_suspected(struct flight *f, uint64_t id, uint32_t slot)
{
	struct flight_mark key = { id, slot, 0 }, *hit;

	if (f->suspect_count == 0)
		return false;
	hit = bsearch(&key, f->suspects, f->suspect_count, sizeof key, by_id);
	if (!hit || !hit->used)
		return false;
	hit->used = 0;
	return true;
}
