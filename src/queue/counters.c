/* counters.c - see counters.h. */
#include "queue/counters.h"
#include "wire/role.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define WANTED ((EVENT_END + 1) * sizeof(uint64_t))

/* The oldest of a role ends: its counts move to the base, or the metric would go back. */
static void fold(struct counters *c, size_t i)
{
	struct counters_map *m = &c->maps[i];
	size_t k;

	for (k = 0; k <= EVENT_END; k++)
		c->base[m->role][k] += __atomic_load_n(&m->map[k], __ATOMIC_RELAXED);
	munmap((void *)(uintptr_t)m->map, m->size);
	c->n--;
	memmove(m, m + 1, (c->n - i) * sizeof *m);
}

static void make_room(struct counters *c, uint8_t role)
{
	size_t i;

	if (c->n < COUNTERS_MAX)
		return;
	for (i = 0; i < c->n; i++) /* in order of arrival: the first of the role is its oldest */
		if (c->maps[i].role == role) {
			fold(c, i);
			return;
		}
	fold(c, 0);
}

int counters_add(struct counters *c, uint8_t role, uint32_t generation, int fd)
{
	struct stat st;
	void *map = MAP_FAILED;

	if (role && role < COUNTERS_ROLES && fstat(fd, &st) != -1 && st.st_size >= (off_t)WANTED)
		map = mmap(NULL, WANTED, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		return -1;
	make_room(c, role);
	c->maps[c->n++] = (struct counters_map){ map, WANTED, role, generation };
	return 0;
}

uint64_t counters_sum(const struct counters *c, enum event e)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < COUNTERS_ROLES; i++)
		sum += c->base[i][e];
	for (i = 0; i < c->n; i++)
		sum += __atomic_load_n(&c->maps[i].map[e], __ATOMIC_RELAXED);
	return sum;
}

bool counters_prometheus(const struct counters *c, struct buf *to)
{
	const uint64_t *maps[COUNTERS_MAX + COUNTERS_ROLES];
	const char *roles[COUNTERS_MAX + COUNTERS_ROLES];
	size_t n = 0, i;

	for (i = 0; i < c->n; i++, n++) {
		maps[n] = c->maps[i].map;
		roles[n] = role_name((enum role_kind)c->maps[i].role);
	}
	for (i = ROLE_SUPER; i <= ROLE_WORKER; i++, n++) {
		maps[n] = c->base[i];
		roles[n] = role_name((enum role_kind)i);
	}
	return events_prometheus(maps, roles, n, to);
}

void counters_free(struct counters *c)
{
	while (c->n)
		fold(c, c->n - 1);
}
