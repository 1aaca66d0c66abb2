/* bench.c - see bench.h. */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES_FIRST 4096

void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(2);
}

int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

double cpu_seconds(bool system)
{
	struct rusage use;
	struct timeval t;

	getrusage(RUSAGE_SELF, &use);
	t = system ? use.ru_stime : use.ru_utime;
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

/* ---- samples ---- */

static void samples_room(struct samples *s, size_t n)
{
	size_t room = s->room ? s->room : SAMPLES_FIRST;

	if (n <= s->room)
		return;
	while (room < n)
		room *= 2;
	if (!(s->v = realloc(s->v, room * sizeof *s->v)))
		die("out of memory");
	s->room = room;
}

void samples_add(struct samples *s, int64_t us)
{
	samples_room(s, s->n + 1);
	s->v[s->n++] = us < 0 ? 0 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

void samples_move(struct samples *to, struct samples *from)
{
	if (from->n) {
		samples_room(to, to->n + from->n);
		memcpy(to->v + to->n, from->v, from->n * sizeof *from->v);
		to->n += from->n;
	}
	free(from->v);
	*from = (struct samples){ 0 };
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double quantile_ms(const struct samples *s, double q)
{
	return s->v[(size_t)((double)(s->n - 1) * q)] / 1000.0;
}

json_t *samples_json(struct samples *s)
{
	double sum = 0;

	if (!s->n)
		return json_null();
	qsort(s->v, s->n, sizeof *s->v, by_value);
	for (size_t i = 0; i < s->n; i++)
		sum += s->v[i];
	return json_pack("{sI sf sf sf sf sf sf}", "n", (json_int_t)s->n, "mean", sum / (double)s->n / 1000, "p50",
		quantile_ms(s, .5), "p90", quantile_ms(s, .9), "p99", quantile_ms(s, .99), "p999", quantile_ms(s, .999), "max",
		quantile_ms(s, 1));
}

/* ---- what the command line asks for ---- */

struct psmtp_view text_view(const char *text)
{
	return (struct psmtp_view){ text, strlen(text) };
}

long number(const char *text, long min, long max, const char *what)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno || end == text || *end || n < min || n > max)
		die("%s: a number from %ld to %ld is wanted, not \"%s\"", what, min, max, text);
	return n;
}

void limits_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

struct sockaddr_in address_of(const char *host, long port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	if (inet_pton(AF_INET, host, &a.sin_addr) != 1)
		die("%s is no IPv4 address", host);
	return a;
}

static void *resize(void *arg, void *old, size_t size)
{
	(void)arg;
	if (size)
		return realloc(old, size);
	free(old);
	return NULL;
}

const struct psmtp_allocator libc_memory = { resize, NULL };

/* ---- TLS ---- */

#define TLS_MODES (SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS)

static int version_of(const char *text)
{
	if (strcmp(text, "1.2") == 0)
		return TLS1_2_VERSION;
	if (strcmp(text, "1.3") == 0)
		return TLS1_3_VERSION;
	die("TLS %s: 1.2 or 1.3 is wanted", text);
}

SSL_CTX *client_context(const char *min, const char *max, const char *groups, bool resume)
{
	SSL_CTX *c = SSL_CTX_new(TLS_client_method());

	if (!c)
		die("no TLS context");
	SSL_CTX_set_verify(c, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_mode(c, TLS_MODES);
	SSL_CTX_set_min_proto_version(c, min ? version_of(min) : TLS1_2_VERSION);
	if (max)
		SSL_CTX_set_max_proto_version(c, version_of(max));
	if (groups && !SSL_CTX_set1_groups_list(c, groups))
		die("groups %s: OpenSSL does not know them", groups);
	if (resume) {
		SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	} else {
		SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
		SSL_CTX_set_options(c, SSL_OP_NO_TICKET);
	}
	return c;
}

SSL_CTX *server_context(const char *chain, const char *key, long tickets)
{
	SSL_CTX *c = SSL_CTX_new(TLS_server_method());

	if (!c || SSL_CTX_use_certificate_chain_file(c, chain) != 1 || SSL_CTX_use_PrivateKey_file(c, key, SSL_FILETYPE_PEM) != 1)
		die("cannot use %s and %s", chain, key);
	SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION);
	SSL_CTX_set_mode(c, TLS_MODES);
	SSL_CTX_set_num_tickets(c, (size_t)tickets);
	if (!tickets) {
		SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
		SSL_CTX_set_options(c, SSL_OP_NO_TICKET);
	}
	return c;
}

/* ---- bytes ---- */

bool would_block(int err)
{
	return err == EAGAIN || err == EWOULDBLOCK || err == EINTR;
}

void no_delay(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static long tls_result(struct pipe_end *p, int n)
{
	int e;

	if (n > 0)
		return n;
	e = SSL_get_error(p->ssl, n);
	return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? PIPE_AGAIN : PIPE_END;
}

long pipe_read(struct pipe_end *p, void *to, size_t n)
{
	ssize_t got;

	if (p->ssl) {
		ERR_clear_error();
		return tls_result(p, SSL_read(p->ssl, to, (int)n));
	}
	got = recv(p->fd, to, n, 0);
	if (got > 0)
		return got;
	return got == -1 && would_block(errno) ? PIPE_AGAIN : PIPE_END;
}

long pipe_write(struct pipe_end *p, const void *from, size_t n)
{
	ssize_t put;

	if (p->ssl) {
		ERR_clear_error();
		return tls_result(p, SSL_write(p->ssl, from, (int)n));
	}
	put = send(p->fd, from, n, MSG_NOSIGNAL);
	if (put >= 0)
		return put;
	return would_block(errno) ? PIPE_AGAIN : PIPE_END;
}

enum shake pipe_shake(struct pipe_end *p)
{
	int r;

	ERR_clear_error();
	r = SSL_do_handshake(p->ssl);
	if (r == 1)
		return SHAKE_DONE;
	switch (SSL_get_error(p->ssl, r)) {
	case SSL_ERROR_WANT_READ:
		return SHAKE_READ;
	case SSL_ERROR_WANT_WRITE:
		return SHAKE_WRITE;
	default:
		return SHAKE_FAILED;
	}
}

void pipe_watch(struct pipe_end *p, int epoll, uint32_t events, void *owner)
{
	struct epoll_event e = { .events = events, .data.ptr = owner };

	if (p->watched == events)
		return;
	if (epoll_ctl(epoll, p->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, p->fd, &e) == -1)
		die("epoll: %s", strerror(errno));
	p->watched = events;
}

void pipe_close(struct pipe_end *p)
{
	if (p->ssl) { /* the last reply was read: a close_notify of ours would only cost the server a read */
		SSL_set_quiet_shutdown(p->ssl, 1);
		SSL_shutdown(p->ssl);
		SSL_free(p->ssl);
	}
	close(p->fd);
	*p = (struct pipe_end){ .fd = -1 };
}
