/* faults.c - the n-th disk call fails, for every n and every kind of failure: what was answered OK is there after a
 * reopen, byte for byte; what was refused harms nothing; nothing crashes.  The same for memory, and for the calls of SQLite. */
#include "kit.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum fault { FAULT_EIO = 1, FAULT_ENOSPC, FAULT_SHORT, FAULT_ENOMEM, FAULT_EDQUOT, FAULT_EMFILE, FAULT_EINTR, FAULT_END };
static const int numbers[] = { [FAULT_EIO] = EIO, [FAULT_ENOSPC] = ENOSPC, [FAULT_SHORT] = ENOSPC, [FAULT_ENOMEM] = ENOMEM, [FAULT_EDQUOT] = EDQUOT,
	[FAULT_EMFILE] = EMFILE, [FAULT_EINTR] = EINTR };

static struct {
	long left;        /* calls until the fault; < 0: none */
	bool once;        /* else all calls from then on */
	enum fault fault;
	bool hit;
} plan;

static bool strikes(void)
{
	if (plan.left < 0)
		return false;
	if (plan.left > 0) {
		plan.left--;
		return false;
	}
	plan.hit = true;
	if (plan.once)
		plan.left = -1;
	errno = numbers[plan.fault];
	return true;
}

#define REAL env_real.disk

static int f_open(void *arg, const char *path, int flags, mode_t mode)
{
	return strikes() ? -1 : REAL.open(arg, path, flags, mode);
}

static int f_close(void *arg, int fd)
{
	bool fails = strikes();
	int e = errno, r = REAL.close(arg, fd);

	errno = e;
	return fails ? -1 : r;
}

static ssize_t f_pread(void *arg, int fd, void *to, size_t n, off_t at)
{
	if (strikes()) {
		if (plan.fault != FAULT_SHORT)
			return -1;
		return REAL.pread(arg, fd, to, n / 2 ? n / 2 : n, at);
	}
	return REAL.pread(arg, fd, to, n, at);
}

static ssize_t f_pwrite(void *arg, int fd, const void *from, size_t n, off_t at)
{
	if (strikes()) {
		if (plan.fault == FAULT_SHORT || plan.fault == FAULT_ENOSPC) {
			ssize_t r = REAL.pwrite(arg, fd, from, n / 2, at); /* part of it is there all the same */
			if (plan.fault == FAULT_SHORT && n / 2)
				return r;
			errno = ENOSPC;
		}
		return -1;
	}
	return REAL.pwrite(arg, fd, from, n, at);
}

static int f_fdatasync(void *arg, int fd)
{
	return strikes() ? -1 : REAL.fdatasync(arg, fd);
}

static int f_fsync(void *arg, int fd)
{
	return strikes() ? -1 : REAL.fsync(arg, fd);
}

static int f_ftruncate(void *arg, int fd, off_t size)
{
	return strikes() ? -1 : REAL.ftruncate(arg, fd, size);
}

static int f_rename(void *arg, const char *from, const char *to)
{
	return strikes() ? -1 : REAL.rename(arg, from, to);
}

static int f_unlink(void *arg, const char *path)
{
	return strikes() ? -1 : REAL.unlink(arg, path);
}

static int f_mkdir(void *arg, const char *path, mode_t mode)
{
	return strikes() ? -1 : REAL.mkdir(arg, path, mode);
}

static int f_list(void *arg, const char *path, int (*found)(void *, const char *), void *ctx)
{
	return strikes() ? -1 : REAL.list(arg, path, found, ctx);
}

static int64_t f_size(void *arg, int fd)
{
	return strikes() ? -1 : REAL.size(arg, fd);
}

static int64_t free_now = INT64_MAX;

static int64_t f_free(void *arg, const char *path)
{
	if (strikes())
		return -1;
	return free_now != INT64_MAX ? free_now : REAL.free_bytes(arg, path);
}

static struct env faulty(void)
{
	struct env e = env_real;

	e.disk = (struct env_disk){ f_open, f_close, f_pread, f_pwrite, f_fdatasync, f_fsync, f_ftruncate, f_rename,
		f_unlink, f_mkdir, f_list, f_size, f_free, NULL };
	return e;
}

/* ---- a small life ---- */

