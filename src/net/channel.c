/* channel.c - see channel.h.
 *
 * Header: u32 length of the payload, u32 type, little endian; bit 31 of the type says that a descriptor belongs to the
 * frame.  A descriptor leaves with the first octet of its frame (a write never spans the start of such a frame), so
 * that it is there when the header has been read; descriptors are matched to flagged frames in order.
 * In memory the same octets change hands by swapping buffers, so that both kinds share encoding and checks.
 */
#include "net/channel.h"

#include "base/alloc.h"
#include "base/buf.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER 8u
#define WITH_FD 0x80000000u
#define READ_CHUNK (64u * 1024)  /* one read: four body frames */
#define READ_ROUNDS 8u           /* reads a turn, then others get theirs */
#define KEEP (256u * 1024)       /* a buffer up to this size is kept while empty */
#define KEEP_MEMORY (2u * 1024 * 1024) /* the same of the two that an in-memory pair passes to and fro */
#define FDS_MAX 64u              /* descriptors in flight one way; super hands out some tens at start */

struct fds {
	struct { uint64_t at; int fd; } item[FDS_MAX]; /* at: the place in the stream where its frame starts (sending) */
	unsigned first, n;
};

struct channel {
	struct loop *loop;
	const struct channel_handler *handler;
	void *arg;
	int fd; /* -1: in memory, or closed */
	struct loop_watch watch;
	struct loop_later flush, deliver;
	struct channel *peer; /* in memory; NULL once that end is gone */
	bool memory, open, told, freed;
	bool broken; /* by what the peer sent */
	bool deaf; /* the peer takes nothing more, but what it wrote before is still to be read */
	unsigned busy; /* frames of ours on the stack that still need this struct */
	size_t reserved;
	uint64_t sent; /* octets of the stream written; positions of descriptors count from its start */
	struct buf out, in;
	struct fds out_fds, in_fds;
};

/* ---- descriptors waiting ---- */

static bool fds_push(struct fds *q, uint64_t at, int fd)
{
	unsigned i;

	if (q->n == FDS_MAX)
		return false;
	i = (q->first + q->n++) % FDS_MAX;
	q->item[i].at = at;
	q->item[i].fd = fd;
	return true;
}

static int fds_pop(struct fds *q)
{
	int fd = q->item[q->first].fd;

	assert(q->n);
	q->first = (q->first + 1) % FDS_MAX;
	q->n--;
	return fd;
}

static void fds_close(struct fds *q)
{
	while (q->n)
		close(fds_pop(q));
}

/* ---- numbers ---- */

static void put32(unsigned char *p, uint32_t v)
{
	p[0] = (unsigned char)v;
	p[1] = (unsigned char)(v >> 8);
	p[2] = (unsigned char)(v >> 16);
	p[3] = (unsigned char)(v >> 24);
}

