/* conn_signing.c - a handshake that awaits its RSA signature: what may happen meanwhile, and what must not. */
#include "world.h"

#include "tls/fiber.h"

/* A signer that answers when the test says so. */
static struct tls_signature *asked[8];
static struct { unsigned char hash[TLS_HASH_MAX]; size_t n; uint32_t digest; uint8_t padding; } about[8];
static unsigned asked_n, forgotten_n;
static bool refuses;
static struct fibers stacks;
static struct pki rsa;
static struct tls_context *later;

static int begin(void *arg, struct tls_signature *s, uint32_t key, uint32_t digest, uint8_t padding, const void *hash, size_t n)
{
	(void)arg;
	(void)key;
	if (refuses)
		return -1;
	assert_true(asked_n < 8 && n <= TLS_HASH_MAX && padding != TLS_PADDING_NONE);
	asked[asked_n] = s;
	about[asked_n].n = n;
	about[asked_n].digest = digest;
	about[asked_n].padding = padding;
	memcpy(about[asked_n++].hash, hash, n);
	return 0;
}

static void forget(void *arg, struct tls_signature *s)
{
	(void)arg;
	for (unsigned i = 0; i < asked_n; i++)
		if (asked[i] == s) {
			asked[i] = NULL;
			forgotten_n++;
			return;
		}
	fail_msg("nobody asked for it");
}

static void answer(unsigned nth, bool good)
{
	struct tls_signature *s = asked[nth];

	assert_non_null(s);
	asked[nth] = NULL;
	s->made = good ? pki_sign(rsa.key, 0, about[nth].digest, about[nth].padding, about[nth].hash, about[nth].n, s->octets, sizeof s->octets) : -1;
	s->ready(s->arg);
}

static void start(struct end *server, struct end *client)
{
	int fd;

	init(server, pair(SOCK_STREAM, &fd));
	init(client, fd);
	assert_int_equal(conn_start_tls(&server->conn, later, true, NULL), 0);
	assert_int_equal(conn_start_tls(&client->conn, tls_client, false, &to_mx), 0);
}

/* Begun, and its signature is awaited. */
static void pending(struct end *server, struct end *client)
{
	unsigned before = asked_n;

	start(server, client);
	turns(4);
	assert_int_equal(asked_n, before + 1);
	assert_int_equal(server->tls_up + server->tls_failed, 0);
	assert_int_equal(stacks.used_n, 1);
}

static void end_all(struct end *server, struct end *client)
{
	fini(server);
	fini(client);
	assert_int_equal(stacks.used_n, 0);
	for (unsigned i = 0; i < asked_n; i++)
		assert_null(asked[i]);
	asked_n = forgotten_n = 0;
	refuses = false;
}

static void no_signature_is_a_failed_handshake(void **state)
{
	struct end s, c;

	(void)state;
	for (int at_once = 0; at_once < 2; at_once++) {
		if (at_once) {
			refuses = true;
			start(&s, &c);
		} else {
			pending(&s, &c);
			answer(0, false);
		}
		turns(4);
		assert_int_equal(s.tls_failed, 1);
		assert_int_equal(c.tls_failed, 1); /* told by an alert */
		conn_close(&s.conn);
		turns(4);
		end_all(&s, &c);
	}
}

static void the_peer_goes_while_it_is_awaited(void **state)
{
	struct end s, c;

	(void)state;
	pending(&s, &c);
	conn_free(&c.conn);
	c.freed = true;
	turns(4);
	assert_int_equal(s.tls_failed, 1);
	assert_string_equal(s.why, "the connection ended during the handshake");
	conn_close(&s.conn);
	turns(4);
	assert_int_equal(s.closed, 1);
	fini(&s);
	s.freed = true;
	assert_int_equal(forgotten_n, 1);
	end_all(&s, &c);
}

static void it_is_freed_or_closed_while_it_is_awaited(void **state)
{
	struct end s, c;

	(void)state;
	for (int how = 0; how < 4; how++) {
		pending(&s, &c);
		if (how == 1) /* its time is over: the answer that comes then changes nothing */
			conn_close(&s.conn);
		if (how == 2) /* the answer is there, and nobody looks at it any more */
			answer(0, true);
		if (how == 3) {
			conn_close(&s.conn);
			answer(0, true);
			turns(4);
			assert_int_equal(s.tls_up, 0);
		}
		fini(&s);
		s.freed = true;
		assert_int_equal(forgotten_n, how < 2);
		end_all(&s, &c);
	}
}

