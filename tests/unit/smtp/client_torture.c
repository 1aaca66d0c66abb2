/* client_torture.c - the client under strain: large flights, a peer that answers at random, memory that runs out. */
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
#define BYE C("QUIT\r\n"), S("221 bye\r\n")
#define PIPE "250-PIPELINING\r\n"
#define BDAT "250-CHUNKING\r\n"
#define MAIL1 "MAIL FROM:<s@a.test>\r\n"
#define RCPT012 "RCPT TO:<r0@b.test>\r\nRCPT TO:<r1@b.test>\r\nRCPT TO:<r2@b.test>\r\n"

static const struct psmtp_client_rcpt three[] = { { .address = TEXT("r0@b.test") }, { .address = TEXT("r1@b.test") },
	{ .address = TEXT("r2@b.test") } };
static const struct psmtp_client_message three_rcpts = { .sender = TEXT("s@a.test"), .rcpts = three, .rcpt_count = 3 };

static struct caller caller_of(const struct psmtp_client_message *m, const char *body)
{
	return (struct caller){ .options = peer_options(PSMTP_CLIENT_TLS_NONE), .messages = m, .message_count = 1,
		.body = body };
}

/* ---- many recipients ---- */

/* More recipients than the output holds: the flight goes in parts, and no reply is missed. */
static void many_recipients(void **state)
{
	enum { N = 1500 };
	static char names[N][80], wire[N * 100], replies[N * 10], transcript[N * 32];
	static struct psmtp_client_rcpt rcpts[N];
	static const char *fill = "a-long-name-so-that-the-flight-is-larger-than-the-output";
	const struct psmtp_client_message m = { .sender = TEXT("s@a.test"), .rcpts = rcpts, .rcpt_count = N };
	struct caller c = caller_of(&m, "hi\r\n");
	size_t w, r, t;

	(void)state;
	w = (size_t)snprintf(wire, sizeof wire, MAIL1);
	r = (size_t)snprintf(replies, sizeof replies, "250 ok\r\n");
	t = (size_t)snprintf(transcript, sizeof transcript, "ready\n");
	for (unsigned i = 0; i < N; i++) {
		bool no = i == 9 || i == N - 1;
		int n = snprintf(names[i], sizeof names[i], "%s%u@b.test", fill, i);

		rcpts[i].address = (struct psmtp_view){ names[i], (size_t)n };
		w += (size_t)snprintf(wire + w, sizeof wire - w, "RCPT TO:<%s>\r\n", names[i]);
		r += (size_t)snprintf(replies + r, sizeof replies - r, no ? "550 no\r\n" : "250 ok\r\n");
		t += (size_t)snprintf(transcript + t, sizeof transcript - t,
			no ? "rcpt %u 550\nresult %u 550\n" : "rcpt %u 250\n", i, i);
	}
	snprintf(wire + w, sizeof wire - w, "DATA\r\n");
	snprintf(replies + r, sizeof replies - r, "354 go\r\n");
	t += (size_t)snprintf(transcript + t, sizeof transcript - t, "body\n");
	for (unsigned i = 0; i < N; i++)
		if (i != 9 && i != N - 1)
			t += (size_t)snprintf(transcript + t, sizeof transcript - t, "result %u 250\n", i);
	snprintf(transcript + t, sizeof transcript - t, "done\nready\nclose\n");
	peer_check_whole(&c, STEPS(GREET(PIPE), C(wire), S(replies), C("hi\r\n.\r\n"), S("250 ok\r\n"), BYE), transcript);
}

