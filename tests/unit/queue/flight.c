/* flight.c - marks of deliveries under way: told once in the next life, gone when cleared, harmless when they cannot be. */
#include "queue/flight.h"

#include <errno.h>
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
	assert_false(flight_suspected(&f, 1, 0, 1));
	flight_close(&f);
	memset(&f, 0, sizeof f); /* never opened: as a queue under test has it */
	assert_int_equal(flight_set(&f, 1, 0), 0);
	assert_false(flight_suspected(&f, 1, 0, 1));
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
	assert_false(flight_suspected(&f, 7, 1, 1)); /* this life's own marks are no suspicion */
	flight_close(&f);
	flight_open(&f, &env_real, folder);
	assert_false(flight_suspected(&f, 7, 0, 1));
	assert_true(flight_suspected(&f, 7, 1, 1));
	assert_false(flight_suspected(&f, 7, 1, 1));
	flight_close(&f);
	flight_open(&f, &env_real, folder); /* what was told is gone */
	assert_false(flight_suspected(&f, 7, 1, 1));
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
	assert_true(flight_suspected(&f, 8, 0, 1));
	mark = flight_set(&f, 10, 0); /* takes no place of what is still to be told */
	assert_true(mark != 0);
	flight_close(&f);
	flight_open(&f, &env_real, folder);
	assert_false(flight_suspected(&f, 8, 0, 1));
	assert_true(flight_suspected(&f, 9, 3, 1));
	assert_true(flight_suspected(&f, 10, 0, 1));
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
	assert_true(flight_suspected(&f, 99999, 0, 1));
	assert_true(flight_suspected(&f, 0, 0, 1));
	assert_false(flight_suspected(&f, FLIGHT_PLACES - 1, 0, 1));
	flight_close(&f);
}

static ssize_t pwrite_of_a_full_disk(void *arg, int fd, const void *from, size_t n, off_t at)
{
	if (at + (off_t)n > env_real.disk.size(arg, fd)) {
		errno = ENOSPC;
		return -1;
	}
	return env_real.disk.pwrite(arg, fd, from, n, at);
}

/* Outcomes cannot be written either then, so these are the doubles to come. */
static void a_full_disk_takes_no_mark(void **state)
{
	struct env full = env_real;
	struct flight f;
	char path[sizeof folder + 16];

	(void)state;
	snprintf(path, sizeof path, "%s/inflight", folder);
	unlink(path);
	flight_open(&f, &env_real, folder);
	full.disk.pwrite = pwrite_of_a_full_disk;
	f.env = &full;
	for (uint64_t i = 0; i < FLIGHT_PLACES; i++)
		assert_true(flight_set(&f, i, 0) != 0);
	f.env = &env_real;
	flight_close(&f);
	flight_open(&f, &env_real, folder);
	assert_true(flight_suspected(&f, FLIGHT_PLACES - 1, 0, 1));
	flight_close(&f);
	unlink(path);
}

static int64_t wall = 1000000, mono = 5000;

static int64_t fake_wall(void *arg)
{
	(void)arg;
	return wall;
}

static int64_t fake_mono(void *arg)
{
	(void)arg;
	return mono;
}

/* As a machine that lost its power leaves it: not closed, and what was marked last is not there. */
static void cut(struct flight *f)
{
	char path[sizeof folder + 16];

	snprintf(path, sizeof path, "%s/inflight", folder);
	f->env->disk.close(f->env->disk.arg, f->fd - 1);
	f->fd = 0;
	flight_close(f);
	assert_int_equal(truncate(path, sizeof(struct flight_head)), 0);
}

static void all_that_was_due_is_suspected_after_a_power_cut(void **state)
{
	struct env env = env_real;
	char path[sizeof folder + 16];
	struct flight f;

	(void)state;
	snprintf(path, sizeof path, "%s/inflight", folder);
	unlink(path); /* with the marks of the tests before */
	env.wall_ms = fake_wall;
	env.mono_ms = fake_mono;
	flight_open(&f, &env, folder);
	flight_close(&f); /* in order, and in whatever run before */
	wall += 100000, mono = 7000;
	flight_open(&f, &env, folder);
	assert_false(flight_suspected(&f, 1, 0, wall)); /* closed in order: another run tells nothing */
	assert_true(flight_set(&f, 1, 0) != 0);
	wall += 50000, mono += 50000;
	cut(&f);
	flight_open(&f, &env, folder); /* the same run of the machine: only the process died, and the marks are true */
	assert_false(flight_suspected(&f, 1, 0, wall));
	cut(&f);
	wall += 100000, mono = 9000; /* the machine came up again */
	flight_open(&f, &env, folder);
	assert_true(flight_suspected(&f, 1, 0, wall));
	assert_true(flight_suspected(&f, 2, 7, wall - 99999));
	assert_false(flight_suspected(&f, 1, 0, wall + 1)); /* came, or was put off, in this life */
	cut(&f);
	wall += 100000, mono = 9000; /* and again, before anything was settled */
	flight_open(&f, &env, folder);
	assert_true(flight_suspected(&f, 1, 0, wall - 150000));
	flight_close(&f);
	wall += 10, mono += 10;
	flight_open(&f, &env, folder); /* what is due since then still was not tried */
	assert_true(flight_suspected(&f, 1, 0, wall - 150000));
	assert_false(flight_suspected(&f, 1, 0, wall));
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
		cmocka_unit_test(a_full_disk_takes_no_mark),
		cmocka_unit_test(all_that_was_due_is_suspected_after_a_power_cut),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
