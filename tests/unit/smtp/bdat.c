/* bdat.c - the argument of BDAT: everything that is not plain decimal first. */
#include "parse_test.h"
#include "smtp/bdat.h"

static void parses(void **state)
{
	static const struct {
		struct view argument;
		enum smtp_bdat_fault fault;
		uint64_t size;
		bool last;
	} table[] = {
		{ LIT(""), SMTP_BDAT_SIZE, 0, false },
		{ LIT(" "), SMTP_BDAT_SIZE, 0, false },
		{ LIT("LAST"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("-1"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("+1"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("0x10"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("1k"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("1.0"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("1,000"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("1e3"), SMTP_BDAT_SIZE, 0, false },
		{ LIT(" 1"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("\t1"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("1\tLAST"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("1\0"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("1LAST"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("18446744073709551616"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("99999999999999999999"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("000000000000000000001"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("\xd9\xa1"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("1/2"), SMTP_BDAT_SIZE, 0, false },
		{ LIT("1 "), SMTP_BDAT_WORDS, 1, false },
		{ LIT("1  LAST"), SMTP_BDAT_WORDS, 1, false },
		{ LIT("1 LAST "), SMTP_BDAT_WORDS, 1, false },
		{ LIT("1 LAST x"), SMTP_BDAT_WORDS, 1, false },
		{ LIT("1 LASTX"), SMTP_BDAT_WORDS, 1, false },
		{ LIT("1 2"), SMTP_BDAT_WORDS, 1, false },
		{ LIT("1 FIRST"), SMTP_BDAT_WORDS, 1, false },
		{ LIT("1 LAS"), SMTP_BDAT_WORDS, 1, false },
		{ LIT("1 LAST\0"), SMTP_BDAT_WORDS, 1, false },
		{ LIT("0"), SMTP_BDAT_OK, 0, false },
		{ LIT("0 LAST"), SMTP_BDAT_OK, 0, true },
		{ LIT("86 LAST"), SMTP_BDAT_OK, 86, true },
		{ LIT("1000 last"), SMTP_BDAT_OK, 1000, true },
		{ LIT("007"), SMTP_BDAT_OK, 7, false },
		{ LIT("18446744073709551615"), SMTP_BDAT_OK, UINT64_MAX, false },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct view v = exact(table[i].argument);
		struct smtp_bdat b = smtp_bdat_parse(v);

		if (b.fault != table[i].fault || b.size != table[i].size || b.left != b.size || b.last != table[i].last)
			fail_msg("\"%.*s\": fault %d size %llu last %d", VIEW_ARGS(v), b.fault,
				(unsigned long long)b.size, b.last);
		drop(v);
	}
}

static void clips(void **state)
{
	struct smtp_bdat b = smtp_bdat_parse(LIT("3 LAST"));

	(void)state;
	assert_view(smtp_bdat_clip(&b, LIT("abcQUIT")), "abc");
	assert_view(smtp_bdat_clip(&b, LIT("ab")), "ab");
	b.left = 0;
	assert_view(smtp_bdat_clip(&b, LIT("ab")), "");
	b.left = UINT64_MAX;
	assert_view(smtp_bdat_clip(&b, LIT("ab")), "ab");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(parses), cmocka_unit_test(clips) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
