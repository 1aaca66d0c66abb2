/* transaction.c - one mail transaction of a session: recipients judged, the body streamed to `queue`, its answer given.
 *
 * The body leaves for `queue` as it comes, in frames, under credit: when the credit is used up the session stops reading and drawing events,
 * so a slow disk slows the client and not our memory.  BODY_SUBMIT closes the message; only BODY_DONE with OK permits the
 * 250.  Whatever goes wrong on our side before that is 4xx, and the client keeps the message.
 */
#include "mail/received.h"
#include "receive/accept.h"
#include "receive/receive.h"

#include <stdio.h>
#include <string.h>

#define REPLY(c, a, b, d, words) { .code = (c), .enhanced = { (a), (b), (d) }, .text = { "" words, sizeof(words) - 1 } }
static const struct psmtp_reply not_durable = REPLY(451, 4, 3, 0, "The message could not be made durable; try again");
static const struct psmtp_reply disk_full = REPLY(452, 4, 3, 1, "Not enough space now; try again later");
static const struct psmtp_reply mail_loop = REPLY(554, 5, 4, 6, "Too many Received lines: a mail loop");
static const struct psmtp_reply too_much = REPLY(452, 4, 3, 1, "Too busy for new messages; try again later");
static const struct psmtp_reply out_of_room = REPLY(452, 4, 5, 3, "Too many recipients for one message");

static const struct role *role_of(struct session *s)
{
	return receive_worker_role(s->worker);
}

static struct view view_in(struct psmtp_view v)
{
	return view_of(v.p, v.n);
}

/* ---- recipients ---- */

static bool keep_recipient(struct session *s, const struct wire_rcpt *r)
{
	size_t before = buf_len(&s->rcpts);

	/* A submission must fit one frame with room to spare for its other fields. */
	if (before > CHANNEL_FRAME_MAX - 16 * 1024 || !wire_rcpt_add(&s->rcpts, r))
		return false;
	s->recipients++;
	return true;
}

static void refuse_rcpt(struct session *s, const struct psmtp_reply *reply, struct view to, const char *reason)
{
	s->errors++;
	EMIT(role_of(s)->events, REJECTED, F_ID("session", s->id), F_STR("client", s->client), F_STR("command", "RCPT"),
	     F_U64("code", reply->code), F_VIEW("text", view_in(reply->text)), F_STR("reason", reason), F_VIEW("to", to));
	receive_session_answer(s, reply->code / 100 == 5 ? PSMTP_NO_PERMANENT : PSMTP_NO_TEMPORARY, reply);
}

static void accept_rcpt(struct session *s, const struct wire_rcpt *r)
{
	if (keep_recipient(s, r))
		receive_session_answer(s, PSMTP_YES, NULL);
	else
		refuse_rcpt(s, &out_of_room, r->address, "recipients_full");
}

/* Copies what local is asked about, because the event's views end with the next call. */
static bool remember(struct session *s, const struct wire_rcpt *r)
{
	struct buf *b = &s->asking_text;
	struct view all;

	buf_clear(b);
	if (!buf_add(b, r->address) || !buf_add(b, r->orcpt_type) || !buf_add(b, r->orcpt))
		return false;
	all = buf_view(b);
	s->asking = (struct wire_rcpt){
		.address = view_slice(all, 0, r->address.n),
		.orcpt_type = view_slice(all, r->address.n, r->address.n + r->orcpt_type.n),
		.orcpt = view_slice(all, r->address.n + r->orcpt_type.n, all.n),
		.notify = r->notify,
	};
	return true;
}

static void ask_local(struct session *s, const struct wire_rcpt *r, const struct conf_domain *domain, struct psmtp_view local)
{
	char user[64];
	struct wire_RCPT_CHECK ask = { .domain = view_cstr(domain->title) };

	ask.user = view_of(user, psmtp_local_unquote(local, user)); /* judged before: at most 64 octets */
	ask.stream = s->check = receive_session_stream(s);
	if (!s->worker->local || !remember(s, r) || !wire_send_RCPT_CHECK(s->worker->local, &ask)) {
		s->check = 0;
		refuse_rcpt(s, &receive_accept_not_now, r->address, "local_unreachable");
		return;
	}
	s->owed = OWED_RCPT;
	s->answer_by = loop_now(s->worker->loop) + SESSION_LOCAL_MS;
}