#define MESSAGES 12

struct life {
	struct kit_answer accepted[MESSAGES], settled[MESSAGES];
	bool was_read[MESSAGES];
};

static void text_of(char *to, size_t n, int i)
{
	size_t size = i == 3 || i == 7 ? 40000 : 300 + (size_t)i * 1500; /* two of them are body files */

	if (size > n - 1)
		size = n - 1;
	for (size_t at = 0; at < size && at < 26 * 97; at++)
		to[at] = (char)('a' + (at * 3 + (size_t)i + at / 97) % 26);
	for (size_t at = 26 * 97, had = at; at < size; at += had) /* the rest repeats it: the sum is dear under the sanitizers */
		memcpy(to + at, to, had < size - at ? had : size - at);
	to[size] = '\0';
}

static void live(struct kit *k, struct life *l)
{
	static char text[50000];
	size_t n;
	enum spool_status status;

	memset(l, 0, sizeof *l);
	for (int i = 0; i < MESSAGES; i++) {
		struct spool_envelope later = kit_envelope("", 9000 + i, "remains");
		text_of(text, sizeof text, i);
		kit_begin_accept(k, text, strlen(text), "d", 1, true, &l->accepted[i]);
		kit_wait(k, &l->accepted[i].done);
		assert_int_equal(l->accepted[i].calls, 1);
		if (l->accepted[i].status != SPOOL_OK)
			continue;
		if (i % 3 == 0) {
			char *p = kit_read(k, l->accepted[i].id, 0, sizeof text, &n, &status);
			assert_true(!p || (n == strlen(text) && memcmp(p, text, n) == 0)); /* the right bytes or none */
			free(p);
		}
		if (i % 3 != 2)
			l->settled[i] = kit_settle(k, l->accepted[i].id, 0, i % 3 ? &later : NULL);
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
		if (l->accepted[i].status != SPOOL_OK)
			continue;
		while (at < f.n && f.e[at].id != l->accepted[i].id)
			at++;
		if (i % 3 == 0 && l->settled[i].status == SPOOL_OK) {
			assert_int_equal(at, f.n); /* delivered: never again */
			continue;
		}
		if (at == f.n && i % 3 == 0)
			continue; /* its end was refused, but a failed commit may have reached the disk: asked for, so no loss */
		if (at == f.n)
			fail_msg("message %d was answered OK and is not there (fault %d, hit %d, rebuilt %d, set aside %d)", i,
			         (int)plan.fault, plan.hit, k->found.rebuilt, (int)k->found.quarantined);
		text_of(text, sizeof text, i);
		kit_assert_body(k, l->accepted[i].id, text);
		if (i % 3 == 1 && l->settled[i].status == SPOOL_OK) {
			assert_int_equal(f.e[at].due, 9000 + i);
			assert_string_equal(f.e[at].data, "remains");
		}
	}
}

static void reopen_well(struct kit *k)
{
	plan.left = -1;
	if (kit_open(k) == -1)
		fail_msg("%s", k->error.text);
}

static void run(enum fault fault, bool once, bool rebuild)
{
	struct env env = faulty();

	for (long n = 0;; n++) {
		struct kit k;
		struct life l;
		char path[600];
		kit_init(&k, KIT_STEPPED);
		k.options.env = &env;
		k.options.segment_size = 64 * 1024; /* rotation and recycling are part of it */
		reopen_well(&k);
		plan.left = n;
		plan.fault = fault;
		plan.once = once;
		plan.hit = false;
		live(&k, &l);
		kit_close(&k);
		if (rebuild) {
			snprintf(path, sizeof path, "%s/index.db", k.path);
			remove(path);
		}
		reopen_well(&k);
		if (getenv("SPOOL_TEST_TRACE"))
			print_message("call %ld fault %d once %d\n", n, (int)fault, once);
		check(&k, &l);
		/* and it serves again */
		assert_int_equal(kit_accept(&k, "afterwards", "d", 1, false).status, SPOOL_OK);
		kit_end(&k);
		if (!plan.hit)
			break;
		assert_true(n < 5000);
		if (!once)
			n += 2; /* all later calls fail too: neighbours teach little */
		if (kit_index == SPOOL_INDEX_LAGGING)
			n += 3; /* most of it is the same code */
	}
}

