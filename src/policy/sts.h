/* sts.h - which policy a domain has (RFC 8461): its record, what is cached, and a fetch when they differ.
 *
 * A question is answered once, at the latest when DNS and the fetch have had their time.  A cached policy holds until its max_age is over,
 * whatever record and server say meanwhile (RFC 8461 3.3, 10.2: taking it away is what an attacker would do); only a newer policy
 * replaces it.  A fetch that failed is not tried again for STS_PAUSE_S.
 */
#ifndef POLICY_STS_H
#define POLICY_STS_H
#include "policy/policy.h"

#define STS_LOOKUPS_MAX 2000        /* domains looked up at once; more are answered from the cache alone */
#define STS_WAITERS_MAX 100000      /* questions that wait for them; deliveries in flight are fewer */
#define STS_PAUSE_S 300             /* RFC 8461 3.3: five minutes between tries to fetch one id */
#define STS_FAILURES 1024           /* domains whose failure is remembered; another one in its place only costs a fetch */
#define STS_REFRESH_S 86400         /* RFC 8461 3.3: once a day, or after half of max_age */
#define STS_REFRESH_USED_S 2592000  /* a policy that nobody asked for in a month may run out */
#define STS_REFRESH_EVERY_MS 600000u
#define STS_REFRESH_MOST 200u       /* refreshed at each of these times: 28,800 a day */

int sts_start(struct policy *, struct error *);
void sts_stop(struct policy *);
/* Answers by STS_POLICY to the peer.  False: it asks for too much. */
bool sts_ask(struct policy_peer *, const struct wire_STS_ASK *);
void sts_peer_gone(struct policy_peer *);
/* Why the last fetch for this domain failed: one of TLS-RPT's three types; WIRE_RPT_STS_POLICY_FETCH_ERROR when it is not known. */
enum wire_rpt_result sts_last_failure(const struct policy *, struct view domain);
/* The cached policy's own text, for a report. */
struct buf;
bool sts_policy_text(struct policy *, struct view domain, struct buf *to);

#endif
