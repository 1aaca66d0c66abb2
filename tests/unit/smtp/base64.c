/* base64.c - strict base64: the examples of RFC 4648 section 10, and everything that is not one. */
#include "parse_test.h"
#include "smtp/base64.h"

static void refuses(void **state)
{
	static const struct view table[] = { LIT("Z"), LIT("Zg"), LIT("Zg="), LIT("Zg==="), LIT("Zm9"), LIT("===="),
		LIT("Z==="), LIT("="), LIT("Zh=="), LIT("Zm9="), LIT("Zg==Zg=="), LIT("Zm=v"), LIT("Zm9v\n"),
		LIT("Zm9v "), LIT(" Zm9"), LIT("Zm\r\n"), LIT("Zm9-"), LIT("Zm9_"), LIT("Zm9\0"), LIT("Zm9\xc3"),
		LIT("*"), LIT("Zm9v="), LIT("Zm9v===="), LIT("=m9v"), LIT("=Zg=") };
	unsigned char to[32];

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct view v = exact(table[i]);

		if (smtp_base64_decode(v, to) != -1)
			fail_msg("accepted: \"%.*s\"", VIEW_ARGS(v));
		drop(v);
	}
}

static void examples_of_the_rfc(void **state)
{
	static const struct {
		const char *plain, *coded;
	} table[] = { { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" },
		{ "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" } };
	char coded[16];
	unsigned char plain[16];

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct view v = view_cstr(table[i].plain);
		size_t n = smtp_base64_encode(v, coded);
		long back = smtp_base64_decode(view_of(coded, n), plain);

		assert_view(view_of(coded, n), table[i].coded);
		assert_int_equal(n, SMTP_BASE64_ENCODED(v.n));
		assert_int_equal(back, v.n);
		assert_memory_equal(plain, v.p, v.n);
	}
}

/* All values of up to two octets, decoded in place; and of all texts of four octets that decode, one for each value. */
static void one_value_one_encoding(void **state)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
	size_t one = 0, two = 0;

	(void)state;
	for (unsigned i = 0; i < 65536; i++) {
		char plain[2] = { (char)(i >> 8), (char)i }, coded[4];

		assert_int_equal(smtp_base64_encode(view_of(plain, 2), coded), 4);
		assert_int_equal(smtp_base64_decode(view_of(coded, 4), (unsigned char *)coded), 2);
		assert_memory_equal(coded, plain, 2);
	}
	for (unsigned i = 0; i < 65 * 65 * 65; i++) {
		char text[4] = { digits[i % 65], digits[i / 65 % 65], digits[i / 65 / 65], '=' };
		unsigned char to[3];
		long n = smtp_base64_decode(view_of(text, 4), to);

		one += n == 1;
		two += n == 2;
	}
	assert_int_equal(one, 256);
	assert_int_equal(two, 65536);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(refuses), cmocka_unit_test(examples_of_the_rfc),
		cmocka_unit_test(one_value_one_encoding) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
