/* client_message.c - the client's messages: envelope, pipelining, body, final replies, what a message needs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client_peer.h"

#define GREET(words) S("220 mx.test ESMTP\r\n"), C("EHLO me.test\r\n"), S("250-mx\r\n" words "250 HELP\r\n")
#define LGREET(words) S("220 l.test LMTP\r\n"), C("LHLO me.test\r\n"), S("250-l\r\n" words "250 HELP\r\n")
#define BYE C("QUIT\r\n"), S("221 bye\r\n")
#define PIPE "250-PIPELINING\r\n"
#define BDAT "250-CHUNKING\r\n"
#define CHECK(caller, transcript, ...) peer_check(caller, STEPS(__VA_ARGS__), transcript)

#define MAIL1 "MAIL FROM:<s@a.test>\r\n"
#define RCPT0 "RCPT TO:<r0@b.test>\r\n"
#define RCPT1 "RCPT TO:<r1@b.test>\r\n"
#define RCPT2 "RCPT TO:<r2@b.test>\r\n"

static const struct psmtp_client_rcpt three[] = { { .address = TEXT("r0@b.test") }, { .address = TEXT("r1@b.test") },
	{ .address = TEXT("r2@b.test") } };
static const struct psmtp_client_message one_rcpt = { .sender = TEXT("s@a.test"), .rcpts = three, .rcpt_count = 1 };
static const struct psmtp_client_message three_rcpts = { .sender = TEXT("s@a.test"), .rcpts = three,
	.rcpt_count = 3 };

static struct caller caller_of(const struct psmtp_client_message *m, const char *body)
{
	return (struct caller){ .options = peer_options(PSMTP_CLIENT_TLS_NONE), .messages = m, .message_count = 1,
		.body = body };
}

/* ---- the envelope ---- */

static void lockstep(void **state)
{
	struct caller c = caller_of(&three_rcpts, "Subject: x\r\n\r\nhi\r\n");

	(void)state;
	CHECK(&c,
		"ready\nrcpt 0 250 2.1.5\nrcpt 1 550 5.1.1\nresult 1 550 5.1.1\nrcpt 2 251\nbody\n"
		"result 0 250 2.0.0\nresult 2 250 2.0.0\ndone\nready\nclose\n",
		GREET(""), C(MAIL1), S("250 ok\r\n"), C(RCPT0), S("250 2.1.5 ok\r\n"), C(RCPT1), S("550 5.1.1 who\r\n"), C(RCPT2),
		S("251 forwards\r\n"), C("DATA\r\n"), S("354 go\r\n"), C("Subject: x\r\n\r\nhi\r\n.\r\n"),
			S("250 2.0.0 queued\r\n"), BYE);
	CHECK(&c, "ready\nresult 0 451\nresult 1 451\nresult 2 451\ndone\nready\nclose\n", GREET(""), C(MAIL1),
		S("451 later\r\n"), BYE);
	CHECK(&c,
		"ready\nrcpt 0 550\nresult 0 550\nrcpt 1 450\nresult 1 450\nrcpt 2 550\nresult 2 550\ndone\nready\nclose\n",
		GREET(""), C(MAIL1), S("250 ok\r\n"), C(RCPT0), S("550 no\r\n"), C(RCPT1), S("450 no\r\n"), C(RCPT2),
			S("550 no\r\n"),
		C("RSET\r\n"), S("250 ok\r\n"), BYE);
	CHECK(&c,
		"ready\nrcpt 0 250\nrcpt 1 250\nrcpt 2 550\nresult 2 550\nresult 0 452\nresult 1 452\ndone\nready\nclose\n",
		GREET(""), C(MAIL1), S("250 ok\r\n"), C(RCPT0), S("250 ok\r\n"), C(RCPT1), S("250 ok\r\n"), C(RCPT2),
			S("550 no\r\n"),
		C("DATA\r\n"), S("452 full\r\n"), C("RSET\r\n"), S("250 ok\r\n"), BYE);
	/* offered and not wanted */
	c.options.no_pipelining = true;
	CHECK(&c, "ready\nresult 0 451\nresult 1 451\nresult 2 451\ndone\nready\nclose\n", GREET(PIPE), C(MAIL1),
		S("451 later\r\n"), BYE);
}

#define FLIGHT3 C(MAIL1 RCPT0 RCPT1 RCPT2 "DATA\r\n")

