/* client.c - the client's sessions: greeting, EHLO, TLS, AUTH, replies that are none, time, the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client_peer.h"

#define GREET S("220 mx.test ESMTP\r\n"), C("EHLO me.test\r\n")
#define BYE C("QUIT\r\n"), S("221 bye\r\n")
#define CHECK(caller, transcript, ...) peer_check(caller, STEPS(__VA_ARGS__), transcript)

static struct caller caller_of(enum psmtp_client_tls tls)
{
	return (struct caller){ .options = peer_options(tls) };
}

/* ---- greeting and EHLO ---- */

static void greeting(void **state)
{
	struct caller c = caller_of(PSMTP_CLIENT_TLS_NONE);

	(void)state;
	CHECK(&c, "ready\nclose\n", GREET, S("250-mx.test\r\n250 SIZE\r\n"), BYE);
	CHECK(&c, "ready\nclose\n", S("220-mx.test\r\n220-hello\r\n220 \r\n"), C("EHLO me.test\r\n"), S("250\r\n"), BYE);
	CHECK(&c, "failed permanent 554 greeting_refused\nclose\n", S("554 no\r\n"), BYE);
	CHECK(&c, "failed temporary 450 greeting_refused\nclose\n", S("450 later\r\n"), BYE);
	CHECK(&c, "failed temporary 421 closing\nclose\n", S("421 busy\r\n"));
	CHECK(&c, "failed protocol 250 odd_reply\nclose\n", S("250 hello\r\n"));
	CHECK(&c, "failed temporary 0 peer_closed\nclose\n", END_OF_FILE);
	CHECK(&c, "failed temporary 0 peer_closed\nclose\n", S("220-mx\r\n22"), END_OF_FILE);
}

static void hello(void **state)
{
	struct caller c = caller_of(PSMTP_CLIENT_TLS_NONE), lmtp = c;

	(void)state;
	lmtp.options.lmtp = true;
	CHECK(&c, "ready\nclose\n", GREET, S("502 what\r\n"), C("HELO me.test\r\n"), S("250 mx\r\n"), BYE);
	CHECK(&c, "failed permanent 550 hello_refused\nclose\n", GREET, S("500 what\r\n"), C("HELO me.test\r\n"),
		S("550 no\r\n"), BYE);
	CHECK(&c, "failed temporary 451 hello_refused\nclose\n", GREET, S("451 later\r\n"), BYE);
	CHECK(&c, "failed protocol 354 odd_reply\nclose\n", GREET, S("354 go\r\n"));
	CHECK(&lmtp, "ready\nclose\n", S("220 l\r\n"), C("LHLO me.test\r\n"), S("250 l\r\n"), BYE);
	CHECK(&lmtp, "failed permanent 500 hello_refused\nclose\n", S("220 l\r\n"), C("LHLO me.test\r\n"), S("500 no\r\n"),
		BYE);
}

/* HELO is never said when TLS is owed or up: it would give away what EHLO protects. */
static void hello_owed(void **state)
{
	struct caller c = caller_of(PSMTP_CLIENT_TLS_MUST), may = caller_of(PSMTP_CLIENT_TLS_MAY);

	(void)state;
	CHECK(&c, "failed policy 502 hello_refused\nclose\n", GREET, S("502 what\r\n"), BYE);
	CHECK(&may, "tls_refused 0 tls_not_offered\nready\nclose\n", GREET, S("502 what\r\n"), C("HELO me.test\r\n"),
		S("250 mx\r\n"), BYE);
	CHECK(&may, "tls_start\nfailed permanent 502 hello_refused\nclose\n", GREET, S("250-mx\r\n250 STARTTLS\r\n"),
		C("STARTTLS\r\n"), S("220 go\r\n"), TLS, C("EHLO me.test\r\n"), S("502 what\r\n"), BYE);
}

/* ---- TLS ---- */

