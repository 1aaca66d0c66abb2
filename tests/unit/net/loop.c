/* loop.c - the loop: order of timers, what is asked for later, descriptors, wakes, signals. */
#include "net/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define MANY 10000

static int64_t fake_now;

static int64_t fake_mono(void *arg)
{
	(void)arg;
	return fake_now;
}

static struct env fake_env(void)
{
	struct env e = env_real;

	e.mono_ms = fake_mono;
	return e;
}

struct tick {
	struct loop_timer timer;
	uint64_t fired_at;
	unsigned order, set_order;
};
static unsigned fired;

static void tick_fire(void *arg)
{
	struct tick *t = arg;

	t->fired_at = loop_now(t->timer.loop);
	t->order = ++fired;
}

static void timers_fire_in_order(void **state)
{
	struct env env = fake_env();
	struct loop *l;
	struct tick *t = calloc(MANY, sizeof *t);
	uint64_t last = 0;
	unsigned i, order = 0, left = 0;
	struct tick **by_order = calloc(MANY + 1, sizeof(struct tick *));

	(void)state;
	assert_non_null(t);
	assert_non_null(by_order);
	fake_now = 1000;
	fired = 0;
	l = loop_new(&env);
	srand(7);
	for (i = 0; i < MANY; i++) {
		loop_timer_init(&t[i].timer, l, tick_fire, &t[i]);
		loop_timer_set(&t[i].timer, 1000 + (uint64_t)(rand() % 3000));
	}
	for (i = 0; i < MANY; i += 3) { /* move some, stop some */
		loop_timer_set(&t[i].timer, 1000 + (uint64_t)(rand() % 3000));
		t[i].set_order = ++order;
	}
	for (i = 1; i < MANY; i += 5)
		loop_timer_stop(&t[i].timer);
	for (fake_now = 1000; fake_now <= 4000; fake_now += 50)
		loop_turn(l, false);
	for (i = 0; i < MANY; i++) {
		if (i % 5 == 1) {
			assert_int_equal(t[i].order, 0);
			continue;
		}
		left++;
		assert_in_range(t[i].order, 1, MANY);
		assert_true(t[i].fired_at >= t[i].timer.at && t[i].fired_at < t[i].timer.at + 50);
		by_order[t[i].order] = &t[i];
	}
	assert_int_equal(fired, left);
	for (i = 1; i <= left; i++) {
		assert_true(by_order[i]->timer.at >= last);
		if (by_order[i]->timer.at == last && i > 1 && by_order[i]->set_order && by_order[i - 1]->set_order)
			assert_true(by_order[i]->set_order > by_order[i - 1]->set_order);
		last = by_order[i]->timer.at;
	}
	assert_false(loop_turn(l, false));
	loop_free(l);
	free(t);
	free(by_order);
}

static unsigned again_count;

static void again_fire(void *arg)
{
	struct loop_timer *t = arg;

	if (++again_count < 5)
		loop_timer_set(t, 1); /* in the past: next turn, not now */
}

static void a_timer_set_in_the_past_waits_a_turn(void **state)
{
	struct env env = fake_env();
	struct loop *l;
	struct loop_timer t;
	unsigned i;

	(void)state;
	fake_now = 1000;
	again_count = 0;
	l = loop_new(&env);
	loop_timer_init(&t, l, again_fire, &t);
	loop_timer_set(&t, 0);
	for (i = 1; i <= 5; i++) {
		loop_turn(l, true);
		assert_int_equal(again_count, i);
	}
	loop_free(l);
}

struct two { struct loop_timer a, b; unsigned count; };

struct soon {
	struct loop_later later;
	struct loop_timer timer;
	struct loop_watch watch;
	unsigned fired;
};

static void soon_fire(void *arg)
{
	((struct soon *)arg)->fired++;
}

static void soon_set(void *arg)
{
	struct soon *s = arg;

	loop_timer_set(&s->timer, loop_now(s->timer.loop));
}

