/* super.h - the process that binds, spawns, confines, restarts and reloads; it parses nothing that comes from the network.
 *
 * super_run reads and checks the configuration, binds listeners and the control socket, starts every role (each as
 * /proc/self/exe with the subcommand `role`, or inside this process with `single`), joins them with channels by
 * wire/edges.def, says event=ready, and serves until SIGTERM or SIGINT.  SIGHUP reloads; see reload.c, stop.c, restart.c.
 * super_role_main is the other side: what the subcommand `role` does.
 */
#ifndef SUPER_SUPER_H
#define SUPER_SUPER_H
#include "events/events.h"
#include "wire/role.h"

/* Set in the environment at start: SIGUSR1 makes every role try what its sandbox forbids and log what came of it. */
#define SUPER_SELFTEST "POSTRIDER_SELFTEST"

/* The rooms' ops by enum role_kind; ROLE_SUPER's place is NULL, ROLE_WORKER's is local's. */
struct super_rooms {
	const struct role_ops *ops[ROLE_WORKER + 1];
};
extern const struct super_rooms super_rooms; /* the real ones; roles.c, linked into the binary alone */

struct super_options {
	const char *path; /* of the configuration */
	const struct super_rooms *rooms;
	const struct env *env;
	bool single;             /* all roles in this process, unconfined: for debugging and the simulator */
	enum event_level least;  /* log lines below are only counted */
};

/* Blocks until stopped.  A status of sysexits.h: EX_OK after an orderly end; before `ready` errors go to stderr in words. */
int super_run(const struct super_options *);

/* argv as made by spawn.c: "role" KIND GENERATION FLAGS UID GID; descriptors 3.. as in inside.h.  Never for people. */
int super_role_main(int argc, char **argv, const struct super_rooms *, const struct env *);

#endif