static void starttls(void **state)
{
	struct caller may = caller_of(PSMTP_CLIENT_TLS_MAY), must = caller_of(PSMTP_CLIENT_TLS_MUST);
	struct caller none = caller_of(PSMTP_CLIENT_TLS_NONE);
	const struct caller *both[] = { &may, &must };

	(void)state;
	for (int i = 0; i < 2; i++) {
		/* STARTTLS is offered again inside TLS, and never sent again */
		CHECK(both[i], "tls_start\nready\nclose\n", GREET, S("250-mx\r\n250 STARTTLS\r\n"), C("STARTTLS\r\n"),
			S("220 go\r\n"), TLS, C("EHLO me.test\r\n"), S("250-mx\r\n250 STARTTLS\r\n"), BYE);
		CHECK(both[i], "tls_start\nfailed tls 0 handshake\nclose\n", GREET, S("250-mx\r\n250 starttls\r\n"),
			C("STARTTLS\r\n"), S("220 go\r\n"), TLS_FAILED);
		/* only 220 starts TLS */
		CHECK(both[i], "failed protocol 250 odd_reply\nclose\n", GREET, S("250-mx\r\n250 STARTTLS\r\n"),
			C("STARTTLS\r\n"), S("250 go\r\n"));
		CHECK(both[i], "failed protocol 334 odd_reply\nclose\n", GREET, S("250-mx\r\n250 STARTTLS\r\n"),
			C("STARTTLS\r\n"), S("334 go\r\n"));
		CHECK(both[i], "failed temporary 421 closing\nclose\n", GREET, S("250-mx\r\n250 STARTTLS\r\n"),
			C("STARTTLS\r\n"), S("421 bye\r\n"));
	}
	CHECK(&none, "ready\nclose\n", GREET, S("250-mx\r\n250 STARTTLS\r\n"), BYE);
}

static void starttls_refused(void **state)
{
	struct caller may = caller_of(PSMTP_CLIENT_TLS_MAY), must = caller_of(PSMTP_CLIENT_TLS_MUST);

	(void)state;
	CHECK(&may, "tls_refused 0 tls_not_offered\nready\nclose\n", GREET, S("250 mx\r\n"), BYE);
	CHECK(&may, "tls_refused 454 tls_refused\nready\nclose\n", GREET, S("250-mx\r\n250 STARTTLS\r\n"), C("STARTTLS\r\n"),
		S("454 4.7.0 broken\r\n"), BYE);
	CHECK(&may, "tls_refused 502 tls_refused\nready\nclose\n", GREET, S("250-mx\r\n250 STARTTLS\r\n"), C("STARTTLS\r\n"),
		S("502 no\r\n"), BYE);
	CHECK(&must, "failed policy 0 tls_not_offered\nclose\n", GREET, S("250 mx\r\n"), BYE);
	CHECK(&must, "failed policy 454 tls_refused\nclose\n", GREET, S("250-mx\r\n250 STARTTLS\r\n"), C("STARTTLS\r\n"),
		S("454 4.7.0 broken\r\n"), BYE);
	CHECK(&must, "failed policy 502 tls_refused\nclose\n", GREET, S("250-mx\r\n250 STARTTLS\r\n"), C("STARTTLS\r\n"),
		S("502 no\r\n"), BYE);
}

/* RFC 3207 section 4.2, the other way round: what stands behind the 220 was sent in clear. */
static void starttls_pending(void **state)
{
	struct caller may = caller_of(PSMTP_CLIENT_TLS_MAY), must = caller_of(PSMTP_CLIENT_TLS_MUST);
	const struct caller *both[] = { &may, &must };
	static const char *behind[] = { "220 go\r\n250 evil\r\n", "220 go\r\n2", "220 go\r\n\r\n", "220-go\r\n220 on\r\nx" };

	(void)state;
	for (int i = 0; i < 2; i++)
		for (int j = 0; j < 4; j++)
			peer_check_whole(both[i], STEPS(GREET, S("250-mx\r\n250 STARTTLS\r\n"), C("STARTTLS\r\n"), S(behind[j])),
				"failed policy 220 starttls_pending\nclose\n");
	/* the same, in the next packet: TLS_START was told, and nothing is believed all the same */
	CHECK(&may, "tls_start\nfailed policy 0 starttls_pending\nclose\n", GREET, S("250-mx\r\n250 STARTTLS\r\n"),
		C("STARTTLS\r\n"), S("220 go\r\n"), CLEAR_BYTES("2"));
	/* and after the handshake, as late bytes of the clear epoch */
	CHECK(&may, "tls_start\nfailed policy 0 wrong_epoch\nclose\n", GREET, S("250-mx\r\n250 STARTTLS\r\n"),
		C("STARTTLS\r\n"), S("220 go\r\n"), TLS, C("EHLO me.test\r\n"), CLEAR_BYTES("250 mx\r\n"));
}