static uint32_t get32(const unsigned char *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ---- ending ---- */

static void destroy(struct channel *c)
{
	fds_close(&c->out_fds);
	fds_close(&c->in_fds);
	buf_free(&c->out);
	buf_free(&c->in);
	alloc_put(&alloc_libc, c);
}

/* Runs handler code: channel_free in there only marks.  False: the channel is gone. */
static bool leave(struct channel *c)
{
	if (--c->busy == 0 && c->freed) {
		destroy(c);
		return false;
	}
	return !c->freed;
}

/* Nothing is sent or read from here on; the handler is told at the end of the turn, what had arrived before it first. */
static void shut(struct channel *c)
{
	if (!c->open)
		return;
	c->open = false;
	if (c->fd != -1) {
		loop_watch_stop(&c->watch);
		close(c->fd);
		c->fd = -1;
	}
	loop_later_cancel(c->loop, &c->flush);
	fds_close(&c->out_fds);
	buf_free(&c->out);
	if (c->peer) {
		struct channel *peer = c->peer;

		c->peer = NULL;
		peer->peer = NULL;
		shut(peer);
	}
	if (c->handler)
		loop_later(c->loop, &c->deliver);
}

void channel_free(struct channel *c)
{
	if (!c || c->freed)
		return;
	c->told = true;
	c->freed = true;
	if (c->open && !c->deaf && buf_len(&c->out))
		channel_flush(c); /* what was sent before the end arrives, as far as the peer takes it now */
	shut(c);
	loop_later_cancel(c->loop, &c->deliver);
	if (!c->busy)
		destroy(c);
}

bool channel_is_open(const struct channel *c)
{
	return c->open && !c->deaf;
}

bool channel_was_broken(const struct channel *c)
{
	return c->broken;
}

/* ---- receiving ---- */

static int broke(struct channel *c)
{
	c->broken = true;
	return -1;
}

/* Hands out the whole frames at the front of b.  0, or -1 when the peer broke the rules or the handler freed us. */
static int hand_out(struct channel *c, struct buf *b)
{
	while (buf_len(b) >= HEADER) {
		const unsigned char *p = (const unsigned char *)buf_view(b).p;
		uint32_t n = get32(p), type = get32(p + 4);
		int fd = -1;

		if (n > CHANNEL_FRAME_MAX || (type & ~WITH_FD) == 0)
			return broke(c);
		if (buf_len(b) < HEADER + n)
			return buf_reserve(b, HEADER + n - buf_len(b)) ? 0 : -1;
		if (type & WITH_FD) {
			if (!c->in_fds.n)
				return broke(c);
			fd = fds_pop(&c->in_fds);
		}
		c->handler->frame(c->arg, c, type & ~WITH_FD, view_of((const char *)p + HEADER, n), fd);
		if (c->freed)
			return -1;
		buf_take(b, HEADER + n);
	}
	return 0;
}

static void tell_closed(struct channel *c)
{
	if (c->told || !c->handler)
		return;
	c->told = true;
	c->handler->closed(c->arg, c);
}

/* The end of a turn, in memory or after the end: hands out what the peer's flush left here, then says that it is gone. */
static void run_deliver(void *arg)
{
	struct channel *c = arg;
	struct buf taken = c->in; /* handlers may make the peer flush into c->in meanwhile */
	int bad = 0;

	c->busy++;
	buf_init(&c->in, &alloc_libc, c->in.max);
	if (c->memory && buf_len(&taken)) {
		bad = hand_out(c, &taken);
		assert(c->freed || bad || buf_len(&taken) == 0); /* in memory frames are always whole */
		if (!c->freed && c->handler->turn)
			c->handler->turn(c->arg, c);
	}
	if (!c->freed && c->memory && c->open && !c->in.mem && taken.cap <= KEEP_MEMORY) {
		buf_take(&taken, buf_len(&taken));
		c->in = taken; /* it goes back to the peer with the next swap: no allocation a turn */
	} else {
		buf_free(&taken);
	}
	if (!c->freed && bad)
		shut(c);
	if (!c->freed && !c->open && buf_len(&c->in) == 0)
		tell_closed(c);
	leave(c);
}

/* Not now.  Memory that the kernel lacks comes back, and the loop asks again each turn; a channel that ended for it would be gone
 * for ever, since both roles live and super sees nothing to restart. */
static bool is_passing(int err)
{
	return err == EAGAIN || err == EWOULDBLOCK || err == ENOMEM || err == ENOBUFS;
}

/* One recvmsg into the buffer. >0 octets, 0: nothing now, -1: end or error. */
static ssize_t receive(struct channel *c)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 4)];
	} control;
	struct iovec iov;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	struct cmsghdr *h;
	ssize_t n;
	bool bad = false;

	if (buf_room(&c->in) < READ_CHUNK / 4 && !buf_reserve(&c->in, READ_CHUNK))
		return -1;
	iov = (struct iovec){ buf_tail(&c->in), buf_room(&c->in) };
	do
		n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n == -1 && errno == EINTR);
	if (n == -1)
		return is_passing(errno) ? 0 : -1;
	for (h = CMSG_FIRSTHDR(&msg); h; h = CMSG_NXTHDR(&msg, h)) {
		size_t i, count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fd;

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		for (i = 0; i < count; i++) {
			memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
			if (!fds_push(&c->in_fds, 0, fd)) {
				close(fd);
				bad = true;
			}
		}
	}
	if (bad || (msg.msg_flags & MSG_CTRUNC))
		return broke(c);
	if (n == 0)
		return -1;
	buf_commit(&c->in, (size_t)n);
	return n;
}

