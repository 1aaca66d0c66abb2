/* screen.c - tests of cmd/screen.c and cmd/client_trace.c: what a peer wrote never drives a terminal, lines end where they should,
 * and the dialog is the same however its octets were cut. */
#include "cmd/client.h"
#include "cmd/screen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* What a function prints to its stream, in memory. */
struct sheet {
	FILE *to;
	char *text;
	size_t n;
};

static void sheet_open(struct sheet *s)
{
	*s = (struct sheet){ 0 };
	s->to = open_memstream(&s->text, &s->n);
	assert_non_null(s->to);
}

static void sheet_is(struct sheet *s, const char *expected)
{
	fclose(s->to);
	assert_string_equal(s->text, expected);
	free(s->text);
}

static void peer_is(const char *text, size_t n, bool lines, const char *expected)
{
	struct sheet s;

	sheet_open(&s);
	screen_peer(text, n, lines, s.to);
	sheet_is(&s, expected);
}
#define PEER(literal, lines, expected) peer_is(literal, sizeof literal - 1, lines, expected)

static void control_octets_become_question_marks(void **state)
{
	(void)state;
	PEER("a\x1b[31mb\x7f\0c\r\n", false, "a?[31mb??c??");
	PEER("a\tb\r\nc\rd\n", true, "a\tb\nc?d\n");
	PEER("\xc2\x9b" "31m", false, "??31m"); /* C1: CSI in two octets of UTF-8 */
	PEER("\x9b" "31m\xff\xfe", false, "?31m??");
	PEER("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x93\xab", false, "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x93\xab");
	PEER("\xc0\x80 \xe0\x80\x80 \xed\xa0\x80 \xf4\x90\x80\x80 \xc3", false, "?? ??? ??? ???? ?"); /* RFC 3629 section 3 */
}

static void lines_end_at_the_width(void **state)
{
	struct screen_line l = { .n = 0 };
	struct sheet s;

	(void)state;
	sheet_open(&s);
	screen_add(&l, "%s", "0123456789");
	screen_end(&l, 10, s.to);
	screen_add(&l, "%s%d", "0123456789", 5);
	screen_end(&l, 10, s.to);
	screen_add(&l, "\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc");
	screen_end(&l, 4, s.to);
	screen_end(&l, 0, s.to);
	sheet_is(&s, "0123456789\n0123456...\n\xc3\xbc...\n\n");
}

static void a_line_has_an_end_without_a_width_too(void **state)
{
	struct screen_line l = { .n = 0 };
	struct sheet s;

	(void)state;
	sheet_open(&s);
	for (int i = 0; i < 10000; i++)
		screen_add(&l, "xxxxxxxxxx");
	screen_end(&l, 0, s.to);
	fclose(s.to);
	assert_int_equal(s.n, sizeof l.text - 1 + 4);
	assert_string_equal(s.text + s.n - 5, "x...\n");
	assert_int_equal(l.n, 0);
	free(s.text);
}

static void numbers_get_units(void **state)
{
	char unit[SCREEN_UNIT], when[SCREEN_TIME];

	(void)state;
	assert_string_equal(screen_size(0, unit), "0 B");
	assert_string_equal(screen_size(9999, unit), "9999 B");
	assert_string_equal(screen_size(10240, unit), "10 KiB");
	assert_string_equal(screen_size(INT64_MAX, unit), "8388608 TiB");
	assert_string_equal(screen_span(-5, unit), "now");
	assert_string_equal(screen_span(119999, unit), "119 s");
	assert_string_equal(screen_span(120000, unit), "2 min");
	assert_string_equal(screen_span(7200000, unit), "2 h");
	assert_string_equal(screen_span(INT64_MAX, unit), "106751991167 d");
	assert_string_equal(screen_time(0, when), "-");
}

static const char said[] = "EHLO x\r\nDATA\r\n";
static const char content[] = "a: b\r\n\r\n..dot\r\n.\r\nMAIL FROM:<>\r\nBDAT 7\r\n.\r\nabcdBDAT 2 LAST\r\n\r\nQUIT\r\n";

static void play(struct client_trace *t, const char *text, size_t n, size_t cut)
{
	client_trace_output(t, view_of(text, cut));
	client_trace_output(t, view_of(text + cut, n - cut));
}

static void the_content_is_counted_however_it_is_cut(void **state)
{
	(void)state;
	for (size_t cut = 0; cut < sizeof content; cut++) {
		struct client_trace t;
		struct sheet s;

		sheet_open(&s);
		client_trace_init(&t, s.to);
		play(&t, said, sizeof said - 1, cut % sizeof said);
		client_trace_body(&t);
		play(&t, content, sizeof content - 1, cut == sizeof content ? 0 : cut);
		sheet_is(&s, "C: EHLO x\nC: DATA\nC: (15 octets of the message)\nC: .\nC: MAIL FROM:<>\nC: BDAT 7\n"
			     "C: (7 octets of the message)\nC: BDAT 2 LAST\nC: (2 octets of the message)\nC: QUIT\n");
	}
}

static void chunks_are_not_taken_for_lines(void **state)
{
	struct client_trace t;
	struct sheet s;

	(void)state;
	sheet_open(&s);
	client_trace_init(&t, s.to);
	client_trace_output(&t, VIEW("RCPT TO:<a@b.test>\r\n"));
	client_trace_body(&t); /* BODY of a message that goes by BDAT */
	client_trace_output(&t, VIEW("BDAT 3 LAST\r\nx\r\n"));
	client_trace_output(&t, VIEW("QUIT\r\n"));
	sheet_is(&s, "C: RCPT TO:<a@b.test>\nC: BDAT 3 LAST\nC: (3 octets of the message)\nC: QUIT\n");
}

static void secrets_are_stars(void **state)
{
	struct client_trace t;
	struct sheet s;

	(void)state;
	sheet_open(&s);
	client_trace_init(&t, s.to);
	t.tls = t.secret = true;
	client_trace_output(&t, VIEW("AUTH PLAIN AGEAYg==\r\nAUTH LOGIN\r\nYQ==\r\n*\r\n"));
	t.secret = false;
	client_trace_output(&t, VIEW("QUIT\r\n"));
	sheet_is(&s, "TLS C: AUTH PLAIN ********\nTLS C: AUTH LOGIN ********\nTLS C: ********\nTLS C: *\nTLS C: QUIT\n");
}

static void a_server_s_lines_are_cut(void **state)
{
	struct client_trace t;
	struct sheet s;
	char longest[CLIENT_LINE + 64];

	(void)state;
	memset(longest, 'x', sizeof longest);
	sheet_open(&s);
	client_trace_init(&t, s.to);
	client_trace_input(&t, view_of(longest, sizeof longest));
	client_trace_input(&t, VIEW("yyy\r\n220 next\r\n22"));
	fclose(s.to);
	assert_int_equal(s.n, strlen("S: ") + CLIENT_LINE + strlen(" ...\nS: 220 next\n"));
	assert_string_equal(s.text + 3 + CLIENT_LINE, " ...\nS: 220 next\n");
	free(s.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(control_octets_become_question_marks),
		cmocka_unit_test(lines_end_at_the_width),
		cmocka_unit_test(a_line_has_an_end_without_a_width_too),
		cmocka_unit_test(numbers_get_units),
		cmocka_unit_test(the_content_is_counted_however_it_is_cut),
		cmocka_unit_test(chunks_are_not_taken_for_lines),
		cmocka_unit_test(secrets_are_stars),
		cmocka_unit_test(a_server_s_lines_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