void receive_transaction_rcpt(struct session *s, const struct psmtp_server_event *ev)
{
	const struct psmtp_rcpt *rcpt = ev->rcpt;
	const struct role *role = role_of(s);
	struct accept_judgement j;
	struct wire_rcpt r = {
		.address = view_in(rcpt->recipient.text),
		.orcpt_type = view_in(rcpt->orcpt_type),
		.orcpt = view_in(rcpt->orcpt),
		.notify = (uint8_t)rcpt->notify,
	};

	receive_accept_judge(role->conf, role->files, (const struct sockaddr *)&s->peer.sa, &rcpt->recipient, &j);
	switch (j.kind) {
	case ACCEPT_YES: accept_rcpt(s, &r); break;
	case ACCEPT_ASK_LOCAL: ask_local(s, &r, j.domain, rcpt->recipient.local); break;
	case ACCEPT_REFUSE: refuse_rcpt(s, &j.reply, r.address, j.reason); break;
	}
}

void receive_transaction_rcpt_verdict(struct session *s, uint64_t stream, unsigned verdict)
{
	if (s->owed != OWED_RCPT || s->check != stream)
		return; /* an answer that came too late */
	s->check = 0;
	if (verdict == WIRE_RCPT_YES)
		accept_rcpt(s, &s->asking);
	else if (verdict == WIRE_RCPT_NO)
		refuse_rcpt(s, &receive_accept_no_mailbox, s->asking.address, "unknown_user");
	else
		refuse_rcpt(s, &receive_accept_not_now, s->asking.address, "mailbox_unreadable");
	receive_session_run(s);
}

void receive_transaction_local_lost(struct session *s)
{
	if (s->owed != OWED_RCPT)
		return;
	s->check = 0;
	refuse_rcpt(s, &receive_accept_not_now, s->asking.address, "local_unreachable");
	receive_session_run(s);
}

/* ---- the body ---- */

static void log_refused(struct session *s, const struct psmtp_reply *reply, const char *reason)
{
	s->errors++;
	EMIT(role_of(s)->events, REJECTED, F_ID("session", s->id), F_STR("client", s->client),
	     F_STR("command", s->chunked ? "BDAT" : "DATA"), F_U64("code", reply->code), F_VIEW("text", view_in(reply->text)),
	     F_STR("reason", reason));
}

void receive_transaction_begin(struct session *s, const struct psmtp_server_event *ev)
{
	struct wire_BODY_BEGIN begin = { .size_hint = ev->mail->size };

	s->chunked = ev->chunked;
	if (s->worker->pressure >= RECEIVE_PRESSURE_REFUSE) {
		const bool sick = s->worker->pressure == WIRE_PRESSURE_SICK;

		log_refused(s, sick ? &not_durable : &too_much, sick ? "disk_failed" : "pressure");
		receive_session_answer(s, PSMTP_NO_TEMPORARY, sick ? &not_durable : &too_much);
		return;
	}
	begin.stream = s->stream = receive_session_stream(s);
	s->credit = WIRE_BODY_WINDOW;
	s->size = 0;
	s->body_lost = s->submitted = s->answered = s->stream_gone = false;
	memset(&s->scan, 0, sizeof s->scan);
	if (!s->worker->queue || !wire_send_BODY_BEGIN(s->worker->queue, &begin)) {
		s->stream = 0;
		log_refused(s, &not_durable, "queue_unreachable");
		receive_session_answer(s, PSMTP_NO_TEMPORARY, &not_durable);
		return;
	}
	s->transactions++;
	receive_session_answer(s, PSMTP_YES, NULL);
}

/* Sends what the credit covers, and takes it off *bytes. */
static void send_covered(struct session *s, struct view *bytes)
{
	while (bytes->n && s->credit > 0 && !s->body_lost) {
		size_t most = s->credit < (long)WIRE_BODY_FRAME ? (size_t)s->credit : WIRE_BODY_FRAME;
		struct wire_BODY_BYTES frame = { .stream = s->stream, .bytes = view_slice(*bytes, 0, most) };

		if (!s->worker->queue || !wire_send_BODY_BYTES(s->worker->queue, &frame))
			s->body_lost = true; /* read to its end all the same, then 451 */
		s->credit -= (long)frame.bytes.n;
		*bytes = view_slice(*bytes, frame.bytes.n, bytes->n);
	}
}

