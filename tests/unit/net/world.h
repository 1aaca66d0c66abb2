/* world.h - the fixture of the tests of conn: ends that record what they are told, a loop whose clock can be moved, contexts. */
#ifndef TEST_NET_WORLD_H
#define TEST_NET_WORLD_H
#include "../tls/pki.h"
#include "net/conn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Each file of tests uses some of these. */
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-variable"

static const struct tls_peer_check to_mx = { .how = TLS_CHECK_CHAIN_AND_NAME, .name = "mx.test" };

enum where { NOWHERE = 1, IN_INPUT, IN_DONE, IN_OUTPUT, IN_SENT, IN_DRAINED, IN_PEER_CLOSED, IN_TLS_UP, IN_TLS_FAILED, IN_FAILED, IN_CLOSED, WHERE_END };

/* One side of a connection, as a session would hold it. */
struct end {
	struct conn conn;
	bool freed;
	struct buf got[3];    /* by epoch */
	struct buf send;
	size_t take_max;      /* octets taken by one input; 0: all */
	size_t take_all;      /* octets taken in all; 0: no limit */
	bool resume_in_done, echo, read_once;
	size_t once;
	unsigned inputs, dones, drained, peer_closed, tls_up, tls_failed, failed, closed;
	char why[300], protocol[16];
	enum where free_in, close_in;
	struct view bye;      /* said where it closes */
	enum where start_tls_in;
	struct tls_context *context;
	bool server;
	int started;
};

static void at(struct end *e, enum where w)
{
	if (e->free_in == w) {
		conn_free(&e->conn);
		memset(&e->conn, 0xA5, sizeof e->conn); /* whoever touches it now is found out */
		e->freed = true;
		return;
	}
	if (e->close_in == w) {
		e->close_in = NOWHERE;
		buf_add(&e->send, e->bye);
		conn_close(&e->conn);
	}
	if (e->start_tls_in == w) {
		e->start_tls_in = NOWHERE;
		e->started = conn_start_tls(&e->conn, e->context, e->server, e->server ? NULL : &to_mx);
	}
}

static size_t on_input(void *arg, unsigned epoch, const void *bytes, size_t n)
{
	struct end *e = arg;

	assert_in_range(epoch, 1, 2);
	if (epoch == 1)
		assert_int_equal(e->tls_up, 0);
	if (epoch == 2)
		assert_int_equal(e->tls_up, 1);
	assert_true(n > 0);
	e->inputs++;
	if (e->take_max && n > e->take_max)
		n = e->take_max;
	if (e->take_all && buf_len(&e->got[epoch]) + n > e->take_all)
		n = e->take_all - buf_len(&e->got[epoch]);
	buf_add(&e->got[epoch], view_of(bytes, n));
	if (e->echo)
		buf_add(&e->send, view_of(bytes, n));
	at(e, IN_INPUT);
	return n;
}

static void on_done(void *arg)
{
	struct end *e = arg;

	e->dones++;
	if (e->read_once) {
		e->read_once = false;
		e->once = conn_read_once(&e->conn);
	}
	at(e, IN_DONE);
	if (e->resume_in_done && !e->freed)
		conn_resume(&e->conn);
}

static struct view on_output(void *arg)
{
	struct end *e = arg;
	struct view v = buf_view(&e->send);

	at(e, IN_OUTPUT);
	return v;
}

static void on_sent(void *arg, size_t n)
{
	struct end *e = arg;

	buf_take(&e->send, n);
	at(e, IN_SENT);
}

static void on_drained(void *arg)
{
	struct end *e = arg;

	e->drained++;
	at(e, IN_DRAINED);
}

static void on_peer_closed(void *arg)
{
	struct end *e = arg;

	e->peer_closed++;
	at(e, IN_PEER_CLOSED);
}

static void on_tls_up(void *arg, const struct tls_facts *f)
{
	struct end *e = arg;

	e->tls_up++;
	snprintf(e->protocol, sizeof e->protocol, "%.*s", VIEW_ARGS(f->protocol));
	at(e, IN_TLS_UP);
}

static void on_tls_failed(void *arg, const char *why)
{
	struct end *e = arg;

	e->tls_failed++;
	snprintf(e->why, sizeof e->why, "%s", why);
	at(e, IN_TLS_FAILED);
}

