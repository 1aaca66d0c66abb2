/* domain.h - `postrider probe domain`: a domain as a sending server sees it, check by check (spec/probe_domain.def).
 *
 * Needs no daemon.  The DNS is asked by libunbound in the calling thread, the policy of MTA-STS is fetched by the code of the role
 * `policy`, and what our own `send` would do is judged by its own functions (send/facts.c, route/tls.c) from these facts: so the decision is
 * that of delivery, and of `route explain`.  A policy that the daemon has kept is not known here.
 * Every wait has an end; connections are made one at a time, with a pause.
 * Failure    -1 when nothing could be judged: libunbound or the destination refuses what was given, or memory.
 */
#ifndef PROBE_DOMAIN_H
#define PROBE_DOMAIN_H
#include "probe/report.h"

enum domain_needs { DOMAIN_NEEDS_HOSTS = 1, DOMAIN_NEEDS_CONNECT = 2 };

extern const struct probe_check domain_checks[]; /* by number */
extern const unsigned domain_check_count;
const struct probe_check *domain_check_find(unsigned number); /* NULL: there is none */

struct probe_domain_options {
	const char *domain;         /* in the DNS's letters, lower case */
	const char *dest;           /* its destination, as text (route/dest.h): of kind mx */
	const char *hostname;       /* ours: for EHLO, and to know ourselves among the MX */
	const char *const *resolvers; /* address:port; none: those of resolv_conf */
	size_t resolver_count;
	struct view resolv_conf, anchor, trust;
	bool dane, mta_sts;         /* as the settings */
	uint16_t port, sts_port;    /* 25 and 443, but for tests */
	bool connect;               /* to the mail hosts */
	uint32_t pause_ms, timeout_ms;
	unsigned connections_max;
	const unsigned *only;       /* numbers of the checks to make; none: all */
	unsigned only_count;
	/* before each check that takes time; check NULL: the last is over */
	void (*progress)(void *arg, unsigned done, unsigned total, const struct probe_check *);
	void *arg;
};

/* Fills a report that the caller began with probe_report_init.  Borrows the options while it runs. */
int probe_domain(const struct probe_domain_options *, struct probe_report *, struct error *);

#endif
