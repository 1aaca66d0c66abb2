/* dial.c - see dial.h. */
#include "net/dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void end(struct dial *d)
{
	loop_timer_stop(&d->timer);
	loop_later_cancel(d->loop, &d->later);
	loop_watch_stop(&d->watch);
	d->active = false;
}

static void fail(struct dial *d)
{
	end(d); /* the watch ends before its descriptor */
	if (d->fd != -1)
		close(d->fd);
	d->fd = -1;
	d->done(d->arg, -1, &d->error); /* the last thing: it may free d */
}

static void run_later(void *arg)
{
	struct dial *d = arg;
	int fd = d->fd;

	if (d->error.class) {
		fail(d);
		return;
	}
	end(d); /* a unix socket connects at once */
	d->fd = -1;
	d->done(d->arg, fd, NULL);
}

static void ready(void *arg, unsigned io)
{
	struct dial *d = arg;
	int err = 0, fd = d->fd;
	socklen_t n = sizeof err;
	char text[ADDRESS_TEXT];

	(void)io;
	if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &err, &n) == -1)
		err = errno;
	if (err) {
		error_sys(&d->error, err, "connection to %s", address_text((struct sockaddr *)&d->to.sa, text));
		d->error.class = ERROR_AGAIN; /* the host may be back later, whatever the network says now */
		fail(d);
		return;
	}
	end(d);
	d->fd = -1;
	d->done(d->arg, fd, NULL);
}

static void too_late(void *arg)
{
	struct dial *d = arg;
	char text[ADDRESS_TEXT];

	error_sys(&d->error, ETIMEDOUT, "connection to %s", address_text((struct sockaddr *)&d->to.sa, text));
	d->error.class = ERROR_AGAIN;
	fail(d);
}

/* 0, or -1 with d->error. */
static int begin(struct dial *d, const struct address *source)
{
	char text[ADDRESS_TEXT];
	struct address from;
	const struct sockaddr *to = (const struct sockaddr *)&d->to.sa;
	int one = 1;

	d->fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (d->fd == -1)
		return error_sys(&d->error, errno, "no socket for a connection to %s", address_text(to, text));
	setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* commands leave in whole flights; unix sockets have none and say so */
	if (source) {
		from = *source;
		if (from.sa.ss_family != to->sa_family)
			return error_set(&d->error, ERROR_INPUT, "the source address %s is of another family than %s",
					 address_host((struct sockaddr *)&from.sa, text), to->sa_family == AF_INET ? "IPv4" : "IPv6");
		if (from.sa.ss_family == AF_INET)
			((struct sockaddr_in *)&from.sa)->sin_port = 0;
		else
			((struct sockaddr_in6 *)&from.sa)->sin6_port = 0;
		/* the port is chosen at connect, by the whole four-tuple: no shortage of ports with many next hops */
		setsockopt(d->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
		if (bind(d->fd, (struct sockaddr *)&from.sa, from.len) == -1)
			return error_sys(&d->error, errno, "source address %s", address_host((struct sockaddr *)&from.sa, text));
	}
	if (connect(d->fd, to, d->to.len) == -1 && errno != EINPROGRESS) {
		error_sys(&d->error, errno, "connection to %s", address_text(to, text));
		d->error.class = ERROR_AGAIN;
		return -1;
	}
	return 0;
}

static void set_up(struct dial *d, struct loop *l, uint32_t timeout, void (*done)(void *arg, int fd, const struct error *), void *arg)
{
	*d = (struct dial){ .loop = l, .fd = -1, .active = true, .done = done, .arg = arg };
	d->later.run = run_later;
	d->later.arg = d;
	loop_timer_init(&d->timer, l, too_late, d);
	loop_timer_set(&d->timer, loop_now(l) + timeout);
}

static void go(struct dial *d, const struct address *source)
{
	if (begin(d, source) == -1) {
		loop_later(d->loop, &d->later);
		return;
	}
	if (d->to.sa.ss_family == AF_UNIX)
		loop_later(d->loop, &d->later);
	else if (loop_watch_start(&d->watch, d->loop, d->fd, LOOP_WRITE, ready, d) == -1) {
		error_set(&d->error, ERROR_AGAIN, "a connection cannot be watched");
		loop_later(d->loop, &d->later);
	}
}

void dial_start(struct dial *d, struct loop *l, const struct sockaddr *to, socklen_t len, const struct address *source,
		uint32_t timeout, void (*done)(void *arg, int fd, const struct error *), void *arg)
{
	set_up(d, l, timeout, done, arg);
	if (len > sizeof d->to.sa)
		len = sizeof d->to.sa;
	memcpy(&d->to.sa, to, len);
	d->to.len = len;
	go(d, source);
}

void dial_start_unix(struct dial *d, struct loop *l, struct view path, uint32_t timeout,
		     void (*done)(void *arg, int fd, const struct error *), void *arg)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&d->to.sa;

	set_up(d, l, timeout, done, arg);
	if (path.n >= sizeof un->sun_path) {
		error_set(&d->error, ERROR_INPUT, "the path of a socket is longer than %zu octets", sizeof un->sun_path - 1);
		loop_later(l, &d->later);
		return;
	}
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path.p, path.n);
	d->to.len = sizeof *un;
	go(d, NULL);
}

void dial_cancel(struct dial *d)
{
	if (!d->active)
		return;
	end(d);
	if (d->fd != -1)
		close(d->fd);
	d->fd = -1;
}