static void implicit(void **state)
{
	struct caller c = caller_of(PSMTP_CLIENT_TLS_IMPLICIT);

	(void)state;
	CHECK(&c, "ready\nclose\n", TLS, GREET, S("250-mx\r\n250 STARTTLS\r\n"), BYE);
	CHECK(&c, "failed tls 0 handshake\nclose\n", TLS_FAILED);
	CHECK(&c, "failed policy 0 wrong_epoch\nclose\n", CLEAR_BYTES("220 mx\r\n"));
	CHECK(&c, "failed permanent 502 hello_refused\nclose\n", TLS, GREET, S("502 what\r\n"), BYE);
}

/* What was learned in clear is gone: facts before and after. */
static void forgets(void **state)
{
	static const struct psmtp_tls_facts tls = { TEXT("TLSv1.3"), TEXT("x") };
	struct psmtp_client_options o = peer_options(PSMTP_CLIENT_TLS_MAY);
	extern const struct psmtp_allocator peer_allocator;
	struct psmtp_client *c = psmtp_client_new(&o, &peer_allocator, 0);
	struct psmtp_client_event e;
	struct psmtp_client_facts f;
	const char *clear = "250-mx.test hi\r\n250-SIZE 1000\r\n250-PIPELINING\r\n250-AUTH PLAIN LOGIN\r\n"
			    "250-LIMITS RCPTMAX=7 MAILMAX=3 FOO=1\r\n250-CHUNKING\r\n250-DSN\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
			    "250-BINARYMIME\r\n250-REQUIRETLS\r\n250 STARTTLS\r\n";

	(void)state;
	psmtp_client_feed(c, 1, "220 mx\r\n", 8, 0);
	psmtp_client_sent(c, psmtp_client_output(c).n, 0);
	assert_int_equal(psmtp_client_feed(c, 1, clear, strlen(clear), 0), strlen(clear));
	psmtp_client_get_facts(c, &f);
	assert_true(f.ehlo && f.pipelining && f.chunking && f.binarymime && f.eightbit && f.smtputf8 && f.dsn &&
		f.starttls &&
		    f.size && f.requiretls && !f.tls);
	assert_int_equal(f.size_limit, 1000);
	assert_int_equal(f.mail_limit, 3);
	assert_int_equal(f.rcpt_limit, 7);
	assert_memory_equal(f.auth.p, "PLAIN LOGIN", 11);
	assert_int_equal(f.hello.n, 7);
	assert_string_equal(f.phase, "STARTTLS");
	psmtp_client_sent(c, psmtp_client_output(c).n, 0);
	psmtp_client_feed(c, 1, "220 go\r\n", 8, 0);
	assert_true(psmtp_client_next(c, &e, 0) && e.type == PSMTP_CLIENT_TLS_START);
	assert_int_equal(psmtp_client_tls_up(c, &tls, 0), 0);
	assert_int_equal(psmtp_client_tls_up(c, &tls, 0), -1);
	psmtp_client_get_facts(c, &f);
	assert_true(!f.ehlo && !f.pipelining && !f.chunking && !f.binarymime && !f.eightbit && !f.smtputf8 && !f.dsn &&
		    !f.starttls && !f.size && !f.requiretls && f.tls);
	assert_int_equal(f.size_limit + f.mail_limit + f.rcpt_limit + f.auth.n + f.hello.n, 0);
	psmtp_client_free(c);
}

/* ---- AUTH ---- */

