/* plan.c - tests of route/plan.c: order, shuffle, ourselves at each place, null and implicit MX. */
#include "route/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct route_host hosts[ROUTE_HOSTS_MAX];
static size_t count;

static void seeded(void *arg, void *to, size_t n)
{
	(void)arg;
	for (unsigned char *p = to; n--;)
		*p++ = (unsigned char)(rand() >> 7);
}

static const struct env env = { .random = seeded };

static enum route_plan_result plan(const struct route_mx *r, size_t n)
{
	return route_plan_mx(r, n, VIEW("example.org"), VIEW("mx.ours.test"), &env, hosts, &count);
}

static void test_null_mx(void **state)
{
	const struct route_mx null[] = { { 0, { "", 0 } } }, dot[] = { { 0, { ".", 1 } } };
	const struct route_mx beside[] = { { 0, { "", 0 } }, { 5, { "a.test", 6 } } }, two[] = { { 0, { "", 0 } }, { 1, { "", 0 } } };

	(void)state;
	assert_int_equal(plan(null, 1), ROUTE_PLAN_NULL_MX);
	assert_int_equal(plan(dot, 1), ROUTE_PLAN_NULL_MX);
	assert_int_equal(plan(beside, 2), ROUTE_PLAN_HOSTS); /* RFC 7505 3: it must stand alone to mean that */
	assert_int_equal(count, 1);
	assert_string_equal(hosts[0].name, "a.test");
	assert_int_equal(plan(two, 2), ROUTE_PLAN_NULL_MX);
	assert_int_equal(count, 0);
}

static void test_implicit(void **state)
{
	(void)state;
	assert_int_equal(plan(NULL, 0), ROUTE_PLAN_IMPLICIT);
	assert_int_equal(count, 1);
	assert_string_equal(hosts[0].name, "example.org");
	assert_int_equal(route_plan_mx(NULL, 0, VIEW("MX.ours.TEST."), VIEW("mx.ours.test"), &env, hosts, &count), ROUTE_PLAN_LOOP);
	assert_int_equal(count, 0);
}

static void test_order(void **state)
{
	const struct route_mx r[] = { { 30, { "c.test.", 7 } }, { 65535, { "d.test", 6 } }, { 0, { "a.test", 6 } }, { 20, { "b.test", 6 } } };

	(void)state;
	for (int i = 0; i < 50; i++) {
		assert_int_equal(plan(r, 4), ROUTE_PLAN_HOSTS);
		assert_int_equal(count, 4);
		for (size_t h = 0; h < 4; h++) {
			char name[8];
			snprintf(name, sizeof name, "%c.test", (char)('a' + h));
			assert_string_equal(hosts[h].name, name);
		}
	}
}

/* Every order of three equals comes as often as another: 6,000 draws, 1,000 each expected, sigma about 29. */
static void test_shuffle(void **state)
{
	const struct route_mx r[] = { { 10, { "a", 1 } }, { 10, { "b", 1 } }, { 10, { "c", 1 } }, { 5, { "first", 5 } }, { 20, { "last", 4 } } };
	unsigned seen[27] = { 0 };
	unsigned orders = 0;

	(void)state;
	srand(3);
	for (int i = 0; i < 6000; i++) {
		plan(r, 5);
		assert_int_equal(count, 5);
		assert_string_equal(hosts[0].name, "first");
		assert_string_equal(hosts[4].name, "last");
		seen[(hosts[1].name[0] - 'a') * 9 + (hosts[2].name[0] - 'a') * 3 + hosts[3].name[0] - 'a']++;
	}
	for (size_t i = 0; i < 27; i++)
		if (seen[i]) {
			orders++;
			assert_in_range(seen[i], 850, 1150);
		}
	assert_int_equal(orders, 6);
}

/* Ourselves at each place: what is before us stays; equals of ours and what is behind go (RFC 5321 5.1). */
static void test_ourselves(void **state)
{
	(void)state;
	for (unsigned at = 0; at < 5; at++) {
		struct route_mx r[5];
		char names[5][8];

		for (unsigned i = 0; i < 5; i++) {
			snprintf(names[i], sizeof names[i], "h%u", i);
			r[i] = (struct route_mx){ (uint16_t)(10 * i), i == at ? VIEW("MX.Ours.test.") : view_cstr(names[i]) };
		}
		assert_int_equal(plan(r, 5), at ? ROUTE_PLAN_HOSTS : ROUTE_PLAN_LOOP);
		assert_int_equal(count, at);
		for (unsigned i = 0; i < at; i++)
			assert_string_equal(hosts[i].name, names[i]);
	}
	struct route_mx equal[] = { { 10, { "a", 1 } }, { 10, { "mx.ours.test", 12 } }, { 5, { "b", 1 } } };
	for (int i = 0; i < 50; i++) {
		assert_int_equal(plan(equal, 3), ROUTE_PLAN_HOSTS);
		assert_int_equal(count, 1);
		assert_string_equal(hosts[0].name, "b");
	}
	struct route_mx twice[] = { { 65535, { "mx.ours.test", 12 } }, { 7, { "mx.ours.test", 12 } }, { 8, { "b", 1 } } };
	assert_int_equal(plan(twice, 3), ROUTE_PLAN_LOOP);
}

static void test_limits(void **state)
{
	struct route_mx many[300];
	char long_name[ROUTE_HOST_MAX + 1];
	const struct route_mx too_long[] = { { 1, { long_name, ROUTE_HOST_MAX } }, { 2, { "b", 1 } } };

	(void)state;
	for (unsigned i = 0; i < 300; i++)
		many[i] = (struct route_mx){ (uint16_t)i, VIEW("h") };
	assert_int_equal(plan(many, 300), ROUTE_PLAN_HOSTS);
	assert_int_equal(count, ROUTE_HOSTS_MAX);
	memset(long_name, 'x', sizeof long_name);
	assert_int_equal(plan(too_long, 2), ROUTE_PLAN_HOSTS);
	assert_int_equal(count, 1);
	assert_string_equal(hosts[0].name, "b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_null_mx), cmocka_unit_test(test_implicit), cmocka_unit_test(test_order),
		cmocka_unit_test(test_shuffle), cmocka_unit_test(test_ourselves), cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
