/* server.c - the server's public calls: bytes in, events out, verdicts in, bytes out.
 *
 * Nothing is decided here: each call turns into an event for the driver (server_step.c) or moves bytes.  A session is
 * one allocation, with the options' strings behind it, plus two buffers and an arena that idle sessions give back.
 * Calls out of turn return -1 (or do nothing) and change nothing.
 */
#include "smtp/server_state.h"

#define DEFAULT_SIZE (50u * 1024 * 1024)
#define DEFAULT_RCPTS 1000u   /* RFC 5321 4.5.3.1.8 asks for at least 100; lists send more */
#define DEFAULT_ERRORS 20u    /* an honest client makes two or three */
#define DEFAULT_IDLE 100u      /* a message takes two, its session some ten more; who only asks about recipients opens another session */
#define DEFAULT_COMMAND_MS 300000u   /* RFC 5321 4.5.3.2.7 */
#define DEFAULT_HANDSHAKE_MS 60000u  /* two round trips and a slow machine */
#define DEFAULT_DATA_MS 600000u      /* RFC 5321 4.5.3.2.6 */
#define DEFAULT_DATA_RATE 512u       /* octets a second: a modem of 1990 */
#define OPTION_TEXT_MAX 255u         /* hostname, software: a greeting must fit a line */
#define MECHANISMS_MAX 400u          /* the AUTH line of EHLO must fit one of 512 (RFC 5321 4.5.3.1.5) */
#define CHALLENGE_MAX 9000u          /* in base64 it fits a line of 12,288 (RFC 4954 section 4) */

static char *place(char *at, struct psmtp_view *v)
{
	if (v->n)
		memcpy(at, v->p, v->n);
	v->p = at;
	return at + v->n;
}

static void fill_defaults(struct psmtp_server_options *o)
{
	if (!o->tls)
		o->tls = PSMTP_TLS_NONE;
	if (!o->bare)
		o->bare = PSMTP_BARE_REJECT;
	if (!o->software.n)
		o->software = (struct psmtp_view){ o->lmtp ? "LMTP" : "ESMTP", o->lmtp ? 4 : 5 };
	if (!o->size_limit)
		o->size_limit = DEFAULT_SIZE;
	if (!o->rcpt_limit)
		o->rcpt_limit = DEFAULT_RCPTS;
	if (!o->error_limit)
		o->error_limit = DEFAULT_ERRORS;
	if (!o->idle_limit)
		o->idle_limit = DEFAULT_IDLE;
	if (!o->command_ms)
		o->command_ms = DEFAULT_COMMAND_MS;
	if (!o->handshake_ms)
		o->handshake_ms = DEFAULT_HANDSHAKE_MS;
	if (!o->data_ms)
		o->data_ms = DEFAULT_DATA_MS;
	if (!o->data_min_rate)
		o->data_min_rate = DEFAULT_DATA_RATE;
}

struct psmtp_server *psmtp_server_new(const struct psmtp_server_options *options, const struct psmtp_allocator *memory,
	uint64_t now)
{
	struct psmtp_server_options o = *options;
	struct psmtp_server *s;
	char *at;

	fill_defaults(&o);
	if (!o.hostname.n || o.hostname.n > OPTION_TEXT_MAX || o.software.n > OPTION_TEXT_MAX || o.auth.n > MECHANISMS_MAX)
		return NULL;
	s = memory->resize(memory->arg, NULL, sizeof *s + o.hostname.n + o.software.n + o.auth.n);
	if (!s)
		return NULL;
	*s = (struct psmtp_server){ .epoch_number = 1, .phase = PHASE_START, .options = o, .memory = *memory };
	s->alloc = (struct alloc){ memory->resize, memory->arg };
	at = (char *)(s + 1);
	at = place(at, &s->options.hostname);
	at = place(at, &s->options.software);
	place(at, &s->options.auth);
	buf_init(&s->epoch.in, &s->alloc, SERVER_INPUT_MAX);
	buf_init(&s->epoch.out, &s->alloc, SERVER_OUTPUT_MAX);
	arena_init(&server_tx_of(s)->arena, &s->alloc, SERVER_ARENA_MAX);
	arena_init(&server_command_of(s)->arena, &s->alloc, SERVER_ARENA_MAX);
	server_event(s, EVENT_OPEN, now);
	return s;
}

