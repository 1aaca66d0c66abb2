/* server_limits.c - deadlines, sizes and counts, STARTTLS, AUTH, BDAT and LMTP as the caller of the library sees them.
 *
 * What is only a matter of words on the wire is in tests/dialog; here stands what needs a clock, a count or the
 * events. */
#include "server_rig.h"
#include "smtp/server_state.h"

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

/* One octet a second, until the session ends; the time it took, in ms. */
static uint64_t drip(struct rig *r, const char *octets, size_t n)
{
	uint64_t from = r->now;

	for (size_t i = 0; !r->closes && r->now - from < 10000000; i++) {
		uint64_t due = psmtp_server_deadline(r->s);

		r->now += 1000;
		if (due <= r->now) {
			psmtp_server_timeout(r->s, due);
			rig_drain(r);
		} else {
			rig_feed(r, octets + i % n, 1);
		}
	}
	return r->now - from;
}

static void test_whole_line_has_a_deadline(void **state)
{
	struct rig *r = fresh(NULL);
	size_t was;

	(void)state;
	rig_say(r, "EHLO c.test\r\n");
	was = r->out_len;
	assert_in_range(drip(r, "x", 1), 299000, 301000); /* not between its octets: 300 s in all */
	starts(r->out + was, "421 4.4.2 ");
	assert_string_equal(r->close_reason, "timeout");
	rig_close(r);
}

static void test_whole_handshake_has_a_deadline(void **state)
{
	struct rig *r = fresh(NULL);
	size_t was;

	(void)state;
	rig_say(r, "EHLO c.test\r\nSTARTTLS\r\n");
	was = r->out_len;
	assert_int_equal(psmtp_server_deadline(r->s), r->now + 60000);
	r->now += 59999;
	psmtp_server_timeout(r->s, r->now); /* too early: nothing */
	rig_drain(r);
	assert_int_equal(r->closes, 0);
	r->now += 1;
	psmtp_server_timeout(r->s, r->now);
	rig_drain(r);
	assert_string_equal(r->close_reason, "timeout");
	assert_int_equal(r->out_len, was); /* no words in the middle of a handshake */
	rig_close(r);
}

static void test_whole_message_has_a_deadline(void **state)
{
	struct rig *r = fresh(NULL);

	(void)state;
	to_rcpt(r);
	rig_say(r, "DATA\r\n");
	assert_in_range(drip(r, "abcdefg\r\n", 9), 599000, 603000); /* 600 s and 600 octets at 512/s */
	assert_string_equal(r->close_reason, "timeout");
	assert_int_equal(r->resets, 1);
	rig_close(r);
}

static void test_octets_buy_time(void **state)
{
	struct rig *r = fresh(NULL);
	static char block[5120];
	uint64_t from;

	(void)state;
	memset(block, 'x', sizeof block);
	to_rcpt(r);
	rig_say(r, "DATA\r\n");
	from = r->now;
	for (int i = 0; i < 10; i++)
		rig_feed(r, block, sizeof block);
	assert_int_equal(psmtp_server_deadline(r->s), from + 600000 + 100 * 1000);
	rig_close(r);
}

static void test_chunks_share_the_deadline_of_their_message(void **state)
{
	struct rig *r = fresh(NULL);

	(void)state;
	to_rcpt(r);
	assert_in_range(drip(r, "BDAT 1\r\nx", 9), 607000, 613000); /* 8 s for the first line; no line was ever late */
	assert_string_equal(r->close_reason, "timeout");
	rig_close(r);
}

static void test_a_verdict_has_no_deadline(void **state)
{
	struct rig *r = fresh(NULL);

	(void)state;
	r->hold = true;
	rig_say(r, "EHLO c.test\r\n");
	assert_true(psmtp_server_deadline(r->s) == UINT64_MAX);
	psmtp_server_timeout(r->s, r->now + 1000000000);
	assert_int_equal(psmtp_server_answer(r->s, &(struct psmtp_verdict){ .kind = PSMTP_YES }, r->now + 1000000000), 0);
	assert_true(psmtp_server_deadline(r->s) == r->now + 1000300000);
	rig_close(r);
}

