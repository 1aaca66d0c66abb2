/* sqlite.c - the index's own disk fails: a file layer beneath SQLite makes its n-th write or sync fail.
 *
 * A failed COMMIT leaves records in the segment that are durable and must not count: the abort behind them says so. */
#include "kit.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct { long left; bool once, hit; int code; } plan = { .left = -1 };
static sqlite3_vfs *unix_vfs, layer;
/* The database itself has shared memory and locks, its log has not: two tables of methods. */
static sqlite3_io_methods methods[2];
static const sqlite3_io_methods *real[2];

static int strikes(void)
{
	if (plan.left < 0)
		return SQLITE_OK;
	if (plan.left > 0) {
		plan.left--;
		return SQLITE_OK;
	}
	plan.hit = true;
	if (plan.once)
		plan.left = -1;
	return plan.code;
}

static int v_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	int rc = strikes();

	return rc ? rc : real[f->pMethods == &methods[1]]->xWrite(f, p, n, at);
}

static int v_sync(sqlite3_file *f, int flags)
{
	int rc = strikes();

	return rc ? rc : real[f->pMethods == &methods[1]]->xSync(f, flags);
}

static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
	int rc = unix_vfs->xOpen(unix_vfs, name, f, flags, out);

	int other = !(flags & SQLITE_OPEN_MAIN_DB);

	(void)v;
	if (rc == SQLITE_OK && f->pMethods) {
		real[other] = f->pMethods;
		methods[other] = *real[other];
		methods[other].xWrite = v_write;
		methods[other].xSync = v_sync;
		f->pMethods = &methods[other];
	}
	return rc;
}

static int install(void **state)
{
	(void)state;
	unix_vfs = sqlite3_vfs_find(NULL);
	layer = *unix_vfs;
	layer.zName = "faulty";
	layer.pNext = NULL;
	layer.xOpen = v_open;
	return sqlite3_vfs_register(&layer, 1);
}

#define MESSAGES 10

static void each_failure(int code, bool once, bool rebuild)
{
	for (long n = 0;; n++) {
		struct kit k;
		struct kit_answer accepted[MESSAGES], settled[MESSAGES];
		static struct kit_found f;
		char path[600];
		unsigned refused = 0;
		kit_init(&k, KIT_STEPPED);
		if (kit_open(&k) == -1)
			fail_msg("%s", k.error.text);
		memset(settled, 0, sizeof settled);
		plan.left = n;
		plan.code = code;
		plan.once = once;
		plan.hit = false;
		for (int i = 0; i < MESSAGES; i++) {
			accepted[i] = kit_accept(&k, "a message that must not be lost, nor come back", "d", 1, true);
			if (accepted[i].status == SPOOL_OK && i % 2)
				settled[i] = kit_settle(&k, accepted[i].id, 0, NULL);
			refused += accepted[i].status != SPOOL_OK;
		}
		plan.left = -1;
		kit_close(&k);
		if (rebuild) {
			snprintf(path, sizeof path, "%s/index.db", k.path);
			unlink(path);
			snprintf(path, sizeof path, "%s/index.db-wal", k.path);
			unlink(path);
		}
		if (kit_open(&k) == -1)
			fail_msg("%s", k.error.text);
		kit_list(&k, 0, 0, "", 1000, &f);
		for (int i = 0; i < MESSAGES; i++) {
			size_t at = 0;
			if (accepted[i].status != SPOOL_OK)
				continue;
			while (at < f.n && f.e[at].id != accepted[i].id)
				at++;
			if (i % 2 == 0)
				assert_true(at < f.n);
			else if (settled[i].status == SPOOL_OK)
				assert_int_equal(at, f.n);
		}
		if (once && code == SQLITE_FULL) {
			/* not sick: it went on at once, and what was refused did not come back */
			assert_true(refused <= 1);
			assert_true(f.n <= MESSAGES);
			for (size_t at = 0; at < f.n; at++) {
				bool known = false;
				for (int i = 0; i < MESSAGES; i++)
					known = known || (accepted[i].status == SPOOL_OK && accepted[i].id == f.e[at].id);
				assert_true(known);
			}
		}
		assert_int_equal(kit_accept(&k, "afterwards", "d", 1, false).status, SPOOL_OK);
		kit_end(&k);
		if (!plan.hit)
			break;
		if (kit_index == SPOOL_INDEX_LAGGING)
			n += 2; /* most of it is the same code */
		assert_true(n < 2000);
	}
}

static void disk_full(void **state)
{
	(void)state;
	each_failure(SQLITE_FULL, true, false);
	each_failure(SQLITE_FULL, true, true);
	each_failure(SQLITE_FULL, false, false);
}

static void disk_broken(void **state)
{
	(void)state;
	each_failure(SQLITE_IOERR_WRITE, true, false);
	each_failure(SQLITE_IOERR_FSYNC, true, true);
	each_failure(SQLITE_IOERR_FSYNC, false, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(disk_full), cmocka_unit_test(disk_broken) };

	return KIT_BOTH_MODES(tests, install);
}
