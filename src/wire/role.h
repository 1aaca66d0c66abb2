/* role.h - what a role is, to the code that runs it.
 *
 * A role is a room with one `struct role_ops`.  super/child.c runs it in a process of its own (`postrider run`), super/
 * single.c runs all in one process over in-memory channels (`--single`, and the simulator).  So a role keeps all its
 * state behind role->state, has no globals, never blocks its loop, and reaches the world through what is in here.
 *
 * Order of a role's life
 *   prepare   before confinement: may open files, warm up libraries (one TLS handshake in memory, the resolver)
 *   (confined by the runner)
 *   start     may make threads; serves from now on
 *   channel   a peer's channel came up: at start, after the peer was restarted, or for a new generation
 *   drain     finish what is in flight, take nothing new; call role->drained(role) once empty
 *   stop      free everything; the loop does not run any more
 */
#ifndef WIRE_ROLE_H
#define WIRE_ROLE_H
#include "base/env.h"
#include "base/error.h"
#include "conf/conf.h"
#include "conf/handoff.h"
#include "events/events.h"
#include "net/channel.h"
#include "net/loop.h"

enum role_kind { ROLE_SUPER = 1, ROLE_RECEIVE, ROLE_QUEUE, ROLE_SEND, ROLE_RESOLVE, ROLE_LOCAL, ROLE_KEYS, ROLE_POLICY, ROLE_WEB, ROLE_WORKER };
const char *role_name(enum role_kind);
/* How many loops a role with one a core runs: the setting `workers`, or the cores. */
unsigned role_loops(const struct conf *);

struct role_ops;

struct role {
	enum role_kind kind;
	const struct role_ops *ops;
	const struct conf *conf;       /* borrowed; the immutable configuration of this generation */
	const struct handoff *files;   /* borrowed; bytes that super read: chains, trust bundle, user lists, credentials, (keys only) keys */
	const struct env *env;
	struct events *events;
	struct loop *loop;             /* the role's main loop; receive and send make more, one a thread */
	uint32_t generation;
	bool single;                   /* all roles share this process and this loop; make no threads */
	bool no_policy;                /* a test: there is no role `policy`, and nobody waits for it */
	int extra_fd;                  /* queue: the listening control socket; else -1 */
	void *state;                   /* the role's own */
	/* services of the runner */
	void (*to_super)(struct role *, uint32_t type, struct view payload); /* a frame to super */
	void (*drained)(struct role *);
	void *runner;
	/* --single: how to sign without a channel (keys_sign and the role `keys`); NULL: the channel to `keys` is used, taken
	 * off the loop by channel_detach_fd and given to net/signer.h */
	long (*sign)(void *arg, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n,
		     unsigned char *to, size_t room);
	void *sign_arg;
};

struct role_ops {
	enum role_kind kind;
	int (*prepare)(struct role *, struct error *);
	int (*start)(struct role *, struct error *);
	/* `channel` is owned by the role from here on.  index: which loop of a role with several it belongs to; the peer's
	 * generation tells old from new: a queue uses the newest `send` for new deliveries. */
	void (*channel)(struct role *, enum role_kind peer, uint32_t index, uint32_t generation, struct channel *);
	/* a frame of super that the runner does not handle itself (LISTENER, WORKER, COUNTERS, CONTROL_DONE ...); fd or -1, owned by the role */
	void (*frame)(struct role *, uint32_t type, struct view payload, int fd);
	/* queue, local, keys, policy live on through a reload: a new immutable conf and files; the old ones are freed after return */
	int (*reload)(struct role *, const struct conf *, const struct handoff *, struct error *);
	void (*drain)(struct role *, uint32_t grace_ms);
	void (*stop)(struct role *);
	/* how many loops (threads) it will run: super makes that many channels to each peer */
	unsigned (*loops)(const struct conf *);
};

extern const struct role_ops receive_role, queue_role, send_role, resolve_role, local_role, keys_role, policy_role, web_role;

#endif
