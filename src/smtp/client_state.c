/* client_state.c - lifetimes and the facts that guards ask; see client_state.h. */
#include "smtp/client_state.h"

#include <string.h>

static void tx_end(struct psmtp_client *c, struct client_transaction *tx)
{
	buf_free(&tx->body.chunk);
	buf_free(&tx->body.ends);
	arena_reset(&tx->arena);
	*tx = (struct client_transaction){ .arena = tx->arena };
	buf_init(&tx->body.chunk, &c->alloc, CLIENT_CHUNK + 16); /* 16: a CR that was held back, a line end */
	buf_init(&tx->body.ends, &c->alloc, CLIENT_CHUNKS_AHEAD * sizeof(uint64_t));
	if (!tx->arena.alloc)
		arena_init(&tx->arena, &c->alloc, CLIENT_ARENA_MAX);
}

static void hello_end(struct psmtp_client *c, struct client_hello *hello)
{
	struct client_transaction tx;

	tx_end(c, &hello->tx);
	tx = hello->tx;
	arena_reset(&hello->arena);
	*hello = (struct client_hello){ .arena = hello->arena, .tx = tx };
	if (!hello->arena.alloc)
		arena_init(&hello->arena, &c->alloc, CLIENT_ARENA_MAX);
}

/* RFC 3207 section 4.2: what was learned in clear is forgotten, as one struct. */
static void epoch_end(struct psmtp_client *c, struct client_epoch *epoch)
{
	struct client_hello hello;
	unsigned number = epoch->number + 1;

	hello_end(c, &epoch->hello);
	hello = epoch->hello;
	buf_free(&epoch->auth);
	smtp_reply_in_free(&epoch->reply);
	*epoch = (struct client_epoch){ .number = number, .hello = hello };
	buf_init(&epoch->auth, &c->alloc, CLIENT_AUTH_LINE + 4);
	smtp_reply_in_init(&epoch->reply, &c->alloc, c->options.reply_limit, c->options.reply_lines);
}

void client_life_end(struct psmtp_client *c, enum client_life life)
{
	switch (life) {
	case CLIENT_LIFE_SESSION:
		epoch_end(c, &c->epoch);
		smtp_reply_in_free(&c->epoch.reply);
		arena_free(&client_tx(c)->arena);
		arena_free(&client_hello(c)->arena);
		buf_free(&c->out);
		arena_free(&c->arena);
		break;
	case CLIENT_LIFE_EPOCH:
		epoch_end(c, &c->epoch);
		break;
	case CLIENT_LIFE_HELLO:
		hello_end(c, client_hello(c));
		break;
	case CLIENT_LIFE_TX:
		tx_end(c, client_tx(c));
		break;
	case CLIENT_LIFE_NONE:
	case CLIENT_LIFE_END_:
		break;
	}
}

static uint64_t bit(bool holds, uint64_t fact)
{
	return holds ? fact : 0;
}

static bool word_in(struct view words, struct view word)
{
	while (words.n) {
		size_t end = view_find(words, ' ');

		if (view_eq_nocase(view_slice(words, 0, end), word))
			return true;
		words = view_slice(words, end + 1, words.n);
	}
	return false;
}

static uint64_t session_facts(const struct psmtp_client *c)
{
	const struct psmtp_client_options *o = &c->options;
	const struct client_epoch *e = &c->epoch;
	const struct psmtp_client_facts *offer = &e->hello.offer;

	return bit(o->tls == PSMTP_CLIENT_TLS_IMPLICIT, CLIENT_IF(IMPLICIT)) |
	       bit(o->tls == PSMTP_CLIENT_TLS_MAY || o->tls == PSMTP_CLIENT_TLS_MUST, CLIENT_IF(WANTED)) |
	       bit(o->tls == PSMTP_CLIENT_TLS_MUST || o->tls == PSMTP_CLIENT_TLS_IMPLICIT, CLIENT_IF(OWED)) |
	       bit(o->lmtp, CLIENT_IF(LMTP)) | bit(o->auth_mechanism.n, CLIENT_IF(AUTH_DUE)) |
	       bit(o->auth_in_clear, CLIENT_IF(ANYHOW)) | bit(e->number == 2, CLIENT_IF(TLS)) |
	       bit(e->quiet, CLIENT_IF(QUIET)) | bit(e->auth_begun, CLIENT_IF(BEGUN)) | bit(e->auth_held, CLIENT_IF(HELD)) |
	       bit(e->auth_decoded, CLIENT_IF(DECODED)) | bit(offer->starttls, CLIENT_IF(OFFERED)) |
	       bit(word_in(smtp_view(offer->auth), smtp_view(o->auth_mechanism)), CLIENT_IF(MECHANISM)) |
	       bit(offer->mail_limit && e->hello.mails >= offer->mail_limit, CLIENT_IF(USED_UP));
}

