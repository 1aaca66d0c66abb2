/* On the disk, with the writer's thread: a hundred thousand messages for a destination that never answers, and live
 * mail to others within two seconds (issue: "Done means", 3); then a restart, and all of it is still there. */
#include "harness.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define ALL       100000u
#define LIVE      20u
#define IN_FLIGHT 500u /* submitted and not answered yet: some senders */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	return remove(path);
}

static void remove_all(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void by_dest(struct got *g)
{
	if (strstr(g->dest, "2650"))
		say_ok(g);
	else if (g->peer->deliveries % 2)
		say_host_failed(g); /* the others hang */
}

static void fill(struct harness *h)
{
	unsigned i;

	for (i = 0; i < ALL; i++) {
		submit(h, &(struct submit){ .sender = "", .rcpts = { "u@dead.test" } });
		while (i + 1 - h->done_n > IN_FLIGHT)
			loop_turn(h->loop, true);
	}
	while (h->done_n < ALL)
		loop_turn(h->loop, true);
}

static void live_within_two_seconds(void **state)
{
	char path[] = "/var/tmp/postrider-dead-XXXXXX";
	double begin, worst = 0, took;
	struct harness *h;
	unsigned i;

	(void)state;
	assert_non_null(mkdtemp(path));
	h = harness_new_disk(NULL, path);
	harness_connect(h, &h->send, ROLE_SEND, 1, by_dest);
	fill(h);
	assert_int_equal(stats(h).envelopes, ALL);
	for (i = 0; i < LIVE; i++) {
		begin = seconds();
		submit(h, &(struct submit){ .sender = "", .rcpts = { "live@relay.test" } });
		while (h->counters[EVENT_DELIVERED] <= i && seconds() - begin < 5)
			loop_turn(h->loop, true);
		took = seconds() - begin;
		if (took > worst)
			worst = took;
	}
	print_message("slowest of %u live messages: %.0f ms\n", LIVE, worst * 1000);
	assert_true(worst < 2);
	harness_free(h);

	h = harness_new_disk(NULL, path); /* the stop lost nothing, and the start is not slow */
	harness_connect(h, &h->send, ROLE_SEND, 1, by_dest);
	begin = seconds();
	submit(h, &(struct submit){ .sender = "", .rcpts = { "live@relay.test" } });
	while (!h->counters[EVENT_DELIVERED] && seconds() - begin < 5)
		loop_turn(h->loop, true);
	assert_true(seconds() - begin < 2);
	while (stats(h).envelopes != ALL && seconds() - begin < 5) /* its settle is under way */
		loop_turn(h->loop, true);
	assert_int_equal(stats(h).envelopes, ALL);
	assert_int_equal(h->counters[EVENT_DELIVERED], 1); /* none of before came back */
	harness_free(h);
	remove_all(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(live_within_two_seconds) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
