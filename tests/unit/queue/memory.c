/* Memory runs out at the n-th request, for every n that a message meets on its way: it is answered as temporary or it
 * is kept; nothing crashes, nothing leaks, nothing that was acknowledged is lost.  malloc, calloc and realloc of our
 * own objects are wrapped by the linker. */
#include "harness.h"
#include "psmtp.h"

#include <stdio.h>
#include <stdlib.h>

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__wrap_malloc(size_t);
void *__wrap_calloc(size_t, size_t);
void *__wrap_realloc(void *, size_t);

static long countdown = -1; /* requests until one fails; negative: none */

static bool fails(void)
{
	return !harness_busy && countdown >= 0 && countdown-- == 0;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n)
{
	return n && fails() ? NULL : __real_realloc(p, n);
}

/* Roles that the queue has closed its channel to are started anew. */
static void come_back(struct harness *h, script *s, uint32_t generation)
{
	if (h->receive_closed)
		harness_receive(h);
	if (h->send.closed)
		harness_connect(h, &h->send, ROLE_SEND, generation, s);
	if (h->local.closed)
		harness_connect(h, &h->local, ROLE_LOCAL, generation, say_ok);
}

static void nothing_is_left(struct harness *h)
{
	assert_int_equal(stats(h).messages, 0);
	assert_int_equal(h->q->bytes_total, 0);
	assert_int_equal(h->q->schedule.in_flight, 0);
	harness_free(h);
}

/* The whole way of a message while the n-th request fails; then, with memory again, all must end well. */
static bool walk(long n, script *s)
{
	struct harness *h = harness_new(NULL);
	bool failed;
	unsigned i;

	harness_connect(h, &h->send, ROLE_SEND, 1, s);
	harness_connect(h, &h->local, ROLE_LOCAL, 1, say_ok);
	harness_run(h);
	submit(h, &(struct submit){ .sender = "boss@local.test",
				    .rcpts = { "a@relay.test", "b@relay.test", "c@local.test" } });
	countdown = n;
	harness_run(h);
	failed = countdown < 0;
	countdown = -1;
	come_back(h, s, 2);
	for (i = 0; i < 10; i++)
		harness_pass(h, 60000);
	assert_true(h->done_n <= 1);
	if (h->done_n && h->done[0].status == WIRE_DONE_OK && s == say_ok)
		assert_true(h->counters[EVENT_DELIVERED] >= 3);
	if (h->done_n && h->done[0].status == WIRE_DONE_OK && s == say_permanent)
		assert_true(h->counters[EVENT_BOUNCED] >= 1);
	if (h->done_n && h->done[0].status != WIRE_DONE_OK)
		assert_int_equal(h->counters[EVENT_DELIVERED], 0);
	nothing_is_left(h);
	return failed;
}

static void delivered(void **state)
{
	long n;

	(void)state;
	for (n = 0; walk(n, say_ok); n++)
		;
	print_message("%ld requests\n", n);
	assert_true(n > 20);
}

static void bounced(void **state)
{
	long n;

	(void)state;
	for (n = 0; walk(n, say_permanent); n++)
		;
	print_message("%ld requests\n", n);
	assert_true(n > 30);
}

/* ---- the long way: delayed, warned of, tried again, given up ---- */

/* Everything that an envelope can carry. */
static const struct submit rich = { .sender = "boss@local.test", .envid = "an+20id", .ret = 1, .notify = PSMTP_NOTIFY_SUCCESS | PSMTP_NOTIFY_FAILURE | PSMTP_NOTIFY_DELAY, .orcpt = "rfc822;first+40orig.test",
				    .rcpts = { "a@relay.test", "b@relay.test", "c@local.test", "d@dead.test", "e@other.example" } };

static void every_third(struct got *g)
{
	static unsigned n;

	n++ % 3 ? say_temporary(g) : say_ok(g);
}

/* Some minutes with the n-th request failing; then with memory again until nothing is left. */
static bool long_walk(long n, script *s)
{
	struct harness *h = harness_new("retry_min = 20s\nretry_max = 60s\ndelay_warning = 40s\nlifetime = 3m\nbounce_lifetime = 2m\n");
	bool failed;

	harness_connect(h, &h->send, ROLE_SEND, 1, s);
	harness_connect(h, &h->local, ROLE_LOCAL, 1, say_ok);
	harness_run(h);
	submit(h, &rich);
	countdown = n;
	harness_run(h);
	for (unsigned minute = 0; minute < 3; minute++)
		harness_pass(h, 60000);
	failed = countdown < 0;
	countdown = -1;
	for (unsigned minute = 0; minute < 12; minute++) {
		come_back(h, s, minute + 2);
		harness_pass(h, 60000);
	}
	if (h->done_n && h->done[0].status == WIRE_DONE_OK) { /* each recipient had its end: told, or reported */
		assert_true(h->counters[EVENT_DELIVERED] >= 1);
		assert_true(h->counters[EVENT_DELIVERED] + h->counters[EVENT_EXPIRED] >= 5);
		if (s != every_third)
			assert_true(h->counters[EVENT_BOUNCED] >= 1);
	}
	nothing_is_left(h);
	return failed;
}

static void delayed(void **state)
{
	static script *const scripts[] = { say_temporary, say_host_failed, every_third };
	long n, all = 0;

	(void)state;
	for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
		for (n = 0; long_walk(n, scripts[i]); n += n < 100 ? 1 : 5)
			;
		assert_true(n > 60);
		all += n;
	}
	print_message("%ld requests\n", all);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(delivered), cmocka_unit_test(bounced), cmocka_unit_test(delayed) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
