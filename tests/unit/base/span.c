/* span.c - the quick look at eight octets says what a slow look at one says, for every octet in every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/span.h"

#include <stdbool.h>
#include <stdlib.h>

static size_t slow(const unsigned char *p, size_t n, unsigned char least, bool ascii)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (p[i] <= least || (ascii && p[i] > 127))
			break;
	return i;
}

static void every_octet_in_every_place(void **state)
{
	static const unsigned char least[] = { 0, '\r', ' ', 126, 127 }, around[] = { 0x0d, 0x0e, 'a', 0x7f, 0x80, 0x8d, 0xff };
	unsigned char p[20];

	(void)state;
	for (size_t n = 0; n <= sizeof p; n++)
		for (size_t at = 0; at < n; at++)
			for (size_t a = 0; a < sizeof around; a++)
				for (unsigned c = 0; c < 256; c++)
					for (size_t l = 0; l < sizeof least; l++) {
						memset(p, around[a], sizeof p);
						p[at] = (unsigned char)c;
						assert_int_equal(span_plain(p, n, least[l], false), slow(p, n, least[l], false));
						assert_int_equal(span_plain(p, n, least[l], true), slow(p, n, least[l], true));
					}
}

/* The end is the end: a block of exactly n octets, so that a look behind it is found. */
static void nothing_behind_the_end_is_read(void **state)
{
	(void)state;
	for (size_t n = 1; n < 40; n++) {
		unsigned char *p = malloc(n);

		assert_non_null(p);
		memset(p, 'x', n);
		assert_int_equal(span_plain(p, n, '\r', true), n);
		free(p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_octet_in_every_place),
		cmocka_unit_test(nothing_behind_the_end_is_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
