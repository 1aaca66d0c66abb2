/* store.c - see store.h: the file, and the policies in it. */
#include "policy/store_inside.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define STORE_FORMAT 1 /* PRAGMA user_version; another one is begun anew */

static const char schema[] =
	"CREATE TABLE policy (domain TEXT PRIMARY KEY, id TEXT NOT NULL, mode INTEGER NOT NULL, max_age INTEGER NOT NULL,"
	" fetched INTEGER NOT NULL, used INTEGER NOT NULL, mx TEXT NOT NULL, text TEXT NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX policy_used ON policy (used);"
	"CREATE TABLE result (day INTEGER NOT NULL, domain TEXT NOT NULL, policy_type INTEGER NOT NULL, policy_text TEXT NOT NULL,"
	" result INTEGER NOT NULL, mx TEXT NOT NULL, address TEXT NOT NULL, local TEXT NOT NULL, reason TEXT NOT NULL, n INTEGER NOT NULL,"
	" PRIMARY KEY (day, domain, policy_type, policy_text, result, mx, address, local, reason)) WITHOUT ROWID;"
	"CREATE TABLE report (id INTEGER PRIMARY KEY, day INTEGER NOT NULL, domain TEXT NOT NULL, uri TEXT NOT NULL, name TEXT NOT NULL,"
	" body BLOB NOT NULL, attempts INTEGER NOT NULL, due INTEGER NOT NULL, made INTEGER NOT NULL);"
	"CREATE INDEX report_due ON report (due);"
	"PRAGMA user_version = 1;";

static const char *const sql[STORE_STATEMENTS] = {
#define STATEMENT(name, text) [STORE_##name] = text,
#include "policy/store.def"
};

/* ---- statements ---- */

sqlite3_stmt *store_bind(struct store *s, enum store_statement which, const char *kinds, ...)
{
	sqlite3_stmt *st = s->statement[which];
	struct view v;
	va_list ap;

	va_start(ap, kinds);
	for (int i = 1; *kinds; i++)
		if (*kinds++ == 'i')
			sqlite3_bind_int64(st, i, va_arg(ap, int64_t));
		else {
			v = va_arg(ap, struct view);
			sqlite3_bind_text(st, i, v.n ? v.p : "", (int)v.n, SQLITE_TRANSIENT);
		}
	va_end(ap);
	return st;
}

bool store_done(sqlite3_stmt *st)
{
	bool ok = sqlite3_reset(st) == SQLITE_OK;

	sqlite3_clear_bindings(st);
	return ok;
}

bool store_run(struct store *s, sqlite3_stmt *st)
{
	bool ok = sqlite3_step(st) == SQLITE_DONE;

	(void)s;
	return store_done(st) && ok;
}

struct view store_text(sqlite3_stmt *st, int column)
{
	const char *p = (const char *)sqlite3_column_text(st, column);

	return view_of(p ? p : "", p ? (size_t)sqlite3_column_bytes(st, column) : 0);
}

/* ---- the file ---- */

static int format_of(sqlite3 *db)
{
	sqlite3_stmt *st;
	int format = -1;

	if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &st, NULL) != SQLITE_OK)
		return -1;
	if (sqlite3_step(st) == SQLITE_ROW)
		format = sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	return format;
}

static void close_db(struct store *s)
{
	for (int i = 1; i < STORE_STATEMENTS; i++) {
		sqlite3_finalize(s->statement[i]);
		s->statement[i] = NULL;
	}
	sqlite3_close(s->db);
	s->db = NULL;
}

/* SQLITE_OK, or why not; SQLITE_NOTADB for whatever is no database of ours. */
static int open_db(struct store *s, const char *path)
{
	int rc = sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL), format;

	if (rc != SQLITE_OK)
		return rc;
	sqlite3_busy_timeout(s->db, STORE_BUSY_MS);
	rc = sqlite3_exec(s->db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;", NULL,
	                  NULL, NULL);
	if (rc != SQLITE_OK)
		return rc;
	format = format_of(s->db);
	if (format == 0)
		rc = sqlite3_exec(s->db, schema, NULL, NULL, NULL);
	else if (format != STORE_FORMAT)
		return SQLITE_NOTADB;
	for (int i = 1; i < STORE_STATEMENTS && rc == SQLITE_OK; i++)
		rc = sqlite3_prepare_v3(s->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &s->statement[i], NULL);
	return rc == SQLITE_ERROR ? SQLITE_NOTADB : rc; /* a table or column is missing */
}

