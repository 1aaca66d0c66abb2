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

#endif
