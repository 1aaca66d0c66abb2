/* server_table.h - the server's machine as C sees it: spec/server.def, compiled as it stands.
 *
 * Everything here is constant data and pure lookups; the state is in server_state.h, the driver in server_step.c.
 * The closure test and gen/machine.c use the same rows, so that what is tested, drawn and run cannot differ.
 * Ownership: all static.  Failure: server_row_find returns NULL for a hole, which the closure test proves impossible.
 */
#ifndef SMTP_SERVER_TABLE_H
#define SMTP_SERVER_TABLE_H
#include <psmtp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero is never a legal phase, event, reply, action or lifetime. */
enum server_phase {
	PHASE_NONE_ = 0,
#define PHASE(id, deadline, note) PHASE_##id,
#include "spec/server.def"
	PHASE_END_
};

enum server_event {
	EVENT_NONE_ = 0,
#define EVENT(id, phases, note) EVENT_##id,
#include "spec/server.def"
	EVENT_END_
};

enum server_action {
	DO_NONE_ = 0,
#define ACTION(id, asks, note) DO_##id,
#include "spec/server.def"
	DO_END_
};

enum server_reply {
	REPLY_NONE = 0, /* the row replies nothing */
#define REPLY(id, reason, code, class, subject, detail, text) REPLY_##id,
#include "spec/replies.def"
	REPLY_END_
};

enum server_life {
	LIFE_NONE = 0, /* the row ends nothing */
#define LIFETIME(id, name, ended, holds) LIFE_##id,
#include "spec/lifetimes.def"
	LIFE_END_
};

enum server_deadline { DEADLINE_NEVER = 1, DEADLINE_HANDSHAKE, DEADLINE_COMMAND, DEADLINE_MESSAGE };

/* Facts are bits, so that a row's guards are two masks. */
enum server_fact_index {
#define FACT(id, life, note) FACT_INDEX_##id,
#include "spec/server.def"
	FACT_COUNT_
};
#define SERVER_FACT(id) (UINT64_C(1) << FACT_INDEX_##id)
_Static_assert(FACT_COUNT_ <= 64, "facts are bits of 64");

/* POLICY and EPOCH facts stand still while a hello lasts; capabilities are derived from them. */
enum server_fact_life { FACT_POLICY = 1, FACT_EPOCH, FACT_HELLO, FACT_TRANSACTION, FACT_COMMAND };

struct server_row {
	enum server_event event; /* 0: an OFFER or NOTE, which speaks of the next row */
	uint32_t phases;         /* bits: 1 << PHASE_x */
	uint64_t want, lack;     /* facts that must hold, that must fail */
	enum server_reply reply;
	enum server_action does;
	enum server_phase next;
	enum server_life ends;
	const char *rfc;
	const char *offers; /* the word that EHLO offers while this row can hold, or NULL */
	const char *note;   /* or NULL */
};

struct server_reply_text {
	const char *id, *reason;
	int code;
	uint16_t enhanced[3];
	const char *text;
};

extern const struct server_row server_rows[];
extern const size_t server_row_count; /* includes the pseudo-rows of OFFER and NOTE */
extern const struct server_reply_text server_replies[REPLY_END_];

struct server_phase_info {
	const char *name, *note;
	enum server_deadline deadline;
};
extern const struct server_phase_info server_phases[PHASE_END_];

struct server_event_info {
	const char *name, *note;
	uint32_t phases;
};
extern const struct server_event_info server_events[EVENT_END_];

struct server_fact_info {
	const char *name, *note;
	enum server_fact_life life;
};
extern const struct server_fact_info server_facts_info[FACT_COUNT_];

struct server_action_info {
	const char *name, *note;
	enum psmtp_server_event_type asks; /* 0: asks nothing */
};
extern const struct server_action_info server_actions[DO_END_];

struct server_life_info {
	const char *name, *type, *ended, *holds;
};
extern const struct server_life_info server_lives[LIFE_END_];

/* The first row that matches, or NULL for a hole. */
const struct server_row *server_row_find(enum server_event, enum server_phase, uint64_t facts);

/* True when the row could be the first to match at some moment while the standing facts stay as they are and EHLO has
 * been accepted: what EHLO may offer. */
bool server_row_possible(const struct server_row *, uint64_t facts);

/* True when the caller owes a verdict in this phase. */
static inline bool server_phase_owes(enum server_phase p)
{
	return p >= PHASE_JUDGE_GREET && p <= PHASE_JUDGE_END;
}

#endif
