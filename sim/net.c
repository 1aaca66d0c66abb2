/* net.c - sockets of the simulated world, and the socket calls of the rooms (the linker's --wrap); see sim.h.
 *
 * A connection is two ends; octets leave in pieces, each arrives after a while of its own (in order), and waits for its
 * reader.  A connection is given its luck when it is made: how little a read or a write takes, when it stalls, after how
 * many octets it is reset.  As in the kernel, closing with octets unread resets, and writing to a closed end is answered
 * by a reset.
 */
#include "sim/sim.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define FDS 4096
#define WINDOW (64u * 1024) /* octets under way and unread, one way */

enum sock_kind { SOCK_STREAMING = 1, SOCK_LISTENING, SOCK_FRESH, SOCK_LOG };

struct luck {
	size_t read_max, write_max;
	uint64_t reset_after;  /* octets both ways; 0: never */
	uint64_t stall_after;  /* octets; 0: never */
	int64_t stall_ms, delay, jitter;
	uint64_t passed;
	unsigned partials;     /* so many are left: a long body need not go octet by octet to its end */
};

struct sock {
	enum sock_kind kind;
	unsigned refs; /* descriptors, and 1 for a script */
	uint64_t number;
	struct node *node; /* whose; NULL: a script's */
	char address[64], other[64];
	/* listening */
	struct sock *next;
	struct sock *backlog[64];
	unsigned waiting;
	void (*accepted)(void *arg, struct sock *);
	/* streaming */
	struct sock *peer;
	struct luck *luck; /* both ends share it */
	struct buf in;
	size_t under_way;  /* octets to us */
	int64_t last;      /* when the last piece to us arrives */
	unsigned epoch;    /* raised by a reset: pieces of before are lost */
	bool connected, eof, shut, closed, told;
	int error;
	const struct sock_ops *ops;
	void *arg;
};

static struct sock *fds[FDS];
static struct sock *listening;
static uint64_t numbers;
static bool dead; /* a role is being taken apart */
static struct { char address[64]; bool silent; } down[32];
static unsigned down_n;

/* ---- making ---- */

static struct sock *make(enum sock_kind kind, struct node *node)
{
	struct sock *s = calloc(1, sizeof *s);

	if (!s)
		abort();
	s->kind = kind;
	s->node = node;
	s->number = ++numbers;
	buf_init(&s->in, &alloc_libc, SIZE_MAX / 4);
	return s;
}

static int give_fd(struct sock *s)
{
	for (int i = 0; i < FDS; i++)
		if (!fds[i]) {
			fds[i] = s;
			s->refs++;
			return SIM_FD + i;
		}
	errno = EMFILE;
	return -1;
}

static struct sock *of_fd(int fd)
{
	return fd >= SIM_FD && fd < SIM_FD + FDS ? fds[fd - SIM_FD] : NULL;
}

uint64_t sock_number(const struct sock *s)
{
	return s->number;
}

static struct luck *make_luck(void)
{
	struct luck *l = calloc(1, sizeof *l);
	struct rng *r = &world.net;

	if (!l)
		abort();
	l->read_max = l->write_max = SIZE_MAX;
	l->partials = 400;
	l->delay = rng_span(r, 0, 20);
	l->jitter = rng_span(r, 0, 5);
	if (!world.faults)
		return l;
	if (rng_chance(r, 250))
		l->read_max = rng_chance(r, 300) ? 1 : 1 + rng_below(r, 700);
	if (rng_chance(r, 250))
		l->write_max = rng_chance(r, 300) ? 1 + rng_below(r, 3) : 1 + rng_below(r, 700);
	if (rng_chance(r, 60))
		l->reset_after = 1 + rng_below(r, rng_chance(r, 500) ? 600 : 6000);
	if (rng_chance(r, 40)) {
		l->stall_after = 1 + rng_below(r, 3000);
		l->stall_ms = rng_span(r, 1000, 400000);
	}
	if (rng_chance(r, 100))
		l->delay = rng_span(r, 50, 4000);
	return l;
}

/* ---- resets and ends ---- */

static void tell_end(struct sock *s, bool reset)
{
	if (s->told || !s->ops)
		return;
	s->told = true;
	if (s->ops->ended)
		s->ops->ended(s->arg, reset);
}

static void fail_end(struct sock *s, int error)
{
	if (s->error || s->closed)
		return;
	s->error = error;
	s->connected = true; /* a writer must meet it */
	tell_end(s, true);
}

