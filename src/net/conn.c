/* conn.c - see conn.h.
 *
 * Why the TLS boundary holds: octets read in clear go to input with epoch 1 or wait in c->in; conn_start_tls refuses when
 * c->in is not empty; from then on nothing is read until the handshake begins, and from there every octet read goes
 * to the TLS engine alone (take()).  c->raw holds ciphertext only and c->in plaintext of the present epoch only.
 * There is no way back to CONN_CLEAR.
 *
 * Callbacks may free the connection: each is made between enter() and leave(), and what follows one stops when it is gone.
 *
 * Longer than most files: reading, writing, the handshake and closing share this one guard and the flags that it protects,
 * and the argument above is to be checked in one place.
 */
#include "net/conn.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum flag {
	OPEN = 1,
	PAUSED = 2,         /* by the caller */
	HELD = 4,           /* input left octets */
	END_SEEN = 8,       /* end of file, or close_notify: nothing more will be read */
	END_TOLD = 0x10,
	BROKEN = 0x20,      /* reset: nothing more can be written */
	TLS_ASKED = 0x40,   /* conn_start_tls: waiting until the output is written */
	TLS_SERVER = 0x80,
	HANDSHAKE = 0x100,
	UP = 0x200,
	CLOSING = 0x400,
	NOTIFIED = 0x800,   /* close_notify is in out */
	LINGERING = 0x1000, /* our side is shut; the peer's octets are dropped */
	FINISHED = 0x2000,  /* closed was told, or is about to be */
	FAILED = 0x4000,
	IN_INPUT = 0x8000,
	BUSY = 0x10000,     /* deliver() runs: conn_resume need not start it */
	BLOCKED = 0x20000,  /* the socket took less than all */
	PUMP = 0x40000,     /* asked for */
	TLS_OVER = 0x80000, /* the handshake failed */
	RETRY = 0x100000,   /* conn_resume: show again what input left */
	UNDRAINED = 0x200000, /* something was written since `drained` was told */
	HASTY = 0x400000,   /* conn_close_now: no lingering */
	SIGNING = 0x800000, /* the handshake waits for a signature */
	SIGNED = 0x1000000  /* it has come: go on */
};

#define READ_ROUNDS 4u  /* full reads a turn, then others get theirs */
#define WRITE_ROUNDS 8u /* asks of output a turn */
#define RECORD_MAX 16384u
#define ONCE 4096u /* conn_read_once: one octet would already tell */
/* Ciphertext for the socket: what output shows at once, its overhead, and answers of the TLS layer (key updates): a peer
 * that asks for answers without reading them is cut when this is full. */
#define OUT_MAX (CONN_OUT_HIGH * 4)

static void turn_end(void *arg);
static void ready(void *arg, unsigned io);

/* ---- callbacks ---- */

struct frame {
	bool gone, *outer;
};

static void enter(struct conn *c, struct frame *f)
{
	f->gone = false;
	f->outer = c->gone;
	c->gone = &f->gone;
}

/* False: the connection is gone, and must not be touched. */
static bool leave(struct conn *c, struct frame *f)
{
	if (f->gone) {
		if (f->outer)
			*f->outer = true;
		return false;
	}
	c->gone = f->outer;
	return true;
}

