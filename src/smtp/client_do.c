/* client_do.c - the actions of spec/client.def.
 *
 * An action does what its row says and nothing else: it never chooses the next phase.  What it writes comes before what
 * it tells, so that an action that runs out of memory has told nothing.  Failure: false when memory is out.
 */
#include "smtp/client_state.h"

#include <assert.h>

#define STATE(id) (1u << CLIENT_RCPT_##id)
#define OPEN_STATES (STATE(WAITING) | STATE(ACCEPTED))

#define OURS(code_, class_, subject_, detail_, words)                                                                  \
	(const struct psmtp_reply)                                                                                     \
	{                                                                                                              \
		.code = code_, .enhanced = { class_, subject_, detail_ }, .text = { words, sizeof words - 1 }          \
	}

/* One event at work: what an action may look at. */
struct work {
	struct psmtp_client *c;
	const struct client_row *row;
	enum client_event event;
	const struct psmtp_reply *reply; /* code 0 when the event is no reply */
};

static bool tell(const struct work *w, enum psmtp_client_event_type type)
{
	client_tell(w->c, &(struct psmtp_client_event){ .type = type });
	return true;
}

static bool results(const struct work *w, unsigned match)
{
	client_tell_results(w->c, match, w->reply, false);
	return true;
}

static bool judged(const struct work *w, unsigned match, struct psmtp_reply reply)
{
	client_tell_results(w->c, match, &reply, true);
	return true;
}

/* ---- endings ---- */

/* What was not written out must not be, once the session is given up: half a message could still become a whole one. */
static void drop_output(struct psmtp_client *c)
{
	c->written -= buf_len(&c->out);
	buf_clear(&c->out);
}

static bool fail(const struct work *w, enum psmtp_client_fault fault)
{
	struct psmtp_client *c = w->c;
	struct psmtp_client_event event = { .type = PSMTP_CLIENT_FAILED, .reply = *w->reply, .fault = fault,
		.reason = w->row->reason };
	uint64_t end = client_tx(c)->body.end;

	if (w->event == CLIENT_ON_BAD_REPLY && c->epoch.reply.reason)
		event.reason = c->epoch.reply.reason; /* more exact than the table */
	/* RFC 1047: its end has left, so the message may have been taken although a reply is missing */
	event.maybe_delivered = c->phase == CLIENT_IN_END && client_tx(c)->open && end && c->sent >= end;
	drop_output(c);
	client_auth_wipe(c);
	client_tell(c, &event);
	return true;
}

static bool close_session(const struct work *w)
{
	drop_output(w->c);
	return tell(w, PSMTP_CLIENT_CLOSE);
}

/* ---- greeting, TLS, AUTH ---- */

static bool say_ehlo(const struct work *w)
{
	const struct psmtp_client_options *o = &w->c->options;

	return client_say(w->c, "%s %.*s\r\n", o->lmtp ? "LHLO" : "EHLO", (int)o->hello.n, o->hello.p);
}

static bool say_helo(const struct work *w)
{
	return client_say(w->c, "HELO %.*s\r\n", (int)w->c->options.hello.n, w->c->options.hello.p);
}

static bool tell_clear(const struct work *w)
{
	client_tell(w->c, &(struct psmtp_client_event){ .type = PSMTP_CLIENT_TLS_REFUSED, .reply = *w->reply,
		.reason = w->row->reason });
	return true;
}

static bool ask_auth(const struct work *w)
{
	struct client_epoch *e = &w->c->epoch;
	struct view challenge = e->auth_begun ? buf_view(&e->auth) : VIEW("");

	client_tell(w->c, &(struct psmtp_client_event){ .type = PSMTP_CLIENT_AUTH, .reply = *w->reply,
		.data = smtp_public(challenge) });
	return true;
}

static bool tell_ready(const struct work *w)
{
	client_auth_wipe(w->c);
	return tell(w, PSMTP_CLIENT_READY);
}

/* ---- the envelope ---- */

static bool set_aside(const struct work *w)
{
	const struct client_transaction *tx = client_tx(w->c);

	if (tx->aside == 0)
		return true;
	judged(w, STATE(BAD), OURS(553, 5, 1, 3, "The recipient's address is no address"));
	return judged(w, STATE(EXCESS), OURS(452, 4, 5, 3, "More recipients than the server takes at once"));
}

/* A judgement on the message as a whole settles every recipient. */
static bool judged_all(const struct work *w, struct psmtp_reply reply)
{
	return judged(w, OPEN_STATES | STATE(BAD) | STATE(EXCESS), reply);
}

static bool say_mail(const struct work *w)
{
	if (!client_say_mail(w->c))
		return false;
	client_hello(w->c)->mails++; /* RFC 9422 section 4.1 counts them whether they succeed or not */
	return set_aside(w);
}