static void on_failed(void *arg, const struct error *err)
{
	struct end *e = arg;

	e->failed++;
	snprintf(e->why, sizeof e->why, "%.290s", err->text);
	at(e, IN_FAILED);
}

static void on_closed(void *arg)
{
	struct end *e = arg;

	e->closed++;
	at(e, IN_CLOSED);
}

static const struct conn_ops ops = {
	.input = on_input, .input_done = on_done, .output = on_output, .sent = on_sent, .drained = on_drained,
	.peer_closed = on_peer_closed, .tls_up = on_tls_up, .tls_failed = on_tls_failed, .failed = on_failed, .closed = on_closed,
};

/* ---- worlds ---- */

static int64_t skew; /* added to the real clock: tests do not wait for timeouts */

static int64_t skewed(void *arg)
{
	(void)arg;
	return env_real.mono_ms(NULL) + skew;
}

static struct env env;
static struct loop *loop;
static struct pki ca, leaf;
static struct tls_context *tls_server, *tls_client, *null_ctx;

static void init(struct end *e, int fd)
{
	struct error err;

	memset(e, 0, sizeof *e);
	e->free_in = e->close_in = e->start_tls_in = NOWHERE;
	e->started = -2;
	buf_init(&e->got[1], &alloc_libc, 1 << 24);
	buf_init(&e->got[2], &alloc_libc, 1 << 24);
	buf_init(&e->send, &alloc_libc, 1 << 24);
	conn_init(&e->conn, loop, &alloc_libc, &ops, e);
	assert_int_equal(conn_open(&e->conn, fd, &err), 0);
}

static void fini(struct end *e)
{
	if (!e->freed)
		conn_free(&e->conn);
	buf_free(&e->got[1]);
	buf_free(&e->got[2]);
	buf_free(&e->send);
}

static void say(struct end *e, struct view v)
{
	assert_true(buf_add(&e->send, v));
	conn_pump(&e->conn);
}

static int pair(int type, int *other)
{
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, fd), 0);
	*other = fd[1];
	return fd[0];
}

static int tcp(int *other)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(l, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(l, 1), 0);
	getsockname(l, (struct sockaddr *)&a, &n);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, n), 0);
	*other = fd;
	fd = accept(l, NULL, NULL);
	close(l);
	fcntl(*other, F_SETFL, O_NONBLOCK);
	return fd;
}

static void turns(unsigned n)
{
	while (n--)
		loop_turn(loop, false);
}

static void put(int fd, struct view v)
{
	assert_int_equal(send(fd, v.p, v.n, MSG_NOSIGNAL), (ssize_t)v.n);
}

static size_t get(int fd, char *to, size_t room)
{
	ssize_t n = recv(fd, to, room, MSG_DONTWAIT);

	return n > 0 ? (size_t)n : 0;
}

static bool ended(int fd)
{
	char c;

	return recv(fd, &c, 1, MSG_DONTWAIT) == 0;
}

#define GOT(e, epoch, text) assert_true(view_eq(buf_view(&(e)->got[epoch]), VIEW(text)))

static int set_up(void **state)
{
	struct error e;
	struct tls_server_options o;

	(void)state;
	env = env_real;
	env.mono_ms = skewed;
	loop = loop_new(&env);
	ca = pki_make("P-256", "Test CA", NULL, NULL, true, 100);
	leaf = pki_make("P-256", "mx.test", "DNS:mx.test", &ca, false, 50);
	o = (struct tls_server_options){ .certificates = &(const struct tls_server_certificate){ .chain = view_cstr(leaf.cert_pem) }, .certificates_n = 1, .signer = { pki_sign, leaf.key }, .session_context = VIEW("mx") };
	tls_server = tls_server_new(&o, &e);
	tls_client = tls_client_new(view_cstr(ca.cert_pem), &e);
	null_ctx = tls_null_new(TLS_NULL_FINE);
	return tls_server && tls_client && null_ctx ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	tls_context_free(tls_server);
	tls_context_free(tls_client);
	tls_context_free(null_ctx);
	pki_free(&ca);
	pki_free(&leaf);
	loop_free(loop);
	return 0;
}

#endif