static void soon_ready(void *arg, unsigned io)
{
	struct soon *s = arg;
	char octet;

	(void)io;
	assert_int_equal(read(s->watch.fd, &octet, 1), 1);
	loop_later(s->timer.loop, &s->later);
}

/* Set where a turn ends, so that it is due when the next one begins: that one must not sleep until something else happens. */
static void a_timer_that_is_due_at_once_keeps_the_loop_awake(void **state)
{
	struct loop *l = loop_new(&env_real);
	struct soon s = { .later = { .run = soon_set, .arg = &s } };
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(loop_watch_start(&s.watch, l, pair[0], LOOP_READ, soon_ready, &s), 0);
	loop_timer_init(&s.timer, l, soon_fire, &s);
	alarm(5); /* it slept for ever */
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(write(pair[1], "x", 1), 1); /* heard in the turn, set behind the firing of what is due */
		while (s.fired <= i)
			loop_turn(l, true);
	}
	alarm(0);
	loop_watch_stop(&s.watch);
	loop_free(l);
	close(pair[0]);
	close(pair[1]);
}

static void stops_other(void *arg)
{
	struct two *t = arg;

	t->count++;
	loop_timer_stop(&t->a);
	loop_timer_stop(&t->b);
}

static void a_timer_stops_another_that_is_due(void **state)
{
	struct env env = fake_env();
	struct loop *l;
	struct two t = { .count = 0 };

	(void)state;
	fake_now = 1000;
	l = loop_new(&env);
	loop_timer_init(&t.a, l, stops_other, &t);
	loop_timer_init(&t.b, l, stops_other, &t);
	loop_timer_set(&t.a, 1000);
	loop_timer_set(&t.b, 1000);
	loop_turn(l, false);
	assert_int_equal(t.count, 1);
	loop_free(l);
}

static void real_time_passes(void **state)
{
	struct loop *l = loop_new(&env_real);
	struct tick t = { .order = 0 };
	int64_t from = env_mono_ms(&env_real);

	(void)state;
	fired = 0;
	loop_timer_init(&t.timer, l, tick_fire, &t);
	loop_timer_set(&t.timer, loop_now(l) + 30);
	loop_run(l);
	assert_int_equal(fired, 1);
	assert_in_range(env_mono_ms(&env_real) - from, 29, 1000);
	loop_free(l);
}

/* ---- later ---- */

struct chain { struct loop *loop; struct loop_later later; struct chain *next; unsigned *log, mark; struct chain *cancel; };

static void chain_run(void *arg)
{
	struct chain *c = arg;

	*c->log = *c->log * 10 + c->mark;
	if (c->next)
		loop_later(c->loop, &c->next->later);
	if (c->cancel)
		loop_later_cancel(c->loop, &c->cancel->later);
}

static void laters_run_in_order_and_in_the_same_turn(void **state)
{
	struct loop *l = loop_new(&env_real);
	unsigned log = 0;
	struct chain c[4];
	unsigned i;

	(void)state;
	for (i = 0; i < 4; i++) {
		c[i] = (struct chain){ .loop = l, .log = &log, .mark = i + 1 };
		c[i].later.run = chain_run;
		c[i].later.arg = &c[i];
	}
	c[0].next = &c[3]; /* asked by a later: the same turn, after the others */
	loop_later(l, &c[0].later);
	loop_later(l, &c[1].later);
	loop_later(l, &c[0].later); /* twice is once */
	loop_later(l, &c[2].later);
	loop_turn(l, true);
	assert_int_equal(log, 1234);
	log = 0; /* cancelled by one before it: the last, the middle, the mark's neighbour */
	c[0].next = NULL;
	c[0].cancel = &c[2];
	loop_later(l, &c[0].later);
	loop_later(l, &c[1].later);
	loop_later(l, &c[2].later);
	loop_turn(l, true);
	assert_int_equal(log, 12);
	log = 0;
	c[0].cancel = &c[1];
	c[2].next = &c[3];
	c[3].next = NULL;
	loop_later(l, &c[0].later);
	loop_later(l, &c[1].later);
	loop_later(l, &c[2].later);
	loop_turn(l, true);
	assert_int_equal(log, 134);
	log = 0; /* cancel what an earlier later of this round queued for the next */
	c[0] = (struct chain){ .loop = l, .log = &log, .mark = 1, .next = &c[3], .later = c[0].later };
	c[1].cancel = &c[3];
	loop_later(l, &c[0].later);
	loop_later(l, &c[1].later);
	loop_turn(l, true);
	assert_int_equal(log, 12);
	loop_free(l);
}

