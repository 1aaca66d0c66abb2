/* server.c - the server's conduct: each bullet that some well-known server gets wrong, as a test.  Errors first. */
#include "server_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct rig *fresh(const struct psmtp_server_options *o)
{
	struct rig *r = calloc(1, sizeof *r);

	assert_non_null(r);
	rig_open(r, o);
	return r;
}

static struct psmtp_server_options usual(void)
{
	return (struct psmtp_server_options){ .hostname = { "mx.test", 7 }, .tls = PSMTP_TLS_STARTTLS };
}

static void starts(const char *text, const char *with)
{
	if (strncmp(text, with, strlen(with)) != 0)
		fail_msg("expected \"%s\", got \"%.200s\"", with, text);
}

static void to_rcpt(struct rig *r)
{
	rig_say(r, "EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n");
}

static void is_open(struct rig *r)
{
	assert_int_equal(r->closes, 0);
	starts(rig_ask(r, "NOOP\r\n"), "250 2.0.0 ");
}

static void is_closed(struct rig *r, const char *reason)
{
	size_t n = r->out_len;

	assert_int_equal(r->closes, 1);
	assert_string_equal(r->close_reason, reason);
	rig_say(r, "NOOP\r\n");
	assert_int_equal(r->out_len, n);
}

/* ---- lines ---- */

static void test_rest_of_long_line_is_no_command(void **state)
{
	struct rig *r = fresh(NULL);
	char line[3000];
	const char *got;

	(void)state;
	memset(line, 'x', sizeof line);
	memcpy(line + 600, " RCPT TO:<c@d.test>", 19);
	memcpy(line + 2400, " NOOP\n NOOP\r NOOP", 17);
	memcpy(line + sizeof line - 3, "\r\n", 3);
	got = rig_ask(r, line);
	starts(got, "500 5.5.2 ");
	assert_ptr_equal(strchr(got, '\n')[1] ? got : NULL, NULL); /* one reply */
	is_open(r);
	rig_close(r);
}

static void test_bare_newline_hides_no_command(void **state)
{
	struct rig *r = fresh(NULL);
	const char *got = rig_ask(r, "NOOP\nQUIT\r\n");

	(void)state;
	starts(got, "500 5.5.2 ");
	assert_int_equal(r->closes, 0);
	starts(rig_ask(r, "NOOP\rQUIT\r\n"), "500 5.5.2 ");
	rig_feed(r, "NO\0OP\r\n", 7); /* a NUL never cuts a line */
	assert_int_equal(r->reject_code, 500);
	is_open(r);
	rig_close(r);
}

static void test_replies_echo_nothing(void **state)
{
	struct rig *r = fresh(NULL);

	(void)state;
	rig_say(r, "EHLO \x1b[31mred\r\nXYZZY\x1b\xff\r\nMAIL FROM:<\xff@b>\r\nVRFY <\x7f>\r\n"
		   "HELO \xff\r\nRCPT TO:<\xc3\xa4@b>\r\n");
	for (size_t i = 0; i < r->out_len; i++)
		assert_true((r->out[i] >= ' ' && r->out[i] <= '~') || r->out[i] == '\r' || r->out[i] == '\n');
	assert_null(strstr(r->out, "red"));
	assert_null(strstr(r->out, "XYZZY"));
	rig_close(r);
}

static void test_own_words_are_tamed(void **state)
{
	struct rig *r = fresh(NULL);
	static char words[1500];
	size_t at = 0;

	(void)state;
	rig_say(r, "EHLO c.test\r\n");
	memset(words, 'w', sizeof words - 1);
	words[3] = '\r';
	words[5] = '\xff';
	rig_rule(r, PSMTP_SERVER_MAIL, "", PSMTP_NO_PERMANENT, 550, words);
	at = r->out_len;
	rig_say(r, "MAIL FROM:<a@b.test>\r\n");
	for (char *line = r->out + at; *line;) {
		size_t n = strcspn(line, "\n") + 1;

		assert_true(n <= 512);
		assert_memory_equal(line, "550", 3);
		assert_null(memchr(line, '\xff', n));
		assert_ptr_equal(memchr(line, '\r', n), line + n - 2);
		line += n;
	}
	is_open(r);
	rig_close(r);
}