#define TLS_AUTH(words)                                                                                                \
	GREET, S("250-mx\r\n250-AUTH LOGIN\r\n250 STARTTLS\r\n"), C("STARTTLS\r\n"), S("220 go\r\n"), TLS,      \
		C("EHLO me.test\r\n"), S("250-mx\r\n250 AUTH " words "\r\n")

static void auth(void **state)
{
	struct caller plain = caller_of(PSMTP_CLIENT_TLS_MUST), login = plain, empty = plain;

	(void)state;
	plain.options.auth_mechanism = (struct psmtp_view)TEXT("PLAIN");
	plain.answers[0] = "secret";
	login.options.auth_mechanism = (struct psmtp_view)TEXT("LOGIN");
	login.answers[0] = "", login.answers[1] = "user", login.answers[2] = "pass";
	empty.options.auth_mechanism = (struct psmtp_view)TEXT("EXTERNAL");
	empty.answers[0] = "";
	CHECK(&plain, "tls_start\nauth \nready\nclose\n", TLS_AUTH("LOGIN plain"), C("AUTH PLAIN c2VjcmV0\r\n"),
		S("235 2.7.0 welcome\r\n"), BYE);
	CHECK(&login, "tls_start\nauth \nauth Username:\nauth Password:\nready\nclose\n", TLS_AUTH("LOGIN"),
		C("AUTH LOGIN\r\n"),
		S("334 VXNlcm5hbWU6\r\n"), C("dXNlcg==\r\n"), S("334 UGFzc3dvcmQ6\r\n"), C("cGFzcw==\r\n"), S("235 ok\r\n"), BYE);
	CHECK(&empty, "tls_start\nauth \nready\nclose\n", TLS_AUTH("EXTERNAL"), C("AUTH EXTERNAL =\r\n"), S("235 ok\r\n"),
		BYE);
	CHECK(&plain, "tls_start\nauth \nfailed temporary 535 auth_failed\nclose\n", TLS_AUTH("PLAIN"),
		C("AUTH PLAIN c2VjcmV0\r\n"), S("535 5.7.8 no\r\n"), BYE);
	CHECK(&plain, "tls_start\nauth \nfailed protocol 250 odd_reply\nclose\n", TLS_AUTH("PLAIN"),
		C("AUTH PLAIN c2VjcmV0\r\n"),
		S("250 ok\r\n"));
	/* what was offered in clear does not count */
	CHECK(&login, "tls_start\nfailed temporary 0 auth_not_offered\nclose\n", TLS_AUTH("PLAIN"), BYE);
}

static void auth_odd(void **state)
{
	struct caller c = caller_of(PSMTP_CLIENT_TLS_MUST), clear = caller_of(PSMTP_CLIENT_TLS_NONE), cancel = c;

	(void)state;
	c.options.auth_mechanism = clear.options.auth_mechanism = (struct psmtp_view)TEXT("LOGIN");
	cancel.options.auth_mechanism = c.options.auth_mechanism;
	c.answers[0] = "-", c.answers[1] = NULL;
	CHECK(&c, "tls_start\nauth \nauth User\nfailed temporary 501 auth_cancelled\nclose\n", TLS_AUTH("LOGIN"),
		C("AUTH LOGIN\r\n"), S("334 VXNlcg==\r\n"), C("*\r\n"), S("501 cancelled\r\n"), BYE);
	CHECK(&c, "tls_start\nauth \nfailed temporary 501 auth_cancelled\nclose\n", TLS_AUTH("LOGIN"), C("AUTH LOGIN\r\n"),
		S("334 not base64!\r\n"), C("*\r\n"), S("501 cancelled\r\n"), BYE);
	CHECK(&cancel, "tls_start\nauth \nfailed temporary 0 auth_cancelled\nclose\n", TLS_AUTH("LOGIN"), BYE);
	CHECK(&clear, "failed policy 0 auth_in_clear\nclose\n", GREET, S("250-mx\r\n250 AUTH LOGIN\r\n"), BYE);
	clear.options.auth_in_clear = true;
	clear.answers[0] = "u";
	CHECK(&clear, "auth \nready\nclose\n", GREET, S("250-mx\r\n250 AUTH LOGIN\r\n"), C("AUTH LOGIN dQ==\r\n"),
		S("235 ok\r\n"), BYE);
}

