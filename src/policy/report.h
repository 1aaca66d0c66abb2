/* report.h - TLS-RPT (RFC 8460): results counted by day, reports made when it is over, and sent.
 *
 * Days are UTC's.  When one is over, each domain of it is asked for its record; without one its results are dropped.  A report is due at a random moment
 * of the next REPORT_SPREAD_S (RFC 8460 4.1), goes to every rua, and is tried again with growing pauses for REPORT_LIFE_S
 * (section 5.5).  One that was handed to the queue is the queue's.  Sessions that carry reports are not counted: `send` does not tell of
 * messages with "TLS-Required: No".
 * An operator may want them now (REPORT_NOW): what waits for its moment goes at once, what is counted of days that are over is made
 * and goes.  Today is not over: RFC 8460 4.1 wants whole days, and a second report of the same day would be counted twice.
 */
#ifndef POLICY_REPORT_H
#define POLICY_REPORT_H
#include "policy/policy.h"

#define REPORT_SPREAD_S 14400      /* RFC 8460 4.1: up to four hours */
#define REPORT_LIFE_S 86400        /* RFC 8460 5.5: a day of trying */
#define REPORT_PAUSE_S 900         /* the first pause; it doubles */
#define REPORT_PAUSE_MAX_S 14400
#define REPORT_KEEP_DAYS 7         /* results of a domain whose record cannot be looked up */
#define REPORT_TICK_MS 60000u      /* how often days and due reports are looked at */
#define REPORT_COMMIT_MS 1000u     /* results are written together, at most so late */
#define REPORT_AT_ONCE_MAX 8       /* reports under way */
#define REPORT_TEXT_MAX 300        /* octets of a peer's words that are kept */
#define REPORT_POLICY_MAX 4096     /* octets of a policy that are kept: 100 lines */
#define REPORT_ANSWER_MAX 4096     /* octets of what an HTTPS server says to a report; nobody reads them */

int report_start(struct policy *, struct error *);
void report_stop(struct policy *);
/* False: the frame is none that can be. */
bool report_count(struct policy *, const struct wire_TLS_RESULT *);
void report_queue_channel(struct policy *, uint32_t generation, struct channel *);

#endif
