/* bounce.h - reports to the sender: failed, delayed, delivered or relayed (RFC 3461 5.2, RFC 3464), as new messages.
 *
 * Which recipients earn a report is decided by NOTIFY (RFC 3461 4.1): failures unless NEVER or a list without FAILURE;
 * delays when nothing was said or DELAY was; successes only when SUCCESS was said and nobody further on will tell.  The
 * null sender never gets one (RFC 3461 6.1: a report is never reported on).  A report has the null sender itself.
 *
 * Use: bounce_wanted; if true bounce_fetch, which calls outcome_commit when the original is at hand; then bounce_news
 * for each attempt at the settle (the spool takes the bodies over even when it refuses).
 */
#ifndef QUEUE_BOUNCE_H
#define QUEUE_BOUNCE_H
#include "queue/deliver.h"
#include "mail/dsn.h"

#define BOUNCE_KINDS 3 /* failed; delayed; delivered and relayed together */

struct bounce; /* of a delivery, from bounce_fetch to bounce_free */

/* Would the recipient be told of this?  By NOTIFY alone. */
bool bounce_notify_asks(uint8_t notify, enum mail_dsn_action);
/* Does any recipient of this delivery's results earn a report? */
bool bounce_wanted(const struct delivery *);
/* Reads what is to be returned.  Calls outcome_commit now or later; -1: memory (nothing was begun). */
int bounce_fetch(struct delivery *);
/* Makes the new messages: their number, or -1 (memory, disk).  What `news` points to lives until the next call. */
int bounce_news(struct delivery *, struct spool_new news[BOUNCE_KINDS]);
/* Is the news a report of ours again, without the octets that its next hop could not take? */
bool bounce_shortened(const struct delivery *);
/* They are durable: logs them and wakes their destinations. */
void bounce_settled(struct delivery *);
void bounce_free(struct delivery *);

/* What result a recipient's report would tell: 0 when there is nothing to tell. */
enum mail_dsn_action bounce_action(const struct delivery *, uint32_t rcpt);

#endif