static void octets_that_come_meanwhile_wait(void **state)
{
	struct end s, c;
	char junk[4096];

	(void)state;
	pending(&s, &c);
	memset(junk, 'x', sizeof junk);
	for (unsigned i = 0; i < 100; i++) { /* it stops reading: what a peer says out of turn does not fill our memory */
		send(c.conn.fd, junk, sizeof junk, MSG_DONTWAIT | MSG_NOSIGNAL);
		turns(1);
	}
	assert_true(buf_len(&s.conn.raw) > 0 && buf_len(&s.conn.raw) <= 2 * LOOP_SCRATCH);
	assert_int_equal(s.tls_failed, 0);
	answer(0, true);
	turns(4);
	assert_int_equal(s.tls_failed, 1); /* they were no TLS */
	end_all(&s, &c);
}

static void others_go_on_meanwhile(void **state)
{
	struct end s[3], c[3], ec_server, ec_client;
	int fd;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		start(&s[i], &c[i]);
		turns(4);
	}
	assert_int_equal(asked_n, 3);
	init(&ec_server, pair(SOCK_STREAM, &fd));
	init(&ec_client, fd);
	assert_int_equal(conn_start_tls(&ec_server.conn, tls_server, true, NULL), 0);
	assert_int_equal(conn_start_tls(&ec_client.conn, tls_client, false, &to_mx), 0);
	turns(6);
	assert_int_equal(ec_server.tls_up + ec_client.tls_up, 2);
	fini(&ec_server);
	fini(&ec_client);
	for (unsigned i = 3; i-- > 0;) { /* in another order than they asked */
		answer(i, true);
		turns(6);
		for (unsigned k = 0; k < 3; k++)
			assert_int_equal(s[k].tls_up + c[k].tls_up, k >= i ? 2 : 0);
		say(&c[i], VIEW("EHLO c.test\r\n"));
		say(&s[i], VIEW("250 mx.test\r\n"));
		turns(4);
		GOT(&s[i], 2, "EHLO c.test\r\n");
		GOT(&c[i], 2, "250 mx.test\r\n");
	}
	for (unsigned i = 0; i < 3; i++) {
		fini(&s[i]);
		fini(&c[i]);
		s[i].freed = c[i].freed = true;
	}
	end_all(&s[0], &c[0]);
}

/* Without anybody who could be woken, the signer blocks, as for ECDSA. */
static void who_cannot_wait_blocks(void **state)
{
	struct tls_session *s = tls_session_new(later, true, NULL), *c = tls_session_new(tls_client, false, &to_mx);
	struct buf up, down;
	enum tls_status a = TLS_WANT, b = TLS_WANT;

	(void)state;
	buf_init(&up, &alloc_libc, 65536);
	buf_init(&down, &alloc_libc, 65536);
	for (unsigned i = 0; i < 4 && (a != TLS_OK || b != TLS_OK); i++) {
		struct view v = buf_view(&down);

		if (a == TLS_WANT)
			a = tls_handshake(c, &v, &up);
		buf_clear(&down);
		v = buf_view(&up);
		if (b == TLS_WANT)
			b = tls_handshake(s, &v, &down);
		buf_clear(&up);
	}
	assert_int_equal(a, TLS_OK);
	assert_int_equal(b, TLS_OK);
	assert_int_equal(asked_n, 0);
	tls_session_free(s);
	tls_session_free(c);
	buf_free(&up);
	buf_free(&down);
}

static int set_up_rsa(void **state)
{
	struct error e;
	struct tls_server_options o;

	if (set_up(state) == -1)
		return -1;
	rsa = pki_make("RSA-2048", "mx.test", "DNS:mx.test", &ca, false, 50);
	o = (struct tls_server_options){ .certificates = &(const struct tls_server_certificate){ .chain = view_cstr(rsa.cert_pem) }, .certificates_n = 1,
	                                 .signer = { .sign = pki_sign, .begin = begin, .forget = forget, .arg = rsa.key, .fibers = &stacks },
	                                 .session_context = VIEW("mx") };
	later = tls_server_new(&o, &e);
	return later ? 0 : -1;
}

static int tear_down_rsa(void **state)
{
	tls_context_free(later);
	fibers_free(&stacks);
	pki_free(&rsa);
	return tear_down(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_signature_is_a_failed_handshake),
		cmocka_unit_test(the_peer_goes_while_it_is_awaited),
		cmocka_unit_test(it_is_freed_or_closed_while_it_is_awaited),
		cmocka_unit_test(octets_that_come_meanwhile_wait),
		cmocka_unit_test(others_go_on_meanwhile),
		cmocka_unit_test(who_cannot_wait_blocks),
	};

	return cmocka_run_group_tests(tests, set_up_rsa, tear_down_rsa);
}
