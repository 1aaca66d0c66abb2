/* power.c - the power is cut at each disk call: a model disk forgets what was not synced, in sectors, all or some of
 * it, with files and unlinks whose directory was not synced.  What was answered OK is there all the same.
 *
 * The model keeps real files and remembers how to undo: every write since its file's last sync, every file made and
 * unlinked since its directory's.  The index is kept as it is, or removed, so that the segments must stand alone. */
#include "kit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512
#define FDS 256
#define UNDOS 20000

enum undo_kind { UNDO_WRITE = 1, UNDO_MADE, UNDO_UNLINKED };
struct undo { enum undo_kind kind; char path[300]; off_t at; size_t n; unsigned char *old; };

static struct {
	char fd_path[FDS][300];
	struct undo undo[UNDOS];
	size_t n;
	long left;    /* calls until the cut; < 0: never */
	bool after;   /* the call that meets the cut still takes effect */
	bool dead;
	char grave[300];
	unsigned graves;
	uint32_t seed;
} disk;

static uint32_t roll(void)
{
	disk.seed = disk.seed * 1664525u + 1013904223u;
	return disk.seed >> 16;
}

/* True: the power is off, and this call has no effect. */
static bool off(void)
{
	if (disk.dead)
		return true;
	if (disk.left > 0)
		disk.left--;
	else if (disk.left == 0) {
		disk.dead = true;
		return !disk.after;
	}
	return false;
}

static int done(int r)
{
	if (!disk.dead)
		return r;
	errno = EIO; /* whoever waited for this answer never gets it */
	return -1;
}

static struct undo *remember(enum undo_kind kind, const char *path)
{
	struct undo *u = &disk.undo[disk.n++];

	assert_true(disk.n < UNDOS && strlen(path) < sizeof u->path);
	memset(u, 0, sizeof *u);
	u->kind = kind;
	memmove(u->path, path, strlen(path) + 1); /* may be one of ours */
	return u;
}

static void forget(struct undo *u)
{
	if (u->kind == UNDO_UNLINKED)
		unlink((char *)u->old);
	free(u->old);
	u->old = NULL;
	u->kind = 0;
}

static void parent(const char *path, char *to)
{
	char *slash;

	snprintf(to, 300, "%s", path);
	slash = strrchr(to, '/');
	if (slash)
		*slash = '\0';
}

/* fd's file, or the directory, is durable now. */
static void synced(int fd)
{
	char dir[300];

	for (size_t i = 0; i < disk.n; i++) {
		struct undo *u = &disk.undo[i];
		if (!u->kind)
			continue;
		parent(u->path, dir);
		if (u->kind == UNDO_WRITE ? strcmp(u->path, disk.fd_path[fd]) == 0 : strcmp(dir, disk.fd_path[fd]) == 0)
			forget(u);
	}
}

static int p_open(void *arg, const char *path, int flags, mode_t mode)
{
	bool there = access(path, F_OK) == 0;
	int fd;

	if (off()) {
		errno = EIO;
		return -1;
	}
	fd = env_real.disk.open(arg, path, flags, mode);
	if (fd == -1)
		return -1;
	assert_true(fd < FDS);
	snprintf(disk.fd_path[fd], sizeof disk.fd_path[fd], "%s", path);
	if (!there && (flags & O_CREAT))
		remember(UNDO_MADE, path);
	return fd;
}

static ssize_t p_pread(void *arg, int fd, void *to, size_t n, off_t at)
{
	if (off()) {
		errno = EIO;
		return -1;
	}
	return env_real.disk.pread(arg, fd, to, n, at);
}

static ssize_t p_pwrite(void *arg, int fd, const void *from, size_t n, off_t at)
{
	struct undo *u;

	if (off()) {
		errno = EIO;
		return -1;
	}
	u = remember(UNDO_WRITE, disk.fd_path[fd]);
	u->at = at;
	u->n = n;
	u->old = calloc(1, n);
	{
		int in = open(disk.fd_path[fd], O_RDONLY);
		if (pread(in, u->old, n, at) == -1)
			memset(u->old, 0, n);
		close(in);
	}
	n = (size_t)env_real.disk.pwrite(arg, fd, from, n, at);
	return disk.dead ? done(0) : (ssize_t)n;
}

static int p_sync(void *arg, int fd)
{
	if (off()) {
		errno = EIO;
		return -1;
	}
	(void)arg;
	synced(fd);
	return done(0);
}

static int p_unlink(void *arg, const char *path)
{
	struct undo *u;
	char to[400];

	(void)arg;
	if (off() || access(path, F_OK) == -1)
		return -1;
	snprintf(to, sizeof to, "%s/%u", disk.grave, disk.graves++);
	if (rename(path, to) == -1)
		return -1;
	u = remember(UNDO_UNLINKED, path);
	u->old = (unsigned char *)strdup(to);
	return done(0);
}

