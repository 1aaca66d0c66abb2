/* outcome.h - from results to one atomic settle: what remains of the envelope and the reports that it earns.
 *
 * Every recipient ends in exactly one of: delivered, failed (reported or, for a null sender, discarded with a named
 * reason), still queued.  What is logged here is the judgement; the settle makes it durable in the next commit.  A
 * settle that the spool refuses is repeated until it works: meanwhile the mark stays, so that nothing is sent twice.
 */
#ifndef QUEUE_OUTCOME_H
#define QUEUE_OUTCOME_H
#include "queue/deliver.h"

#define OUTCOME_RETRY      1000 /* ms between attempts at a refused settle */
#define OUTCOME_LOST_PAUSE 5000 /* ms: first pause of a message whose deliverer went away twice; doubles */

/* The peer's OUTCOME: 0, or -1 when it cannot be (the caller closes the channel). */
int outcome_take(struct delivery *, const struct wire_OUTCOME *);
/* The role that had it went away. */
void outcome_lost(struct delivery *);
/* The body cannot be read: tried again later. */
void outcome_unreadable(struct delivery *, const char *why);
/* The queue's own judgement of all recipients (discard: DELIVERED without a word to anybody). */
void outcome_discard(struct delivery *);
void outcome_unroutable(struct delivery *);
/* Mail of a failing destination, leased to be put off: expires, is warned of, or waits until the next probe.  Takes
 * over one of dest->swept. */
void outcome_put_off(struct queue *, struct dest *, const struct spool_envelope *);

/* For bounce.c: the reports are made (or there are none): settle. */
void outcome_commit(struct delivery *);

void outcome_init(struct queue *);
void outcome_free(struct queue *);

#endif
