/* client.c - libpsmtp's client: the calls of psmtp.h.
 *
 * Each call checks its arguments, turns into one event of spec/client.def, and lets the driver run.  Everything that
 * decides is in the table.  Failure: psmtp_client_new returns NULL when memory is out or an option could not be said on
 * the wire; the other calls return -1 out of turn and change nothing.
 */
#include "smtp/client_state.h"

#define NAME_MAX_ 255 /* RFC 5321 4.5.3.1.2: a domain in EHLO */
#define MECHANISM_MAX 20 /* RFC 4422 section 3.1 */

/* ---- making ---- */

static bool is_plain(struct psmtp_view v, size_t max)
{
	for (size_t i = 0; i < v.n; i++)
		if (v.p[i] <= ' ' || v.p[i] == 127)
			return false;
	return v.n > 0 && v.n <= max;
}

static uint32_t or(uint32_t value, uint32_t otherwise)
{
	return value ? value : otherwise;
}

static bool options_copy(struct psmtp_client *c, const struct psmtp_client_options *o)
{
	struct view hello = arena_copy(&c->arena, smtp_view(o->hello));
	struct view mechanism = arena_copy(&c->arena, smtp_view(o->auth_mechanism));

	if (!hello.p || !mechanism.p)
		return false;
	c->options = *o;
	c->options.hello = smtp_public(hello);
	c->options.auth_mechanism = smtp_public(mechanism);
	if (!o->tls)
		c->options.tls = PSMTP_CLIENT_TLS_NONE;
	c->options.reply_limit = or(o->reply_limit, 65536);
	c->options.reply_lines = or(o->reply_lines, 256);
	c->options.greeting_ms = or(o->greeting_ms, 300000);      /* RFC 5321 4.5.3.2.1 */
	c->options.command_ms = or(o->command_ms, 300000);        /* 4.5.3.2.2, 4.5.3.2.3 */
	c->options.data_start_ms = or(o->data_start_ms, 120000);  /* 4.5.3.2.4 */
	c->options.data_block_ms = or(o->data_block_ms, 180000);  /* 4.5.3.2.5 */
	c->options.data_end_ms = or(o->data_end_ms, 600000);      /* 4.5.3.2.6 */
	c->options.handshake_ms = or(o->handshake_ms, 60000);
	c->options.quit_ms = or(o->quit_ms, 5000);
	return true;
}

struct psmtp_client *psmtp_client_new(const struct psmtp_client_options *o, const struct psmtp_allocator *allocator,
	uint64_t now)
{
	struct alloc alloc = { allocator->resize, allocator->arg };
	struct psmtp_client *c;

	if (!is_plain(o->hello, NAME_MAX_) || (o->auth_mechanism.n && !is_plain(o->auth_mechanism, MECHANISM_MAX)))
		return NULL;
	c = alloc_get(&alloc, sizeof *c);
	if (!c)
		return NULL;
	*c = (struct psmtp_client){ .alloc = alloc, .phase = CLIENT_IN_START };
	arena_init(&c->arena, &c->alloc, CLIENT_ARENA_MAX);
	buf_init(&c->out, &c->alloc, CLIENT_OUTPUT_MAX);
	if (!options_copy(c, o)) {
		arena_free(&c->arena);
		alloc_put(&alloc, c);
		return NULL;
	}
	client_life_end(c, CLIENT_LIFE_EPOCH); /* of epoch 0, which never was: epoch 1 begins */
	client_fire(c, CLIENT_ON_OPEN, now);
	return c;
}

void psmtp_client_free(struct psmtp_client *c)
{
	struct alloc alloc;

	if (!c)
		return;
	client_life_end(c, CLIENT_LIFE_SESSION);
	alloc = c->alloc;
	alloc_put_secret(&alloc, c, sizeof *c);
}

void psmtp_client_idle(struct psmtp_client *c)
{
	buf_release(&c->out);
	if (c->note_count) /* an event not yet taken may point into the rest */
		return;
	if (!smtp_reply_in_begun(&c->epoch.reply)) {
		smtp_reply_in_next(&c->epoch.reply);
		buf_release(&c->epoch.reply.text);
	}
	if (!client_tx(c)->live) {
		buf_release(&client_tx(c)->body.chunk);
		buf_release(&client_tx(c)->body.ends);
		arena_free(&client_tx(c)->arena);
	}
}

/* ---- the world ---- */

void psmtp_client_peer_closed(struct psmtp_client *c, uint64_t now)
{
	client_fire(c, CLIENT_ON_PEER_CLOSED, now);
	client_run(c, now);
}

uint64_t psmtp_client_deadline(const struct psmtp_client *c)
{
	return c->deadline;
}

