/* Whose turn it is: windows, back-off, fairness, and a dead destination with very much mail. */
#include "harness.h"
#include "queue/schedule.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MINUTE 60000
#define HOUR   (60 * MINUTE)

static void many(struct harness *h, const char *domain, unsigned n)
{
	char rcpt[100];
	unsigned i;

	for (i = 0; i < n; i++) {
		snprintf(rcpt, sizeof rcpt, "u%u@%s", i, domain);
		submit(h, &(struct submit){ .sender = "", .rcpts = { rcpt } });
		if (i % 64 == 63)
			harness_run(h);
	}
	harness_run(h);
}

/* ---- windows ---- */

static void window_opens_slowly(void **state)
{
	struct harness *h = harness_new("destination_window = 8\n");
	unsigned i;

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, NULL);
	many(h, "relay.test", 40);
	assert_int_equal(h->send.open, SCHEDULE_WINDOW_FIRST);
	say_ok(&h->got[0]);
	harness_run(h);
	assert_int_equal(h->send.open, SCHEDULE_WINDOW_FIRST + 1);
	for (i = 1; i < h->got_n; i++) {
		say_ok(&h->got[i]);
		harness_run(h);
	}
	assert_int_equal(h->send.open_most, 8);
	assert_int_equal(h->send.deliveries, 40);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

static void window_small_by_configuration(void **state)
{
	struct harness *h = harness_new("destination_window = 1\n");

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, NULL);
	many(h, "relay.test", 10);
	assert_int_equal(h->send.open, 1);
	harness_free(h);
}

static void cap_of_all(void **state)
{
	struct harness *h = harness_new("deliveries = 7\n");
	char domain[40];
	unsigned i;

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, NULL);
	for (i = 0; i < 20; i++) {
		snprintf(domain, sizeof domain, "d%u.example", i);
		many(h, domain, 3);
	}
	assert_int_equal(h->send.open, 7);
	for (i = 0; i < h->got_n; i++) {
		say_ok(&h->got[i]);
		harness_run(h);
		assert_true(h->send.open <= 7);
	}
	assert_int_equal(h->send.deliveries, 60);
	assert_int_equal(stats(h).messages, 0);
	assert_int_equal(h->q->schedule.in_flight, 0);
	harness_free(h);
}

/* One after the other: with room for one delivery, nobody gets a second turn before all had their first. */
static void round_robin(void **state)
{
	struct harness *h = harness_new("deliveries = 1\n");
	char domain[40];
	unsigned i, k, seen[10] = { 0 };

	(void)state;
	for (i = 0; i < 10; i++) {
		snprintf(domain, sizeof domain, "d%u.example", i);
		many(h, domain, 10);
	}
	harness_connect(h, &h->send, ROLE_SEND, 1, NULL);
	harness_run(h);
	for (i = 0; i < 100; i++) {
		assert_int_equal(h->got_n, i + 1);
		for (k = 0; k < 10; k++) {
			snprintf(domain, sizeof domain, "mx:d%u.example", k);
			if (!strcmp(h->got[i].dest, domain))
				seen[k]++;
		}
		if (i % 10 == 9)
			for (k = 0; k < 10; k++)
				assert_int_equal(seen[k], i / 10 + 1);
		say_ok(&h->got[i]);
		harness_run(h);
	}
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

/* ---- back-off ---- */

static void pauses(void **state)
{
	struct harness *h = harness_new(NULL);
	unsigned n, i;

	(void)state;
	for (i = 0; i < 200; i++)
		for (n = 1; n < 40; n++) {
			int64_t base = 5 * MINUTE, p = schedule_pause(h->q, n);
			unsigned k;

			for (k = 1; k < n && base < 4 * HOUR; k++)
				base *= 2;
			if (base > 4 * HOUR)
				base = 4 * HOUR;
			assert_true(p >= base - base / 4 && p <= base + base / 4);
		}
	harness_free(h);
}

static void by_dest(struct got *g)
{
	if (strstr(g->dest, "2651"))
		say_host_failed(g);
	else
		say_ok(g);
}

/* A dead destination costs few attempts, however much waits for it; all of it goes once it answers. */
static void dead_costs_little(void **state)
{
	struct harness *h = harness_new("bounce_lifetime = \"5d\"\n");
	unsigned attempts;

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, by_dest);
	harness_connect(h, &h->local, ROLE_LOCAL, 1, say_ok);
	many(h, "dead.test", 1000);
	harness_pass(h, MINUTE);
	assert_true(h->send.deliveries <= SCHEDULE_WINDOW_FIRST);
	harness_pass(h, 24 * HOUR);
	attempts = (unsigned)h->send.deliveries;
	assert_true(attempts > 6 && attempts < 30);
	assert_int_equal(stats(h).envelopes, 1000);
	assert_true(logged(h, "destination_failed", NULL) > 6);
	h->send.script = say_ok;
	harness_pass(h, 5 * HOUR);
	assert_int_equal(logged(h, "destination_back", NULL), 1);
	assert_int_equal(stats(h).envelopes, 0);
	assert_true(h->send.deliveries >= 1000 + attempts);
	harness_free(h);
}

