/* conn_tls.c - connections at the TLS boundary: what must not cross it first. */
#include "world.h"

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
		assert_int_equal(conn_start_tls(&c.conn, i & 1 ? null_ctx : bad, false, &to_mx), 0);
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
	conn_start_tls(&c.conn, null_ctx, false, &to_mx);
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
		conn_start_tls(&c.conn, tls_client, false, &to_mx);
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

/* ---- shortage ---- */

/* Asks for answers (key updates) without reading them: bounded, then cut. */
static void answers_that_nobody_reads_are_bounded(void **state)
{
	struct end e;
	int fd, r = 0, big = 1 << 22;
	unsigned i;
	char to[100];
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl;

	(void)state;
	init(&e, pair(SOCK_STREAM, &fd));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &big, sizeof big);
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, fd);
	assert_int_equal(conn_start_tls(&e.conn, tls_server, true, NULL), 0);
	for (i = 0; i < 20 && r != 1; i++) {
		turns(1);
		r = SSL_connect(ssl);
	}
	assert_int_equal(r, 1);
	for (i = 0; i < 60000 && !e.failed; i++) {
		SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED);
		if (SSL_do_handshake(ssl) != 1 && SSL_get_error(ssl, -1) != SSL_ERROR_WANT_WRITE)
			break;
		if (i % 64 == 0)
			turns(1);
		assert_true(buf_len(&e.conn.out) <= 4 * CONN_OUT_HIGH);
	}
	turns(5);
	assert_int_equal(e.failed, 1);
	assert_int_equal(get(fd, to, sizeof to) > 0, 1);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	ERR_clear_error();
	fini(&e);
	close(fd);
}

struct scarce { size_t left; };

static void *scarce_resize(void *arg, void *old, size_t size)
{
	struct scarce *s = arg;

	if (size && s->left-- == 0) {
		s->left = 0;
		return NULL; /* and all that follow */
	}
	return alloc_libc.resize(alloc_libc.arg, old, size);
}

/* The n-th request for memory fails, and all behind it: the owner is told once, or nothing needed it. */
static void every_shortage_of_memory_is_told(void **state)
{
	size_t n;
	unsigned tls, fine = 0;

	(void)state;
	for (tls = 0; tls < 3; tls++) {
		for (n = 0; n < 30; n++) {
			struct scarce scarce = { n };
			const struct alloc alloc = { scarce_resize, &scarce };
			struct end s, c;
			int fd;

			init(&s, pair(SOCK_STREAM, &fd));
			init(&c, fd);
			buf_init(&s.conn.in, &alloc, CONN_IN_MAX);
			buf_init(&s.conn.raw, &alloc, CONN_IN_MAX);
			buf_init(&s.conn.out, &alloc, CONN_OUT_HIGH * 4);
			if (tls) {
				conn_start_tls(&s.conn, tls == 1 ? null_ctx : tls_server, true, NULL);
				conn_start_tls(&c.conn, tls == 1 ? null_ctx : tls_client, false, &to_mx);
				turns(8);
			}
			s.take_max = 3;
			s.resume_in_done = s.echo = true;
			if (!tls || c.tls_up)
				say(&c, VIEW("one two three four five six seven eight nine ten"));
			turns(8);
			if (buf_len(&c.got[tls ? 2 : 1]) == 48)
				fine++;
			else
				assert_int_equal(s.failed + s.tls_failed, 1);
			fini(&s);
			fini(&c);
		}
	}
	assert_in_range(fine, 3, 89);
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
		cmocka_unit_test(a_real_peer_talks_and_says_close_notify),
		cmocka_unit_test(tls_survives_any_pieces),
		cmocka_unit_test(answers_that_nobody_reads_are_bounded),
		cmocka_unit_test(every_shortage_of_memory_is_told),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
