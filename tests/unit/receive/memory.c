/* memory.c - a whole session with the n-th allocation of the role failing, for every n: no crash, no leak, no lost place,
 * and a 250 only for what was submitted. */
#include "world.h"

static bool armed;
static long calls, fail_at;

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__wrap_malloc(size_t);
void *__wrap_calloc(size_t, size_t);
void *__wrap_realloc(void *, size_t);

static bool fails(void)
{
	return armed && ++calls == fail_at;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t m)
{
	return fails() ? NULL : __real_calloc(n, m);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

/* The fake queue and local are the test's, and the test always has memory. */
static void calm_queue(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	armed = false;
	queue_frame(arg, ch, type, payload, fd);
	armed = true;
}

static void calm_local(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	armed = false;
	local_frame(arg, ch, type, payload, fd);
	armed = true;
}

static const struct channel_handler calm_queue_handler = { calm_queue, peer_closed, NULL };
static const struct channel_handler calm_local_handler = { calm_local, peer_closed, NULL };

static void nothing(void *arg)
{
	(void)arg;
}

/* Turns until n replies have come, or nothing comes any more. */
static unsigned turn_until(struct client *c, unsigned n)
{
	for (int quiet = 0; quiet < 60 && replies(c) < n && !c->ended; quiet++) {
		armed = true;
		loop_turn(c->w->rig->loop, false);
		armed = false;
		usleep(50);
	}
	return replies(c);
}

static bool one_session(struct world *w, bool big)
{
	static const char *const lines[] = { "EHLO me\r\n", "MAIL FROM:<a@b.test>\r\nRCPT TO:<x@sink.test>\r\nRCPT TO:<y@local.test>\r\n", "DATA\r\n" };
	static const unsigned expected[] = { 1, 3, 1 };
	static char body[40000];
	struct client c = call(w);
	bool got = turn_until(&c, 1) == 1 && strncmp(c.got, "220", 3) == 0, ok = false;

	for (size_t i = 0; i < 3 && got; i++) {
		c.n = 0;
		if (send(c.fd, lines[i], strlen(lines[i]), MSG_NOSIGNAL) <= 0)
			break;
		got = turn_until(&c, expected[i]) == expected[i] && (c.got[0] == '2' || c.got[0] == '3');
	}
	if (got && strncmp(c.got, "354", 3) == 0) {
		c.n = 0;
		for (size_t i = 0; i < sizeof body; i++)
			body[i] = i % 50 == 48 ? '\r' : i % 50 == 49 ? '\n' : 'x';
		if ((!big || send(c.fd, body, sizeof body, MSG_NOSIGNAL) > 0) && send(c.fd, "end\r\n.\r\n", 8, MSG_NOSIGNAL) > 0)
			ok = turn_until(&c, 1) == 1 && strncmp(c.got, "250", 3) == 0;
		if (ok) {
			assert_int_equal(w->submits, 1);
			assert_int_equal(buf_len(&w->streams[w->stream_n - 1].body), (big ? sizeof body : 0) + 5);
		}
	}
	hang_up(&c);
	return ok;
}

static void test_every_allocation(void **state)
{
	bool ok = false;
	long failed = 0;

	(void)state;
	for (long n = 1; !(ok && calls < n) && n < 5000; n++) {
		struct world *w = world_new("", "");
		struct loop_timer timers[40]; /* the loop's own table is large enough: without it it cannot go on at all */

		for (size_t i = 0; i < 40; i++) {
			loop_timer_init(&timers[i], w->rig->loop, nothing, NULL);
			loop_timer_set(&timers[i], loop_now(w->rig->loop) + 1000000);
		}
		for (size_t i = 0; i < 40; i++)
			loop_timer_stop(&timers[i]);
		channel_set_handler(w->queue, &calm_queue_handler, w);
		channel_set_handler(w->local, &calm_local_handler, w);
		calls = 0;
		fail_at = n;
		ok = one_session(w, n % 2);
		failed += !ok;
		if (calls < n && n % 2 == 0)
			ok = false; /* the larger one has more: it decides when all were tried */
		fail_at = 0;
		if (w->queue && w->local) { /* the next one is served as if nothing had been */
			w->submits = 0;
			assert_true(one_session(w, true));
		}
		world_free(w);
	}
	assert_true(failed > 5);
	assert_true(calls > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_allocation) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
