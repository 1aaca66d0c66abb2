/* map.c - see map.h.  Chained; the table doubles when it is full. */
#include "queue/map.h"

#include <assert.h>
#include <stdlib.h>

#define FIRST_SLOTS 64 /* a power of two */

static size_t slot_of(const struct map *m, uint64_t key)
{
	key ^= key >> 33;
	key *= UINT64_C(0xff51afd7ed558ccd);
	key ^= key >> 33;
	return (size_t)key & m->mask;
}

static bool grow(struct map *m)
{
	size_t n = m->slots ? (m->mask + 1) * 2 : FIRST_SLOTS, i, old = m->slots ? m->mask + 1 : 0, at;
	struct map_node **from = m->slots, **slots = calloc(n, sizeof *slots), *node, *next;

	if (!slots)
		return m->slots != NULL;
	m->slots = slots;
	m->mask = n - 1;
	m->empty = 0;
	for (i = 0; i < old; i++)
		for (node = from[i]; node; node = next) {
			next = node->next;
			at = slot_of(m, node->key);
			node->next = slots[at];
			slots[at] = node;
		}
	free(from);
	return true;
}

bool map_put(struct map *m, struct map_node *node, uint64_t key)
{
	size_t at;

	if ((!m->slots || m->count > m->mask) && !grow(m))
		return false;
	at = slot_of(m, key);
	node->key = key;
	node->next = m->slots[at];
	m->slots[at] = node;
	m->empty = at < m->empty ? at : m->empty;
	m->count++;
	return true;
}

struct map_node *map_get(const struct map *m, uint64_t key)
{
	struct map_node *node = m->slots ? m->slots[slot_of(m, key)] : NULL;

	while (node && node->key != key)
		node = node->next;
	return node;
}

struct map_node *map_next(const struct map_node *node)
{
	struct map_node *next = node->next;

	while (next && next->key != node->key)
		next = next->next;
	return next;
}

void map_remove(struct map *m, struct map_node *node)
{
	struct map_node **at = &m->slots[slot_of(m, node->key)];

	while (*at != node) {
		assert(*at);
		at = &(*at)->next;
	}
	*at = node->next;
	node->next = NULL;
	m->count--;
}

struct map_node *map_any(struct map *m)
{
	if (!m->count)
		return NULL;
	while (!m->slots[m->empty]) {
		m->empty++;
		assert(m->empty <= m->mask);
	}
	return m->slots[m->empty];
}

void map_each(const struct map *m, void (*visit)(void *arg, struct map_node *), void *arg)
{
	struct map_node *node;
	size_t i;

	for (i = 0; m->slots && i <= m->mask; i++)
		for (node = m->slots[i]; node; node = node->next)
			visit(arg, node);
}

void map_free(struct map *m)
{
	free(m->slots);
	*m = (struct map){ 0 };
}