static void test_input_and_output_are_bounded(void **state)
{
	struct psmtp_server_options o = usual();
	static char noops[200000];
	struct psmtp_server_event e;
	size_t taken = 0, took;
	struct rig *r;

	(void)state;
	o.idle_limit = 1000000;
	r = fresh(&o);
	for (size_t i = 0; i + 6 <= sizeof noops; i += 6)
		memcpy(noops + i, "NOOP\r\n", 6);
	while ((took = psmtp_server_feed(r->s, 1, noops + taken, 199998 - taken, r->now)) > 0) {
		taken += took;
		while (psmtp_server_next(r->s, &e, r->now)) {
		}
	}
	assert_true(taken < 199998); /* the peer does not read: the rest waits outside */
	assert_true(psmtp_server_output(r->s).n < 20000);
	while (taken < 199998) {
		psmtp_server_sent(r->s, psmtp_server_output(r->s).n, r->now);
		while (psmtp_server_next(r->s, &e, r->now)) {
		}
		taken += psmtp_server_feed(r->s, 1, noops + taken, 199998 - taken, r->now);
	}
	rig_close(r);
}

/* Commands without a message are counted; one that is taken begins the count anew, and RCPT has its own. */
static void test_idle_commands(void **state)
{
	struct psmtp_server_options o = usual();
	struct rig *r;

	(void)state;
	o.idle_limit = 5;
	o.rcpt_limit = 2;
	r = fresh(&o);
	for (int i = 0; i < 3; i++) {
		rig_ask(r, i ? "NOOP\r\n" : "EHLO c.test\r\n");
		rig_say(r, "MAIL FROM:<a@b.test>\r\n");
		for (int k = 0; k < 8; k++)
			rig_ask(r, "RCPT TO:<x@b.test>\r\n");
		rig_ask(r, "DATA\r\n");
		starts(rig_ask(r, "x\r\n.\r\n"), "250 ");
	}
	for (int i = 0; i < 5; i++)
		starts(rig_ask(r, "RSET\r\n"), "250 ");
	starts(rig_ask(r, "RSET\r\n"), "421 4.7.0 ");
	assert_string_equal(r->close_reason, "idle_commands");
	rig_close(r);
	r = fresh(&o);
	rig_ask(r, "HELO c.test\r\n");
	starts(rig_ask(r, "MAIL FROM:<a@b.test>\r\n"), "250 ");
	for (unsigned i = 0; i < 2 + SERVER_RCPT_TRIES; i++) {
		starts(rig_ask(r, "RCPT TO:<x@b.test>\r\n"), i < 2 ? "250 " : "452 ");
		r->out_len = 0;
	}
	starts(rig_ask(r, "RCPT TO:<x@b.test>\r\n"), "421 4.7.0 ");
	assert_string_equal(r->close_reason, "idle_commands");
	rig_close(r);
}

static void test_size(void **state)
{
	struct psmtp_server_options o = usual();
	struct rig *r;
	size_t n;

	(void)state;
	o.size_limit = 20;
	r = fresh(&o);
	rig_say(r, "EHLO c.test\r\n");
	assert_non_null(strstr(r->out, "250-SIZE 20\r\n"));
	starts(rig_ask(r, "MAIL FROM:<a@b.test> SIZE=21\r\n"), "552 5.3.4 ");
	starts(rig_ask(r, "MAIL FROM:<a@b.test> SIZE=20\r\nRCPT TO:<c@d.test>\r\nDATA\r\n"), "250 2.1.0 ");
	starts(rig_ask(r, "0123456789\r\n0123456789\r\n.\r\n"), "552 5.3.4 ");
	assert_int_equal(r->ends, 0);
	assert_int_equal(r->resets, 1);
	assert_true(r->body_len <= 20);
	n = r->out_len;
	rig_say(r, "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n012345678901234567\r\n.\r\n");
	assert_non_null(strstr(r->out + n, "250 2.0.0 Message accepted")); /* 20 octets are 20 */
	rig_close(r);
}

