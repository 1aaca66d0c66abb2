/* reply_in.c - replies as they arrive: what ends a session first, then the legal shapes; whole and at every split. */
#include "parse_test.h"
#include "smtp/reply_in.h"

#define OCTETS 200
#define LINES  5

static struct smtp_reply_in in;

/* Two pieces; returns the last status, and how much was consumed. */
static enum smtp_reply_status feed(struct view wire, size_t cut, size_t *consumed)
{
	struct view a = exact(view_slice(wire, 0, cut)), b = exact(view_slice(wire, cut, wire.n));
	enum smtp_reply_status status;
	size_t n;

	smtp_reply_in_next(&in);
	status = smtp_reply_in_read(&in, a, consumed);
	if (status == SMTP_REPLY_MORE) {
		assert_int_equal(*consumed, a.n);
		status = smtp_reply_in_read(&in, b, &n);
		*consumed += n;
	}
	drop(a);
	drop(b);
	return status;
}

#define X10 "xxxxxxxxxx"
#define X50 X10 X10 X10 X10 X10

static void refuses(void **state)
{
	static const struct {
		struct view wire;
		const char *reason;
	} table[] = {
		{ LIT("\r\n"), "reply_syntax" },
		{ LIT("2\r\n"), "reply_syntax" },
		{ LIT("25\r\n"), "reply_syntax" },
		{ LIT("150 x\r\n"), "reply_syntax" },
		{ LIT("650 x\r\n"), "reply_syntax" },
		{ LIT("050 x\r\n"), "reply_syntax" },
		{ LIT("2x0 x\r\n"), "reply_syntax" },
		{ LIT("25x x\r\n"), "reply_syntax" },
		{ LIT(" 250 x\r\n"), "reply_syntax" },
		{ LIT("250x\r\n"), "reply_syntax" },
		{ LIT("2500 x\r\n"), "reply_syntax" },
		{ LIT("250\tx\r\n"), "reply_syntax" },
		{ LIT("250_x\r\n"), "reply_syntax" },
		{ LIT("-50 x\r\n"), "reply_syntax" },
		{ LIT("HTTP/1.1 400\r\n"), "reply_syntax" },
		{ LIT("\x16\x03\x01"), "reply_syntax" },
		{ LIT("SSH-2.0\r\n"), "reply_syntax" },
		{ LIT("250-a\r\n\r\n"), "reply_syntax" },
		{ LIT("250-a\r\nb\r\n"), "reply_syntax" },
		{ LIT("250-a\r\n251 b\r\n"), "reply_codes_differ" },
		{ LIT("250-a\r\n550 b\r\n"), "reply_codes_differ" },
		{ LIT("250-a\r\n250-b\r\n220 c\r\n"), "reply_codes_differ" },
		{ LIT("250 a\n"), "reply_bare_lf" },
		{ LIT("250-a\n250 b\r\n"), "reply_bare_lf" },
		{ LIT("\n"), "reply_bare_lf" },
		{ LIT("250\n"), "reply_bare_lf" },
		{ LIT("250 a\rb\r\n"), "reply_bare_cr" },
		{ LIT("250 a\r\r\n"), "reply_bare_cr" },
		{ LIT("\r250 a\r\n"), "reply_bare_cr" },
		{ LIT("250 a\r\0\n"), "reply_bare_cr" },
		{ LIT("250 a\0b\r\n"), "reply_nul" },
		{ LIT("\0"), "reply_nul" },
		{ LIT("250-a\r\n\0"), "reply_nul" },
		{ LIT("250-a\r\n250-a\r\n250-a\r\n250-a\r\n250-a\r\n"), "reply_too_many_lines" },
		{ LIT("250 " X50 X50 X50 X50), "reply_too_long" },
		{ LIT("250-" X50 "\r\n250-" X50 "\r\n250-" X50 "\r\n250 " X50 "\r\n"), "reply_too_long" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++)
		for (size_t cut = 0; cut <= table[i].wire.n; cut++) {
			size_t n;

			if (feed(table[i].wire, cut, &n) != SMTP_REPLY_BAD || strcmp(in.reason, table[i].reason) != 0)
				fail_msg("row %zu cut %zu: %s", i, cut, in.reason ? in.reason : "accepted");
			assert_int_equal(
				smtp_reply_in_read(&in, LIT("250 x\r\n"), &n), SMTP_REPLY_BAD); /* it stays refused */
			assert_int_equal(n, 0);
			assert_false(smtp_reply_in_begun(&in));
		}
}

static void accepts(void **state)
{
	static const struct {
		struct view wire;
		int code;
		uint16_t enhanced[3];
		const char *text;
	} table[] = {
		{ LIT("250 ok\r\n"), 250, { 0, 0, 0 }, "ok" },
		{ LIT("250\r\n"), 250, { 0, 0, 0 }, "" },
		{ LIT("250 \r\n"), 250, { 0, 0, 0 }, "" },
		{ LIT("250  ok \r\n"), 250, { 0, 0, 0 }, " ok " },
		{ LIT("599 x\r\n"), 599, { 0, 0, 0 }, "x" },
		{ LIT("571 x\r\n"), 571, { 0, 0, 0 }, "x" },
		{ LIT("250-a\r\n250-b\r\n250 c\r\n"), 250, { 0, 0, 0 }, "a\nb\nc" },
		{ LIT("250-\r\n250-\r\n250\r\n"), 250, { 0, 0, 0 }, "\n\n" },
		{ LIT("250-a\r\n250\r\n"), 250, { 0, 0, 0 }, "a\n" },
		{ LIT("250-a\r\n250-b\r\n250-c\r\n250-d\r\n250 e\r\n"), 250, { 0, 0, 0 }, "a\nb\nc\nd\ne" },
		/* enhanced codes */
		{ LIT("250 2.1.5 ok\r\n"), 250, { 2, 1, 5 }, "ok" },
		{ LIT("250 2.1.5\r\n"), 250, { 2, 1, 5 }, "" },
		{ LIT("550-5.7.123 a\r\n550 5.7.123 b\r\n"), 550, { 5, 7, 123 }, "a\nb" },
		{ LIT("550-5.1.1 a\r\n550 b\r\n"), 550, { 5, 1, 1 }, "a\nb" },
		{ LIT("550-5.1.1 a\r\n550 5.1.2 b\r\n"), 550, { 5, 1, 1 }, "a\n5.1.2 b" },
		{ LIT("550-a\r\n550 5.1.2 b\r\n"), 550, { 0, 0, 0 }, "a\n5.1.2 b" },
		{ LIT("250 5.1.5 x\r\n"), 250, { 0, 0, 0 }, "5.1.5 x" },
		{ LIT("354 3.0.0 x\r\n"), 354, { 0, 0, 0 }, "3.0.0 x" },
		{ LIT("250 2.1 x\r\n"), 250, { 0, 0, 0 }, "2.1 x" },
		{ LIT("250 2.1.5x\r\n"), 250, { 0, 0, 0 }, "2.1.5x" },
		{ LIT("250 2.1.5.1 x\r\n"), 250, { 0, 0, 0 }, "2.1.5.1 x" },
		{ LIT("250 2.1234.1 x\r\n"), 250, { 0, 0, 0 }, "2.1234.1 x" },
		{ LIT("250 2..1 x\r\n"), 250, { 0, 0, 0 }, "2..1 x" },
		{ LIT("250 2.1.\r\n"), 250, { 0, 0, 0 }, "2.1." },
		{ LIT("250 22.1.1 x\r\n"), 250, { 0, 0, 0 }, "22.1.1 x" },
		{ LIT("421 4.3.2 bye\r\n"), 421, { 4, 3, 2 }, "bye" },
		/* odd octets: controls go, the tab and 8-bit octets stay */
		{ LIT("550 a\033[2J\177\001b\r\n"), 550, { 0, 0, 0 }, "a?[2J??b" },
		{ LIT("550 a\tb\xc3\xa9\r\n"), 550, { 0, 0, 0 }, "a\tb\xc3\xa9" },
		{ LIT("334 VXNlcm5hbWU6\r\n"), 334, { 0, 0, 0 }, "VXNlcm5hbWU6" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		char s[128];
		size_t n = table[i].wire.n, consumed;

		memcpy(s, table[i].wire.p, n);
		memcpy(s + n, "250 next\r\n", 10); /* stays where it is */
		for (size_t cut = 0; cut <= n + 10; cut++) {
			struct psmtp_reply r;

			assert_int_equal(feed(view_of(s, n + 10), cut, &consumed), SMTP_REPLY_DONE);
			assert_int_equal(consumed, n);
			r = smtp_reply_in_get(&in);
			assert_int_equal(r.code, table[i].code);
			assert_memory_equal(r.enhanced, table[i].enhanced, sizeof r.enhanced);
			assert_view(smtp_view(r.text), table[i].text);
		}
	}
}

static void every_beginning_waits(void **state)
{
	struct view wire = LIT("250-2.0.0 a\r\n250-2.0.0\r\n250 b\r\n");

	(void)state;
	for (size_t n = 0; n < wire.n; n++) {
		size_t consumed;

		assert_int_equal(feed(view_slice(wire, 0, n), n / 2, &consumed), SMTP_REPLY_MORE);
		assert_int_equal(smtp_reply_in_begun(&in), n > 0);
	}
}

static void limits_a_line(void **state)
{
	struct smtp_reply_in big;
	char line[SMTP_REPLY_IN_LINE_MAX + 8];
	size_t n;

	(void)state;
	smtp_reply_in_init(&big, &alloc_libc, 65536, 256);
	memset(line, 'x', sizeof line);
	memcpy(line, "250 ", 4);
	memcpy(line + SMTP_REPLY_IN_LINE_MAX - 2, "\r\n", 2);
	assert_int_equal(smtp_reply_in_read(&big, view_of(line, SMTP_REPLY_IN_LINE_MAX), &n), SMTP_REPLY_DONE);
	smtp_reply_in_next(&big);
	memcpy(line + SMTP_REPLY_IN_LINE_MAX - 2, "x\r\n", 3);
	assert_int_equal(smtp_reply_in_read(&big, view_of(line, SMTP_REPLY_IN_LINE_MAX + 1), &n), SMTP_REPLY_BAD);
	assert_string_equal(big.reason, "reply_line_too_long");
	smtp_reply_in_free(&big);
}

/* Octets of a whole reply, line ends included: the last one allowed, and one more. */
static void limits_a_reply(void **state)
{
	struct view wire = LIT("250-2.0.0 one\r\n250 two\r\n");

	(void)state;
	for (uint32_t limit = 20; limit < 30; limit++) {
		struct smtp_reply_in small;
		size_t n;

		smtp_reply_in_init(&small, &alloc_libc, limit, 2);
		assert_int_equal(
			smtp_reply_in_read(&small, wire, &n), limit < wire.n ? SMTP_REPLY_BAD : SMTP_REPLY_DONE);
		smtp_reply_in_free(&small);
	}
}

static unsigned calls_left;

static void *stingy(void *arg, void *old, size_t size)
{
	(void)arg;
	if (size && !calls_left--)
		return NULL;
	if (!size) {
		free(old);
		return NULL;
	}
	return realloc(old, size);
}

static void runs_out_of_memory(void **state)
{
	static const struct alloc poor = { stingy, NULL };
	char wire[3000] = "250-a\r\n250 ";
	struct smtp_reply_in r;
	size_t n;

	(void)state;
	memset(wire + 11, 'x', 2900);
	memcpy(wire + 2911, "\r\n", 2);
	for (unsigned calls = 0; calls < 2; calls++) { /* one for the first line, one for the words of the second */
		calls_left = calls;
		smtp_reply_in_init(&r, &poor, 65536, 256);
		assert_int_equal(smtp_reply_in_read(&r, view_of(wire, 2913), &n), SMTP_REPLY_MEMORY);
		assert_int_equal(smtp_reply_in_read(&r, view_of(wire, 2913), &n), SMTP_REPLY_MEMORY);
		calls_left = 0;
		smtp_reply_in_free(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses),
		cmocka_unit_test(accepts),
		cmocka_unit_test(every_beginning_waits),
		cmocka_unit_test(limits_a_line),
		cmocka_unit_test(limits_a_reply),
		cmocka_unit_test(runs_out_of_memory),
	};
	int failed;

	smtp_reply_in_init(&in, &alloc_libc, OCTETS, LINES);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	smtp_reply_in_free(&in);
	return failed;
}
