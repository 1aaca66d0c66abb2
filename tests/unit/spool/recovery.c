/* recovery.c - what a spool is after a crash, with a torn tail, with damage, without its index.  STATES.md has the list. */
#include "kit.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct kit_found found, before, after;

static int setup(void **state)
{
	struct kit *k = calloc(1, sizeof *k);

	kit_init(k, KIT_STEPPED);
	assert_int_equal(kit_open(k), 0);
	*state = k;
	return 0;
}

static int teardown(void **state)
{
	kit_end(*state);
	free(*state);
	return 0;
}

/* Ends the life of this spool as kill -9 would: its files as they are now are what the next life finds. */
static void crash(struct kit *k)
{
	char copy[sizeof k->path + 8];

	snprintf(copy, sizeof copy, "%s-copy", k->path);
	kit_remove(copy);
	kit_copy(k->path, copy);
	kit_close(k);
	kit_remove(k->path);
	assert_int_equal(rename(copy, k->path), 0);
}

static void reopen(struct kit *k)
{
	if (kit_open(k) == -1)
		fail_msg("%s", k->error.text);
}

static void remove_index(struct kit *k)
{
	static const char *const names[] = { "index.db", "index.db-wal", "index.db-shm" };
	char path[512];

	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/%s", k->path, names[i]);
		unlink(path);
	}
}

static void same(const struct kit_found *a, const struct kit_found *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++)
		assert_memory_equal(&a->e[i], &b->e[i], sizeof a->e[i]);
}

static void text_of(char *to, size_t n, int i)
{
	snprintf(to, n, "Subject: %d\r\n\r\nmessage %d, %0*d\r\n", i, i, i % 700, 7);
}

/* Many messages, some settled, deferred, held, deleted. */
static void mixture(struct kit *k, int n, struct kit_answer *a)
{
	for (int i = 0; i < n; i++) {
		char text[1024];
		text_of(text, sizeof text, i);
		kit_begin_accept(k, text, strlen(text), i % 3 ? "smtp:a" : "smtp:b", 1 + (uint32_t)i % 3, true, &a[i]);
		if (i % 10 == 9)
			kit_wait(k, &a[i].done);
	}
	for (int i = 0; i < n; i++) {
		struct spool_envelope later = kit_envelope("", 5000 + i, "tried");
		kit_wait(k, &a[i].done);
		assert_int_equal(a[i].status, SPOOL_OK);
		later.attempts = (uint32_t)i;
		later.expires = 777;
		for (uint32_t s = 0; s < 1 + (uint32_t)i % 3; s++) {
			if (i % 4 == 0)
				kit_settle(k, a[i].id, s, NULL);
			else if (i % 4 == 1)
				kit_settle(k, a[i].id, s, &later);
			else
				spool_unlease(k->spool, a[i].id, s);
		}
		if (i % 12 == 2)
			kit_hold(k, a[i].id, "", true);
		if (i % 12 == 3)
			kit_delete(k, a[i].id, "");
		if (i % 12 == 6)
			kit_flush(k, a[i].id, "", 50);
	}
}

static void check_bodies(struct kit *k, const struct kit_found *f, const struct kit_answer *a, int n)
{
	for (size_t i = 0; i < f->n; i++)
		for (int m = 0; m < n; m++)
			if (a[m].id == f->e[i].id) {
				char text[1024];
				text_of(text, sizeof text, m);
				kit_assert_body(k, f->e[i].id, text);
			}
}

static void crash_keeps_everything(void **state)
{
	struct kit *k = *state;
	static struct kit_answer a[200];

	mixture(k, 200, a);
	kit_list(k, 0, 0, "", 2000, &before);
	assert_true(before.n > 100);
	crash(k);
	reopen(k);
	assert_false(k->found.rebuilt);
	assert_int_equal(k->found.quarantined, 0);
	kit_list(k, 0, 0, "", 2000, &after);
	same(&before, &after);
	check_bodies(k, &after, a, 200);
	/* in-flight marks ended with the crash; ids go on */
	assert_true(kit_accept(k, "new", "d", 1, false).id > a[199].id);
}

