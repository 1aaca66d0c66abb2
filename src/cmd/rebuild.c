/* rebuild.c - `postrider queue rebuild`: the index of the spool is made anew from its segment files alone.
 *
 * Postrider must not run: the control socket is tried first (the spool's own lock is the real guard).  As root it
 * becomes the user of the role `queue` before it touches a file, so that the new index belongs to who will use it.
 */
#include "cmd/rebuild.h"
#include "cmd/cmd.h"
#include "conf/conf.h"
#include "spool/spool.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define USER_NAME_MAX 64

static bool somebody_answers(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd, r;

	if ((size_t)snprintf(sa.sun_path, sizeof sa.sun_path, "%s", path) >= sizeof sa.sun_path)
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return false;
	r = connect(fd, (struct sockaddr *)&sa, sizeof sa);
	close(fd);
	return r == 0;
}

static int become_queue(const struct conf *conf)
{
	char name[USER_NAME_MAX];
	struct passwd *pw;

	if (geteuid() != 0)
		return 0;
	snprintf(name, sizeof name, "%s-queue", conf->global.user_prefix);
	pw = getpwnam(name);
	if (!pw || pw->pw_uid == 0) {
		fprintf(stderr, "postrider queue: there is no user %s, whom the spool belongs to\n", name);
		return EX_NOUSER;
	}
	if (setgroups(0, NULL) == -1 || setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) == -1 ||
	    setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) == -1) {
		fprintf(stderr, "postrider queue: become %s: %s\n", name, strerror(errno));
		return EX_OSERR;
	}
	return 0;
}

static int rebuild(const struct conf *conf)
{
	struct spool_options o = { .path = conf->global.spool, .env = &env_real,
				   .segment_size = conf->global.queue_segment_size };
	struct spool_recovery found = { 0 };
	struct error e = { 0 };

	if (spool_rebuild(&o, &found, &e) == -1) {
		fprintf(stderr, "postrider queue: rebuild: %s\n", e.text);
		return e.class == ERROR_AGAIN ? EX_TEMPFAIL : e.class == ERROR_FULL ? EX_CANTCREAT : EX_IOERR;
	}
	printf("%s: index made anew from %" PRIu64 " segments: %" PRIu64 " messages, %" PRIu64 " envelopes\n",
	       conf->global.spool, found.segments, found.messages, found.envelopes);
	if (found.torn_bytes || found.quarantined)
		printf("cut from a torn end: %" PRIu64 " octets; bad records set aside: %" PRIu64 "\n",
		       found.torn_bytes, found.quarantined);
	return 0;
}

int rebuild_queue(const struct control_where *where)
{
	struct conf *conf = NULL;
	struct error e = { 0 };
	int status = 0;

	if (conf_load(&conf, where->config ? where->config : CMD_CONFIG, &e) == -1) {
		fprintf(stderr, "postrider queue: %s\n", e.text);
		return EX_CONFIG;
	}
	if (access(conf->global.spool, F_OK) == -1) {
		fprintf(stderr, "postrider queue: %s: %s\n", conf->global.spool, strerror(errno));
		status = EX_NOINPUT;
	} else if (somebody_answers(where->path ? where->path : conf->global.control)) {
		fprintf(stderr, "postrider queue: Postrider runs; stop it first\n");
		status = EX_TEMPFAIL;
	} else {
		status = become_queue(conf);
	}
	umask(077); /* as the role queue has it */
	if (status == 0)
		status = rebuild(conf);
	conf_free(conf);
	return status;
}