static void every_call_once(void **state)
{
	(void)state;
	for (int f = FAULT_EIO; f < FAULT_END; f++)
		run((enum fault)f, true, false);
}

static void every_call_from_then_on(void **state)
{
	(void)state;
	for (int f = FAULT_EIO; f < FAULT_EDQUOT; f++) /* which is as ENOSPC, and EMFILE as ENOMEM; signals for ever do not come */
		if (f != FAULT_SHORT) /* halves for ever are what a slow disk does: no fault */
			run((enum fault)f, false, false);
}

static void every_call_then_rebuilt(void **state)
{
	(void)state;
	run(FAULT_EIO, true, true);
	run(FAULT_ENOSPC, true, true);
}

/* Opening after a crash, with each of its calls failing, then well. */
static void recovery_calls(void **state)
{
	struct env env = faulty();
	struct kit k;
	struct life l;
	char crashed[600];

	(void)state;
	plan.left = -1;
	kit_init(&k, KIT_STEPPED);
	k.options.env = &env;
	k.options.segment_size = 64 * 1024;
	reopen_well(&k);
	live(&k, &l);
	snprintf(crashed, sizeof crashed, "%s-crashed", k.path);
	kit_copy(k.path, crashed);
	kit_close(&k);
	for (int variant = 0; variant < 2; variant++)
		for (int f = FAULT_EIO; f < FAULT_END; f++)
			for (long n = 0;; n++) {
				char path[700];
				int r;
				kit_remove(k.path);
				kit_copy(crashed, k.path);
				snprintf(path, sizeof path, "%s/index.db", k.path);
				if (variant)
					remove(path);
				plan.left = n;
				plan.fault = (enum fault)f;
				plan.once = true;
				plan.hit = false;
				r = kit_open(&k);
				plan.left = -1;
				if (r == 0) {
					check(&k, &l);
					kit_close(&k);
				} else {
					assert_true(k.error.text[0]);
				}
				reopen_well(&k);
				check(&k, &l);
				kit_close(&k);
				if (!plan.hit)
					break;
				assert_true(n < 2000);
			}
	kit_remove(crashed);
	kit_remove(k.path);
}

/* ---- the index ---- */

/* SQLite's own calls, wrapped by the linker: what it answers when the disk below it fails, or memory, or a page. */
static long index_left = -1;
static int index_code;

static bool index_fails(void)
{
	return index_left >= 0 && index_left-- == 0;
}

int __real_sqlite3_step(sqlite3_stmt *);
int __wrap_sqlite3_step(sqlite3_stmt *);
int __real_sqlite3_exec(sqlite3 *, const char *, int (*)(void *, int, char **, char **), void *, char **);
int __wrap_sqlite3_exec(sqlite3 *, const char *, int (*)(void *, int, char **, char **), void *, char **);
int __real_sqlite3_prepare_v3(sqlite3 *, const char *, int, unsigned, sqlite3_stmt **, const char **);
int __wrap_sqlite3_prepare_v3(sqlite3 *, const char *, int, unsigned, sqlite3_stmt **, const char **);

int __wrap_sqlite3_step(sqlite3_stmt *st)
{
	return index_fails() ? index_code : __real_sqlite3_step(st);
}

int __wrap_sqlite3_exec(sqlite3 *db, const char *sql, int (*row)(void *, int, char **, char **), void *arg, char **why)
{
	return index_fails() ? index_code : __real_sqlite3_exec(db, sql, row, arg, why);
}

int __wrap_sqlite3_prepare_v3(sqlite3 *db, const char *sql, int n, unsigned flags, sqlite3_stmt **st, const char **rest)
{
	*st = NULL;
	return index_fails() ? index_code : __real_sqlite3_prepare_v3(db, sql, n, flags, st, rest);
}

static const struct {
	int code;
	long stride; /* neighbours teach little */
} index_faults[] = { { SQLITE_IOERR_WRITE, 11 }, { SQLITE_FULL, 41 }, { SQLITE_NOMEM, 41 }, { SQLITE_IOERR_NOMEM, 83 }, { SQLITE_CORRUPT, 41 },
	{ SQLITE_BUSY, 83 }, { SQLITE_NOTADB, 83 } };

