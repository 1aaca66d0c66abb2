/* server_table.c - spec/server.def and its sisters as constant data; see server_table.h.
 *
 * The words of the tables' `phase`, `if` and `unless` columns are bits; all other columns are pasted to a prefix, so
 * that a word that does not exist stops the compiler.
 */
#include "smtp/server_table.h"

#include <string.h>

enum phase_bits {
#define PHASE(id, deadline, note) id = 1 << PHASE_##id,
#include "spec/server.def"
};

enum phase_sets {
#define SET(id, phases, note) id = (phases),
#include "spec/server.def"
};

enum fact_bits {
#define FACT(id, life, note) id = SERVER_FACT(id),
#include "spec/server.def"
};

const struct server_row server_rows[] = {
#define ROW(event_, phase_, want_, lack_, reply_, does_, next_, ends_, rfc_)                                           \
	{ .event = EVENT_##event_, .phases = (phase_), .want = (want_), .lack = (lack_), .reply = REPLY_##reply_,      \
	  .does = DO_##does_, .next = PHASE_##next_, .ends = LIFE_##ends_, .rfc = rfc_ },
#define OFFER(word) { .offers = word },
#define NOTE(text) { .note = text },
#include "spec/server.def"
};
const size_t server_row_count = sizeof server_rows / sizeof server_rows[0];

/* The rows' events alone: a row is looked for at every command, and a scan over octets is quick. */
static const uint8_t row_events[] = {
#define ROW(event_, ...) EVENT_##event_,
#define OFFER(word) 0,
#define NOTE(text) 0,
#include "spec/server.def"
};
_Static_assert(EVENT_END_ < 256, "events are octets here");

const struct server_reply_text server_replies[REPLY_END_] = {
#define REPLY(id_, reason_, code_, class_, subject_, detail_, text_)                                                   \
	[REPLY_##id_] = { .id = #id_, .reason = reason_, .code = code_, .enhanced = { class_, subject_, detail_ },     \
			  .text = text_ },
#include "spec/replies.def"
};

const struct server_phase_info server_phases[PHASE_END_] = {
#define PHASE(id, deadline_, note_) [PHASE_##id] = { .name = #id, .note = note_, .deadline = DEADLINE_##deadline_ },
#include "spec/server.def"
};

const struct server_event_info server_events[EVENT_END_] = {
#define EVENT(id, phases_, note_) [EVENT_##id] = { .name = #id, .note = note_, .phases = (phases_) },
#include "spec/server.def"
};

const struct server_fact_info server_facts_info[FACT_COUNT_] = {
#define FACT(id, life_, note_) [FACT_INDEX_##id] = { .name = #id, .note = note_, .life = FACT_##life_ },
#include "spec/server.def"
};

#define PSMTP_SERVER_NOTHING 0
const struct server_action_info server_actions[DO_END_] = {
#define ACTION(id, asks_, note_) [DO_##id] = { .name = #id, .note = note_, .asks = PSMTP_SERVER_##asks_ },
#include "spec/server.def"
};

const struct server_life_info server_lives[LIFE_END_] = {
#define LIFETIME(id, type_, ended_, holds_)                                                                            \
	[LIFE_##id] = { .name = #id, .type = type_, .ended = ended_, .holds = holds_ },
#include "spec/lifetimes.def"
};

/* What stands still while a hello lasts, and the hello itself. */
static const uint64_t standing = SERVER_FACT(HELLO) | SERVER_FACT(EHLO)
#define FACT(id, life, note) | (FACT_##life == FACT_POLICY || FACT_##life == FACT_EPOCH ? SERVER_FACT(id) : 0)
#include "spec/server.def"
	;

/* The first row of the event from at on, or NULL; *at is then behind it. */
static const struct server_row *row_of(enum server_event event, const uint8_t **at)
{
	const uint8_t *found = memchr(*at, (int)event, (size_t)(row_events + sizeof row_events - *at));

	if (!found)
		return NULL;
	*at = found + 1;
	return &server_rows[found - row_events];
}

const struct server_row *server_row_find(enum server_event event, enum server_phase phase, uint64_t facts)
{
	const uint8_t *at = row_events;
	const struct server_row *row;

	while ((row = row_of(event, &at)))
		if (row->phases & 1u << phase && (facts & row->want) == row->want && !(facts & row->lack))
			return row;
	return NULL;
}

/* Among the facts that stand still: does the row's guard hold? */
static bool standing_holds(const struct server_row *row, uint64_t facts)
{
	return (facts & row->want & standing) == (row->want & standing) && !(facts & row->lack & standing);
}

bool server_row_possible(const struct server_row *row, uint64_t facts)
{
	const uint8_t *at = row_events;
	const struct server_row *r;

	facts |= SERVER_FACT(HELLO) | SERVER_FACT(EHLO);
	if (!standing_holds(row, facts))
		return false;
	/* A row above that asks nothing but standing facts, all of which hold, always wins: this one never matches. */
	while ((r = row_of(row->event, &at)) && r != row)
		if ((r->phases & row->phases) == row->phases && !((r->want | r->lack) & ~standing) && standing_holds(r, facts))
			return false;
	return true;
}
