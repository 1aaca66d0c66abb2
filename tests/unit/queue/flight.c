/* flight.c - marks of deliveries under way: told once in the next life, gone when cleared, harmless when they cannot be. */
#include "queue/flight.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/postrider-flight-XXXXXX";

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	char path[sizeof folder + 16];

	(void)state;
	snprintf(path, sizeof path, "%s/inflight", folder);
	unlink(path);
	return rmdir(folder);
}

static void no_folder_is_no_fault(void **state)
{
	struct flight f;

	(void)state;
	flight_open(&f, &env_real, "/nonexistent");
	assert_int_equal(flight_set(&f, 1, 0), 0);
	flight_clear(&f, 0);
	assert_false(flight_suspected(&f, 1, 0));
	flight_close(&f);
	memset(&f, 0, sizeof f); /* never opened: as a queue under test has it */
	assert_int_equal(flight_set(&f, 1, 0), 0);
	assert_false(flight_suspected(&f, 1, 0));
}

static void told_once_in_the_next_life(void **state)
{
	struct flight f;
	uint32_t a, b;

	(void)state;
	flight_open(&f, &env_real, folder);
	a = flight_set(&f, 7, 0);
	b = flight_set(&f, 7, 1);
	assert_true(a && b && a != b);
	flight_clear(&f, a);
	assert_false(flight_suspected(&f, 7, 1)); /* this life's own marks are no suspicion */
	flight_close(&f);
	flight_open(&f, &env_real, folder);
	assert_false(flight_suspected(&f, 7, 0));
	assert_true(flight_suspected(&f, 7, 1));
	assert_false(flight_suspected(&f, 7, 1));
	flight_close(&f);
	flight_open(&f, &env_real, folder); /* what was told is gone */
	assert_false(flight_suspected(&f, 7, 1));
	flight_close(&f);
}

/* The queue dies, starts, and dies again before it came to that message. */
static void kept_until_told(void **state)
{
	struct flight f;
	uint32_t mark;

	(void)state;
	flight_open(&f, &env_real, folder);
	assert_true(flight_set(&f, 8, 0) && flight_set(&f, 9, 3));
	flight_close(&f);
	flight_open(&f, &env_real, folder);
	assert_true(flight_suspected(&f, 8, 0));
	mark = flight_set(&f, 10, 0); /* takes no place of what is still to be told */
	assert_true(mark != 0);
	flight_close(&f);
	flight_open(&f, &env_real, folder);
	assert_false(flight_suspected(&f, 8, 0));
	assert_true(flight_suspected(&f, 9, 3));
	assert_true(flight_suspected(&f, 10, 0));
	flight_close(&f);
}

/* A mark that nobody asks about (its message ended in the moment of the crash) does not stay for ever. */
static void not_kept_for_ever(void **state)
{
	struct flight f;

	(void)state;
	flight_open(&f, &env_real, folder);
	assert_true(flight_set(&f, 11, 0));
	flight_close(&f);
	for (unsigned i = 0; i < FLIGHT_LIVES; i++) {
		flight_open(&f, &env_real, folder);
		assert_int_equal(f.suspect_count, 1);
		flight_close(&f);
	}
	flight_open(&f, &env_real, folder);
	assert_int_equal(f.suspect_count, 0);
	flight_close(&f);
}

static void full_is_no_fault(void **state)
{
	struct flight f;
	uint32_t last = 0;

	(void)state;
	flight_open(&f, &env_real, folder);
	for (uint64_t i = 0; i < FLIGHT_PLACES; i++)
		assert_true((last = flight_set(&f, i, 0)) != 0);
	assert_int_equal(flight_set(&f, 99999, 0), 0);
	flight_clear(&f, last);
	assert_int_equal(flight_set(&f, 99999, 0), last);
	flight_close(&f);
	flight_open(&f, &env_real, folder);
	assert_int_equal(f.suspect_count, FLIGHT_PLACES);
	assert_true(flight_suspected(&f, 99999, 0));
	assert_true(flight_suspected(&f, 0, 0));
	assert_false(flight_suspected(&f, FLIGHT_PLACES - 1, 0));
	flight_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_folder_is_no_fault),
		cmocka_unit_test(told_once_in_the_next_life),
		cmocka_unit_test(kept_until_told),
		cmocka_unit_test(not_kept_for_ever),
		cmocka_unit_test(full_is_no_fault),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
