/* session.c - one SMTP session: a connection wired to the protocol machine; see receive.h.
 *
 * Bytes go from conn to psmtp_server_feed, events come back in receive_session_run, which alone decides nothing about the
 * protocol: it answers verdicts from configuration, `local` and `queue`.  While an answer is owed by another role the
 * machine reads nothing further, so replies keep their order.
 */
#include "receive/receive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct psmtp_reply too_many = { .code = 421, .enhanced = { 4, 7, 0 }, .text = { "Too many sessions; try again later", 34 }, .close = true };
static const struct psmtp_reply too_busy = { .code = 421, .enhanced = { 4, 3, 2 }, .text = { "Too busy now; try again later", 29 }, .close = true };
static const struct psmtp_reply too_early = { .code = 554, .enhanced = { 5, 5, 1 }, .text = { "You spoke before the greeting", 29 }, .close = true };
static const struct psmtp_reply stopping = { .code = 421, .enhanced = { 4, 3, 2 }, .text = { "Shutting down; try again soon", 29 }, .close = true };

static struct events *log_of(struct session *s)
{
	return receive_worker_role(s->worker)->events;
}

static struct view view_in(struct psmtp_view v)
{
	return view_of(v.p, v.n);
}

static uint64_t now_of(struct session *s)
{
	return loop_now(s->worker->loop);
}

uint64_t receive_session_stream(struct session *s)
{
	return ++s->worker->streams << SESSION_PLACE_BITS | s->place;
}

struct session *receive_session_of_stream(struct worker *w, uint64_t stream)
{
	uint64_t place = stream & ((1u << SESSION_PLACE_BITS) - 1);

	return place < w->place_count ? w->places[place] : NULL;
}

/* ---- the connection's callbacks ---- */

static size_t on_input(void *arg, unsigned epoch, const void *bytes, size_t n)
{
	struct session *s = arg;

	if (s->owed == OWED_GREETING) { /* a client that talks first is no mail server (RFC 5321 4.3.1) */
		s->early = true;
		return 0;
	}
	if (s->paused)
		return 0;
	if (s->stream == 0) /* in the middle of a body that takes long nobody waits for its end */
		receive_coming_heard(s);
	return psmtp_server_feed(s->smtp, epoch, bytes, n, now_of(s));
}

static void on_input_done(void *arg)
{
	receive_session_run(arg);
}

static struct view on_output(void *arg)
{
	struct session *s = arg;

	return view_in(psmtp_server_output(s->smtp));
}

static void on_sent(void *arg, size_t n)
{
	struct session *s = arg;

	psmtp_server_sent(s->smtp, n, now_of(s));
}

static void on_drained(void *arg)
{
	struct session *s = arg;

	if (s->closing)
		return;
	if (s->backlog)
		receive_session_run(s);
	else if (s->owed == OWED_NOTHING)
		psmtp_server_idle(s->smtp);
}

static void on_peer_closed(void *arg)
{
	struct session *s = arg;

	psmtp_server_peer_closed(s->smtp, now_of(s));
	if (s->owed == OWED_GREETING) { /* it did not wait, and has said nothing that wants an answer */
		s->reason = "peer_closed";
		receive_session_free(s);
		return;
	}
	/* It may have ended its own side alone: what it said before is answered, so that it learns of its message and does
	 * not send it twice. */
	receive_session_run(s);
}

/* "no certificate", or "client certificate CN=mx.example.org verified" as Received and log tell it. */
static void say_client(struct session *s, const struct tls_facts *f)
{
	if (f->fault == TLS_FAULT_NO_CERTIFICATE)
		snprintf(s->tls_verify, sizeof s->tls_verify, "%.*s", VIEW_ARGS(f->verify));
	else
		snprintf(s->tls_verify, sizeof s->tls_verify, "client certificate %.*s %s%.*s", VIEW_ARGS(f->peer_name),
			 f->verified ? "" : "not verified: ", VIEW_ARGS(f->verify));
}

