/* closure.h - every state the server can reach, and every input tried in each; see closure.c.
 *
 * The exploration (closure_explore.c) knows how to copy a whole session: all its memory comes from one region, so a
 * snapshot is a memcpy and every pointer stays good.  The laws (closure_laws.c) look at one edge at a time.
 */
#ifndef TESTS_CLOSURE_H
#define TESTS_CLOSURE_H
#include "smtp/server_state.h"

#include <stdio.h>

enum closure_input_kind {
	INPUT_BYTES = 1, /* text of the current epoch */
	INPUT_STARVED,   /* the same, while no memory can be had */
	INPUT_TIGHT,     /* the same, while the buffers have room and nothing else can be had */
	INPUT_VERDICT,
	INPUT_STARVED_VERDICT,
	INPUT_TIGHT_VERDICT,
	INPUT_EOF,
	INPUT_TIMEOUT,
	INPUT_SHUTDOWN,
	INPUT_WRONG_EPOCH,
	INPUT_TLS_UP,
	INPUT_TLS_FAILED,
	INPUT_FLOOD /* octets until something happens */
};

struct closure_input {
	const char *name;
	enum closure_input_kind kind;
	const char *text;
	struct psmtp_verdict verdict;
};
extern const struct closure_input closure_inputs[];
extern const size_t closure_input_count;

struct closure_policy {
	char name[96];
	struct psmtp_server_options options;
	bool flood;
};

/* What one edge did. */
struct closure_edge {
	const struct closure_policy *policy;
	const struct closure_input *input;
	/* before */
	enum server_phase from;
	uint64_t facts;
	bool live, committed, asking, closed;
	uint32_t rcpts;
	enum psmtp_hello_kind hello;
	/* after */
	const struct psmtp_server *s;
	const char *out;
	size_t out_len;
	unsigned fired[SERVER_TRACE_MAX], fired_count; /* rows */
	unsigned resets, closes, asks, starts, bodies, refused_call;
};

enum closure_law {
	LAW_TLS_FORGETS = 1,
	LAW_IDENTITY_NEEDS_TLS,
	LAW_TX_NEEDS_HELLO,
	LAW_354_NEEDS_RCPT,
	LAW_250_NEEDS_DURABLE,
	LAW_220_NEEDS_QUIET,
	LAW_REQUIRED_NO_CLEAR_TX,
	LAW_ONE_ANSWER,
	LAW_WAIT_HAS_DEADLINE,
	LAW_NO_PARTIAL_RESET,
	LAW_RESET_TOLD,
	LAW_REFUSED_HELLO_CHANGES_NOTHING,
	LAW_CLOSED_IS_CLOSED,
	LAW_WRONG_EPOCH_SILENT,
	LAW_REPLY_FORM,
	LAW_OFFERED_IS_SERVED,
	LAW_WAY_OUT,
	LAW_END_
};
extern const char *const closure_law_names[LAW_END_];
extern unsigned long closure_broken[LAW_END_]; /* how often */

void closure_judge(const struct closure_edge *);
void closure_break(enum closure_law, const struct closure_edge *, const char *why);

struct closure_result {
	size_t states, edges;
	bool row_fired[512];
};
/* Explores one policy; adds to the result. */
void closure_explore(const struct closure_policy *, struct closure_result *);

#endif