/* RFC 4954 section 4: what does not fit the command waits for the empty challenge; 12,288 octets a line. */
static void auth_long(void **state)
{
	struct caller c = caller_of(PSMTP_CLIENT_TLS_NONE);
	static char secret[9001], expect[12003];

	(void)state;
	memset(secret, 'u', 9000);
	for (int i = 0; i < 12000; i += 4)
		memcpy(expect + i, "dXV1", 4);
	memcpy(expect + 12000, "\r\n", 3);
	c.options.auth_in_clear = true;
	c.options.auth_mechanism = (struct psmtp_view)TEXT("XOAUTH2");
	c.answers[0] = secret;
	CHECK(&c, "auth \nready\nclose\n", GREET, S("250-mx\r\n250 AUTH XOAUTH2\r\n"), C("AUTH XOAUTH2\r\n"), S("334 \r\n"),
		C(expect), S("235 ok\r\n"), BYE);
}

/* A challenge may be as long as a response; any other line may not. */
static void auth_long_challenge(void **state)
{
	struct caller c = caller_of(PSMTP_CLIENT_TLS_NONE);
	static char challenge[12300], transcript[12300];

	(void)state;
	memcpy(challenge, "334 ", 4);
	for (int i = 0; i < 12288; i += 4)
		memcpy(challenge + 4 + i, "dXV1", 4);
	memcpy(challenge + 4 + 12288, "\r\n", 3);
	memcpy(transcript, "auth \nauth ", 11);
	memset(transcript + 11, 'u', 9216);
	memcpy(transcript + 11 + 9216, "\nready\nclose\n", 14);
	c.options.auth_in_clear = true;
	c.options.auth_mechanism = (struct psmtp_view)TEXT("GSSAPI");
	c.answers[0] = "-", c.answers[1] = "x";
	peer_check_whole(&c, STEPS(GREET, S("250-mx\r\n250 AUTH GSSAPI\r\n"), C("AUTH GSSAPI\r\n"), S(challenge),
		C("eA==\r\n"),
		S("235 ok\r\n"), BYE), transcript);
	challenge[4 + 12288] = 'x';
	challenge[4 + 12289] = 'x';
	peer_check_whole(&c, STEPS(GREET, S("250-mx\r\n250 AUTH GSSAPI\r\n"), C("AUTH GSSAPI\r\n"), S(challenge)),
		"auth \nfailed protocol 0 reply_line_too_long\nclose\n");
}

static void auth_endless(void **state)
{
	struct psmtp_client_options o = peer_options(PSMTP_CLIENT_TLS_NONE);
	extern const struct psmtp_allocator peer_allocator;
	struct psmtp_client *c;
	struct psmtp_client_event e;
	const char *ehlo = "250-mx\r\n250 AUTH LOGIN\r\n";
	int rounds = 0;

	(void)state;
	o.auth_in_clear = true;
	o.auth_mechanism = (struct psmtp_view)TEXT("LOGIN");
	c = psmtp_client_new(&o, &peer_allocator, 0);
	psmtp_client_feed(c, 1, "220 mx\r\n", 8, 0);
	psmtp_client_sent(c, psmtp_client_output(c).n, 0);
	psmtp_client_feed(c, 1, ehlo, strlen(ehlo), 0);
	while (psmtp_client_next(c, &e, 0) && e.type == PSMTP_CLIENT_AUTH) {
		assert_true(++rounds < 100);
		assert_int_equal(psmtp_client_auth_answer(c, (struct psmtp_view)TEXT("x"), false, 0), 0);
		psmtp_client_sent(c, psmtp_client_output(c).n, 0);
		psmtp_client_feed(c, 1, "334 eA==\r\n", 10, 0);
	}
	assert_memory_equal(psmtp_client_output(c).p, "*\r\n", 3);
	psmtp_client_free(c);
}

/* ---- replies that are none ---- */

