/* power.c - the power is cut at each disk call, the spool's own and those of its index (disk.h), in both modes of the
 * index: what was answered OK is there all the same.  The index is what the disk made of it, or removed, so that the
 * segments must stand alone. */
#include "disk.h"
#include "kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MESSAGES 40

struct life { struct kit_answer accepted[MESSAGES], settled[MESSAGES]; };

static void text_of(char *to, int i)
{
	size_t size = i == 5 || i == 22 ? 40000 : 100 + (size_t)(i % 7) * 1300;

	for (size_t at = 0; at < size; at++)
		to[at] = (char)('a' + (at * 5 + (size_t)i + at / 101) % 26);
	to[size] = '\0';
}

static void live(struct kit *k, struct life *l)
{
	static char text[50000];

	memset(l, 0, sizeof *l);
	for (int i = 0; i < MESSAGES && !disk_dead(); i++) {
		struct spool_envelope later = kit_envelope("", 0, "remains");
		text_of(text, i);
		kit_begin_accept(k, text, strlen(text), "d", 1, true, &l->accepted[i]);
		if (i % 5 < 2)
			continue; /* several in one batch */
		for (int m = i % 5 == 2 ? i - 2 : i; m <= i; m++)
			kit_wait(k, &l->accepted[m].done);
		for (int m = i % 5 == 2 ? i - 2 : i; m <= i; m++) {
			later.due = 9000 + m;
			spool_settle(k->spool, l->accepted[m].id, 0, m % 4 == 3 ? &later : NULL, NULL, 0, kit_done, &l->settled[m]);
			if (m % 4 == 0)
				spool_hold(k->spool, l->accepted[m].id, view_of("", 0), true, NULL, NULL);
		}
	}
}

static void check(struct kit *k, const struct life *l)
{
	static struct kit_found f;
	static char text[50000];

	kit_list(k, 0, 0, "", 1000, &f);
	assert_int_equal(f.status, SPOOL_OK);
	for (int i = 0; i < MESSAGES; i++) {
		size_t at = 0;
		if (!l->accepted[i].done || l->accepted[i].status != SPOOL_OK)
			continue;
		while (at < f.n && f.e[at].id != l->accepted[i].id)
			at++;
		if (l->settled[i].done && l->settled[i].status == SPOOL_OK && i % 4 != 3) {
			assert_int_equal(at, f.n);
			continue;
		}
		if (at == f.n && i % 4 != 3)
			continue; /* its end was asked for, and reached the disk before the power went */
		if (at == f.n)
			fail_msg("message %d was answered OK and is not there", i);
		text_of(text, i);
		kit_assert_body(k, l->accepted[i].id, text);
		if (l->settled[i].done && l->settled[i].status == SPOOL_OK)
			assert_int_equal(f.e[at].due, 9000 + i);
	}
}

#define CHECKPOINT_PAGES 24 /* several checkpoints in each life */

static void remove_files(const struct kit *k, bool index)
{
	static const char *const names[] = { "index.db-shm", "index.db", "index.db-wal" };

	for (int i = 0; i < (index ? 3 : 1); i++) { /* shared memory does not outlive the power in any case */
		char path[600];
		snprintf(path, sizeof path, "%s/%s", k->path, names[i]);
		unlink(path);
	}
}

static void open_and_close(struct kit *k)
{
	if (kit_open(k) == 0)
		kit_close(k);
}

/* One life, cut at call n, lost in that way, cut again while it recovers.  False: it ended before the cut. */
static bool cut_once(long n, enum spool_index mode, bool after, enum cut cut, bool without_index)
{
	struct env env = disk_env();
	struct kit k;
	struct life l;
	char grave[300];
	bool met;

	kit_init(&k, KIT_STEPPED);
	snprintf(grave, sizeof grave, "%s-grave", k.path);
	disk_begin(grave, (uint32_t)n);
	k.options.env = &env;
	k.options.segment_size = 64 * 1024;
	k.options.index = mode;
	k.options.checkpoint_pages = n % 2 ? CHECKPOINT_PAGES : 0; /* else none: the index lags as far as it can */
	assert_int_equal(kit_open(&k), 0);
	disk_cut_at(n, after);
	live(&k, &l);
	kit_close(&k);
	met = disk_dead();
	disk_lose(cut);
	remove_files(&k, without_index);
	disk_cut_at(n % 60, after);
	open_and_close(&k);
	disk_lose(cut);
	remove_files(&k, false);
	/* what comes next may be of the other mode */
	if (n % 4 == 3)
		k.options.index = mode == SPOOL_INDEX_STRICT ? SPOOL_INDEX_LAGGING : SPOOL_INDEX_STRICT;
	if (kit_open(&k) == -1)
		fail_msg("mode %d, cut %d, call %ld: %s", (int)mode, (int)cut, n, k.error.text);
	if (getenv("SPOOL_TEST_TRACE"))
		print_message("call %ld mode %d cut %d after %d rebuilt %d replayed %d torn %d aside %d\n", n, (int)mode, (int)cut, after,
		              k.found.rebuilt, (int)k.found.replayed, (int)k.found.torn_bytes, (int)k.found.quarantined);
	check(&k, &l);
	assert_int_equal(kit_accept(&k, "afterwards", "d", 1, false).status, SPOOL_OK);
	kit_end(&k);
	disk_lose(CUT_NONE);
	kit_remove(grave);
	return met;
}

