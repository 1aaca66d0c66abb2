/* closure_laws.c - what must hold on every edge of the machine (design.md section 4).
 *
 * Each law names the option or switch that weakens it, and is then not asked.  A broken law is counted and, the first
 * few times, told with the edge that broke it.
 */
#include "closure.h"

#include <stdlib.h>

const char *const closure_law_names[LAW_END_] = {
	[LAW_TLS_FORGETS] = "after TLS comes up no name, features, identity, transaction or pending byte",
	[LAW_IDENTITY_NEEDS_TLS] = "identity implies TLS (weakened by auth_in_clear)",
	[LAW_TX_NEEDS_HELLO] = "a transaction implies hello (weakened by ehlo_after_tls = optional)",
	[LAW_354_NEEDS_RCPT] = "354 only with a recipient",
	[LAW_250_NEEDS_DURABLE] = "250 to end of data only on durable",
	[LAW_220_NEEDS_QUIET] = "220 to STARTTLS only when quiet (weakened by starttls_pending = discard)",
	[LAW_REQUIRED_NO_CLEAR_TX] = "with TLS required no transaction in clear",
	[LAW_ONE_ANSWER] = "one reply, one wait or a close per edge",
	[LAW_WAIT_HAS_DEADLINE] = "every wait has a deadline",
	[LAW_NO_PARTIAL_RESET] = "no transaction: no sender, recipient, chunk or fault is left",
	[LAW_RESET_TOLD] = "the caller is told exactly when a transaction ends uncommitted",
	[LAW_REFUSED_HELLO_CHANGES_NOTHING] = "a refused EHLO or HELO changes nothing",
	[LAW_CLOSED_IS_CLOSED] = "nothing happens after the close",
	[LAW_WRONG_EPOCH_SILENT] = "bytes of the wrong epoch close without a word",
	[LAW_REPLY_FORM] = "replies are printable ASCII lines of at most 512 octets",
	[LAW_OFFERED_IS_SERVED] = "EHLO offers a word exactly when its row can be reached",
	[LAW_WAY_OUT] = "from every state a path to closed",
};
unsigned long closure_broken[LAW_END_];

#define TELL_MAX 3 /* of each law */

void closure_break(enum closure_law law, const struct closure_edge *e, const char *why)
{
	if (closure_broken[law]++ < TELL_MAX)
		fprintf(stderr, "broken: %s: %s\n  policy %s, in %s, input %s\n", closure_law_names[law], why, e->policy->name,
			e->from ? server_phases[e->from].name : "?", e->input ? e->input->name : "none");
}

static bool has(uint64_t facts, uint64_t fact)
{
	return facts & fact;
}

static bool fired(const struct closure_edge *e, enum server_event event)
{
	for (unsigned i = 0; i < e->fired_count; i++)
		if (server_rows[e->fired[i]].event == event)
			return true;
	return false;
}

/* Counts whole replies: a line with a blank behind the code is the last of its reply. */
static unsigned replies_in(const char *out, size_t n, const char *code)
{
	unsigned count = 0;

	for (size_t at = 0; at < n;) {
		const char *end = memchr(out + at, '\n', n - at);
		size_t len = end ? (size_t)(end - out) - at + 1 : n - at;

		if (len >= 4 && out[at + 3] == ' ' && (!code || memcmp(out + at, code, 3) == 0))
			count++;
		at += len;
	}
	return count;
}

static void judge_form(const struct closure_edge *e)
{
	for (size_t at = 0; at < e->out_len;) {
		const char *end = memchr(e->out + at, '\n', e->out_len - at);
		size_t len = end ? (size_t)(end - e->out) - at + 1 : 0;

		if (len < 5 || len > 512 || e->out[at + len - 2] != '\r') {
			closure_break(LAW_REPLY_FORM, e, "a line's end or length");
			return;
		}
		for (size_t i = at; i < at + len - 2; i++)
			if (e->out[i] < ' ' || e->out[i] > '~')
				closure_break(LAW_REPLY_FORM, e, "an octet");
		at += len;
	}
}

static void judge_tls(const struct closure_edge *e)
{
	const struct psmtp_server *s = e->s;
	const struct server_hello *h = &s->epoch.hello;
	const struct psmtp_server_options *o = &s->options;

	if (fired(e, EVENT_TLS_UP) && (h->kind || h->name_len || h->transaction.live || s->epoch.identity ||
					      buf_len(&s->epoch.in) ||
					      !s->epoch.tls || s->epoch_number != 2))
		closure_break(LAW_TLS_FORGETS, e, "something was kept");
	if (fired(e, EVENT_TLS_UP) && !(o->switches & PSMTP_SWITCH_EHLO_AFTER_TLS_OPTIONAL) &&
		has(server_facts(s, NULL), SERVER_FACT(HELLO) | SERVER_FACT(EHLO)))
		closure_break(LAW_TLS_FORGETS, e, "features were kept");
	if (s->epoch.identity && !s->epoch.tls && !o->auth_in_clear)
		closure_break(LAW_IDENTITY_NEEDS_TLS, e, "identity in clear");
	if (e->from == PHASE_JUDGE_TLS && replies_in(e->out, e->out_len, "220") && !has(e->facts, SERVER_FACT(QUIET)) &&
		!(o->switches & PSMTP_SWITCH_STARTTLS_DISCARD))
		closure_break(LAW_220_NEEDS_QUIET, e, "bytes were pending");
	if (s->phase == PHASE_HANDSHAKE && buf_len(&s->epoch.in))
		closure_break(LAW_220_NEEDS_QUIET, e, "bytes are kept over the handshake");
	if (o->tls == PSMTP_TLS_REQUIRED && !s->epoch.tls && h->transaction.live)
		closure_break(LAW_REQUIRED_NO_CLEAR_TX, e, "transaction in clear");
	if (e->input->kind == INPUT_WRONG_EPOCH && !e->closed && (s->phase != PHASE_CLOSED || e->out_len))
		closure_break(LAW_WRONG_EPOCH_SILENT, e, "not closed, or not silent");
}