void psmtp_client_timeout(struct psmtp_client *c, uint64_t now)
{
	if (now < c->deadline)
		return;
	client_fire(c, CLIENT_ON_TIMEOUT, now);
	client_run(c, now);
}

int psmtp_client_tls_up(struct psmtp_client *c, const struct psmtp_tls_facts *facts, uint64_t now)
{
	(void)facts; /* the server's log names them; the caller of a client has them at hand */
	if (c->note_count || !client_fire(c, CLIENT_ON_TLS_UP, now))
		return -1;
	client_run(c, now);
	return 0;
}

int psmtp_client_tls_failed(struct psmtp_client *c, uint64_t now)
{
	if (!client_fire(c, CLIENT_ON_TLS_FAILED, now))
		return -1;
	client_run(c, now);
	return 0;
}

struct psmtp_view psmtp_client_output(const struct psmtp_client *c)
{
	return smtp_public(buf_view(&c->out));
}

void psmtp_client_sent(struct psmtp_client *c, size_t n, uint64_t now)
{
	size_t len = buf_len(&c->out);

	if (n > len)
		n = len; /* what was dropped meanwhile */
	if (n == 0)
		return;
	if (c->phase == CLIENT_IN_AUTH) /* a response is a secret: it does not stay behind the cursor */
		explicit_bzero(c->out.mem + c->out.rd, n);
	buf_take(&c->out, n);
	c->sent += n;
	switch (client_phases[c->phase].clock) {
	case CLIENT_CLOCK_BLOCK: /* RFC 5321 4.5.3.2.5: for each block */
	case CLIENT_CLOCK_DATA_END:
		client_clock_set(c, now);
		break;
	default:
		break;
	}
	client_run(c, now);
}

/* ---- the caller ---- */

int psmtp_client_quit(struct psmtp_client *c, uint64_t now)
{
	if (c->note_count || !client_fire(c, CLIENT_ON_LEAVE, now))
		return -1;
	client_run(c, now);
	return 0;
}

/* An address may be said when it parses; UTF-8 makes the whole message need SMTPUTF8 (RFC 6531 section 3.4). */
static bool sayable(struct psmtp_view address, unsigned flags, bool *utf8)
{
	struct psmtp_address a;

	if (psmtp_address_parse(address, flags | PSMTP_ADDRESS_UTF8 | PSMTP_ADDRESS_BARE, &a) == -1)
		return false;
	/* A source route would be parsed and not said; nothing but the address itself may stand between < and > */
	if (a.text.n != address.n)
		return false;
	*utf8 = *utf8 || a.utf8;
	return true;
}

static bool tx_begin(struct psmtp_client *c, const struct psmtp_client_message *m)
{
	struct client_transaction *tx = client_tx(c);
	uint32_t limit = client_hello(c)->offer.rcpt_limit;

	tx->rcpts = arena_take(&tx->arena, m->rcpt_count * sizeof *tx->rcpts);
	if (!tx->rcpts)
		return false;
	tx->live = true;
	tx->msg = *m;
	tx->undecided = m->rcpt_count;
	tx->utf8 = m->has_utf8;
	if (m->sender.n)
		tx->bad_sender = !sayable(m->sender, 0, &tx->utf8);
	for (uint32_t i = 0; i < m->rcpt_count; i++) {
		bool utf8 = false;

		if (!sayable(m->rcpts[i].address, PSMTP_ADDRESS_POSTMASTER, &utf8)) {
			tx->rcpts[i].state = CLIENT_RCPT_BAD;
		} else if (limit && tx->to_write == limit) { /* RFC 9422 section 4.2 counts RCPT commands */
			tx->rcpts[i].state = CLIENT_RCPT_EXCESS;
		} else {
			tx->rcpts[i].state = CLIENT_RCPT_WAITING;
			tx->to_write++;
			tx->utf8 = tx->utf8 || utf8;
		}
	}
	tx->aside = m->rcpt_count - tx->to_write;
	/* RFC 3030 section 2; without PIPELINING each chunk waits for its reply. */
	tx->chunked = client_hello(c)->offer.chunking && !c->options.no_chunking;
	return true;
}

int psmtp_client_send(struct psmtp_client *c, const struct psmtp_client_message *m, uint64_t now)
{
	if (c->phase != CLIENT_IN_READY || c->note_count || m->rcpt_count == 0 || m->rcpt_count > CLIENT_RCPT_MAX)
		return -1;
	client_fire(c, tx_begin(c, m) ? CLIENT_ON_SEND : CLIENT_ON_NO_MEMORY, now);
	client_run(c, now);
	return 0;
}

void psmtp_client_get_facts(const struct psmtp_client *c, struct psmtp_client_facts *facts)
{
	*facts = c->epoch.hello.offer;
	facts->tls = c->epoch.number == 2;
	facts->phase = client_phases[c->phase].name;
}
