/* company.c - when the writer waits for more messages and when it does not (spool_expect, docs/decisions/004).
 *
 * Time is real here, and a busy machine can take it from us.  So what must be seen within some ms is tried several times, and once is
 * enough; what must never be seen is asserted always.
 */
#include "kit.h"

#include <time.h>
#include <unistd.h>

#define TRIES 20
#define MANY 40       /* messages that make it busy */
#define MOMENT_MS 8   /* an answer that waits for nobody is there; one that waits is not, for 30 ms */

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Looks for answers for so long. */
static void look(struct kit *k, unsigned ms)
{
	for (uint64_t until = now_ms() + ms; now_ms() < until; usleep(500))
		spool_dispatch(k->spool);
	spool_dispatch(k->spool);
}

static void make_busy(struct kit *k)
{
	spool_expect(k->spool, 0);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(kit_accept(k, "busy", "smtp:a:25", 1, false).status, SPOOL_OK);
}

static void begin(struct kit *k, struct kit_answer *a)
{
	kit_begin_accept(k, "text", 4, "smtp:a:25", 1, false, a);
	spool_kick(k->spool);
}

static int setup(void **state)
{
	static struct kit k;

	kit_init(&k, KIT_THREADED);
	*state = &k;
	return kit_open(&k);
}

static int teardown(void **state)
{
	kit_end(*state);
	return 0;
}

static void lone_writers_never_wait(void **state)
{
	struct kit *k = *state;
	uint64_t before = now_ms();

	make_busy(k);
	make_busy(k);
	assert_true(now_ms() - before < 2 * MANY * 20); /* 30 ms each if they did */
}

static void busy_ones_wait_for_those_who_come(void **state)
{
	struct kit *k = *state;
	bool seen = false;

	for (int i = 0; i < TRIES && !seen; i++) {
		struct kit_answer a = { 0 }, b = { 0 };
		bool waited;
		make_busy(k);
		spool_expect(k->spool, 2);
		begin(k, &a);
		look(k, MOMENT_MS);
		waited = !a.done;
		begin(k, &b);
		look(k, MOMENT_MS);
		seen = waited && a.done && b.done;
		kit_wait(k, &a.done);
		kit_wait(k, &b.done);
		assert_int_equal(a.status, SPOOL_OK);
		assert_int_equal(b.status, SPOOL_OK);
	}
	assert_true(seen);
}

static void not_for_ever(void **state)
{
	struct kit *k = *state;
	struct kit_answer a = { 0 };
	uint64_t before;

	make_busy(k);
	spool_expect(k->spool, 50);
	before = now_ms();
	begin(k, &a);
	kit_wait(k, &a.done);
	assert_int_equal(a.status, SPOOL_OK);
	assert_in_range(now_ms() - before, 25, 2000);
}

static void not_when_little_came_lately(void **state)
{
	struct kit *k = *state;
	bool seen = false;

	for (int i = 0; i < TRIES && !seen; i++) {
		struct kit_answer a = { 0 };
		usleep(300000);
		spool_expect(k->spool, 50);
		begin(k, &a);
		look(k, MOMENT_MS);
		seen = a.done;
		kit_wait(k, &a.done);
	}
	assert_true(seen);
}

static void outcomes_ride_with_the_next_message(void **state)
{
	struct kit *k = *state;
	bool seen = false;

	for (int i = 0; i < TRIES && !seen; i++) {
		struct kit_answer message, outcome = { 0 }, a = { 0 };
		bool waited;
		make_busy(k);
		message = kit_accept(k, "text", "smtp:b:25", 1, true);
		spool_settle(k->spool, message.id, 0, NULL, NULL, 0, kit_done, &outcome);
		spool_kick(k->spool);
		look(k, MOMENT_MS);
		waited = !outcome.done;
		begin(k, &a);
		look(k, MOMENT_MS);
		seen = waited && outcome.done && a.done;
		kit_wait(k, &outcome.done);
		kit_wait(k, &a.done);
		assert_int_equal(outcome.status, SPOOL_OK);
	}
	assert_true(seen);
}

/* A full window of deliveries waits for eight places. */
static void outcomes_that_are_wanted_do_not(void **state)
{
	struct kit *k = *state;
	bool seen = false;

	for (int i = 0; i < TRIES && !seen; i++) {
		struct kit_answer message[8], outcome[8] = { 0 };
		bool waited, all = true;
		make_busy(k);
		for (int n = 0; n < 8; n++)
			message[n] = kit_accept(k, "text", "smtp:b:25", 1, true);
		spool_expect(k->spool, 50);
		for (int n = 0; n < 8; n++) {
			if (n == 7)
				look(k, MOMENT_MS);
			waited = !outcome[0].done;
			spool_settle(k->spool, message[n].id, 0, NULL, NULL, 0, kit_done, &outcome[n]);
			spool_wanted(k->spool);
			spool_kick(k->spool);
		}
		look(k, MOMENT_MS);
		for (int n = 0; n < 8; n++)
			all = all && outcome[n].done;
		seen = waited && all;
		for (int n = 0; n < 8; n++)
			kit_wait(k, &outcome[n].done);
	}
	assert_true(seen);
}

static void an_operator_waits_for_nobody(void **state)
{
	struct kit *k = *state;
	bool seen = false;

	for (int i = 0; i < TRIES && !seen; i++) {
		struct kit_answer a = { 0 };
		uint64_t before;
		make_busy(k);
		spool_expect(k->spool, 50);
		begin(k, &a);
		before = now_ms();
		kit_hold(k, 1, NULL, true);
		seen = now_ms() - before < 2 * MOMENT_MS;
		kit_wait(k, &a.done);
	}
	assert_true(seen);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(lone_writers_never_wait, setup, teardown),
		cmocka_unit_test_setup_teardown(busy_ones_wait_for_those_who_come, setup, teardown),
		cmocka_unit_test_setup_teardown(not_for_ever, setup, teardown),
		cmocka_unit_test_setup_teardown(not_when_little_came_lately, setup, teardown),
		cmocka_unit_test_setup_teardown(outcomes_ride_with_the_next_message, setup, teardown),
		cmocka_unit_test_setup_teardown(outcomes_that_are_wanted_do_not, setup, teardown),
		cmocka_unit_test_setup_teardown(an_operator_waits_for_nobody, setup, teardown),
	};

	return cmocka_run_group_tests_name("spool company", tests, NULL, NULL);
}