static void test_http_is_dropped(void **state)
{
	static const char *const requests[] = { "GET / HTTP/1.1\r\nHost: mx.test\r\n\r\nEHLO x\r\n",
		"POST /x HTTP/1.0\r\nNOOP\r\n",
		"CONNECT mx.test:25 HTTP/1.1\r\n\r\n" };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct rig *r = fresh(NULL);

		starts(rig_ask(r, requests[i]), "554 5.5.1 ");
		assert_null(strstr(r->out, "250"));
		is_closed(r, "http");
		rig_close(r);
	}
}

static void test_error_budget(void **state)
{
	struct psmtp_server_options o = usual();
	struct rig *r;

	(void)state;
	o.error_limit = 3;
	r = fresh(&o);
	for (int i = 0; i < 3; i++)
		starts(rig_ask(r, "XYZZY\r\n"), "500 5.5.2 ");
	starts(rig_ask(r, "NOOP\r\nNOOP\r\n"), "421 4.7.0 ");
	is_closed(r, "error_budget");
	rig_close(r);
}

static void test_before_ehlo(void **state)
{
	struct rig *r = fresh(NULL);

	(void)state;
	starts(rig_ask(r, "RSET\r\n"), "250 2.0.0 ");
	starts(rig_ask(r, "NOOP ignored words\r\n"), "250 2.0.0 ");
	starts(rig_ask(r, "HELP\r\n"), "214 2.0.0 ");
	starts(rig_ask(r, "VRFY root\r\n"), "252 2.5.0 ");
	starts(rig_ask(r, "EXPN list\r\n"), "502 5.5.1 ");
	starts(rig_ask(r, "MAIL FROM:<a@b.test>\r\n"), "503 5.5.1 ");
	starts(rig_ask(r, "RCPT TO:<a@b.test>\r\n"), "503 5.5.1 ");
	starts(rig_ask(r, "DATA\r\n"), "503 5.5.1 ");
	starts(rig_ask(r, "QUIT\r\n"), "221 2.0.0 ");
	is_closed(r, "quit");
	rig_close(r);
}

/* ---- the end of the connection ---- */

static void test_peer_closed_ends(void **state)
{
	struct rig *r = fresh(NULL);

	(void)state;
	to_rcpt(r);
	psmtp_server_peer_closed(r->s, r->now);
	rig_drain(r);
	assert_int_equal(r->resets, 1);
	is_closed(r, "peer_closed");
	rig_close(r);
}

static void test_what_came_before_the_end_is_served(void **state)
{
	struct rig *r = fresh(NULL);

	(void)state;
	r->hold = true;
	rig_say(r, "EHLO c.test\r\n");
	psmtp_server_peer_closed(r->s, r->now);
	rig_drain(r);
	assert_int_equal(r->closes, 0); /* a verdict is owed */
	assert_int_equal(psmtp_server_answer(r->s, &(struct psmtp_verdict){ .kind = PSMTP_YES }, r->now), 0);
	rig_drain(r);
	is_closed(r, "peer_closed");
	rig_close(r);
}

static void test_nothing_in_clear_after_tls(void **state)
{
	struct rig *r = fresh(NULL);

	(void)state;
	rig_say(r, "EHLO c.test\r\nSTARTTLS\r\n");
	rig_tls(r);
	psmtp_server_feed(r->s, 1, "NOOP\r\n", 6, r->now);
	rig_drain(r);
	is_closed(r, "wrong_epoch");
	rig_close(r);
}

static void test_nothing_between_220_and_tls(void **state)
{
	struct rig *r = fresh(NULL);
	size_t n;

	(void)state;
	rig_say(r, "EHLO c.test\r\nSTARTTLS\r\n");
	n = r->out_len;
	rig_say(r, "EHLO again.test\r\n");
	assert_int_equal(r->out_len, n);
	is_closed(r, "wrong_epoch");
	rig_close(r);
}