void psmtp_server_free(struct psmtp_server *s)
{
	if (!s)
		return;
	s->queued = 0; /* the end of the transaction may say RESET, and nobody will ask */
	server_end(s, LIFE_CONNECTION);
	buf_free(&s->epoch.out);
	s->memory.resize(s->memory.arg, s, 0);
}

/* The octets shown by the last BODY event leave the input now that its view has died. */
static void release_given(struct psmtp_server *s)
{
	buf_take(&s->epoch.in, s->epoch.given);
	s->epoch.given = 0;
}

size_t psmtp_server_feed(struct psmtp_server *s, unsigned epoch, const void *bytes, size_t n, uint64_t now)
{
	struct buf *in = &s->epoch.in;
	size_t room, take;

	if (s->phase == PHASE_CLOSED || s->eof || n == 0)
		return n; /* dropped: nothing that comes now is ever looked at */
	if (epoch != s->epoch_number || s->phase == PHASE_HANDSHAKE) { /* RFC 3207 4.2: nothing crosses the boundary */
		server_event(s, EVENT_WRONG_EPOCH, now);
		return n;
	}
	/* While a verdict is owed the command's views point into the input, which must not move; only STARTTLS has
	 * none, and its verdict depends on what is pending. */
	if (server_phase_owes(s->phase) && s->phase != PHASE_JUDGE_TLS)
		return 0;
	release_given(s);
	room = SERVER_INPUT_MAX - buf_len(in);
	take = n < room ? n : room;
	if (take && !buf_add(in, view_of(bytes, take))) {
		server_event(s, EVENT_NO_MEMORY, now);
		return n;
	}
	return take;
}

void psmtp_server_peer_closed(struct psmtp_server *s, uint64_t now)
{
	(void)now;
	s->eof = true; /* acted upon by psmtp_server_next, behind what the peer said before */
}

/* One unit of work on the input.  False when nothing can be done until bytes, room or a verdict come. */
static bool work(struct psmtp_server *s, struct psmtp_server_event *event, bool *has_event, uint64_t now)
{
	bool line = s->phase == PHASE_COMMAND || s->phase == PHASE_AUTH_REPLY;
	bool done = false;

	if (s->shutdown && (line || s->phase == PHASE_HANDSHAKE)) {
		server_event(s, EVENT_SHUTDOWN, now);
		return true;
	}
	if (line && buf_len(&s->epoch.out) >= SERVER_OUTPUT_HIGH)
		return false; /* the peer sends without reading: its replies first */
	if (s->phase == PHASE_COMMAND)
		done = server_command_read(s, now);
	else if (s->phase == PHASE_AUTH_REPLY)
		done = server_auth_read(s, now);
	else if (s->phase == PHASE_DATA || s->phase == PHASE_CHUNK || s->phase == PHASE_SKIP)
		done = server_body_read(s, event, has_event, now);
	if (!done && s->eof && server_events[EVENT_PEER_CLOSED].phases & 1u << s->phase) {
		server_event(s, EVENT_PEER_CLOSED, now);
		done = true;
	}
	return done;
}

/* The mail struct goes with every event of a transaction. */
static void fill_transaction(struct psmtp_server *s, struct psmtp_server_event *e)
{
	struct server_transaction *tx = server_tx_of(s);

	e->mail = &tx->mail;
	e->rcpt_count = tx->rcpts;
	if (e->type == PSMTP_SERVER_RCPT) {
		e->rcpt = &tx->command.rcpt;
		e->rcpt_index = tx->rcpts;
	} else if (e->type == PSMTP_SERVER_BODY_BEGIN) {
		e->chunked = s->phase == PHASE_JUDGE_CHUNK;
	} else if (e->type == PSMTP_SERVER_BODY_END) {
		e->rcpt_index = tx->judged;
		e->body_size = tx->body.size;
		e->chunked = tx->chunked;
	}
}