static void rebuilt_is_the_same(void **state)
{
	struct kit *k = *state;
	static struct kit_answer a[200];
	struct spool_stats s1, s2;

	mixture(k, 200, a);
	kit_list(k, 0, 0, "", 2000, &before);
	spool_get_stats(k->spool, &s1);
	crash(k);
	remove_index(k);
	reopen(k);
	assert_true(k->found.rebuilt);
	assert_int_equal(k->found.quarantined, 0);
	kit_list(k, 0, 0, "", 2000, &after);
	same(&before, &after);
	check_bodies(k, &after, a, 200);
	spool_get_stats(k->spool, &s2);
	assert_int_equal(s1.messages, s2.messages);
	assert_int_equal(s1.envelopes, s2.envelopes);
	assert_int_equal(s1.held, s2.held);
	assert_int_equal(s1.bytes_live, s2.bytes_live);
}

static void delivered_mail_stays_delivered(void **state)
{
	struct kit *k = *state;
	static struct kit_answer a[1500], s[1500];

	for (int i = 0; i < 1500; i++)
		kit_begin_accept(k, "a message of some length, to fill segments with", 40, "d", 1, true, &a[i]);
	kit_wait(k, &a[1499].done);
	for (int i = 0; i < 1000; i++)
		spool_settle(k->spool, a[i].id, 0, NULL, NULL, 0, kit_done, &s[i]);
	kit_wait(k, &s[999].done);
	kit_close(k);
	k->options.path = k->path;
	assert_int_equal(spool_rebuild(&k->options, &k->found, &k->error), 0);
	assert_true(k->found.rebuilt);
	assert_int_equal(k->found.messages, 500);
	reopen(k);
	assert_false(k->found.rebuilt);
	kit_list(k, 0, 0, "", 2000, &after);
	assert_int_equal(after.n, 500);
	for (size_t i = 0; i < 500; i++)
		assert_int_equal(after.e[i].id, a[1000 + i].id);
}

static void second_opener_is_refused(void **state)
{
	struct kit *k = *state, other = *k;

	assert_int_equal(kit_open(&other), -1);
	assert_non_null(strstr(other.error.text, "in use"));
	assert_int_equal(spool_rebuild(&k->options, NULL, &other.error), -1);
	assert_int_equal(kit_accept(k, "x", "d", 1, false).status, SPOOL_OK);
}

static void newest_segment(struct kit *k, char *path, size_t n)
{
	char dir[512];
	DIR *d;
	struct dirent *e;
	char name[256] = "";

	snprintf(dir, sizeof dir, "%s/segments", k->path);
	d = opendir(dir);
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.' && strcmp(e->d_name, name) > 0)
			snprintf(name, sizeof name, "%s", e->d_name);
	closedir(d);
	snprintf(path, n, "%s/%s", dir, name);
}

/* The offset of the n-th occurrence of text in a file, from the end. */
static off_t find_last(const char *path, const char *text, int n)
{
	static char bytes[1 << 20];
	int fd = open(path, O_RDONLY);
	ssize_t size = read(fd, bytes, sizeof bytes);
	size_t len = strlen(text);

	close(fd);
	for (ssize_t at = size - (ssize_t)len; at >= 0; at--)
		if (memcmp(bytes + at, text, len) == 0 && --n == 0)
			return at;
	return -1;
}

static void overwrite(const char *path, off_t at, const char *bytes, size_t n)
{
	int fd = open(path, O_WRONLY);

	assert_true(at >= 0);
	assert_int_equal(pwrite(fd, bytes, n, at), (ssize_t)n);
	close(fd);
}

static void torn_tail_is_cut(void **state)
{
	struct kit *k = *state;
	char path[600];
	struct kit_answer a = kit_accept(k, "first", "d", 1, false), b;

	/* A record that was being written: its batch never committed.  The index is of before it. */
	char idle[600];
	snprintf(idle, sizeof idle, "%s-idle", k->path);
	kit_copy(k->path, idle);
	kit_accept(k, "second, torn in its middle", "d", 1, false);
	newest_segment(k, path, sizeof path);
	{
		char with[700], cmd[700];
		snprintf(with, sizeof with, "%s/segments/%s", idle, strrchr(path, '/') + 1);
		snprintf(cmd, sizeof cmd, "%s", path);
		off_t at = find_last(cmd, "torn in", 1);
		int in = open(path, O_RDONLY), out = open(with, O_WRONLY);
		static char bytes[300 * 1024];
		ssize_t n = read(in, bytes, sizeof bytes);
		memset(bytes + at, 0, (size_t)(n - at));
		assert_int_equal(pwrite(out, bytes, (size_t)n, 0), n);
		close(in);
		close(out);
	}
	kit_close(k);
	kit_remove(k->path);
	assert_int_equal(rename(idle, k->path), 0);
	for (int life = 0; life < 3; life++) {
		reopen(k);
		assert_true(life || k->found.torn_bytes > 0);
		assert_int_equal(k->found.quarantined, 0);
		kit_assert_body(k, a.id, "first");
		assert_int_equal(kit_count(k), life ? 2 : 1);
		if (!life) {
			b = kit_accept(k, "third", "d", 1, false);
			assert_int_equal(b.status, SPOOL_OK);
		}
		kit_assert_body(k, b.id, "third");
		crash(k);
		if (life == 1)
			remove_index(k);
	}
	reopen(k);
	assert_int_equal(kit_count(k), 2);
}

