/* schedule.h - whose turn it is.
 *
 * Every destination has a window: it begins small, grows by one with each delivery that ends well up to
 * `destination_window`, and halves when the host fails.  A host that fails is left alone for a pause that doubles from
 * retry_min to retry_max (with jitter), however much mail waits for it: one attempt of one message probes it after each
 * pause.  What is due for it meanwhile is put off in the spool in batches (outcome_put_off), which also is when its
 * messages expire or earn a delay warning; an answer of the host makes all of it due at once.
 * Destinations with due mail take turns (round-robin), one lease each; `deliveries` caps all together.  Putting off
 * never counts against that cap, and is paced, so that a dead destination with a hundred thousand messages costs the
 * others nothing.
 * Idle destinations are forgotten: the oldest first, when there are too many.
 *
 * A reservation is one delivery's place in its destination's window and in the cap; it ends with schedule_done.
 */
#ifndef QUEUE_SCHEDULE_H
#define QUEUE_SCHEDULE_H
#include "queue/queue.h"

#define SCHEDULE_WINDOW_FIRST 5     /* deliveries at once to a destination that we know nothing of */
#define SCHEDULE_LEASE_MAX    64    /* envelopes of one lease: their texts are held in memory */
#define SCHEDULE_SWEEP_BATCH  256   /* envelopes put off by one lease */
#define SCHEDULE_SWEEPS       2     /* destinations put off at once: live mail shares the disk with them */
#define SCHEDULE_OWN_WINDOW   4096  /* settled by the queue itself (discard): bounded by memory only */
#define SCHEDULE_IDLE_MAX     4096  /* idle destinations remembered */
#define SCHEDULE_ASK_FIRST    1000  /* destinations asked of the spool at once; doubles while all are answered */
#define SCHEDULE_ASK_PAUSE    200   /* ms between two such questions: each may read the whole index of what is due */
#define SCHEDULE_SLEEP_MAX    60000 /* ms; the wall clock may step while the timer sleeps */

void schedule_init(struct queue *);
void schedule_init_due(struct queue *); /* its part in due.c */
void schedule_start(struct queue *);    /* asks the spool what is due */
void schedule_free(struct queue *);
void schedule_reload(struct queue *); /* other next hops, other windows: forgets back-off */

/* A place for a delivery right now, or NULL: the destination fails, is full, has older mail waiting, or has no peer. */
struct dest *schedule_reserve(struct queue *, struct view dest);
/* When mail that comes now is due: at once, or after the pause of a failing destination (no need to put it off then).
 */
int64_t schedule_first_due(struct queue *, struct view dest, int64_t now);
/* Due mail for dest came into the spool. */
void schedule_arrived(struct queue *, struct view dest);
/* Mail was put into the spool that becomes due at `due` (wall ms). */
void schedule_note_due(struct queue *, int64_t due);
/* A peer came: destinations that waited for one go on. */
void schedule_wake(struct queue *);

enum schedule_verdict {
	SCHEDULE_HOST_OK = 1, /* the host spoke SMTP with us */
	SCHEDULE_HOST_FAILED,
	SCHEDULE_UNKNOWN /* nothing was learned */
};
/* The judgement, as soon as it is known; then, when all is settled, the end of the reservation. */
void schedule_judge(struct dest *, enum schedule_verdict, struct view reason);
void schedule_done(struct dest *);
void schedule_swept(struct dest *); /* the same for one that was put off */
/* The mail of this reservation is due again. */
void schedule_returned(struct dest *);

/* The pause after the n-th failure (n >= 1), with jitter, in ms. */
int64_t schedule_pause(struct queue *, uint32_t n);
/* What is known of a destination, or NULL; borrowed. */
const struct dest *schedule_find(const struct queue *, struct view dest);
/* Calls visit for every destination that is busy or fails. */
void schedule_each_busy(const struct queue *, void (*visit)(void *arg, const struct dest *), void *arg);
/* After the pause of a blocked destination, spread, so that its mail does not come back as one. */
int64_t schedule_after_pause(struct queue *, const struct dest *);
/* The operator flushed: ends the back-off of one destination (empty: of all). */
void schedule_unblock(struct queue *, struct view dest);

#endif