/* What the octets need against what is offered (RFC 3030, 6152, 6531, 1870, 8689). */
static uint64_t need_facts(const struct psmtp_client *c)
{
	const struct client_transaction *tx = &c->epoch.hello.tx;
	const struct psmtp_client_facts *offer = &c->epoch.hello.offer;
	const struct psmtp_client_message *m = &tx->msg;
	bool chunks = offer->chunking && !c->options.no_chunking;

	return bit(tx->bad_sender, CLIENT_IF(BAD_FROM)) | bit(!tx->to_write, CLIENT_IF(NOBODY)) |
	       bit(m->requiretls && (c->epoch.number != 2 || !offer->requiretls), CLIENT_IF(NO_REQTLS)) |
	       bit(m->binary && (!offer->binarymime || !chunks), CLIENT_IF(NO_BINARY)) |
	       bit(m->has_8bit && !m->binary && !offer->eightbit, CLIENT_IF(NO_8BIT)) |
	       bit(tx->utf8 && !offer->smtputf8, CLIENT_IF(NO_UTF8)) |
	       bit(offer->size_limit && m->size > offer->size_limit, CLIENT_IF(TOO_BIG));
}

static uint64_t tx_facts(const struct psmtp_client *c)
{
	const struct client_transaction *tx = &c->epoch.hello.tx;
	bool more_to_say = tx->to_write && !tx->refused;

	return need_facts(c) | bit(tx->flying, CLIENT_IF(AHEAD)) | bit(tx->flying > 1 || more_to_say, CLIENT_IF(MORE)) |
	       bit(tx->refused, CLIENT_IF(VOID)) | bit(tx->accepted, CLIENT_IF(SOME)) |
	       bit(tx->data_said, CLIENT_IF(DATA_OUT)) | bit(tx->chunked, CLIENT_IF(CHUNKED)) |
	       bit(client_chunks_open(c) > 1, CLIENT_IF(LATER) | CLIENT_IF(EARLIER)) |
	       bit(tx->accepted > tx->finals + 1, CLIENT_IF(MORE_END)) | bit(tx->open, CLIENT_IF(OPEN_TX));
}

uint64_t client_facts(const struct psmtp_client *c)
{
	return session_facts(c) | (c->epoch.hello.tx.live ? tx_facts(c) : 0);
}

static uint64_t chunk_said(const struct client_body *body)
{
	struct view ends = buf_view(&body->ends);
	uint64_t said = UINT64_MAX;

	if (ends.n >= sizeof said)
		memcpy(&said, ends.p, sizeof said);
	return said;
}

uint64_t client_said(const struct psmtp_client *c)
{
	const struct client_transaction *tx = &c->epoch.hello.tx;

	switch (c->phase) {
	case CLIENT_IN_GREETING:
		return 0;
	case CLIENT_IN_MAIL:
		return tx->mail_said;
	case CLIENT_IN_RCPT:
		return tx->flying ? tx->rcpts[tx->reply_at].said : UINT64_MAX;
	case CLIENT_IN_DATA:
		return tx->data_said;
	case CLIENT_IN_CHUNKS:
	case CLIENT_IN_ABANDON:
		return chunk_said(&tx->body);
	case CLIENT_IN_END:
		return tx->chunked ? chunk_said(&tx->body) : tx->body.end;
	case CLIENT_IN_EHLO:
	case CLIENT_IN_HELO:
	case CLIENT_IN_STARTTLS:
	case CLIENT_IN_AUTH:
	case CLIENT_IN_AUTH_END:
	case CLIENT_IN_EMPTY:
	case CLIENT_IN_RSET:
	case CLIENT_IN_QUIT:
		return c->epoch.said;
	default:
		return UINT64_MAX; /* nothing was asked */
	}
}
