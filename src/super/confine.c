/* confine.c - the walls, in order: user, no new privileges, Landlock (files, TCP), seccomp (system calls); see super.h. */
#include "super/super.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define USER_NAME_MAX 64

static void user_name(const struct conf *conf, enum role_kind kind, char to[USER_NAME_MAX])
{
	snprintf(to, USER_NAME_MAX, "%s-%s", conf->global.user_prefix, role_name(kind));
}

uid_t confine_uid_of(const struct conf *conf, enum role_kind kind, gid_t *gid)
{
	char name[USER_NAME_MAX];
	struct passwd *pw;

	user_name(conf, kind, name);
	pw = getpwnam(name);
	*gid = pw ? pw->pw_gid : (gid_t)-1;
	return pw ? pw->pw_uid : (uid_t)-1;
}

int confine_users_exist(const struct conf *conf, struct error *e)
{
	static const enum role_kind kinds[] = { ROLE_RECEIVE, ROLE_QUEUE, ROLE_SEND, ROLE_RESOLVE, ROLE_LOCAL, ROLE_KEYS, ROLE_POLICY, ROLE_WEB };
	char missing[200] = "", name[USER_NAME_MAX];
	gid_t gid;

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (confine_uid_of(conf, kinds[i], &gid) != (uid_t)-1 || (kinds[i] == ROLE_WEB && conf->web_count == 0))
			continue;
		user_name(conf, kinds[i], name);
		snprintf(missing + strlen(missing), sizeof missing - strlen(missing), " %s", name);
	}
	if (!missing[0])
		return 0;
	return error_set(e, ERROR_INPUT,
	                 "started as root, but these users are missing:%s; make them with: for u in%s; do useradd --system "
	                 "--no-create-home --shell /usr/sbin/nologin $u; done", missing, missing);
}

/* What super needs as root: to become others and end them, ports below 1024, the queue's folder for its user, and files and
 * folders of others: keys that only their owner reads, the control socket. */
static const cap_value_t super_keeps[] = { CAP_SETUID, CAP_SETGID, CAP_SETPCAP, CAP_KILL, CAP_NET_BIND_SERVICE, CAP_CHOWN, CAP_FOWNER,
	CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH };
/* `local` looks whether a mailbox is there, also in a home that is closed to others; Landlock keeps it from opening any. */
static const cap_value_t local_keeps[] = { CAP_DAC_READ_SEARCH };

static bool is_among(cap_value_t cap, const cap_value_t *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] == cap)
			return true;
	return false;
}

/* Root in a container may have less than root elsewhere: what is not there cannot be kept. */
static size_t those_had(const cap_value_t *want, size_t n, cap_value_t *have)
{
	cap_t now = cap_get_proc();
	cap_flag_value_t on;
	size_t count = 0;

	for (size_t i = 0; now && i < n; i++)
		if (cap_get_flag(now, want[i], CAP_PERMITTED, &on) == 0 && on == CAP_SET)
			have[count++] = want[i];
	if (now)
		cap_free(now);
	return count;
}

/* Out of the bounding set: no exec brings them back.  Needs CAP_SETPCAP. */
static int bound_capabilities(const cap_value_t *keep, size_t n, struct error *e)
{
	for (cap_value_t cap = 0; CAP_IS_SUPPORTED(cap); cap++)
		if (!is_among(cap, keep, n) && cap_get_bound(cap) == 1 && cap_drop_bound(cap) == -1 && errno != EPERM)
			return error_sys(e, errno, "drop capability %d for good", cap);
	return 0;
}

