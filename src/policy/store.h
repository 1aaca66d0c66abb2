/* store.h - what `policy` keeps on disk: one SQLite file in its own folder, and nobody else's.
 *
 * Policies with when they were fetched and used; TLS results by day; reports on their way.  All of it can be had again or done
 * without, so commits are not synced one by one, and a file that is damaged is thrown away and begun anew (the caller logs that).
 * A failed call says so and changes nothing; the role then goes on with what it has in memory.
 * Times are seconds since the epoch.  Threads: one.
 */
#ifndef POLICY_STORE_H
#define POLICY_STORE_H
#include "base/buf.h"
#include "base/error.h"
#include "route/sts.h"

#define STORE_POLICIES_MAX 200000 /* cached policies; beyond it those used longest ago go.  Some 300 octets each */
#define STORE_BUSY_MS 1000        /* only an operator's own sqlite3 shell can be in the way */

struct store;

struct store_policy {
	char id[STS_ID_MAX + 1];
	enum sts_mode mode;
	uint32_t max_age;
	int64_t fetched, used;
	struct buf mx, text; /* patterns, one a line; the file as it was */
};

/* folder NULL: in memory.  *anew: what was there was damaged. */
int store_open(struct store **, const char *folder, bool *anew, struct error *);
void store_close(struct store *);

void store_policy_init(struct store_policy *);
void store_policy_free(struct store_policy *);
bool store_policy_get(struct store *, struct view domain, struct store_policy *); /* false: none, and *p is empty */
bool store_policy_put(struct store *, struct view domain, const struct store_policy *);
bool store_policy_used(struct store *, struct view domain, int64_t now);
/* Domains fetched before `fetched` or past half of their life, and used after `used`; those fetched longest ago first. */
void store_policy_due(struct store *, int64_t now, int64_t fetched, int64_t used, unsigned most, void (*each)(void *arg, const char *domain), void *arg);
/* Lets go of what is over, and of what is too many. */
void store_policy_sweep(struct store *, int64_t now);

/* ---- TLS-RPT ---- */

#define STORE_DETAILS_MAX 500     /* different results kept for one domain and day: 8 MX with 60 reasons.  Behind them only the kind is kept */
#define STORE_RESULTS_MAX 500000  /* rows of all domains; beyond it new ones are not counted.  Some 200 octets each */

struct store_result {
	uint8_t policy_type, result; /* enum wire_rpt_policy, wire_rpt_result */
	struct view policy_text, mx, address, local, reason;
	uint64_t n;
};

struct store_report {
	int64_t id, day, made;
	unsigned attempts;
	char domain[256], uri[2048], name[600];
	struct buf body; /* gzipped */
};

/* day: since the epoch. */
bool store_result_add(struct store *, int64_t day, struct view domain, const struct store_result *);
/* The next day and domain behind these (domain "" and day 0: the first) whose day is over. */
bool store_result_next(struct store *, int64_t today, int64_t *day, char domain[256]);
void store_result_each(struct store *, int64_t day, const char *domain, void (*each)(void *arg, const struct store_result *), void *arg);
bool store_result_drop(struct store *, int64_t day, const char *domain);
void store_result_forget(struct store *, int64_t before); /* days */

bool store_report_put(struct store *, const struct store_report *, int64_t due);
bool store_report_due(struct store *, int64_t now, struct store_report *); /* body: of the caller, initialised */
bool store_report_later(struct store *, int64_t id, int64_t due);
bool store_report_drop(struct store *, int64_t id);
bool store_report_at(struct store *, int64_t id, int64_t due); /* as later, but it was no try */
bool store_report_haste(struct store *, int64_t now);          /* all are due */
/* How many wait: reports; days of domains before today, of which none is made yet. */
uint64_t store_report_count(struct store *);
uint64_t store_result_days(struct store *, int64_t today);

/* Results come in thousands: they are written together.  Nothing else may be asked between begin and end. */
bool store_begin(struct store *);
bool store_end(struct store *);

#endif