static void pipelined(void **state)
{
	struct caller c = caller_of(&three_rcpts, "hi\r\n");

	(void)state;
	CHECK(&c,
		"ready\nrcpt 0 250\nrcpt 1 550\nresult 1 550\nrcpt 2 250\nbody\nresult 0 250\nresult 2 250\ndone\nready\nclose\n",
		GREET(PIPE), FLIGHT3, S("250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n"), C("hi\r\n.\r\n"), S("250 ok\r\n"),
			BYE);
	/* the message is refused: the session goes on, and nothing is open */
	CHECK(&c,
		"ready\nrcpt 0 250\nrcpt 1 250\nrcpt 2 250\nbody\nresult 0 554\nresult 1 554\nresult 2 554\ndone\nready\nclose\n",
		GREET(PIPE), FLIGHT3, S("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"), C("hi\r\n.\r\n"),
			S("554 spam\r\n"), BYE);
	/* MAIL refused: every answer of the flight is taken */
	CHECK(&c, "ready\nresult 0 550\nresult 1 550\nresult 2 550\ndone\nready\nclose\n", GREET(PIPE), FLIGHT3,
		S("550 no\r\n503 x\r\n503 x\r\n250 x\r\n503 x\r\n"), BYE);
	/* ... also from a server that opens the data all the same (RFC 2920 section 3.1) */
	CHECK(&c, "ready\nresult 0 550\nresult 1 550\nresult 2 550\ndone\nready\nclose\n", GREET(PIPE), FLIGHT3,
		S("550 no\r\n503 x\r\n503 x\r\n503 x\r\n354 go\r\n"), C(".\r\n"), S("554 no recipients\r\n"), BYE);
	CHECK(&c,
		"ready\nrcpt 0 550\nresult 0 550\nrcpt 1 450\nresult 1 450\nrcpt 2 550\nresult 2 550\ndone\nready\nclose\n",
		GREET(PIPE), FLIGHT3, S("250 ok\r\n550 x\r\n450 x\r\n550 x\r\n354 go\r\n"), C(".\r\n"), S("250 what\r\n"), BYE);
	CHECK(&c,
		"ready\nrcpt 0 550\nresult 0 550\nrcpt 1 450\nresult 1 450\nrcpt 2 550\nresult 2 550\ndone\nready\nclose\n",
		GREET(PIPE), FLIGHT3, S("250 ok\r\n550 x\r\n450 x\r\n550 x\r\n503 x\r\n"), C("RSET\r\n"), S("250 ok\r\n"), BYE);
	CHECK(&c, "ready\nrcpt 0 250\nrcpt 1 250\nrcpt 2 250\nresult 0 451\nresult 1 451\nresult 2 451\ndone\nready\nclose\n",
		GREET(PIPE), FLIGHT3, S("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n451 x\r\n"), C("RSET\r\n"), S("250 ok\r\n"), BYE);
	/* 250 to DATA means nothing */
	CHECK(&c, "ready\nrcpt 0 250\nrcpt 1 250\nrcpt 2 250\nfailed protocol 250 odd_reply\nclose\n", GREET(PIPE), FLIGHT3,
		S("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"));
	CHECK(&c, "ready\nrcpt 0 250\nfailed temporary 421 closing\nclose\n", GREET(PIPE), FLIGHT3,
		S("250 ok\r\n250 ok\r\n421 bye\r\n"));
}

static void rset_refused(void **state)
{
	struct caller c = caller_of(&one_rcpt, "hi\r\n");

	(void)state;
	CHECK(&c, "ready\nrcpt 0 550\nresult 0 550\ndone\nfailed temporary 502 rset_refused\nclose\n", GREET(""), C(MAIL1),
		S("250 ok\r\n"), C(RCPT0), S("550 no\r\n"), C("RSET\r\n"), S("502 what\r\n"), BYE);
}