static int p_rename(void *arg, const char *from, const char *to)
{
	return off() ? -1 : done(env_real.disk.rename(arg, from, to));
}

static int p_mkdir(void *arg, const char *path, mode_t mode)
{
	return off() ? -1 : done(env_real.disk.mkdir(arg, path, mode));
}

static int p_list(void *arg, const char *path, int (*found)(void *, const char *), void *ctx)
{
	return off() ? -1 : env_real.disk.list(arg, path, found, ctx);
}

enum cut { CUT_ALL = 1, CUT_NONE, CUT_SOME, CUT_END };

/* What the disk is like when the power comes back. */
static void lose(enum cut cut)
{
	for (size_t i = disk.n; i-- > 0;) {
		struct undo *u = &disk.undo[i];
		if (u->kind == UNDO_WRITE) {
			int fd = open(u->path, O_WRONLY);
			for (size_t at = 0; fd != -1 && at < u->n;) {
				size_t n = SECTOR - ((size_t)u->at + at) % SECTOR;
				n = n > u->n - at ? u->n - at : n;
				if (cut == CUT_ALL || (cut == CUT_SOME && roll() % 2))
					assert_int_equal(pwrite(fd, u->old + at, n, u->at + (off_t)at), (ssize_t)n);
				at += n;
			}
			if (fd != -1)
				close(fd);
		} else if (u->kind == UNDO_MADE && (cut == CUT_ALL || (cut == CUT_SOME && roll() % 2))) {
			unlink(u->path);
		} else if (u->kind == UNDO_UNLINKED && (cut == CUT_ALL || (cut == CUT_SOME && roll() % 2))) {
			assert_int_equal(rename((char *)u->old, u->path), 0);
		}
		if (u->kind)
			forget(u);
	}
	disk.n = 0;
	disk.dead = false;
	disk.left = -1;
}

/* ---- the life that is cut ---- */

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
	for (int i = 0; i < MESSAGES && !disk.dead; i++) {
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

static void cut_everywhere(bool after, enum cut cut, bool without_index)
{
	struct env env = env_real;

	env.disk.open = p_open;
	env.disk.pread = p_pread;
	env.disk.pwrite = p_pwrite;
	env.disk.fdatasync = p_sync;
	env.disk.fsync = p_sync;
	env.disk.unlink = p_unlink;
	env.disk.rename = p_rename;
	env.disk.mkdir = p_mkdir;
	env.disk.list = p_list;
	for (long n = 0;; n++) {
		struct kit k;
		struct life l;
		char path[600];
		bool met;
		kit_init(&k, KIT_STEPPED);
		snprintf(disk.grave, sizeof disk.grave, "%s-grave", k.path);
		mkdir(disk.grave, 0700);
		disk.seed = (uint32_t)n;
		disk.left = -1;
		k.options.env = &env;
		k.options.segment_size = 64 * 1024;
		assert_int_equal(kit_open(&k), 0);
		disk.left = n;
		disk.after = after;
		live(&k, &l);
		kit_close(&k);
		met = disk.dead;
		lose(cut);
		if (without_index) {
			static const char *const names[] = { "index.db", "index.db-wal", "index.db-shm" };
			for (int i = 0; i < 3; i++) {
				snprintf(path, sizeof path, "%s/%s", k.path, names[i]);
				unlink(path);
			}
		}
		/* and again, while it recovers */
		disk.left = n % 60;
		if (kit_open(&k) == 0)
			kit_close(&k);
		lose(cut);
		if (kit_open(&k) == -1)
			fail_msg("call %ld: %s", n, k.error.text);
		check(&k, &l);
		assert_int_equal(kit_accept(&k, "afterwards", "d", 1, false).status, SPOOL_OK);
		kit_end(&k);
		lose(CUT_NONE);
		kit_remove(disk.grave);
		if (!met)
			break;
		assert_true(n < 3000);
	}
}

static void cut_before(void **state)
{
	(void)state;
	for (int cut = CUT_ALL; cut < CUT_END; cut++)
		cut_everywhere(false, (enum cut)cut, false);
}

static void cut_after(void **state)
{
	(void)state;
	cut_everywhere(true, CUT_ALL, false);
	cut_everywhere(true, CUT_SOME, false);
}

static void cut_and_index_lost(void **state)
{
	(void)state;
	for (int cut = CUT_ALL; cut < CUT_END; cut++)
		cut_everywhere(cut == CUT_NONE, (enum cut)cut, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(cut_before), cmocka_unit_test(cut_after),
		cmocka_unit_test(cut_and_index_lost) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