static void damaged_record_is_set_aside(void **state)
{
	struct kit *k = *state;
	char path[600];
	struct kit_answer a = kit_accept(k, "before the damage", "d", 1, false);
	struct kit_answer b = kit_accept(k, "DAMAGED one", "d", 1, false);
	struct kit_answer c = kit_accept(k, "after the damage", "d", 1, false);
	size_t n;
	enum spool_status status;

	newest_segment(k, path, sizeof path);
	kit_close(k);
	overwrite(path, find_last(path, "DAMAGED", 1), "damaged", 7);
	reopen(k); /* with its index: only reading finds it, and never sends it */
	assert_null(kit_read(k, b.id, 0, 100, &n, &status));
	assert_int_equal(status, SPOOL_SICK);
	kit_assert_body(k, a.id, "before the damage");
	assert_int_equal(kit_accept(k, "others go on", "d", 1, false).status, SPOOL_OK);
	kit_close(k);
	remove_index(k);
	reopen(k);
	assert_int_equal(k->found.quarantined, 1);
	assert_int_equal(kit_count(k), 3);
	kit_assert_body(k, a.id, "before the damage");
	kit_assert_body(k, c.id, "after the damage");
	snprintf(path, sizeof path, "%s/quarantine", k->path);
	{
		DIR *d = opendir(path);
		struct dirent *e;
		int files = 0;
		while ((e = readdir(d)) != NULL)
			files += e->d_name[0] != '.';
		closedir(d);
		assert_int_equal(files, 1);
	}
}

static void a_record_in_a_mail_is_only_mail(void **state)
{
	struct kit *k = *state;
	char path[600];
	static char bytes[8192];
	struct kit_answer a = kit_accept(k, "an earlier message", "d", 1, false);
	int fd;

	/* A sender who knows our format mails us one of our own records, then the record before it is damaged. */
	newest_segment(k, path, sizeof path);
	fd = open(path, O_RDONLY);
	assert_int_equal(pread(fd, bytes, 4000, 4096), 4000);
	close(fd);
	{
		struct spool_body *b = spool_body_begin(k->spool, 0);
		struct spool_envelope e = kit_envelope("d", 1, "x");
		struct kit_answer r = { 0 };
		spool_body_write(b, bytes, 4000);
		spool_accept(k->spool, b, &e, NULL, 1, kit_done, &r);
		kit_wait(k, &r.done);
	}
	kit_close(k);
	remove_index(k);
	reopen(k);
	assert_int_equal(kit_count(k), 2);
	kit_assert_body(k, a.id, "an earlier message");
}

static void damaged_index_is_rebuilt(void **state)
{
	struct kit *k = *state;
	static struct kit_answer a[100];
	char path[600];

	mixture(k, 100, a);
	kit_list(k, 0, 0, "", 2000, &before);
	for (int how = 0; how < 4; how++) {
		kit_close(k);
		snprintf(path, sizeof path, "%s/index.db", k->path);
		if (how == 0)
			overwrite(path, 0, "this is no database at all", 26);
		else if (how == 1)
			assert_int_equal(truncate(path, 5000), 0);
		else if (how == 2)
			assert_int_equal(truncate(path, 0), 0);
		else {
			snprintf(path, sizeof path, "%s/rebuild", k->path);
			close(open(path, O_CREAT | O_WRONLY, 0600));
		}
		reopen(k);
		assert_true(k->found.rebuilt);
		kit_list(k, 0, 0, "", 2000, &after);
		same(&before, &after);
	}
	kit_close(k);
	reopen(k);
	assert_false(k->found.rebuilt);
}

