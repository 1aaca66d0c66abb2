/* client_table.h - the client's machine as C sees it: spec/client.def, compiled as it stands.
 *
 * Everything here is constant data and pure lookups; the state is in client_state.h, the driver in client_step.c.  The
 * tests of the table's laws and gen/ read the same rows, so that what is tested, drawn and run cannot differ.
 * Ownership: all static.  Failure: client_row_find returns NULL for a hole; the tests prove that there is none.
 */
#ifndef SMTP_CLIENT_TABLE_H
#define SMTP_CLIENT_TABLE_H
#include <stddef.h>
#include <stdint.h>

/* Zero is never a legal phase, event, action or lifetime. */
enum client_phase {
	CLIENT_IN_NONE_ = 0,
#define CLIENT_PHASE(id, deadline, note) CLIENT_IN_##id,
#include "spec/client.def"
	CLIENT_IN_END_
};

enum client_event {
	CLIENT_ON_NONE_ = 0,
#define CLIENT_EVENT(id, kind, phases, note) CLIENT_ON_##id,
#include "spec/client.def"
	CLIENT_ON_END_
};

enum client_action {
	CLIENT_DO_NONE_ = 0,
#define CLIENT_ACTION(id, note) CLIENT_DO_##id,
#include "spec/client.def"
	CLIENT_DO_END_
};

/* Outermost first: ending one ends all with a larger number. */
enum client_life {
	CLIENT_LIFE_NONE = 0, /* the row ends nothing */
#define CLIENT_LIFE(id, name, ended, holds) CLIENT_LIFE_##id,
#include "spec/client.def"
	CLIENT_LIFE_END_
};

/* PASS: the phase is left at once by GO. */
enum client_clock {
	CLIENT_CLOCK_NEVER = 1,
	CLIENT_CLOCK_PASS,
	CLIENT_CLOCK_GREETING,
	CLIENT_CLOCK_COMMAND,
	CLIENT_CLOCK_DATA_START,
	CLIENT_CLOCK_BLOCK,
	CLIENT_CLOCK_DATA_END,
	CLIENT_CLOCK_HANDSHAKE,
	CLIENT_CLOCK_QUIT
};

enum client_fact_index {
#define CLIENT_FACT(id, life, note) CLIENT_FACT_INDEX_##id,
#include "spec/client.def"
	CLIENT_FACT_COUNT_
};
#define CLIENT_IF(id) (UINT64_C(1) << CLIENT_FACT_INDEX_##id)
_Static_assert(CLIENT_FACT_COUNT_ <= 64 && CLIENT_IN_END_ <= 32 && CLIENT_ON_END_ <= 32, "rows hold them as bits");

struct client_row {
	uint32_t events; /* bits: 1 << CLIENT_ON_x; 0: a remark on the next row */
	uint32_t phases; /* bits: 1 << CLIENT_IN_x */
	uint64_t want, lack;
	enum client_action does;
	enum client_phase next;
	enum client_life ends; /* before the action */
	const char *reason, *rfc, *note;
};

struct client_phase_info {
	const char *name, *note;
	enum client_clock clock;
};
struct client_event_info {
	const char *name, *note;
	uint32_t kinds;  /* itself, and the class that it belongs to, as bits */
	uint32_t phases; /* where it can happen */
};
struct client_fact_info {
	const char *name, *note;
	enum client_life life;
};
struct client_action_info {
	const char *name, *note;
};
struct client_life_info {
	const char *name, *type, *ended, *holds;
};

extern const struct client_row client_rows[];
extern const size_t client_row_count;
extern const struct client_phase_info client_phases[CLIENT_IN_END_];
extern const struct client_event_info client_events[CLIENT_ON_END_];
extern const struct client_fact_info client_facts_info[CLIENT_FACT_COUNT_];
extern const struct client_action_info client_actions[CLIENT_DO_END_];
extern const struct client_life_info client_lives[CLIENT_LIFE_END_];

/* The first of n rows that matches, or NULL.  The rows are an argument so that a test can judge a spoilt table. */
const struct client_row *client_row_find(const struct client_row *rows, size_t n, enum client_event, enum client_phase,
	uint64_t facts);

#endif