static void a_later_that_never_ends_does_not_hang_the_loop(void **state)
{
	struct loop *l = loop_new(&env_real);
	unsigned log = 0;
	struct chain c[2];
	struct tick t = { .order = 0 };
	unsigned i;

	(void)state;
	for (i = 0; i < 2; i++) {
		c[i] = (struct chain){ .loop = l, .log = &log, .mark = 0, .next = &c[1 - i] };
		c[i].later.run = chain_run;
		c[i].later.arg = &c[i];
	}
	fired = 0;
	loop_timer_init(&t.timer, l, tick_fire, &t);
	loop_timer_set(&t.timer, loop_now(l) + 5);
	loop_later(l, &c[0].later);
	for (i = 0; i < 1000000 && !fired; i++)
		loop_turn(l, true);
	assert_int_equal(fired, 1);
	loop_later_cancel(l, &c[0].later);
	loop_later_cancel(l, &c[1].later);
	loop_free(l);
}

/* ---- descriptors ---- */

struct seen { struct loop_watch watch; unsigned reads, writes; bool stop_when_seen; };

static void seen_ready(void *arg, unsigned io)
{
	struct seen *s = arg;
	char c[8];

	if (io & LOOP_READ) {
		s->reads++;
		if (read(s->watch.fd, c, sizeof c) <= 0 && !s->stop_when_seen)
			loop_watch_want(&s->watch, 0);
	}
	if (io & LOOP_WRITE) {
		s->writes++;
		loop_watch_want(&s->watch, LOOP_READ);
	}
	if (s->stop_when_seen)
		loop_watch_stop(&s->watch);
}

/* Reading that is held back costs nothing until something comes, then one wake-up, and no second. */
struct held { struct loop_watch watch; unsigned rang; };

static void held_ready(void *arg, unsigned io)
{
	struct held *h = arg;

	assert_int_equal(io, LOOP_READ);
	h->rang++;
}

static void what_is_not_wanted_is_not_told(void **state)
{
	struct loop *l = loop_new(&env_real);
	struct held h = { .rang = 0 };
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	assert_int_equal(loop_watch_start(&h.watch, l, fd[0], LOOP_READ, held_ready, &h), 0);
	loop_watch_want(&h.watch, 0);
	assert_int_equal(write(fd[1], "x", 1), 1);
	for (int i = 0; i < 5; i++)
		loop_turn(l, false);
	assert_int_equal(h.rang, 0);
	loop_watch_want(&h.watch, LOOP_READ); /* still there: told now, and as long as it is not read */
	loop_turn(l, false);
	assert_int_equal(h.rang, 1);
	loop_watch_want(&h.watch, 0);
	loop_watch_want(&h.watch, LOOP_READ); /* in one turn: nothing is lost */
	loop_turn(l, false);
	assert_int_equal(h.rang, 2);
	loop_watch_want(&h.watch, 0);
	close(fd[1]); /* an end, too, is told only to who wants it */
	loop_turn(l, false);
	loop_turn(l, false);
	assert_int_equal(h.rang, 2);
	loop_watch_want(&h.watch, LOOP_READ);
	loop_turn(l, false);
	assert_int_equal(h.rang, 3);
	loop_watch_stop(&h.watch);
	close(fd[0]);
	loop_free(l);
}