static bool mail_ok(const struct work *w)
{
	client_tx(w->c)->open = true;
	return true;
}

static bool mail_no(const struct work *w)
{
	client_tx(w->c)->refused = true;
	return results(w, OPEN_STATES);
}

/* The reply cursor moves to the next RCPT that was written. */
static uint32_t answered(struct client_transaction *tx)
{
	uint32_t index = tx->reply_at;

	assert(tx->flying);
	if (--tx->flying)
		do
			tx->reply_at++;
		while (!tx->rcpts[tx->reply_at].said);
	return index;
}

static bool rcpt_void(const struct work *w)
{
	answered(client_tx(w->c));
	return true;
}

static void tell_rcpt(const struct work *w, uint32_t index, const struct psmtp_reply *reply)
{
	client_tell(w->c, &(struct psmtp_client_event){ .type = PSMTP_CLIENT_RCPT, .rcpt_index = index, .reply = *reply });
}

static bool rcpt_ok(const struct work *w)
{
	struct client_transaction *tx = client_tx(w->c);
	uint32_t index = answered(tx);

	tx->rcpts[index].state = CLIENT_RCPT_ACCEPTED;
	tx->accepted++;
	tell_rcpt(w, index, w->reply);
	return true;
}

/* RFC 5321 4.5.3.1.10: 552 behind accepted recipients means "too many", which old servers said so: temporary. */
static struct psmtp_reply rcpt_reply(const struct client_transaction *tx, struct psmtp_reply reply)
{
	bool too_many = !reply.enhanced[0] || (reply.enhanced[1] == 5 && reply.enhanced[2] == 3);

	if (reply.code == 552 && tx->accepted && too_many) {
		reply.code = 452;
		reply.enhanced[0] = 4, reply.enhanced[1] = 5, reply.enhanced[2] = 3;
	}
	return reply;
}

static bool rcpt_no(const struct work *w)
{
	struct client_transaction *tx = client_tx(w->c);
	struct psmtp_reply reply = rcpt_reply(tx, *w->reply);
	uint32_t index = answered(tx);

	tell_rcpt(w, index, &reply);
	client_tell_result(w->c, index, &reply, false);
	return true;
}

static bool say_data(const struct work *w)
{
	if (!client_add(w->c, VIEW("DATA\r\n")))
		return false;
	client_tx(w->c)->data_said = w->c->written;
	return true;
}

/* ---- body and end ---- */

static bool open_body(const struct work *w)
{
	client_tx(w->c)->body.line_start = true;
	return tell(w, PSMTP_CLIENT_BODY);
}

static bool say_last(const struct work *w)
{
	client_tx(w->c)->body.end = w->c->written;
	return true;
}

static bool chunk_ok(const struct work *w)
{
	client_chunk_answered(w->c);
	return true;
}

static bool chunk_no(const struct work *w)
{
	client_chunk_answered(w->c);
	buf_free(&client_tx(w->c)->body.chunk); /* what is not framed yet will never be */
	return results(w, OPEN_STATES);
}

static bool final(const struct work *w)
{
	client_tx(w->c)->open = false;
	return results(w, OPEN_STATES);
}

static bool final_one(const struct work *w)
{
	struct client_transaction *tx = client_tx(w->c);

	while (tx->rcpts[tx->final_at].state != CLIENT_RCPT_ACCEPTED)
		tx->final_at++;
	client_tell_result(w->c, tx->final_at++, w->reply, false);
	if (++tx->finals == tx->accepted)
		tx->open = false;
	return true;
}

static bool over(const struct work *w)
{
	client_tx(w->c)->open = false;
	return true;
}

/* ---- the table's words ---- */

static bool act_session(const struct work *w)
{
	struct psmtp_client *c = w->c;

	switch (w->row->does) {
	case CLIENT_DO_SAY_EHLO:
		return say_ehlo(w);
	case CLIENT_DO_SAY_HELO:
		return say_helo(w);
	case CLIENT_DO_LEARN_EHLO:
		return client_learn(c, true);
	case CLIENT_DO_LEARN_HELO:
		return client_learn(c, false);
	case CLIENT_DO_SAY_TLS:
		return client_say(c, "STARTTLS\r\n");
	case CLIENT_DO_START_TLS:
		assert(buf_len(&c->out) == 0); /* the 220 was believed only because STARTTLS had left, as the last command */
		return tell(w, PSMTP_CLIENT_TLS_START);
	case CLIENT_DO_TELL_CLEAR:
		return tell_clear(w);
	case CLIENT_DO_ASK_AUTH:
		return ask_auth(w);
	case CLIENT_DO_SAY_AUTH:
		return client_auth_say(c);
	case CLIENT_DO_SAY_HELD:
		return client_auth_held(c);
	case CLIENT_DO_SAY_REPLY:
		return client_auth_reply(c);
	case CLIENT_DO_SAY_STAR:
		return client_say(c, "*\r\n");
	case CLIENT_DO_TELL_READY:
		return tell_ready(w);
	case CLIENT_DO_SAY_QUIT:
		return client_say(c, "QUIT\r\n");
	case CLIENT_DO_TELL_CLOSE:
		return close_session(w);
	case CLIENT_DO_TEMPORARY:
		return fail(w, PSMTP_FAULT_TEMPORARY);
	case CLIENT_DO_PERMANENT:
		return fail(w, PSMTP_FAULT_PERMANENT);
	case CLIENT_DO_PROTOCOL:
		return fail(w, PSMTP_FAULT_PROTOCOL);
	case CLIENT_DO_TLS_FAULT:
		return fail(w, PSMTP_FAULT_TLS);
	case CLIENT_DO_POLICY:
		return fail(w, PSMTP_FAULT_POLICY);
	default:
		return true; /* NOTHING */
	}
}

