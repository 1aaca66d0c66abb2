/* confine_landlock.c - which files a role can reach, and (newer kernels) which TCP ports and whose sockets and signals.
 *
 * receive, web, send, resolve and keys reach no file at all; queue reaches the spool; local and its workers reach the fixed
 * parts of the configured mailbox paths; local as root, where workers deliver, opens nothing (to look whether a mailbox is
 * there is not governed by Landlock).  Numbers that Debian 12's headers do not know yet are stated here, from the
 * kernel's documentation of Landlock; which of them apply is asked of the running kernel (its ABI number).
 */
#include "super/super.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FS_EXECUTE (1ull << 0)
#define FS_ABI1 ((1ull << 13) - 1) /* execute ... make_sym */
#define FS_REFER (1ull << 13)      /* ABI 2 */
#define FS_TRUNCATE (1ull << 14)   /* ABI 3 */
#define FS_IOCTL_DEV (1ull << 15)  /* ABI 5 */
#define NET_BIND_TCP (1ull << 0)   /* ABI 4 */
#define NET_CONNECT_TCP (1ull << 1)
#define SCOPE_ABSTRACT_UNIX (1ull << 0) /* ABI 6 */
#define SCOPE_SIGNAL (1ull << 1)

struct ruleset { uint64_t fs, net, scoped; };

static uint64_t fs_rights(int abi)
{
	return FS_ABI1 | (abi >= 2 ? FS_REFER : 0) | (abi >= 3 ? FS_TRUNCATE : 0) | (abi >= 5 ? FS_IOCTL_DEV : 0);
}

static uint64_t net_rights(enum role_kind kind)
{
	/* send binds to a chosen source address and connects; resolve asks servers over TCP too; policy fetches */
	if (kind == ROLE_SEND || kind == ROLE_RESOLVE || kind == ROLE_POLICY)
		return 0;
	return NET_BIND_TCP | NET_CONNECT_TCP;
}

static int allow_beneath(int ruleset, const char *path, uint64_t rights, struct error *e)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = rights };
	int r;

	rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (rule.parent_fd == -1)
		return error_sys(e, errno, "confine to %s", path);
	r = (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	close(rule.parent_fd);
	return r == 0 ? 0 : error_sys(e, errno, "confine to %s", path);
}

void confine_mail_root(const char *template, char *to, size_t room)
{
	const char *mark = strstr(template, "%{"), *end = mark ? mark : template + strlen(template);

	while (end > template && end[-1] != '/')
		end--;
	if (end == template) /* no absolute path: conf makes all absolute */
		snprintf(to, room, "%s", "");
	else if (end == template + 1)
		snprintf(to, room, "/");
	else
		snprintf(to, room, "%.*s", (int)(end - template - 1), template);
}

/* Without a mark the mailbox itself may be still to be made, so its folder is what is allowed. */
static int allow_mail(int ruleset, const char *template, uint64_t rights, struct error *e)
{
	char path[4096];

	confine_mail_root(template, path, sizeof path);
	if (!path[0] || access(path, F_OK) == -1)
		return 0; /* its mail is deferred until it is there, as it would be without walls */
	return allow_beneath(ruleset, path, rights, e);
}

/* The n-th template of a mailbox, or NULL behind the last; "" where a domain has none. */
static const char *mail_template(const struct conf *conf, size_t n)
{
	const struct conf_delivery *d = n < conf->domain_count ? &conf->domains[n].hop.delivery : n == conf->domain_count ? conf->postmaster : NULL;

	if (n > conf->domain_count)
		return NULL;
	return d && d->kind == CONF_DELIVER_MAILDIR ? d->path : "";
}

/* Is every folder of a's among b's? */
static bool roots_within(const struct conf *a, const struct conf *b)
{
	char mine[4096], yours[4096];
	const char *t, *u;

	for (size_t i = 0; (t = mail_template(a, i)) != NULL; i++) {
		bool found = false;
		confine_mail_root(t, mine, sizeof mine);
		for (size_t j = 0; mine[0] && !found && (u = mail_template(b, j)) != NULL; j++) {
			confine_mail_root(u, yours, sizeof yours);
			found = strcmp(mine, yours) == 0;
		}
		if (mine[0] && !found)
			return false;
	}
	return true;
}

bool confine_same_roots(const struct conf *a, const struct conf *b)
{
	return roots_within(a, b) && roots_within(b, a);
}

static int add_rules(const struct conf *conf, enum role_kind kind, bool looks, int ruleset, uint64_t rights, struct error *e)
{
	const char *template;

	rights &= ~FS_EXECUTE;
	if (kind == ROLE_QUEUE)
		return allow_beneath(ruleset, conf->global.spool, rights, e);
	if (kind == ROLE_POLICY) /* without its folder it keeps all in memory */
		return access(conf->global.policy_folder, F_OK) == -1 ? 0 : allow_beneath(ruleset, conf->global.policy_folder, rights, e);
	if (looks || (kind != ROLE_LOCAL && kind != ROLE_WORKER))
		return 0;
	for (size_t i = 0; (template = mail_template(conf, i)) != NULL; i++)
		if (template[0] && allow_mail(ruleset, template, rights, e) == -1)
			return -1;
	return 0;
}

int confine_landlock(const struct conf *conf, enum role_kind kind, bool looks, struct confine_result *r, struct error *e)
{
	struct ruleset set = { 0, 0, 0 };
	size_t size = sizeof(uint64_t);
	int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION), fd, result;

	if (abi < 1) {
		snprintf(r->missing, sizeof r->missing, "this kernel has no Landlock (%s)", strerror(errno));
		return 0;
	}
	r->landlock_abi = abi;
	set.fs = fs_rights(abi);
	if (abi >= 4) {
		set.net = net_rights(kind);
		size = 2 * sizeof(uint64_t);
	}
	if (abi >= 6) {
		set.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
		size = sizeof set;
	}
	fd = (int)syscall(SYS_landlock_create_ruleset, &set, size, 0);
	if (fd == -1)
		return error_sys(e, errno, "make a Landlock ruleset");
	result = add_rules(conf, kind, looks, fd, set.fs, e);
	if (result == 0 && syscall(SYS_landlock_restrict_self, fd, 0) == -1)
		result = error_sys(e, errno, "enter Landlock");
	close(fd);
	r->landlock = result == 0;
	return result;
}