static void on_tls_up(void *arg, const struct tls_facts *f)
{
	struct session *s = arg;
	struct psmtp_tls_facts facts = { .protocol = { f->protocol.p, f->protocol.n }, .cipher = { f->cipher.p, f->cipher.n } };

	s->tls_bits = f->bits;
	s->tls_resumed = f->resumed;
	snprintf(s->tls_protocol, sizeof s->tls_protocol, "%.*s", VIEW_ARGS(f->protocol));
	snprintf(s->tls_cipher, sizeof s->tls_cipher, "%.*s", VIEW_ARGS(f->cipher));
	s->hello[0] = 0; /* said in clear: it counts for nothing any more */
	say_client(s, f);
	psmtp_server_tls_up(s->smtp, &facts, now_of(s));
	receive_coming_heard(s);
	receive_session_run(s);
}

static void on_tls_failed(void *arg, const char *why)
{
	struct session *s = arg;

	EMIT(log_of(s), TLS_FAILED, F_ID("session", s->id), F_STR("client", s->client), F_STR("reason", why));
	psmtp_server_tls_failed(s->smtp, now_of(s));
	receive_session_run(s);
}

static void on_failed(void *arg, const struct error *e)
{
	struct session *s = arg;

	EMIT(log_of(s), SESSION_FAILED, F_ID("session", s->id), F_STR("client", s->client), F_STR("reason", e->text));
	s->reason = "connection_failed";
	if (s->running)
		s->failed = true;
	else
		receive_session_free(s);
}

static void on_closed(void *arg)
{
	receive_session_free(arg);
}

static const struct conn_ops conn_ops = {
	.input = on_input, .input_done = on_input_done, .output = on_output, .sent = on_sent, .drained = on_drained,
	.peer_closed = on_peer_closed, .tls_up = on_tls_up, .tls_failed = on_tls_failed, .failed = on_failed, .closed = on_closed,
};

/* ---- time ---- */

static void set_timer(struct session *s)
{
	uint64_t at = psmtp_server_deadline(s->smtp);

	if (s->owed != OWED_NOTHING && s->answer_by < at)
		at = s->answer_by;
	if (s->closing || at == UINT64_MAX)
		loop_timer_stop(&s->timer);
	else
		loop_timer_set(&s->timer, at);
}

static void on_timer(void *arg)
{
	struct session *s = arg;
	uint64_t now = now_of(s);

	if (s->owed == OWED_GREETING && now >= s->answer_by)
		receive_session_answer(s, PSMTP_YES, NULL);
	else if (s->owed != OWED_NOTHING && now >= s->answer_by)
		receive_transaction_late(s);
	else if (now >= psmtp_server_deadline(s->smtp)) {
		psmtp_server_timeout(s->smtp, now);
		receive_transaction_cut(s);
	}
	receive_session_run(s);
}

/* ---- events of the protocol ---- */

void receive_session_answer(struct session *s, enum psmtp_verdict_kind kind, const struct psmtp_reply *reply)
{
	struct psmtp_verdict v = { .kind = kind };

	if (reply)
		v.reply = *reply;
	s->owed = OWED_NOTHING;
	if (psmtp_server_answer(s->smtp, &v, now_of(s)) == -1)
		EMIT(log_of(s), FAULT, F_STR("where", "receive_session_answer"), F_STR("reason", "no verdict was owed"));
}

static void log_rejected(struct session *s, const struct psmtp_server_event *ev)
{
	s->errors++;
	EMIT(log_of(s), REJECTED, F_ID("session", s->id), F_STR("client", s->client), F_VIEW("command", view_in(ev->command)),
	     F_U64("code", ev->reply.code), F_VIEW("text", view_in(ev->reply.text)), F_STR("reason", ev->reason));
}

