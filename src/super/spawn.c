/* spawn.c - one child process: the same binary again, with its role and its descriptors; see super.h.
 *
 * The child inherits standard error (the log), its line to super, its handoff, its counters and, for `queue`, the control
 * socket; every other descriptor of super is closed on exec.
 */
#include "super/super.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct child *child_add(struct super *s, enum role_kind kind, uint32_t generation, bool current)
{
	struct child *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	*c = (struct child){ .next = s->children, .super = s, .kind = kind, .generation = generation, .current = current, .counters_fd = -1 };
	s->children = c;
	return c;
}

void child_forget(struct child *c)
{
	struct child **at = &c->super->children;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	if (c->link)
		channel_free(c->link);
	if (c->counters_fd != -1)
		close(c->counters_fd);
	if (c->timer.loop)
		loop_timer_stop(&c->timer);
	child_drop_waiting(c);
	free(c);
}

struct child *child_current(struct super *s, enum role_kind kind)
{
	for (struct child *c = s->children; c; c = c->next)
		if (c->kind == kind && c->current)
			return c;
	return NULL;
}

/* ---- frames to a child ---- */

static bool send_now(struct child *c, uint32_t type, struct view v, int fd)
{
	bool ok = fd == -1 ? channel_send(c->link, type, v) : channel_send_fd(c->link, type, v, fd);

	if (ok && fd != -1)
		channel_flush(c->link); /* a channel holds some tens of descriptors, and many loops need hundreds */
	return ok;
}

static void drop_first(struct child *c)
{
	struct waiting *w = c->waiting;

	c->waiting = w->next;
	c->waiting_count--;
	if (w->fd != -1)
		close(w->fd);
	free(w);
}

void child_drop_waiting(struct child *c)
{
	while (c->waiting)
		drop_first(c);
	if (c->retry.loop)
		loop_timer_stop(&c->retry);
}

static void on_retry(void *arg)
{
	struct child *c = arg;

	while (c->waiting && c->link && send_now(c, c->waiting->type, view_of(c->waiting->payload, c->waiting->n), c->waiting->fd))
		drop_first(c);
	if (c->waiting && c->link && channel_is_open(c->link))
		loop_timer_set(&c->retry, loop_now(c->super->loop) + SUPER_WAITING_RETRY_MS);
	else
		child_drop_waiting(c);
}

static bool send_later(struct child *c, uint32_t type, struct view v, int fd)
{
	struct waiting *w = c->waiting_count < SUPER_WAITING_MAX ? malloc(sizeof *w + v.n) : NULL, **at = &c->waiting;

	if (!w)
		return false;
	*w = (struct waiting){ .type = type, .n = v.n, .fd = fd == -1 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0) };
	if (fd != -1 && w->fd == -1) {
		free(w);
		return false;
	}
	if (v.n)
		memcpy(w->payload, v.p, v.n);
	while (*at)
		at = &(*at)->next;
	*at = w;
	c->waiting_count++;
	if (!c->retry.loop)
		loop_timer_init(&c->retry, c->super->loop, on_retry, c);
	loop_timer_set(&c->retry, loop_now(c->super->loop) + SUPER_WAITING_RETRY_MS);
	return true;
}

bool child_send(struct child *c, uint32_t type, const struct buf *payload, int fd)
{
	struct view v = payload ? buf_view(payload) : VIEW("");

	if (!c->link || !channel_is_open(c->link))
		return false;
	return (!c->waiting && send_now(c, type, v, fd)) || send_later(c, type, v, fd);
}

/* Counters live in memory shared with the child, so that `queue` can print them while the child works. */
static int make_counters(struct error *e)
{
	int fd = memfd_create("postrider-counters", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd == -1)
		return error_sys(e, errno, "make counters");
	/* sealed in size: a role that cut it short would end the one that counts */
	if (ftruncate(fd, (off_t)(EVENT_COUNTERS * sizeof(uint64_t))) == -1 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1) {
		error_sys(e, errno, "make counters");
		close(fd);
		return -1;
	}
	return fd;
}

