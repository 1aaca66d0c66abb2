/* confine.h - what a role gives up before it serves: user, groups, capabilities, files, system calls.
 *
 * confine_now is called once, before the process has threads.  Order and its reason: limits first (they need what is given
 * up later); user and capabilities next; Landlock before seccomp, because seccomp forbids Landlock's calls.
 * Failure: -1 when something that must work does not (changing the user, dropping capabilities).  A kernel without
 * Landlock or seccomp is no failure: the missing bit is told to super and the log says it.
 */
#ifndef SUPER_CONFINE_H
#define SUPER_CONFINE_H
#include "base/error.h"
#include "events/events.h"
#include "wire/role.h"

#include <stdint.h>
#include <sys/types.h>

/* In STARTED: bits, and Landlock's ABI in the upper half. */
enum confine_bit { CONFINE_SECCOMP = 1, CONFINE_LANDLOCK = 2, CONFINE_USER = 4 };
#define CONFINE_ABI_SHIFT 4

#define CONFINE_NO_USER ((uid_t)-1)

struct confine_plan {
	enum role_kind kind;
	uid_t uid;               /* CONFINE_NO_USER: stay who we are */
	gid_t gid;
	bool sandbox;            /* off: user and capabilities only */
	bool looks;              /* `local` as root: may look at every mailbox (CAP_DAC_READ_SEARCH), read none */
	const char *const *roots; /* beneath these: files may be read and written; existing directories */
	size_t root_count;
};

/* bits: what is in force.  missing: why something is not ("" when all is). */
int confine_now(const struct confine_plan *, uint8_t *bits, char missing[200], struct error *);

/* The folders that this role works in: owned by the caller (confine_roots_free).  -1: memory. */
struct conf;
int confine_roots(enum role_kind, const struct conf *, bool broker, char ***roots, size_t *count);
void confine_roots_free(char **roots, size_t count);

/* Limits of the process: no core files of those that hold secrets; as many descriptors as allowed. */
int confine_limits(enum role_kind, struct error *);
/* Super as root keeps these and nothing else. */
int confine_super(struct error *);

/* parts */
int confine_user(const struct confine_plan *, struct error *);
int confine_landlock(const struct confine_plan *, unsigned *abi, char why[160]); /* 1 done, 0 not available, -1 never */
int confine_seccomp(enum role_kind, char why[160]);                              /* 1 done, 0 not available */

/* selftest.c: tries to open a file, execute, fork, make sockets; one event each.  Only for the proof. */
void confine_selftest(struct events *, const char *role);

#endif
