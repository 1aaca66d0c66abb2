/* reply_out.c - replies as octets: folding, enhanced codes, and nothing on the wire but printable ASCII. */
#include "parse_test.h"
#include "smtp/reply_out.h"

#define X10  "xxxxxxxxxx"
#define X100 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10
#define X500 X100 X100 X100 X100 X100

static struct psmtp_reply reply(int code, unsigned a, unsigned b, unsigned c, struct view text)
{
	return (struct psmtp_reply){
		.code = code, .enhanced = { (uint16_t)a, (uint16_t)b, (uint16_t)c }, .text = smtp_public(text)
	};
}

static void writes(void **state)
{
	static const struct {
		int code;
		unsigned a, b, c;
		struct view text;
		const char *wire;
	} table[] = {
		/* nothing but printable ASCII, one line stays one line */
		{ 550, 5, 1, 1, LIT("no\rRSET"), "550 5.1.1 no?RSET\r\n" },
		{ 550, 5, 1, 1, LIT("\033[2J\001\177\0z"), "550 5.1.1 ?[2J???z\r\n" },
		{ 550, 5, 1, 1, LIT("\xc3\xa9\x9b"), "550 5.1.1 ???\r\n" },
		{ 550, 5, 1, 1, LIT("a\tb"), "550 5.1.1 a b\r\n" },
		{ 550, 5, 1, 1, LIT("a\r\nb\r"), "550-5.1.1 a\r\n550 5.1.1 b\r\n" },
		{ 550, 5, 1, 1, LIT("a\r\rb"), "550 5.1.1 a??b\r\n" },
		/* enhanced codes: of the reply's class alone, never with 3xx */
		{ 354, 3, 0, 0, LIT("go"), "354 go\r\n" },
		{ 334, 2, 0, 0, LIT("x"), "334 x\r\n" },
		{ 250, 5, 0, 0, LIT("ok"), "250 ok\r\n" },
		{ 250, 0, 1, 5, LIT("ok"), "250 ok\r\n" },
		{ 250, 2, 0, 0, LIT("ok"), "250 2.0.0 ok\r\n" },
		{ 451, 4, 3, 0, LIT("later"), "451 4.3.0 later\r\n" },
		{ 250, 2, 65535, 10, LIT("ok"), "250 2.65535.10 ok\r\n" },
		{ 555, 5, 7, 30, LIT(""), "555 5.7.30 \r\n" },
		{ 250, 0, 0, 0, LIT(""), "250 \r\n" },
		/* lines */
		{ 250, 0, 0, 0, LIT("a.b\nSIZE 1\nHELP"), "250-a.b\r\n250-SIZE 1\r\n250 HELP\r\n" },
		{ 250, 2, 0, 0, LIT("a\n\nb"), "250-2.0.0 a\r\n250-2.0.0 \r\n250 2.0.0 b\r\n" },
		{ 250, 0, 0, 0, LIT("a\n"), "250 a\r\n" },
		{ 250, 0, 0, 0, LIT("\n"), "250 \r\n" },
		{ 250, 0, 0, 0, LIT("\na"), "250-\r\n250 a\r\n" },
	};
	struct buf b;

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct view text = exact(table[i].text), got;
		struct psmtp_reply r = reply(table[i].code, table[i].a, table[i].b, table[i].c, text);

		buf_init(&b, &alloc_libc, 4096);
		assert_true(smtp_reply_write(&b, &r));
		got = buf_view(&b);
		assert_view(got, table[i].wire);
		buf_free(&b);
		drop(text);
	}
}

/* Every line of any reply fits 512 with its CR LF, has the code, and the words come out whole. */
static void folds(void **state)
{
	static const struct view words[] = { LIT(X500), LIT(X500 X500 "\n" X500 "y"), LIT(X100 " " X500),
		LIT(X100 X100 X100 " " X100 X100 X100 " z"), LIT(X500 "xxxxxxxx"), LIT(X500 "x "),
		LIT(X500 "          " X500), LIT(X100 " " X100 " " X100 " " X100 " " X100 " " X100) };

	(void)state;
	for (size_t i = 0; i < COUNT(words); i++)
		for (unsigned class = 0; class <= 2; class += 2) {
			struct psmtp_reply r = reply(250, class, 0, 0, words[i]);
			size_t xs = 0, want = 0, lines = 0;
			struct buf b;
			struct view v;

			buf_init(&b, &alloc_libc, 65536);
			assert_true(smtp_reply_write(&b, &r));
			for (v = buf_view(&b); v.n; lines++) {
				size_t lf = view_find(v, '\n');

				assert_true(lf < v.n && lf + 1 <= 512 && lf > 4 && v.p[lf - 1] == '\r');
				assert_true(memcmp(v.p, "250", 3) == 0 && v.p[3] == (lf + 1 == v.n ? ' ' : '-'));
				if (class)
					assert_memory_equal(v.p + 4, "2.0.0 ", 6);
				for (size_t k = 4; k < lf; k++)
					xs += v.p[k] == 'x';
				v = view_slice(v, lf + 1, v.n);
			}
			for (size_t k = 0; k < words[i].n; k++)
				want += words[i].p[k] == 'x';
			assert_int_equal(xs, want);
			assert_true(lines >= words[i].n / 508);
			buf_free(&b);
		}
}

static void folds_at_a_blank(void **state)
{
	struct psmtp_reply r = reply(550, 5, 0, 0, LIT(X100 X100 X100 X100 " " X100 X10));
	struct buf b;

	(void)state;
	buf_init(&b, &alloc_libc, 65536);
	assert_true(smtp_reply_write(&b, &r));
	assert_view(buf_view(&b), "550-5.0.0 " X100 X100 X100 X100 "\r\n550 5.0.0 " X100 X10 "\r\n");
	buf_free(&b);
}

/* All or nothing, behind what was there. */
static void adds_nothing_when_full(void **state)
{
	struct psmtp_reply r = reply(250, 2, 0, 0, LIT("one\ntwo\nthree"));

	(void)state;
	for (size_t max = 0; max < 80; max++) {
		struct buf b;
		bool before, done;

		buf_init(&b, &alloc_libc, max);
		before = buf_add(&b, LIT("xy"));
		if (before)
			buf_take(&b, 1);
		done = smtp_reply_write(&b, &r);
		assert_int_equal(done, max >= 47 + (before ? 1 : 0));
		assert_int_equal(buf_len(&b), (before ? 1 : 0) + (done ? 47 : 0));
		if (before)
			assert_int_equal(buf_view(&b).p[0], 'y');
		buf_free(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(writes), cmocka_unit_test(folds),
		cmocka_unit_test(folds_at_a_blank), cmocka_unit_test(adds_nothing_when_full) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
