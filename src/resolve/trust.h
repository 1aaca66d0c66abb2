/* trust.h - can this resolver validate?  libunbound's contexts, one that validates from the trust anchor and one that does not.
 *
 * At start the root's DNSKEY is asked for by the validating context.  Until the answer is there, nobody may know what is
 * secure, so questions wait (at most TRUST_WAIT_MS).  An answer that validates settles it for this process: whatever is bogus
 * later is an attack or a fault, and mail waits.  One that does not (no anchor, or servers that strip DNSSEC) leaves us
 * without: questions go to the context that does not validate, nothing is secure, and it is said loudly, once, and in `status`.
 * Then it is tried again, so that a network that came late is no loss.
 *
 * What this gives away: whoever can falsify the DNS at our start can have DANE off, loudly: docs/decisions/007-dnssec-that-cannot.md.
 */
#ifndef RESOLVE_TRUST_H
#define RESOLVE_TRUST_H
#include "wire/role.h"

/* Questions wait so long for the first word on the root's keys: some round trips, and a server that is down. */
#define TRUST_WAIT_MS 5000u
/* After a failure the root's keys are asked for again so late (libunbound keeps a failed validation for a minute). */
#define TRUST_AGAIN_MS 60000u

enum trust_state {
	TRUST_NONE = 1, /* DANE is switched off, or there is no anchor */
	TRUST_ASKING,
	TRUST_GOOD,
	TRUST_BROKEN
};

struct ub_ctx;
struct ub_event_base;

struct trust {
	struct role *role;
	struct ub_event_base *base;
	struct ub_ctx *plain, *validating; /* validating NULL: TRUST_NONE */
	enum trust_state state;
	bool told;                /* that it is off */
	bool probing;
	uint64_t began;
	struct loop_timer timer;
	void (*changed)(void *arg); /* questions that waited can be asked now */
	void *arg;
};

/* Before the walls: reads anchor, servers, options.  -1: libunbound refuses something. */
int trust_init(struct trust *, struct role *, void (*changed)(void *), void *arg, struct error *);
void trust_start(struct trust *); /* asks for the root's keys */
void trust_free(struct trust *);  /* calls nobody back */

/* The context to ask now; NULL: wait for `changed`. */
struct ub_ctx *trust_context(const struct trust *);

#endif
