/* wired.c - the client machine wired to the server machine, in pieces and with verdicts that the input chooses.
 *
 * Input: options, a seed for the pieces, verdicts, then the messages, each with its length in front.
 *
 * Judged: each message arrives octet for octet (canonical lines), each recipient gets the verdict that the server's
 * caller gave, and both sessions end by QUIT, whatever the pieces are.
 */
#include "input.h"

#include <psmtp.h>

#define EVENTS_MAX 500000
#define RCPTS      3
#define TEXT(literal)                           \
	{                                       \
		"" literal, sizeof(literal) - 1 \
	}

enum { LMTP = 1, NO_CHUNKING = 2, NO_PIPELINING = 4, BINARY = 8, NORMALISE = 16 };

static const struct psmtp_client_rcpt rcpts[RCPTS] = { { .address = TEXT("r@b.test") },
						       { .address = TEXT("s@b.test") },
						       { .address = TEXT("\"t u\"@b.test") } };

struct wire {
	unsigned options, seed, epoch, events, verdicts;
	enum psmtp_client_tls tls;
	struct psmtp_client *client;
	struct psmtp_server *server;
	struct input_memory memory;
	bool client_tls, server_tls, client_over, server_over, writing;
	struct input letters;
	struct view letter;
	size_t body_at;
	unsigned letter_verdicts, results, accepted; /* bits by recipient */
	unsigned order[RCPTS], accepted_n;           /* LMTP asks by the index of those accepted */
	bool begun, kept;
	char *body;
	size_t body_n, body_room;
};

static size_t piece(struct wire *w, size_t n)
{
	w->seed = w->seed * 1103515245 + 12345;
	if (w->seed / 65536 % 4)
		return n;
	return n < 1 + w->seed / 1048576 % 9 ? n : 1 + w->seed / 1048576 % 9;
}

/* The message as it must arrive: canonical lines; DATA adds the last line's end. */
static void check_body(struct wire *w)
{
	bool binary = w->options & BINARY;
	bool chunked = !(w->options & NO_CHUNKING);
	char *want = malloc(2 * w->letter.n + 2);
	size_t n = 0;

	for (size_t i = 0; i < w->letter.n; i++) {
		char c = w->letter.p[i];

		if (binary || (c != '\r' && c != '\n')) {
			if (c || binary || !(w->options & NORMALISE))
				want[n++] = c;
			continue;
		}
		want[n++] = '\r';
		want[n++] = '\n';
		i += c == '\r' && i + 1 < w->letter.n && w->letter.p[i + 1] == '\n';
	}
	if (!chunked && w->letter.n && w->letter.p[w->letter.n - 1] != '\r' && w->letter.p[w->letter.n - 1] != '\n') {
		want[n++] = '\r';
		want[n++] = '\n';
	}
	assert(w->body_n == n && (!n || memcmp(w->body, want, n) == 0));
	free(want);
}

static void verdict(struct wire *w, bool yes)
{
	const struct psmtp_verdict v = { .kind = yes ? PSMTP_YES : PSMTP_NO_TEMPORARY };

	assert(psmtp_server_answer(w->server, &v, 0) == 0);
}

static void server_event(struct wire *w, const struct psmtp_server_event *e)
{
	bool yes = true;

	switch (e->type) {
	case PSMTP_SERVER_MAIL:
		w->accepted = w->accepted_n = 0;
		w->kept = false;
		w->body_n = 0;
		yes = !(w->letter_verdicts & 64);
		break;
	case PSMTP_SERVER_RCPT: {
		unsigned who =
			(unsigned)(e->rcpt->recipient.local.p[0] == '"' ? 2 : e->rcpt->recipient.local.p[0] - 'r');

		yes = !(w->letter_verdicts & 1u << who);
		if (yes) {
			w->order[w->accepted_n++] = who;
			w->accepted |= 1u << who;
		}
		break;
	}
	case PSMTP_SERVER_BODY_BEGIN: yes = !(w->letter_verdicts & 128); break;
	case PSMTP_SERVER_BODY:
		assert(e->body.n <= w->body_room - w->body_n);
		memcpy(w->body + w->body_n, e->body.p, e->body.n);
		w->body_n += e->body.n;
		return;
	case PSMTP_SERVER_BODY_END:
		if (e->rcpt_index == 0)
			check_body(w);
		yes = !(w->letter_verdicts & 8);
		if (w->options & LMTP)
			yes = !(w->letter_verdicts >> w->order[e->rcpt_index] & 8);
		else
			w->kept = yes;
		break;
	case PSMTP_SERVER_TLS_START: w->server_tls = true; return;
	case PSMTP_SERVER_CLOSE:
		assert(strcmp(e->reason, "quit") == 0);
		w->server_over = true;
		return;
	case PSMTP_SERVER_RESET:
	case PSMTP_SERVER_REJECTED:
	case PSMTP_SERVER_AUTH:
	case PSMTP_SERVER_AUTH_DATA: return;
	default: break;
	}
	verdict(w, yes);
}

static void client_ready(struct wire *w)
{
	struct psmtp_client_message m = { .sender = TEXT("s@a.test"),
					  .rcpts = rcpts,
					  .rcpt_count = RCPTS,
					  .ret = PSMTP_RET_FULL,
					  .binary = w->options & BINARY };
	size_t n = input_u16(&w->letters);

	if (!w->letters.n) {
		assert(psmtp_client_quit(w->client, 0) == 0);
		return;
	}
	w->letter_verdicts = input_byte(&w->letters);
	w->letter = input_take(&w->letters, n % 4096);
	for (size_t i = 0; i < w->letter.n; i++)
		m.has_8bit = m.has_8bit || (unsigned char)w->letter.p[i] > 127;
	m.size = w->letter.n;
	w->body_at = w->results = 0;
	assert(psmtp_client_send(w->client, &m, 0) == 0);
}

