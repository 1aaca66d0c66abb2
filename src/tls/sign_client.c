/* sign_client.c - see sign_client.h. */
#include "tls/sign_client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEADER 8u
/* KEY_SIGN: u64 stream, u32 key, u32 digest, u8 padding, u32 length, hash */
#define ASK_SIZE (8u + 4 + 4 + 1 + 4)
/* KEY_SIGNED: u64 stream, u8 ok, u32 length, signature */
#define ANSWER_SIZE (8u + 1 + 4)
_Static_assert(SIGN_CLIENT_FRAME_MAX == HEADER + ANSWER_SIZE + TLS_SIGNATURE_MAX, "a longest answer fits");

struct answer {
	uint64_t stream;
	bool ok;
	const unsigned char *signature;
	size_t n, frame; /* octets of the signature, of all */
};

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t); /* measures our own wait; no decision of the protocol hangs on it */
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void put(unsigned char **p, uint64_t v, unsigned n)
{
	while (n--) {
		*(*p)++ = (unsigned char)v;
		v >>= 8;
	}
}

static uint64_t get(const unsigned char **p, unsigned n)
{
	uint64_t v = 0;
	unsigned i;

	for (i = 0; i < n; i++)
		v |= (uint64_t)*(*p)++ << (8 * i);
	return v;
}

void sign_client_init(struct sign_client *s, uint32_t ask, uint32_t answer)
{
	*s = (struct sign_client){ .fd = -1, .ask = ask, .answer = answer, .timeout_ms = SIGN_CLIENT_MS };
}

/* Takes the signature from among those awaited, and wakes who awaits it. */
static void make(struct tls_signature **at, long made)
{
	struct tls_signature *w = *at;

	*at = w->next;
	w->made = made;
	w->ready(w->arg);
}

/* Nothing more is to be had from this descriptor: a late answer would be taken for that of the next request. */
static void end(struct sign_client *s)
{
	if (s->fd == -1 || s->broken)
		return;
	s->broken = true;
	s->owed = 0;
	s->in_n = 0;
	shutdown(s->fd, SHUT_RDWR); /* `keys` sees it, and a watch on it wakes */
	while (s->awaited) {
		s->failed++;
		make(&s->awaited, -1);
	}
}

void sign_client_set_fd(struct sign_client *s, int fd)
{
	end(s);
	if (s->fd != -1)
		close(s->fd);
	s->fd = fd;
	s->broken = false;
}

bool sign_client_is_open(const struct sign_client *s)
{
	return s->fd != -1 && !s->broken;
}

void sign_client_free(struct sign_client *s)
{
	sign_client_set_fd(s, -1);
	fibers_free(&s->fibers);
}

struct tls_signer sign_client_signer(struct sign_client *s)
{
	return (struct tls_signer){ .sign = sign_client_sign, .begin = sign_client_begin, .forget = sign_client_forget, .arg = s,
				    .fibers = &s->fibers };
}

/* ---- the descriptor ---- */

/* Waits until the descriptor can be read or written, at most until `until`. */
static bool wait_for(int fd, short what, uint64_t until)
{
	struct pollfd p = { .fd = fd, .events = what };

	for (;;) {
		uint64_t now = now_us();
		int r;

		if (now >= until)
			return false;
		r = poll(&p, 1, (int)((until - now + 999) / 1000));
		if (r == 1)
			return true;
		if (r == -1 && errno != EINTR)
			return false;
	}
}

/* After a send or recv of -1: is it to be tried again, now that there was a wait? */
static bool may_retry(int fd, bool out, uint64_t until)
{
	if (errno == EINTR)
		return true;
	if (errno == ENOMEM || errno == ENOBUFS) { /* the kernel's, which comes back; without us TLS would not */
		poll(NULL, 0, 1);
		return now_us() < until;
	}
	return (errno == EAGAIN || errno == EWOULDBLOCK) && wait_for(fd, out ? POLLOUT : POLLIN, until);
}

static bool write_all(int fd, const unsigned char *p, size_t n, uint64_t until)
{
	while (n) {
		ssize_t r = send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (r >= 0) {
			p += r;
			n -= (size_t)r;
		} else if (!may_retry(fd, true, until)) {
			return false;
		}
	}
	return true;
}

/* Reads what is there.  1: something; 0: nothing now; -1: the end. */
static int read_more(struct sign_client *s)
{
	for (;;) {
		ssize_t r = recv(s->fd, s->in + s->in_n, sizeof s->in - s->in_n, MSG_DONTWAIT);

		if (r > 0) {
			s->in_n += (size_t)r;
			return 1;
		}
		if (r == 0)
			return -1;
		if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOMEM || errno == ENOBUFS)
			return 0;
		if (errno != EINTR)
			return -1;
	}
}

/* ---- answers ---- */

