/* counters.h - the counters of all roles' processes, mapped read-only as super hands them over, and their sum as
 * metrics.
 *
 * The counters of a process that ended are folded into a base, so that a metric never goes back.
 */
#ifndef QUEUE_COUNTERS_H
#define QUEUE_COUNTERS_H
#include "base/buf.h"
#include "events/events.h"

#include <stdint.h>

/* Processes whose counters are mapped at once: six roles with an old and a new generation each, and room for restarts;
 * then the oldest of the same role is folded. */
#define COUNTERS_MAX   32
#define COUNTERS_ROLES 12 /* enum role_kind, with room */

struct counters {
	struct counters_map {
		const uint64_t *map;
		size_t size;
		uint8_t role;
		uint32_t generation;
	} maps[COUNTERS_MAX];
	size_t n;
	uint64_t base[COUNTERS_ROLES][EVENT_END + 1];
};

/* Takes the descriptor over.  -1: it is no memory of counters (peer's fault) or cannot be mapped. */
int counters_add(struct counters *, uint8_t role, uint32_t generation, int fd);
uint64_t counters_sum(const struct counters *, enum event);
bool counters_prometheus(const struct counters *, struct buf *); /* events only */
void counters_free(struct counters *);

#endif