/* Reads all there is; false: some of it cannot be. */
static bool all_can_be_read(struct kit *k, struct kit_found *f)
{
	enum spool_status status;
	bool good = true;
	size_t n;

	kit_list(k, 0, 0, "", 2000, f);
	good = f->status == SPOOL_OK;
	for (size_t i = 0; i < before.n; i++) {
		free(kit_read(k, before.e[i].id, 0, 50000, &n, &status));
		good = good && status == SPOOL_OK;
	}
	return good;
}

/* Noise in any page of the index: found by the start, or by whoever meets it; then the next start makes it anew. */
static void damage_met_later_is_healed_by_the_next_start(void **state)
{
	struct kit *k = *state;
	static struct kit_answer a[300];
	static char noise[4096], path[600];
	unsigned healed = 0, at_start = 0;
	struct stat st;

	mixture(k, 300, a);
	kit_list(k, 0, 0, "", 2000, &before);
	for (size_t i = 0; i < sizeof noise; i++)
		noise[i] = (char)(i * 2654435761u >> 13 ^ i);
	kit_close(k);
	snprintf(path, sizeof path, "%s/index.db", k->path);
	assert_int_equal(stat(path, &st), 0);
	for (off_t at = 0; at < st.st_size; at += (off_t)sizeof noise) {
		overwrite(path, at, noise, sizeof noise);
		reopen(k);
		at_start += k->found.rebuilt;
		if (!all_can_be_read(k, &after)) {
			assert_true(spool_damaged(k->spool));
			assert_int_equal(kit_accept(k, "x", "d", 1, false).status, SPOOL_SICK);
			kit_close(k);
			reopen(k);
			assert_true(k->found.rebuilt);
			healed++;
			assert_true(all_can_be_read(k, &after));
		}
		same(&before, &after);
		kit_close(k);
	}
	assert_true(healed > 0 && at_start > 0);
	reopen(k);
}

static void old_index_is_not_believed(void **state)
{
	struct kit *k = *state;
	static struct kit_answer a[100];
	char keep[600], path[600];

	mixture(k, 100, a);
	kit_close(k);
	snprintf(path, sizeof path, "%s/index.db", k->path);
	snprintf(keep, sizeof keep, "%s-index", k->path);
	assert_int_equal(rename(path, keep), 0);
	reopen(k); /* built anew; then life goes on until every old segment is recycled */
	kit_delete(k, 0, "");
	for (int i = 0; i < 100; i++) {
		static char text[20000];
		memset(text, 'x', sizeof text - 1);
		struct kit_answer m = kit_accept(k, text, "d", 1, true);
		assert_int_equal(kit_settle(k, m.id, 0, NULL).status, SPOOL_OK);
	}
	kit_accept(k, "the only one", "d", 1, false);
	kit_close(k);
	remove_index(k);
	assert_int_equal(rename(keep, path), 0);
	reopen(k);
	assert_true(k->found.rebuilt);
	assert_int_equal(kit_count(k), 1);
}

static void segments_are_recycled(void **state)
{
	struct kit *k = *state;
	static char text[10000];
	struct spool_stats st;
	struct kit_answer keep = kit_accept(k, "kept through it all", "keep", 2, false);

	memset(text, 'x', sizeof text - 1);
	kit_settle(k, keep.id, 1, NULL);
	for (int i = 0; i < 300; i++) { /* 3 MB through segments of 256 KiB */
		struct kit_answer a = kit_accept(k, text, "d", 1, true);
		assert_int_equal(a.status, SPOOL_OK);
		assert_int_equal(kit_settle(k, a.id, 0, NULL).status, SPOOL_OK);
		if (i % 50 == 49) {
			crash(k);
			if (i % 100 == 99)
				remove_index(k);
			reopen(k);
			assert_int_equal(k->found.quarantined, 0);
			kit_list(k, 0, 0, "", 10, &found);
			assert_int_equal(found.n, 1);
			assert_int_equal(found.e[0].slot, 0);
			kit_assert_body(k, keep.id, "kept through it all");
		}
	}
	while (spool_step(k->spool))
		spool_dispatch(k->spool);
	spool_get_stats(k->spool, &st);
	assert_true(st.segments <= 7);
	assert_true(st.bytes_total <= 7 * 256 * 1024);
	/* the message that lived longest was moved: its old segment would have kept all others */
	kit_assert_body(k, keep.id, "kept through it all");
}