static void test_rcpt_limit(void **state)
{
	struct psmtp_server_options o = usual();
	struct rig *r;

	(void)state;
	o.rcpt_limit = 2;
	r = fresh(&o);
	to_rcpt(r);
	starts(rig_ask(r, "RCPT TO:<e@d.test>\r\n"), "250 ");
	starts(rig_ask(r, "RCPT TO:<f@d.test>\r\n"), "452 4.5.3 ");
	assert_string_equal(r->rcpt, "e@d.test"); /* the caller was not asked */
	starts(rig_ask(r, "DATA\r\n"), "354 ");
	assert_int_equal(r->last_question.rcpt_count, 2);
	rig_close(r);
}

static void test_mail_limit(void **state)
{
	struct psmtp_server_options o = usual();
	struct rig *r;

	(void)state;
	o.mail_limit = 2;
	r = fresh(&o);
	rig_say(r, "EHLO c.test\r\n");
	assert_non_null(strstr(r->out, "250-LIMITS RCPTMAX=1000 MAILMAX=2\r\n"));
	rig_say(r, "MAIL FROM:<a@b.test>\r\nRSET\r\nMAIL FROM:<a@b.test>\r\nRSET\r\n");
	starts(rig_ask(r, "MAIL FROM:<a@b.test>\r\n"), "421 4.7.0 ");
	assert_string_equal(r->close_reason, "mail_limit");
	rig_close(r);
}

static void test_many_recipients_do_not_eat_memory(void **state)
{
	struct rig *r = fresh(NULL);
	size_t requests;

	(void)state;
	to_rcpt(r);
	rig_say(r, "RCPT TO:<f@d.test> ORCPT=rfc822;f@d.test\r\n");
	requests = r->requests;
	for (int i = 0; i < 900; i++)
		starts(rig_ask(r, "RCPT TO:<e@d.test> ORCPT=rfc822;e@d.test\r\n"), "250 ");
	assert_true(r->requests - requests < 4);
	rig_close(r);
}

static void test_shutdown_waits_for_the_message(void **state)
{
	struct rig *r = fresh(NULL);
	const struct psmtp_reply words = { .code = 421, .enhanced = { 4, 3, 2 }, .text = { "mx.test going", 13 } };
	size_t was;

	(void)state;
	to_rcpt(r);
	rig_say(r, "DATA\r\nhello\r\n");
	was = r->out_len;
	psmtp_server_shutdown(r->s, &words, r->now);
	rig_drain(r);
	assert_int_equal(r->closes, 0);
	rig_say(r, ".\r\n");
	starts(r->out + was, "250 2.0.0 Message accepted\r\n421 4.3.2 mx.test going\r\n");
	assert_string_equal(r->close_reason, "shutdown");
	rig_close(r);
}

static void test_idle_gives_memory_back(void **state)
{
	struct rig *r = fresh(NULL);

	(void)state;
	to_rcpt(r);
	rig_say(r, "DATA\r\nx\r\n.\r\n");
	psmtp_server_idle(r->s);
	assert_int_equal(r->blocks, 1); /* the session itself */
	starts(rig_ask(r, "MAIL FROM:<a@b.test>\r\n"), "250 ");
	psmtp_server_idle(r->s);
	starts(rig_ask(r, "RCPT TO:<a@b.test>\r\nDATA\r\n"), "250 ");
	rig_close(r);
}

/* ---- STARTTLS ---- */

static void test_starttls_asks_only_when_it_would_say_220(void **state)
{
	struct rig *r = fresh(NULL);
	unsigned asks;

	(void)state;
	rig_say(r, "EHLO c.test\r\n");
	asks = r->asks;
	rig_say(r, "STARTTLS x\r\n");
	rig_say(r, "MAIL FROM:<a@b.test>\r\n");
	rig_say(r, "STARTTLS\r\n");
	assert_int_equal(r->asks, asks + 1); /* MAIL's */
	rig_close(r);
}

