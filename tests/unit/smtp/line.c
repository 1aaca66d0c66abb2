/* line.c - framing of command lines: what ends one, what spoils one, what is too long; whole and byte by byte. */
#include "parse_test.h"
#include "smtp/line.h"

#define LIMIT 16

/* Feeds bytes step octets at a time through a buffer as a session would, and writes down what comes out. */
static void run(struct view input, size_t step, size_t limit, char *log, size_t cap)
{
	struct smtp_line_state s = { 0 };
	char *held = malloc(input.n + 1);
	size_t have = 0, fed = 0, used = 0;

	log[0] = '\0';
	while (fed < input.n || have) {
		size_t n = input.n - fed < step ? input.n - fed : step;
		struct smtp_line line;
		struct view shown;

		memcpy(held + have, input.p + fed, n);
		have += n;
		fed += n;
		shown = exact(view_of(held, have));
		while ((line = smtp_line_read(&s, shown, limit)).kind != SMTP_LINE_NONE || line.take) {
			struct view rest;

			assert_true(line.take <= shown.n);
			if (line.kind == SMTP_LINE_GOOD)
				used += (size_t)snprintf(log + used, cap - used, "%s(%.*s)", line.eight_bit ? "8" : "",
					VIEW_ARGS(line.text));
			else if (line.kind != SMTP_LINE_NONE)
				used += (size_t)snprintf(log + used, cap - used, "!%s ", line.reason);
			rest = exact(view_slice(shown, line.take, shown.n));
			drop(shown);
			shown = rest;
		}
		assert_true(shown.n < limit + 2); /* the buffer never fills up */
		if (shown.n)
			memcpy(held, shown.p, shown.n);
		if (fed == input.n) {
			if (shown.n)
				snprintf(log + used, cap - used, "+%zu", shown.n);
			drop(shown);
			break;
		}
		have = shown.n;
		drop(shown);
	}
	free(held);
}

static void frames(void **state)
{
	static const struct {
		struct view input;
		const char *log;
	} table[] = {
		{ LIT(""), "" },
		{ LIT("a"), "+1" },
		{ LIT("\r"), "+1" },
		{ LIT("a\r"), "+2" },
		{ LIT("\r\n"), "()" },
		{ LIT("a\r\n"), "(a)" },
		{ LIT("a\r\nb\r\n\r\nc"), "(a)(b)()+1" },
		/* nothing but CR LF ends a line */
		{ LIT("a\nb\r\n"), "!bare_lf " },
		{ LIT("a\n"), "+2" },
		{ LIT("\nQUIT\r\n"), "!bare_lf " },
		{ LIT("a\rb\r\n"), "!bare_cr " },
		{ LIT("a\r\r\nb\r\n"), "!bare_cr (b)" },
		{ LIT("\r\r\n"), "!bare_cr " },
		{ LIT("a\n\r\n"), "!bare_lf " },
		{ LIT("a\r\n\nb\r\n"), "(a)!bare_lf " },
		{ LIT("a\n\rb\r\n"), "!bare_lf " },
		/* a NUL never cuts */
		{ LIT("a\0b\r\nc\r\n"), "!nul (c)" },
		{ LIT("a\0\r\n"), "!nul " },
		{ LIT("a\r\0\n\r\n"), "!bare_cr " },
		{ LIT("a\0\n\r\n"), "!nul " },
		{ LIT("\0\r\n"), "!nul " },
		/* controls, but for the tab; 8-bit octets are told */
		{ LIT("a\033[2J\r\n"), "!control " },
		{ LIT("a\177\r\n"), "!control " },
		{ LIT("a\tb\r\n"), "(a\tb)" },
		{ LIT("\xc3\xa9\r\na\r\n"), "8(\xc3\xa9)(a)" },
		/* 16 with CR LF is the limit */
		{ LIT("12345678901234\r\nb\r\n"), "(12345678901234)(b)" },
		{ LIT("123456789012345\r\nb\r\n"), "!line_too_long (b)" },
		{ LIT("1234567890123456\r\nb\r\n"), "!line_too_long (b)" },
		{ LIT("12345678901234567890123456789012345678901234567890\r\nQUIT\r\n"), "!line_too_long (QUIT)" },
		{ LIT("1234567890123456789012345678901234567890"), "" },
		{ LIT("1234567890123456789012345678901234567890\r"), "+1" },
		/* no part of an over-long line is a command, whatever it holds */
		{ LIT("12345678901234567890\nQUIT\rQUIT\n\rQUIT\0\r\r\nRSET\r\n"), "!line_too_long (RSET)" },
		{ LIT("12345678901234\n\r\nb\r\n"), "!line_too_long (b)" },
		{ LIT("1234567890123456789\r\n1234567890123456789\r\nb\r\n"), "!line_too_long !line_too_long (b)" },
	};
	char log[256];

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++)
		for (size_t step = 1; step <= table[i].input.n || step == 1; step++) {
			run(table[i].input, step, LIMIT, log, sizeof log);
			if (strcmp(log, table[i].log) != 0)
				fail_msg("row %zu by %zu: %s, wanted %s", i, step, log, table[i].log);
		}
}

static void searches_no_octet_twice(void **state)
{
	struct smtp_line_state s = { 0 };
	struct view text = LIT("abcdef");

	(void)state;
	for (size_t n = 0; n <= text.n; n++) {
		assert_int_equal(smtp_line_read(&s, view_slice(text, 0, n), 512).kind, SMTP_LINE_NONE);
		assert_int_equal(s.seen, n);
	}
}

/* A buffer of just the limit never stands still. */
static void skips_as_soon_as_sure(void **state)
{
	struct smtp_line_state s = { 0 };
	struct smtp_line line = smtp_line_read(&s, LIT("123456789012345"), LIMIT);

	(void)state;
	assert_true(line.kind == SMTP_LINE_NONE && line.take == 0);
	line = smtp_line_read(&s, LIT("1234567890123456"), LIMIT);
	assert_true(line.kind == SMTP_LINE_NONE && line.take == 16 && s.skipping);
	line = smtp_line_read(&s, LIT("\r"), LIMIT);
	assert_true(line.kind == SMTP_LINE_NONE && line.take == 0);
	line = smtp_line_read(&s, LIT("\r\n"), LIMIT);
	assert_true(line.kind == SMTP_LINE_TOO_LONG && line.take == 2 && !s.skipping);
}

static void limit_may_grow_with_the_line(void **state)
{
	struct smtp_line_state s = { 0 };
	struct smtp_line line = smtp_line_read(&s, LIT("MAIL FROM:<a@b>"), 20);

	(void)state;
	assert_true(line.kind == SMTP_LINE_NONE && !line.take);
	line = smtp_line_read(&s, LIT("MAIL FROM:<a@b> SIZE=1\r\n"), 40);
	assert_true(line.kind == SMTP_LINE_GOOD && line.take == 24);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(frames), cmocka_unit_test(searches_no_octet_twice),
		cmocka_unit_test(skips_as_soon_as_sure), cmocka_unit_test(limit_may_grow_with_the_line) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
