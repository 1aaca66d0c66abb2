/* Dates against the C library's own calendar. */
#include "mail/date.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>
#include <cmocka.h>

static void clamps(void **state)
{
	char to[MAIL_DATE_SIZE];

	(void)state;
	assert_string_equal(mail_date_text(-1, to), "Thu, 1 Jan 1970 00:00:00 +0000");
	assert_string_equal(mail_date_text(INT64_MIN, to), "Thu, 1 Jan 1970 00:00:00 +0000");
	assert_string_equal(mail_date_text(INT64_MAX, to), "Fri, 31 Dec 9999 23:59:59 +0000");
}

static void agrees_with_the_library(void **state)
{
	char to[MAIL_DATE_SIZE], expected[64];
	int64_t s;
	struct tm tm;
	time_t t;

	(void)state;
	assert_string_equal(mail_date_text(1795516081999, to), "Tue, 24 Nov 2026 10:28:01 +0000");
	/* a step of some days and odd seconds walks through all months, leap years and centuries up to 9999 */
	for (s = 0; s < 253402300799; s += 86400 * 9 + 12345) {
		t = (time_t)s;
		gmtime_r(&t, &tm);
		strftime(expected, sizeof expected, "%a, %e %b %Y %H:%M:%S +0000", &tm);
		if (expected[5] == ' ') /* %e pads */
			for (size_t i = 5; expected[i]; i++)
				expected[i] = expected[i + 1];
		assert_string_equal(mail_date_text(s * 1000, to), expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(clamps), cmocka_unit_test(agrees_with_the_library) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