static void readable(struct channel *c)
{
	unsigned round;
	size_t asked;
	ssize_t n;
	bool end = false, any = false;

	for (round = 0; round < READ_ROUNDS && !end; round++) {
		asked = buf_room(&c->in) < READ_CHUNK / 4 ? READ_CHUNK : buf_room(&c->in);
		n = receive(c);
		if (n == 0)
			break;
		end = n == -1;
		any |= n > 0;
		if (n > 0 && hand_out(c, &c->in) == -1)
			end = true;
		if (c->freed || c->fd == -1 || (size_t)n < asked)
			break;
	}
	if (c->freed)
		return;
	if (any && c->handler->turn)
		c->handler->turn(c->arg, c);
	if (c->freed)
		return;
	if (buf_len(&c->in) == 0 && c->in.cap > KEEP)
		buf_release(&c->in);
	if (end)
		shut(c);
}

/* ---- sending ---- */

/* One sendmsg: up to the next frame with a descriptor, or beginning with it.  As send(). */
static ssize_t send_some(struct channel *c)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct view v = buf_view(&c->out);
	struct iovec iov = { (void *)(uintptr_t)v.p, v.n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	const struct fds *q = &c->out_fds;
	bool with = q->n && q->item[q->first].at == c->sent;
	ssize_t n;

	if (with) {
		struct cmsghdr *h;

		msg.msg_control = &control;
		msg.msg_controllen = sizeof control;
		h = CMSG_FIRSTHDR(&msg);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &q->item[q->first].fd, sizeof(int));
	}
	if (q->n > with) {
		uint64_t next = q->item[(q->first + with) % FDS_MAX].at - c->sent;

		if (next < v.n)
			iov.iov_len = (size_t)next;
	}
	do
		n = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n == -1 && errno == EINTR);
	if (n > 0 && with)
		close(fds_pop(&c->out_fds));
	return n;
}

static void flush_memory(struct channel *c)
{
	struct channel *peer = c->peer;
	bool ok = true;

	while (c->out_fds.n) {
		int fd = fds_pop(&c->out_fds);

		if (!fds_push(&peer->in_fds, 0, fd)) {
			close(fd);
			ok = false;
		}
	}
	if (buf_len(&peer->in) == 0) { /* no copy: the buffers change places */
		struct buf b = peer->in;

		peer->in = c->out;
		c->out = b;
	} else {
		ok = ok && buf_add(&peer->in, buf_view(&c->out));
		buf_take(&c->out, buf_len(&c->out));
	}
	if (!ok)
		shut(c);
	else if (peer->handler)
		loop_later(peer->loop, &peer->deliver);
}

/* The peer is gone, but may have written before: the end of file behind that is what ends the channel. */
static void peer_deaf(struct channel *c)
{
	if (!c->handler) {
		shut(c);
		return;
	}
	c->deaf = true;
	fds_close(&c->out_fds);
	buf_free(&c->out);
	loop_watch_want(&c->watch, LOOP_READ);
}

void channel_flush(struct channel *c)
{
	if (!c->open || c->reserved)
		return;
	if (c->memory) {
		if (buf_len(&c->out))
			flush_memory(c);
		return;
	}
	while (buf_len(&c->out)) {
		ssize_t n = send_some(c);

		if (n == -1 && is_passing(errno)) {
			if (c->handler)
				loop_watch_want(&c->watch, LOOP_READ | LOOP_WRITE);
			else
				loop_later(c->loop, &c->flush); /* nobody watches yet: start-up, a short while */
			return;
		}
		if (n == -1) {
			peer_deaf(c);
			return;
		}
		buf_take(&c->out, (size_t)n);
		c->sent += (uint64_t)n;
	}
	if (c->out.cap > KEEP)
		buf_release(&c->out);
	if (c->handler)
		loop_watch_want(&c->watch, LOOP_READ);
}

static void run_flush(void *arg)
{
	channel_flush(arg);
}

static void ready(void *arg, unsigned io)
{
	struct channel *c = arg;

	c->busy++;
	if (io & LOOP_WRITE)
		channel_flush(c);
	if ((io & LOOP_READ) && c->fd != -1)
		readable(c);
	leave(c);
}

