/* plan.h - which hosts, in which order: RFC 5321 5.1, RFC 7505.  Pure: DNS answers and our own names in, a list out.
 *
 * MX hosts come by preference, equal ones shuffled.  Hosts at or behind ourselves in the list are left out, since mail
 * sent to them would come back; if nothing is before us, that is a loop.  No MX at all means the domain itself.
 */
#ifndef ROUTE_PLAN_H
#define ROUTE_PLAN_H
#include "base/env.h"
#include "base/view.h"

#define ROUTE_HOST_MAX 256      /* a domain name and NUL */
#define ROUTE_HOSTS_MAX 16      /* MX hosts that are tried; more are no help to anybody (RFC 5321 5.1 asks for two) */
#define ROUTE_ADDRESSES_MAX 24  /* addresses tried for one delivery, all hosts together */

struct route_host {
	char name[ROUTE_HOST_MAX];
	uint16_t preference;
};

enum route_plan_result {
	ROUTE_PLAN_HOSTS = 1,
	ROUTE_PLAN_IMPLICIT, /* no MX: hosts[0] is the domain itself */
	ROUTE_PLAN_NULL_MX,  /* the domain takes no mail: 556 5.1.10 */
	ROUTE_PLAN_LOOP      /* the best host is ourselves: 554 5.4.6 */
};

struct route_mx { uint16_t preference; struct view name; }; /* name empty: "." */

/* records: as the DNS gave them; n 0: none.  hostname: ours. */
enum route_plan_result route_plan_mx(const struct route_mx *records, size_t n, struct view domain, struct view hostname,
                                     const struct env *, struct route_host hosts[ROUTE_HOSTS_MAX], size_t *count);

#endif