#define CALL(c, op, ...)                                                                                               \
	__extension__({                                                                                                \
		struct frame frame_;                                                                                   \
		enter((c), &frame_);                                                                                   \
		(c)->ops->op((c)->arg, ##__VA_ARGS__);                                                                 \
		leave((c), &frame_);                                                                                   \
	})
#define CALL0(c, op)                                                                                                   \
	__extension__({                                                                                                \
		struct frame frame_;                                                                                   \
		enter((c), &frame_);                                                                                   \
		(c)->ops->op((c)->arg);                                                                                \
		leave((c), &frame_);                                                                                   \
	})

static bool has(const struct conn *c, unsigned f)
{
	return (c->flags & f) != 0;
}

static void soon(struct conn *c)
{
	loop_later(c->loop, &c->later);
}

static void update_watch(struct conn *c)
{
	unsigned want = 0;

	if (!has(c, OPEN))
		return;
	/* what input has not taken yet comes first: conn_resume inside input_done clears HELD before it is shown again */
	if (has(c, LINGERING) ? !has(c, FINISHED)
	                      : !has(c, PAUSED | HELD | END_SEEN | TLS_ASKED | CLOSING | FAILED | TLS_OVER) && !buf_len(&c->in) &&
	                                !(has(c, SIGNING) && buf_len(&c->raw)))
		want |= LOOP_READ;
	if (has(c, BLOCKED) && !has(c, BROKEN | FAILED))
		want |= LOOP_WRITE;
	loop_watch_want(&c->watch, want);
}

/* False: gone. */
static bool fail(struct conn *c, enum error_class class, int sys, const char *what)
{
	struct error e;

	if (has(c, FAILED))
		return true;
	c->flags |= FAILED;
	update_watch(c);
	if (sys)
		error_sys(&e, sys, "%s", what);
	else
		error_set(&e, class, "%s", what);
	return CALL(c, failed, &e);
}

/* Nothing more can be written.  What the peer said before it went is still read: a 421 explains the reset behind it. */
static void broken(struct conn *c)
{
	c->flags |= BROKEN | PUMP; /* a close in progress is through with it */
	c->flags &= ~(unsigned)BLOCKED;
	buf_free(&c->out);
	update_watch(c);
	soon(c);
}

/* ---- input ---- */

/* Shows what is in c->in, or v (then c->in is empty), until input holds or all is taken.  False: gone. */
static bool deliver(struct conn *c, struct view v)
{
	struct frame f;
	size_t took;
	bool mine = v.n == 0;

	if (has(c, BUSY))
		return mine || buf_add(&c->in, v) || fail(c, ERROR_AGAIN, ENOMEM, "input");
	assert(mine || buf_len(&c->in) == 0);
	c->flags |= BUSY;
	for (;;) {
		if (mine)
			v = buf_view(&c->in);
		if (v.n == 0 || has(c, PAUSED | HELD | CLOSING | FAILED))
			break;
		c->flags |= IN_INPUT;
		enter(c, &f);
		took = c->ops->input(c->arg, c->epoch, v.p, v.n);
		if (!leave(c, &f))
			return false;
		c->flags &= ~(unsigned)IN_INPUT;
		assert(took <= v.n);
		if (took < v.n)
			c->flags |= HELD;
		if (mine)
			buf_take(&c->in, took);
		else if (took < v.n && !buf_add(&c->in, view_slice(v, took, v.n))) {
			c->flags &= ~(unsigned)BUSY;
			return fail(c, ERROR_AGAIN, ENOMEM, "input");
		}
		mine = true;
		c->flags |= PUMP;
		soon(c);
		if (c->ops->input_done && !CALL0(c, input_done))
			return false;
		if (took == 0)
			break; /* nothing moves: not again before the end of the turn */
	}
	c->flags &= ~(unsigned)BUSY;
	if (!mine && v.n && !buf_add(&c->in, v))
		return fail(c, ERROR_AGAIN, ENOMEM, "input");
	if (buf_len(&c->in) == 0)
		buf_release(&c->in);
	return true;
}

static bool tls_fault(struct conn *c)
{
	c->flags |= PUMP; /* an alert may be in out */
	soon(c);
	if (!has(c, HANDSHAKE))
		return fail(c, ERROR_PEER, 0, tls_why(c->tls));
	c->flags &= ~(unsigned)HANDSHAKE;
	c->flags |= TLS_OVER;
	update_watch(c);
	return CALL(c, tls_failed, tls_why(c->tls));
}

/* Called in the middle of anything, also of another connection's handshake. */
static void on_signed(void *arg)
{
	struct conn *c = arg;

	c->flags |= SIGNED;
	soon(c);
}

/* Goes on with the handshake.  False: gone. */
static bool shake(struct conn *c, struct view *v)
{
	enum tls_status st = tls_handshake(c->tls, v, &c->out);

	c->flags |= PUMP;
	soon(c);
	if (st == TLS_FAILED)
		return tls_fault(c);
	if (st == TLS_SIGNING) { /* what the peer says meanwhile waits; that it goes is seen at once */
		c->flags |= SIGNING;
		return true;
	}
	if (st != TLS_OK)
		return true;
	c->flags &= ~(unsigned)HANDSHAKE;
	c->flags |= UP;
	c->tls_check = NULL;
	return CALL(c, tls_up, tls_get_facts(c->tls));
}

/* Decrypts and shows until the ciphertext is used up or input holds.  False: gone. */
static bool decrypt(struct conn *c, struct view *v)
{
	char *to = loop_scratch(c->loop, 1);
	enum tls_status st = TLS_OK;
	size_t n, got;

	while (st == TLS_OK && !has(c, HELD | PAUSED | CLOSING | FAILED | END_SEEN)) {
		for (n = 0; LOOP_SCRATCH - n >= RECORD_MAX && st == TLS_OK; n += got)
			st = tls_read(c->tls, v, to + n, LOOP_SCRATCH - n, &got, &c->out);
		if (buf_len(&c->out)) {
			c->flags |= PUMP;
			soon(c);
		}
		if (n && !deliver(c, view_of(to, n)))
			return false;
		if (st == TLS_CLOSED) { /* RFC 8446 6.1: what comes behind close_notify is ignored */
			c->flags |= END_SEEN;
			*v = view_of("", 0);
			soon(c);
		} else if (st == TLS_FAILED && !has(c, FAILED)) {
			return tls_fault(c);
		}
	}
	return true;
}

/* Octets from the socket, or those left in c->raw (then v is empty).  False: gone. */
static bool take(struct conn *c, struct view v)
{
	bool mine = v.n == 0;

	if (c->epoch == CONN_CLEAR)
		return deliver(c, v);
	if (!mine && buf_len(&c->raw)) {
		if (!buf_add(&c->raw, v))
			return fail(c, ERROR_AGAIN, ENOMEM, "input");
		mine = true;
	}
	if (has(c, TLS_OVER | END_SEEN) && !has(c, UP))
		return true;
	if (mine) /* a buffer of its own: callbacks may lead back here */
		v = buf_view(&c->raw);
	if (has(c, HANDSHAKE) && !shake(c, &v))
		return false;
	if (has(c, UP) && !decrypt(c, &v))
		return false;
	if (mine)
		buf_take(&c->raw, buf_len(&c->raw) - v.n);
	else if (v.n && !buf_add(&c->raw, v))
		return fail(c, ERROR_AGAIN, ENOMEM, "input");
	buf_release(&c->raw);
	return true;
}

/* Tells the peer's end when all that came before it was taken.  False: gone. */
static bool tell_end(struct conn *c)
{
	if (!has(c, END_SEEN) || has(c, END_TOLD | CLOSING | FAILED | TLS_OVER) || buf_len(&c->in))
		return true;
	if (buf_len(&c->raw)) /* input holds: conn_resume goes on */
		return true;
	c->flags |= END_TOLD;
	if (has(c, HANDSHAKE)) {
		c->flags &= ~(unsigned)HANDSHAKE;
		c->flags |= TLS_OVER;
		return CALL(c, tls_failed, "the connection ended during the handshake");
	}
	return CALL0(c, peer_closed);
}

/* ---- closing ---- */

static void finish(struct conn *c)
{
	if (has(c, FINISHED))
		return;
	c->flags |= FINISHED;
	loop_timer_stop(&c->timer);
	update_watch(c);
	soon(c);
}

static void drop_input(struct conn *c)
{
	ssize_t n;

	do {
		n = recv(c->fd, loop_scratch(c->loop, 0), LOOP_SCRATCH, MSG_DONTWAIT);
		if (n > 0)
			c->lingered += (size_t)n;
	} while ((n > 0 && c->lingered <= CONN_LINGER_BYTES) || (n == -1 && errno == EINTR));
	if (n == -1 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return;
	finish(c);
}

static void linger(struct conn *c)
{
	if (has(c, BROKEN) || shutdown(c->fd, SHUT_WR) == -1 || (has(c, END_SEEN) && !has(c, UP))) {
		finish(c); /* in clear the peer's end was its FIN; in TLS it may still be to come */
		return;
	}
	if (has(c, HASTY)) { /* what is unread would make the close a reset, which overtakes our last words */
		drop_input(c);
		finish(c);
		return;
	}
	c->flags |= LINGERING;
	loop_timer_set(&c->timer, loop_now(c->loop) + CONN_LINGER_MS);
	update_watch(c);
}

static void too_slow(void *arg)
{
	finish(arg);
}

/* ---- output ---- */

/* Writes v; returns how much the socket took, and sets BLOCKED or BROKEN. */
static size_t write_some(struct conn *c, struct view v)
{
	ssize_t n;

	do
		n = send(c->fd, v.p, v.n, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n == -1 && errno == EINTR);
	if (n == -1) {
		if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ENOMEM) /* the kernel's memory comes back */
			c->flags |= BLOCKED;
		else
			broken(c);
		return 0;
	}
	c->bytes_out += (uint64_t)n;
	c->flags |= UNDRAINED;
	if ((size_t)n < v.n)
		c->flags |= BLOCKED;
	return (size_t)n;
}

/* What output shows now, at most a good flight of it; *v empty: nothing.  False: gone. */
static bool ask_output(struct conn *c, struct view *v)
{
	struct frame f;

	enter(c, &f);
	*v = c->ops->output(c->arg);
	if (!leave(c, &f))
		return false;
	if (v->n > CONN_OUT_HIGH)
		v->n = CONN_OUT_HIGH;
	return true;
}

/* In clear: straight from the protocol to the socket.  False: gone. */
static bool write_clear(struct conn *c, bool *all)
{
	struct view v;
	unsigned round;
	size_t n;

	*all = false;
	for (round = 0; round < WRITE_ROUNDS && !has(c, BLOCKED | BROKEN); round++) {
		if (!ask_output(c, &v))
			return false;
		if (v.n == 0) {
			*all = true;
			return true;
		}
		n = write_some(c, v);
		if (n && !CALL(c, sent, n))
			return false;
	}
	if (!has(c, BLOCKED | BROKEN)) {
		c->flags |= PUMP;
		soon(c);
	}
	return true;
}

/* Encrypts what output shows until out is full enough.  False: gone. */
static bool encrypt(struct conn *c, bool *all)
{
	struct view v;

	*all = false;
	while (buf_len(&c->out) < CONN_OUT_HIGH) {
		if (!ask_output(c, &v))
			return false;
		if (v.n == 0) {
			*all = true;
			return true;
		}
		buf_reserve(&c->out, v.n + 512); /* once, instead of growing record by record; a failure shows below */
		if (tls_write(c->tls, v, &c->out) != TLS_OK)
			return fail(c, ERROR_OURS, 0, tls_why(c->tls));
		if (!CALL(c, sent, v.n))
			return false;
	}
	return true;
}

static void write_tls(struct conn *c)
{
	if (buf_len(&c->out) && !has(c, BLOCKED | BROKEN))
		buf_take(&c->out, write_some(c, buf_view(&c->out)));
	buf_release(&c->out);
}

static bool begin_tls(struct conn *c)
{
	struct view none = { "", 0 };

	c->flags &= ~(unsigned)TLS_ASKED;
	c->flags |= HANDSHAKE;
	c->epoch = CONN_TLS;
	c->tls = tls_session_new(c->tls_context, has(c, TLS_SERVER), c->tls_check);
	if (!c->tls) {
		c->flags &= ~(unsigned)HANDSHAKE;
		c->flags |= TLS_OVER;
		return CALL(c, tls_failed, "no TLS session: out of memory, or nothing to verify the peer with");
	}
	tls_session_watch(c->tls, on_signed, c);
	update_watch(c);
	if (has(c, TLS_SERVER)) /* the client speaks first */
		return true;
	if (!shake(c, &none))
		return false;
	write_tls(c);
	return true;
}

/* One flight.  False: gone. */
static bool pump(struct conn *c)
{
	bool all = true;

	c->flags &= ~(unsigned)PUMP;
	if (has(c, FINISHED | LINGERING | BROKEN | FAILED)) {
		if (has(c, FAILED) && !has(c, BROKEN))
			write_tls(c); /* the alert, as far as it goes */
		if (has(c, BROKEN) && has(c, CLOSING))
			finish(c);
		return true;
	}
	if (c->epoch == CONN_CLEAR && !write_clear(c, &all))
		return false;
	if (c->epoch == CONN_TLS) {
		if (has(c, UP) && !has(c, NOTIFIED) && !encrypt(c, &all))
			return false;
		if (all && has(c, CLOSING) && has(c, UP) && !has(c, NOTIFIED | FAILED)) {
			c->flags |= NOTIFIED; /* in the same write as the last reply */
			tls_close(c->tls, &c->out);
		}
		write_tls(c);
		if (!all && !has(c, BLOCKED | BROKEN | FAILED)) {
			c->flags |= PUMP;
			soon(c);
		}
		all = all && buf_len(&c->out) == 0;
	}
	update_watch(c);
	if (!all || has(c, BLOCKED | BROKEN))
		return true;
	if (has(c, UNDRAINED)) {
		c->flags &= ~(unsigned)UNDRAINED;
		if (c->ops->drained && !has(c, HANDSHAKE) && !CALL0(c, drained))
			return false;
		if (has(c, PUMP)) /* drained brought more output, or closed behind it: that is another flight */
			return true;
	}
	if (has(c, TLS_ASKED) && !has(c, CLOSING))
		return begin_tls(c);
	if (has(c, CLOSING))
		linger(c);
	return true;
}

/* ---- the loop ---- */

/* False: gone. */
static bool read_some(struct conn *c)
{
	unsigned round;
	ssize_t n;
	char *to = loop_scratch(c->loop, 0);

	for (round = 0; round < READ_ROUNDS && (c->watch.want & LOOP_READ); round++) {
		do
			n = recv(c->fd, to, LOOP_SCRATCH, MSG_DONTWAIT);
		while (n == -1 && errno == EINTR);
		if (n == -1 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return true;
		if (n <= 0) {
			c->flags |= END_SEEN;
			if (n == -1)
				broken(c);
			update_watch(c);
			return tell_end(c);
		}
		c->bytes_in += (uint64_t)n;
		if (!take(c, view_of(to, (size_t)n)))
			return false;
		update_watch(c);
		if ((size_t)n < LOOP_SCRATCH)
			break;
	}
	return tell_end(c);
}

static void ready(void *arg, unsigned io)
{
	struct conn *c = arg;

	if (has(c, LINGERING)) {
		drop_input(c);
		return;
	}
	if (io & LOOP_WRITE) {
		c->flags &= ~(unsigned)BLOCKED;
		c->flags |= PUMP;
		soon(c);
	}
	if (io & LOOP_READ)
		read_some(c);
}

static void turn_end(void *arg)
{
	struct conn *c = arg;
	struct view none = { "", 0 };

	if (has(c, RETRY)) {
		c->flags &= ~(unsigned)RETRY;
		if (!has(c, HELD | PAUSED)) {
			if (buf_len(&c->in) && !deliver(c, none))
				return;
			if (buf_len(&c->raw) && !has(c, HELD | PAUSED) && !take(c, none))
				return;
			update_watch(c);
		}
	}
	if (has(c, SIGNED)) {
		c->flags &= ~(unsigned)(SIGNED | SIGNING);
		if (has(c, HANDSHAKE) && !has(c, CLOSING | FAILED) && !take(c, none))
			return;
		update_watch(c);
	}
	if (!tell_end(c))
		return;
	if (has(c, PUMP) && !pump(c))
		return;
	if (has(c, FINISHED) && has(c, OPEN)) {
		c->flags &= ~(unsigned)OPEN;
		loop_watch_stop(&c->watch);
		close(c->fd);
		c->fd = -1;
		if (c->ops->closed)
			c->ops->closed(c->arg); /* the last thing done here: it may free */
	}
}

/* ---- calls ---- */

void conn_init(struct conn *c, struct loop *l, const struct alloc *alloc, const struct conn_ops *ops, void *arg)
{
	*c = (struct conn){ .loop = l, .ops = ops, .arg = arg, .fd = -1, .epoch = CONN_CLEAR };
	c->later.run = turn_end;
	c->later.arg = c;
	loop_timer_init(&c->timer, l, too_slow, c);
	buf_init(&c->in, alloc, CONN_IN_MAX);
	buf_init(&c->raw, alloc, CONN_IN_MAX);
	buf_init(&c->out, alloc, OUT_MAX);
}

int conn_open(struct conn *c, int fd, struct error *e)
{
	if (loop_watch_start(&c->watch, c->loop, fd, LOOP_READ, ready, c) == -1) {
		close(fd);
		return error_set(e, ERROR_AGAIN, "a connection cannot be watched");
	}
	c->fd = fd;
	c->flags |= OPEN;
	update_watch(c); /* it may have been paused before */
	return 0;
}

void conn_free(struct conn *c)
{
	if (c->gone)
		*c->gone = true;
	c->gone = NULL;
	loop_timer_stop(&c->timer);
	loop_later_cancel(c->loop, &c->later);
	if (c->fd != -1) {
		loop_watch_stop(&c->watch);
		close(c->fd);
		c->fd = -1;
	}
	tls_session_free(c->tls);
	c->tls = NULL;
	buf_free(&c->in);
	buf_free(&c->raw);
	buf_free(&c->out);
	c->flags = FAILED;
}

bool conn_is_open(const struct conn *c)
{
	return has(c, OPEN) && !has(c, FAILED | BROKEN);
}

void conn_pump(struct conn *c)
{
	if (!has(c, OPEN))
		return;
	c->flags |= PUMP;
	soon(c);
}

void conn_pause(struct conn *c)
{
	c->flags |= PAUSED;
	update_watch(c);
}

void conn_resume(struct conn *c)
{
	c->flags &= ~(unsigned)(PAUSED | HELD);
	if (!has(c, OPEN))
		return;
	c->flags |= RETRY;
	soon(c);
	update_watch(c);
}

size_t conn_read_once(struct conn *c)
{
	struct view v;
	struct frame f;
	size_t pending, took;
	ssize_t n;

	assert(!has(c, IN_INPUT));
	if (!has(c, OPEN) || c->epoch != CONN_CLEAR || has(c, TLS_ASKED | CLOSING | FAILED | BROKEN))
		return buf_len(&c->in);
	if (!buf_reserve(&c->in, ONCE)) {
		fail(c, ERROR_AGAIN, ENOMEM, "input");
		return ONCE; /* unknown is not quiet */
	}
	do
		n = recv(c->fd, buf_tail(&c->in), buf_room(&c->in), MSG_DONTWAIT);
	while (n == -1 && errno == EINTR);
	if (n > 0) {
		c->bytes_in += (uint64_t)n;
		buf_commit(&c->in, (size_t)n);
	} else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
		c->flags |= END_SEEN;
		if (n == -1)
			broken(c);
		soon(c);
	}
	pending = buf_len(&c->in);
	v = buf_view(&c->in);
	if (v.n) {
		c->flags |= IN_INPUT;
		enter(c, &f);
		took = c->ops->input(c->arg, c->epoch, v.p, v.n);
		if (!leave(c, &f))
			return pending;
		c->flags &= ~(unsigned)IN_INPUT;
		assert(took <= v.n);
		buf_take(&c->in, took);
		if (took < v.n)
			c->flags |= HELD;
		else
			c->flags &= ~(unsigned)HELD;
		c->flags |= PUMP;
		soon(c);
	}
	buf_release(&c->in);
	update_watch(c);
	return pending;
}

int conn_start_tls(struct conn *c, struct tls_context *context, bool server, const struct tls_peer_check *check)
{
	assert(!has(c, IN_INPUT)); /* what the present input has not taken could not be told from nothing */
	if (c->epoch != CONN_CLEAR || has(c, TLS_ASKED | CLOSING | FAILED) || buf_len(&c->in) || !has(c, OPEN))
		return -1;
	c->tls_context = context;
	c->tls_check = check;
	c->flags |= TLS_ASKED | PUMP | (server ? TLS_SERVER : 0);
	c->flags &= ~(unsigned)HELD; /* nothing is left to hold */
	update_watch(c);
	soon(c);
	return 0;
}

const struct tls_facts *conn_tls_facts(struct conn *c)
{
	return c->tls ? tls_get_facts(c->tls) : NULL;
}

void conn_close(struct conn *c)
{
	if (has(c, CLOSING))
		return;
	c->flags |= CLOSING | PUMP;
	if (!has(c, OPEN)) { /* never opened: there is nothing to wait for */
		c->flags |= FINISHED;
		return;
	}
	if (has(c, FAILED | BROKEN))
		finish(c);
	else
		loop_timer_set(&c->timer, loop_now(c->loop) + CONN_CLOSE_MS);
	update_watch(c);
	soon(c);
}

void conn_close_now(struct conn *c)
{
	c->flags |= HASTY;
	conn_close(c);
}