void sock_reset(struct sock *s)
{
	struct sock *p = s->peer;
	bool lose = rng_chance(&world.net, 500);

	say("net %llu reset%s", (unsigned long long)s->number, lose ? ", what was under way is lost" : "");
	if (lose) {
		s->epoch++;
		s->under_way = 0;
		if (p) {
			p->epoch++;
			p->under_way = 0;
		}
	}
	fail_end(s, ECONNRESET);
	if (p)
		fail_end(p, ECONNRESET);
}

enum end { END_NONE = 0 /* octets */, END_FIN, END_RESET };
struct piece { struct happening h; struct sock *to; unsigned epoch; size_t n; enum end end; char octets[]; };

static void answered_by_reset(void *arg)
{
	fail_end(arg, ECONNRESET);
}

static void piece_arrives(void *arg)
{
	struct piece *p = arg;
	struct sock *s = p->to;

	if (p->epoch == s->epoch && !s->error) {
		s->under_way -= p->n;
		if (s->closed) {
			if (s->peer && p->n && !s->peer->closed)
				happen_once(s->luck->delay, answered_by_reset, s->peer);
		} else if (p->end == END_RESET) {
			fail_end(s, ECONNRESET);
		} else if (p->end == END_FIN) {
			s->eof = true;
			tell_end(s, false);
		} else {
			buf_add(&s->in, view_of(p->octets, p->n));
			if (s->ops && s->ops->data)
				s->ops->data(s->arg);
		}
	}
	free(p);
}

static void send_piece(struct sock *to, const void *octets, size_t n, enum end end)
{
	struct piece *p = malloc(sizeof *p + n);
	struct luck *l = to->luck;
	int64_t at = world.now + l->delay + (l->jitter ? rng_span(&world.net, 0, l->jitter) : 0);

	if (!p)
		abort();
	*p = (struct piece){ .to = to, .epoch = to->epoch, .n = n, .end = end };
	if (n)
		memcpy(p->octets, octets, n);
	if (at < to->last)
		at = to->last;
	l->passed += n;
	if (l->stall_after && l->passed >= l->stall_after) {
		l->stall_after = 0;
		at += l->stall_ms;
		world_fault(FAULT_STALL);
		say("net %llu stalls for %lld ms", (unsigned long long)to->number, (long long)l->stall_ms);
	}
	to->last = at;
	to->under_way += n;
	happen_at(&p->h, at, piece_arrives, p);
}

static void reset_later(void *arg)
{
	sock_reset(arg);
}

/* What was sent counts; the luck of the connection may end here. */
static void sent(struct sock *s)
{
	struct luck *l = s->luck;

	if (l->reset_after && l->passed >= l->reset_after) {
		l->reset_after = 0;
		world_fault(FAULT_RESET);
		happen_once(rng_span(&world.net, 0, l->delay + 1), reset_later, s);
	}
}

/* ---- scripts ---- */

void sock_set_ops(struct sock *s, const struct sock_ops *ops, void *arg)
{
	s->ops = ops;
	s->arg = arg;
}

struct view sock_peek(struct sock *s)
{
	return buf_view(&s->in);
}

void sock_take(struct sock *s, size_t n)
{
	buf_take(&s->in, n);
}

void sock_put(struct sock *s, const void *octets, size_t n)
{
	if (s->closed || s->shut || s->error || !s->peer)
		return;
	world_hash(octets, n);
	send_piece(s->peer, octets, n, END_NONE);
	sent(s);
}

void sock_shut(struct sock *s)
{
	if (s->shut || s->closed || s->error)
		return;
	s->shut = true;
	if (s->peer)
		send_piece(s->peer, NULL, 0, END_FIN);
}

void sock_close(struct sock *s)
{
	if (s->closed)
		return;
	if (buf_len(&s->in) && s->peer && !s->error) { /* octets nobody will read: a reset, behind what we sent */
		say("net %llu closed with octets unread", (unsigned long long)s->number);
		send_piece(s->peer, NULL, 0, END_RESET);
	} else if (s->peer && !s->error) {
		sock_shut(s);
	}
	s->closed = true;
	s->ops = NULL;
	buf_free(&s->in);
}

bool sock_drained(const struct sock *s)
{
	return !s->peer || (s->peer->under_way == 0 && buf_len(&s->peer->in) == 0);
}

/* ---- connecting ---- */

static void listen_on(struct sock *s, const char *address)
{
	snprintf(s->address, sizeof s->address, "%s", address);
	s->next = listening;
	listening = s;
}