static void fill_event(struct psmtp_server *s, const struct server_pending *p, struct psmtp_server_event *e)
{
	struct server_command *c = server_command_of(s);

	e->type = p->type;
	e->reply = p->reply;
	e->reason = p->reason;
	switch (p->type) {
	case PSMTP_SERVER_HELLO:
		e->hello = smtp_public(c->hello);
		e->hello_kind = c->hello_kind;
		break;
	case PSMTP_SERVER_AUTH:
		e->auth_mechanism = smtp_public(c->mechanism);
		e->auth_data = smtp_public(c->data);
		e->auth_has_data = c->has_data;
		break;
	case PSMTP_SERVER_AUTH_DATA:
		e->auth_data = smtp_public(c->data);
		e->auth_has_data = true;
		break;
	case PSMTP_SERVER_MAIL:
	case PSMTP_SERVER_RCPT:
	case PSMTP_SERVER_BODY_BEGIN:
	case PSMTP_SERVER_BODY_END:
		fill_transaction(s, e);
		break;
	case PSMTP_SERVER_REJECTED:
		e->command = (struct psmtp_view){ s->word, strlen(s->word) };
		break;
	default:
		break;
	}
}

bool psmtp_server_next(struct psmtp_server *s, struct psmtp_server_event *e, uint64_t now)
{
	bool has_event = false;

	*e = (struct psmtp_server_event){ 0 };
	if (!server_phase_owes(s->phase))
		release_given(s);
	for (;;) {
		if (s->queued) {
			struct server_pending p = s->queue[0];

			memmove(s->queue, s->queue + 1, --s->queued * sizeof s->queue[0]);
			fill_event(s, &p, e);
			s->asking = p.type <= PSMTP_SERVER_BODY_END;
			return true;
		}
		if (!work(s, e, &has_event, now))
			return false;
		if (has_event)
			return true;
	}
}

/* A code of the caller's own must say what the verdict says (RFC 5321 4.2.1); where the protocol hangs on the very
 * code (220 to STARTTLS, 354, 235, 334) it must be that one. */
static bool code_fits(const struct psmtp_server *s, const struct psmtp_verdict *v)
{
	int code = v->reply.code;

	if (v->kind == PSMTP_YES && v->reply.close)
		return false;
	if (code == 0)
		return true;
	switch (v->kind) {
	case PSMTP_YES:
		if (s->phase == PHASE_JUDGE_GREET || s->phase == PHASE_JUDGE_TLS)
			return code == 220;
		if (s->phase == PHASE_JUDGE_DATA || s->phase == PHASE_JUDGE_CHUNK)
			return code == 354;
		if (s->phase == PHASE_JUDGE_AUTH)
			return code == 235;
		return code >= 250 && code <= 259;
	case PSMTP_NO_TEMPORARY:
		return code >= 400 && code <= 499;
	case PSMTP_NO_PERMANENT:
		return code >= 500 && code <= 599;
	case PSMTP_CHALLENGE:
		return false;
	}
	return false;
}

/* Who was authenticated is copied before the row is chosen, so that a want of memory is a fact the table answers. */
static void keep_identity(struct psmtp_server *s, struct psmtp_view who)
{
	struct server_command *c = server_command_of(s);

	c->identity = alloc_get(&s->alloc, who.n ? who.n : 1);
	c->identity_len = who.n;
	if (!c->identity)
		c->faults |= SERVER_FACT(NOMEM);
	else if (who.n)
		memcpy(c->identity, who.p, who.n);
}

int psmtp_server_answer(struct psmtp_server *s, const struct psmtp_verdict *v, uint64_t now)
{
	static const enum server_event events[] = {
		[PSMTP_YES] = EVENT_YES, [PSMTP_NO_TEMPORARY] = EVENT_TEMPORARY,
		[PSMTP_NO_PERMANENT] = EVENT_PERMANENT, [PSMTP_CHALLENGE] = EVENT_CHALLENGE,
	};
	struct server_input in = { .verdict = v };

	if (!s->asking || !server_phase_owes(s->phase) || v->kind < PSMTP_YES || v->kind > PSMTP_CHALLENGE || !code_fits(s, v))
		return -1;
	if (v->kind == PSMTP_CHALLENGE && (s->phase != PHASE_JUDGE_AUTH || v->challenge.n > CHALLENGE_MAX))
		return -1;
	if (v->kind == PSMTP_YES && s->phase == PHASE_JUDGE_AUTH)
		keep_identity(s, v->identity);
	s->asking = false;
	in.event = events[v->kind];
	server_step(s, &in, now);
	return 0;
}

