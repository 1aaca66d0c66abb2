/* plan.c - see plan.h. */
#include "route/plan.h"

#include <stdlib.h>

/* One more octet at the end of a name: an absolute name's dot is no part of it. */
static struct view without_dot(struct view name)
{
	if (name.n && name.p[name.n - 1] == '.')
		name.n--;
	return name;
}

static bool set_host(struct route_host *h, struct view name, uint16_t preference)
{
	if (name.n == 0 || name.n >= sizeof h->name)
		return false;
	memcpy(h->name, name.p, name.n);
	h->name[name.n] = 0;
	h->preference = preference;
	return true;
}

static int by_preference(const void *a, const void *b)
{
	const struct route_mx *x = a, *y = b;

	return x->preference < y->preference ? -1 : x->preference > y->preference;
}

/* Fisher and Yates over each run of equal preference: load is shared among equal hosts (RFC 5321 5.1). */
static void shuffle(struct route_mx *r, size_t n, const struct env *env)
{
	for (size_t from = 0, to; from < n; from = to) {
		for (to = from + 1; to < n && r[to].preference == r[from].preference;)
			to++;
		for (size_t i = to - from; i > 1; i--) {
			size_t j = (size_t)env_random_below(env, i);
			struct route_mx t = r[from + i - 1];
			r[from + i - 1] = r[from + j];
			r[from + j] = t;
		}
	}
}

enum route_plan_result route_plan_mx(const struct route_mx *records, size_t n, struct view domain, struct view hostname,
                                     const struct env *env, struct route_host hosts[ROUTE_HOSTS_MAX], size_t *count)
{
	struct route_mx sorted[128];
	uint16_t ours = UINT16_MAX;
	bool among = false;

	*count = 0;
	if (n > sizeof sorted / sizeof *sorted)
		n = sizeof sorted / sizeof *sorted;
	if (n == 0) {
		if (view_eq_nocase(without_dot(domain), hostname))
			return ROUTE_PLAN_LOOP;
		*count = set_host(&hosts[0], without_dot(domain), 0);
		return ROUTE_PLAN_IMPLICIT;
	}
	if (n == 1 && without_dot(records[0].name).n == 0)
		return ROUTE_PLAN_NULL_MX;
	memcpy(sorted, records, n * sizeof *sorted);
	qsort(sorted, n, sizeof *sorted, by_preference);
	shuffle(sorted, n, env);
	for (size_t i = 0; i < n; i++)
		if (view_eq_nocase(without_dot(sorted[i].name), hostname) && (!among || sorted[i].preference < ours)) {
			ours = sorted[i].preference;
			among = true;
		}
	for (size_t i = 0; i < n && *count < ROUTE_HOSTS_MAX; i++) {
		if (among && sorted[i].preference >= ours)
			break;
		*count += set_host(&hosts[*count], without_dot(sorted[i].name), sorted[i].preference);
	}
	if (*count == 0)
		return among ? ROUTE_PLAN_LOOP : ROUTE_PLAN_NULL_MX; /* "." beside other preferences names no host either */
	return ROUTE_PLAN_HOSTS;
}
