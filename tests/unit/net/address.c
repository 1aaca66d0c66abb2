/* address.c - addresses as text: what is none first, then the spellings. */
#include "net/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <sys/un.h>

static void what_is_none_is_refused(void **state)
{
	static const char *const bad[] = { "", ":", ":25", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:25x", "127.0.0.1:+25",
					   "127.0.0.1:-1", "127.0.0.1: 25", "127.1:25", "256.0.0.1:25", "1.2.3.4.5:25", "::1:25", "[::1]", "[::1]:", "[::1]25", "[::1",
					   "[127.0.0.1]:25", "[IPv6:::1]:25", "localhost:25", "[::g]:25", "[]:25", "[::1%lo]:25", "01234567890123456789012345678901234567890123456789:1" },
			  *const bad_host[] = { "", "[", "]", "[]", "[IPv6:]", "[IPv6:127.0.0.1]", "host", "1.2.3", "[1.2.3.4", "IPv6:::1", "::1%1", "127.0.0.1 " };
	struct address a;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof *bad; i++)
		if (address_parse(view_cstr(bad[i]), &a))
			fail_msg("%s was taken", bad[i]);
	for (i = 0; i < sizeof bad_host / sizeof *bad_host; i++)
		if (address_parse_host(view_cstr(bad_host[i]), 25, &a))
			fail_msg("%s was taken", bad_host[i]);
	assert_false(address_parse_host(view_of("127.0.0.1\0x", 11), 25, &a));
	assert_false(address_from_octets(VIEW("abc"), 25, &a));
	assert_false(address_from_octets(VIEW(""), 25, &a));
}

static void the_spellings_agree(void **state)
{
	static const struct { const char *in, *text, *host, *literal; } rows[] = {
		{ "192.0.2.1:25", "192.0.2.1:25", "192.0.2.1", "[192.0.2.1]" },
		{ "[2001:db8::1]:587", "[2001:db8::1]:587", "2001:db8::1", "[IPv6:2001:db8::1]" },
		{ "[2001:DB8:0:0:0:0:0:1]:587", "[2001:db8::1]:587", "2001:db8::1", "[IPv6:2001:db8::1]" },
		{ "[::ffff:192.0.2.1]:25", "192.0.2.1:25", "192.0.2.1", "[192.0.2.1]" },
		{ "[::]:65535", "[::]:65535", "::", "[IPv6:::]" },
		{ "[2001:db8:1111:2222:3333:4444:255.255.255.255]:65535", "[2001:db8:1111:2222:3333:4444:ffff:ffff]:65535", "2001:db8:1111:2222:3333:4444:ffff:ffff", "[IPv6:2001:db8:1111:2222:3333:4444:ffff:ffff]" },
	};
	char to[ADDRESS_TEXT];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct address a, b, c;
		const struct sockaddr *sa = (struct sockaddr *)&a.sa;

		assert_true(address_parse(view_cstr(rows[i].in), &a));
		assert_string_equal(address_text(sa, to), rows[i].text);
		assert_string_equal(address_host(sa, to), rows[i].host);
		assert_true(address_parse_host(view_cstr(to), address_port(sa), &b));
		assert_string_equal(address_literal(sa, to), rows[i].literal);
		assert_true(address_parse_host(view_cstr(to), address_port(sa), &c));
		assert_true(address_equal_host(sa, (struct sockaddr *)&b.sa));
		assert_true(address_equal_host(sa, (struct sockaddr *)&c.sa));
		assert_int_equal(address_port((struct sockaddr *)&c.sa), address_port(sa));
	}
}

static void others(void **state)
{
	static const struct { const char *text; bool loop; } rows[] = {
		{ "127.0.0.1:1", true }, { "127.255.0.9:1", true }, { "128.0.0.1:1", false }, { "[::1]:1", true }, { "[::2]:1", false },
		{ "[::ffff:127.0.0.1]:1", true }, { "[::ffff:1.2.3.4]:1", false },
	};
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct address a, b;
	struct view host;
	uint16_t port;
	char to[ADDRESS_TEXT];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_true(address_parse(view_cstr(rows[i].text), &a));
		assert_int_equal(address_is_loopback((struct sockaddr *)&a.sa), rows[i].loop);
	}
	assert_string_equal(address_text((struct sockaddr *)&un, to), "unix");
	assert_true(address_is_loopback((struct sockaddr *)&un));
	assert_int_equal(address_port((struct sockaddr *)&un), 0);
	assert_false(address_equal_host((struct sockaddr *)&un, (struct sockaddr *)&un));
	address_parse(VIEW("1.2.3.4:1"), &a);
	address_parse(VIEW("1.2.3.5:1"), &b);
	assert_false(address_equal_host((struct sockaddr *)&a.sa, (struct sockaddr *)&b.sa));
	assert_true(address_split(VIEW("mx.test:26"), &host, &port));
	assert_true(view_eq(host, VIEW("mx.test")) && port == 26);
	assert_true(address_split(VIEW("mx.test"), &host, &port));
	assert_true(view_eq(host, VIEW("mx.test")) && port == 0);
	assert_true(address_split(VIEW("2001:db8::1"), &host, &port));
	assert_true(view_eq(host, VIEW("2001:db8::1")) && port == 0);
	assert_true(address_split(VIEW("[::1]:26"), &host, &port));
	assert_true(view_eq(host, VIEW("[::1]")) && port == 26);
	assert_false(address_split(VIEW("mx.test:0"), &host, &port));
	assert_false(address_split(VIEW("mx.test:x"), &host, &port));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_none_is_refused),
		cmocka_unit_test(the_spellings_agree),
		cmocka_unit_test(others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
