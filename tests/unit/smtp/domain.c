/* domain.c - domain names, address literals and the name in EHLO. */
#include "parse_test.h"
#include "smtp/command.h"

#define L63 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz12345678901"
#define L62 "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz1234567890"
#define E10 "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"

static void judges_names(void **state)
{
	static const struct {
		struct view v;
		bool ascii, utf8, hello;
	} table[] = {
		{ LIT(""), false, false, false },
		{ LIT("."), false, false, false },
		{ LIT("a."), false, false, false },
		{ LIT(".a"), false, false, false },
		{ LIT("a..b"), false, false, false },
		{ LIT("-a"), false, false, false },
		{ LIT("a-"), false, false, false },
		{ LIT("a b"), false, false, false },
		{ LIT("a\0"), false, false, false },
		{ LIT("a\0b"), false, false, false },
		{ LIT("a\n"), false, false, false },
		{ LIT("a/b"), false, false, false },
		{ LIT(L63 "x"), false, false, false },
		{ LIT("\xff"), false, false, false },
		{ LIT("\xc3"), false, false, false },
		{ LIT("a@b"), false, false, false },
		{ LIT(L63 "." L63 "." L63 "." L62 ".a"), false, false, false },
		{ LIT(L63 "." L63 "." L63 "." L63 "."), false, false, false },
		{ LIT(E10 E10 E10 E10 E10 E10), false, false, false },
		{ LIT("a_b.c"), false, false, true },
		{ LIT("_"), false, false, true },
		{ LIT("[]"), false, false, false },
		{ LIT("[1.2.3.4]"), false, false, true },
		{ LIT("[IPv6:::1]"), false, false, true },
		{ LIT("[1.2.3.4"), false, false, false },
		{ LIT("\xc3\xa9.b"), false, true, false },
		{ LIT(E10 E10 E10 E10 E10), false, true, false },
		{ LIT("a"), true, true, true },
		{ LIT("a-b.c-d"), true, true, true },
		{ LIT("1"), true, true, true },
		{ LIT(L63), true, true, true },
		{ LIT(L63 "." L63 "." L63 "." L63), true, true, true },
		{ LIT("A.EXAMPLE"), true, true, true },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct view v = exact(table[i].v);

		if (psmtp_domain_valid(smtp_public(v), false) != table[i].ascii ||
			psmtp_domain_valid(smtp_public(v), true) != table[i].utf8 ||
			smtp_hello_valid(v, false) != table[i].hello)
			fail_msg("row %zu: %.*s", i, VIEW_ARGS(v));
		drop(v);
	}
	assert_true(smtp_hello_valid(LIT("\xc3\xa9_x.b"), true));
}

static void judges_utf8(void **state)
{
	unsigned char c[4];
	size_t two = 0;

	(void)state;
	/* every pair of octets: valid ones are C2..DF, 80..BF */
	for (unsigned i = 0; i < 65536; i++) {
		c[0] = (unsigned char)(i >> 8);
		c[1] = (unsigned char)i;
		two += smtp_utf8_length(view_of((char *)c, 2)) == 2;
	}
	assert_int_equal(two, 30 * 64);
	/* every code point of three octets but the surrogates */
	for (unsigned p = 0; p < 0x10000; p++) {
		bool want = p >= 0x800 && (p < 0xd800 || p > 0xdfff);

		c[0] = (unsigned char)(0xe0 | p >> 12);
		c[1] = (unsigned char)(0x80 | (p >> 6 & 63));
		c[2] = (unsigned char)(0x80 | (p & 63));
		assert_int_equal(smtp_utf8_length(view_of((char *)c, 3)), want ? 3 : 0);
		assert_int_equal(smtp_utf8_length(view_of((char *)c, 2)), 0);
	}
	for (unsigned p = 0; p < 0x200000; p += 37) {
		c[0] = (unsigned char)(0xf0 | p >> 18);
		c[1] = (unsigned char)(0x80 | (p >> 12 & 63));
		c[2] = (unsigned char)(0x80 | (p >> 6 & 63));
		c[3] = (unsigned char)(0x80 | (p & 63));
		assert_int_equal(smtp_utf8_length(view_of((char *)c, 4)), p >= 0x10000 && p < 0x110000 ? 4 : 0);
	}
	assert_true(smtp_utf8_valid(LIT("a\xc3\xa9z")));
	assert_false(smtp_utf8_valid(LIT("a\xc3z")));
	assert_true(smtp_utf8_valid(LIT("")));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(judges_names), cmocka_unit_test(judges_utf8) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
