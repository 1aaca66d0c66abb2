/* xtext.c - xtext of RFC 3461 section 4, both ways. */
#include "parse_test.h"

static void refuses(void **state)
{
	static const struct view table[] = { LIT("+"), LIT("+4"), LIT("a+"), LIT("+4g"), LIT("+G4"), LIT("+2b"),
		LIT("++2B"), LIT("a=b"), LIT("a b"), LIT("a\tb"), LIT("a\0b"), LIT("\177"), LIT("\xc3\xa9"), LIT("+ 2"),
		LIT("+-1") };
	char to[16];

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct view v = exact(table[i]);

		assert_int_equal(psmtp_xtext_decode(smtp_public(v), to), -1);
		drop(v);
	}
}

static void decodes(void **state)
{
	char to[32], again[32] = "a+2Bb+3D";
	struct view text = LIT("a+2Bb+3Dc+00+FF~!");

	(void)state;
	assert_int_equal(psmtp_xtext_decode(smtp_public(text), to), 9);
	assert_memory_equal(to, "a+b=c\0\xff~!", 9);
	assert_int_equal(psmtp_xtext_decode((struct psmtp_view){ again, 8 }, again), 4); /* in place */
	assert_memory_equal(again, "a+b=", 4);
	assert_int_equal(psmtp_xtext_decode((struct psmtp_view){ "", 0 }, to), 0);
}

static void every_octet_comes_back(void **state)
{
	char all[256], coded[768], back[768];
	size_t n;

	(void)state;
	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	n = psmtp_xtext_encode((struct psmtp_view){ all, 256 }, coded);
	assert_int_equal(n, 92 + 3 * 164); /* 94 graphic octets but + and = stand for themselves */
	assert_int_equal(psmtp_xtext_decode((struct psmtp_view){ coded, n }, back), 256);
	assert_memory_equal(all, back, 256);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(refuses), cmocka_unit_test(decodes),
		cmocka_unit_test(every_octet_comes_back) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
