/* map.h - finding things by a 64-bit key: streams, destinations (by the hash of their name).
 *
 * Nodes are embedded in what they find; the map owns only its table.  Keys need not be unique: map_next goes on among
 * equals.  A table that cannot grow stays usable and slower; only the first put can fail.
 */
#ifndef QUEUE_MAP_H
#define QUEUE_MAP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_node {
	struct map_node *next;
	uint64_t key;
};
struct map {
	struct map_node **slots;
	size_t mask, count;
	size_t empty; /* slots below this one are: map_any need not look there again */
};

bool map_put(struct map *, struct map_node *, uint64_t key);
struct map_node *map_get(const struct map *, uint64_t key);
struct map_node *map_next(const struct map_node *); /* another one with the same key, or NULL */
void map_remove(struct map *, struct map_node *);   /* must be in the map */
/* Any node, to take down one after the other, all of them in linear time; NULL when empty. */
struct map_node *map_any(struct map *);
/* Visits every node; the visitor may not change the map. */
void map_each(const struct map *, void (*visit)(void *arg, struct map_node *), void *arg);
void map_free(struct map *); /* the table; nodes are their owners' */

#endif
