/* store_report.c - the part of store.h that TLS-RPT uses. */
#include "policy/store_inside.h"

#include <stdio.h>

static uint64_t count_of(sqlite3_stmt *st)
{
	uint64_t n = sqlite3_step(st) == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(st, 0) : 0;

	store_done(st);
	return n;
}

bool store_result_add(struct store *s, int64_t day, struct view domain, const struct store_result *r)
{
	struct view none = { 0 };
	bool many;

	if (s->full)
		return false;
	many = count_of(store_bind(s, STORE_RESULT_ROWS, "ivi", day, domain, (int64_t)STORE_DETAILS_MAX)) >= STORE_DETAILS_MAX;

	return store_run(s, store_bind(s, STORE_RESULT_ADD, "ivivivvvvi", day, domain, (int64_t)r->policy_type, r->policy_text, (int64_t)r->result,
	                               many ? none : r->mx, many ? none : r->address, many ? none : r->local, many ? none : r->reason, (int64_t)r->n));
}

bool store_result_next(struct store *s, int64_t today, int64_t *day, char domain[256])
{
	sqlite3_stmt *st = store_bind(s, STORE_RESULT_NEXT, "iiv", today, *day, view_cstr(domain));
	bool found = sqlite3_step(st) == SQLITE_ROW;

	if (found) {
		struct view name = store_text(st, 1);
		*day = sqlite3_column_int64(st, 0);
		snprintf(domain, 256, "%.*s", VIEW_ARGS(name));
	}
	store_done(st);
	return found;
}

void store_result_each(struct store *s, int64_t day, const char *domain, void (*each)(void *arg, const struct store_result *), void *arg)
{
	sqlite3_stmt *st = store_bind(s, STORE_RESULT_OF, "iv", day, view_cstr(domain));

	while (sqlite3_step(st) == SQLITE_ROW) {
		struct store_result r = { .policy_type = (uint8_t)sqlite3_column_int(st, 0), .policy_text = store_text(st, 1),
			.result = (uint8_t)sqlite3_column_int(st, 2), .mx = store_text(st, 3), .address = store_text(st, 4), .local = store_text(st, 5),
			.reason = store_text(st, 6), .n = (uint64_t)sqlite3_column_int64(st, 7) };
		each(arg, &r);
	}
	store_done(st);
}

bool store_result_drop(struct store *s, int64_t day, const char *domain)
{
	return store_run(s, store_bind(s, STORE_RESULT_DROP, "iv", day, view_cstr(domain)));
}

void store_result_forget(struct store *s, int64_t before)
{
	store_run(s, store_bind(s, STORE_RESULT_OLD, "i", before));
	s->full = count_of(store_bind(s, STORE_RESULT_ALL, "i", (int64_t)STORE_RESULTS_MAX)) >= STORE_RESULTS_MAX;
}

bool store_report_put(struct store *s, const struct store_report *r, int64_t due)
{
	sqlite3_stmt *st = s->statement[STORE_REPORT_PUT];

	store_bind(s, STORE_REPORT_PUT, "ivvv", r->day, view_cstr(r->domain), view_cstr(r->uri), view_cstr(r->name));
	sqlite3_bind_blob(st, 5, buf_view(&r->body).p, (int)buf_len(&r->body), SQLITE_TRANSIENT);
	sqlite3_bind_int64(st, 6, due);
	sqlite3_bind_int64(st, 7, r->made);
	return store_run(s, st);
}

bool store_report_due(struct store *s, int64_t now, struct store_report *r)
{
	sqlite3_stmt *st = store_bind(s, STORE_REPORT_DUE, "i", now);
	bool found = sqlite3_step(st) == SQLITE_ROW;

	if (found) {
		struct view domain = store_text(st, 2), uri = store_text(st, 3), name = store_text(st, 4);
		r->id = sqlite3_column_int64(st, 0);
		r->day = sqlite3_column_int64(st, 1);
		snprintf(r->domain, sizeof r->domain, "%.*s", VIEW_ARGS(domain));
		snprintf(r->uri, sizeof r->uri, "%.*s", VIEW_ARGS(uri));
		snprintf(r->name, sizeof r->name, "%.*s", VIEW_ARGS(name));
		buf_clear(&r->body);
		found = buf_add(&r->body, view_of(sqlite3_column_blob(st, 5), (size_t)sqlite3_column_bytes(st, 5)));
		r->attempts = (unsigned)sqlite3_column_int(st, 6);
		r->made = sqlite3_column_int64(st, 7);
	}
	store_done(st);
	return found;
}

bool store_report_later(struct store *s, int64_t id, int64_t due)
{
	return store_run(s, store_bind(s, STORE_REPORT_LATER, "ii", id, due));
}

bool store_report_at(struct store *s, int64_t id, int64_t due)
{
	return store_run(s, store_bind(s, STORE_REPORT_AT, "ii", id, due));
}

bool store_report_haste(struct store *s, int64_t now)
{
	return store_run(s, store_bind(s, STORE_REPORT_HASTE, "i", now));
}

uint64_t store_report_count(struct store *s)
{
	return count_of(s->statement[STORE_REPORT_ALL]);
}

uint64_t store_result_days(struct store *s, int64_t today)
{
	return count_of(store_bind(s, STORE_RESULT_DAYS, "i", today));
}

bool store_report_drop(struct store *s, int64_t id)
{
	return store_run(s, store_bind(s, STORE_REPORT_DROP, "i", id));
}

bool store_begin(struct store *s)
{
	return sqlite3_exec(s->db, "BEGIN", NULL, NULL, NULL) == SQLITE_OK;
}

bool store_end(struct store *s)
{
	if (sqlite3_exec(s->db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK)
		return true;
	sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL); /* a full disk: these are lost, the next ones may go */
	return false;
}
