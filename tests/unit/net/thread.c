/* thread.c - tests of net/thread.c: posts on a thread of its own and on a borrowed loop, and the end of what was not taken. */
#include "net/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define POSTS 20000

struct taker {
	struct loop_thread thread;
	atomic_uint taken;
	unsigned wrong, last[4];
	pthread_t on;
	bool again;
};

static void take(void *arg, const struct loop_post *p)
{
	struct taker *t = arg;

	t->on = pthread_self();
	if (p->peer < 4) { /* each poster's posts come in its order */
		t->wrong += p->number != t->last[p->peer] + 1;
		t->last[p->peer] = p->number;
	}
	if (t->again) {
		t->again = false;
		loop_thread_post(&t->thread, &(struct loop_post){ .kind = 2, .peer = p->peer, .number = p->number + 1, .fd = -1 });
	}
	atomic_fetch_add(&t->taken, 1);
}

struct poster {
	struct taker *to;
	unsigned who;
};

static void *post_many(void *arg)
{
	struct poster *p = arg;

	for (unsigned i = 1; i <= POSTS; i++)
		if (!loop_thread_post(&p->to->thread, &(struct loop_post){ .kind = 1, .peer = p->who, .number = i, .fd = -1 }))
			abort();
	return NULL;
}

static void test_threaded(void **state)
{
	static struct taker t;
	struct poster posters[3];
	pthread_t ids[3];
	struct error e;

	(void)state;
	assert_int_equal(loop_thread_init(&t.thread, &env_real, NULL, take, &t), 0);
	/* what comes before the thread runs waits for it */
	assert_true(loop_thread_post(&t.thread, &(struct loop_post){ .kind = 1, .peer = 3, .number = 1, .fd = -1 }));
	assert_int_equal(atomic_load(&t.taken), 0);
	assert_int_equal(loop_thread_run(&t.thread, &e), 0);
	for (unsigned i = 0; i < 3; i++) {
		posters[i] = (struct poster){ &t, i };
		assert_int_equal(pthread_create(&ids[i], NULL, post_many, &posters[i]), 0);
	}
	for (unsigned i = 0; i < 3; i++)
		pthread_join(ids[i], NULL);
	while (atomic_load(&t.taken) < 3 * POSTS + 1)
		sched_yield();
	assert_false(pthread_equal(t.on, pthread_self()));
	loop_thread_stop(&t.thread);
	assert_int_equal(t.wrong, 0);
	loop_thread_free(&t.thread);
	loop_thread_free(&t.thread); /* twice is once */
}

/* Stopping at once after posts: each is taken or its descriptor and channel are closed; none is lost. */
static void test_stop_at_once(void **state)
{
	(void)state;
	for (int round = 0; round < 50; round++) {
		struct taker t = { .taken = 0 };
		struct error e;

		assert_int_equal(loop_thread_init(&t.thread, &env_real, NULL, take, &t), 0);
		assert_int_equal(loop_thread_run(&t.thread, &e), 0);
		for (unsigned i = 1; i <= 100; i++)
			loop_thread_post(&t.thread, &(struct loop_post){ .kind = 1, .peer = 0, .number = i, .fd = -1 });
		loop_thread_stop(&t.thread);
		assert_int_equal(atomic_load(&t.taken), 100); /* the stop is a post behind them */
		assert_int_equal(t.wrong, 0);
		loop_thread_free(&t.thread);
	}
}

static void test_never_run(void **state)
{
	struct taker t = { .taken = 0 };
	struct channel *ends[2];
	int fd = open("/dev/null", O_RDONLY);

	(void)state;
	assert_int_equal(loop_thread_init(&t.thread, &env_real, NULL, take, &t), 0);
	assert_int_equal(channel_pair(t.thread.loop, ends), 0);
	loop_thread_post(&t.thread, &(struct loop_post){ .kind = 1, .fd = fd, .channel = ends[0] });
	loop_thread_stop(&t.thread);
	assert_int_equal(atomic_load(&t.taken), 0);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(errno, EBADF);
	assert_false(channel_is_open(ends[1]));
	channel_free(ends[1]);
	loop_thread_free(&t.thread);
}

/* On a borrowed loop a post is taken within the call, also one that comes from inside. */
static void test_borrowed(void **state)
{
	struct taker t = { .again = true };
	struct loop *loop = loop_new(&env_real);

	(void)state;
	assert_int_equal(loop_thread_init(&t.thread, &env_real, loop, take, &t), 0);
	assert_ptr_equal(t.thread.loop, loop);
	loop_thread_post(&t.thread, &(struct loop_post){ .kind = 1, .peer = 0, .number = 1, .fd = -1 });
	assert_int_equal(atomic_load(&t.taken), 2);
	assert_int_equal(t.wrong, 0);
	assert_true(pthread_equal(t.on, pthread_self()));
	loop_thread_stop(&t.thread);
	loop_thread_free(&t.thread);
	loop_free(loop); /* it was not the thread's to free */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_never_run), cmocka_unit_test(test_stop_at_once), cmocka_unit_test(test_threaded), cmocka_unit_test(test_borrowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