/* In the child between fork and exec: only calls that are safe there.  Targets may overlap sources, so everything is
 * first moved out of the way. */
static void place_descriptors(const int from[CHILD_FD_END])
{
	int high[CHILD_FD_END];

	for (int i = CHILD_FD_SUPER; i < CHILD_FD_END; i++) {
		high[i] = from[i] == -1 ? -1 : fcntl(from[i], F_DUPFD, 64);
		if (from[i] != -1 && high[i] == -1)
			_exit(SUPER_EXIT_OSERR);
	}
	for (int i = CHILD_FD_SUPER; i < CHILD_FD_END; i++) {
		if (high[i] == -1) {
			close(i);
			continue;
		}
		if (dup2(high[i], i) == -1)
			_exit(SUPER_EXIT_OSERR);
		close(high[i]);
	}
	close_range(CHILD_FD_END, ~0u, 0);
}

static void exec_child(const struct child *c, const int fds[CHILD_FD_END])
{
	char kind[16], generation[16], uid[16];
	char program[] = "postrider", word[] = "role";
	char *argv[] = { program, word, kind, generation, uid, NULL };

	snprintf(kind, sizeof kind, "%s", role_name(c->kind));
	snprintf(generation, sizeof generation, "%u", c->generation);
	snprintf(uid, sizeof uid, "%u", (unsigned)c->uid);
	place_descriptors(fds);
	execv("/proc/self/exe", argv);
	_exit(SUPER_EXIT_OSERR);
}

static const char *handoff_name(enum role_kind kind)
{
	return role_name(kind == ROLE_WORKER ? ROLE_LOCAL : kind);
}

static int make_handoff(struct super *s, enum role_kind kind, struct error *e)
{
	struct handoff *h = NULL;
	const char *problems[16];
	size_t n;
	int fd;

	if (handoff_read(&h, s->conf, s->path, handoff_name(kind), e) == -1)
		return -1;
	n = handoff_problems(h, problems, sizeof problems / sizeof *problems);
	for (size_t i = 0; i < n && i < sizeof problems / sizeof *problems; i++)
		EMIT(s->events, FILE_PROBLEM, F_STR("role_name", role_name(kind)), F_STR("reason", problems[i]));
	fd = handoff_pack(h, e);
	handoff_free(h);
	return fd;
}

int spawn_child(struct super *s, struct child *c, struct error *e)
{
	int pair[2], fds[CHILD_FD_END] = { -1, -1, -1, -1, -1, -1, -1 };
	pid_t pid;

	if (c->counters_fd == -1)
		c->counters_fd = make_counters(e);
	if (c->counters_fd == -1)
		return -1;
	fds[CHILD_FD_HANDOFF] = make_handoff(s, c->kind, e);
	if (fds[CHILD_FD_HANDOFF] == -1)
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1) {
		close(fds[CHILD_FD_HANDOFF]);
		return error_sys(e, errno, "make a channel");
	}
	fds[CHILD_FD_SUPER] = pair[1];
	fds[CHILD_FD_COUNTERS] = c->counters_fd;
	if (c->kind == ROLE_QUEUE)
		fds[CHILD_FD_CONTROL] = s->control_fd;
	pid = fork();
	if (pid == 0)
		exec_child(c, fds);
	close(pair[1]);
	close(fds[CHILD_FD_HANDOFF]);
	if (pid == -1) {
		error_sys(e, errno, "start %s", role_name(c->kind));
		close(pair[0]);
		return -1;
	}
	c->pid = pid;
	c->notice[0] = '\0';
	c->state = CHILD_STARTING;
	c->started = loop_now(s->loop);
	c->link = channel_new(s->loop, pair[0]);
	return c->link ? 0 : error_set(e, ERROR_AGAIN, "no memory for a channel");
}