/* Counts the session against its limits; the reply when one is passed. */
static const struct psmtp_reply *admit(struct session *s)
{
	struct worker *w = s->worker;
	struct receive *room = w->room;
	unsigned here = atomic_fetch_add(&room->sessions[s->listener_index], 1), all = atomic_fetch_add(&room->all_sessions, 1);

	s->counted = true;
	if (here >= s->listener->set.sessions || all >= room->most_sessions)
		return &too_many;
	s->in_peers = peers_enter(room->peers, (const struct sockaddr *)&s->peer.sa,
	                          s->trusted ? 0 : s->listener->set.sessions_per_address);
	if (!s->in_peers)
		return &too_many;
	/* a failed disk says 451 to each message */
	return w->pressure >= RECEIVE_PRESSURE_REFUSE && w->pressure != WIRE_PRESSURE_SICK ? &too_busy : NULL;
}

static void on_connect(struct session *s)
{
	if (s->refusal) {
		receive_session_answer(s, PSMTP_NO_TEMPORARY, s->refusal);
		return;
	}
	if (s->listener->set.greeting_delay == 0) {
		receive_session_answer(s, PSMTP_YES, NULL);
		return;
	}
	s->owed = OWED_GREETING;
	s->answer_by = now_of(s) + s->listener->set.greeting_delay;
}

static void on_starttls(struct session *s)
{
	struct worker *w = s->worker;

	if (!w->tls[s->listener_index] || !tls_server_works(w->tls[s->listener_index]) || (!receive_worker_role(w)->single && !signer_is_open(&w->keys))) {
		receive_session_answer(s, PSMTP_NO_TEMPORARY, NULL); /* 454 4.7.0 */
		return;
	}
	/* What the client sent behind STARTTLS may wait in the kernel: look once more, so that it is found here and
	 * not taken for the first bytes inside TLS (RFC 3207 4.2, design.md section 2). */
	conn_read_once(&s->conn);
	receive_session_answer(s, PSMTP_YES, NULL);
}

static void start_tls(struct session *s)
{
	if (conn_start_tls(&s->conn, s->worker->tls[s->listener_index], true, NULL) == -1) {
		/* octets in clear were left over: they are never read as TLS, and the session is not trusted further */
		psmtp_server_tls_failed(s->smtp, now_of(s));
		s->reason = "starttls_pending";
	}
}

static void close_session(struct session *s, const struct psmtp_server_event *ev)
{
	if (!s->reason)
		s->reason = ev->reason;
	s->closing = true;
	receive_coming_leave(s);
	receive_transaction_reset(s);
	loop_timer_stop(&s->timer);
	if (s->refusal) /* for want of a place: it may not hold a descriptor */
		conn_close_now(&s->conn);
	else
		conn_close(&s->conn);
}

static void handle(struct session *s, const struct psmtp_server_event *ev)
{
	switch (ev->type) {
	case PSMTP_SERVER_CONNECT: on_connect(s); break;
	case PSMTP_SERVER_HELLO:
		snprintf(s->hello, sizeof s->hello, "%.*s", VIEW_ARGS(view_in(ev->hello)));
		receive_session_answer(s, PSMTP_YES, NULL);
		break;
	case PSMTP_SERVER_STARTTLS: on_starttls(s); break;
	case PSMTP_SERVER_AUTH: /* not offered: no listener says mechanisms, so the table answers before us */
	case PSMTP_SERVER_AUTH_DATA: receive_session_answer(s, PSMTP_NO_TEMPORARY, NULL); break;
	case PSMTP_SERVER_MAIL:
		receive_transaction_reset(s); /* what a finished transaction left */
		receive_session_answer(s, PSMTP_YES, NULL);
		break;
	case PSMTP_SERVER_RCPT: receive_transaction_rcpt(s, ev); break;
	case PSMTP_SERVER_BODY_BEGIN: receive_transaction_begin(s, ev); break;
	case PSMTP_SERVER_BODY: receive_transaction_bytes(s, view_in(ev->body)); break;
	case PSMTP_SERVER_BODY_END: receive_transaction_end(s, ev); break;
	case PSMTP_SERVER_TLS_START: start_tls(s); break;
	case PSMTP_SERVER_RESET: receive_transaction_reset(s); break;
	case PSMTP_SERVER_REJECTED: log_rejected(s, ev); break;
	case PSMTP_SERVER_CLOSE: close_session(s, ev); break;
	}
}

