/* sts.h - which policy a domain has (RFC 8461): its record, what is cached, and a fetch when they differ.
 *
 * A question is answered once, at the latest when DNS and the fetch have had their time.  A cached policy holds until its max_age is over,
 * whatever record and server say meanwhile (RFC 8461 3.3, 10.2: taking it away is what an attacker would do); only a newer policy
 * replaces it.  A fetch that failed is not tried again for STS_PAUSE_S.
 */
#ifndef POLICY_STS_H
#define POLICY_STS_H
#include "policy/fetch.h"
#include "policy/policy.h"
#include "route/sts.h"

#define STS_LOOKUPS_MAX 2000        /* domains looked up at once; more are answered from the cache alone */
#define STS_WAITERS_MAX 100000      /* questions that wait for them; deliveries in flight are fewer */
#define STS_PAUSE_S 300             /* RFC 8461 3.3: five minutes between tries to fetch one id */
#define STS_FAILURES 1024           /* domains whose failure is remembered; another one in its place only costs a fetch */
#define STS_REFRESH_S 86400         /* RFC 8461 3.3: once a day, or after half of max_age */
#define STS_REFRESH_USED_S 2592000  /* a policy that nobody asked for in a month may run out */
#define STS_REFRESH_EVERY_MS 600000u
#define STS_REFRESH_MOST 200u       /* refreshed at each of these times: 28,800 a day */

/* ---- what needs no role ---- */

/* RFC 8461 3.1: TXT records that begin otherwise are not looked at; then there must be one, and it must be right.  NULL and its id (in
 * m), or why there is none. */
const char *sts_pick_record(const struct wire_RESOLVED *m, struct view *id);
/* What was fetched, as a policy; mx gets its patterns.  False: it is none; then what TLS-RPT calls that, and why. */
#define STS_REASON_SIZE 160
bool sts_read_fetched(const struct fetch_result *, struct sts_policy *, struct buf *mx, enum wire_rpt_result *, char reason[STS_REASON_SIZE]);
#define STS_HOST_SIZE 264 /* a domain and NUL, mta-sts. before it */
void sts_url(const char *domain, unsigned port, char host[STS_HOST_SIZE], char url[FETCH_URL_MAX]);

/* ---- the role's ---- */

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