int sock_listen(const char *address, struct node *node)
{
	struct sock *s = make(SOCK_LISTENING, node);

	listen_on(s, address);
	return give_fd(s);
}

void sock_serve(const char *address, void (*accepted)(void *arg, struct sock *), void *arg)
{
	struct sock *s = make(SOCK_LISTENING, NULL);

	s->refs = 1;
	s->accepted = accepted;
	s->arg = arg;
	listen_on(s, address);
}

void net_down(const char *address, bool is_down, bool silent)
{
	for (unsigned i = 0; i < down_n; i++)
		if (strcmp(down[i].address, address) == 0)
			down[i--] = down[--down_n];
	if (is_down && down_n < sizeof down / sizeof *down) {
		snprintf(down[down_n].address, sizeof down[down_n].address, "%s", address);
		down[down_n++].silent = silent;
	}
}

static void join(struct sock *a, struct sock *b)
{
	a->kind = b->kind = SOCK_STREAMING;
	a->peer = b;
	b->peer = a;
	a->luck = b->luck = make_luck();
	a->connected = true;
	b->connected = true;
}

static void connect_ends(void *arg)
{
	struct sock *s = arg, *l, *b;
	bool refuse = true;

	if (s->closed)
		return;
	for (l = listening; l && strcmp(l->address, s->other) != 0; l = l->next)
		;
	for (unsigned i = 0; i < down_n; i++)
		if (strcmp(down[i].address, s->other) == 0) {
			world_fault(FAULT_REFUSED);
			if (down[i].silent)
				return; /* the caller's own timeout */
			l = NULL;
		}
	refuse = !l || (!l->accepted && l->waiting == sizeof l->backlog / sizeof *l->backlog);
	say("net %llu from %s to %s: %s", (unsigned long long)s->number, s->address, s->other, refuse ? "refused" : "connected");
	if (refuse) {
		s->kind = SOCK_STREAMING;
		fail_end(s, ECONNREFUSED);
		return;
	}
	b = make(SOCK_STREAMING, l->node);
	snprintf(b->address, sizeof b->address, "%s", s->other);
	snprintf(b->other, sizeof b->other, "%s", s->address);
	join(s, b);
	if (l->accepted) {
		b->refs = 1;
		l->accepted(l->arg, b);
	} else {
		l->backlog[l->waiting++] = b;
	}
	if (s->ops && s->ops->opened)
		s->ops->opened(s->arg);
}

static void dial_out(struct sock *s, const char *to)
{
	snprintf(s->other, sizeof s->other, "%s", to);
	s->kind = SOCK_STREAMING;
	happen_once(rng_span(&world.net, 0, 10), connect_ends, s);
}

struct sock *sock_dial(const char *from, const char *to, const struct sock_ops *ops, void *arg)
{
	struct sock *s = make(SOCK_FRESH, NULL);

	s->refs = 1;
	snprintf(s->address, sizeof s->address, "%s", from);
	sock_set_ops(s, ops, arg);
	dial_out(s, to);
	return s;
}

/* ---- for the loops ---- */

static size_t room(const struct sock *s)
{
	size_t used = s->peer ? s->peer->under_way + buf_len(&s->peer->in) : 0;

	return used < WINDOW ? WINDOW - used : 0;
}

unsigned fd_ready(int fd, unsigned want)
{
	struct sock *s = of_fd(fd);

	if (!s)
		return 0;
	if (s->kind == SOCK_LISTENING)
		return s->waiting ? LOOP_READ : 0;
	if (s->kind != SOCK_STREAMING)
		return 0;
	if (s->error)
		return want;
	return (buf_len(&s->in) || s->eof ? LOOP_READ : 0u) | (s->connected && room(s) > 0 ? LOOP_WRITE : 0u);
}

unsigned net_open_of(const struct node *n)
{
	unsigned count = 0;

	for (int i = 0; i < FDS; i++)
		count += fds[i] && fds[i]->kind == SOCK_STREAMING && fds[i]->node == n;
	return count;
}

void net_kill(bool on)
{
	dead = on;
}

int log_fd(struct part *p)
{
	struct sock *s = make(SOCK_LOG, NULL);

	s->arg = p;
	return give_fd(s);
}

/* Is the other end still there, as far as its own side knows? */
bool sock_wanted(const struct sock *s)
{
	return s->peer && !s->peer->closed && !s->peer->error && !s->closed && !s->error;
}

struct node *sock_other_node(const struct sock *s)
{
	return s->peer ? s->peer->node : NULL;
}

