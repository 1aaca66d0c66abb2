/* runner.h - runs one role: its configuration and files, its life, the frames of super.  The same for a process of its own
 * (child.c) and inside super's (single.c).
 *
 * Order: runner_new (unpack, parse, prepare), confinement by the caller, runner_serve (START makes the role start).
 * The end: after DRAIN once the role is empty, when super's channel closes, or when the role cannot start.  Then the role
 * is stopped, `ended` is told (once, at the end of a turn) and may free the runner.
 */
#ifndef SUPER_RUNNER_H
#define SUPER_RUNNER_H
#include "wire/role.h"

#include <sysexits.h>

struct runner_options {
	enum role_kind kind;
	const struct role_ops *ops;
	const struct env *env;
	struct loop *loop;
	struct events *events;   /* borrowed */
	struct channel *super;   /* taken over */
	int handoff_fd;          /* taken over */
	int extra_fd;            /* taken over; -1: none */
	uint32_t generation;
	bool single, selftest;
	const struct role *keys; /* single: the role that signs; NULL: none */
	long (*sign)(void *, uint32_t, uint32_t, uint8_t, const void *, size_t, unsigned char *, size_t);
	void (*ended)(void *arg, int status); /* a status of sysexits.h */
	void *arg;
};

struct runner;
struct runner *runner_new(const struct runner_options *, struct error *); /* NULL: everything taken over is closed */
void runner_free(struct runner *); /* stops the role if it still runs */
/* user, sandbox: for the log; bits: for STARTED. */
void runner_serve(struct runner *, uint8_t sandbox_bits, const char *sandbox, const char *user);
struct role *runner_role(struct runner *);
/* single: the channel that the next CHANNEL frame without a descriptor speaks of.  Order is kept. */
bool runner_add_channel(struct runner *, struct channel *);

/* A status of sysexits.h for what kept a role from starting. */
int runner_status(const struct error *);

#endif
