/* fiber.c - functions that are left and entered again: interleaved, nested calls deep, and many times. */
#include "tls/fiber.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct task {
	unsigned pauses, done, depth;
	unsigned long sum;
};

/* Frames with buffers that the sanitizer watches, on both sides of the pause. */
static unsigned long deep(struct task *t, unsigned left)
{
	volatile unsigned char here[200];
	unsigned long sum = 0;

	memset((void *)(uintptr_t)here, (int)left, sizeof here);
	if (left)
		sum = deep(t, left - 1);
	else
		for (unsigned i = 0; i < t->pauses; i++) {
			assert_ptr_equal(fiber_arg(), t);
			fiber_pause();
			t->done++;
		}
	for (size_t i = 0; i < sizeof here; i++)
		sum += here[i];
	return sum;
}

static void work(void *arg)
{
	struct task *t = arg;

	t->sum = deep(t, t->depth);
}

static unsigned long expected(unsigned depth)
{
	return 200ul * depth * (depth + 1) / 2;
}

static void one_that_never_pauses_is_a_call(void **state)
{
	struct fibers home = { 0 };
	struct fiber *f = (void *)1;
	struct task t = { .depth = 3 };

	(void)state;
	assert_null(fiber_arg());
	assert_int_equal(fiber_start(&home, work, &t, &f), FIBER_OVER);
	assert_null(f);
	assert_null(fiber_arg());
	assert_int_equal(t.sum, expected(3));
	assert_int_equal(home.used_n, 0);
	assert_int_equal(home.idle_n, 1); /* kept for the next */
	fibers_free(&home);
	assert_int_equal(home.idle_n, 0);
}

static void many_wait_at_once_and_end_in_any_order(void **state)
{
	enum { MANY = 50 };
	struct fibers home = { 0 };
	struct fiber *f[MANY];
	struct task t[MANY];
	unsigned left = MANY;

	(void)state;
	for (unsigned round = 0; round < 3; round++, left = MANY) {
		for (unsigned i = 0; i < MANY; i++) {
			t[i] = (struct task){ .pauses = 1 + i * 7 % 5, .depth = i };
			assert_int_equal(fiber_start(&home, work, &t[i], &f[i]), FIBER_PAUSED);
		}
		assert_int_equal(home.used_n, MANY);
		while (left)
			for (unsigned k = 0; k < MANY; k++) {
				unsigned i = (k * 17 + left) % MANY;

				if (!f[i] || fiber_resume(&home, f[i]) == FIBER_PAUSED)
					continue;
				f[i] = NULL;
				left--;
				assert_int_equal(t[i].done, t[i].pauses);
				assert_int_equal(t[i].sum, expected(i));
			}
		assert_int_equal(home.used_n, 0);
		assert_int_equal(home.idle_n, FIBERS_IDLE); /* and no more */
	}
	fibers_free(&home);
}

static void without_memory_nothing_runs(void **state)
{
	struct fibers home = { 0 };
	struct fiber *f;
	struct task t = { .depth = 1 };
	struct rlimit old, none;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
	none = (struct rlimit){ 1, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
	assert_int_equal(fiber_start(&home, work, &t, &f), FIBER_NO_MEMORY);
	assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
	assert_null(f);
	assert_int_equal(t.sum, 0);
	assert_int_equal(home.used_n, 0);
	fibers_free(&home);
}

/* A stack that is too small ends the process: it never grows into what lies below it. */
static void an_overflow_meets_the_guard(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0) {
		struct fibers home = { 0 };
		struct fiber *f;
		struct task t = { .depth = 100000 };

		close(2); /* the sanitizer's words */
		signal(SIGSEGV, SIG_DFL);
		fiber_start(&home, work, &t, &f);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_memory_nothing_runs),
		cmocka_unit_test(an_overflow_meets_the_guard),
		cmocka_unit_test(one_that_never_pauses_is_a_call),
		cmocka_unit_test(many_wait_at_once_and_end_in_any_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
