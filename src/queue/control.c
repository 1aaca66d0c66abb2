/* control.c - the socket and the lines of control.h. */
#include "queue/control.h"
#include "queue/client.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct control {
	struct queue *q;
	struct loop_watch listen;
	struct client *clients;
	unsigned n;
	uint64_t serial;
};

static void pump_client(struct client *c);

/* ---- a client's end ---- */

static void release(struct client *c)
{
	buf_free(&c->in);
	buf_free(&c->out);
	if (c->request)
		json_decref(c->request);
	free(c);
}

/* A completion that is owed still refers to it: then it is freed by client_resume. */
static void kill_client(struct client *c)
{
	struct control *control = c->q->control;
	struct client **at = &control->clients;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	control->n--;
	loop_timer_stop(&c->timer);
	loop_watch_stop(&c->watch);
	close(c->fd);
	c->fd = -1;
	c->dead = true;
	if (!c->pending)
		release(c);
}

bool client_resume(struct client *c)
{
	c->pending = false;
	if (!c->dead)
		return false;
	release(c);
	return true;
}

/* ---- lines out ---- */

json_t *client_text(struct view v)
{
	json_t *s = json_stringn(v.p ? v.p : "", v.n);
	char *copy;
	size_t i;

	if (s)
		return s;
	copy = malloc(v.n + 1);
	if (!copy)
		return json_string("");
	for (i = 0; i < v.n; i++)
		copy[i] = (unsigned char)v.p[i] > 127 ? '?' : v.p[i];
	s = json_stringn(copy, v.n);
	free(copy);
	return s ? s : json_string("");
}

void client_put(struct client *c, json_t *o)
{
	size_t n = o && !c->cut ? json_dumpb(o, NULL, 0, JSON_COMPACT) : 0;

	/* Straight into the output: json_dumps (jansson 2.14) leaves words out when memory fails in its middle, and says
	 * nothing.  An answer that cannot be told whole: the connection ends after the lines that are there, and no line
	 * that says "ok" follows, or a list with messages missing would pass for a whole one. */
	if (n && buf_reserve(&c->out, n + 1) && json_dumpb(o, (char *)buf_tail(&c->out), n, JSON_COMPACT) == n) {
		buf_commit(&c->out, n);
		buf_add(&c->out, VIEW("\n"));
	} else
		c->half_closed = c->cut = true;
	if (o)
		json_decref(o);
}

void client_finish(struct client *c)
{
	c->task = 0;
	c->more = false;
	loop_timer_stop(&c->timer);
	if (c->request)
		json_decref(c->request);
	c->request = NULL;
	pump_client(c);
}

/* False: the client is gone. */
static bool write_out(struct client *c)
{
	ssize_t n;

	while (buf_len(&c->out)) {
		n = send(c->fd, buf_view(&c->out).p, buf_len(&c->out), MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n == -1) {
			kill_client(c);
			return false;
		}
		buf_take(&c->out, (size_t)n);
	}
	return true;
}

/* ---- lines in ---- */

/* Serves whole lines, one after the other, and writes what is there; may end the client. */
static void pump_client(struct client *c)
{
	size_t n;

	if (c->pumping)
		return; /* a request that is answered at once ends inside the loop below */
	c->pumping = true;
	while (!c->task) {
		struct view in = buf_view(&c->in);

		n = view_find(in, '\n');
		if (n == in.n)
			break;
		client_request(c, view_slice(in, 0, n)); /* the JSON parser copies what it keeps */
		buf_take(&c->in, n + 1);
	}
	c->pumping = false;
	if (!c->task && buf_len(&c->in) >= CONTROL_LINE_MAX && view_find(buf_view(&c->in), '\n') == buf_len(&c->in)) {
		kill_client(c);
		return;
	}
	if (!write_out(c))
		return;
	if (c->half_closed && !c->task && !buf_len(&c->out)) {
		kill_client(c);
		return;
	}
	loop_watch_want(&c->watch, (c->half_closed || c->task ? 0u : LOOP_READ) | (buf_len(&c->out) ? LOOP_WRITE : 0u));
	if (c->more && !c->pending && !buf_len(&c->out))
		client_continue(c);
}

