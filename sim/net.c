/* net.c - sockets of the simulated world; see sim.h.  The rooms' socket calls are in calls.c.
 *
 * A connection is two ends; octets leave in pieces, each arrives after a while of its own (in order), and waits for its
 * reader.  A connection is given its luck when it is made: how little a read or a write takes, when it stalls, after how
 * many octets it is reset.  As in the kernel, closing with octets unread resets, and writing to a closed end is answered
 * by a reset.
 */
#include "sim/sock.h"

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

struct sock *net_fds[FDS];
struct sock *net_listening;
static uint64_t numbers;
bool net_dead;
static struct { char address[64]; bool silent; } down[32];
static unsigned down_n;

/* ---- making ---- */

struct sock *net_make(enum sock_kind kind, struct node *node)
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

int net_give_fd(struct sock *s)
{
	for (int i = 0; i < FDS; i++)
		if (!net_fds[i]) {
			net_fds[i] = s;
			s->refs++;
			return SIM_FD + i;
		}
	errno = EMFILE;
	return -1;
}

struct sock *net_of_fd(int fd)
{
	return fd >= SIM_FD && fd < SIM_FD + FDS ? net_fds[fd - SIM_FD] : NULL;
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

void net_fail(struct sock *s, int error)
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
	net_fail(s, ECONNRESET);
	if (p)
		net_fail(p, ECONNRESET);
}

struct piece { struct happening h; struct sock *to; unsigned epoch; size_t n; enum end end; char octets[]; };

static void answered_by_reset(void *arg)
{
	net_fail(arg, ECONNRESET);
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
			net_fail(s, ECONNRESET);
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

void net_send(struct sock *to, const void *octets, size_t n, enum end end)
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
void net_sent(struct sock *s)
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
	net_send(s->peer, octets, n, END_NONE);
	net_sent(s);
}

void sock_shut(struct sock *s)
{
	if (s->shut || s->closed || s->error)
		return;
	s->shut = true;
	if (s->peer)
		net_send(s->peer, NULL, 0, END_FIN);
}

void sock_close(struct sock *s)
{
	if (s->closed)
		return;
	if (buf_len(&s->in) && s->peer && !s->error) { /* octets nobody will read: a reset, behind what we sent */
		say("net %llu closed with octets unread", (unsigned long long)s->number);
		net_send(s->peer, NULL, 0, END_RESET);
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
	s->next = net_listening;
	net_listening = s;
}

int sock_listen(const char *address, struct node *node)
{
	struct sock *s = net_make(SOCK_LISTENING, node);

	listen_on(s, address);
	return net_give_fd(s);
}

void sock_serve(const char *address, void (*accepted)(void *arg, struct sock *), void *arg)
{
	struct sock *s = net_make(SOCK_LISTENING, NULL);

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
	for (l = net_listening; l && strcmp(l->address, s->other) != 0; l = l->next)
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
		net_fail(s, ECONNREFUSED);
		return;
	}
	b = net_make(SOCK_STREAMING, l->node);
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

void net_dial(struct sock *s, const char *to)
{
	snprintf(s->other, sizeof s->other, "%s", to);
	s->kind = SOCK_STREAMING;
	happen_once(rng_span(&world.net, 0, 10), connect_ends, s);
}

struct sock *sock_dial(const char *from, const char *to, const struct sock_ops *ops, void *arg)
{
	struct sock *s = net_make(SOCK_FRESH, NULL);

	s->refs = 1;
	snprintf(s->address, sizeof s->address, "%s", from);
	sock_set_ops(s, ops, arg);
	net_dial(s, to);
	return s;
}

/* ---- for the loops ---- */

size_t net_room(const struct sock *s)
{
	size_t used = s->peer ? s->peer->under_way + buf_len(&s->peer->in) : 0;

	return used < WINDOW ? WINDOW - used : 0;
}

unsigned fd_ready(int fd, unsigned want)
{
	struct sock *s = net_of_fd(fd);

	if (!s)
		return 0;
	if (s->kind == SOCK_LISTENING)
		return s->waiting ? LOOP_READ : 0;
	if (s->kind != SOCK_STREAMING)
		return 0;
	if (s->error)
		return want;
	return (buf_len(&s->in) || s->eof ? LOOP_READ : 0u) | (s->connected && net_room(s) > 0 ? LOOP_WRITE : 0u);
}

unsigned net_open_of(const struct node *n)
{
	unsigned count = 0;

	for (int i = 0; i < FDS; i++)
		count += net_fds[i] && net_fds[i]->kind == SOCK_STREAMING && net_fds[i]->node == n;
	return count;
}

void net_kill(bool on)
{
	net_dead = on;
}

int log_fd(struct part *p)
{
	struct sock *s = net_make(SOCK_LOG, NULL);

	s->arg = p;
	return net_give_fd(s);
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

void net_heal(void)
{
	for (int i = 0; i < FDS; i++)
		if (net_fds[i] && net_fds[i]->luck) {
			net_fds[i]->luck->read_max = net_fds[i]->luck->write_max = SIZE_MAX;
			net_fds[i]->luck->reset_after = net_fds[i]->luck->stall_after = 0;
		}
}