static void test_last_read_decides_quiet(void **state)
{
	struct rig *r = fresh(NULL);
	size_t was;

	(void)state;
	rig_say(r, "EHLO c.test\r\n");
	was = r->out_len;
	r->hold = true;
	rig_say(r, "STARTTLS\r\n");
	assert_int_equal(r->last_question.type, PSMTP_SERVER_STARTTLS);
	assert_int_equal(psmtp_server_feed(r->s, 1, "X", 1, r->now), 1); /* net's one more read */
	assert_int_equal(psmtp_server_answer(r->s, &(struct psmtp_verdict){ .kind = PSMTP_YES }, r->now), 0);
	rig_drain(r);
	starts(r->out + was, "554 5.5.1 ");
	assert_string_equal(r->close_reason, "starttls_pending");
	rig_close(r);
}

static void test_refused_starttls_goes_on(void **state)
{
	struct rig *r = fresh(NULL);
	const char *got;

	(void)state;
	rig_say(r, "EHLO c.test\r\n");
	rig_rule(r, PSMTP_SERVER_STARTTLS, "", PSMTP_NO_TEMPORARY, 0, NULL);
	got = rig_ask(r, "STARTTLS\r\nMAIL FROM:<a@b.test>\r\n");
	starts(got, "454 4.7.0 ");
	starts(strchr(got, '\n') + 1, "250 2.1.0 ");
	rig_close(r);
}

static void test_everything_is_forgotten_at_tls(void **state)
{
	struct psmtp_server_options o = usual();
	struct psmtp_server_facts f;
	struct rig *r;

	(void)state;
	o.auth = (struct psmtp_view){ "PLAIN", 5 };
	o.auth_in_clear = true;
	r = fresh(&o);
	rig_say(r, "EHLO c.test\r\nAUTH PLAIN AGEAYg==\r\nSTARTTLS\r\n");
	rig_tls(r);
	psmtp_server_get_facts(r->s, &f);
	assert_int_equal(f.identity.n + f.hello.n, 0);
	assert_int_equal(f.hello_kind, 0);
	starts(rig_ask(r, "MAIL FROM:<a@b.test>\r\n"), "503 5.5.1 ");
	rig_close(r);
}

/* ---- AUTH, BDAT, LMTP ---- */

static void test_auth_lines_of_any_legal_length(void **state)
{
	struct psmtp_server_options o = usual();
	static char line[13000];
	struct rig *r;

	(void)state;
	o.auth = (struct psmtp_view){ "X", 1 };
	o.auth_in_clear = true;
	r = fresh(&o);
	rig_say(r, "EHLO c.test\r\n");
	rig_rule(r, PSMTP_SERVER_AUTH, "", PSMTP_CHALLENGE, 0, "more");
	starts(rig_ask(r, "AUTH X\r\n"), "334 bW9yZQ==\r\n");
	memset(line, 'A', 12288);
	memcpy(line + 12288, "\r\n", 3);
	starts(rig_ask(r, line), "235 2.7.0 ");
	assert_int_equal(r->last_question.auth_data.n, 9216);
	rig_close(r);
	r = fresh(&o);
	rig_say(r, "EHLO c.test\r\n");
	rig_rule(r, PSMTP_SERVER_AUTH, "", PSMTP_CHALLENGE, 0, "more");
	rig_say(r, "AUTH X\r\n");
	memcpy(line + 12288, "AAAA\r\n", 7);
	starts(rig_ask(r, line), "500 5.5.6 ");
	starts(rig_ask(r, "NOOP\r\n"), "250 ");
	rig_close(r);
}

static void test_bdat_octets_are_no_commands(void **state)
{
	struct rig *r = fresh(NULL);
	const char *got;

	(void)state;
	rig_say(r, "EHLO c.test\r\n");
	got = rig_ask(r, "BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nNOOP\r\nNOOP\r\n");
	starts(got, "503 5.5.1 ");
	got = strchr(got, '\n') + 1;
	starts(got, "503 5.5.1 ");
	starts(strchr(got, '\n') + 1, "250 2.0.0 Ok");
	assert_int_equal(r->closes, 0);
	rig_close(r);
}