/* MAIL is refused while most of the flight has not been written: what was written is answered, no more is said. */
static void flight_cut(void **state)
{
	enum { N = 5000 };
	extern const struct psmtp_allocator message_allocator;
	static struct psmtp_client_rcpt rcpts[N];
	static const char *replies[] = { "220 mx\r\n", "250-mx\r\n250 PIPELINING\r\n" };
	const struct psmtp_client_message m = { .sender = TEXT("s@a.test"), .rcpts = rcpts, .rcpt_count = N };
	struct psmtp_client_options o = peer_options(PSMTP_CLIENT_TLS_NONE);
	struct psmtp_client *c = psmtp_client_new(&o, &message_allocator, 0);
	struct psmtp_client_event e;
	unsigned results = 0, said = 0;

	(void)state;
	for (int i = 0; i < N; i++)
		rcpts[i].address = (struct psmtp_view)TEXT("somebody-with-a-name@somewhere.test");
	for (int i = 0; i < 2; i++) {
		psmtp_client_feed(c, 1, replies[i], strlen(replies[i]), 0);
		psmtp_client_sent(c, psmtp_client_output(c).n, 0);
	}
	assert_true(psmtp_client_next(c, &e, 0) && e.type == PSMTP_CLIENT_READY);
	assert_int_equal(psmtp_client_send(c, &m, 0), 0);
	assert_true(psmtp_client_output(c).n <= 65536);
	for (size_t i = 0; i < psmtp_client_output(c).n; i++)
		said += psmtp_client_output(c).p[i] == '\n';
	psmtp_client_sent(c, 22, 0); /* MAIL alone has left */
	psmtp_client_feed(c, 1, "550 no\r\n", 8, 0);
	while (psmtp_client_next(c, &e, 0))
		results += e.type == PSMTP_CLIENT_RESULT && e.rcpt_index == results && e.reply.code == 550;
	assert_int_equal(results, N);
	psmtp_client_sent(c, psmtp_client_output(c).n, 0);
	assert_int_equal(psmtp_client_output(c).n, 0);
	for (unsigned i = 1; i < said; i++) {
		assert_false(psmtp_client_next(c, &e, 0));
		psmtp_client_feed(c, 1, "503 no\r\n", 8, 0);
	}
	assert_true(psmtp_client_next(c, &e, 0) && e.type == PSMTP_CLIENT_DONE);
	assert_true(psmtp_client_next(c, &e, 0) && e.type == PSMTP_CLIENT_READY);
	psmtp_client_free(c);
}

/* ---- a peer out of its mind ---- */

struct oracle {
	unsigned results, messages, done;
	bool open, over, failed;
};

/* What must hold of the events, whatever the peer says. */
static void oracle_event(struct oracle *o, const struct psmtp_client_event *e)
{
	assert_false(o->over); /* CLOSE is the last */
	switch (e->type) {
	case PSMTP_CLIENT_READY:
		assert_true(!o->open && !o->failed);
		break;
	case PSMTP_CLIENT_RESULT:
		assert_true(o->open && e->rcpt_index < 3 && !(o->results & 1u << e->rcpt_index));
		assert_true(e->reply.code >= 200 && e->reply.code < 600 && e->reply.code / 100 != 3);
		o->results |= 1u << e->rcpt_index;
		break;
	case PSMTP_CLIENT_DONE:
		assert_true(o->open && o->results == 7);
		o->open = false;
		o->done++;
		break;
	case PSMTP_CLIENT_FAILED:
		assert_false(o->failed);
		assert_non_null(e->reason);
		o->failed = true;
		break;
	case PSMTP_CLIENT_CLOSE:
		o->over = true;
		break;
	default:
		assert_false(o->failed);
		break;
	}
}