int psmtp_server_tls_up(struct psmtp_server *s, const struct psmtp_tls_facts *facts, uint64_t now)
{
	static const struct psmtp_tls_facts unknown = { { "TLS", 3 }, { "", 0 } };
	struct server_input in = { .event = EVENT_TLS_UP, .tls = facts ? facts : &unknown };

	/* Output that was queued in clear must have left in clear: a half-sent buffer never crosses the boundary. */
	if (s->phase != PHASE_HANDSHAKE || s->queued || buf_len(&s->epoch.out))
		return -1;
	server_step(s, &in, now);
	return 0;
}

int psmtp_server_tls_failed(struct psmtp_server *s, uint64_t now)
{
	if (s->phase != PHASE_HANDSHAKE)
		return -1;
	server_event(s, EVENT_TLS_FAILED, now);
	return 0;
}

struct psmtp_view psmtp_server_output(const struct psmtp_server *s)
{
	return smtp_public(buf_view(&s->epoch.out));
}

void psmtp_server_sent(struct psmtp_server *s, size_t n, uint64_t now)
{
	(void)now;
	buf_take(&s->epoch.out, n < buf_len(&s->epoch.out) ? n : buf_len(&s->epoch.out));
}

uint64_t psmtp_server_deadline(const struct psmtp_server *s)
{
	return s->deadline;
}

void psmtp_server_timeout(struct psmtp_server *s, uint64_t now)
{
	if (now >= s->deadline && server_events[EVENT_TIMEOUT].phases & 1u << s->phase)
		server_event(s, EVENT_TIMEOUT, now);
}

void psmtp_server_shutdown(struct psmtp_server *s, const struct psmtp_reply *reply, uint64_t now)
{
	(void)now;
	s->shutdown = true; /* acted upon by psmtp_server_next */
	if (reply && reply->code == 421) {
		size_t n = reply->text.n < sizeof s->shutdown_text ? reply->text.n : sizeof s->shutdown_text;

		memcpy(s->shutdown_text, reply->text.n ? reply->text.p : "", n);
		s->shutdown_reply = *reply;
		s->shutdown_reply.text = (struct psmtp_view){ s->shutdown_text, n };
	}
}

void psmtp_server_idle(struct psmtp_server *s)
{
	if (!server_phase_owes(s->phase))
		release_given(s);
	buf_release(&s->epoch.in);
	buf_release(&s->epoch.out);
	if (server_phase_owes(s->phase))
		return; /* what was asked about must stay */
	arena_free(&server_command_of(s)->arena);
	if (!server_tx_of(s)->live)
		arena_free(&server_tx_of(s)->arena);
}

/* RFC 3848, RFC 6531 section 4.3.  HELO is SMTP even inside TLS: no word exists for it, so the trace carries the TLS
 * clause of RFC 8314 instead. */
static struct psmtp_view with_word(const struct psmtp_server *s)
{
	static const char *const words[3][4] = {
		{ "ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA" },
		{ "LMTP", "LMTPS", "LMTPA", "LMTPSA" },
		{ "UTF8SMTP", "UTF8SMTPS", "UTF8SMTPA", "UTF8SMTPSA" },
	};
	static const char *const utf8_lmtp[4] = { "UTF8LMTP", "UTF8LMTPS", "UTF8LMTPA", "UTF8LMTPSA" };
	const struct server_hello *h = &s->epoch.hello;
	const struct server_transaction *tx = &h->transaction;
	unsigned how = (s->epoch.tls ? 1u : 0u) + (s->epoch.identity ? 2u : 0u);
	bool utf8 = tx->live && tx->mail.smtputf8;
	const char *word = utf8 ? (s->options.lmtp ? utf8_lmtp[how] : words[2][how]) : words[s->options.lmtp ? 1 : 0][how];

	if (h->kind == PSMTP_HELO)
		word = "SMTP";
	return (struct psmtp_view){ word, strlen(word) };
}

void psmtp_server_get_facts(const struct psmtp_server *s, struct psmtp_server_facts *f)
{
	const struct server_epoch *e = &s->epoch;
	const struct server_hello *h = &e->hello;

	*f = (struct psmtp_server_facts){
		.hello = { h->name, h->name_len },
		.hello_kind = h->kind,
		.tls = e->tls,
		.tls_protocol = { e->protocol, strlen(e->protocol) },
		.tls_cipher = { e->cipher, strlen(e->cipher) },
		.identity = { e->identity ? e->identity : "", e->identity_len },
		.smtputf8 = h->transaction.live && h->transaction.mail.smtputf8,
		.with = with_word(s),
		.phase = server_phases[s->phase].name,
	};
}
