/* client_play.c - waits for the client of a case, or starts it, and serves its connections one after the other. */
#include "probe/client_inside.h"

#include "base/env.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS_MAX 64u       /* of the command */
#define WORD_MAX 4096u      /* octets of one, its {port} filled in */
#define CASE_WAITS 4u       /* a case lasts at most so many times what its first connection may take to come */
#define END_MS 1000         /* between asking the command to end and ending it */

extern char **environ;

/* ---- the command ---- */

struct child {
	pid_t pid; /* 0: none runs */
	int fd;    /* becomes readable when it has ended; -1: none */
};

/* {port}, {address} and {case} are filled in; NULL: memory, or it is too long. */
static char *fill_in(const struct client_probe *c, const char *word)
{
	char host[ADDRESS_TEXT];
	struct buf b;
	bool ok = true;
	char *filled;

	address_host((const struct sockaddr *)&c->bound.sa, host);
	buf_init(&b, &alloc_libc, WORD_MAX);
	while (ok && *word) {
		if (strncmp(word, "{port}", 6) == 0) {
			ok = buf_addf(&b, "%u", address_port((const struct sockaddr *)&c->bound.sa));
			word += 6;
		} else if (strncmp(word, "{address}", 9) == 0) {
			ok = buf_add(&b, view_cstr(host));
			word += 9;
		} else if (strncmp(word, "{case}", 6) == 0) {
			ok = buf_addf(&b, "%u", c->p.now->check->number);
			word += 6;
		} else {
			ok = buf_add(&b, view_of(word++, 1));
		}
	}
	filled = ok ? strndup(buf_view(&b).p, buf_len(&b)) : NULL;
	buf_free(&b);
	return filled;
}

static int spawn(const struct client_probe *c, char **argv, pid_t *pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t none;
	int e = posix_spawn_file_actions_init(&files);

	if (e != 0)
		return e;
	if ((e = posix_spawnattr_init(&attributes)) != 0) {
		posix_spawn_file_actions_destroy(&files);
		return e;
	}
	sigemptyset(&none);
	sigaddset(&none, SIGPIPE); /* we ignore it, and a child would inherit that */
	posix_spawnattr_setsigdefault(&attributes, &none);
	posix_spawnattr_setpgroup(&attributes, 0); /* so that its own children end with it */
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	if (c->o->command_speaks)
		posix_spawn_file_actions_adddup2(&files, 2, 1); /* standard output is the report's */
	else
		posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
	if (!c->o->command_speaks)
		posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
	e = posix_spawnp(pid, argv[0], &files, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&files);
	return e;
}

/* False: there is a command, and it does not run. */
static bool child_start(struct client_probe *c, struct child *child)
{
	char *argv[WORDS_MAX + 1] = { NULL };
	unsigned n = 0;
	int e = 0;

	*child = (struct child){ 0, -1 };
	if (!c->o->command)
		return true;
	while (c->o->command[n] && n < WORDS_MAX) {
		argv[n] = fill_in(c, c->o->command[n]);
		if (!argv[n])
			e = E2BIG;
		n++;
	}
	if (e == 0)
		e = spawn(c, argv, &child->pid);
	if (e != 0)
		probe_report_line(c->p.report, c->p.now, (uint32_t)(probe_now() - c->p.began_ms), 0, PROBE_EVENT, false,
				  view_cstr(e == ENOENT ? "the command was not found" : "the command could not be started"));
	else
		child->fd = pidfd_open(child->pid, 0);
	for (unsigned i = 0; i < n; i++)
		free(argv[i]);
	if (e != 0)
		child->pid = 0;
	return e == 0;
}

static void tell_status(struct client_probe *c, int status)
{
	char words[80];

	if (WIFEXITED(status))
		snprintf(words, sizeof words, "the command ended with status %d", WEXITSTATUS(status));
	else
		snprintf(words, sizeof words, "the command was ended by signal %d", WTERMSIG(status));
	c->seen.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	probe_report_line(c->p.report, c->p.now, (uint32_t)(probe_now() - c->p.began_ms), 0, PROBE_EVENT, false, view_cstr(words));
}

/* Has it ended?  Then it is told. */
static bool child_ended(struct client_probe *c, struct child *child)
{
	int status;

	if (!child->pid || waitpid(child->pid, &status, WNOHANG) != child->pid)
		return !child->pid;
	tell_status(c, status);
	child->pid = 0;
	return true;
}

static void child_end(struct client_probe *c, struct child *child)
{
	if (child->pid && !child_ended(c, child)) {
		struct pollfd wait = { .fd = child->fd, .events = POLLIN };
		int status;

		kill(-child->pid, SIGTERM);
		poll(&wait, 1, END_MS);
		kill(-child->pid, SIGKILL);
		if (waitpid(child->pid, &status, 0) == child->pid)
			tell_status(c, status);
		child->pid = 0;
	}
	if (child->fd != -1)
		close(child->fd);
}

/* ---- connections ---- */

static void serve_one(struct client_probe *c)
{
	struct probe_link l = { .p = &c->p, .end = PROBE_OPEN };
	struct client_trace *trace = &c->seen.trace[c->seen.connections];
	struct address from = { .len = sizeof from.sa };
	char where[ADDRESS_TEXT];
	int on = 1;

	l.fd = accept4(c->fd, (struct sockaddr *)&from.sa, &from.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (l.fd == -1)
		return; /* it went away again */
	setsockopt(l.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* a write is a segment: cases depend on it */
	buf_init(&l.in, &alloc_libc, PROBE_INPUT_MAX);
	l.number = ++c->p.report->connections;
	c->seen.connections++;
	c->came = true;
	probe_event(&l, "connection from %s", address_text((const struct sockaddr *)&from.sa, where));
	client_serve(c, &l, trace);
	probe_close(&l);
}

/* How long to wait for what comes next, at most; 0: the case is over. */
static int64_t time_left(const struct client_probe *c, const struct child *child, bool ended, int64_t began, int64_t last)
{
	const struct probe_client_options *o = c->o;
	int64_t now = probe_now(), until = began + CASE_WAITS * (int64_t)o->wait_ms;

	if (c->seen.connections == CLIENT_CONNECTIONS_MAX)
		return 0;
	if (!c->seen.connections)
		until = began + o->wait_ms;
	else if (!child->pid || ended)
		until = last + o->settle_ms < until ? last + o->settle_ms : until;
	else
		until = last + o->timeout_ms < until ? last + o->timeout_ms : until;
	return until > now ? until - now : 0;
}

bool client_play(struct client_probe *c)
{
	struct child child;
	int64_t began = probe_now(), last = began, left;
	bool ended = false, started;

	c->seen = (struct client_seen){ .status = -1 };
	started = child_start(c, &child);
	while (started && (left = time_left(c, &child, ended, began, last)) > 0) {
		struct pollfd wait[2] = { { .fd = c->fd, .events = POLLIN }, { .fd = child.pid && !ended ? child.fd : -1, .events = POLLIN } };

		if (poll(wait, 2, (int)left) == -1 && errno != EINTR)
			break;
		if (wait[0].revents & POLLIN) {
			serve_one(c);
			last = probe_now();
		} else if (wait[1].revents) {
			ended = child_ended(c, &child);
			last = probe_now();
		}
	}
	child_end(c, &child);
	if (c->seen.connections) {
		c->missed = 0;
		return true;
	}
	c->missed++;
	if (started)
		client_say(c, PROBE_UNTESTED, "no connection came within %u s", (c->o->wait_ms + 999) / 1000);
	else
		client_say(c, PROBE_UNTESTED, "the client could not be started");
	return false;
}