static void compaction_moves_what_lives(void **state)
{
	struct kit *k = *state;
	static struct kit_answer a[120];
	static char text[8000];
	struct spool_stats st;

	memset(text, 'y', sizeof text - 1);
	for (int i = 0; i < 120; i++) {
		text[0] = (char)('A' + i % 26);
		a[i] = kit_accept(k, text, "d", 2, true);
	}
	for (int i = 0; i < 120; i++) {
		struct spool_envelope later = kit_envelope("", 9000, "again");
		later.attempts = 4;
		if (i % 8) {
			kit_settle(k, a[i].id, 0, NULL);
			kit_settle(k, a[i].id, 1, NULL);
		} else {
			kit_settle(k, a[i].id, 0, &later);
			spool_unlease(k->spool, a[i].id, 1);
			kit_hold(k, a[i].id, "", true);
		}
	}
	kit_list(k, 0, 0, "", 1000, &before);
	assert_int_equal(before.n, 30);
	while (spool_step(k->spool))
		spool_dispatch(k->spool);
	spool_get_stats(k->spool, &st);
	assert_true(st.bytes_total < 6 * 256 * 1024);
	for (int how = 0; how < 3; how++) {
		kit_list(k, 0, 0, "", 1000, &after);
		same(&before, &after);
		for (int i = 0; i < 120; i += 8) {
			text[0] = (char)('A' + i % 26);
			kit_assert_body(k, a[i].id, text);
		}
		crash(k);
		if (how == 1)
			remove_index(k);
		reopen(k);
		assert_int_equal(k->found.quarantined, 0);
	}
}

/* The end of a message stands in a later segment than the message: recycled first, a rebuild would deliver it again. */
static void ends_outlive_their_messages(void **state)
{
	struct kit *k = *state;
	static char text[15000];
	struct kit_answer small[10], large[14];

	memset(text, 'k', sizeof text - 1);
	for (int i = 0; i < 14; i++) { /* the first segment stays mostly live */
		if (i < 10)
			small[i] = kit_accept(k, "delivered once", "d", 1, true);
		large[i] = kit_accept(k, text, "keep", 1, false);
	}
	for (int i = 0; i < 20; i++) {
		struct kit_answer a = kit_accept(k, text, "d", 1, true);
		kit_settle(k, a.id, 0, NULL);
	}
	for (int i = 0; i < 10; i++)
		assert_int_equal(kit_settle(k, small[i].id, 0, NULL).status, SPOOL_OK);
	for (int i = 0; i < 80; i++) { /* and what comes after is all dead, several times over */
		struct kit_answer a = kit_accept(k, text, "d", 1, true);
		kit_settle(k, a.id, 0, NULL);
	}
	crash(k);
	remove_index(k);
	reopen(k);
	assert_int_equal(k->found.quarantined, 0);
	assert_int_equal(kit_count(k), 14);
	for (int i = 0; i < 14; i++)
		kit_assert_body(k, large[i].id, text);
}

static void body_files(void **state)
{
	struct kit *k = *state;
	static char text[100 * 1024];
	char path[600], orphan[1000];
	struct kit_answer a, b, c;
	DIR *d;
	struct dirent *e;
	int files = 0;

	memset(text, 'z', sizeof text - 1);
	a = kit_accept(k, text, "d", 1, true);
	b = kit_accept(k, text, "d", 1, true);
	c = kit_accept(k, text, "d", 2, true);
	assert_int_equal(kit_settle(k, a.id, 0, NULL).status, SPOOL_OK);
	snprintf(path, sizeof path, "%s/bodies", k->path);
	snprintf(orphan, sizeof orphan, "%s/0000000000000123", path);
	close(open(orphan, O_CREAT | O_WRONLY, 0600));
	crash(k);
	remove_index(k);
	reopen(k);
	d = opendir(path);
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.')
			files++, snprintf(orphan, sizeof orphan, "%s/%s", path, e->d_name);
	closedir(d);
	assert_int_equal(files, 2); /* neither the delivered one's nor the orphan */
	assert_int_equal(kit_count(k), 3);
	kit_assert_body(k, b.id, text);
	kit_assert_body(k, c.id, text);
	/* a file that is gone: its message is held for the operator, never forgotten */
	kit_close(k);
	unlink(orphan);
	remove_index(k);
	reopen(k);
	assert_int_equal(k->found.quarantined, 1);
	assert_int_equal(kit_count(k), 3);
	kit_list(k, 0, 0, "", 10, &found);
	for (size_t i = 0, held = 0; i < found.n; i++) {
		held += found.e[i].held;
		assert_true(i + 1 < found.n || held == 1 || held == 2);
	}
}

