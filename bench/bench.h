/* bench.h - what the loader and the sink share: time, samples, sockets, TLS contexts.
 *
 * The two measure servers and must themselves cost little, so they sit on epoll and libpsmtp directly and not on the
 * daemon's loop: a slower loop in the product must not slow the instrument that would show it.
 * Failure: what is asked for on the command line and cannot be had ends the program with exit status 2 and a sentence.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H
#include <jansson.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <psmtp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ID_HEADER "X-Bench-Id: " /* RUN-NUMBER: the sink counts by it what came once, twice, never */
#define READ_SIZE 16384          /* as much as one TLS record */
#define EVENTS 256               /* of one epoll_wait */

void die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

int64_t now_us(void); /* CLOCK_MONOTONIC: comparable between processes of one machine */
double cpu_seconds(bool system);

/* Durations in microseconds, kept whole: percentiles are exact. */
struct samples {
	uint32_t *v;
	size_t n, room;
};
void samples_add(struct samples *, int64_t us);
void samples_move(struct samples *to, struct samples *from);
json_t *samples_json(struct samples *); /* ms: n, mean, p50, p90, p99, p999, max; null when empty.  Sorts. */

void limits_raise(void); /* as many descriptors as the hard limit gives */
struct sockaddr_in address_of(const char *host, long port);
bool would_block(int err);
void no_delay(int fd);

SSL_CTX *client_context(const char *min, const char *max, const char *groups, bool resume);
SSL_CTX *server_context(const char *chain, const char *key, long tickets);

extern const struct psmtp_allocator libc_memory;
struct psmtp_view text_view(const char *text);
long number(const char *text, long min, long max, const char *what); /* dies when it is none, or out of bounds */

/* Bytes of one connection, in clear or in TLS. */
struct pipe_end {
	int fd;
	SSL *ssl; /* NULL in clear; set when the handshake begins */
	uint32_t watched;
};
#define PIPE_AGAIN (-1)
#define PIPE_END (-2)
long pipe_read(struct pipe_end *, void *to, size_t n);          /* octets, PIPE_AGAIN or PIPE_END */
long pipe_write(struct pipe_end *, const void *from, size_t n); /* likewise */
void pipe_watch(struct pipe_end *, int epoll, uint32_t events, void *owner);
enum shake { SHAKE_DONE = 1, SHAKE_READ, SHAKE_WRITE, SHAKE_FAILED };
enum shake pipe_shake(struct pipe_end *);
void pipe_close(struct pipe_end *);

#endif