/* What else an operator does, and what moves records about, with the fault still to come. */
static void operate_on(struct kit *k, const struct life *l)
{
	static struct kit_found f;

	kit_due(k, 1 << 20, 100, &f);
	kit_lease(k, "d", 1 << 20, 2, &f);
	if (l->accepted[2].status == SPOOL_OK) {
		kit_hold(k, l->accepted[2].id, "", true);
		kit_hold(k, l->accepted[2].id, "", false);
	}
	if (l->accepted[11].status == SPOOL_OK)
		kit_flush(k, l->accepted[11].id, "", 5);
	kit_list(k, 0, 0, "d", 5, &f);
}

static void index_calls(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof index_faults / sizeof index_faults[0]; i++)
		for (long n = (long)i;; n += index_faults[i].stride) {
			struct kit k;
			struct life l;
			bool hit;

			kit_init(&k, KIT_STEPPED);
			k.options.segment_size = 64 * 1024;
			reopen_well(&k);
			index_code = index_faults[i].code;
			index_left = n;
			live(&k, &l);
			operate_on(&k, &l);
			hit = index_left < 0;
			index_left = -1;
			kit_close(&k);
			reopen_well(&k);
			check(&k, &l);
			assert_int_equal(kit_accept(&k, "afterwards", "d", 1, false).status, SPOOL_OK);
			kit_end(&k);
			if (!hit)
				break;
			assert_true(n < 5000);
		}
}

/* Opening with records above the index's last COMMIT, and with no index at all, while its n-th call fails. */
static void index_calls_while_opening(void **state)
{
	struct kit k;
	struct life l;
	char crashed[600];

	(void)state;
	kit_init(&k, KIT_STEPPED);
	k.options.segment_size = 64 * 1024;
	reopen_well(&k);
	live(&k, &l);
	snprintf(crashed, sizeof crashed, "%s-crashed", k.path);
	kit_copy(k.path, crashed);
	kit_close(&k);
	for (int variant = 0; variant < 2; variant++)
		for (size_t i = 0; i < sizeof index_faults / sizeof index_faults[0]; i++)
			for (long n = 0;; n += 1 + index_faults[i].stride / 2) {
				char path[700];
				bool hit;

				kit_remove(k.path);
				kit_copy(crashed, k.path);
				snprintf(path, sizeof path, "%s/index.db", k.path);
				if (variant)
					remove(path);
				index_code = index_faults[i].code;
				index_left = n;
				if (kit_open(&k) == 0) {
					hit = index_left < 0;
					index_left = -1;
					check(&k, &l);
					kit_close(&k);
				} else {
					hit = index_left < 0;
					index_left = -1;
					assert_true(k.error.text[0]);
				}
				reopen_well(&k);
				check(&k, &l);
				kit_close(&k);
				if (!hit)
					break;
				assert_true(n < 3000);
			}
	kit_remove(crashed);
	kit_remove(k.path);
}

static void sick_stays_sick(void **state)
{
	struct env env = faulty();
	struct kit k;
	bool sick = false;

	(void)state;
	plan.left = -1;
	kit_init(&k, KIT_STEPPED);
	k.options.env = &env;
	reopen_well(&k);
	for (long n = 0; n < 10 && !sick; n++) {
		plan.left = n;
		plan.fault = FAULT_EIO;
		plan.once = true;
		plan.hit = false;
		sick = kit_accept(&k, "x", "d", 1, false).status == SPOOL_SICK;
	}
	plan.left = -1;
	assert_true(sick);
	assert_int_equal(kit_accept(&k, "x", "d", 1, false).status, SPOOL_SICK); /* never tried again on that descriptor */
	assert_int_equal(spool_pressure(k.spool), 100);
	kit_close(&k);
	reopen_well(&k);
	assert_int_equal(kit_accept(&k, "x", "d", 1, false).status, SPOOL_OK);
	kit_end(&k);
}

