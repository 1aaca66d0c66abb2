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
	static const enum role_kind kinds[] = { ROLE_RECEIVE, ROLE_QUEUE, ROLE_SEND, ROLE_RESOLVE, ROLE_LOCAL, ROLE_KEYS };
	char missing[200] = "", name[USER_NAME_MAX];
	gid_t gid;

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (confine_uid_of(conf, kinds[i], &gid) != (uid_t)-1)
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

/* A process that may become any user gives the right away with the user: all capabilities go, in all sets. */
static int drop_capabilities(struct error *e)
{
	cap_t none = cap_init();
	int r;

	if (!none)
		return error_sys(e, errno, "drop capabilities");
	r = cap_set_proc(none);
	cap_free(none);
	return r == 0 ? 0 : error_sys(e, errno, "drop capabilities");
}

int confine_user(const struct conf *conf, enum role_kind kind, uid_t worker, struct error *e)
{
	gid_t gid;
	uid_t uid = confine_uid_of(conf, kind == ROLE_WORKER ? ROLE_LOCAL : kind, &gid);

	if (kind == ROLE_WORKER) { /* the owner of a mailbox, with the owner's own group when there is one */
		struct passwd *pw = getpwuid(worker);
		uid = worker;
		gid = pw ? pw->pw_gid : (gid_t)worker;
	}
	if (uid == (uid_t)-1 || uid == 0 || gid == (gid_t)-1 || gid == 0)
		return error_set(e, ERROR_INPUT, "no user to become for %s", role_name(kind));
	if (setgroups(0, NULL) == -1 || setresgid(gid, gid, gid) == -1 || setresuid(uid, uid, uid) == -1)
		return error_sys(e, errno, "become user %u", (unsigned)uid);
	if (setuid(0) != -1 || geteuid() != uid || getegid() != gid) /* checked, because all else rests on it */
		return error_set(e, ERROR_OURS, "user %u could become root again", (unsigned)uid);
	return drop_capabilities(e);
}

int confine_role(const struct conf *conf, enum role_kind kind, struct confine_result *r, struct error *e)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		return error_sys(e, errno, "forbid new privileges");
	if (confine_landlock(conf, kind, r, e) == -1)
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