static void throw_away(const char *path)
{
	static const char *const tails[] = { "", "-wal", "-shm" };
	char name[4200];

	for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
		snprintf(name, sizeof name, "%s%s", path, tails[i]);
		unlink(name);
	}
}

int store_open(struct store **out, const char *folder, bool *anew, struct error *e)
{
	struct store *s = calloc(1, sizeof *s);
	char path[4100];
	int rc;

	*anew = false;
	if (!s)
		return error_set(e, ERROR_AGAIN, "no memory");
	if (folder)
		mkdir(folder, 0700); /* where super did not (--single); what fails is seen when the file is opened */
	snprintf(path, sizeof path, "%s%s", folder ? folder : "", folder ? "/policy.db" : ":memory:");
	rc = open_db(s, path);
	if (rc == SQLITE_NOTADB || rc == SQLITE_CORRUPT) {
		close_db(s);
		throw_away(path);
		*anew = true;
		rc = open_db(s, path);
	}
	if (rc != SQLITE_OK) {
		error_set(e, ERROR_AGAIN, "%s: %s", path, sqlite3_errstr(rc));
		close_db(s);
		free(s);
		return -1;
	}
	*out = s;
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	close_db(s);
	free(s);
}

/* ---- policies ---- */

void store_policy_init(struct store_policy *p)
{
	*p = (struct store_policy){ 0 };
	buf_init(&p->mx, &alloc_libc, STS_POLICY_MAX);
	buf_init(&p->text, &alloc_libc, STS_POLICY_MAX);
}

void store_policy_free(struct store_policy *p)
{
	buf_free(&p->mx);
	buf_free(&p->text);
}

bool store_policy_get(struct store *s, struct view domain, struct store_policy *p)
{
	sqlite3_stmt *st = store_bind(s, STORE_POLICY_GET, "v", domain);
	struct view id;
	bool ok = sqlite3_step(st) == SQLITE_ROW;

	buf_clear(&p->mx);
	buf_clear(&p->text);
	p->id[0] = 0;
	if (ok) {
		id = store_text(st, 0);
		snprintf(p->id, sizeof p->id, "%.*s", VIEW_ARGS(id));
		p->mode = (enum sts_mode)sqlite3_column_int(st, 1);
		p->max_age = (uint32_t)sqlite3_column_int64(st, 2);
		p->fetched = sqlite3_column_int64(st, 3);
		p->used = sqlite3_column_int64(st, 4);
		ok = p->mode >= STS_NONE && p->mode <= STS_ENFORCE && buf_add(&p->mx, store_text(st, 5)) && buf_add(&p->text, store_text(st, 6));
	}
	store_done(st);
	return ok;
}

bool store_policy_put(struct store *s, struct view domain, const struct store_policy *p)
{
	return store_run(s, store_bind(s, STORE_POLICY_PUT, "vviiiivv", domain, view_cstr(p->id), (int64_t)p->mode, (int64_t)p->max_age, p->fetched, p->used,
	                               buf_view(&p->mx), buf_view(&p->text)));
}

bool store_policy_used(struct store *s, struct view domain, int64_t now)
{
	return store_run(s, store_bind(s, STORE_POLICY_USED, "vi", domain, now));
}

void store_policy_due(struct store *s, int64_t now, int64_t fetched, int64_t used, unsigned most, void (*each)(void *arg, const char *domain), void *arg)
{
	sqlite3_stmt *st = store_bind(s, STORE_POLICY_DUE, "iiii", now, fetched, used, (int64_t)most);

	while (sqlite3_step(st) == SQLITE_ROW)
		each(arg, (const char *)sqlite3_column_text(st, 0));
	store_done(st);
}

void store_policy_sweep(struct store *s, int64_t now)
{
	store_run(s, store_bind(s, STORE_POLICY_OVER, "i", now));
	store_run(s, store_bind(s, STORE_POLICY_MANY, "i", (int64_t)STORE_POLICIES_MAX));
}