/* RFC 5321 4.5.3.1.10: 552 behind accepted recipients is 452. */
static void too_many(void **state)
{
	struct caller c = caller_of(&three_rcpts, "hi\r\n");
	static const struct psmtp_client_rcpt odd[] = { { .address = TEXT("r0@b.test") }, { .address = TEXT("x\r\nRSET") },
		{ .address = TEXT("r1@b.test") }, { .address = TEXT("r2@b.test") }, { .address = TEXT("Postmaster") } };
	static const struct psmtp_client_message m = { .sender = TEXT("s@a.test"), .rcpts = odd, .rcpt_count = 5 };

	(void)state;
	CHECK(&c,
		"ready\nrcpt 0 250\nrcpt 1 452 4.5.3\nresult 1 452 4.5.3\nrcpt 2 552 5.2.2\nresult 2 552 5.2.2\nbody\nresult 0 250\n"
		"done\nready\nclose\n",
		GREET(PIPE), FLIGHT3, S("250 ok\r\n250 ok\r\n552 many\r\n552 5.2.2 full\r\n354 go\r\n"), C("hi\r\n.\r\n"),
			S("250 ok\r\n"), BYE);
	/* LIMITS RCPTMAX: the rest is for another session; what is no address is never said */
	c.messages = &m;
	CHECK(&c,
		"ready\nresult 1 553 5.1.3 local\nresult 3 452 4.5.3 local\nresult 4 452 4.5.3 local\nrcpt 0 250\nrcpt 2 250\nbody\n"
		"result 0 250\nresult 2 250\ndone\nready\nclose\n",
		GREET(PIPE "250-LIMITS RCPTMAX=2\r\n"), C(MAIL1 RCPT0 RCPT1 "DATA\r\n"),
			S("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
		C("hi\r\n.\r\n"), S("250 ok\r\n"), BYE);
}

static void addresses(void **state)
{
	static const struct psmtp_client_rcpt bad[] = { { .address = TEXT("x> NOTIFY=NEVER") }, { .address = TEXT("") } };
	static const struct psmtp_client_message nobody = { .sender = TEXT("s@a.test"), .rcpts = bad, .rcpt_count = 2 };
	static const struct psmtp_client_message sender = { .sender = TEXT("s@a.test> BODY=8BITMIME"), .rcpts = three,
		.rcpt_count = 1 };
	static const struct psmtp_client_message null = { .sender = TEXT(""), .rcpts = three, .rcpt_count = 1 };
	struct caller c = caller_of(&nobody, "hi\r\n");

	(void)state;
	CHECK(&c, "ready\nresult 0 553 5.1.3 local\nresult 1 553 5.1.3 local\ndone\nready\nclose\n", GREET(""), BYE);
	c.messages = &sender;
	CHECK(&c, "ready\nresult 0 553 5.1.7 local\ndone\nready\nclose\n", GREET(""), BYE);
	c.messages = &null;
	CHECK(&c, "ready\nresult 0 550\ndone\nready\nclose\n", GREET(""), C("MAIL FROM:<>\r\n"), S("550 no\r\n"), BYE);
}

static void many_messages(void **state)
{
	static const struct psmtp_client_message m[3] = { { .sender = TEXT("s@a.test"), .rcpts = three, .rcpt_count = 1 },
		{ .sender = TEXT("s@a.test"), .rcpts = three, .rcpt_count = 1 }, { .sender = TEXT("s@a.test"), .rcpts = three,
			.rcpt_count = 1 } };
	struct caller c = caller_of(m, "hi\r\n");

	(void)state;
	c.message_count = 3;
	CHECK(&c,
		"ready\nrcpt 0 250\nbody\nresult 0 250\ndone\nready\nresult 0 550\ndone\nready\nrcpt 0 250\nbody\n"
		"result 0 250\ndone\nready\nclose\n",
		GREET(PIPE), C(MAIL1 RCPT0 "DATA\r\n"), S("250 a\r\n250 a\r\n354 go\r\n"), C("hi\r\n.\r\n"), S("250 ok\r\n"),
		C(MAIL1 RCPT0 "DATA\r\n"), S("550 a\r\n503 a\r\n503 a\r\n"), C(MAIL1 RCPT0 "DATA\r\n"),
		S("250 a\r\n250 a\r\n354 go\r\n"), C("hi\r\n.\r\n"), S("250 ok\r\n"), BYE);
	/* RFC 9422 section 4.1: no more than the server takes */
	CHECK(&c, "ready\nrcpt 0 250\nbody\nresult 0 250\ndone\nready\nresult 0 550\ndone\nclose\n",
		GREET(PIPE "250-LIMITS MAILMAX=2\r\n"), C(MAIL1 RCPT0 "DATA\r\n"), S("250 a\r\n250 a\r\n354 go\r\n"),
		C("hi\r\n.\r\n"), S("250 ok\r\n"), C(MAIL1 RCPT0 "DATA\r\n"), S("550 a\r\n503 a\r\n503 a\r\n"), BYE);
}

/* ---- what a message needs ---- */

#define NEEDS(field, words, wanted)                                                                                    \
	do {                                                                                                           \
		struct psmtp_client_message m = one_rcpt;                                                              \
		struct caller c = caller_of(&m, "hi\r\n");                                                             \
		m.field;                                                                                               \
		CHECK(&c, "ready\nresult 0 " wanted " local\ndone\nready\nclose\n", GREET(words), BYE);                 \
	} while (0)

static void needs(void **state)
{
	(void)state;
	NEEDS(has_8bit = true, "", "554 5.6.3");
	NEEDS(has_utf8 = true, "250-8BITMIME\r\n", "553 5.6.7");
	NEEDS(binary = true, "250-8BITMIME\r\n" BDAT, "554 5.6.3");
	NEEDS(binary = true, "250-BINARYMIME\r\n", "554 5.6.3");
	NEEDS(size = 1001, "250-SIZE 1000\r\n", "552 5.3.4");
	NEEDS(requiretls = true, "250-REQUIRETLS\r\n", "550 5.7.30"); /* in clear */
	NEEDS(sender = ((struct psmtp_view)TEXT("\xc3\xa4@a.test")), "", "553 5.6.7");
}

#define SAYS(field, words, line)                                                                                       \
	do {                                                                                                           \
		struct psmtp_client_message m = one_rcpt;                                                              \
		struct caller c = caller_of(&m, "hi\r\n");                                                             \
		m.field;                                                                                               \
		CHECK(&c, "ready\nresult 0 550\ndone\nready\nclose\n", GREET(words), C(line "\r\n"), S("550 no\r\n"), BYE);        \
	} while (0)

static void parameters(void **state)
{
	(void)state;
	SAYS(size = 1000, "250-SIZE 1000\r\n", "MAIL FROM:<s@a.test> SIZE=1000");
	SAYS(size = 1000, "250-SIZE\r\n", "MAIL FROM:<s@a.test> SIZE=1000");
	SAYS(size = 1000, "250-SIZE 0\r\n", "MAIL FROM:<s@a.test> SIZE=1000");
	SAYS(size = 1000, "", "MAIL FROM:<s@a.test>");
	SAYS(has_8bit = true, "250-8BITMIME\r\n", "MAIL FROM:<s@a.test> BODY=8BITMIME");
	SAYS(size = 0, "250-8BITMIME\r\n250-SMTPUTF8\r\n", "MAIL FROM:<s@a.test>");
	SAYS(has_utf8 = true, "250-SMTPUTF8\r\n", "MAIL FROM:<s@a.test> SMTPUTF8");
	SAYS(sender = ((struct psmtp_view)TEXT("\xc3\xa4@a.test")), "250-SMTPUTF8\r\n",
		"MAIL FROM:<\xc3\xa4@a.test> SMTPUTF8");
	SAYS(ret = PSMTP_RET_HDRS, "250-DSN\r\n", "MAIL FROM:<s@a.test> RET=HDRS");
	SAYS(ret = PSMTP_RET_FULL, "250-DSN\r\n", "MAIL FROM:<s@a.test> RET=FULL");
	SAYS(ret = PSMTP_RET_FULL, "", "MAIL FROM:<s@a.test>"); /* a missing DSN never fails mail */
	SAYS(envid = ((struct psmtp_view)TEXT("a b+c")), "250-DSN\r\n", "MAIL FROM:<s@a.test> ENVID=a+20b+2Bc");
	SAYS(envid = ((struct psmtp_view)TEXT("x")), "", "MAIL FROM:<s@a.test>");
}

#define RCPT_SAYS(field, words, line)                                                                                  \
	do {                                                                                                           \
		struct psmtp_client_rcpt r = three[0];                                                                 \
		struct psmtp_client_message m = one_rcpt;                                                              \
		struct caller c = caller_of(&m, "hi\r\n");                                                             \
		m.rcpts = &r;                                                                                          \
		r.field;                                                                                               \
		CHECK(&c, "ready\nrcpt 0 550\nresult 0 550\ndone\nready\nclose\n", GREET(words), C(MAIL1), S("250 ok\r\n"),      \
			C(line "\r\n"), S("550 no\r\n"), C("RSET\r\n"), S("250 ok\r\n"), BYE);                           \
	} while (0)

static void rcpt_parameters(void **state)
{
	struct psmtp_view type = TEXT("rfc822"), evil = TEXT("a b");

	(void)state;
	RCPT_SAYS(notify = PSMTP_NOTIFY_NEVER | PSMTP_NOTIFY_DELAY, "250-DSN\r\n", "RCPT TO:<r0@b.test> NOTIFY=NEVER");
	RCPT_SAYS(notify = 14, "250-DSN\r\n", "RCPT TO:<r0@b.test> NOTIFY=SUCCESS,FAILURE,DELAY");
	RCPT_SAYS(notify = PSMTP_NOTIFY_DELAY, "250-DSN\r\n", "RCPT TO:<r0@b.test> NOTIFY=DELAY");
	RCPT_SAYS(notify = PSMTP_NOTIFY_DELAY, "", "RCPT TO:<r0@b.test>");
	RCPT_SAYS(orcpt_type = type; r.orcpt = ((struct psmtp_view)TEXT("x=y@z")), "250-DSN\r\n",
		"RCPT TO:<r0@b.test> ORCPT=rfc822;x+3Dy@z");
	RCPT_SAYS(orcpt_type = type; r.orcpt = ((struct psmtp_view)TEXT("x=y@z")), "", "RCPT TO:<r0@b.test>");
	RCPT_SAYS(orcpt_type = evil; r.orcpt = ((struct psmtp_view)TEXT("x")), "250-DSN\r\n", "RCPT TO:<r0@b.test>");
	RCPT_SAYS(orcpt_type = type; r.orcpt = ((struct psmtp_view)TEXT("a\r\nb")), "250-DSN\r\n",
		"RCPT TO:<r0@b.test> ORCPT=rfc822;a+0D+0Ab");
}

/* A new SIZE after TLS counts, the old one does not; REQUIRETLS passes inside TLS when offered. */
static void needs_after_tls(void **state)
{
	struct psmtp_client_message m = one_rcpt;
	struct caller c = caller_of(&m, "hi\r\n");

	(void)state;
	c.options = peer_options(PSMTP_CLIENT_TLS_MUST);
	m.size = 500;
	m.requiretls = true;
	CHECK(&c, "tls_start\nready\nresult 0 552 5.3.4 local\ndone\nready\nclose\n",
		GREET("250-SIZE 1000\r\n250-STARTTLS\r\n"),
		C("STARTTLS\r\n"), S("220 go\r\n"), TLS, C("EHLO me.test\r\n"), S("250-mx\r\n250-REQUIRETLS\r\n250 SIZE 400\r\n"),
			BYE);
	CHECK(&c, "tls_start\nready\nresult 0 550\ndone\nready\nclose\n", GREET("250-SIZE 100\r\n250-STARTTLS\r\n"),
		C("STARTTLS\r\n"),
		S("220 go\r\n"), TLS, C("EHLO me.test\r\n"), S("250-mx\r\n250 REQUIRETLS\r\n"),
		C("MAIL FROM:<s@a.test> REQUIRETLS\r\n"), S("550 no\r\n"), BYE);
	CHECK(&c, "tls_start\nready\nresult 0 550 5.7.30 local\ndone\nready\nclose\n",
		GREET("250-REQUIRETLS\r\n250-STARTTLS\r\n"),
		C("STARTTLS\r\n"), S("220 go\r\n"), TLS, C("EHLO me.test\r\n"), S("250 mx\r\n"), BYE);
}

/* ---- the body ---- */

#define ONE_OK "ready\nrcpt 0 250\nbody\nresult 0 250\ndone\nready\nclose\n"
#define ONE_FLIGHT GREET(PIPE), C(MAIL1 RCPT0 "DATA\r\n"), S("250 a\r\n250 a\r\n354 go\r\n")

static void dots(void **state)
{
	static const struct {
		const char *body, *wire;
	} cases[] = {
		{ "", ".\r\n" },
		{ "a", "a\r\n.\r\n" },
		{ "a\r\n", "a\r\n.\r\n" },
		{ ".\r\n", "..\r\n.\r\n" },
		{ "..", "...\r\n.\r\n" },
		{ "a\r\n.b\r\n..c\r\n", "a\r\n..b\r\n...c\r\n.\r\n" },
		{ "a.b\r\n", "a.b\r\n.\r\n" },
		{ "a\nb", "a\r\nb\r\n.\r\n" },
		{ "a\n.\nb", "a\r\n..\r\nb\r\n.\r\n" },
		{ "a\rb", "a\r\nb\r\n.\r\n" },
		{ "a\r.\rb\r", "a\r\n..\r\nb\r\n.\r\n" },
		{ "a\r\r\nb", "a\r\n\r\nb\r\n.\r\n" },
		{ "\r\n.\r\nMAIL", "\r\n..\r\nMAIL\r\n.\r\n" },
		{ "a\n\r\n.\r\n", "a\r\n\r\n..\r\n.\r\n" },
		{ "\r", "\r\n.\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		for (size_t piece = 0; piece < 4; piece++) {
			struct caller c = caller_of(&one_rcpt, cases[i].body);

			c.body_piece = piece;
			peer_check_whole(&c, STEPS(ONE_FLIGHT, C(cases[i].wire), S("250 ok\r\n"), BYE), ONE_OK);
		}
}

static void bdat(void **state)
{
	struct caller c = caller_of(&one_rcpt, ".a\r\nb");
	struct psmtp_client_message bin = one_rcpt;

	(void)state;
	for (c.body_piece = 0; c.body_piece < 3; c.body_piece++) {
		CHECK(&c, ONE_OK, GREET(PIPE BDAT), C(MAIL1 RCPT0), S("250 a\r\n250 a\r\n"), C("BDAT 5 LAST\r\n.a\r\nb"),
			S("250 ok\r\n"), BYE);
		c.body = "a\nb\r";
		CHECK(&c, ONE_OK, GREET(PIPE BDAT), C(MAIL1 RCPT0), S("250 a\r\n250 a\r\n"), C("BDAT 6 LAST\r\na\r\nb\r\n"),
			S("250 ok\r\n"), BYE);
		c.body = "";
		CHECK(&c, ONE_OK, GREET(PIPE BDAT), C(MAIL1 RCPT0), S("250 a\r\n250 a\r\n"), C("BDAT 0 LAST\r\n"),
			S("250 ok\r\n"), BYE);
		c.body = ".a\r\nb";
	}
	/* all refused: no BDAT is sent */
	CHECK(&c, "ready\nrcpt 0 550\nresult 0 550\ndone\nready\nclose\n", GREET(PIPE BDAT), C(MAIL1 RCPT0),
		S("250 a\r\n550 a\r\n"),
		C("RSET\r\n"), S("250 ok\r\n"), BYE);
	/* not wanted */
	c.options.no_chunking = true;
	CHECK(&c, ONE_OK, GREET(PIPE BDAT), C(MAIL1 RCPT0 "DATA\r\n"), S("250 a\r\n250 a\r\n354 go\r\n"),
		C("..a\r\nb\r\n.\r\n"),
		S("250 ok\r\n"), BYE);
	c.options.no_chunking = false;
	/* no PIPELINING: each command waits for its reply */
	CHECK(&c, ONE_OK, GREET(BDAT), C(MAIL1), S("250 a\r\n"), C(RCPT0), S("250 a\r\n"), C("BDAT 5 LAST\r\n.a\r\nb"),
		S("250 ok\r\n"), BYE);
	bin.binary = true;
	c.messages = &bin;
	c.body = "a\nb\r";
	CHECK(&c, ONE_OK, GREET(BDAT "250-BINARYMIME\r\n"), C("MAIL FROM:<s@a.test> BODY=BINARYMIME\r\n"), S("250 a\r\n"),
		C(RCPT0),
		S("250 a\r\n"), C("BDAT 4 LAST\r\na\nb\r"), S("250 ok\r\n"), BYE);
}

/* A body of several chunks: written ahead with PIPELINING, one by one without. */
static void bdat_many(void **state)
{
	struct psmtp_client_message bin = one_rcpt;
	struct caller c;
	char *body = malloc(100001), *wire = malloc(100200), *first = malloc(40000), *rest = malloc(100001);

	(void)state;
	memset(body, 'x', 100000);
	body[100000] = 0;
	bin.binary = true;
	c = caller_of(&bin, body);
	snprintf(wire, 100200,
		"BDAT 32768\r\n%.32768sBDAT 32768\r\n%.32768sBDAT 32768\r\n%.32768sBDAT 1696 LAST\r\n%.1696s", body,
		body, body, body);
	peer_check_whole(&c, STEPS(GREET(PIPE BDAT "250-BINARYMIME\r\n"),
		C("MAIL FROM:<s@a.test> BODY=BINARYMIME\r\n" RCPT0),
		S("250 a\r\n250 a\r\n"), C(wire), S("250 a\r\n250 b\r\n250 c\r\n250 ok\r\n"), BYE), ONE_OK);
	snprintf(first, 40000, "BDAT 32768\r\n%.32768s", body);
	snprintf(rest, 100001, "BDAT 1696 LAST\r\n%.1696s", body);
	peer_check_whole(&c, STEPS(GREET(BDAT "250-BINARYMIME\r\n"), C("MAIL FROM:<s@a.test> BODY=BINARYMIME\r\n"),
		S("250 a\r\n"),
		C(RCPT0), S("250 a\r\n"), C(first), S("250 a\r\n"), C(first), S("250 a\r\n"), C(first), S("250 a\r\n"), C(rest),
		S("250 ok\r\n"), BYE), ONE_OK);
	/* a chunk is refused while others are under way: each is answered, then RSET */
	peer_check_whole(&c, STEPS(GREET(PIPE BDAT "250-BINARYMIME\r\n"),
		C("MAIL FROM:<s@a.test> BODY=BINARYMIME\r\n" RCPT0),
		S("250 a\r\n250 a\r\n"), C(wire), S("250 a\r\n552 b\r\n503 c\r\n503 d\r\n"), C("RSET\r\n"), S("250 ok\r\n"), BYE),
		"ready\nrcpt 0 250\nbody\nresult 0 552\ndone\nready\nclose\n");
	/* ... and while the body is still being read: the rest is swallowed */
	peer_check_whole(&c, STEPS(GREET(BDAT "250-BINARYMIME\r\n"), C("MAIL FROM:<s@a.test> BODY=BINARYMIME\r\n"),
		S("250 a\r\n"),
		C(RCPT0), S("250 a\r\n"), C(first), S("250 a\r\n"), C(first), S("451 a\r\n"), C("RSET\r\n"), S("250 ok\r\n"), BYE),
		"ready\nrcpt 0 250\nbody\nresult 0 451\ndone\nready\nclose\n");
	free(body), free(wire), free(first), free(rest);
}

/* A large body through a small output, in every size of piece that matters. */
static void large(void **state)
{
	struct caller c;
	char *body = malloc(300001), *wire = malloc(400000);
	size_t n = 0;

	(void)state;
	for (size_t i = 0; i < 300000;) { /* lines of many lengths, many of which begin with a dot */
		size_t len = (i * 7919) % 1500;

		for (size_t j = 0; j < len && i < 299998; j++)
			body[i++] = j % 13 ? 'y' : '.';
		body[i++] = '\r';
		if (i < 300000)
			body[i++] = '\n';
	}
	body[300000] = 0;
	for (size_t i = 0; i < 300000; i++) {
		if (body[i] == '.' && (i == 0 || body[i - 1] == '\n'))
			wire[n++] = '.';
		wire[n++] = body[i];
	}
	if (wire[n - 1] == '\r')
		wire[n++] = '\n';
	memcpy(wire + n, ".\r\n", 4);
	c = caller_of(&one_rcpt, body);
	for (c.body_piece = 0; c.body_piece < 100000; c.body_piece = c.body_piece ? c.body_piece * 10 - 3 : 37)
		peer_check_whole(&c, STEPS(ONE_FLIGHT, C(wire), S("250 ok\r\n"), BYE), ONE_OK);
	free(body), free(wire);
}

static void aborted(void **state)
{
	struct caller c = caller_of(&one_rcpt, "half a message\r\n");

	(void)state;
	c.body_open = true;
	CHECK(&c, "ready\nrcpt 0 250\nbody\nfailed temporary 0 body_aborted\nclose\n", ONE_FLIGHT, C("half a message\r\n"),
		ABORT_BODY);
	CHECK(&c, "ready\nrcpt 0 250\nbody\nfailed temporary 0 body_aborted\nclose\n", GREET(PIPE BDAT), C(MAIL1 RCPT0),
		S("250 a\r\n250 a\r\n"), ABORT_BODY);
	CHECK(&c, "ready\nrcpt 0 250\nbody\nfailed temporary 0 timeout\nclose\n", ONE_FLIGHT, C("half a message\r\n"),
		WAIT(179999), WAIT(1));
	CHECK(&c, "ready\nrcpt 0 250\nbody\nfailed protocol 250 early_reply\nclose\n", ONE_FLIGHT, C("half a message\r\n"),
		S("250 ok\r\n"));
	CHECK(&c, "ready\nrcpt 0 250\nbody\nfailed temporary 421 closing\nclose\n", ONE_FLIGHT, C("half a message\r\n"),
		S("421 bye\r\n"));
	CHECK(&c, "ready\nrcpt 0 250\nbody\nfailed temporary 0 peer_closed\nclose\n", ONE_FLIGHT, C("half a message\r\n"),
		END_OF_FILE);
}

/* ---- the end ---- */

static void maybe(void **state)
{
	struct caller c = caller_of(&one_rcpt, "hi\r\n");

	(void)state;
	CHECK(&c, "ready\nrcpt 0 250\nbody\nfailed temporary 0 peer_closed maybe\nclose\n", ONE_FLIGHT, C("hi\r\n.\r\n"),
		END_OF_FILE);
	CHECK(&c, "ready\nrcpt 0 250\nbody\nfailed temporary 0 timeout maybe\nclose\n", ONE_FLIGHT, C("hi\r\n.\r\n"),
		WAIT(599999), WAIT(1));
	CHECK(&c, "ready\nrcpt 0 250\nbody\nfailed temporary 0 peer_closed maybe\nclose\n", GREET(PIPE BDAT), C(MAIL1 RCPT0),
		S("250 a\r\n250 a\r\n"), C("BDAT 4 LAST\r\nhi\r\n"), END_OF_FILE);
	/* 421 is an answer: refused for now, and known */
	CHECK(&c, "ready\nrcpt 0 250\nbody\nresult 0 421\ndone\nfailed temporary 421 closing\nclose\n", ONE_FLIGHT,
		C("hi\r\n.\r\n"), S("421 bye\r\n"));
	CHECK(&c, "ready\nrcpt 0 250\nbody\nfailed protocol 354 odd_reply maybe\nclose\n", ONE_FLIGHT, C("hi\r\n.\r\n"),
		S("354 what\r\n"));
	/* before 354 nothing can have been delivered */
	CHECK(&c, "ready\nrcpt 0 250\nfailed temporary 0 timeout\nclose\n", GREET(PIPE), C(MAIL1 RCPT0 "DATA\r\n"),
		S("250 a\r\n250 a\r\n"), WAIT(119999), WAIT(1));
}

/* The last octet of the dot has not left: a reply now answers nothing, and nothing was delivered. */
static void dot_unsent(void **state)
{
	extern const struct psmtp_allocator message_allocator;
	static const char *replies[] = { "220 mx\r\n", "250-mx\r\n250 PIPELINING\r\n", "250 a\r\n250 a\r\n354 go\r\n",
		"250 ok\r\n" };
	struct psmtp_client_options o = peer_options(PSMTP_CLIENT_TLS_NONE);

	(void)state;
	for (int eof = 0; eof < 2; eof++) {
		struct psmtp_client *c = psmtp_client_new(&o, &message_allocator, 0);
		struct psmtp_client_event e = { .type = PSMTP_CLIENT_CLOSE };

		for (int i = 0; i < 3; i++) {
			for (size_t at = 0; at < strlen(replies[i]);) {
				at += psmtp_client_feed(c, 1, replies[i] + at, strlen(replies[i]) - at, 0);
				while (psmtp_client_next(c, &e, 0))
					if (e.type == PSMTP_CLIENT_READY)
						psmtp_client_send(c, &one_rcpt, 0);
			}
			psmtp_client_sent(c, psmtp_client_output(c).n, 0);
		}
		assert_int_equal(psmtp_client_body(c, "hi\r\n", 4, true, 0), 4);
		psmtp_client_sent(c, psmtp_client_output(c).n - 1, 0);
		assert_int_equal(psmtp_client_deadline(c), 180000); /* a block, not the final reply */
		if (eof)
			psmtp_client_peer_closed(c, 0);
		else
			psmtp_client_feed(c, 1, replies[3], strlen(replies[3]), 0);
		assert_int_equal(psmtp_client_output(c).n, 0); /* the dot can never leave now */
		assert_true(psmtp_client_next(c, &e, 0));
		assert_int_equal(e.type, PSMTP_CLIENT_FAILED);
		assert_int_equal(e.fault, eof ? PSMTP_FAULT_TEMPORARY : PSMTP_FAULT_PROTOCOL);
		assert_false(e.maybe_delivered);
		psmtp_client_free(c);
	}
}

static void lmtp(void **state)
{
	struct caller c = caller_of(&three_rcpts, "hi\r\n");

	(void)state;
	c.options.lmtp = true;
	CHECK(&c,
		"ready\nrcpt 0 250\nrcpt 1 550\nresult 1 550\nrcpt 2 250\nbody\nresult 0 250\nresult 2 452\ndone\nready\nclose\n",
		LGREET(PIPE), FLIGHT3, S("250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n"), C("hi\r\n.\r\n"),
			S("250 ok\r\n452 full\r\n"), BYE);
	CHECK(&c,
		"ready\nrcpt 0 250\nrcpt 1 250\nrcpt 2 250\nbody\nresult 0 250\nresult 1 550\nresult 2 250\ndone\nready\nclose\n",
		LGREET(PIPE BDAT), C(MAIL1 RCPT0 RCPT1 RCPT2), S("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"),
			C("BDAT 4 LAST\r\nhi\r\n"),
		S("250 ok\r\n550 no\r\n250 ok\r\n"), BYE);
	/* the session breaks in the middle of the final replies */
	CHECK(&c,
		"ready\nrcpt 0 250\nrcpt 1 250\nrcpt 2 250\nbody\nresult 0 250\nfailed temporary 421 closing maybe\nclose\n",
		LGREET(PIPE), FLIGHT3, S("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"), C("hi\r\n.\r\n"),
			S("250 ok\r\n421 bye\r\n"));
	CHECK(&c,
		"ready\nrcpt 0 550\nresult 0 550\nrcpt 1 550\nresult 1 550\nrcpt 2 550\nresult 2 550\ndone\n"
		"failed protocol 354 data_no_rcpt\nclose\n",
		LGREET(PIPE), FLIGHT3, S("250 ok\r\n550 no\r\n550 no\r\n550 no\r\n354 go\r\n"));
}

static void *libc_resize(void *arg, void *old, size_t size)
{
	(void)arg;
	if (size)
		return realloc(old, size);
	free(old);
	return NULL;
}
const struct psmtp_allocator message_allocator = { libc_resize, NULL };

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lockstep), cmocka_unit_test(pipelined), cmocka_unit_test(rset_refused), cmocka_unit_test(too_many),
		cmocka_unit_test(addresses), cmocka_unit_test(many_messages), cmocka_unit_test(needs), cmocka_unit_test(parameters),
		cmocka_unit_test(rcpt_parameters), cmocka_unit_test(needs_after_tls), cmocka_unit_test(dots),
		cmocka_unit_test(bdat), cmocka_unit_test(bdat_many), cmocka_unit_test(large), cmocka_unit_test(aborted), cmocka_unit_test(maybe),
		cmocka_unit_test(dot_unsent), cmocka_unit_test(lmtp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