/* What the recipient must be told. */
static bool delivered(const struct wire *w, unsigned who)
{
	bool nul = memchr(w->letter.p, '\0', w->letter.n) != NULL && !(w->options & (BINARY | NORMALISE));

	if (w->letter_verdicts & (64 | 128) || !(w->accepted & 1u << who) || (w->letter.n && nul))
		return false;
	return w->options & LMTP ? !(w->letter_verdicts >> who & 8) : w->kept;
}

static void client_event(struct wire *w, const struct psmtp_client_event *e)
{
	switch (e->type) {
	case PSMTP_CLIENT_READY: client_ready(w); break;
	case PSMTP_CLIENT_TLS_START: w->client_tls = true; break;
	case PSMTP_CLIENT_BODY: w->writing = true; break;
	case PSMTP_CLIENT_RESULT:
		assert(!(w->results & 1u << e->rcpt_index));
		w->results |= 1u << e->rcpt_index;
		assert((e->reply.code == 250) == delivered(w, e->rcpt_index));
		break;
	case PSMTP_CLIENT_DONE:
		assert(w->results == 7);
		w->writing = false;
		break;
	case PSMTP_CLIENT_CLOSE: w->client_over = true; break;
	case PSMTP_CLIENT_RCPT: break;
	default: assert(!"refused, failed, or asked for AUTH");
	}
}

static bool drain(struct wire *w)
{
	struct psmtp_client_event c;
	struct psmtp_server_event s;
	bool any = false;

	for (; psmtp_client_next(w->client, &c, 0); any = true)
		client_event(w, &c);
	for (; psmtp_server_next(w->server, &s, 0); any = true)
		server_event(w, &s);
	assert(++w->events < EVENTS_MAX);
	return any;
}

static bool write_body(struct wire *w)
{
	size_t n, taken;

	if (!w->writing)
		return false;
	n = piece(w, w->letter.n - w->body_at);
	taken = psmtp_client_body(w->client, w->letter.p + w->body_at, n, w->body_at + n == w->letter.n, 0);
	w->body_at += taken;
	if (taken == n && w->body_at == w->letter.n)
		w->writing = false;
	return taken > 0 || !w->writing;
}

static bool carry(struct wire *w, bool up)
{
	struct psmtp_view out = up ? psmtp_client_output(w->client) : psmtp_server_output(w->server);
	size_t n = piece(w, out.n), used = 0;
	char *bytes;

	if (!n || (up && w->server_over))
		return false;
	bytes = input_copy(view_of(out.p, n));
	if (up)
		psmtp_client_sent(w->client, n, 0);
	else
		psmtp_server_sent(w->server, n, 0);
	for (; used < n; drain(w))
		used += up ? psmtp_server_feed(w->server, w->epoch, bytes + used, n - used, 0)
			   : psmtp_client_feed(w->client, w->epoch, bytes + used, n - used, 0);
	free(bytes);
	return true;
}

static bool shake_hands(struct wire *w)
{
	const struct psmtp_tls_facts facts = { TEXT("TLSv1.3"), TEXT("TLS_NULL") };

	if (!w->client_tls || !w->server_tls || psmtp_server_output(w->server).n)
		return false;
	assert(psmtp_client_output(w->client).n == 0);
	w->client_tls = w->server_tls = false;
	w->epoch = 2;
	assert(psmtp_client_tls_up(w->client, &facts, 0) == 0 && psmtp_server_tls_up(w->server, &facts, 0) == 0);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n };
	unsigned first = input_byte(&in), options = input_byte(&in);
	struct wire w = { .epoch = 1, .seed = input_u16(&in), .tls = 1 + first % 4, .body_room = 2 * n + 16 };
	struct psmtp_allocator memory = { input_resize, &w.memory };

	w.options = options & BINARY ? options & ~(unsigned)NO_CHUNKING : options; /* else it could not be sent */
	const struct psmtp_client_options co = { .hello = TEXT("client.test"),
						 .tls = w.tls,
						 .lmtp = w.options & LMTP,
						 .no_pipelining = w.options & NO_PIPELINING,
						 .no_chunking = first & 4 };
	const struct psmtp_server_options so = { .hostname = TEXT("server.test"),
						 .lmtp = w.options & LMTP,
						 .tls = w.tls == PSMTP_CLIENT_TLS_NONE       ? PSMTP_TLS_NONE
							: w.tls == PSMTP_CLIENT_TLS_IMPLICIT ? PSMTP_TLS_IMPLICIT
							: w.tls == PSMTP_CLIENT_TLS_MAY      ? PSMTP_TLS_STARTTLS
											     : PSMTP_TLS_REQUIRED,
						 .no_chunking = w.options & NO_CHUNKING,
						 .binarymime = w.options & BINARY,
						 .error_limit = 10000, .idle_limit = 10000000,
						 .bare = w.options & NORMALISE ? PSMTP_BARE_NORMALISE
									       : PSMTP_BARE_REJECT };

	if (co.no_chunking) {
		if (w.options & BINARY)
			return 0;
		w.options |= NO_CHUNKING;
	}
	w.letters = in;
	w.body = malloc(w.body_room);
	w.client = psmtp_client_new(&co, &memory, 0);
	w.server = psmtp_server_new(&so, &memory, 0);
	w.client_tls = w.server_tls = w.tls == PSMTP_CLIENT_TLS_IMPLICIT;
	while (drain(&w) || shake_hands(&w) || write_body(&w) || carry(&w, true) || carry(&w, false))
		;
	assert(w.client_over && w.server_over);
	psmtp_client_free(w.client);
	psmtp_server_free(w.server);
	free(w.body);
	assert(w.memory.blocks == 0);
	return 0;
}