static void judge_transaction(const struct closure_edge *e)
{
	const struct psmtp_server *s = e->s;
	const struct server_hello *h = &s->epoch.hello;
	const struct server_transaction *tx = &h->transaction;
	bool yes = e->input->verdict.kind == PSMTP_YES && !e->refused_call;
	bool hello_no = e->from == PHASE_JUDGE_HELLO && s->phase == PHASE_COMMAND && !yes;
	/* the caller was asked for durable, and said yes now or (LMTP) for an earlier recipient */
	bool durable = e->from == PHASE_JUDGE_END && (yes || e->committed);
	bool gone = e->live && !tx->live;

	if (tx->live && !h->kind && !(s->options.switches & PSMTP_SWITCH_EHLO_AFTER_TLS_OPTIONAL && s->epoch.tls))
		closure_break(LAW_TX_NEEDS_HELLO, e, "no hello");
	if (replies_in(e->out, e->out_len, "354") && !tx->rcpts)
		closure_break(LAW_354_NEEDS_RCPT, e, "no recipient");
	if (s->phase == PHASE_DATA && !tx->rcpts)
		closure_break(LAW_354_NEEDS_RCPT, e, "content without a recipient");
	if (gone && !durable && !e->resets)
		closure_break(LAW_RESET_TOLD, e, "nobody was told");
	/* a yes to MAIL whose reply found no memory: the caller knows a sender, and must forget it */
	if (e->resets > (e->live || (e->from == PHASE_JUDGE_MAIL && yes) ? 1u : 0u))
		closure_break(LAW_RESET_TOLD, e, "told without cause");
	if (gone && durable && e->resets)
		closure_break(LAW_RESET_TOLD, e, "told although committed");
	if (e->from == PHASE_JUDGE_END && !yes && replies_in(e->out, e->out_len, "250"))
		closure_break(LAW_250_NEEDS_DURABLE, e, "250 without yes");
	if (fired(e, EVENT_MESSAGE_END) && replies_in(e->out, e->out_len, "250") && e->from != PHASE_COMMAND)
		closure_break(LAW_250_NEEDS_DURABLE, e, "250 at the end of data without a question");
	if (!tx->live && (tx->rcpts || tx->chunked || tx->body.fault || tx->committed || tx->judged || tx->body.size))
		closure_break(LAW_NO_PARTIAL_RESET, e, "something is left of a transaction");
	if (hello_no && (h->kind != e->hello || tx->live != e->live || tx->rcpts != e->rcpts))
		closure_break(LAW_REFUSED_HELLO_CHANGES_NOTHING, e, "something changed");
}

/* Each row fired said one thing, asked, closed, or waits for octets. */
static void judge_answers(const struct closure_edge *e)
{
	unsigned replies = 0, asks = 0, closes = 0;
	const struct psmtp_server *s = e->s;
	bool starved = e->input->kind == INPUT_STARVED || e->input->kind == INPUT_STARVED_VERDICT; /* words may be missing */

	for (unsigned i = 0; i < e->fired_count; i++) {
		const struct server_row *row = &server_rows[e->fired[i]];
		if (row->event >= EVENT_P_SIZE && row->event <= EVENT_P_TLS)
			continue; /* a parameter's row answers a question of MAIL's or RCPT's row */
		bool says = row->reply && row->does != DO_HOLD, question = server_actions[row->does].asks != 0;
		bool waits = row->next == PHASE_CHUNK || row->next == PHASE_SKIP || row->event == EVENT_TLS_UP;

		replies += says;
		asks += question && server_actions[row->does].asks <= PSMTP_SERVER_BODY_END;
		closes += row->next == PHASE_CLOSED;
		if (!says && !question && !waits && row->next != PHASE_CLOSED)
			closure_break(LAW_ONE_ANSWER, e, "a row that does nothing");
	}
	if (s->options.lmtp) {
		if (replies_in(e->out, e->out_len, NULL) < replies && !starved)
			closure_break(LAW_ONE_ANSWER, e, "too few replies (LMTP)");
	} else if (replies_in(e->out, e->out_len, NULL) != replies && !starved) {
		closure_break(LAW_ONE_ANSWER, e, "the number of replies");
	}
	if (e->closes != closes || closes > 1)
		closure_break(LAW_ONE_ANSWER, e, "the number of closes");
	if (e->asks != asks && !closes)
		closure_break(LAW_ONE_ANSWER, e, "the number of questions");
	if (server_phase_owes(s->phase) != s->asking)
		closure_break(LAW_ONE_ANSWER, e, "a wait for a verdict that nobody was asked for");
}

void closure_judge(const struct closure_edge *e)
{
	const struct psmtp_server *s = e->s;
	enum server_deadline clock = server_phases[s->phase].deadline;

	if (e->closed) {
		if (e->out_len || e->fired_count || e->asks || e->closes || s->phase != PHASE_CLOSED)
			closure_break(LAW_CLOSED_IS_CLOSED, e, "something happened");
		return;
	}
	if ((clock == DEADLINE_NEVER) != (s->deadline == UINT64_MAX))
		closure_break(LAW_WAIT_HAS_DEADLINE, e, "deadline");
	if (clock == DEADLINE_NEVER && !server_phase_owes(s->phase) && s->phase != PHASE_CLOSED)
		closure_break(LAW_WAIT_HAS_DEADLINE, e, "a wait without a clock");
	judge_form(e);
	judge_tls(e);
	judge_transaction(e);
	judge_answers(e);
}