static bool act_message(const struct work *w)
{
	struct psmtp_client *c = w->c;

	switch (w->row->does) {
	case CLIENT_DO_BAD_SENDER:
		return judged_all(w, OURS(553, 5, 1, 7, "The sender's address is no address"));
	case CLIENT_DO_WANT_REQTLS:
		return judged_all(w, OURS(550, 5, 7, 30, "REQUIRETLS is needed and not offered"));
	case CLIENT_DO_WANT_BINARY:
		return judged_all(w, OURS(554, 5, 6, 3, "The message needs an extension for its octets that is not offered"));
	case CLIENT_DO_WANT_UTF8:
		return judged_all(w, OURS(553, 5, 6, 7, "The message needs SMTPUTF8, which is not offered"));
	case CLIENT_DO_WANT_SIZE:
		return judged_all(w, OURS(552, 5, 3, 4, "The message is larger than the server's SIZE"));
	case CLIENT_DO_SET_ASIDE:
		return set_aside(w);
	case CLIENT_DO_SAY_MAIL:
		return say_mail(w);
	case CLIENT_DO_MAIL_OK:
		return mail_ok(w);
	case CLIENT_DO_MAIL_NO:
		return mail_no(w);
	case CLIENT_DO_RCPT_OK:
		return rcpt_ok(w);
	case CLIENT_DO_RCPT_NO:
		return rcpt_no(w);
	case CLIENT_DO_RCPT_VOID:
		return rcpt_void(w);
	case CLIENT_DO_SAY_DATA:
		return say_data(w);
	case CLIENT_DO_OPEN_BODY:
		return open_body(w);
	case CLIENT_DO_SAY_DOT:
		return client_say(c, ".\r\n");
	case CLIENT_DO_SAY_END:
		return client_body_end(c);
	case CLIENT_DO_SAY_LAST:
		return say_last(w);
	case CLIENT_DO_CHUNK_OK:
		return chunk_ok(w);
	case CLIENT_DO_CHUNK_NO:
		return chunk_no(w);
	case CLIENT_DO_CHUNK_STOP:
		return chunk_no(w) && tell(w, PSMTP_CLIENT_DONE);
	case CLIENT_DO_REFUSED:
		return results(w, OPEN_STATES);
	case CLIENT_DO_FINAL:
		return final(w);
	case CLIENT_DO_FINAL_ONE:
		return final_one(w);
	case CLIENT_DO_FINAL_LEFT:
		return final(w) && fail(w, PSMTP_FAULT_TEMPORARY);
	case CLIENT_DO_OVER:
		return over(w);
	case CLIENT_DO_TELL_DONE:
		return tell(w, PSMTP_CLIENT_DONE);
	case CLIENT_DO_DONE_READY:
		return tell(w, PSMTP_CLIENT_DONE) && tell(w, PSMTP_CLIENT_READY);
	case CLIENT_DO_DONE_RSET:
		return client_say(c, "RSET\r\n") && tell(w, PSMTP_CLIENT_DONE);
	default:
		return act_session(w);
	}
}

bool client_act(struct psmtp_client *c, const struct client_row *row, enum client_event event)
{
	const uint32_t replies = 1u << CLIENT_ON_EARLY | 1u << CLIENT_ON_EARLY_421 | 1u << CLIENT_ON_R2XX |
				 1u << CLIENT_ON_R3XX | 1u << CLIENT_ON_R4XX | 1u << CLIENT_ON_R421 | 1u << CLIENT_ON_R5XX;
	struct psmtp_reply reply = { 0 };

	if (client_events[event].kinds & replies)
		reply = client_reply(c);
	return act_message(&(struct work){ .c = c, .row = row, .event = event, .reply = &reply });
}