static void test_a_failed_chunk_ends_the_transaction(void **state)
{
	struct rig *r = fresh(NULL);
	const char *got;

	(void)state;
	to_rcpt(r);
	rig_rule(r, PSMTP_SERVER_BODY_BEGIN, "", PSMTP_NO_TEMPORARY, 452, "Disk full");
	got = rig_ask(r, "BDAT 3\r\nabcRCPT TO:<x@d.test>\r\nBDAT 3 LAST\r\ndef");
	starts(got, "452 Disk full");
	got = strchr(got, '\n') + 1;
	starts(got, "503 5.5.1 ");
	got = strchr(got, '\n') + 1;
	starts(got, "503 5.5.1 ");
	assert_int_equal(r->body_len + r->ends, 0);
	assert_int_equal(r->resets, 1);
	rig_close(r);
}

static void test_lmtp_one_verdict_and_reply_each(void **state)
{
	struct psmtp_server_options o = usual();
	struct rig *r;
	const char *got;

	(void)state;
	o.lmtp = true;
	r = fresh(&o);
	rig_say(r, "LHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<1@d.test>\r\nRCPT TO:<2@d.test>\r\n"
		   "RCPT TO:<3@d.test>\r\nDATA\r\n");
	rig_rule(r, PSMTP_SERVER_BODY_END, "", PSMTP_YES, 250, "one");
	rig_rule(r, PSMTP_SERVER_BODY_END, "", PSMTP_NO_TEMPORARY, 451, "two");
	rig_rule(r, PSMTP_SERVER_BODY_END, "", PSMTP_NO_PERMANENT, 550, "three");
	got = rig_ask(r, "x\r\n.\r\n");
	assert_string_equal(got, "250 one\r\n451 two\r\n550 three\r\n");
	assert_int_equal(r->ends, 3);
	assert_int_equal(r->last_question.rcpt_index, 2);
	assert_int_equal(r->resets, 0); /* somebody took it */
	got = rig_ask(r, "MAIL FROM:<a@b.test>\r\nRCPT TO:<1@d.test>\r\nRCPT TO:<2@d.test>\r\nBDAT 3 LAST\r\na\nb");
	got = strstr(got, "554");
	assert_string_equal(got, "554 5.6.0 Message holds a bare CR, a bare LF or a NUL\r\n"
				 "554 5.6.0 Message holds a bare CR, a bare LF or a NUL\r\n");
	rig_close(r);
}

static void test_overrun_ends_the_session(void **state)
{
	struct psmtp_server_options o = usual();
	static char block[65536];
	struct rig *r;
	size_t n = 0;

	(void)state;
	o.size_limit = 1000;
	r = fresh(&o);
	memset(block, 'x', sizeof block);
	to_rcpt(r);
	rig_say(r, "DATA\r\n");
	for (; !r->closes && n < 100u * 1024 * 1024; n += sizeof block)
		rig_feed(r, block, sizeof block);
	assert_string_equal(r->close_reason, "overrun");
	assert_true(n < 18u * 1024 * 1024);
	rig_close(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_line_has_a_deadline),
		cmocka_unit_test(test_whole_handshake_has_a_deadline),
		cmocka_unit_test(test_whole_message_has_a_deadline),
		cmocka_unit_test(test_octets_buy_time),
		cmocka_unit_test(test_chunks_share_the_deadline_of_their_message),
		cmocka_unit_test(test_a_verdict_has_no_deadline),
		cmocka_unit_test(test_input_and_output_are_bounded),
		cmocka_unit_test(test_idle_commands),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_rcpt_limit),
		cmocka_unit_test(test_mail_limit),
		cmocka_unit_test(test_many_recipients_do_not_eat_memory),
		cmocka_unit_test(test_shutdown_waits_for_the_message),
		cmocka_unit_test(test_idle_gives_memory_back),
		cmocka_unit_test(test_starttls_asks_only_when_it_would_say_220),
		cmocka_unit_test(test_last_read_decides_quiet),
		cmocka_unit_test(test_refused_starttls_goes_on),
		cmocka_unit_test(test_everything_is_forgotten_at_tls),
		cmocka_unit_test(test_auth_lines_of_any_legal_length),
		cmocka_unit_test(test_bdat_octets_are_no_commands),
		cmocka_unit_test(test_a_failed_chunk_ends_the_transaction),
		cmocka_unit_test(test_lmtp_one_verdict_and_reply_each),
		cmocka_unit_test(test_overrun_ends_the_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