/* The session pauses when something waits for credit; until then it draws no event, so that one piece is all that waits. */
void receive_transaction_bytes(struct session *s, struct view bytes)
{
	psmtp_scan_bytes(&s->scan, bytes.p, bytes.n);
	s->size += bytes.n;
	send_covered(s, &bytes);
	if (bytes.n && !s->body_lost && !buf_add(&s->held, bytes))
		s->body_lost = true;
	s->paused = !s->body_lost && buf_len(&s->held) > 0;
}

void receive_transaction_credit(struct session *s, uint64_t stream, uint32_t bytes)
{
	struct view rest;
	size_t waited;

	if (s->stream != stream || s->submitted)
		return;
	s->credit += bytes;
	if (!s->paused)
		return;
	rest = buf_view(&s->held);
	waited = rest.n;
	send_covered(s, &rest);
	buf_take(&s->held, waited - rest.n);
	if (rest.n && !s->body_lost)
		return;
	buf_free(&s->held);
	s->paused = false;
	receive_session_run(s);
}

void receive_transaction_cut(struct session *s)
{
	if (!s->paused)
		return;
	s->body_lost = true;
	s->paused = false;
	buf_free(&s->held);
}

static bool build_received(struct session *s, const struct psmtp_server_event *ev, struct buf *out)
{
	const struct role *role = role_of(s);
	struct psmtp_server_facts f;
	struct view list = buf_view(&s->rcpts);
	struct wire_rcpt only = { 0 };
	char id[48], session[EVENT_ID_SIZE];
	struct mail_received r;

	psmtp_server_get_facts(s->smtp, &f);
	if (ev->rcpt_count == 1 && wire_rcpt_next(&list, &only) != 1)
		only.address = VIEW("");
	snprintf(id, sizeof id, "%s.%u", event_id_text(s->id, session), s->transactions);
	r = (struct mail_received){
		.hello = view_in(f.hello),
		.address = view_cstr(s->client),
		.by = view_cstr(role->conf->global.hostname),
		.with = view_in(f.with),
		.id = view_cstr(id),
		.recipient = only.address,
		.tls_protocol = view_in(f.tls_protocol),
		.tls_cipher = view_in(f.tls_cipher),
		.tls_bits = f.tls ? s->tls_bits : 0,
		.tls_verify = f.tls ? view_cstr(s->tls_verify) : VIEW(""),
		.utf8 = f.smtputf8,
		.wall_ms = env_wall_ms(role->env),
	};
	return mail_received_build(out, &r);
}

static bool submit(struct session *s, const struct psmtp_server_event *ev)
{
	const struct psmtp_mail *mail = ev->mail;
	struct buf prefix;
	bool ok;

	buf_init(&prefix, &alloc_libc, 4096);
	ok = build_received(s, ev, &prefix);
	if (ok) {
		struct wire_BODY_SUBMIT m = {
			.stream = s->stream,
			.prefix = buf_view(&prefix),
			.sender = view_in(mail->sender.text),
			.ret = (uint8_t)mail->ret,
			.envid = view_in(mail->envid),
			.flags = (s->scan.has_8bit ? WIRE_HAS_8BIT : 0) |
			         (mail->smtputf8 && (s->scan.header_8bit || mail->sender.utf8) ? WIRE_HAS_UTF8 : 0) |
			         (mail->smtputf8 ? WIRE_SMTPUTF8 : 0) |
			         (mail->body == PSMTP_BODY_BINARYMIME && (s->scan.has_nul || s->scan.has_bare) ? WIRE_BINARY : 0) |
			         (mail->requiretls ? WIRE_REQUIRETLS : 0),
			.session = s->id,
			.client = view_cstr(s->client),
			.rcpts = buf_view(&s->rcpts),
		};
		receive_coming_leave(s);
		m.coming = receive_coming_count(s->worker);
		ok = wire_send_BODY_SUBMIT(s->worker->queue, &m);
	}
	buf_free(&prefix);
	return ok;
}