static void damaged_headers(void **state)
{
	struct kit *k = *state;
	char path[600];
	static char junk[4096];
	struct kit_answer a = kit_accept(k, "survives", "d", 1, false);

	memset(junk, 'j', sizeof junk);
	newest_segment(k, path, sizeof path);
	kit_close(k);
	overwrite(path, 0, junk, 100); /* the first copy only */
	reopen(k);
	assert_int_equal(k->found.quarantined, 0);
	kit_assert_body(k, a.id, "survives");
	kit_close(k);
	overwrite(path, 0, junk, 4096); /* both: the index knows what this segment is */
	reopen(k);
	assert_int_equal(k->found.quarantined, 1);
	assert_false(k->found.rebuilt);
	kit_assert_body(k, a.id, "survives");
	kit_close(k);
	reopen(k); /* and has written its header again */
	assert_int_equal(k->found.quarantined, 0);
	kit_close(k);
	overwrite(path, 0, junk, 4096); /* both, and no index: set aside, not fatal */
	remove_index(k);
	reopen(k);
	assert_int_equal(k->found.quarantined, 1);
	assert_int_equal(kit_count(k), 0);
	assert_int_equal(kit_accept(k, "life goes on", "d", 1, false).status, SPOOL_OK);
}

static void a_segment_is_missing(void **state)
{
	struct kit *k = *state;
	static char text[30000];
	char path[600];
	struct kit_answer last;
	size_t n;
	enum spool_status status;
	spool_id first;

	memset(text, 'm', sizeof text - 1);
	first = kit_accept(k, text, "d", 1, false).id;
	snprintf(path, sizeof path, "%s/segments/00000001", k->path);
	for (int i = 0; i < 20; i++)
		last = kit_accept(k, text, "d", 1, false);
	kit_close(k);
	assert_int_equal(unlink(path), 0);
	reopen(k);
	assert_true(k->found.quarantined >= 1);
	assert_int_equal(kit_count(k), 21); /* listed: the operator must see what cannot be read */
	assert_null(kit_read(k, first, 0, 10, &n, &status));
	assert_int_equal(status, SPOOL_SICK);
	kit_assert_body(k, last.id, text);
	assert_int_equal(kit_accept(k, "life goes on", "d", 1, false).status, SPOOL_OK);
}

static void operations_over_many(void **state)
{
	struct kit *k = *state;
	static struct kit_answer a[2500];
	struct spool_stats st;

	for (int i = 0; i < 2500; i++)
		kit_begin_accept(k, "x", 1, i % 5 ? "d" : "e", 1, false, &a[i]);
	kit_wait(k, &a[2499].done);
	assert_int_equal(kit_hold(k, 0, "d", true).id, 2000);
	assert_int_equal(kit_hold(k, 0, "", false).id, 2000);
	assert_int_equal(kit_hold(k, 0, "e", true).id, 500);
	assert_int_equal(kit_delete(k, 0, "d").id, 2000);
	crash(k);
	remove_index(k);
	reopen(k);
	spool_get_stats(k->spool, &st);
	assert_int_equal(st.envelopes, 500);
	assert_int_equal(st.held, 500);
}

/* The index as it is now, without its spool: what a power cut leaves of a lagging one when nothing synced it since. */
static void keep_index(const struct kit *k, char *at, size_t n)
{
	snprintf(at, n, "%s-kept", k->path);
	kit_remove(at);
	kit_copy(k->path, at);
}

static void put_index_back(struct kit *k, const char *kept)
{
	char from[600], to[600];
	static const char *const names[] = { "index.db", "index.db-wal" };

	crash(k);
	remove_index(k);
	for (int i = 0; i < 2; i++) {
		snprintf(from, sizeof from, "%s/%s", kept, names[i]);
		snprintf(to, sizeof to, "%s/%s", k->path, names[i]);
		assert_true(rename(from, to) == 0 || i == 1);
	}
	kit_remove(kept);
}