/* Every call, or every few: the calls of one batch teach alike, and the variants begin at different ones.
 * SPOOL_TEST_ALL: every one, in minutes. */
static void cut_everywhere(enum spool_index mode, bool after, enum cut cut, bool without_index)
{
	long step = getenv("SPOOL_TEST_ALL") ? 1 : without_index ? 9 : after ? 7 : cut == CUT_NONE ? 8 : 3;
	long n = ((int)mode + (int)cut) % step;

	while (cut_once(n, mode, after, cut, without_index)) {
		n += step;
		assert_true(n < 20000);
	}
	print_message("mode %d, cut %d: %ld calls\n", (int)mode, (int)cut, n);
}

static void both_modes(bool after, enum cut cut, bool without_index)
{
	cut_everywhere(SPOOL_INDEX_STRICT, after, cut, without_index);
	cut_everywhere(SPOOL_INDEX_LAGGING, after, cut, without_index);
}

static void cut_before(void **state)
{
	(void)state;
	for (int cut = CUT_ALL; cut < CUT_END; cut++)
		both_modes(false, (enum cut)cut, false);
}

static void cut_after(void **state)
{
	(void)state;
	both_modes(true, CUT_ALL, false);
	both_modes(true, CUT_SOME, false);
}

static void cut_and_index_lost(void **state)
{
	(void)state;
	for (int cut = CUT_ALL; cut < CUT_END; cut++)
		both_modes(cut == CUT_NONE, (enum cut)cut, true);
}

/* What a lagging index still needs is not recycled.  Its durable state knows the first segment's messages as waiting and
 * goes on reading in the second, which stays; their ends stand in the third, and all but the second is recycled then. */
static void recycled_only_when_the_index_knows(void **state)
{
	struct env env = disk_env();
	struct kit k;
	struct kit_answer early[3], kept[3], a;
	static char text[15000];
	static struct kit_found f;
	struct spool_stats st;
	char grave[300];

	(void)state;
	memset(text, 'r', sizeof text - 1);
	kit_init(&k, KIT_STEPPED);
	snprintf(grave, sizeof grave, "%s-grave", k.path);
	disk_begin(grave, 1);
	k.options.env = &env;
	k.options.segment_size = 64 * 1024;
	k.options.index = SPOOL_INDEX_LAGGING;
	assert_int_equal(kit_open(&k), 0);
	for (int i = 0; i < 6; i++) {
		struct kit_answer *to = i < 3 ? &early[i] : &kept[i - 3];
		*to = kit_accept(&k, text, i < 3 ? "early" : "kept", 1, true);
		assert_int_equal(to->status, SPOOL_OK);
		if (i == 2) /* fills up the first segment */
			kit_settle(&k, kit_accept(&k, text, "d", 1, true).id, 0, NULL);
	}
	kit_close(&k);
	assert_int_equal(kit_open(&k), 0); /* durable, as of here */
	for (int i = 0; i < 3; i++) {
		a = kit_accept(&k, text, "d", 1, true);
		assert_int_equal(kit_settle(&k, a.id, 0, NULL).status, SPOOL_OK);
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(kit_settle(&k, early[i].id, 0, NULL).status, SPOOL_OK);
	for (int i = 0; i < 20; i++) {
		a = kit_accept(&k, text, "d", 1, true);
		assert_int_equal(kit_settle(&k, a.id, 0, NULL).status, SPOOL_OK);
	}
	spool_get_stats(k.spool, &st);
	assert_true(st.segments <= 5);
	disk_cut_at(0, false);
	kit_accept(&k, "meets the cut", "d", 1, false);
	kit_close(&k);
	assert_true(disk_dead());
	disk_lose(CUT_ALL);
	remove_files(&k, false);
	assert_int_equal(kit_open(&k), 0);
	assert_false(k.found.rebuilt);
	assert_int_equal(k.found.quarantined, 0);
	kit_list(&k, 0, 0, "", 100, &f);
	assert_int_equal(f.n, 3);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(f.e[i].id, kept[i].id);
		kit_assert_body(&k, kept[i].id, text);
	}
	kit_end(&k);
	disk_lose(CUT_NONE);
	kit_remove(grave);
}

static int install(void **state)
{
	(void)state;
	disk_install();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(recycled_only_when_the_index_knows), cmocka_unit_test(cut_before), cmocka_unit_test(cut_after),
		cmocka_unit_test(cut_and_index_lost) };

	return cmocka_run_group_tests(tests, install, NULL);
}