void *channel_reserve(struct channel *c, size_t n)
{
	assert(!c->reserved);
	if (!c->open || c->deaf || n > CHANNEL_FRAME_MAX)
		return NULL;
	if (!buf_reserve(&c->out, HEADER + n)) {
		shut(c); /* the peer let it fill: it is stuck, and what was promised to it cannot be kept in order */
		return NULL;
	}
	c->reserved = n + 1;
	return buf_tail(&c->out) + HEADER;
}

static void commit(struct channel *c, uint32_t type, size_t n)
{
	unsigned char *p = buf_tail(&c->out);

	assert(c->reserved && n < c->reserved);
	put32(p, (uint32_t)n);
	put32(p + 4, type);
	buf_commit(&c->out, HEADER + n);
	c->reserved = 0;
	loop_later(c->loop, &c->flush);
}

void channel_commit(struct channel *c, uint32_t type, size_t n)
{
	assert(type && !(type & WITH_FD));
	commit(c, type, n);
}

bool channel_send(struct channel *c, uint32_t type, struct view payload)
{
	void *to = channel_reserve(c, payload.n);

	if (!to)
		return false;
	if (payload.n)
		memcpy(to, payload.p, payload.n);
	channel_commit(c, type, payload.n);
	return true;
}

bool channel_send_fd(struct channel *c, uint32_t type, struct view payload, int fd)
{
	uint64_t at = c->sent + buf_len(&c->out);
	int copy;
	void *to;

	assert(type && !(type & WITH_FD));
	if (!c->open || c->deaf || c->out_fds.n == FDS_MAX)
		return false;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy == -1)
		return false;
	to = channel_reserve(c, payload.n);
	if (!to) {
		close(copy);
		return false;
	}
	if (payload.n)
		memcpy(to, payload.p, payload.n);
	fds_push(&c->out_fds, at, copy);
	commit(c, type | WITH_FD, payload.n);
	return true;
}

/* ---- beginning ---- */

static struct channel *make(struct loop *l, int fd)
{
	struct channel *c = alloc_get(&alloc_libc, sizeof *c);

	if (!c)
		return NULL;
	*c = (struct channel){ .loop = l, .fd = fd, .open = true };
	c->flush.run = run_flush;
	c->flush.arg = c;
	c->deliver.run = run_deliver;
	c->deliver.arg = c;
	buf_init(&c->out, &alloc_libc, CHANNEL_OUT_MAX);
	buf_init(&c->in, &alloc_libc, CHANNEL_OUT_MAX); /* sockets: one frame and one read; memory: what the peer sent */
	return c;
}

struct channel *channel_new(struct loop *l, int fd)
{
	struct channel *c = make(l, fd);
	int flags = fcntl(fd, F_GETFL);

	if (!c)
		return NULL;
	if (flags == -1 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1) {
		c->fd = -1; /* not ours: the caller keeps it */
		destroy(c);
		return NULL;
	}
	return c;
}

int channel_pair(struct loop *l, struct channel *ends[2])
{
	ends[0] = make(l, -1);
	ends[1] = make(l, -1);
	if (!ends[0] || !ends[1]) {
		alloc_put(&alloc_libc, ends[0]);
		alloc_put(&alloc_libc, ends[1]);
		ends[0] = ends[1] = NULL;
		return -1;
	}
	ends[0]->memory = ends[1]->memory = true;
	ends[0]->peer = ends[1];
	ends[1]->peer = ends[0];
	return 0;
}

void channel_set_handler(struct channel *c, const struct channel_handler *handler, void *arg)
{
	bool first = !c->handler;

	c->handler = handler;
	c->arg = arg;
	if (!first)
		return;
	if (c->memory || !c->open) { /* what came before, or the end, is told now */
		if (buf_len(&c->in) || !c->open)
			loop_later(c->loop, &c->deliver);
		return;
	}
	if (loop_watch_start(&c->watch, c->loop, c->fd, LOOP_READ, ready, c) == -1)
		shut(c);
	else if (buf_len(&c->out))
		loop_later(c->loop, &c->flush);
}

int channel_detach_fd(struct channel *c)
{
	int fd = -1;

	if (!c->memory && c->open && !c->handler && buf_len(&c->out) == 0 && c->sent == 0) {
		fd = c->fd;
		c->fd = -1;
	}
	channel_free(c);
	return fd;
}
