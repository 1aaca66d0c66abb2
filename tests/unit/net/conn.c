/* conn.c - connections: the TLS boundary and the endings first, then order, flights, backpressure. */
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
		conn_close(&e->conn);
	}
	if (e->start_tls_in == w) {
		e->start_tls_in = NOWHERE;
		e->started = conn_start_tls(&e->conn, e->context, e->server, "mx.test");
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

/* ---- the TLS boundary ---- */

static void octets_pending_in_clear_forbid_tls(void **state)
{
	struct end e;
	int fd;

	(void)state;
	init(&e, pair(SOCK_STREAM, &fd));
	e.take_all = 10; /* "STARTTLS\r\n" */
	e.start_tls_in = IN_DONE;
	e.context = null_ctx;
	e.server = true;
	put(fd, VIEW("STARTTLS\r\nMAIL FROM:<a@b>\r\n"));
	turns(3);
	assert_int_equal(e.started, -1);
	GOT(&e, 1, "STARTTLS\r\n");
	assert_int_equal(e.tls_up + e.tls_failed, 0);
	fini(&e);
	close(fd);
}

static void what_is_in_the_kernel_is_read_once_more(void **state)
{
	struct end e;
	int fd;

	(void)state;
	init(&e, pair(SOCK_SEQPACKET, &fd)); /* one packet is one read: the second is still in the kernel */
	put(fd, VIEW("STARTTLS\r\n"));
	put(fd, VIEW("RSET\r\n"));
	e.read_once = true;
	loop_turn(loop, false);
	assert_int_equal(e.once, 6);
	GOT(&e, 1, "STARTTLS\r\nRSET\r\n");
	put(fd, VIEW("x"));
	e.take_all = 16; /* what input leaves is pending too */
	assert_int_equal(conn_read_once(&e.conn), 1);
	assert_int_equal(conn_start_tls(&e.conn, null_ctx, true, NULL), -1);
	assert_int_equal(conn_read_once(&e.conn), 1);
	e.take_all = 0;
	assert_int_equal(conn_read_once(&e.conn), 1);
	assert_int_equal(conn_read_once(&e.conn), 0);
	assert_int_equal(conn_start_tls(&e.conn, null_ctx, true, NULL), 0);
	assert_int_equal(conn_start_tls(&e.conn, null_ctx, true, NULL), -1); /* once */
	fini(&e);
	close(fd);
}

static void clear_octets_behind_starttls_are_never_input(void **state)
{
	struct end e;
	int fd;
	char to[100];

	(void)state;
	/* they arrive after the 220 was queued, or before it is written: TLS fails, input never sees them */
	for (int late = 0; late < 2; late++) {
		init(&e, pair(SOCK_STREAM, &fd));
		put(fd, VIEW("STARTTLS\r\n"));
		turns(2);
		say(&e, VIEW("220 go\r\n"));
		assert_int_equal(conn_start_tls(&e.conn, late ? null_ctx : tls_server, true, NULL), 0);
		if (!late)
			put(fd, VIEW("MAIL FROM:<a@b>\r\n"));
		turns(2);
		if (late) {
			put(fd, VIEW("MAIL FROM:<a@b>\r\n"));
			turns(2);
		}
		assert_int_equal(get(fd, to, sizeof to) >= 8, 1);
		assert_memory_equal(to, "220 go\r\n", 8);
		assert_int_equal(e.tls_failed, 1);
		assert_int_equal(buf_len(&e.got[2]), 0);
		GOT(&e, 1, "STARTTLS\r\n");
		put(fd, VIEW("MAIL FROM:<c@d>\r\n")); /* and nothing is read after it failed */
		turns(2);
		GOT(&e, 1, "STARTTLS\r\n");
		conn_close(&e.conn);
		turns(2);
		close(fd);
		turns(2);
		assert_int_equal(e.closed, 1);
		fini(&e);
	}
}

static void clear_octets_inside_tls_fail(void **state)
{
	struct end e;
	int fd;

	(void)state;
	init(&e, pair(SOCK_STREAM, &fd));
	assert_int_equal(conn_start_tls(&e.conn, null_ctx, true, NULL), 0);
	put(fd, VIEW("\xF1\0\0\xF2\0\0"));
	turns(3);
	assert_int_equal(e.tls_up, 1);
	put(fd, VIEW("\xF3\0\3abcMAIL FROM:<>\r\n"));
	turns(2);
	GOT(&e, 2, "abc");
	assert_int_equal(e.failed, 1);
	put(fd, VIEW("\xF3\0\3def"));
	turns(2);
	GOT(&e, 2, "abc");
	fini(&e);
	close(fd);
}

static void the_null_handshake_works_at_every_split(void **state)
{
	static const char text[] = "EHLO a\r\n\xF1\0\7mx.test\xF2\0\0\xF3\0\6NOOP\r\n\xF3\0\0\xF3\0\6QUIT\r\n\xF4\0\0QUIT\r\n";
	const size_t n = sizeof text - 1, clear = 8;
	size_t i;
	char to[200];

	(void)state;
	for (i = clear; i < n; i++) {
		struct end e;
		int fd;

		init(&e, pair(SOCK_STREAM, &fd));
		put(fd, view_of(text, clear));
		turns(2);
		e.context = null_ctx;
		say(&e, VIEW("220 go\r\n"));
		assert_int_equal(conn_start_tls(&e.conn, null_ctx, true, NULL), 0);
		turns(1);
		if (i > clear)
			put(fd, view_of(text + clear, i - clear));
		turns(2);
		put(fd, view_of(text + i, n - i));
		turns(3);
		GOT(&e, 1, "EHLO a\r\n");
		GOT(&e, 2, "NOOP\r\nQUIT\r\n");
		assert_int_equal(e.tls_up, 1);
		assert_int_equal(e.peer_closed, 1); /* by close_notify; the QUIT in clear behind it is not read */
		assert_int_equal(e.failed, 0);
		say(&e, VIEW("221 bye\r\n"));
		turns(2);
		assert_int_equal(get(fd, to, sizeof to), 8 + 3 + 3 + 9);
		fini(&e);
		close(fd);
	}
}

static void handshakes_fail_at_each_step(void **state)
{
	static const enum tls_null_fault faults[] = { TLS_NULL_FAIL_START, TLS_NULL_FAIL_HELLO, TLS_NULL_FAIL_FINISH };
	size_t i;
	struct end s, c;
	int fd;
	struct tls_context *bad;

	(void)state;
	for (i = 0; i < 2 * sizeof faults / sizeof *faults; i++) {
		bad = tls_null_new(faults[i / 2]);
		init(&s, pair(SOCK_STREAM, &fd));
		init(&c, fd);
		assert_int_equal(conn_start_tls(&s.conn, i & 1 ? bad : null_ctx, true, NULL), 0);
		assert_int_equal(conn_start_tls(&c.conn, i & 1 ? null_ctx : bad, false, "mx.test"), 0);
		c.close_in = s.close_in = IN_TLS_FAILED;
		turns(10);
		assert_int_equal(c.tls_failed + c.failed, 1); /* at the finish the client is up before the server refuses */
		assert_int_equal(s.tls_failed, 1);
		assert_int_equal(i & 1 ? s.tls_failed : c.tls_failed, 1);
		assert_int_equal(buf_len(&s.got[1]) + buf_len(&s.got[2]) + buf_len(&c.got[1]) + buf_len(&c.got[2]), 0);
		fini(&s);
		fini(&c);
		tls_context_free(bad);
	}
	bad = tls_null_new(TLS_NULL_FAIL_DATA);
	init(&s, pair(SOCK_STREAM, &fd));
	init(&c, fd);
	conn_start_tls(&s.conn, bad, true, NULL);
	conn_start_tls(&c.conn, null_ctx, false, "mx.test");
	turns(10);
	assert_int_equal(s.tls_up, 1);
	say(&c, VIEW("EHLO"));
	turns(3);
	assert_int_equal(s.failed, 1);
	assert_int_equal(buf_len(&s.got[2]), 0);
	fini(&s);
	fini(&c);
	tls_context_free(bad);
	/* the peer goes away in the middle */
	init(&s, pair(SOCK_STREAM, &fd));
	conn_start_tls(&s.conn, tls_server, true, NULL);
	turns(2);
	close(fd);
	turns(3);
	assert_int_equal(s.tls_failed, 1);
	assert_int_equal(s.peer_closed, 0);
	fini(&s);
}

/* ---- endings ---- */

static void the_end_is_told_once_and_after_what_came_before(void **state)
{
	struct end e;
	int fd;

	(void)state;
	init(&e, pair(SOCK_STREAM, &fd));
	e.take_all = 3;
	put(fd, VIEW("abcdef"));
	close(fd);
	turns(5);
	assert_int_equal(e.peer_closed, 0);
	e.take_all = 0;
	conn_resume(&e.conn);
	turns(5);
	GOT(&e, 1, "abcdef");
	assert_int_equal(e.peer_closed, 1);
	fini(&e);
}

static void a_reset_is_an_end(void **state)
{
	struct linger hard = { 1, 0 };
	struct end e;
	int fd;

	(void)state;
	init(&e, tcp(&fd));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
	close(fd);
	turns(3);
	assert_int_equal(e.peer_closed, 1);
	assert_false(conn_is_open(&e.conn));
	say(&e, VIEW("220 hello\r\n")); /* harmless */
	turns(2);
	conn_close(&e.conn);
	turns(2);
	assert_int_equal(e.closed, 1);
	fini(&e);
}

static void last_words_are_read_though_writing_fails(void **state)
{
	struct end e;
	int fd;

	(void)state;
	init(&e, pair(SOCK_STREAM, &fd));
	put(fd, VIEW("421 full\r\n"));
	close(fd);
	say(&e, VIEW("EHLO a\r\n"));
	turns(4);
	GOT(&e, 1, "421 full\r\n");
	assert_int_equal(e.peer_closed, 1);
	fini(&e);
}

static void closing_writes_what_is_left_and_lingers(void **state)
{
	struct end e;
	int fd, i;
	char to[100];

	(void)state;
	init(&e, tcp(&fd));
	for (i = 0; i < 50; i++)
		put(fd, VIEW("MAIL FROM:<a@b> and more that nobody will read\r\n"));
	say(&e, VIEW("421 bye\r\n"));
	conn_close(&e.conn);
	turns(3);
	assert_int_equal(e.closed, 0); /* lingering: closing now would reset the connection and lose the reply */
	put(fd, VIEW("more\r\n"));
	turns(3);
	assert_int_equal(get(fd, to, sizeof to), 9);
	assert_true(ended(fd));
	assert_int_equal(e.inputs, 0);
	close(fd);
	turns(3);
	assert_int_equal(e.closed, 1);
	fini(&e);
}

static void lingering_and_slow_peers_are_bounded(void **state)
{
	struct end e;
	int fd, one = 4096;
	char *big = calloc(1, 1 << 20);
	size_t i;

	(void)state;
	init(&e, tcp(&fd)); /* by time */
	conn_close(&e.conn);
	turns(3);
	assert_int_equal(e.closed, 0);
	skew += CONN_LINGER_MS + 1;
	turns(2);
	assert_int_equal(e.closed, 1);
	fini(&e);
	close(fd);
	init(&e, tcp(&fd)); /* by octets */
	conn_close(&e.conn);
	turns(3);
	for (i = 0; i < 1000 && !e.closed; i++) {
		send(fd, big, 65536, MSG_NOSIGNAL | MSG_DONTWAIT);
		turns(1);
	}
	assert_int_equal(e.closed, 1);
	assert_true(e.conn.lingered <= CONN_LINGER_BYTES + LOOP_SCRATCH);
	fini(&e);
	close(fd);
	init(&e, tcp(&fd)); /* does not take the last reply */
	setsockopt(e.conn.fd, SOL_SOCKET, SO_SNDBUF, &one, sizeof one);
	for (i = 0; i < 8; i++)
		say(&e, view_of(big, 1 << 20));
	turns(3);
	conn_close(&e.conn);
	turns(3);
	assert_int_equal(e.closed, 0);
	skew += CONN_CLOSE_MS + 1;
	turns(2);
	assert_int_equal(e.closed, 1);
	fini(&e);
	close(fd);
	free(big);
}

static void close_notify_goes_with_the_last_reply(void **state)
{
	struct end e;
	int fd;
	char to[100];

	(void)state;
	init(&e, pair(SOCK_SEQPACKET, &fd));
	conn_start_tls(&e.conn, null_ctx, true, NULL);
	put(fd, VIEW("\xF1\0\0\xF2\0\0"));
	turns(3);
	assert_int_equal(get(fd, to, sizeof to), 3);
	say(&e, VIEW("221 bye\r\n"));
	conn_close(&e.conn);
	turns(3);
	assert_int_equal(get(fd, to, sizeof to), 3 + 9 + 3); /* one packet: one write */
	assert_memory_equal(to, "\xF3\0\x09" "221 bye\r\n\xF4\0\0", 15);
	assert_true(ended(fd));
	close(fd);
	turns(2);
	assert_int_equal(e.closed, 1);
	fini(&e);
}

/* The owner may let go in any callback; the sanitizer is the judge. */
static void it_may_be_freed_anywhere(void **state)
{
	enum where w;
	unsigned tls;

	(void)state;
	for (tls = 0; tls < 3; tls++) {
		for (w = IN_INPUT; w < WHERE_END; w++) {
			struct end s, c;
			int fd;

			init(&s, pair(SOCK_STREAM, &fd));
			init(&c, fd);
			s.free_in = w;
			s.echo = true;
			if (w == IN_CLOSED)
				s.close_in = IN_PEER_CLOSED;
			if (tls) {
				conn_start_tls(&s.conn, tls == 1 ? null_ctx : tls_server, true, NULL);
				conn_start_tls(&c.conn, tls == 1 ? null_ctx : tls_client, false, "mx.test");
				if (w == IN_TLS_FAILED)
					say(&c, VIEW("clear"));
			}
			turns(10);
			say(&c, VIEW("hello"));
			turns(4);
			if (w == IN_FAILED && tls && !c.freed) {
				assert_int_equal(send(c.conn.fd, "clear", 5, MSG_NOSIGNAL), 5);
				turns(3);
			}
			conn_close(&c.conn);
			turns(6);
			fini(&s);
			turns(3);
			fini(&c);
		}
	}
	for (w = IN_INPUT; w < WHERE_END; w++) { /* and closed anywhere */
		struct end s, c;
		int fd;

		init(&s, pair(SOCK_STREAM, &fd));
		init(&c, fd);
		s.close_in = w;
		s.echo = true;
		conn_start_tls(&s.conn, tls_server, true, NULL);
		conn_start_tls(&c.conn, tls_client, false, "mx.test");
		turns(10);
		say(&c, VIEW("hello"));
		turns(4);
		conn_close(&c.conn);
		turns(8);
		if (w != IN_TLS_FAILED && w != IN_FAILED && w != IN_CLOSED)
			assert_int_equal(s.closed, 1);
		fini(&s);
		fini(&c);
	}
}

/* ---- order and flow ---- */

static void replies_of_a_group_are_one_write(void **state)
{
	struct end e;
	int fd;
	char to[100];

	(void)state;
	init(&e, pair(SOCK_SEQPACKET, &fd));
	say(&e, VIEW("250 one\r\n"));
	say(&e, VIEW("250 two\r\n"));
	put(fd, VIEW("NOOP\r\n"));
	assert_int_equal(get(fd, to, sizeof to), 0); /* nothing before the end of the turn */
	turns(1);
	say(&e, VIEW("250 three\r\n"));
	turns(1);
	assert_int_equal(get(fd, to, sizeof to), 18);
	assert_int_equal(get(fd, to, sizeof to), 11);
	assert_int_equal(e.drained, 2);
	fini(&e);
	close(fd);
}

static void input_may_take_little_and_hold(void **state)
{
	struct end e;
	int fd;
	size_t take;

	(void)state;
	for (take = 1; take < 8; take++) {
		init(&e, pair(SOCK_STREAM, &fd));
		e.take_max = take;
		put(fd, VIEW("abcdefghijklmnopqrstuvwxyz"));
		turns(3);
		assert_int_equal(buf_len(&e.got[1]), take); /* fewer than shown: not again until told */
		put(fd, VIEW("0123456789"));
		turns(3);
		assert_int_equal(buf_len(&e.got[1]), take);
		assert_int_equal(e.inputs, 1);
		e.resume_in_done = true;
		conn_resume(&e.conn);
		turns(4);
		GOT(&e, 1, "abcdefghijklmnopqrstuvwxyz0123456789");
		fini(&e);
		close(fd);
	}
	init(&e, pair(SOCK_STREAM, &fd));
	conn_pause(&e.conn);
	put(fd, VIEW("x"));
	turns(3);
	assert_int_equal(e.inputs, 0);
	conn_resume(&e.conn);
	turns(2);
	assert_int_equal(e.inputs, 1);
	fini(&e);
	close(fd);
}

static void much_both_ways(struct tls_context *server, struct tls_context *client)
{
	enum { N = 3 << 20 };
	struct end s, c;
	int fd, small = 8192;
	char *text = malloc(N);
	size_t i;

	for (i = 0; i < N; i++)
		text[i] = (char)(i * 17 % 253);
	init(&s, pair(SOCK_STREAM, &fd));
	init(&c, fd);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
	if (server) {
		assert_int_equal(conn_start_tls(&s.conn, server, true, NULL), 0);
		assert_int_equal(conn_start_tls(&c.conn, client, false, "mx.test"), 0);
		turns(10);
		assert_int_equal(c.tls_up, 1); /* what is said before it would leave in clear */
	}
	s.take_max = 10007;
	s.resume_in_done = true;
	s.echo = true;
	say(&c, view_of(text, N));
	for (i = 0; i < 100000 && buf_len(&c.got[server ? 2 : 1]) < N; i++) {
		turns(1);
		assert_true(buf_len(&s.conn.out) <= 4 * CONN_OUT_HIGH);
	}
	assert_int_equal(buf_len(&c.got[server ? 2 : 1]), N);
	assert_memory_equal(buf_view(&c.got[server ? 2 : 1]).p, text, N);
	turns(2);
	assert_null(s.conn.in.mem); /* idle: nothing is held */
	assert_null(s.conn.out.mem);
	assert_null(s.conn.raw.mem);
	conn_close(&c.conn);
	turns(3);
	assert_int_equal(s.peer_closed, 1);
	conn_close(&s.conn);
	turns(3);
	assert_int_equal(s.closed, 1);
	assert_int_equal(c.closed, 1);
	fini(&s);
	fini(&c);
	free(text);
}

static void much_passes_both_ways(void **state)
{
	(void)state;
	much_both_ways(NULL, NULL);
	much_both_ways(null_ctx, null_ctx);
	much_both_ways(tls_server, tls_client);
}

/* Against OpenSSL used in the ordinary way over the socket. */
static void a_real_peer_talks_and_says_close_notify(void **state)
{
	struct end e;
	int fd, r = 0;
	unsigned i;
	char to[100] = "";
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl;

	(void)state;
	init(&e, pair(SOCK_STREAM, &fd));
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, fd);
	say(&e, VIEW("220 go\r\n"));
	assert_int_equal(conn_start_tls(&e.conn, tls_server, true, NULL), 0);
	turns(2);
	assert_int_equal(get(fd, to, sizeof to), 8);
	for (i = 0; i < 20 && r != 1; i++) {
		r = SSL_connect(ssl);
		turns(1);
	}
	assert_int_equal(r, 1);
	turns(1);
	assert_int_equal(e.tls_up, 1);
	assert_string_equal(e.protocol, "TLSv1.3");
	assert_int_equal(SSL_write(ssl, "EHLO a\r\n", 8), 8);
	turns(2);
	GOT(&e, 2, "EHLO a\r\n");
	say(&e, VIEW("250 b\r\n"));
	turns(1);
	assert_int_equal(SSL_read(ssl, to, sizeof to), 7);
	assert_int_equal(SSL_write(ssl, "QUIT\r\n", 6), 6);
	SSL_shutdown(ssl);
	put(fd, VIEW("MAIL FROM:<a@b>\r\n")); /* in clear behind close_notify */
	turns(3);
	GOT(&e, 2, "EHLO a\r\nQUIT\r\n");
	assert_int_equal(e.peer_closed, 1);
	assert_int_equal(e.failed, 0);
	assert_int_equal(buf_len(&e.got[1]), 0);
	say(&e, VIEW("221 bye\r\n"));
	conn_close(&e.conn);
	turns(2);
	assert_int_equal(SSL_read(ssl, to, sizeof to), 9);
	assert_int_equal(SSL_read(ssl, to, sizeof to), 0);
	assert_int_equal(SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	ERR_clear_error();
	close(fd);
	turns(2);
	assert_int_equal(e.closed, 1);
	fini(&e);
}

/* The client's side of a STARTTLS dialog, the ciphertext relayed in pieces of every small size. */
static void tls_survives_any_pieces(void **state)
{
	size_t piece;

	(void)state;
	for (piece = 1; piece < 4000; piece = piece * 3 + 1) {
		struct end s, c;
		int sfd, cfd, fds[2][2], way;
		unsigned i;
		bool asked = false;
		char to[4000];

		sfd = pair(SOCK_STREAM, &cfd);
		init(&s, sfd);
		fds[0][1] = cfd;
		sfd = pair(SOCK_STREAM, &cfd);
		init(&c, sfd);
		fds[0][0] = cfd;
		fds[1][0] = fds[0][1];
		fds[1][1] = fds[0][0];
		conn_start_tls(&s.conn, tls_server, true, NULL);
		conn_start_tls(&c.conn, tls_client, false, "mx.test");
		c.start_tls_in = NOWHERE;
		s.echo = true;
		for (i = 0; i < 20000 && buf_len(&c.got[2]) < 14; i++) {
			for (way = 0; way < 2; way++) {
				size_t n = get(fds[way][0], to, piece);

				if (n)
					put(fds[way][1], view_of(to, n));
			}
			turns(1);
			if (c.tls_up && !asked) {
				asked = true;
				say(&c, VIEW("hello over TLS"));
			}
		}
		assert_int_equal(c.tls_up, 1);
		assert_int_equal(s.tls_up, 1);
		GOT(&c, 2, "hello over TLS");
		assert_int_equal(buf_len(&c.got[1]) + buf_len(&s.got[1]), 0);
		fini(&s);
		fini(&c);
		close(fds[0][0]);
		close(fds[0][1]);
	}
}

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
	o = (struct tls_server_options){ .chain = view_cstr(leaf.cert_pem), .signer = { pki_sign, leaf.key }, .session_context = VIEW("mx") };
	tls_server = tls_server_new(&o, &e);
	tls_client = tls_client_new(TLS_VERIFY_CHAIN_AND_NAME, view_cstr(ca.cert_pem), &e);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(octets_pending_in_clear_forbid_tls),
		cmocka_unit_test(what_is_in_the_kernel_is_read_once_more),
		cmocka_unit_test(clear_octets_behind_starttls_are_never_input),
		cmocka_unit_test(clear_octets_inside_tls_fail),
		cmocka_unit_test(the_null_handshake_works_at_every_split),
		cmocka_unit_test(handshakes_fail_at_each_step),
		cmocka_unit_test(the_end_is_told_once_and_after_what_came_before),
		cmocka_unit_test(a_reset_is_an_end),
		cmocka_unit_test(last_words_are_read_though_writing_fails),
		cmocka_unit_test(closing_writes_what_is_left_and_lingers),
		cmocka_unit_test(lingering_and_slow_peers_are_bounded),
		cmocka_unit_test(close_notify_goes_with_the_last_reply),
		cmocka_unit_test(it_may_be_freed_anywhere),
		cmocka_unit_test(replies_of_a_group_are_one_write),
		cmocka_unit_test(input_may_take_little_and_hold),
		cmocka_unit_test(much_passes_both_ways),
		cmocka_unit_test(a_real_peer_talks_and_says_close_notify),
		cmocka_unit_test(tls_survives_any_pieces),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