/* The first of what was read.  1: it is whole; 0: more is to come; -1: it is none. */
static int parse(const struct sign_client *s, struct answer *a)
{
	const unsigned char *r = s->in;
	uint64_t length, type, ok, size;

	if (s->in_n < HEADER + ANSWER_SIZE)
		return 0;
	length = get(&r, 4);
	type = get(&r, 4);
	a->stream = get(&r, 8);
	ok = get(&r, 1);
	size = get(&r, 4);
	if (type != s->answer || length != ANSWER_SIZE + size || size > TLS_SIGNATURE_MAX || a->stream == 0 || a->stream > s->stream)
		return -1;
	a->frame = HEADER + ANSWER_SIZE + (size_t)size;
	a->signature = r;
	a->n = (size_t)size;
	a->ok = ok == 1 && size > 0;
	return s->in_n >= a->frame;
}

static void drop(struct sign_client *s, const struct answer *a)
{
	s->in_n -= a->frame;
	memmove(s->in, s->in + a->frame, s->in_n);
}

/* Hands out the answers that have come, up to that to `own` (0: all).  1: own is at the head; 0: more has to come; -1: broken. */
static int hand_out(struct sign_client *s, uint64_t own, struct answer *a)
{
	int r;

	while ((r = parse(s, a)) == 1) {
		struct tls_signature **at = &s->awaited;

		if (a->stream == own)
			return 1;
		if (s->owed == 0)
			return -1; /* nobody asked */
		s->owed--;
		while (*at && (*at)->number != a->stream)
			at = &(*at)->next;
		if (*at) { /* else its session is gone */
			s->failed += !a->ok;
			if (a->ok)
				memcpy((*at)->octets, a->signature, a->n);
			make(at, a->ok ? (long)a->n : -1);
		}
		drop(s, a);
	}
	return r;
}

bool sign_client_take(struct sign_client *s)
{
	struct answer a;
	int r = 1;

	if (!sign_client_is_open(s))
		return false;
	while (r == 1) {
		r = read_more(s);
		if (hand_out(s, 0, &a) == -1)
			r = -1;
	}
	if (r == -1)
		end(s);
	return r != -1;
}

/* >0: octets of the signature; 0: `keys` refused; -1: the channel is broken. */
static long wait_own(struct sign_client *s, uint64_t own, uint64_t until, unsigned char *to, size_t room)
{
	struct answer a;
	long made = 0;
	int had;

	while ((had = hand_out(s, own, &a)) != 1) {
		int r = had == 0 && wait_for(s->fd, POLLIN, until) ? read_more(s) : -1;

		if (r == -1)
			return -1;
		if (r == 0)
			poll(NULL, 0, 1); /* the kernel's memory, which comes back */
	}
	if (a.ok && a.n <= room) {
		memcpy(to, a.signature, a.n);
		made = (long)a.n;
	}
	drop(s, &a);
	return made;
}

/* ---- questions ---- */

/* The stream number, or 0.  One that is not patient does not wait for room. */
static uint64_t ask(struct sign_client *s, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n, bool patient)
{
	unsigned char frame[HEADER + ASK_SIZE + TLS_HASH_MAX], *p = frame;
	ssize_t sent = 0;

	s->asked++;
	if (!sign_client_is_open(s) || n > TLS_HASH_MAX)
		return 0;
	put(&p, ASK_SIZE + n, 4);
	put(&p, s->ask, 4);
	put(&p, ++s->stream, 8);
	put(&p, key, 4);
	put(&p, digest, 4);
	put(&p, padding, 1);
	put(&p, n, 4);
	memcpy(p, hash, n);
	n += HEADER + ASK_SIZE;
	if (!patient)
		sent = send(s->fd, frame, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent == -1 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOMEM || errno == ENOBUFS))
		return 0;
	if (sent >= 0 && write_all(s->fd, frame + sent, n - (size_t)sent, now_us() + (uint64_t)s->timeout_ms * 1000))
		return s->stream;
	end(s);
	return 0;
}

long sign_client_sign(void *arg, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n,
		      unsigned char *to, size_t room)
{
	struct sign_client *s = arg;
	uint64_t from = now_us(), own = ask(s, key, digest, padding, hash, n, true);
	long made = own ? wait_own(s, own, from + (uint64_t)s->timeout_ms * 1000, to, room) : -1;

	s->waited_us += now_us() - from;
	if (own && made == -1)
		end(s);
	if (made <= 0)
		s->failed++;
	return made > 0 ? made : -1;
}

int sign_client_begin(void *arg, struct tls_signature *later, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n)
{
	struct sign_client *s = arg;

	later->number = s->owed < SIGN_CLIENT_PENDING_MAX ? ask(s, key, digest, padding, hash, n, false) : 0;
	if (later->number == 0) {
		s->failed++;
		return -1;
	}
	s->owed++;
	later->made = 0;
	later->next = s->awaited;
	s->awaited = later;
	return 0;
}

void sign_client_forget(void *arg, struct tls_signature *later)
{
	struct sign_client *s = arg;

	for (struct tls_signature **at = &s->awaited; *at; at = &(*at)->next)
		if (*at == later) {
			*at = later->next;
			return;
		}
}
