/* tlsa.c - tests of route/tlsa.c: octets that are no record, each usage, selector and matching type, the text. */
#include "base/alloc.h"
#include "route/tlsa.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static unsigned char octets[70000];

static bool usable(unsigned usage, unsigned selector, unsigned matching, size_t n)
{
	octets[0] = (unsigned char)usage;
	octets[1] = (unsigned char)selector;
	octets[2] = (unsigned char)matching;
	return route_tlsa_read(view_of((const char *)octets, 3 + n)).usable;
}

static void test_too_short(void **state)
{
	(void)state;
	for (size_t n = 0; n <= 3; n++) {
		struct route_tlsa r = route_tlsa_read(view_of("\3\1\1", n));
		assert_false(r.usable);
		assert_int_equal(r.usage, n < 3 ? 0 : 3);
		assert_int_equal(r.data.n, 0);
	}
	assert_false(route_tlsa_read(view_of(NULL, 0)).usable);
	assert_false(route_tlsa_read(view_of("\3\1\0", 3)).usable); /* "the whole key", and there is none */
}

static void test_each_octet(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 256; i++) {
		assert_int_equal(usable(i, 1, 1, 32), i == 2 || i == 3);
		assert_int_equal(usable(3, i, 1, 32), i <= 1);
		assert_int_equal(usable(3, 1, i, 32), i == 1);
		assert_int_equal(usable(3, 1, i, 64), i == 2);
	}
	for (size_t n = 0; n < 100; n++) {
		assert_int_equal(usable(3, 1, 1, n), n == 32);
		assert_int_equal(usable(2, 0, 2, n), n == 64);
	}
}

static void test_whole(void **state)
{
	(void)state;
	memcpy(octets + 3, "\x30\x03zzz", 5);
	for (size_t n = 0; n < 10; n++)
		assert_int_equal(usable(3, 1, 0, n), n == 5);
	memcpy(octets + 3, "\x30\x81\x90", 3);
	assert_true(usable(3, 0, 0, 3 + 0x90));
	assert_false(usable(3, 0, 0, 2 + 0x90));
	assert_false(usable(3, 0, 0, 2));
	memcpy(octets + 3, "\x30\x82\x0f\xfc", 4);
	assert_true(usable(2, 0, 0, 4096));
	assert_false(usable(2, 0, 0, 4095));
	memcpy(octets + 3, "\x30\x82\xff\xff", 4);
	assert_false(usable(2, 0, 0, 4 + 0xffff)); /* over the limit */
	memcpy(octets + 3, "\x30\x83\x00\x00\x01z", 6);
	assert_false(usable(2, 0, 0, 6));
	memcpy(octets + 3, "\x30\x80zz", 4);
	assert_false(usable(2, 0, 0, 4));
	memcpy(octets + 3, "\x31\x03zzz", 5);
	assert_false(usable(3, 1, 0, 5));
}

static void test_text(void **state)
{
	struct buf b, tiny;
	struct route_tlsa r;

	(void)state;
	buf_init(&b, &alloc_libc, 4096);
	r = route_tlsa_read(view_of("\3\1\1\x00\xff\x10", 6));
	assert_true(route_tlsa_text(&r, &b));
	assert_true(view_eq(buf_view(&b), VIEW("3 1 1 00ff10")));
	buf_clear(&b);
	memset(octets, 0, sizeof octets);
	r = route_tlsa_read(view_of((const char *)octets, 68));
	assert_true(route_tlsa_text(&r, &b));
	assert_true(view_ends_nocase(buf_view(&b), VIEW("00...")) && buf_len(&b) == 6 + 128 + 3);
	buf_init(&tiny, &alloc_libc, 4);
	assert_false(route_tlsa_text(&r, &tiny));
	buf_free(&tiny);
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_too_short), cmocka_unit_test(test_each_octet), cmocka_unit_test(test_whole), cmocka_unit_test(test_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