static void replies(void **state)
{
	struct caller c = caller_of(PSMTP_CLIENT_TLS_NONE), small = c;
	static char longline[5000], many[256 * 8 + 32], big[70000];

	(void)state;
	CHECK(&c, "failed protocol 0 reply_codes_differ\nclose\n", GREET, S("250-mx\r\n550 no\r\n"));
	CHECK(&c, "failed protocol 0 reply_syntax\nclose\n", S("hello\r\n"));
	CHECK(&c, "failed protocol 0 reply_syntax\nclose\n", S("99 hello\r\n"));
	CHECK(&c, "failed protocol 0 reply_syntax\nclose\n", S("620 hello\r\n"));
	CHECK(&c, "failed protocol 0 reply_bare_lf\nclose\n", S("220 hello\n"));
	memset(longline, 'x', sizeof longline - 1);
	memcpy(longline, "220 ", 4);
	peer_check_whole(&c, STEPS(S(longline)), "failed protocol 0 reply_line_too_long\nclose\n");
	for (int i = 0; i < 257; i++)
		memcpy(many + i * 8, "250-xx\r\n", 8);
	peer_check_whole(&c, STEPS(GREET, S(many)), "failed protocol 0 reply_too_many_lines\nclose\n");
	small.options.reply_limit = 64;
	for (int i = 0; i < 10; i++)
		memcpy(big + i * 8, "250-yy\r\n", 8);
	peer_check_whole(&small, STEPS(GREET, S(big)), "failed protocol 0 reply_too_long\nclose\n");
}

/* No reply is believed whose first octet came before its command had been written out. */
static void early(void **state)
{
	struct caller c = caller_of(PSMTP_CLIENT_TLS_NONE), may = caller_of(PSMTP_CLIENT_TLS_MAY);

	(void)state;
	c.stay = true;
	peer_check_whole(&c, STEPS(S("220 mx\r\n250 mx\r\n")), "failed protocol 250 early_reply\nclose\n");
	peer_check_whole(&may, STEPS(GREET, S("250-mx\r\n250 STARTTLS\r\n220 go\r\n")),
		"failed protocol 220 early_reply\nclose\n");
	peer_check_whole(&c, STEPS(S("220 mx\r\n421 bye\r\n")), "failed temporary 421 closing\nclose\n");
	CHECK(&c, "ready\nfailed protocol 250 early_reply\nclose\n", GREET, S("250 mx\r\n"), S("250 hello?\r\n"));
	CHECK(&c, "ready\nfailed temporary 421 closing\nclose\n", GREET, S("250 mx\r\n"), S("421 bye\r\n"));
	CHECK(&c, "ready\nfailed temporary 0 peer_closed\nclose\n", GREET, S("250 mx\r\n"), END_OF_FILE);
}

/* Written is not enough: it must have been sent. */
static void early_unsent(void **state)
{
	struct psmtp_client_options o = peer_options(PSMTP_CLIENT_TLS_NONE);
	extern const struct psmtp_allocator peer_allocator;
	struct psmtp_client *c = psmtp_client_new(&o, &peer_allocator, 0);
	struct psmtp_client_event e;

	(void)state;
	psmtp_client_feed(c, 1, "220 mx\r\n", 8, 0);
	psmtp_client_sent(c, psmtp_client_output(c).n - 1, 0); /* all but the last octet of EHLO */
	psmtp_client_feed(c, 1, "2", 1, 0);
	psmtp_client_sent(c, psmtp_client_output(c).n, 0);
	psmtp_client_feed(c, 1, "50 mx\r\n", 7, 0);
	assert_true(psmtp_client_next(c, &e, 0));
	assert_int_equal(e.type, PSMTP_CLIENT_FAILED);
	assert_int_equal(e.fault, PSMTP_FAULT_PROTOCOL);
	assert_string_equal(e.reason, "early_reply");
	psmtp_client_free(c);
}

/* ---- time ---- */

