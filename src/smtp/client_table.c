/* client_table.c - spec/client.def as constant data; see client_table.h.
 *
 * The words of the table's columns event, phase, `if` and `unless` are bits; those of the other columns are pasted to a
 * prefix: a word that does not exist stops the compiler.
 */
#include "smtp/client_table.h"

enum phase_bits {
#define CLIENT_PHASE(id, deadline, note) id = 1 << CLIENT_IN_##id,
#include "spec/client.def"
};

enum phase_sets {
#define CLIENT_SET(id, phases, note) id = (phases),
#include "spec/client.def"
};

enum event_bits {
#define CLIENT_EVENT(id, kind, phases, note) id = 1 << CLIENT_ON_##id,
#include "spec/client.def"
};

enum event_sets {
#define CLIENT_EVENTS(id, events, note) id = (events),
#include "spec/client.def"
};

enum fact_bits {
#define CLIENT_FACT(id, life, note) id = CLIENT_IF(id),
#include "spec/client.def"
};

const struct client_row client_rows[] = {
#define CLIENT_ROW(event_, phase_, want_, lack_, does_, next_, ends_, reason_, rfc_)                                   \
	{ .events = (event_), .phases = (phase_), .want = (want_), .lack = (lack_), .does = CLIENT_DO_##does_,         \
	  .next = CLIENT_IN_##next_, .ends = CLIENT_LIFE_##ends_, .reason = reason_, .rfc = rfc_ },
#define CLIENT_NOTE(text) { .note = text },
#include "spec/client.def"
};
const size_t client_row_count = sizeof client_rows / sizeof client_rows[0];

const struct client_phase_info client_phases[CLIENT_IN_END_] = {
#define CLIENT_PHASE(id, deadline, note_) [CLIENT_IN_##id] = { #id, note_, CLIENT_CLOCK_##deadline },
#include "spec/client.def"
};

const struct client_event_info client_events[CLIENT_ON_END_] = {
#define CLIENT_EVENT(id, kind, phases, note_) [CLIENT_ON_##id] = { #id, note_, id | (kind), phases },
#include "spec/client.def"
};

const struct client_fact_info client_facts_info[CLIENT_FACT_COUNT_] = {
#define CLIENT_FACT(id, life_, note_) [CLIENT_FACT_INDEX_##id] = { #id, note_, CLIENT_LIFE_##life_ },
#include "spec/client.def"
};

const struct client_action_info client_actions[CLIENT_DO_END_] = {
#define CLIENT_ACTION(id, note_) [CLIENT_DO_##id] = { #id, note_ },
#include "spec/client.def"
};

const struct client_life_info client_lives[CLIENT_LIFE_END_] = {
#define CLIENT_LIFE(id, type_, ended_, holds_) [CLIENT_LIFE_##id] = { #id, type_, ended_, holds_ },
#include "spec/client.def"
};

const struct client_row *client_row_find(const struct client_row *rows, size_t n, enum client_event event,
	enum client_phase phase, uint64_t facts)
{
	for (size_t i = 0; i < n; i++) {
		const struct client_row *r = &rows[i];

		if (r->events & client_events[event].kinds && r->phases & 1u << phase && (facts & r->want) == r->want &&
			!(facts & r->lack))
			return r;
	}
	return NULL;
}
