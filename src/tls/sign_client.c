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

void sign_client_set_fd(struct sign_client *s, int fd)
{
	if (s->fd != -1)
		close(s->fd);
	s->fd = fd;
}

bool sign_client_is_open(const struct sign_client *s)
{
	return s->fd != -1;
}

void sign_client_free(struct sign_client *s)
{
	sign_client_set_fd(s, -1);
}

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

static bool move(int fd, unsigned char *p, size_t n, bool out, uint64_t until)
{
	while (n) {
		ssize_t r = out ? send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL) : recv(fd, p, n, MSG_DONTWAIT);

		if (r > 0) {
			p += r;
			n -= (size_t)r;
		} else if (r == 0) {
			return false;
		} else if (errno == ENOMEM || errno == ENOBUFS) { /* the kernel's, which comes back; without us TLS would not */
			if (now_us() >= until)
				return false;
			poll(NULL, 0, 1);
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			if (!wait_for(fd, out ? POLLOUT : POLLIN, until))
				return false;
		} else if (errno != EINTR) {
			return false;
		}
	}
	return true;
}

/* >0: octets of the signature; 0: `keys` refused; -1: the channel is broken. */
static long exchange(struct sign_client *s, const unsigned char *ask, size_t n, unsigned char *to, size_t room)
{
	uint64_t until = now_us() + (uint64_t)s->timeout_ms * 1000;
	unsigned char head[HEADER + ANSWER_SIZE];
	const unsigned char *r = head;
	uint64_t length, type, stream, ok, size;

	if (!move(s->fd, (unsigned char *)(uintptr_t)ask, n, true, until) || !move(s->fd, head, sizeof head, false, until))
		return -1;
	length = get(&r, 4);
	type = get(&r, 4);
	stream = get(&r, 8);
	ok = get(&r, 1);
	size = get(&r, 4);
	if (type != s->answer || stream != s->stream || length != ANSWER_SIZE + size || size > TLS_SIGNATURE_MAX)
		return -1;
	if (ok != 1 || size == 0 || size > room) {
		unsigned char rest[TLS_SIGNATURE_MAX];

		return move(s->fd, rest, (size_t)size, false, until) ? 0 : -1;
	}
	return move(s->fd, to, (size_t)size, false, until) ? (long)size : -1;
}

long sign_client_sign(void *arg, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n,
		      unsigned char *to, size_t room)
{
	struct sign_client *s = arg;
	unsigned char ask[HEADER + ASK_SIZE + TLS_HASH_MAX], *p = ask;
	uint64_t from = now_us();
	long made;

	s->asked++;
	if (s->fd == -1 || n > TLS_HASH_MAX) {
		s->failed++;
		return -1;
	}
	put(&p, ASK_SIZE + n, 4);
	put(&p, s->ask, 4);
	put(&p, ++s->stream, 8);
	put(&p, key, 4);
	put(&p, digest, 4);
	put(&p, padding, 1);
	put(&p, n, 4);
	memcpy(p, hash, n);
	made = exchange(s, ask, HEADER + ASK_SIZE + n, to, room);
	s->waited_us += now_us() - from;
	if (made == -1)
		sign_client_set_fd(s, -1); /* a late answer would be taken for that of the next request */
	if (made <= 0)
		s->failed++;
	return made > 0 ? made : -1;
}