void receive_session_run(struct session *s)
{
	struct psmtp_server_event ev;

	if (s->running || s->closing)
		return; /* conn_read_once shows bytes to input from inside an event: the outer run goes on with them */
	if (s->early && s->owed == OWED_GREETING)
		receive_session_answer(s, PSMTP_NO_PERMANENT, &too_early);
	s->running = true;
	while (!s->closing && !s->failed && !s->paused && psmtp_server_next(s->smtp, &ev, now_of(s)))
		handle(s, &ev);
	s->running = false;
	if (s->failed) {
		receive_session_free(s);
		return;
	}
	set_timer(s);
	if (s->closing)
		return;
	/* The machine may have stopped because the peer does not read: on_drained goes on.  To resume before that would show
	 * the same octets again and again. */
	s->backlog = psmtp_server_output(s->smtp).n >= SESSION_BACKLOG;
	if (s->owed == OWED_NOTHING && !s->paused && !s->backlog)
		conn_resume(&s->conn);
	conn_pump(&s->conn);
}

/* ---- begin and end ---- */

static enum psmtp_tls_offer offer_of(struct session *s)
{
	struct worker *w = s->worker;
	bool works = w->tls[s->listener_index] && tls_server_works(w->tls[s->listener_index]);

	if (s->listener->certificate_count == 0)
		return PSMTP_TLS_NONE;
	switch ((enum conf_listener_tls)s->listener->set.tls) {
	case CONF_LISTENER_STARTTLS: return works ? PSMTP_TLS_STARTTLS : PSMTP_TLS_BROKEN;
	case CONF_LISTENER_REQUIRED: return PSMTP_TLS_REQUIRED; /* a broken key then answers 454: never clear text */
	case CONF_LISTENER_IMPLICIT: return PSMTP_TLS_IMPLICIT;
	case CONF_LISTENER_NONE: break;
	}
	return PSMTP_TLS_NONE;
}

static struct psmtp_server *make_machine(struct session *s)
{
	const struct conf *conf = receive_worker_role(s->worker)->conf;
	const struct conf_listener_set *set = &s->listener->set;
	const struct psmtp_allocator memory = { alloc_libc.resize, alloc_libc.arg };
	struct view host = view_cstr(conf->global.hostname);
	struct psmtp_server_options o = {
		.hostname = { host.p, host.n },
		.software = { "ESMTP Postrider", 15 },
		.lmtp = set->lmtp,
		.tls = offer_of(s),
		.switches = (set->starttls_pending == CONF_PENDING_DISCARD ? PSMTP_SWITCH_STARTTLS_DISCARD : 0) |
		            (set->ehlo_after_tls == CONF_EHLO_OPTIONAL ? PSMTP_SWITCH_EHLO_AFTER_TLS_OPTIONAL : 0),
		.bare = set->bare_newlines == CONF_BARE_NORMALISE ? PSMTP_BARE_NORMALISE : PSMTP_BARE_REJECT,
		.binarymime = set->binarymime,
		.requiretls = true, /* the queue keeps it, send obeys it */
		.size_limit = conf->global.message_size_limit,
		.rcpt_limit = (uint32_t)set->recipients,
		.mail_limit = (uint32_t)set->messages,
		.error_limit = (uint32_t)set->errors,
		.idle_limit = (uint32_t)set->idle_commands,
		.command_ms = (uint32_t)set->command_timeout,
		.handshake_ms = (uint32_t)set->handshake_timeout,
		.data_ms = (uint32_t)set->data_timeout,
		.data_min_rate = (uint32_t)set->data_min_rate,
	};

	return psmtp_server_new(&o, &memory, now_of(s));
}

static bool take_place(struct worker *w, struct session *s)
{
	if (w->place_free == 0)
		return false;
	s->place = w->free_places[--w->place_free];
	w->places[s->place] = s;
	w->sessions++;
	w->sessions_most = w->sessions > w->sessions_most ? w->sessions : w->sessions_most;
	return true;
}