void receive_transaction_end(struct session *s, const struct psmtp_server_event *ev)
{
	if (s->answered) { /* LMTP: the same answer for each recipient (RFC 2033 4.2) */
		receive_session_answer(s, s->answer.kind, s->answer.reply.code ? &s->answer.reply : NULL);
		return;
	}
	if (s->body_lost || !s->worker->queue || !submit(s, ev)) {
		s->answered = true;
		s->answer = (struct psmtp_verdict){ .kind = PSMTP_NO_TEMPORARY, .reply = not_durable };
		log_refused(s, &not_durable, "queue_unreachable");
		receive_session_answer(s, PSMTP_NO_TEMPORARY, &not_durable);
		return;
	}
	s->submitted = true;
	s->owed = OWED_BODY;
	s->answer_by = loop_now(s->worker->loop) + SESSION_QUEUE_MS;
}

static void settle(struct session *s, enum psmtp_verdict_kind kind, const struct psmtp_reply *reply)
{
	s->answered = true;
	s->answer = (struct psmtp_verdict){ .kind = kind, .reply = *reply };
	receive_session_answer(s, kind, reply);
	receive_coming_heard(s);
	receive_session_run(s);
}

void receive_transaction_done(struct session *s, const struct wire_BODY_DONE *done)
{
	struct psmtp_reply ok = REPLY(250, 2, 0, 0, "");
	char id[EVENT_ID_SIZE];

	if (s->stream != done->stream || s->owed != OWED_BODY)
		return; /* the client has left, or was told 451 after a long wait */
	switch (done->status) {
	case WIRE_DONE_OK:
		s->accepted++;
		snprintf(s->answer_text, sizeof s->answer_text, "Accepted as %s", event_id_text(done->id, id));
		ok.text = (struct psmtp_view){ s->answer_text, strlen(s->answer_text) };
		settle(s, PSMTP_YES, &ok);
		break;
	case WIRE_DONE_LOOP:
		log_refused(s, &mail_loop, "mail_loop");
		settle(s, PSMTP_NO_PERMANENT, &mail_loop);
		break;
	case WIRE_DONE_FULL:
		log_refused(s, &disk_full, "disk_full");
		settle(s, PSMTP_NO_TEMPORARY, &disk_full);
		break;
	default:
		log_refused(s, &not_durable, "not_durable");
		settle(s, PSMTP_NO_TEMPORARY, &not_durable);
		break;
	}
}

void receive_transaction_queue_lost(struct session *s)
{
	if (s->stream == 0)
		return;
	s->stream_gone = true;
	if (s->paused) {
		receive_transaction_cut(s);
		receive_session_run(s);
		return;
	}
	s->body_lost = true;
	if (s->owed == OWED_BODY) {
		log_refused(s, &not_durable, "queue_unreachable");
		settle(s, PSMTP_NO_TEMPORARY, &not_durable);
	}
}

void receive_transaction_late(struct session *s)
{
	if (s->owed == OWED_RCPT) {
		s->check = 0;
		refuse_rcpt(s, &receive_accept_not_now, s->asking.address, "local_slow");
	} else if (s->owed == OWED_BODY) {
		s->answered = true;
		s->answer = (struct psmtp_verdict){ .kind = PSMTP_NO_TEMPORARY, .reply = not_durable };
		log_refused(s, &not_durable, "queue_slow");
		receive_session_answer(s, PSMTP_NO_TEMPORARY, &not_durable);
	}
}

void receive_transaction_reset(struct session *s)
{
	struct wire_BODY_ABORT m = { .stream = s->stream };

	/* After BODY_SUBMIT the message belongs to `queue`: an abort would race with its commit.  A queue that was started
	 * anew does not know the stream, and ends the channel of whoever speaks of it. */
	if (s->stream && !s->submitted && !s->stream_gone && s->worker->queue)
		wire_send_BODY_ABORT(s->worker->queue, &m);
	s->stream = s->check = 0;
	s->submitted = s->answered = s->body_lost = s->paused = s->stream_gone = false;
	buf_free(&s->held);
	buf_free(&s->rcpts);
	buf_free(&s->asking_text);
}