static void test_tls_waits_for_the_220_to_leave(void **state)
{
	struct rig *r = fresh(NULL);
	struct psmtp_server_event e;

	(void)state;
	rig_say(r, "EHLO c.test\r\n");
	assert_int_equal(psmtp_server_feed(r->s, 1, "STARTTLS\r\n", 10, r->now), 10);
	assert_true(psmtp_server_next(r->s, &e, r->now));
	assert_int_equal(e.type, PSMTP_SERVER_STARTTLS);
	assert_int_equal(psmtp_server_answer(r->s, &(struct psmtp_verdict){ .kind = PSMTP_YES }, r->now), 0);
	assert_int_equal(psmtp_server_tls_up(r->s, NULL, r->now), -1); /* TLS_START not taken, 220 not sent */
	assert_true(psmtp_server_next(r->s, &e, r->now));
	assert_int_equal(e.type, PSMTP_SERVER_TLS_START);
	assert_int_equal(psmtp_server_tls_up(r->s, NULL, r->now), -1);
	psmtp_server_sent(r->s, psmtp_server_output(r->s).n, r->now);
	assert_int_equal(psmtp_server_tls_up(r->s, NULL, r->now), 0);
	rig_close(r);
}

/* ---- transactions ---- */

static void test_rcpt_survives_refusals(void **state)
{
	struct rig *r = fresh(NULL);

	(void)state;
	rig_rule(r, PSMTP_SERVER_RCPT, "no@", PSMTP_NO_PERMANENT, 550, "No such user");
	to_rcpt(r);
	rig_say(r, "RCPT TO:<no@d.test>\r\nRCPT TO:<bad\r\nMAIL FROM:<x@y.test>\r\nEHLO\r\nRSET x\r\nSTARTTLS\r\nDATA x\r\n");
	assert_int_equal(r->resets, 0);
	starts(rig_ask(r, "DATA\r\n"), "354 ");
	assert_int_equal(r->last_question.rcpt_count, 1);
	starts(rig_ask(r, "x\r\n.\r\n"), "250 2.0.0 ");
	assert_string_equal(r->sender, "a@b.test");
	rig_close(r);
}

static void test_refused_message_resets(void **state)
{
	struct rig *r = fresh(NULL);

	(void)state;
	rig_rule(r, PSMTP_SERVER_BODY_END, "", PSMTP_NO_TEMPORARY, 0, NULL);
	to_rcpt(r);
	rig_say(r, "DATA\r\nx\r\n.\r\n");
	assert_int_equal(r->resets, 1);
	starts(rig_ask(r, "DATA\r\n"), "503 5.5.1 ");
	starts(rig_ask(r, "RCPT TO:<c@d.test>\r\n"), "503 5.5.1 ");
	starts(rig_ask(r, "MAIL FROM:<a@b.test>\r\n"), "250 ");
	rig_close(r);
}

static void test_ehlo_resets_and_refused_ehlo_does_not(void **state)
{
	struct rig *r = fresh(NULL);

	(void)state;
	rig_rule(r, PSMTP_SERVER_HELLO, "evil", PSMTP_NO_PERMANENT, 550, "Not you");
	to_rcpt(r);
	starts(rig_ask(r, "EHLO evil.test\r\n"), "550 ");
	assert_int_equal(r->resets, 0);
	starts(rig_ask(r, "EHLO other.test\r\n"), "250-mx.test");
	assert_int_equal(r->resets, 1);
	starts(rig_ask(r, "RCPT TO:<c@d.test>\r\n"), "503 5.5.1 ");
	rig_close(r);
}

