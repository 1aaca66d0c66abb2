/* calls.c - the socket calls of the rooms, and a few of files (the linker's --wrap), on the simulated network; see sim.h. */
#include "sim/sock.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

ssize_t __real_recv(int, void *, size_t, int);
ssize_t __real_send(int, const void *, size_t, int);
ssize_t __real_write(int, const void *, size_t);
int __real_close(int), __real_dup(int), __real_shutdown(int, int), __real_flock(int, int), __real_fstat64(int, struct stat64 *);
int __real_stat64(const char *, struct stat64 *), __real_fcntl64(int, int, long);

ssize_t __wrap_recv(int fd, void *to, size_t n, int flags);
ssize_t __wrap_recv(int fd, void *to, size_t n, int flags)
{
	struct sock *s = net_of_fd(fd);

	if (!s)
		return __real_recv(fd, to, n, flags);
	if (buf_len(&s->in)) {
		size_t have = buf_len(&s->in);
		if (n > have)
			n = have;
		if (n > s->luck->read_max && s->luck->partials) {
			s->luck->partials--;
			n = s->luck->read_max;
			world_fault(FAULT_PARTIAL_READ);
		}
		memcpy(to, buf_view(&s->in).p, n);
		buf_take(&s->in, n);
		return (ssize_t)n;
	}
	if (s->error || s->eof) {
		errno = s->error;
		return s->error ? -1 : 0;
	}
	errno = EAGAIN;
	return -1;
}

ssize_t __wrap_send(int fd, const void *from, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *from, size_t n, int flags)
{
	struct sock *s = net_of_fd(fd);

	if (!s)
		return __real_send(fd, from, n, flags);
	if (s->kind == SOCK_LOG) {
		node_log(s->arg, view_of(from, n));
		return (ssize_t)n;
	}
	if (net_dead || s->error || s->shut || !s->peer || (s->address[0] == '/' && node_queue_died(s->node))) {
		errno = s->error && !net_dead ? s->error : EPIPE;
		return -1;
	}
	if (net_room(s) == 0) {
		errno = EAGAIN;
		return -1;
	}
	if (n > net_room(s))
		n = net_room(s);
	if (n > s->luck->write_max && s->luck->partials) {
		s->luck->partials--;
		n = s->luck->write_max;
		world_fault(FAULT_PARTIAL_WRITE);
	}
	world_hash(from, n);
	net_send(s->peer, from, n, END_NONE);
	net_sent(s);
	return (ssize_t)n;
}

int __wrap_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
	struct sock *l = net_of_fd(fd), *s;
	struct address a;

	(void)flags;
	assert(l && l->kind == SOCK_LISTENING);
	if (!l->waiting) {
		errno = EAGAIN;
		return -1;
	}
	s = l->backlog[0];
	memmove(l->backlog, l->backlog + 1, --l->waiting * sizeof *l->backlog);
	if (sa && address_parse(view_cstr(s->other), &a)) {
		memcpy(sa, &a.sa, a.len);
		*len = a.len;
	}
	return net_give_fd(s);
}

int __wrap_socket(int family, int type, int protocol);
int __wrap_socket(int family, int type, int protocol)
{
	(void)family;
	(void)type;
	(void)protocol;
	return net_give_fd(net_make(SOCK_FRESH, NULL));
}

int __wrap_bind(int fd, const struct sockaddr *sa, socklen_t len);
int __wrap_bind(int fd, const struct sockaddr *sa, socklen_t len)
{
	(void)fd;
	(void)sa;
	(void)len;
	return 0;
}

int __wrap_connect(int fd, const struct sockaddr *sa, socklen_t len);
int __wrap_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct sock *s = net_of_fd(fd);
	char text[ADDRESS_TEXT];

	(void)len;
	assert(s && s->kind == SOCK_FRESH);
	s->node = (struct node *)world.nodes[0];
	for (unsigned i = 1; i < world.nodes_n; i++) /* who calls is known by whose loop runs */
		if (world.nodes[i] == world.running)
			s->node = world.nodes[i];
	snprintf(s->address, sizeof s->address, "%s:%u", s->node->address, 10000 + (unsigned)(s->number % 50000));
	net_dial(s, address_text(sa, text));
	errno = EINPROGRESS;
	return -1;
}

