/* control_client.c - see control_client.h. */
#include "cmd/control_client.h"
#include "cmd/cmd.h"
#include "conf/conf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define READ_STEP 65536

/* ---- where ---- */

bool control_where_option(struct control_where *w, int argc, char **argv, int *i)
{
	const char **to = strcmp(argv[*i], "-c") == 0          ? &w->config
			  : strcmp(argv[*i], "--control") == 0 ? &w->path
							       : NULL;

	if (!to || *i + 1 >= argc)
		return false;
	*to = argv[++*i];
	return true;
}

static int path_of(const char *command, const struct control_where *w, struct sockaddr_un *sa)
{
	struct conf *conf = NULL;
	struct error e = { 0 };
	const char *path = w->path;
	int n;

	if (!path && conf_load(&conf, w->config ? w->config : CMD_CONFIG, &e) == -1) {
		fprintf(stderr, "postrider %s: %s\n", command, e.text);
		return EX_CONFIG;
	}
	n = snprintf(sa->sun_path, sizeof sa->sun_path, "%s", path ? path : conf->global.control);
	conf_free(conf);
	if (n >= 0 && (size_t)n < sizeof sa->sun_path)
		return 0;
	fprintf(stderr, "postrider %s: the path of the control socket is longer than %zu octets\n", command,
		sizeof sa->sun_path - 1);
	return EX_CONFIG;
}

static int unreachable(const char *command, const char *path, int err)
{
	if (err == EACCES || err == EPERM) {
		fprintf(stderr, "postrider %s: %s: %s; only root and the user that Postrider runs as may ask\n",
			command, path, strerror(err));
		return EX_NOPERM;
	}
	fprintf(stderr, "postrider %s: %s: %s; does Postrider run?\n", command, path, strerror(err));
	return EX_UNAVAILABLE;
}

int control_client_open(struct control_client *c, const char *command, const struct control_where *where)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const struct timeval patience = { .tv_sec = CONTROL_CLIENT_SECONDS };
	int status = path_of(command, where, &sa);

	if (status)
		return status;
	c->command = command;
	buf_init(&c->in, &alloc_libc, CONTROL_CLIENT_LINE_MAX + READ_STEP);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd == -1) {
		fprintf(stderr, "postrider %s: a socket: %s\n", command, strerror(errno));
		return EX_OSERR;
	}
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	if (connect(c->fd, (struct sockaddr *)&sa, sizeof sa) == -1) {
		status = unreachable(command, sa.sun_path, errno);
		control_client_close(c);
	}
	return status;
}

void control_client_close(struct control_client *c)
{
	if (c->fd != -1)
		close(c->fd);
	c->fd = -1;
	buf_free(&c->in);
}

/* ---- asking ---- */

/* Refused without a word?  The daemon tells nobody why; whose socket it is says enough. */
static int hung_up(struct control_client *c)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t n = sizeof peer;

	if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && geteuid() != 0 && peer.uid != geteuid()) {
		fprintf(stderr, "postrider %s: refused: only root and the user that Postrider runs as may ask\n",
			c->command);
		return EX_NOPERM;
	}
	fprintf(stderr, "postrider %s: the daemon ended the connection without an answer\n", c->command);
	return EX_UNAVAILABLE;
}

static int say(struct control_client *c, json_t *request)
{
	char *text = json_dumps(request, JSON_COMPACT);
	size_t n, at = 0;
	ssize_t r = 0;

	json_decref(request);
	if (!text) {
		fprintf(stderr, "postrider %s: the request cannot be said in JSON (is it UTF-8?)\n", c->command);
		return EX_USAGE;
	}
	n = strlen(text);
	text[n++] = '\n'; /* in place of the NUL: from here on it is counted */
	while (at < n && ((r = send(c->fd, text + at, n - at, MSG_NOSIGNAL)) > 0 || (r == -1 && errno == EINTR)))
		at += r > 0 ? (size_t)r : 0;
	free(text);
	return at == n ? 0 : hung_up(c);
}

static int no_answer(struct control_client *c, const char *why)
{
	fprintf(stderr, "postrider %s: %s\n", c->command, why);
	return EX_PROTOCOL;
}

/* One line as JSON in *out. */
static int next_line(struct control_client *c, json_t **out)
{
	size_t end, looked = 0;
	ssize_t r;

	while ((end = looked + view_find(view_slice(buf_view(&c->in), looked, SIZE_MAX), '\n')) == buf_len(&c->in)) {
		looked = buf_len(&c->in);
		if (looked >= CONTROL_CLIENT_LINE_MAX || !buf_reserve(&c->in, READ_STEP))
			return no_answer(c, "the daemon's answer is larger than any answer can be");
		r = recv(c->fd, buf_tail(&c->in), buf_room(&c->in), 0);
		if (r == -1 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			fprintf(stderr, "postrider %s: no answer within %d s\n", c->command, CONTROL_CLIENT_SECONDS);
			return EX_UNAVAILABLE;
		}
		if (r == 0 || (r == -1 && errno != EINTR))
			return hung_up(c);
		if (r > 0)
			buf_commit(&c->in, (size_t)r);
	}
	*out = json_loadb(buf_view(&c->in).p, end, 0, NULL);
	buf_take(&c->in, end + 1);
	return json_is_object(*out) ? 0 : no_answer(c, "the daemon's answer is no JSON object");
}

/* The daemon's words are all that the protocol gives to tell errors apart. */
static int refused(struct control_client *c, const char *why)
{
	fprintf(stderr, "postrider %s: %s\n", c->command, why);
	if (strstr(why, "no such message"))
		return EX_NOINPUT;
	if (strstr(why, "being delivered") || strcmp(why, "again") == 0 || strcmp(why, "memory") == 0)
		return EX_TEMPFAIL;
	if (strstr(why, "wanted") || strstr(why, "16 hex") || strstr(why, "dest must"))
		return EX_USAGE;
	return EX_UNAVAILABLE;
}

int control_client_ask(struct control_client *c, json_t *request, int (*item)(void *arg, json_t *item), void *arg,
		       json_t **answer)
{
	int status = say(c, request);
	json_t *line = NULL, *ok;

	while (status == 0) {
		status = next_line(c, &line);
		if (status)
			break;
		ok = json_object_get(line, "ok");
		if (!ok && item && json_is_object(json_object_get(line, "item")))
			status = item(arg, json_object_get(line, "item"));
		else if (json_is_false(ok))
			status = refused(c, json_string_value(json_object_get(line, "error"))
						    ? json_string_value(json_object_get(line, "error"))
						    : "refused without a reason");
		else if (json_is_true(ok)) {
			if (answer)
				*answer = line;
			else
				json_decref(line);
			return 0;
		}
		json_decref(line);
		line = NULL;
	}
	json_decref(line);
	return status;
}