static void test_bare_newlines_are_refused_at_the_true_end(void **state)
{
	static const struct { const char *text, *reason; size_t n; } bodies[] = {
		{ "a\nb\r\n.\r\n", "bare_lf", 8 }, { "a\rb\r\n.\r\n", "bare_cr", 8 }, { "a\0b\r\n.\r\n", "nul", 8 },
		{ "a\n.\r\nMAIL FROM:<evil@b.test>\r\n.\r\n", "bare_lf", 33 }, { "a\r\n.\nNOOP\r\n.\r\n", "bare_lf", 14 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
		struct rig *r = fresh(NULL);
		size_t was;

		to_rcpt(r);
		rig_say(r, "DATA\r\n");
		was = r->out_len;
		rig_feed(r, bodies[i].text, bodies[i].n);
		starts(r->out + was, "554 5.6.0 ");
		assert_int_equal(strcspn(r->out + was, "\n") + 1, r->out_len - was); /* one reply, no smuggled command */
		assert_int_equal(r->ends, 0); /* nobody was asked to commit */
		assert_int_equal(r->resets, 1);
		assert_string_equal(r->reject_reason, bodies[i].reason);
		is_open(r);
		rig_close(r);
	}
}

static void test_normalised_only_when_asked(void **state)
{
	struct psmtp_server_options o = usual();
	struct rig *r;

	(void)state;
	o.bare = PSMTP_BARE_NORMALISE;
	r = fresh(&o);
	to_rcpt(r);
	starts(rig_ask(r, "DATA\r\n"), "354");
	starts(rig_ask(r, "a\nb\r\n.\r\n"), "250 2.0.0 ");
	assert_string_equal(r->body, "a\r\nb\r\n");
	rig_close(r);
}

static void test_octets_are_kept(void **state)
{
	struct rig *r = fresh(NULL);
	static char line[3002];

	(void)state;
	memset(line, '\xe9', sizeof line - 2);
	memcpy(line + sizeof line - 2, "\r\n", 2);
	to_rcpt(r);
	rig_say(r, "DATA\r\n..dot\r\n");
	rig_feed(r, line, sizeof line);
	starts(rig_ask(r, ".\r\n"), "250 ");
	assert_int_equal(r->body_len, 6 + sizeof line);
	assert_memory_equal(r->body, ".dot\r\n", 6);
	assert_memory_equal(r->body + 6, line, sizeof line);
	assert_int_equal(r->last_question.body_size, r->body_len);
	rig_close(r);
}

static void test_pipelined_behind_the_dot(void **state)
{
	struct rig *r = fresh(NULL);

	(void)state;
	to_rcpt(r);
	rig_say(r, "DATA\r\nx\r\n.\r\nNOOP\r\nMAIL FROM:<n@b.test>\r\nQUIT\r\n");
	assert_string_equal(r->sender, "n@b.test");
	assert_non_null(strstr(r->out, "354 "));
	is_closed(r, "quit");
	rig_close(r);
}

static void test_order_of_replies_and_one_flight(void **state)
{
	struct rig *r = fresh(NULL);
	const char *got;

	(void)state;
	rig_say(r, "EHLO c.test\r\n");
	rig_rule(r, PSMTP_SERVER_RCPT, "two", PSMTP_NO_TEMPORARY, 450, "Later");
	got = rig_ask(r, "MAIL FROM:<a@b.test>\r\nRCPT TO:<one@d.test>\r\nRCPT TO:<two@d.test>\r\nXYZZY\r\nDATA\r\n");
	starts(got, "250 2.1.0 ");
	got = strchr(got, '\n') + 1;
	starts(got, "250 2.1.5 ");
	got = strchr(got, '\n') + 1;
	starts(got, "450 Later");
	got = strchr(got, '\n') + 1;
	starts(got, "500 5.5.2 ");
	got = strchr(got, '\n') + 1;
	starts(got, "354 ");
	rig_close(r);
}

static void test_nothing_moves_while_a_verdict_is_owed(void **state)
{
	struct rig *r = fresh(NULL);
	size_t n;

	(void)state;
	rig_say(r, "EHLO c.test\r\n");
	r->hold = true;
	n = r->out_len;
	rig_say(r, "MAIL FROM:<a@b.test>\r\nNOOP\r\nQUIT\r\n");
	assert_int_equal(r->out_len, n);
	assert_int_equal(r->closes, 0);
	assert_int_equal(psmtp_server_feed(r->s, 1, "NOOP\r\n", 6, r->now), 0);
	assert_int_equal(
		psmtp_server_answer(r->s, &(struct psmtp_verdict){ .kind = PSMTP_YES, .reply = { .code = 550 } }, r->now), -1);
	assert_int_equal(psmtp_server_answer(r->s, &(struct psmtp_verdict){ .kind = PSMTP_CHALLENGE }, r->now), -1);
	assert_int_equal(psmtp_server_answer(r->s, &(struct psmtp_verdict){ .kind = PSMTP_YES }, r->now), 0);
	assert_int_equal(psmtp_server_answer(r->s, &(struct psmtp_verdict){ .kind = PSMTP_YES }, r->now), -1);
	rig_drain(r);
	is_closed(r, "quit");
	rig_close(r);
}

/* ---- facts for the trace ---- */

static void with_is(struct rig *r, const char *word)
{
	struct psmtp_server_facts f;

	psmtp_server_get_facts(r->s, &f);
	assert_int_equal(f.with.n, strlen(word));
	assert_memory_equal(f.with.p, word, f.with.n);
}

static void test_with_words(void **state)
{
	struct psmtp_server_options o = usual();
	struct psmtp_server_facts f;
	struct rig *r;

	(void)state;
	o.auth = (struct psmtp_view){ "PLAIN", 5 };
	r = fresh(&o);
	rig_say(r, "HELO c.test\r\n");
	with_is(r, "SMTP");
	rig_say(r, "EHLO clear.test\r\n");
	with_is(r, "ESMTP");
	rig_say(r, "MAIL FROM:<a@b.test>\r\n");
	with_is(r, "ESMTP");
	rig_say(r, "RSET\r\nMAIL FROM:<a@b.test> SMTPUTF8\r\n");
	with_is(r, "UTF8SMTP");
	rig_say(r, "RSET\r\nSTARTTLS\r\n");
	rig_tls(r);
	psmtp_server_get_facts(r->s, &f);
	assert_int_equal(f.hello.n, 0); /* the name said in clear goes nowhere */
	assert_true(f.tls);
	rig_say(r, "HELO c.test\r\n");
	with_is(r, "SMTP"); /* with the TLS clause */
	rig_say(r, "EHLO inside.test\r\n");
	with_is(r, "ESMTPS");
	starts(rig_ask(r, "AUTH PLAIN AGEAYg==\r\n"), "235 2.7.0 ");
	with_is(r, "ESMTPSA");
	rig_say(r, "MAIL FROM:<a@b.test> SMTPUTF8\r\n");
	with_is(r, "UTF8SMTPSA");
	psmtp_server_get_facts(r->s, &f);
	assert_int_equal(f.identity.n, 8);
	assert_memory_equal(f.hello.p, "inside.test", 11);
	rig_close(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rest_of_long_line_is_no_command),
		cmocka_unit_test(test_bare_newline_hides_no_command),
		cmocka_unit_test(test_replies_echo_nothing),
		cmocka_unit_test(test_own_words_are_tamed),
		cmocka_unit_test(test_http_is_dropped),
		cmocka_unit_test(test_error_budget),
		cmocka_unit_test(test_before_ehlo),
		cmocka_unit_test(test_peer_closed_ends),
		cmocka_unit_test(test_what_came_before_the_end_is_served),
		cmocka_unit_test(test_nothing_in_clear_after_tls),
		cmocka_unit_test(test_nothing_between_220_and_tls),
		cmocka_unit_test(test_tls_waits_for_the_220_to_leave),
		cmocka_unit_test(test_rcpt_survives_refusals),
		cmocka_unit_test(test_refused_message_resets),
		cmocka_unit_test(test_ehlo_resets_and_refused_ehlo_does_not),
		cmocka_unit_test(test_bare_newlines_are_refused_at_the_true_end),
		cmocka_unit_test(test_normalised_only_when_asked),
		cmocka_unit_test(test_octets_are_kept),
		cmocka_unit_test(test_pipelined_behind_the_dot),
		cmocka_unit_test(test_order_of_replies_and_one_flight),
		cmocka_unit_test(test_nothing_moves_while_a_verdict_is_owed),
		cmocka_unit_test(test_with_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