int __wrap_getsockopt(int fd, int level, int name, void *to, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int name, void *to, socklen_t *len)
{
	struct sock *s = net_of_fd(fd);

	assert(s && level == SOL_SOCKET);
	if (name == SO_ERROR) {
		*(int *)to = s->error;
	} else if (name == SO_PEERCRED) {
		*(struct ucred *)to = (struct ucred){ .pid = 1, .uid = 1000, .gid = 1000 };
		*len = sizeof(struct ucred);
	}
	return 0;
}

int __wrap_setsockopt(int fd, int level, int name, const void *from, socklen_t len);
int __wrap_setsockopt(int fd, int level, int name, const void *from, socklen_t len)
{
	(void)fd;
	(void)level;
	(void)name;
	(void)from;
	(void)len;
	return 0;
}

uid_t __wrap_geteuid(void);
uid_t __wrap_geteuid(void)
{
	return 1000;
}

int __wrap_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how)
{
	struct sock *s = net_of_fd(fd);

	(void)how;
	if (s->error) {
		errno = ENOTCONN;
		return -1;
	}
	sock_shut(s);
	return 0;
}

int __wrap_close(int fd);
int __wrap_close(int fd)
{
	struct sock *s = net_of_fd(fd);

	if (!s)
		return __real_close(fd);
	net_fds[fd - SIM_FD] = NULL;
	if (--s->refs > 0)
		return 0;
	if (s->kind == SOCK_STREAMING) {
		sock_close(s);
	} else if (s->kind == SOCK_LISTENING) {
		struct sock **at = &net_listening;
		while (*at && *at != s)
			at = &(*at)->next;
		if (*at)
			*at = s->next;
		for (unsigned i = 0; i < s->waiting; i++)
			net_fail(s->backlog[i]->peer, ECONNRESET);
	}
	return 0;
}

int __wrap_dup(int fd);
int __wrap_dup(int fd)
{
	struct sock *s = net_of_fd(fd);

	return s ? net_give_fd(s) : __real_dup(fd);
}

int __wrap_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...)
{
	struct sock *s = net_of_fd(fd);

	if (command == F_GETFL)
		return O_NONBLOCK;
	if (command == F_SETFL)
		return 0;
	/* F_DUPFD_CLOEXEC: of a listener's reserve any descriptor will do */
	return net_give_fd(s ? s : net_make(SOCK_LOG, NULL));
}

int __wrap_flock(int fd, int operation);
int __wrap_flock(int fd, int operation)
{
	(void)fd;
	(void)operation;
	return 0;
}

int __wrap_fstat64(int fd, struct stat64 *st);
int __wrap_fstat64(int fd, struct stat64 *st)
{
	memset(st, 0, sizeof *st);
	st->st_mode = net_of_fd(fd) ? S_IFSOCK | 0600 : S_IFREG | 0600;
	return 0;
}

int __wrap_poll(struct pollfd *p, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *p, nfds_t n, int timeout)
{
	(void)timeout;
	for (nfds_t i = 0; i < n; i++)
		p[i].revents = p[i].events;
	return (int)n;
}

int __wrap_stat64(const char *path, struct stat64 *st);
int __wrap_stat64(const char *path, struct stat64 *st)
{
	struct disk *d = disk_of_path(path);

	memset(st, 0, sizeof *st);
	if (!d || !disk_exists(d, path)) {
		errno = ENOENT;
		return -1;
	}
	st->st_mode = disk_is_dir(d, path) ? S_IFDIR | 0700 : S_IFREG | 0600;
	st->st_uid = 1000;
	return 0;
}