/* A message with a body file is refused by a failed sync, but its record may be in the segment: the next start finds both, or neither. */
static void a_failed_sync_keeps_the_body_of_its_record(void **state)
{
	struct env env = faulty();
	static struct kit_found f;
	static char big[5000];
	unsigned found = 0;

	(void)state;
	memset(big, 'b', sizeof big - 1);
	for (long n = 0; n < 40; n++) {
		struct kit k;
		bool sick;

		kit_init(&k, KIT_STEPPED);
		k.options.env = &env;
		k.options.body_file_size = 4096;
		reopen_well(&k);
		plan.left = n;
		plan.fault = FAULT_EIO;
		plan.once = true;
		plan.hit = false;
		sick = kit_accept(&k, big, "d", 1, false).status == SPOOL_SICK;
		plan.left = -1;
		kit_close(&k);
		reopen_well(&k);
		kit_list(&k, 0, 0, "", 10, &f);
		for (size_t i = 0; i < f.n; i++)
			kit_assert_body(&k, f.e[i].id, big);
		found += sick && f.n == 1;
		kit_end(&k);
	}
	assert_true(found > 0);
}

static void full_and_back(void **state)
{
	struct env env = faulty();
	struct kit k;
	struct kit_answer a;
	static char big[100000];

	(void)state;
	plan.left = -1;
	memset(big, 'b', sizeof big - 1);
	kit_init(&k, KIT_STEPPED);
	k.options.env = &env;
	reopen_well(&k);
	a = kit_accept(&k, "before", "d", 1, true);
	free_now = 1000;
	usleep(120000); /* free space is looked at every 100 ms */
	assert_int_equal(kit_accept(&k, "while full", "d", 1, false).status, SPOOL_FULL);
	assert_int_equal(kit_accept(&k, big, "d", 1, false).status, SPOOL_FULL);
	assert_int_equal(spool_pressure(k.spool), 100);
	assert_int_equal(kit_settle(&k, a.id, 0, NULL).status, SPOOL_OK); /* outcomes always find room */
	free_now = INT64_MAX;
	usleep(120000);
	spool_step(k.spool);
	assert_int_equal(spool_pressure(k.spool), 100); /* nothing came, nobody looked */
	spool_look_at_space(k.spool);
	spool_step(k.spool);
	assert_int_equal(spool_pressure(k.spool), 0);
	assert_int_equal(kit_accept(&k, "after", "d", 1, false).status, SPOOL_OK);
	assert_int_equal(kit_accept(&k, big, "d", 1, false).status, SPOOL_OK);
	assert_int_equal(kit_count(&k), 2);
	kit_end(&k);
}

/* ---- memory ---- */

static long memory_left = -1;

static void *f_resize(void *arg, void *old, size_t size)
{
	if (size && memory_left >= 0 && memory_left-- == 0)
		return NULL;
	return alloc_libc.resize(arg, old, size);
}

static void every_allocation(void **state)
{
	static const struct alloc faulty_alloc = { .resize = f_resize };

	(void)state;
	for (int engine = KIT_MEM; engine <= KIT_STEPPED; engine++)
		for (long n = 0;; n++) {
			struct kit k;
			struct life l;
			bool hit;
			kit_init(&k, (enum kit_engine)engine);
			k.options.alloc = &faulty_alloc;
			memory_left = -1;
			assert_int_equal(kit_open(&k), 0);
			memory_left = n;
			live(&k, &l);
			hit = memory_left < 0;
			memory_left = -1;
			check(&k, &l);
			kit_close(&k);
			if (engine == KIT_STEPPED) {
				memory_left = n;
				if (kit_open(&k) == 0)
					kit_close(&k);
				hit = hit || memory_left < 0;
				memory_left = -1;
				assert_int_equal(kit_open(&k), 0);
				check(&k, &l);
				kit_close(&k);
			}
			kit_remove(k.path);
			if (!hit)
				break;
			assert_true(n < 2000);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_call_once), cmocka_unit_test(every_call_from_then_on),
		cmocka_unit_test(every_call_then_rebuilt), cmocka_unit_test(recovery_calls),
		cmocka_unit_test(index_calls), cmocka_unit_test(index_calls_while_opening),
		cmocka_unit_test(sick_stays_sick), cmocka_unit_test(a_failed_sync_keeps_the_body_of_its_record),
		cmocka_unit_test(full_and_back), cmocka_unit_test(every_allocation),
	};

	return KIT_BOTH_MODES(tests, NULL);
}
