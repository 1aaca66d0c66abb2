/* server_state.c - the ends of lifetimes, and the facts that guards ask; see server_state.h.
 *
 * server_end is the only code that forgets: a partial reset cannot be written, because each end zeroes its struct and
 * calls the end of the one inside first.
 */
#include "smtp/server_state.h"

#include <assert.h>

void server_push(struct psmtp_server *s, enum psmtp_server_event_type type, const struct psmtp_reply *reply,
	const char *reason)
{
	assert(s->queued < SERVER_QUEUE_MAX);
	s->queue[s->queued++] = (struct server_pending){
		.type = type, .reply = reply ? *reply : (struct psmtp_reply){ 0 }, .reason = reason
	};
}

void server_drop(struct psmtp_server *s, size_t n)
{
	struct buf *in = &s->epoch.in;

	if (n > buf_len(in))
		n = buf_len(in); /* the epoch took its input along */
	if (n)
		explicit_bzero(in->mem + in->rd, n);
	buf_take(in, n);
}

void server_take_line(struct psmtp_server *s)
{
	struct server_command *c = server_command_of(s);

	server_drop(s, c->line);
	c->line = 0;
}

static void end_command(struct psmtp_server *s)
{
	struct server_command *c = server_command_of(s);
	struct arena arena;

	server_take_line(s);
	if (c->identity)
		alloc_put_secret(&s->alloc, c->identity, c->identity_len);
	arena_reset(&c->arena);
	arena = c->arena;
	*c = (struct server_command){ .arena = arena };
}

static void end_transaction(struct psmtp_server *s)
{
	struct server_transaction *tx = server_tx_of(s);
	struct server_transaction empty = { 0 };

	end_command(s);
	if (tx->live && !tx->committed)
		server_push(s, PSMTP_SERVER_RESET, NULL, NULL);
	arena_reset(&tx->arena);
	empty.arena = tx->arena;
	empty.command = tx->command;
	*tx = empty;
}

static void end_hello(struct psmtp_server *s)
{
	struct server_hello *h = server_hello_of(s);

	end_transaction(s);
	h->kind = 0;
	h->name_len = 0;
	memset(h->name, 0, sizeof h->name);
}

/* The output is kept: what was queued before the end is still owed to the peer.  psmtp_server_tls_up refuses to begin
 * a new epoch while output of the old one is unsent. */
static void end_epoch(struct psmtp_server *s)
{
	struct server_epoch *e = &s->epoch;

	end_hello(s);
	arena_free(&server_tx_of(s)->arena);
	arena_free(&server_command_of(s)->arena);
	buf_free(&e->in);
	e->given = 0;
	e->lines = (struct smtp_line_state){ 0 };
	e->tls = false;
	memset(e->protocol, 0, sizeof e->protocol);
	memset(e->cipher, 0, sizeof e->cipher);
	if (e->identity)
		alloc_put_secret(&s->alloc, e->identity, e->identity_len);
	e->identity = NULL;
	e->identity_len = 0;
}

void server_end(struct psmtp_server *s, enum server_life life)
{
	switch (life) {
	case LIFE_NONE:
	case LIFE_END_:
		break;
	case LIFE_COMMAND:
		end_command(s);
		break;
	case LIFE_TRANSACTION:
		end_transaction(s);
		break;
	case LIFE_HELLO:
		end_hello(s);
		break;
	case LIFE_EPOCH:
	case LIFE_CONNECTION: /* counters, listener policy and unsent output stay until psmtp_server_free */
		end_epoch(s);
		break;
	}
}

static uint64_t bit(bool holds, uint64_t fact)
{
	return holds ? fact : 0;
}
#define BIT(holds, id) bit(holds, SERVER_FACT(id))

static uint64_t policy_facts(const struct psmtp_server_options *o)
{
	return BIT(o->lmtp, LMTP) | BIT(o->tls == PSMTP_TLS_IMPLICIT, IMPLICIT) |
	       BIT(o->tls == PSMTP_TLS_STARTTLS || o->tls == PSMTP_TLS_REQUIRED || o->tls == PSMTP_TLS_BROKEN, STLS) |
	       BIT(o->tls == PSMTP_TLS_BROKEN, BROKEN) | BIT(o->switches & PSMTP_SWITCH_STARTTLS_DISCARD, DISCARD) |
	       BIT(o->auth.n, MECHS) | BIT(!o->no_chunking, CHUNKING) | BIT(o->binarymime && !o->no_chunking, BINARY) |
	       BIT(!o->no_smtputf8, UTF8) | BIT(!o->no_dsn, DSN);
}

static uint64_t hello_facts(const struct psmtp_server *s)
{
	const struct server_hello *h = &s->epoch.hello;
	/* The switch ehlo_after_tls = optional: a client that says MAIL straight after TLS is taken for one that said EHLO,
	 * as it did in clear; nothing of what it said there is remembered. */
	bool waived = !h->kind && s->epoch.tls && s->options.tls != PSMTP_TLS_IMPLICIT &&
		      s->options.switches & PSMTP_SWITCH_EHLO_AFTER_TLS_OPTIONAL;

	return BIT(h->kind || waived, HELLO) | BIT(h->kind == PSMTP_EHLO || h->kind == PSMTP_LHLO || waived, EHLO);
}

static uint64_t transaction_facts(const struct psmtp_server *s)
{
	const struct server_transaction *tx = &s->epoch.hello.transaction;

	return BIT(tx->live, TX) | BIT(tx->rcpts, RCPT) | BIT(tx->live && tx->rcpts >= s->options.rcpt_limit, FULL) |
	       BIT(tx->chunked, CHUNKED) | BIT(tx->live && tx->mail.body == PSMTP_BODY_BINARYMIME, BINBODY) |
	       BIT(tx->body.fault, BARE) | BIT(s->options.lmtp && tx->judged + 1 < tx->rcpts, MORE);
}

uint64_t server_facts(const struct psmtp_server *s, const struct server_input *in)
{
	const struct server_epoch *e = &s->epoch;
	const struct server_transaction *tx = &e->hello.transaction;
	const struct server_command *c = &tx->command;
	const struct psmtp_server_options *o = &s->options;
	const struct psmtp_verdict *v = in ? in->verdict : NULL;
	bool body = s->phase == PHASE_DATA || s->phase == PHASE_CHUNK;

	return policy_facts(o) | hello_facts(s) | transaction_facts(s) | c->faults |
	       BIT(e->tls, TLS) | BIT(e->tls && o->requiretls, MEANT) | BIT(o->tls == PSMTP_TLS_REQUIRED && !e->tls, OWED) |
	       BIT(o->auth.n && (e->tls || o->auth_in_clear), SAFE) | BIT(e->identity, IDENTITY) |
	       BIT(o->mail_limit && s->mails >= o->mail_limit, SPENT) | BIT(body && tx->body.over, OVER) |
	       BIT(buf_len(&e->in) == c->line, QUIET) |
	       BIT(c->hello_kind == PSMTP_EHLO || c->hello_kind == PSMTP_LHLO, CAPABLE) |
	       BIT(v && (v->reply.close || v->reply.code == 421), CLOSES);
}
