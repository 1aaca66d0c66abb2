/* dns.h - questions to `resolve`: TXT records and addresses.
 *
 * A question waits until there is a `resolve` to ask, and is asked again when that one is replaced; `done` comes once, with
 * WIRE_DNS_TEMPORARY after DNS_PATIENCE_MS.  Never from within policy_dns_ask.
 */
#ifndef POLICY_DNS_H
#define POLICY_DNS_H
#include "policy/policy.h"

#define DNS_PATIENCE_MS 30000u /* libunbound gives up before that; a resolve that is not started anew within it will not be soon */

struct policy_dns_ask {
	struct policy_dns_ask *next;
	struct policy *room;
	uint64_t stream;
	uint8_t kind;
	char name[272]; /* a domain and _mta-sts. or mta-sts. or _smtp._tls. before it */
	bool active;
	struct loop_timer patience;
	void (*done)(void *arg, const struct wire_RESOLVED *);
	void *arg;
};

void policy_dns_ask(struct policy *, struct policy_dns_ask *, enum wire_resolve_kind, const char *name,
                    void (*done)(void *arg, const struct wire_RESOLVED *), void *arg);
void policy_dns_cancel(struct policy_dns_ask *);
void policy_dns_channel(struct policy *, uint32_t generation, struct channel *);
void policy_dns_stop(struct policy *);

#endif
