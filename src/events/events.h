/* events.h - log events and metrics, from one table: spec/events.def.
 *
 * An event is one logfmt line: time, event=NAME, then key=value pairs; and one count of its metric.  Rows are declared
 * in the table with their keys; an undeclared key fails an assertion in tests.  Lines leave by an inherited descriptor
 * that is never waited for: when it is full the line is dropped and counted (event=dropped n=... follows later).
 * Values are escaped (quotes, control octets, 8-bit as \xNN), so that a peer can never forge a line.
 * Threads: an emitter may be used from any thread; a line leaves whole, alone or with others of its turn (events_gather).
 */
#ifndef EVENTS_EVENTS_H
#define EVENTS_EVENTS_H
#include "base/env.h"
#include "base/view.h"

#include <stdbool.h>

enum event {
	EVENT_NONE = 0, /* never emitted */
#define EVENT(id, name, level, keys, help) EVENT_##id,
#include "spec/events.def"
	EVENT_END
};

enum event_level { EVENT_DEBUG = 1, EVENT_INFO, EVENT_WARN, EVENT_ERROR };

enum event_field_type { EVENT_FIELD_VIEW = 1, EVENT_FIELD_U64, EVENT_FIELD_I64, EVENT_FIELD_ID };
struct event_field {
	const char *key;
	enum event_field_type type;
	struct view text;
	uint64_t number;
};
#define F_VIEW(k, v) ((struct event_field){ (k), EVENT_FIELD_VIEW, (v), 0 })
#define F_STR(k, s) ((struct event_field){ (k), EVENT_FIELD_VIEW, view_cstr(s), 0 })
#define F_U64(k, n) ((struct event_field){ (k), EVENT_FIELD_U64, { 0, 0 }, (uint64_t)(n) })
#define F_I64(k, n) ((struct event_field){ (k), EVENT_FIELD_I64, { 0, 0 }, (uint64_t)(int64_t)(n) })
#define F_ID(k, n) ((struct event_field){ (k), EVENT_FIELD_ID, { 0, 0 }, (uint64_t)(n) }) /* 16 hex digits: message ids */

struct events; /* an emitter */

/* role: printed as role=... (borrowed); fd: where lines go (borrowed; -1: nowhere, only counted); counters:
 * EVENT_COUNTERS counters of this process in shared memory (borrowed; NULL: private): one per event, and the last one
 * counts lines that were dropped.  They only grow and are updated atomically.  NULL when memory is out.
 * fd should be O_NONBLOCK (or a socket); else each line is preceded by poll, which only our own threads cannot race. */
#define EVENT_COUNTERS (EVENT_END + 1)
struct events *events_new(const struct env *, const char *role, int fd, enum event_level least, uint64_t *counters);
void events_free(struct events *);
/* From here on lines below a warning wait for events_flush, so that a turn of a loop is one write and not one a line; up to
 * 4,096 octets wait (what a pipe keeps whole).  Whoever calls it must flush before it sleeps: loop_log does (net/loop.h). */
void events_gather(struct events *);
void events_flush(struct events *); /* from any thread; cheap when nothing waits */
/* Counts, and writes the line if its level is at least that of events_new.  errno stays.  ev NULL: only checks the
 * keys.  checked: of the place in the code; false until its keys were looked up. */
void events_emit(struct events *, enum event, bool *checked, const struct event_field *, size_t n);
#define EMIT(ev, id, ...)                                                                                              \
	do {                                                                                                           \
		static bool emit_checked_;                                                                             \
		const struct event_field emit_fields_[] = { __VA_ARGS__ };                                             \
		events_emit((ev), EVENT_##id, &emit_checked_, emit_fields_, sizeof emit_fields_ / sizeof emit_fields_[0]); \
	} while (0)

const char *event_name(enum event);
const char *event_help(enum event);
enum event_level event_level_of(enum event);
const char *event_level_name(enum event_level);
/* Counters of n processes with their roles' names as Prometheus text; processes of one role are summed.
 * False when `to` is full. */
struct buf;
bool events_prometheus(const uint64_t *const counters[], const char *const roles[], size_t n, struct buf *to);
/* The name of an id as the log, the queue tool and `Received: ... id` show it: 16 lower-case hex digits. */
#define EVENT_ID_SIZE 17
const char *event_id_text(uint64_t id, char to[EVENT_ID_SIZE]);

#endif
