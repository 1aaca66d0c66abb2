/* server_body.c - the octets of a message: DATA, a BDAT chunk, or a chunk that was refused.
 *
 * Spans go to the caller straight out of the input buffer; their octets leave it at the next call, when the caller's
 * view has died.  What ends a message is for body.h to know, what is answered then for spec/server.def.
 */
#include "smtp/server_state.h"

/* Twice the limit and a constant: the size was announced in EHLO, and nobody sends that much by mistake. */
static bool overrun(const struct psmtp_server *s)
{
	const struct server_transaction *tx = &s->epoch.hello.transaction;

	return tx->arrived > SERVER_OVERRUN && (tx->arrived - SERVER_OVERRUN) / 2 > s->options.size_limit;
}

static void show(struct psmtp_server *s, struct view give, struct psmtp_server_event *e, bool *has_event)
{
	struct server_transaction *tx = server_tx_of(s);

	*has_event = give.n > 0;
	if (!*has_event)
		return;
	e->type = PSMTP_SERVER_BODY;
	e->body = smtp_public(give);
	e->mail = &tx->mail;
	e->rcpt_count = tx->rcpts;
	e->chunked = tx->chunked;
}

/* n octets of the input were read.  They stay while a span may point into them. */
static void arrived(struct psmtp_server *s, size_t n, uint64_t now)
{
	server_tx_of(s)->arrived += n;
	s->epoch.given = n;
	server_deadline_set(s, now);
}

static void release(struct psmtp_server *s, bool shown)
{
	if (shown)
		return;
	buf_take(&s->epoch.in, s->epoch.given);
	s->epoch.given = 0;
}

static bool read_data(struct psmtp_server *s, struct psmtp_server_event *e, bool *has_event, uint64_t now)
{
	struct server_transaction *tx = server_tx_of(s);
	struct view input = buf_view(&s->epoch.in);
	struct smtp_body_step step;

	if (tx->complete) {
		server_event(s, EVENT_MESSAGE_END, now);
		return true;
	}
	if (overrun(s)) {
		server_event(s, EVENT_OVERRUN, now);
		return true;
	}
	if (!input.n)
		return false;
	step = smtp_body_read(&tx->body, input);
	tx->complete = step.end;
	arrived(s, step.take, now);
	show(s, step.give, e, has_event);
	release(s, *has_event);
	return true;
}

static bool read_chunk(struct psmtp_server *s, struct psmtp_server_event *e, bool *has_event, uint64_t now)
{
	struct server_transaction *tx = server_tx_of(s);
	struct smtp_bdat *chunk = &tx->command.chunk;
	struct view input = smtp_bdat_clip(chunk, buf_view(&s->epoch.in));
	struct smtp_body_step step;

	if (tx->complete || (!chunk->left && !chunk->last)) {
		server_event(s, tx->complete ? EVENT_MESSAGE_END : EVENT_CHUNK_END, now);
		return true;
	}
	if (!chunk->left) { /* behind the last octet of the LAST chunk */
		tx->complete = true;
		show(s, smtp_body_finish(&tx->body), e, has_event);
		return true;
	}
	if (!input.n)
		return false;
	step = smtp_body_read(&tx->body, input);
	chunk->left -= step.take;
	arrived(s, step.take, now);
	show(s, step.give, e, has_event);
	release(s, *has_event);
	return true;
}

static bool read_skip(struct psmtp_server *s, uint64_t now)
{
	struct smtp_bdat *chunk = &server_command_of(s)->chunk;
	struct view input = smtp_bdat_clip(chunk, buf_view(&s->epoch.in));

	if (!chunk->left || overrun(s)) {
		server_event(s, chunk->left ? EVENT_OVERRUN : EVENT_CHUNK_END, now);
		return true;
	}
	if (!input.n)
		return false;
	chunk->left -= input.n;
	arrived(s, input.n, now);
	release(s, false);
	return true;
}

bool server_body_read(struct psmtp_server *s, struct psmtp_server_event *e, bool *has_event, uint64_t now)
{
	if (s->phase == PHASE_DATA)
		return read_data(s, e, has_event, now);
	if (s->phase == PHASE_CHUNK)
		return read_chunk(s, e, has_event, now);
	return read_skip(s, now);
}