int sock_listen_path(const char *path, struct node *node)
{
	return sock_listen(path, node);
}

/* ---- the calls of the rooms ---- */

ssize_t __real_recv(int, void *, size_t, int);
ssize_t __real_send(int, const void *, size_t, int);
ssize_t __real_write(int, const void *, size_t);
int __real_close(int), __real_dup(int), __real_shutdown(int, int), __real_flock(int, int), __real_fstat64(int, struct stat64 *);
int __real_stat64(const char *, struct stat64 *), __real_fcntl64(int, int, long);

ssize_t __wrap_recv(int fd, void *to, size_t n, int flags);
ssize_t __wrap_recv(int fd, void *to, size_t n, int flags)
{
	struct sock *s = of_fd(fd);

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
	struct sock *s = of_fd(fd);

	if (!s)
		return __real_send(fd, from, n, flags);
	if (s->kind == SOCK_LOG) {
		node_log(s->arg, view_of(from, n));
		return (ssize_t)n;
	}
	if (dead || s->error || s->shut || !s->peer || (s->address[0] == '/' && node_queue_died(s->node))) {
		errno = s->error && !dead ? s->error : EPIPE;
		return -1;
	}
	if (room(s) == 0) {
		errno = EAGAIN;
		return -1;
	}
	if (n > room(s))
		n = room(s);
	if (n > s->luck->write_max && s->luck->partials) {
		s->luck->partials--;
		n = s->luck->write_max;
		world_fault(FAULT_PARTIAL_WRITE);
	}
	world_hash(from, n);
	send_piece(s->peer, from, n, END_NONE);
	sent(s);
	return (ssize_t)n;
}

int __wrap_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
	struct sock *l = of_fd(fd), *s;
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
	return give_fd(s);
}

int __wrap_socket(int family, int type, int protocol);
int __wrap_socket(int family, int type, int protocol)
{
	(void)family;
	(void)type;
	(void)protocol;
	return give_fd(make(SOCK_FRESH, NULL));
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
	struct sock *s = of_fd(fd);
	char text[ADDRESS_TEXT];

	(void)len;
	assert(s && s->kind == SOCK_FRESH);
	s->node = (struct node *)world.nodes[0];
	for (unsigned i = 1; i < world.nodes_n; i++) /* who calls is known by whose loop runs */
		if (world.nodes[i] == world.running)
			s->node = world.nodes[i];
	snprintf(s->address, sizeof s->address, "%s:%u", s->node->address, 10000 + (unsigned)(s->number % 50000));
	dial_out(s, address_text(sa, text));
	errno = EINPROGRESS;
	return -1;
}

int __wrap_getsockopt(int fd, int level, int name, void *to, socklen_t *len);
int __wrap_getsockopt(int fd, int level, int name, void *to, socklen_t *len)
{
	struct sock *s = of_fd(fd);

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
	struct sock *s = of_fd(fd);

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
	struct sock *s = of_fd(fd);

	if (!s)
		return __real_close(fd);
	fds[fd - SIM_FD] = NULL;
	if (--s->refs > 0)
		return 0;
	if (s->kind == SOCK_STREAMING) {
		sock_close(s);
	} else if (s->kind == SOCK_LISTENING) {
		struct sock **at = &listening;
		while (*at && *at != s)
			at = &(*at)->next;
		if (*at)
			*at = s->next;
		for (unsigned i = 0; i < s->waiting; i++)
			fail_end(s->backlog[i]->peer, ECONNRESET);
	}
	return 0;
}

int __wrap_dup(int fd);
int __wrap_dup(int fd)
{
	struct sock *s = of_fd(fd);

	return s ? give_fd(s) : __real_dup(fd);
}

int __wrap_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...)
{
	struct sock *s = of_fd(fd);

	if (command == F_GETFL)
		return O_NONBLOCK;
	if (command == F_SETFL)
		return 0;
	/* F_DUPFD_CLOEXEC: of a listener's reserve any descriptor will do */
	return give_fd(s ? s : make(SOCK_LOG, NULL));
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
	st->st_mode = of_fd(fd) ? S_IFSOCK | 0600 : S_IFREG | 0600;
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

void net_heal(void)
{
	for (int i = 0; i < FDS; i++)
		if (fds[i] && fds[i]->luck) {
			fds[i]->luck->read_max = fds[i]->luck->write_max = SIZE_MAX;
			fds[i]->luck->reset_after = fds[i]->luck->stall_after = 0;
		}
}
