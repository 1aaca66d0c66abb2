/* server_step.c - the driver: one event, one row, one new phase.
 *
 * server_step asks the table and does what the row says, in this order:
 *   1. what the row keeps from the command is moved to the lifetime that keeps it;
 *   2. the reply is queued (it may speak of what is about to end: the chunk held, the recipients counted);
 *   3. the lifetime ends, with all inside it;
 *   4. what begins in its place is opened;
 *   5. the phase changes, in the one setter;
 *   6. the caller's event is queued.
 * Step 1 before 2, because a message that the caller took stays taken although its reply finds no memory; both before
 * 3, because what ends is zeroed; 4 after 3, because it must start from nothing.  Actions never choose a phase.
 * Failure: a reply that cannot be queued for want of memory becomes the event NO_MEMORY, which ends the session.
 */
#include "smtp/server_state.h"

#include <assert.h>

static uint64_t add_ms(uint64_t now, uint64_t ms)
{
	return now > UINT64_MAX - 1 - ms ? UINT64_MAX - 1 : now + ms;
}

/* The whole message gets data_ms plus its octets so far at data_min_rate: time that only real octets buy, so that
 * a client cannot hold a session by sending one now and then. */
static uint64_t message_deadline(const struct psmtp_server *s)
{
	const struct server_transaction *tx = &s->epoch.hello.transaction;
	uint64_t seconds = tx->arrived / s->options.data_min_rate;

	if (seconds > UINT32_MAX) /* beyond a century nobody counts */
		seconds = UINT32_MAX;
	return add_ms(tx->started, s->options.data_ms + seconds * 1000);
}

void server_deadline_set(struct psmtp_server *s, uint64_t now)
{
	struct server_transaction *tx = server_tx_of(s);

	switch (server_phases[s->phase].deadline) {
	case DEADLINE_NEVER:
		s->deadline = UINT64_MAX;
		break;
	case DEADLINE_HANDSHAKE:
		s->deadline = add_ms(now, s->options.handshake_ms);
		break;
	case DEADLINE_COMMAND:
		/* for the whole line: set when the wait begins, not moved by single octets (RFC 5321 4.5.3.2.7) */
		s->deadline = add_ms(now, s->options.command_ms);
		/* between chunks the clock of the message runs on */
		if (tx->chunked && message_deadline(s) < s->deadline)
			s->deadline = message_deadline(s);
		break;
	case DEADLINE_MESSAGE:
		if (!tx->started)
			tx->started = now;
		s->deadline = message_deadline(s);
		break;
	}
}

static void trace(struct psmtp_server *s, const struct server_row *row)
{
	s->trace[s->traced++ % SERVER_TRACE_MAX] = (struct server_trace){
		.row = (uint16_t)(row - server_rows), .from = (uint8_t)s->phase, .to = (uint8_t)row->next
	};
}

const struct server_row *server_row_ask(struct psmtp_server *s, enum server_event event, uint64_t facts)
{
	const struct server_row *row = server_row_find(event, s->phase, facts);

	assert(row);
	trace(s, row);
	return row;
}

/* The only place where the phase changes. */
static void set_phase(struct psmtp_server *s, const struct server_row *row, uint64_t now)
{
	trace(s, row);
	s->phase = row->next;
	server_deadline_set(s, now);
}

/* The caller's own words for this step, when it brought some. */
static const struct psmtp_reply *own_words(struct psmtp_server *s, const struct server_input *in)
{
	struct server_command *c = server_command_of(s);

	if (in->verdict && in->verdict->reply.code)
		return &in->verdict->reply;
	if (in->event == EVENT_CHUNK_END && c->held_own.code)
		return &c->held_own;
	if (in->event == EVENT_SHUTDOWN && s->shutdown_reply.code)
		return &s->shutdown_reply;
	return NULL;
}

static enum server_reply reply_id(struct psmtp_server *s, const struct server_row *row)
{
	return row->reply == REPLY_HELD ? server_command_of(s)->held : row->reply;
}

