/* listen.c - the sockets: bound once, kept over a reload by address, handed to `receive` or `web`; and the control socket. */
#include "super/super.h"

#include "net/listen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_TRIES 10
#define ANSWER_PAUSE_MS 100

static struct bound *find(struct super *s, const struct conf_address *a)
{
	struct bound *b = s->bound;

	while (b && (b->address.len != a->len || memcmp(&b->address.sa, &a->sa, a->len) != 0))
		b = b->next;
	return b;
}

static int bind_one(struct super *s, const struct conf_address *a, struct error *e)
{
	struct bound *b = calloc(1, sizeof *b);

	if (!b)
		return error_set(e, ERROR_AGAIN, "no memory");
	b->fd = listen_open((const struct sockaddr *)&a->sa, a->len, e);
	if (b->fd == -1) {
		free(b);
		return -1;
	}
	b->address = *a;
	b->address.text = NULL; /* it belongs to a configuration that may go */
	b->next = s->bound;
	s->bound = b;
	return 0;
}

/* All addresses of one section: bound where they are new, then theirs. */
static int bind_section(struct super *s, const struct conf_address *all, size_t n, struct error *e)
{
	for (size_t i = 0; i < n; i++)
		if (!find(s, &all[i]) && bind_one(s, &all[i], e) == -1)
			return -1;
	return 0;
}

static void take_section(struct super *s, const struct conf_address *all, size_t n, enum role_kind kind, size_t section)
{
	for (size_t i = 0; i < n; i++) {
		struct bound *b = find(s, &all[i]);
		b->wanted = true;
		b->kind = kind;
		b->listener = (uint32_t)section;
		b->number = (uint32_t)i;
	}
}

int listen_bind_all(struct super *s, const struct conf *conf, struct error *e)
{
	for (size_t i = 0; i < conf->listener_count; i++)
		if (bind_section(s, conf->listeners[i].addresses, conf->listeners[i].address_count, e) == -1)
			return -1;
	for (size_t i = 0; i < conf->web_count; i++)
		if (bind_section(s, conf->webs[i].addresses, conf->webs[i].address_count, e) == -1)
			return -1;
	for (struct bound *b = s->bound; b; b = b->next)
		b->wanted = false;
	for (size_t i = 0; i < conf->listener_count; i++)
		take_section(s, conf->listeners[i].addresses, conf->listeners[i].address_count, ROLE_RECEIVE, i);
	for (size_t i = 0; i < conf->web_count; i++)
		take_section(s, conf->webs[i].addresses, conf->webs[i].address_count, ROLE_WEB, i);
	return 0;
}

void listen_close_unwanted(struct super *s)
{
	struct bound **at = &s->bound, *b;

	while ((b = *at) != NULL) {
		if (b->wanted) {
			at = &b->next;
			continue;
		}
		*at = b->next;
		close(b->fd);
		free(b);
	}
}

static int somebody_answers(const struct sockaddr_un *sa, bool *yes, struct error *e)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd == -1)
		return error_sys(e, errno, "make a socket");
	*yes = connect(fd, (const struct sockaddr *)sa, sizeof *sa) == 0 || errno == EAGAIN; /* EAGAIN: its backlog is full */
	close(fd);
	return 0;
}

/* A socket file without anybody behind it is left from a crash; one that answers belongs to another Postrider, or for a
 * moment to the roles of one that was killed. */
static int remove_stale(const char *path, const struct sockaddr_un *sa, struct error *e)
{
	const struct timespec pause = { 0, ANSWER_PAUSE_MS * 1000000l };
	struct stat st;
	bool answers = true;

	if (lstat(path, &st) == -1)
		return errno == ENOENT ? 0 : error_sys(e, errno, "%s", path);
	if (!S_ISSOCK(st.st_mode))
		return error_set(e, ERROR_INPUT, "control: %s exists and is not a socket", path);
	for (int i = 0; answers && i < ANSWER_TRIES; i++) {
		if (i > 0)
			nanosleep(&pause, NULL);
		if (somebody_answers(sa, &answers, e) == -1)
			return -1;
	}
	if (answers)
		return error_set(e, ERROR_INPUT, "control: another Postrider answers at %s", path);
	return unlink(path) == 0 ? 0 : error_sys(e, errno, "remove %s", path);
}

static void make_folder_of(const char *path)
{
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char *slash;

	snprintf(folder, sizeof folder, "%s", path);
	slash = strrchr(folder, '/');
	if (!slash || slash == folder)
		return;
	for (char *p = folder + 1; p <= slash; p++)
		if (*p == '/' || p == slash) {
			*p = 0;
			mkdir(folder, 0755); /* what fails here fails at bind, with the path in the message */
			*p = '/';
		}
}

int listen_control(struct super *s, struct error *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const char *path = s->conf->global.control;
	mode_t old;
	int r;

	if (strlen(path) >= sizeof sa.sun_path)
		return error_set(e, ERROR_INPUT, "control: the path is longer than %zu octets: %s", sizeof sa.sun_path - 1, path);
	snprintf(sa.sun_path, sizeof sa.sun_path, "%s", path);
	make_folder_of(path);
	if (remove_stale(path, &sa, e) == -1)
		return -1;
	s->control_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->control_fd == -1)
		return error_sys(e, errno, "make the control socket");
	old = umask(0177); /* rw for the owner alone, from the first moment */
	r = bind(s->control_fd, (const struct sockaddr *)&sa, sizeof sa);
	umask(old);
	if (r == -1)
		return error_sys(e, errno, "control: bind %s", path);
	s->control_path = strdup(path);
	return listen(s->control_fd, 16) == 0 ? 0 : error_sys(e, errno, "control: listen on %s", path);
}