/* Several segments behind: each record above what the index knows is applied, once. */
static void an_index_far_behind_catches_up(void **state)
{
	struct kit *k = *state;
	static struct kit_answer a[200];
	static char text[9000];
	struct kit_answer first = kit_accept(k, "known to the old index", "d", 2, true);
	struct spool_stats s1, s2;
	char kept[600];

	kit_close(k);
	reopen(k); /* a start ends with a durable index */
	keep_index(k, kept, sizeof kept);
	assert_int_equal(kit_settle(k, first.id, 1, NULL).status, SPOOL_OK);
	memset(text, 'f', sizeof text - 1);
	for (int i = 0; i < 100; i++) /* four segments */
		assert_int_equal(kit_accept(k, text, "smtp:c", 1, false).status, SPOOL_OK);
	mixture(k, 200, a);
	kit_list(k, 0, 0, "", 2000, &before);
	spool_get_stats(k->spool, &s1);
	assert_true(s1.segments >= 4);
	put_index_back(k, kept);
	reopen(k);
	assert_false(k->found.rebuilt);
	assert_true(k->found.replayed > 300);
	assert_int_equal(k->found.quarantined, 0);
	kit_list(k, 0, 0, "", 2000, &after);
	same(&before, &after);
	check_bodies(k, &after, a, 200);
	spool_get_stats(k->spool, &s2);
	assert_int_equal(s1.messages, s2.messages);
	assert_int_equal(s1.held, s2.held);
	assert_int_equal(s1.bytes_live, s2.bytes_live);
}

/* Acknowledged records stand behind a damaged one: a lagging index must not stop there. */
static void damage_above_an_index_far_behind(void **state)
{
	struct kit *k = *state;
	struct kit_answer a, b, c;
	char kept[600], path[600];

	if (k->options.index != SPOOL_INDEX_LAGGING)
		return; /* strict: nothing above `applied` was acknowledged but the last batch */
	keep_index(k, kept, sizeof kept);
	a = kit_accept(k, "before the damage", "d", 1, false);
	b = kit_accept(k, "DAMAGED one", "d", 1, false);
	c = kit_accept(k, "after the damage", "d", 1, false);
	newest_segment(k, path, sizeof path);
	overwrite(path, find_last(path, "DAMAGED", 1), "damaged", 7);
	put_index_back(k, kept);
	reopen(k);
	assert_false(k->found.rebuilt);
	assert_int_equal(k->found.quarantined, 1);
	assert_int_equal(kit_count(k), 2);
	kit_assert_body(k, a.id, "before the damage");
	kit_assert_body(k, c.id, "after the damage");
	assert_true(kit_accept(k, "life goes on", "d", 1, false).id > b.id);
}

/* From one mode to the other and back, each life ended by a crash. */
static void the_mode_may_change(void **state)
{
	struct kit *k = *state;
	struct kit_answer a[6];

	for (int i = 0; i < 6; i++) {
		char kept[600] = "";
		if (k->options.index == SPOOL_INDEX_LAGGING)
			keep_index(k, kept, sizeof kept);
		a[i] = kit_accept(k, "through all modes", "d", 1, false);
		if (kept[0])
			put_index_back(k, kept);
		else
			crash(k);
		k->options.index = i % 2 ? SPOOL_INDEX_STRICT : SPOOL_INDEX_LAGGING;
		reopen(k);
		assert_false(k->found.rebuilt);
		for (int m = 0; m <= i; m++)
			kit_assert_body(k, a[m].id, "through all modes");
	}
	assert_int_equal(kit_count(k), 6);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(crash_keeps_everything), T(rebuilt_is_the_same), T(delivered_mail_stays_delivered),
		T(second_opener_is_refused), T(torn_tail_is_cut), T(damaged_record_is_set_aside),
		T(a_record_in_a_mail_is_only_mail), T(damaged_index_is_rebuilt), T(damage_met_later_is_healed_by_the_next_start), T(old_index_is_not_believed),
		T(segments_are_recycled), T(compaction_moves_what_lives),
		T(ends_outlive_their_messages), T(body_files), T(damaged_headers),
		T(a_segment_is_missing), T(operations_over_many), T(an_index_far_behind_catches_up),
		T(damage_above_an_index_far_behind), T(the_mode_may_change),
	};

	return KIT_BOTH_MODES(tests, NULL);
}