/* LMTP: after the data one reply for each recipient accepted before (RFC 2033 4.2, 4.3: BDAT LAST too). */
static uint32_t reply_times(struct psmtp_server *s, const struct server_row *row)
{
	struct server_transaction *tx = server_tx_of(s);
	bool end = s->phase == PHASE_DATA || tx->command.chunk.last;

	return row->does == DO_EACH && s->options.lmtp && end && tx->rcpts ? tx->rcpts : 1;
}

static bool reply_now(struct psmtp_server *s, const struct server_row *row, const struct server_input *in)
{
	uint32_t times = reply_times(s, row);
	const struct psmtp_reply *own = own_words(s, in);
	enum server_reply id = reply_id(s, row);
	int code = own ? own->code : server_replies[id].code;

	if (id == REPLY_AUTH_MORE)
		return server_challenge_add(s, in->verdict->challenge);
	for (uint32_t i = 0; i < times; i++)
		if (!server_reply_add(s, id, own))
			return false;
	/* A 4xx says what we cannot do now, not that the client erred: 452 to each of a hundred recipients beyond the limit
	 * must not end the transaction of those that were taken (RFC 5321 4.5.3.1.10). */
	if (code >= 500)
		s->errors++;
	return true;
}

/* The reply waits until the chunk is consumed.  The caller's words live only during its call, so they are copied; with
 * no memory for that the table's words stand in. */
static void hold(struct psmtp_server *s, const struct server_row *row, const struct server_input *in)
{
	struct server_command *c = server_command_of(s);
	const struct psmtp_reply *own = own_words(s, in);

	c->held = row->reply;
	if (own) {
		struct view words = arena_copy(&c->arena, smtp_view(own->text));

		c->held_own = *own;
		c->held_own.text = smtp_public(words);
	}
}

static void open_body(struct psmtp_server *s, bool chunked)
{
	struct server_transaction *tx = server_tx_of(s);

	if (chunked && tx->chunked)
		return; /* a later chunk of the same message */
	tx->chunked = chunked;
	smtp_body_begin(&tx->body, s->options.bare, chunked, tx->mail.body == PSMTP_BODY_BINARYMIME);
	tx->body.limit = s->options.size_limit;
}

/* What is kept from a command goes to the lifetime that keeps it. */
static void keep(struct psmtp_server *s, const struct server_row *row, const struct server_input *in)
{
	struct server_transaction *tx = server_tx_of(s);

	switch (row->does) {
	case DO_KEEP_USER:
		s->epoch.identity = tx->command.identity;
		s->epoch.identity_len = tx->command.identity_len;
		tx->command.identity = NULL;
		break;
	case DO_OPEN_TX:
		tx->live = true;
		s->mails++;
		break;
	case DO_ADD_RCPT:
		tx->rcpts++;
		break;
	case DO_OPEN_BODY:
		open_body(s, false);
		break;
	case DO_OPEN_BDAT:
		open_body(s, true);
		break;
	case DO_HOLD:
		hold(s, row, in);
		break;
	case DO_ASK_NEXT:
		tx->judged++;
		tx->committed |= in->event == EVENT_YES;
		if (tx->committed)
			s->idle = 0;
		break;
	case DO_COMMIT:
		tx->committed = true;
		s->idle = 0;
		break;
	default:
		break;
	}
}

static void copy_text(char *to, size_t cap, struct psmtp_view v)
{
	size_t n = v.n < cap - 1 ? v.n : cap - 1;

	if (n)
		memcpy(to, v.p, n);
	to[n] = '\0';
}