/* TLS comes first, and nothing can be said outside it: whoever is refused is left without a word. */
static void open_implicit(struct session *s)
{
	if (s->refusal)
		s->reason = s->refusal == &too_busy ? "too_busy" : "too_many_sessions";
	if (s->refusal || !s->worker->tls[s->listener_index])
		psmtp_server_tls_failed(s->smtp, now_of(s));
	else
		start_tls(s);
}

void receive_session_open(struct worker *w, uint32_t listener, int fd, const struct address *peer)
{
	const struct role *role = receive_worker_role(w);
	struct session *s = calloc(1, sizeof *s);
	struct error e = { 0 };

	if (!s || !take_place(w, s)) {
		free(s);
		close(fd);
		return;
	}
	s->worker = w;
	s->listener_index = listener;
	s->listener = &role->conf->listeners[listener];
	s->peer = *peer;
	s->owed = OWED_NOTHING;
	s->opened = loop_now(w->loop);
	s->id = env_random_u64(role->env);
	s->trusted = conf_may_relay(role->conf, (const struct sockaddr *)&peer->sa);
	address_host((const struct sockaddr *)&s->peer.sa, s->client);
	buf_init(&s->rcpts, &alloc_libc, CHANNEL_FRAME_MAX);
	buf_init(&s->asking_text, &alloc_libc, 2048);
	buf_init(&s->held, &alloc_libc, SESSION_HELD_MAX);
	loop_timer_init(&s->timer, w->loop, on_timer, s);
	conn_init(&s->conn, w->loop, &alloc_libc, &conn_ops, s);
	if (conn_open(&s->conn, fd, &e) == -1) {
		s->reason = "open_failed";
		receive_session_free(s);
		return;
	}
	s->smtp = make_machine(s);
	if (!s->smtp) {
		s->reason = "memory";
		receive_session_free(s);
		return;
	}
	EMIT(role->events, SESSION_START, F_ID("session", s->id), F_STR("client", s->client), F_STR("listener", s->listener->title));
	s->refusal = admit(s); /* before the handshake: whoever stops in the middle of it holds a place too */
	receive_coming_heard(s);
	if (s->listener->set.tls == CONF_LISTENER_IMPLICIT)
		open_implicit(s);
	receive_session_run(s);
}

void receive_session_shutdown(struct session *s)
{
	if (s->closing)
		return;
	psmtp_server_shutdown(s->smtp, &stopping, now_of(s));
	receive_session_run(s);
}

static void log_end(struct session *s)
{
	EMIT(log_of(s), SESSION_END, F_ID("session", s->id), F_STR("client", s->client), F_STR("listener", s->listener->title),
	     F_STR("hello", s->hello), F_STR("tls", s->tls_protocol), F_STR("cipher", s->tls_cipher),
	     F_STR("client_certificate", s->tls_verify), F_STR("resumed", s->tls_resumed ? "yes" : ""),
	     F_U64("messages", s->accepted), F_U64("recipients", s->recipients), F_U64("errors", s->errors),
	     F_U64("bytes_in", s->conn.bytes_in), F_U64("bytes_out", s->conn.bytes_out), F_U64("ms", now_of(s) - s->opened),
	     F_STR("reason", s->reason ? s->reason : "closed"));
}

void receive_session_free(struct session *s)
{
	struct worker *w = s->worker;

	receive_coming_leave(s);
	receive_transaction_reset(s);
	log_end(s);
	if (s->in_peers)
		peers_leave(w->room->peers, (const struct sockaddr *)&s->peer.sa);
	if (s->counted) {
		atomic_fetch_sub(&w->room->sessions[s->listener_index], 1);
		atomic_fetch_sub(&w->room->all_sessions, 1);
	}
	loop_timer_stop(&s->timer);
	conn_free(&s->conn);
	psmtp_server_free(s->smtp);
	buf_free(&s->rcpts);
	buf_free(&s->asking_text);
	buf_free(&s->held);
	w->places[s->place] = NULL;
	w->free_places[w->place_free++] = s->place;
	w->sessions--;
	free(s);
	receive_worker_session_gone(w);
}
