/* store_inside.h - what store.c and store_report.c share: the statements, and how they are run. */
#ifndef POLICY_STORE_INSIDE_H
#define POLICY_STORE_INSIDE_H
#include "policy/store.h"

#include <sqlite3.h>

enum store_statement {
	STORE_NONE = 0, /* never legal */
#define STATEMENT(name, text) STORE_##name,
#include "policy/store.def"
	STORE_STATEMENTS
};

struct store {
	sqlite3 *db;
	bool full; /* of results */
	sqlite3_stmt *statement[STORE_STATEMENTS];
};

/* Binds by kind (i: int64_t, v: struct view) and returns the statement, to be stepped and given to store_done. */
sqlite3_stmt *store_bind(struct store *, enum store_statement, const char *kinds, ...);
bool store_done(sqlite3_stmt *);                 /* reset; for use behind the last step */
bool store_run(struct store *, sqlite3_stmt *);  /* steps once and resets; true when it went through */
struct view store_text(sqlite3_stmt *, int column);

#endif
