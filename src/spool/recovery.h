/* recovery.h - replaying segments into the index.  Inside of src/spool only; recovery.c opens, attach.c joins index and
 * segments, replay.c replays.
 *
 * Two passes: the first finds where the log ends, what was aborted, which groups are not whole, and what is damaged;
 * the second applies the rest.  Nothing here is fatal but a disk or memory that fails, and that leaves everything as
 * it was: the same start can be tried again.
 */
#ifndef SPOOL_RECOVERY_H
#define SPOOL_RECOVERY_H
#include "spool/queue.h"

struct range { uint64_t first, last; };

struct replay {
	struct queue *q;
	struct spool_recovery *found;
	struct error *error;
	bool building;          /* from zero; else above meta.applied */
	bool acknowledged;      /* what is replayed may have been: damage is stepped over, what is behind it counts */
	bool distrust;          /* the index does not fit the segments: build it anew */
	struct range *skip;     /* sequences that do not count */
	size_t skip_n, skip_cap;
	uint64_t group;         /* the first sequence of an unfinished group, 0: none */
	uint64_t group_last;
	uint64_t pending;       /* records since the last commit */
};

/* 0, or -1 with the error set.  A transaction is open before and after. */
int replay_run(struct replay *);
void replay_free(struct replay *);
int replay_index_error(struct queue *, struct error *, const char *doing); /* the error of a failed index call; -1 */

/* attach.c */
void recover_path(const struct queue *, const char *name, char to[SPOOL_PATH_MAX]);
int recover_attach(struct queue *, struct spool_recovery *, struct error *); /* 1: index and segments do not fit */
int recover_set_aside(struct queue *, struct spool_recovery *, struct error *); /* segments that nobody knows */
int recover_rehead(struct queue *, struct error *); /* headers that the index knew */

#endif
