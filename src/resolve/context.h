/* context.h - how libunbound is set up, for the role on our loop and for a command that waits for its answers.
 *
 * The caller makes the context (ub_ctx_create_ub_event, or ub_ctx_create), sets it up before the first question, and deletes it.
 * Failure    -1 and why: a server that is no address, an anchor that holds no record, an option that this libunbound refuses.  A line of
 *            resolv.conf that is wrong is told to bad_server and stepped over.
 */
#ifndef RESOLVE_CONTEXT_H
#define RESOLVE_CONTEXT_H
#include "base/error.h"
#include "base/view.h"

struct ub_ctx;

struct context_options {
	struct view anchor;         /* DS or DNSKEY records, one a line; empty: nothing is validated */
	const char *const *servers; /* address, or address:port */
	size_t servers_n;           /* 0: those of resolv_conf */
	struct view resolv_conf;
	void (*bad_server)(void *arg, const char *reason);
	void *arg;
};

int context_set_up(struct ub_ctx *, const struct context_options *, struct error *);

#endif
