/* scan.c - what a passing message demands, whole and at every split. */
#include "parse_test.h"

static void scans(void **state)
{
	static const struct {
		struct view text;
		const char *facts; /* 8 8-bit, h 8-bit in the header, n NUL, b bare */
	} table[] = {
		{ LIT(""), "" },
		{ LIT("A: b\r\n\r\nc\r\n"), "" },
		{ LIT("A: \xe9\r\n\r\n"), "8h" },
		{ LIT("A: b\r\n\r\n\xe9"), "8" },
		{ LIT("\r\n\xe9"), "8" },
		{ LIT("\n\xe9"), "8b" },
		{ LIT("A: b\n\n\xe9"), "8b" },
		{ LIT("A\r\n\n\xe9"), "8b" },
		{ LIT("A\r\n \r\n\xe9"), "8h" },
		{ LIT("A\r\n\r\r\n\xe9"), "8hb" },
		{ LIT("A\r\r\n\xe9"), "8hb" },
		{ LIT("\xc3\xa9"), "8h" },
		{ LIT("a\0b"), "n" },
		{ LIT("\0\r\n\r\n"), "n" },
		{ LIT("a\r"), "b" },
		{ LIT("a\r\n"), "" },
		{ LIT("a\rb"), "b" },
		{ LIT("a\nb"), "b" },
		{ LIT("a\r\r\n"), "b" },
		{ LIT("a\n\r\n"), "b" },
		{ LIT("a\r\0\n"), "nb" },
		{ LIT("\r\n\r"), "b" },
		{ LIT("\r\n\r\n"), "" },
		{ LIT("\177"), "" },
		{ LIT("\x80"), "8h" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++)
		for (size_t cut = 0; cut <= table[i].text.n; cut++) {
			struct psmtp_scan s = { 0 };
			struct view a = exact(view_slice(table[i].text, 0, cut)),
				    b = exact(view_slice(table[i].text, cut, table[i].text.n));
			char got[8];

			psmtp_scan_bytes(&s, a.p, a.n);
			psmtp_scan_bytes(&s, b.p, b.n);
			snprintf(got, sizeof got, "%s%s%s%s", s.has_8bit ? "8" : "", s.header_8bit ? "h" : "",
				s.has_nul ? "n" : "", s.has_bare ? "b" : "");
			if (strcmp(got, table[i].facts) != 0)
				fail_msg("row %zu cut %zu: %s, wanted %s", i, cut, got, table[i].facts);
			drop(a);
			drop(b);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(scans) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
