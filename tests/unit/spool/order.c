/* order.c - what an answer promises is synced when it is given: at each SPOOL_OK nothing that it rests on could be lost.
 *
 * The model disk of power.c cuts at every call and sees the loss; this says which sync is missing, and in which place.
 * `inflight` and the index are not judged: the former promises nothing, the latter can be made anew from the segments. */
#include "kit.h"
#include "../unsynced.h"

#define LARGE 40000 /* a body of its own file */

static struct env env;
static unsigned answers;

static void judge(const char *what)
{
	static const char *const places[] = { "/segments", "/bodies" };

	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		if (unsynced_any(places[i]))
			fail_msg("%s was answered OK while %s was not synced", what, unsynced_any(places[i]));
	answers++;
}

static void accepted(void *arg, enum spool_status status, spool_id id)
{
	assert_int_equal(status, SPOOL_OK);
	judge("an accept");
	kit_done(arg, status, id);
}

static void settled(void *arg, enum spool_status status, spool_id id)
{
	assert_int_equal(status, SPOOL_OK);
	judge("an outcome");
	kit_done(arg, status, id);
}

static struct spool_body *body(struct kit *k, size_t size)
{
	struct spool_body *b = spool_body_begin(k->spool, size);
	static char text[1000];

	assert_non_null(b);
	memset(text, 'o', sizeof text);
	for (size_t n; size; size -= n) {
		n = size < sizeof text ? size : sizeof text;
		assert_int_equal(spool_body_write(b, text, n), SPOOL_OK);
	}
	return b;
}

static void begin(struct kit *k, size_t size, struct kit_answer *a)
{
	struct spool_envelope e = kit_envelope("d", 100, "data");
	static const bool lease = true;

	memset(a, 0, sizeof *a);
	spool_accept(k->spool, body(k, size), &e, &lease, 1, accepted, a);
}

static spool_id accept_one(struct kit *k, size_t size)
{
	struct kit_answer a;

	begin(k, size, &a);
	kit_wait(k, &a.done);
	return a.id;
}

static void settle_one(struct kit *k, spool_id id, const struct spool_envelope *remains, const struct spool_new *news)
{
	struct kit_answer a = { 0 };

	spool_settle(k->spool, id, 0, remains, news, news ? 1 : 0, settled, &a);
	kit_wait(k, &a.done);
}

static int setup(void **state)
{
	static struct kit k;

	env = unsynced_env();
	kit_init(&k, KIT_STEPPED);
	k.options.env = &env;
	k.options.segment_size = 64 * 1024;
	assert_int_equal(kit_open(&k), 0);
	answers = 0;
	*state = &k;
	return 0;
}

static int teardown(void **state)
{
	kit_end(*state);
	return 0;
}

static void a_record_is_synced_before_its_answer(void **state)
{
	struct kit_answer a[20];

	accept_one(*state, 500);
	for (int i = 0; i < 20; i++)
		begin(*state, (size_t)i * 100, &a[i]);
	for (int i = 0; i < 20; i++)
		kit_wait(*state, &a[i].done);
	assert_int_equal(answers, 21);
}

/* The writer wakes the owner when an answer waits: everything was written and synced by then, not only by the time when the
 * owner comes to look. */
static unsigned long calls_at_wake;

static void woken(void *arg)
{
	(void)arg;
	calls_at_wake = unsynced.calls;
}

static void the_answer_waits_for_the_sync(void **state)
{
	struct kit *k = *state;

	kit_close(k);
	k->options.wake = woken;
	assert_int_equal(kit_open(k), 0);
	for (int i = 0; i < 5; i++) {
		unsigned long before = unsynced.calls;
		accept_one(k, 500);
		if (unsynced.calls != calls_at_wake || unsynced.calls < before + 2)
			fail_msg("of %lu writes and syncs %lu came behind the answer", unsynced.calls - before, unsynced.calls - calls_at_wake);
	}
}

static void a_body_file_is_synced_before_its_answer(void **state)
{
	struct kit_answer a, b;

	accept_one(*state, LARGE);
	begin(*state, LARGE, &a); /* two in one batch, and a small one */
	begin(*state, 10, &b);
	kit_wait(*state, &a.done);
	kit_wait(*state, &b.done);
	assert_int_equal(answers, 3);
}

/* The spool's own folders: a segment in a folder that is gone is gone too.  `midway`: a start that was killed made them, and
 * did not come to sync them; the next one finds them made and must not take that for synced. */
static void the_folders_last(void **state)
{
	struct kit *k = *state;

	for (int midway = 0; midway < 2; midway++) {
		kit_close(k);
		kit_remove(k->path);
		env = unsynced_env();
		if (midway) {
			char path[300];
			snprintf(path, sizeof path, "%s/segments", k->path);
			assert_int_equal(env.disk.mkdir(NULL, k->path, 0700), 0);
			assert_int_equal(env.disk.mkdir(NULL, path, 0700), 0);
		}
		assert_int_equal(kit_open(k), 0);
		accept_one(k, 500);
		if (unsynced_any(""))
			fail_msg("%s was not synced by the first answer, midway %d", unsynced_any(""), midway);
	}
}

static void outcomes_are_synced_before_their_answer(void **state)
{
	struct kit *k = *state;
	struct spool_envelope later = kit_envelope("", 5000, "remains"), report = kit_envelope("r", 100, "report");
	struct spool_new news = { .envelopes = &report, .n = 1 };

	spool_id id = accept_one(k, 700);

	settle_one(k, id, &later, NULL);
	news.body = body(k, 300);
	settle_one(k, id, NULL, &news);
	id = accept_one(k, 700);
	news.body = body(k, LARGE);
	settle_one(k, id, NULL, &news);
	assert_int_equal(answers, 5);
}

/* Segments fill, are left, compacted and used again; all the time answers are true. */
static void through_rotation_and_compaction(void **state)
{
	struct kit *k = *state;
	struct spool_stats st;
	spool_id ids[60];

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 60; i++)
			ids[i] = accept_one(k, 5000);
		for (int i = 0; i < 60; i++)
			if (i % 6)
				settle_one(k, ids[i], NULL, NULL);
	}
	spool_get_stats(k->spool, &st);
	assert_true(st.segments < 12); /* of some 15 that were filled */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_record_is_synced_before_its_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(the_answer_waits_for_the_sync, setup, teardown),
		cmocka_unit_test_setup_teardown(a_body_file_is_synced_before_its_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(the_folders_last, setup, teardown),
		cmocka_unit_test_setup_teardown(outcomes_are_synced_before_their_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(through_rotation_and_compaction, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