/* Mail that was never tried because its destination is dead expires all the same, and its sender is warned before. */
static void dead_expires(void **state)
{
	struct harness *h = harness_new("lifetime = \"1d\"\n");

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, by_dest);
	harness_connect(h, &h->local, ROLE_LOCAL, 1, say_ok);
	submit_done(h, &(struct submit){ .sender = "boss@local.test", .rcpts = { "first@dead.test" } }, WIRE_DONE_OK);
	harness_pass(h, 3 * MINUTE);
	submit_done(h, &(struct submit){ .sender = "boss@local.test", .rcpts = { "never@dead.test" } }, WIRE_DONE_OK);
	harness_pass(h, 6 * HOUR);
	assert_int_equal(logged(h, "bounced", "kind=delayed"), 2);
	harness_pass(h, 30 * HOUR);
	assert_int_equal(logged(h, "expired", "to=never@dead.test"), 1);
	assert_int_equal(logged(h, "bounced", "kind=failed"), 2);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

static void flaky(struct got *g)
{
	if (g->stream % 3 == 0)
		say_host_failed(g);
	else
		say_ok(g);
}

static void flaky_host_gets_all(void **state)
{
	struct harness *h = harness_new(NULL);

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, flaky);
	many(h, "relay.test", 300);
	harness_pass(h, 12 * HOUR);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

/* ---- ten thousand for one dead destination ---- */

static void answer_live_only(struct got *g)
{
	if (strstr(g->dest, "2650"))
		say_ok(g);
	else if (g->peer->deliveries % 2)
		say_host_failed(g); /* half of the attempts at the dead one fail, half hang */
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void thousands_dead(void **state)
{
	enum { N = 3000 }; /* the memory spool walks all for each question; dead.c has a hundred thousand on the disk */
	struct harness *h = harness_new(NULL);
	double begin;
	unsigned i;

	(void)state;
	for (i = 0; i < N; i++) {
		submit(h, &(struct submit){ .sender = "", .rcpts = { "u@dead.test" } });
		if (i % 512 == 511) {
			int k;

			for (k = 0; k < 4; k++)
				loop_turn(h->loop, false);
		}
		if (h->done_n >= GOT_MAX)
			h->done_n = 0;
	}
	harness_run(h);
	assert_int_equal(stats(h).envelopes, N);
	harness_connect(h, &h->send, ROLE_SEND, 1, answer_live_only);
	begin = seconds();
	/* live mail among them, while the dead destination fails, is put off, fails again */
	for (i = 0; i < 50; i++) {
		h->done_n = 0;
		submit(h, &(struct submit){ .sender = "", .rcpts = { "live@relay.test" } });
		harness_pass(h, 1900);
		assert_int_equal(h->counters[EVENT_DELIVERED], i + 1); /* the log is too long to be read each time */
		harness_pass(h, 10000);
	}
	assert_true(seconds() - begin < 50 * 2.0); /* of real time, with the sanitizers */
	assert_int_equal(stats(h).envelopes, N);
	assert_true(h->send.deliveries < 50 + 40);
	harness_free(h);
}

/* ---- many destinations ---- */

static void idle_are_forgotten(void **state)
{
	struct harness *h = harness_new(NULL);
	char domain[40];
	unsigned i;

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_ok);
	for (i = 0; i < SCHEDULE_IDLE_MAX + 500; i++) {
		snprintf(domain, sizeof domain, "u@d%u.example", i);
		submit(h, &(struct submit){ .sender = "", .rcpts = { domain } });
		if (i % 64 == 63)
			harness_run(h);
	}
	harness_run(h);
	assert_int_equal(stats(h).messages, 0);
	assert_true(h->q->schedule.dests.count <= SCHEDULE_IDLE_MAX + 1);
	harness_free(h);
}

/* More dead destinations than are asked of the spool at once do not hide a live one. */
static void many_dead_destinations(void **state)
{
	struct harness *h = harness_new(NULL);
	char domain[40];
	unsigned i;

	(void)state;
	for (i = 0; i < SCHEDULE_ASK_FIRST + 500; i++) {
		snprintf(domain, sizeof domain, "u@d%u.example", i);
		submit(h, &(struct submit){ .sender = "", .rcpts = { domain } });
		if (i % 64 == 63)
			harness_run(h);
	}
	harness_connect(h, &h->send, ROLE_SEND, 1, say_host_failed);
	harness_pass(h, HOUR);
	h->send.script = say_ok;
	h->done_n = 0;
	submit_done(h, &(struct submit){ .sender = "", .rcpts = { "live@relay.test" } }, WIRE_DONE_OK);
	assert_int_equal(h->counters[EVENT_DELIVERED], 1);
	harness_pass(h, 10 * HOUR);
	assert_int_equal(stats(h).messages, 0);
	harness_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(window_opens_slowly),
		cmocka_unit_test(window_small_by_configuration),
		cmocka_unit_test(cap_of_all),
		cmocka_unit_test(round_robin),
		cmocka_unit_test(pauses),
		cmocka_unit_test(dead_costs_little),
		cmocka_unit_test(dead_expires),
		cmocka_unit_test(flaky_host_gets_all),
		cmocka_unit_test(thousands_dead),
		cmocka_unit_test(idle_are_forgotten),
		cmocka_unit_test(many_dead_destinations),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