/* What begins where a lifetime ended.  was: the command as it stood, whose views are still good. */
static void begin(struct psmtp_server *s, const struct server_row *row, const struct server_input *in,
	const struct server_command *was)
{
	struct server_hello *h = server_hello_of(s);

	switch (row->does) {
	case DO_OPEN_NAME:
		h->kind = was->hello_kind;
		h->name_len = was->hello.n < sizeof h->name ? was->hello.n : sizeof h->name;
		memcpy(h->name, was->hello.p, h->name_len);
		break;
	case DO_OPEN_TLS:
	case DO_GREET_TLS:
		s->epoch_number = 2;
		s->epoch.tls = true;
		copy_text(s->epoch.protocol, sizeof s->epoch.protocol, in->tls->protocol);
		copy_text(s->epoch.cipher, sizeof s->epoch.cipher, in->tls->cipher);
		break;
	case DO_START_TLS:
		buf_clear(&s->epoch.in); /* empty, but for the switch that lets bytes be dropped (RFC 3207 section 6) */
		break;
	default:
		break;
	}
}

/* Questions (and a handshake) that nobody took yet are void when the session closes. */
static void drop_questions(struct psmtp_server *s)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < s->queued; i++)
		if (s->queue[i].type > PSMTP_SERVER_TLS_START)
			s->queue[kept++] = s->queue[i];
	s->queued = kept;
	s->asking = false;
}

static const char *reason_of(struct psmtp_server *s, const struct server_row *row)
{
	static const char *const words[EVENT_END_] = {
		[EVENT_PEER_CLOSED] = "peer_closed",   [EVENT_TIMEOUT] = "timeout",         [EVENT_WRONG_EPOCH] = "wrong_epoch",
		[EVENT_NO_MEMORY] = "no_memory",       [EVENT_TLS_FAILED] = "tls_failed",   [EVENT_SHUTDOWN] = "shutdown",
	};
	const char *word = words[row->event];

	if (row->reply == REPLY_BARE)
		return smtp_body_fault(&server_tx_of(s)->body);
	return word ? word : server_replies[reply_id(s, row)].reason;
}

static void tell(struct psmtp_server *s, const struct server_row *row, const struct psmtp_reply *said,
	const char *reason)
{
	if (row->next == PHASE_CLOSED) {
		drop_questions(s);
		server_push(s, PSMTP_SERVER_CLOSE, said, reason);
	} else if (server_actions[row->does].asks) {
		server_push(s, server_actions[row->does].asks, NULL, NULL);
	}
}

void server_step(struct psmtp_server *s, const struct server_input *in, uint64_t now)
{
	const struct server_row *row = server_row_find(in->event, s->phase, server_facts(s, in));
	struct server_command was;
	struct psmtp_reply said = { 0 };
	const char *reason;

	assert(row); /* the closure test proves that the table has no hole; input cannot bring one about */
	reason = reason_of(s, row);
	keep(s, row, in);
	if (row->reply && row->does != DO_HOLD) {
		const struct psmtp_reply *own = own_words(s, in);

		said = server_reply_value(reply_id(s, row));
		if (own) /* the caller knows its own words; they do not outlive its call */
			said = (struct psmtp_reply){ own->code, { own->enhanced[0], own->enhanced[1], own->enhanced[2] }, { "", 0 },
				own->close };
		if (!reply_now(s, row, in) && in->event != EVENT_NO_MEMORY) {
			server_event(s, EVENT_NO_MEMORY, now);
			return;
		}
		if (said.code >= 400 && !own)
			server_push(s, PSMTP_SERVER_REJECTED, &said, reason);
	}
	was = *server_command_of(s);
	if (row->ends != LIFE_NONE)
		server_command_of(s)->line = 0; /* its views must outlive `begin`; the line leaves the input below */
	else if (row->next == PHASE_CHUNK || row->next == PHASE_SKIP)
		server_take_line(s); /* the chunk's octets follow the line at once */
	server_end(s, row->ends);
	begin(s, row, in, &was);
	if (row->ends != LIFE_NONE)
		server_drop(s, was.line);
	set_phase(s, row, now);
	tell(s, row, &said, reason);
}

void server_event(struct psmtp_server *s, enum server_event event, uint64_t now)
{
	struct server_input in = { .event = event };

	server_step(s, &in, now);
}