static void descriptors_are_watched(void **state)
{
	struct loop *l = loop_new(&env_real);
	struct seen s = { .reads = 0 };
	int fd[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	assert_int_equal(loop_watch_start(&s.watch, l, fd[0], LOOP_READ | LOOP_WRITE, seen_ready, &s), 0);
	loop_turn(l, true);
	assert_int_equal(s.writes, 1);
	assert_int_equal(s.reads, 0);
	loop_turn(l, false);
	assert_int_equal(s.writes, 1); /* no longer wanted */
	assert_int_equal(write(fd[1], "x", 1), 1);
	loop_turn(l, true);
	assert_int_equal(s.reads, 1);
	loop_watch_want(&s.watch, 0);
	assert_int_equal(write(fd[1], "x", 1), 1);
	loop_turn(l, false);
	assert_int_equal(s.reads, 1);
	loop_watch_want(&s.watch, LOOP_READ);
	loop_turn(l, true);
	assert_int_equal(s.reads, 2);
	s.stop_when_seen = true; /* stopped in its own handler; the end of file still wakes it */
	close(fd[1]);
	loop_turn(l, true);
	assert_int_equal(s.reads, 3);
	assert_null(s.watch.impl);
	assert_false(loop_turn(l, false)); /* nothing is left */
	loop_watch_stop(&s.watch);         /* twice is harmless */
	close(fd[0]);
	loop_free(l);
}

static void a_descriptor_number_may_be_used_again_at_once(void **state)
{
	struct loop *l = loop_new(&env_real);
	struct seen s = { .reads = 0 };
	int fd[2], again[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	assert_int_equal(loop_watch_start(&s.watch, l, fd[0], LOOP_READ, seen_ready, &s), 0);
	loop_turn(l, false);
	loop_watch_stop(&s.watch);
	close(fd[0]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, again), 0);
	assert_int_equal(again[0], fd[0]);
	assert_int_equal(loop_watch_start(&s.watch, l, again[0], LOOP_READ, seen_ready, &s), 0);
	assert_int_equal(write(again[1], "x", 1), 1);
	loop_turn(l, true);
	assert_int_equal(s.reads, 1);
	loop_watch_stop(&s.watch);
	close(fd[1]);
	close(again[0]);
	close(again[1]);
	loop_free(l);
}

/* ---- wakes and signals ---- */

static unsigned woken;

static void wake_up(void *arg)
{
	woken++;
	loop_stop(arg);
}

static void *wake_from_thread(void *arg)
{
	usleep(20000);
	loop_wake(arg);
	loop_wake(arg);
	return NULL;
}

static void another_thread_wakes(void **state)
{
	struct loop *l = loop_new(&env_real);
	struct loop_wake w;
	pthread_t t;

	(void)state;
	woken = 0;
	assert_int_equal(loop_wake_init(&w, l, wake_up, l), 0);
	pthread_create(&t, NULL, wake_from_thread, &w);
	loop_run(l);
	pthread_join(t, NULL);
	assert_in_range(woken, 1, 2);
	loop_wake_free(&w);
	loop_free(l);
}

static int caught;

static void catch(void *arg, int signum)
{
	caught = signum;
	loop_stop(arg);
}

static void signals_are_caught(void **state)
{
	struct loop *l = loop_new(&env_real);
	struct loop_signal s;

	(void)state;
	assert_int_equal(loop_signal_start(&s, l, SIGUSR1, catch, l), 0);
	raise(SIGUSR1);
	loop_run(l);
	assert_int_equal(caught, SIGUSR1);
	loop_signal_stop(&s);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timers_fire_in_order),
		cmocka_unit_test(a_timer_set_in_the_past_waits_a_turn),
		cmocka_unit_test(a_timer_that_is_due_at_once_keeps_the_loop_awake),
		cmocka_unit_test(a_timer_stops_another_that_is_due),
		cmocka_unit_test(real_time_passes),
		cmocka_unit_test(laters_run_in_order_and_in_the_same_turn),
		cmocka_unit_test(a_later_that_never_ends_does_not_hang_the_loop),
		cmocka_unit_test(descriptors_are_watched),
		cmocka_unit_test(what_is_not_wanted_is_not_told),
		cmocka_unit_test(a_descriptor_number_may_be_used_again_at_once),
		cmocka_unit_test(another_thread_wakes),
		cmocka_unit_test(signals_are_caught),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