static void read_in(struct client *c)
{
	ssize_t n;

	if (!buf_reserve(&c->in, 4096)) {
		c->half_closed = true;
		return;
	}
	n = recv(c->fd, buf_tail(&c->in), buf_room(&c->in), MSG_DONTWAIT);
	if (n > 0)
		buf_commit(&c->in, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
		c->half_closed = true;
}

static void client_ready(void *arg, unsigned io)
{
	struct client *c = arg;

	if (io & LOOP_READ && !c->half_closed)
		read_in(c);
	pump_client(c);
}

static void waited(void *arg)
{
	struct client *c = arg;

	if (c->task == CLIENT_COUNTED) {
		client_tick(c);
		pump_client(c);
	} else if (c->task == CLIENT_EXPLAIN)
		client_explained(c, NULL);
	else if (c->task == CLIENT_REPORTS)
		client_reported(c, NULL);
	else
		client_super_answered(c, view_of(NULL, 0));
}

void control_explained(struct queue *q, const struct wire_EXPLAINED *m)
{
	struct client *c = q->control ? q->control->clients : NULL;

	for (; c; c = c->next)
		if (c->serial == m->stream && c->task == CLIENT_EXPLAIN) {
			client_explained(c, m);
			return;
		}
}

void control_reported(struct queue *q, const struct wire_REPORT_GOING *m)
{
	struct client *c = q->control ? q->control->clients : NULL;

	for (; c; c = c->next)
		if (c->serial == m->stream && c->task == CLIENT_REPORTS) {
			client_reported(c, m);
			return;
		}
}

void control_super_done(struct queue *q, uint64_t stream, struct view json)
{
	struct client *c = q->control ? q->control->clients : NULL;

	for (; c; c = c->next)
		if (c->serial == stream && c->task == CLIENT_SUPER) {
			client_super_answered(c, json);
			return;
		}
}

/* ---- the listening socket ---- */

/* Who may: root and ourselves, by what the kernel says (SO_PEERCRED). */
static bool may(struct queue *q, int fd, uid_t *uid)
{
	struct ucred cred = { .uid = (uid_t)-1 };
	socklen_t n = sizeof cred;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) == -1)
		cred.uid = (uid_t)-1;
	*uid = cred.uid;
	if (cred.uid == 0 || cred.uid == geteuid())
		return true;
	EMIT(q->events, CONTROL_REFUSED, F_U64("uid", cred.uid), F_STR("reason", "neither root nor ourselves"));
	return false;
}

static void welcome(struct control *control, int fd)
{
	struct queue *q = control->q;
	struct client *c;
	uid_t uid;

	if (!may(q, fd, &uid)) {
		close(fd);
		return;
	}
	c = control->n < CONTROL_CLIENTS_MAX ? calloc(1, sizeof *c) : NULL;
	if (!c) {
		EMIT(q->events, CONTROL_REFUSED, F_U64("uid", uid), F_STR("reason", "too many connections"));
		close(fd);
		return;
	}
	c->q = q;
	c->fd = fd;
	c->uid = uid;
	c->serial = ++control->serial;
	buf_init(&c->in, &alloc_libc, CONTROL_LINE_MAX + 4096);
	buf_init(&c->out, &alloc_libc, CLIENT_OUT_MAX);
	loop_timer_init(&c->timer, q->loop, waited, c);
	if (loop_watch_start(&c->watch, q->loop, fd, LOOP_READ, client_ready, c) == -1) {
		close(fd);
		free(c);
		return;
	}
	c->next = control->clients;
	control->clients = c;
	control->n++;
}

static void listen_ready(void *arg, unsigned io)
{
	struct control *control = arg;
	int fd;

	(void)io;
	fd = accept4(control->q->role->extra_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd != -1)
		welcome(control, fd);
}

int control_start(struct queue *q)
{
	struct control *control = calloc(1, sizeof *control);

	if (!control)
		return -1;
	control->q = q;
	if (loop_watch_start(&control->listen, q->loop, q->role->extra_fd, LOOP_READ, listen_ready, control) == -1) {
		free(control);
		return -1;
	}
	q->control = control;
	return 0;
}

void control_stop(struct queue *q)
{
	struct control *control = q->control;

	if (!control)
		return;
	while (control->clients)
		kill_client(control->clients);
	loop_watch_stop(&control->listen);
	free(control);
	q->control = NULL;
}
