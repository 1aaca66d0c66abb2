/* rig.h - what the tests of the roles share: a role in this process, a clock that can be moved, its log, scripted sockets. */
#ifndef TESTS_RECEIVE_RIG_H
#define TESTS_RECEIVE_RIG_H
#include "wire/role.h"
#include "base/buf.h"
#include "wire/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Each file of tests uses some of these. */
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-variable"

static int64_t rig_skew; /* added to the real clock: tests do not wait for timeouts */

static bool rig_threads; /* the next role gets threads of its own, as in `run` without --single */

static int64_t rig_mono(void *arg)
{
	(void)arg;
	return env_real.mono_ms(NULL) + rig_skew;
}

struct rig {
	struct env env;
	struct loop *loop;
	struct conf *conf;
	struct handoff *files;
	struct events *events;
	int log;
	uint64_t counters[EVENT_COUNTERS];
	struct role role;
	unsigned drained;
	char log_text[1 << 18];
};

static void rig_drained(struct role *role)
{
	((struct rig *)role->runner)->drained++;
}

static void rig_to_super(struct role *role, uint32_t type, struct view payload)
{
	(void)role;
	(void)type;
	(void)payload;
}

/* conf: after hostname, spool and control.  prepare and start must succeed. */
static struct rig *rig_new(const struct role_ops *ops, const char *conf, const struct env_disk *disk)
{
	struct rig *r = calloc(1, sizeof *r);
	char text[8192];
	struct error e = { 0 };
	int n = snprintf(text, sizeof text, "hostname = \"mx.ours.test\"\nspool = \"/nowhere\"\ncontrol = \"/nowhere/c\"\n%s", conf);

	assert_non_null(r);
	assert_true(n < (int)sizeof text);
	rig_skew = 0;
	r->env = env_real;
	r->env.mono_ms = rig_mono;
	if (disk)
		r->env.disk = *disk;
	r->loop = loop_new(&r->env);
	if (conf_parse(&r->conf, view_cstr(text), "/test.conf", &e) == -1)
		fail_msg("%s", e.text);
	if (handoff_read(&r->files, r->conf, "/test.conf", role_name(ops->kind), &e) == -1)
		fail_msg("%s", e.text);
	r->log = memfd_create("log", MFD_CLOEXEC);
	r->events = events_new(&r->env, role_name(ops->kind), r->log, EVENT_DEBUG, r->counters);
	r->role = (struct role){ .kind = ops->kind, .ops = ops, .conf = r->conf, .files = r->files, .env = &r->env, .events = r->events,
		.loop = r->loop, .generation = 1, .single = !rig_threads, .no_policy = true, .extra_fd = -1, .to_super = rig_to_super, .drained = rig_drained, .runner = r };
	if (ops->prepare(&r->role, &e) == -1 || ops->start(&r->role, &e) == -1)
		fail_msg("%s", e.text);
	return r;
}

static void rig_free(struct rig *r)
{
	if (r->role.ops)
		r->role.ops->stop(&r->role);
	for (int i = 0; i < 3; i++)
		loop_turn(r->loop, false);
	loop_free(r->loop);
	events_free(r->events);
	close(r->log);
	handoff_free(r->files);
	conf_free(r->conf);
	free(r);
}

/* Turns the loop until the condition holds; on a busy machine that may take its time. */
#define UNTIL(r, condition)                                                                                                        \
	do {                                                                                                                       \
		int64_t end_ = env_real.mono_ms(NULL) + 20000;                                                                      \
		while (!(condition) && env_real.mono_ms(NULL) < end_) {                                                            \
			loop_turn((r)->loop, false);                                                                               \
			usleep(200);                                                                                               \
		}                                                                                                                  \
		if (!(condition))                                                                                                  \
			fail_msg("line %d: never came: %s\n%s", __LINE__, #condition, rig_log(r));                                 \
	} while (0)

/* The log as text. */
static const char *rig_log(struct rig *r)
{
	ssize_t n = pread(r->log, r->log_text, sizeof r->log_text - 1, 0);

	r->log_text[n > 0 ? n : 0] = 0;
	return r->log_text;
}

static void rig_turns(struct rig *r, unsigned n)
{
	while (n--)
		loop_turn(r->loop, false);
}

static bool rig_logged(struct rig *r, const char *words)
{
	return strstr(rig_log(r), words) != NULL;
}

/* A listening socket on loopback; *port says where. */
static int rig_listen(uint16_t *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(fd, 512), 0);
	getsockname(fd, (struct sockaddr *)&a, &n);
	*port = ntohs(a.sin_port);
	return fd;
}

static int rig_connect(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

#endif
