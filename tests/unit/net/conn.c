/* conn.c - connections: their ends first, then order, flights, backpressure. */
#include "world.h"

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

/* What `drained` says before it closes is still written. */
static void last_words_of_drained(void **state)
{
	struct end e;
	char got[20] = "";
	int fd;

	(void)state;
	init(&e, pair(SOCK_STREAM, &fd));
	e.close_in = IN_DRAINED;
	e.bye = VIEW("221 bye\r\n");
	say(&e, VIEW("250 ok\r\n"));
	turns(6);
	assert_int_equal(recv(fd, got, sizeof got, MSG_DONTWAIT), 17);
	assert_string_equal(got, "250 ok\r\n221 bye\r\n");
	close(fd);
	turns(4);
	assert_int_equal(e.closed, 1);
	fini(&e);
}

/* Nothing is read while octets wait, although the user asks to be shown them again at once. */
static void resumed_in_vain(void **state)
{
	static char many[150000];
	struct end e;
	int fd;

	(void)state;
	init(&e, pair(SOCK_STREAM, &fd));
	memset(many, 'x', sizeof many);
	e.take_all = 10;
	e.resume_in_done = true;
	put(fd, view_of(many, sizeof many));
	turns(10);
	assert_int_equal(buf_len(&e.got[1]), 10);
	e.take_all = 0;
	turns(10);
	assert_int_equal(buf_len(&e.got[1]), sizeof many);
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

/* The peer is gone with a reset, and the last words find that out: there is nothing to wait for. */
static void a_close_that_meets_a_reset_is_through(void **state)
{
	struct linger cut = { .l_onoff = 1, .l_linger = 0 };

	(void)state;
	for (unsigned tls = 0; tls < 2; tls++) {
		struct end e, c;
		int fd;

		init(&e, tcp(&fd));
		init(&c, fd);
		if (tls) {
			conn_start_tls(&e.conn, tls_server, true, NULL);
			conn_start_tls(&c.conn, tls_client, false, &to_mx);
			turns(12);
			assert_int_equal(e.tls_up, 1);
		}
		conn_pause(&e.conn); /* so that it is the write that learns of it */
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &cut, sizeof cut);
		fini(&c);
		turns(2);
		assert_int_equal(e.closed, 0);
		say(&e, VIEW("221 bye\r\n"));
		conn_close(&e.conn);
		turns(4);
		assert_int_equal(e.closed, 1);
		fini(&e);
	}
}

/* The peer keeps its end open and has even said something: the last words arrive, the descriptor is free at once. */
static void who_is_turned_away_holds_nothing(void **state)
{
	struct end e;
	int fd;
	char to[100];

	(void)state;
	for (int talks = 0; talks < 2; talks++) {
		init(&e, tcp(&fd));
		conn_pause(&e.conn);
		if (talks)
			put(fd, VIEW("EHLO me\r\n"));
		say(&e, VIEW("421 not you\r\n"));
		conn_close_now(&e.conn);
		turns(4);
		assert_int_equal(e.closed, 1);
		assert_int_equal(e.conn.fd, -1);
		assert_int_equal(get(fd, to, sizeof to), 13);
		assert_true(ended(fd));
		fini(&e);
		close(fd);
	}
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
				conn_start_tls(&c.conn, tls == 1 ? null_ctx : tls_client, false, &to_mx);
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
		conn_start_tls(&c.conn, tls_client, false, &to_mx);
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
		assert_int_equal(conn_start_tls(&c.conn, client, false, &to_mx), 0);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_end_is_told_once_and_after_what_came_before),
		cmocka_unit_test(resumed_in_vain),
		cmocka_unit_test(last_words_of_drained),
		cmocka_unit_test(a_reset_is_an_end),
		cmocka_unit_test(last_words_are_read_though_writing_fails),
		cmocka_unit_test(closing_writes_what_is_left_and_lingers),
		cmocka_unit_test(lingering_and_slow_peers_are_bounded),
		cmocka_unit_test(a_close_that_meets_a_reset_is_through),
		cmocka_unit_test(who_is_turned_away_holds_nothing),
		cmocka_unit_test(close_notify_goes_with_the_last_reply),
		cmocka_unit_test(it_may_be_freed_anywhere),
		cmocka_unit_test(replies_of_a_group_are_one_write),
		cmocka_unit_test(input_may_take_little_and_hold),
		cmocka_unit_test(much_passes_both_ways),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
