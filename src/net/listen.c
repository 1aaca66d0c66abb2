/* listen.c - see listen.h. */
#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

int listen_open(const struct sockaddr *sa, socklen_t len, struct error *e)
{
	char text[ADDRESS_TEXT];
	int one = 1, err, fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd == -1)
		return error_sys(e, errno, "no socket for %s", address_text(sa, text));
	/* a restart must not wait for the TIME_WAIT of old sessions; an IPv6 address means IPv6 alone, so that both can be listed */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == -1 ||
	    (sa->sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) == -1) ||
	    bind(fd, sa, len) == -1 || listen(fd, LISTEN_BACKLOG) == -1) {
		err = errno;
		close(fd);
		return error_sys(e, err, "cannot listen on %s", address_text(sa, text));
	}
	return fd;
}

static int reserve(void)
{
	return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0); /* any descriptor will do; opening a file is not ours to do */
}

static void pause_for(struct listener *l, int err)
{
	loop_watch_want(&l->watch, 0);
	loop_timer_set(&l->timer, loop_now(l->loop) + LISTEN_PAUSE_MS);
	if (l->refused)
		l->refused(l->arg, err);
}

/* Out of descriptors: gives the reserve up to take one connection and end it, so that its client knows. */
static void refuse_one(struct listener *l, int err)
{
	int fd;

	if (l->reserve != -1) {
		close(l->reserve);
		fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd != -1)
			close(fd);
		l->reserve = reserve();
	}
	pause_for(l, err);
}

/* The connection died while it waited: errors of its own network, passed on by accept (accept(2)). */
static bool only_that_one(int err)
{
	return err == ECONNABORTED || err == EPROTO || err == ENETDOWN || err == ENOPROTOOPT || err == EHOSTDOWN || err == ENONET ||
	       err == EHOSTUNREACH || err == EOPNOTSUPP || err == ENETUNREACH || err == EPERM || err == EINTR;
}

static void ready(void *arg, unsigned io)
{
	struct listener *l = arg;
	unsigned i;

	(void)io;
	for (i = 0; i < LISTEN_BATCH && l->fd != -1 && !l->paused; i++) {
		struct address peer = { .len = sizeof peer.sa };
		int fd = accept4(l->fd, (struct sockaddr *)&peer.sa, &peer.len, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd != -1) {
			l->accepted(l->arg, fd, &peer);
			continue;
		}
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return;
		if (only_that_one(errno))
			continue;
		if (errno == EMFILE || errno == ENFILE)
			refuse_one(l, errno);
		else
			pause_for(l, errno);
		return;
	}
}

static void go_on(void *arg)
{
	struct listener *l = arg;

	if (l->reserve == -1)
		l->reserve = reserve();
	if (!l->paused)
		loop_watch_want(&l->watch, LOOP_READ);
}

int listen_start(struct listener *l, struct loop *loop, int fd, void (*accepted)(void *arg, int fd, const struct address *peer),
		 void (*refused)(void *arg, int err), void *arg)
{
	int flags = fcntl(fd, F_GETFL), one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* what is accepted inherits it; unix sockets have none and say so */
	*l = (struct listener){ .loop = loop, .fd = -1, .reserve = -1, .accepted = accepted, .refused = refused, .arg = arg };
	loop_timer_init(&l->timer, loop, go_on, l);
	if (flags == -1 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1 ||
	    loop_watch_start(&l->watch, loop, fd, LOOP_READ, ready, l) == -1)
		return -1;
	l->fd = fd;
	l->reserve = reserve();
	return 0;
}

void listen_defer(int fd, unsigned seconds)
{
	int value = (int)seconds;

	setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &value, sizeof value); /* a wake-up less a session, no more: a kernel without it is as right */
}

void listen_pause(struct listener *l)
{
	l->paused = true;
	if (l->fd != -1)
		loop_watch_want(&l->watch, 0);
}

void listen_resume(struct listener *l)
{
	l->paused = false;
	if (l->fd != -1 && !l->timer.place)
		loop_watch_want(&l->watch, LOOP_READ);
}

void listen_stop(struct listener *l)
{
	if (l->fd == -1)
		return;
	loop_timer_stop(&l->timer);
	loop_watch_stop(&l->watch);
	close(l->fd);
	l->fd = -1;
	if (l->reserve != -1)
		close(l->reserve);
	l->reserve = -1;
}