static void mad_session(unsigned seed, unsigned *settled)
{
	static const char *words[] = { "220 mx\r\n", "250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n",
		"354 go\r\n",
		"550 no\r\n", "451 later\r\n", "421 bye\r\n", "250-mx\r\n250-PIPELINING\r\n250 STARTTLS\r\n",
		"250-mx\r\n250-CHUNKING\r\n250 PIPELINING\r\n", "334 eA==\r\n", "235 ok\r\n", "25", "0 x\r\n", "\r\n" };
	extern const struct psmtp_allocator message_allocator;
	struct psmtp_client_options o = peer_options((enum psmtp_client_tls)(1 + seed % 3));
	struct psmtp_client *c;
	struct psmtp_client_event e;
	struct oracle oracle = { 0 };
	uint64_t now = 0;
	unsigned epoch = 1, x = seed * 2654435761u;

	o.lmtp = seed & 8;
	c = psmtp_client_new(&o, &message_allocator, now);
	for (int i = 0; i < 60 && !oracle.over; i++) {
		const char *word = words[(x = x * 1103515245 + 12345) >> 16 & 15];

		if (i < 2) /* far enough in most of the time */
			word = words[i ? (seed >> 4 & 1) + 10 : 0];
		if (i == 59)
			psmtp_client_peer_closed(c, now);
		for (size_t at = 0; at < strlen(word);) {
			at += psmtp_client_feed(c, epoch, word + at, strlen(word) - at, now);
			while (psmtp_client_next(c, &e, now)) {
				oracle_event(&oracle, &e);
				if (e.type == PSMTP_CLIENT_READY && oracle.messages++ < 5) {
					oracle.open = true;
					oracle.results = 0;
					assert_int_equal(psmtp_client_send(c, &three_rcpts, now), 0);
				} else if (e.type == PSMTP_CLIENT_READY) {
					psmtp_client_quit(c, now);
				} else if (e.type == PSMTP_CLIENT_TLS_START && !psmtp_client_tls_up(c, &(struct psmtp_tls_facts){ 0 }, now)) {
					epoch = 2;
				}
			}
		}
		psmtp_client_body(c, ".hi\r\n", 5, x >> 20 & 1, now);
		if ((x >> 21 & 7) != 7) /* mostly everything leaves at once */
			psmtp_client_sent(c, psmtp_client_output(c).n, now);
		if ((x >> 24 & 63) == 63)
			psmtp_client_timeout(c, now = psmtp_client_deadline(c) == UINT64_MAX ? now : psmtp_client_deadline(c));
	}
	while (psmtp_client_next(c, &e, now))
		oracle_event(&oracle, &e);
	assert_true(oracle.over);
	*settled += oracle.done;
	psmtp_client_free(c);
}

static void mad_peer(void **state)
{
	unsigned settled = 0;

	(void)state;
	for (unsigned seed = 0; seed < 20000; seed++)
		mad_session(seed, &settled);
	assert_true(settled > 1000); /* it was not all over before it began */
}

/* ---- memory ---- */

static void memory(void **state)
{
	struct caller c = caller_of(&three_rcpts, "hi\r\n"), auth;
	unsigned n;

	(void)state;
	for (n = 1; !peer_check_memory(&c, STEPS(GREET(PIPE), C(MAIL1 RCPT012 "DATA\r\n"),
		S("250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n"),
		C("hi\r\n.\r\n"), S("250 ok\r\n"), BYE), n); n++)
		;
	assert_true(n > 5);
	for (n = 1; !peer_check_memory(&c, STEPS(GREET(PIPE BDAT), C(MAIL1 RCPT012),
		S("250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n"), C("BDAT 4 LAST\r\nhi\r\n"), S("250 ok\r\n"), BYE), n); n++)
		;
	assert_true(n > 5);
	auth = (struct caller){ .options = peer_options(PSMTP_CLIENT_TLS_MUST), .answers = { "-", "x", "y" } };
	auth.options.auth_mechanism = (struct psmtp_view)TEXT("LOGIN");
	for (n = 1; !peer_check_memory(&auth, STEPS(GREET("250-STARTTLS\r\n"), C("STARTTLS\r\n"), S("220 go\r\n"), TLS,
		C("EHLO me.test\r\n"), S("250-mx\r\n250 AUTH LOGIN\r\n"), C("AUTH LOGIN\r\n"), S("334 VXNlcm5hbWU6\r\n"),
		C("eA==\r\n"), S("334 VXNlcm5hbWU6\r\n"), C("eQ==\r\n"), S("235 ok\r\n"), BYE), n); n++)
		;
	assert_true(n > 5);
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
		cmocka_unit_test(many_recipients), cmocka_unit_test(flight_cut), cmocka_unit_test(mad_peer), cmocka_unit_test(memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
