/* flight.h - which deliveries had left in whole when the queue died: so that a double is named, not guessed (RFC 1047).
 *
 * A file in the spool, `inflight`, holds a mark for each delivery whose last octet was handed on and whose outcome is not
 * yet on disk.  It is written without syncing: it costs a write and tells the truth after a crash of the process.
 * After a power cut it does not: what was marked last never reached the disk.  So the file's head says, synced, in which run
 * of the machine it was opened; a start that finds the head of another run that never closed it takes every delivery
 * that was due by then for one that may have left.  That names too many rather than too few.
 * A run of the machine is known by the instant at which its monotonic clock began, give or take FLIGHT_SAME_RUN: a clock that
 * steps, or a suspended machine, looks like another run, and again only the log says more than it need.
 * Nothing but the log depends on all this.
 * A mark of the life before stays in its place until it was told: a queue that dies again meanwhile still knows.
 * Failure: marks that cannot be written are left out.
 */
#ifndef QUEUE_FLIGHT_H
#define QUEUE_FLIGHT_H
#include "base/env.h"

#include <stdbool.h>
#include <stdint.h>

/* Marks that the file has room for; more deliveries at once go unmarked (the setting `deliveries` is 1,000). */
#define FLIGHT_PLACES 4096
/* Old marks keep at most so many of them: those of mail that was settled in the moment of a crash are never told. */
#define FLIGHT_KEPT (FLIGHT_PLACES / 2)
#define FLIGHT_LIVES 32u /* and are kept through so many lives */

#define FLIGHT_SAME_RUN 2000 /* ms: no machine comes up again so fast; clocks read one after the other differ less */

struct flight_head { /* as it stands in the file */
	uint32_t magic, closed;
	int64_t began;       /* when this run of the machine did, ms since the epoch */
	int64_t blind_until, zero;
};

struct flight_mark { /* as it stands in the file */
	uint64_t id;
	uint32_t slot, used;
};

struct flight_suspect {
	struct flight_mark mark;
	uint32_t place; /* number + 1 of the mark that is kept for it; 0: none */
	bool told;
};

struct flight {
	const struct env *env;
	int fd;                         /* 0: closed (a zeroed struct), else descriptor + 1 */
	uint32_t free_count;
	uint32_t *free_places;
	struct flight_suspect *suspects; /* of the lives before, by id and slot */
	uint32_t suspect_count;
	int64_t blind_until; /* marks were lost: what was due by then, and is still, is suspected; kept for good: it loses its objects */
};

/* Reads what the lives before left. */
void flight_open(struct flight *, const struct env *, const char *spool_path);
void flight_close(struct flight *);
/* Returns the mark's number for flight_clear; 0: none could be made. */
uint32_t flight_set(struct flight *, uint64_t id, uint32_t slot);
void flight_clear(struct flight *, uint32_t mark);
/* Had it left when the queue died?  True once; or always, where marks were lost and it was due by then. */
bool flight_suspected(struct flight *, uint64_t id, uint32_t slot, int64_t due);

#endif
