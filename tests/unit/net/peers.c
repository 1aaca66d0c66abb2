/* peers.c - who counts as one client, and that a table of many forgets them all. */
#include "net/peers.h"

#include "net/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>

static const struct sockaddr *sa(const char *text)
{
	static struct address a;

	assert_true(address_parse_host(view_cstr(text), 25, &a));
	return (const struct sockaddr *)&a.sa;
}

static void who_counts_as_one_client(void **state)
{
	struct peers *p = peers_new(0x1234567);
	char text[64];

	(void)state;
	assert_true(peers_enter(p, sa("192.0.2.1"), 2));
	assert_true(peers_enter(p, sa("::ffff:192.0.2.1"), 2)); /* the same host */
	assert_false(peers_enter(p, sa("192.0.2.1"), 2));
	assert_true(peers_enter(p, sa("192.0.2.2"), 2));
	assert_true(peers_enter(p, sa("192.0.2.1"), 0)); /* no limit, but counted */
	peers_leave(p, sa("192.0.2.1"));
	peers_leave(p, sa("192.0.2.1"));
	assert_true(peers_enter(p, sa("192.0.2.1"), 2));
	assert_true(peers_enter(p, sa("2001:db8:1:2::1"), 1));
	assert_false(peers_enter(p, sa("2001:db8:1:2:ffff::2"), 1)); /* one /64 */
	assert_true(peers_enter(p, sa("2001:db8:1:3::1"), 1));
	peers_leave(p, sa("2001:db8:1:2:abcd::"));
	assert_true(peers_enter(p, sa("2001:db8:1:2::1"), 1));
	for (unsigned round = 0; round < 2; round++) { /* twenty thousand come and go */
		for (unsigned i = 0; i < 20000; i++) {
			snprintf(text, sizeof text, "10.%u.%u.%u", i >> 16, (i >> 8) & 255, i & 255);
			assert_true(peers_enter(p, sa(text), 1));
		}
		for (unsigned i = 0; i < 20000; i++) {
			snprintf(text, sizeof text, "10.%u.%u.%u", i >> 16, (i >> 8) & 255, i & 255);
			peers_leave(p, sa(text));
		}
	}
	peers_free(p); /* with entries left */
	peers_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(who_counts_as_one_client) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
