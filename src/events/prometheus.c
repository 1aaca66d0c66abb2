/* prometheus.c - the counters of all processes as Prometheus text (exposition format 0.0.4).
 *
 * Use       hand in the counters (EVENT_END + 1 each, shared memory of other processes is fine) with their role names.
 *           Processes of one role (workers, generations) are summed: a series may occur only once.
 * Failure   false when the buffer is full; its content is then incomplete and should be thrown away.
 */
#include "base/buf.h"
#include "events/events.h"

static uint64_t sum(const uint64_t *const counters[], const char *const roles[], size_t n, size_t first, size_t index)
{
	uint64_t total = 0;
	for (size_t i = first; i < n; i++)
		if (counters[i] && strcmp(roles[i], roles[first]) == 0)
			total += __atomic_load_n(&counters[i][index], __ATOMIC_RELAXED);
	return total;
}

/* The first process of its role speaks for all of them. */
static bool first_of_role(const char *const roles[], size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (strcmp(roles[k], roles[i]) == 0)
			return false;
	return true;
}

bool events_prometheus(const uint64_t *const counters[], const char *const roles[], size_t n, struct buf *to)
{
	bool ok = buf_add(
		to, VIEW("# HELP postrider_events_total Log events, counted whether or not their line was written\n"
	                 "# TYPE postrider_events_total counter\n"));
	for (size_t e = EVENT_NONE + 1; e < EVENT_END; e++)
		for (size_t i = 0; i < n; i++) {
			const uint64_t total = first_of_role(roles, i) ? sum(counters, roles, n, i, e) : 0;
			/* a series begins with its first event: most pairs of event and role can never be */
			if (total)
				ok = ok && buf_addf(to, "postrider_events_total{event=\"%s\",role=\"%s\"} %llu\n",
				                    event_name((enum event)e), roles[i], (unsigned long long)total);
		}
	ok = ok &&
	     buf_add(to, VIEW("# HELP postrider_log_lines_dropped_total Lines lost because the log's reader was slow\n"
	                      "# TYPE postrider_log_lines_dropped_total counter\n"));
	for (size_t i = 0; i < n; i++)
		if (first_of_role(roles, i))
			ok = ok && buf_addf(to, "postrider_log_lines_dropped_total{role=\"%s\"} %llu\n", roles[i],
			                    (unsigned long long)sum(counters, roles, n, i, EVENT_END));
	return ok;
}