/* All capabilities go, in all sets, but for these. */
static int drop_capabilities(const cap_value_t *keep, size_t n, struct error *e)
{
	cap_t caps = cap_init();
	int r = caps ? 0 : -1;

	if (r == 0 && n)
		r = cap_set_flag(caps, CAP_PERMITTED, (int)n, keep, CAP_SET) == -1 || cap_set_flag(caps, CAP_EFFECTIVE, (int)n, keep, CAP_SET) == -1 ? -1 : 0;
	if (r == 0)
		r = cap_set_proc(caps);
	if (r == -1)
		r = error_sys(e, errno, "drop capabilities");
	if (caps)
		cap_free(caps);
	return r;
}

int confine_nobody(struct error *e)
{
	return drop_capabilities(NULL, 0, e);
}

int confine_super(struct error *e)
{
	cap_value_t have[sizeof super_keeps / sizeof *super_keeps];
	size_t n = those_had(super_keeps, sizeof super_keeps / sizeof *super_keeps, have);

	return bound_capabilities(have, n, e) == -1 ? -1 : drop_capabilities(have, n, e);
}

int confine_user(const struct conf *conf, enum role_kind kind, uid_t worker, struct error *e)
{
	cap_value_t have[sizeof local_keeps / sizeof *local_keeps];
	size_t keep;
	gid_t gid;
	uid_t uid = confine_uid_of(conf, kind == ROLE_WORKER ? ROLE_LOCAL : kind, &gid);

	if (kind == ROLE_WORKER) { /* the owner of a mailbox, with the owner's own group when there is one */
		struct passwd *pw = getpwuid(worker);
		uid = worker;
		gid = pw ? pw->pw_gid : (gid_t)worker;
	}
	if (uid == (uid_t)-1 || uid == 0 || gid == (gid_t)-1 || gid == 0)
		return error_set(e, ERROR_INPUT, "no user to become for %s", role_name(kind));
	keep = those_had(local_keeps, kind == ROLE_LOCAL ? sizeof local_keeps / sizeof *local_keeps : 0, have);
	if (bound_capabilities(have, keep, e) == -1)
		return -1;
	if (keep && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == -1)
		return error_sys(e, errno, "keep a capability");
	if (setgroups(0, NULL) == -1 || setresgid(gid, gid, gid) == -1 || setresuid(uid, uid, uid) == -1)
		return error_sys(e, errno, "become user %u", (unsigned)uid);
	if (drop_capabilities(have, keep, e) == -1)
		return -1;
	if (setuid(0) != -1 || setgid(0) != -1 || geteuid() != uid || getegid() != gid) /* checked, because all else rests on it */
		return error_set(e, ERROR_OURS, "user %u could become root again", (unsigned)uid);
	return 0;
}

int confine_role(const struct conf *conf, enum role_kind kind, bool looks, struct confine_result *r, struct error *e)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		return error_sys(e, errno, "forbid new privileges");
	if (confine_landlock(conf, kind, looks, r, e) == -1)
		return -1;
	return confine_seccomp(kind, r, e);
}

/* ---- the proof ---- */

static const char *said(long r)
{
	if (r != -1)
		return "allowed";
	switch (errno) {
	case EPERM: return "EPERM";
	case EACCES: return "EACCES";
	case ENOENT: return "ENOENT"; /* it was looked for, so it was allowed */
	case ENOSYS: return "ENOSYS";
	default: return strerror(errno);
	}
}

void confine_prove(const struct role *role)
{
	char nowhere[] = "/nonexistent/postrider-proof", *argv[] = { nowhere, NULL }, *envp[] = { NULL };
	const char *opened, *executed, *socketed, *forked;
	int fd;
	pid_t pid;

	fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	opened = said(fd);
	if (fd != -1)
		close(fd);
	executed = said(execve(nowhere, argv, envp)); /* a file that is not: where execve is allowed it says ENOENT */
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socketed = said(fd);
	if (fd != -1)
		close(fd);
	pid = fork();
	if (pid == 0)
		_exit(0);
	forked = said(pid);
	EMIT(role->events, SANDBOX_PROOF, F_STR("open", opened), F_STR("exec", executed), F_STR("socket", socketed), F_STR("fork", forked));
}