static void timeouts(void **state)
{
	struct caller c = caller_of(PSMTP_CLIENT_TLS_MAY);

	(void)state;
	CHECK(&c, "failed temporary 0 timeout\nclose\n", WAIT(299999), WAIT(1));
	CHECK(&c, "failed temporary 0 timeout\nclose\n", S("220 m"), WAIT(300000));
	CHECK(&c, "failed temporary 0 timeout\nclose\n", WAIT(299999), GREET, WAIT(299999), WAIT(1));
	CHECK(&c, "tls_start\nfailed tls 0 timeout\nclose\n", GREET, S("250-mx\r\n250 STARTTLS\r\n"), C("STARTTLS\r\n"),
		S("220 go\r\n"), WAIT(59999), WAIT(1));
	CHECK(&c, "tls_refused 0 tls_not_offered\nready\nclose\n", GREET, S("250 mx\r\n"), C("QUIT\r\n"), WAIT(5000));
	CHECK(&c, "tls_refused 0 tls_not_offered\nready\nclose\n", GREET, S("250 mx\r\n"), C("QUIT\r\n"), END_OF_FILE);
	c.options.greeting_ms = 10;
	CHECK(&c, "failed temporary 0 timeout\nclose\n", WAIT(10));
}

/* ---- calls out of turn, options ---- */

static void out_of_turn(void **state)
{
	struct psmtp_client_options o = peer_options(PSMTP_CLIENT_TLS_MAY);
	const struct psmtp_client_rcpt rcpt = { .address = TEXT("a@b.test") };
	const struct psmtp_client_message m = { .rcpts = &rcpt, .rcpt_count = 1 };
	extern const struct psmtp_allocator peer_allocator;
	struct psmtp_client *c = psmtp_client_new(&o, &peer_allocator, 0);
	struct psmtp_client_event e;

	(void)state;
	assert_int_equal(psmtp_client_send(c, &m, 0), -1);
	assert_int_equal(psmtp_client_quit(c, 0), -1);
	assert_int_equal(psmtp_client_tls_up(c, &(struct psmtp_tls_facts){ 0 }, 0), -1);
	assert_int_equal(psmtp_client_tls_failed(c, 0), -1);
	assert_int_equal(psmtp_client_auth_answer(c, (struct psmtp_view)TEXT("x"), false, 0), -1);
	assert_int_equal(psmtp_client_body(c, "x", 1, true, 0), 0);
	psmtp_client_body_abort(c, 0);
	psmtp_client_sent(c, 100, 0);
	psmtp_client_timeout(c, 0);
	assert_int_equal(psmtp_client_deadline(c), 300000);
	assert_false(psmtp_client_next(c, &e, 0));
	psmtp_client_free(c);
	psmtp_client_free(NULL);
}

static void options(void **state)
{
	extern const struct psmtp_allocator peer_allocator;
	static const char *bad[] = { "", "a b", "a\r\nRSET", "\x7f" };

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct psmtp_client_options o = { .hello = { bad[i], strlen(bad[i]) } };

		assert_null(psmtp_client_new(&o, &peer_allocator, 0));
		o = peer_options(PSMTP_CLIENT_TLS_MAY);
		o.auth_mechanism = (struct psmtp_view){ bad[i], strlen(bad[i]) };
		if (bad[i][0])
			assert_null(psmtp_client_new(&o, &peer_allocator, 0));
	}
}

static void *libc_resize(void *arg, void *old, size_t size)
{
	(void)arg;
	if (size)
		return realloc(old, size);
	free(old);
	return NULL;
}
const struct psmtp_allocator peer_allocator = { libc_resize, NULL };

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(greeting), cmocka_unit_test(hello), cmocka_unit_test(hello_owed), cmocka_unit_test(starttls),
		cmocka_unit_test(starttls_refused), cmocka_unit_test(starttls_pending), cmocka_unit_test(implicit),
		cmocka_unit_test(forgets), cmocka_unit_test(auth), cmocka_unit_test(auth_odd), cmocka_unit_test(auth_long),
			cmocka_unit_test(auth_long_challenge),
		cmocka_unit_test(auth_endless), cmocka_unit_test(replies), cmocka_unit_test(early), cmocka_unit_test(early_unsent),
		cmocka_unit_test(timeouts), cmocka_unit_test(out_of_turn), cmocka_unit_test(options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
