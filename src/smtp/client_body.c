/* client_body.c - the body on its way out: dots stuffed or chunks framed.
 *
 * DATA: lines go straight into the output, a bare CR or LF becomes CRLF (RFC 5321 2.3.8), a leading dot is doubled
 * (4.5.2), and a body that does not end in CRLF gets one, because the final dot needs its own line.
 * BDAT (RFC 3030): content is gathered into chunks of CLIENT_CHUNK, so that the size in front is known; line ends are
 * made canonical in the same way unless the content is binary, and nothing is added at the end.
 * A CR at the end of a call is held back until what follows it is known.
 * Failure: output or chunk full: fewer octets are taken; no memory: the session fails as temporary.
 */
#include "base/span.h"
#include "smtp/client_state.h"

#include <stdio.h>

#define LINE_END 2 /* CRLF */
#define CHUNK_HEAD 32 /* "BDAT 32784 LAST" CRLF */

/* Where octets go: memory that has been reserved. */
struct sink {
	unsigned char *p;
	size_t n, room;
};

static void put(struct sink *s, const char *p, size_t n)
{
	memcpy(s->p + s->n, p, n);
	s->n += n;
}

static void put_line_end(struct client_body *body, struct sink *s)
{
	put(s, "\r\n", LINE_END);
	body->line_start = true;
}

/* Copies text without line ends, with a dot in front of a leading dot; returns how many octets were taken. */
static size_t put_text(struct client_body *body, struct sink *s, struct view text, bool dots)
{
	size_t n;

	if (dots && body->line_start && text.p[0] == '.')
		put(s, ".", 1);
	n = s->room - s->n < text.n ? s->room - s->n : text.n;
	put(s, text.p, n);
	body->line_start = false;
	return n;
}

/* How many octets at the front are whole lines that go as they stand: each ends in CR LF, has neither CR nor LF before, and
 * begins with no dot where dots are doubled.  Nearly all of a message is such lines. */
static size_t clean_lines(struct view in, bool dots)
{
	size_t end = 0, at = 0;

	while (at < in.n && !(dots && at == end && in.p[at] == '.')) {
		at += span_plain((const unsigned char *)in.p + at, in.n - at, '\r', 0);
		if (in.n - at < LINE_END)
			break;
		if (in.p[at] == '\r' && in.p[at + 1] == '\n')
			end = at += LINE_END;
		else if (in.p[at] == '\r' || in.p[at] == '\n')
			break;
		else
			at++; /* a tab, or another control */
	}
	return end;
}

/* Canonical lines from in into the sink; returns how many octets were taken. */
static size_t canon(struct client_body *body, struct sink *s, struct view in, bool dots)
{
	size_t i = 0, lf = 0; /* lf: the next LF, looked for once each, so that a body of bare CRs stays linear */
	bool lf_known = false;

	while (i < in.n && s->room - s->n >= LINE_END + 2) { /* a line end, or a stuffed dot and an octet */
		size_t stop, clean;

		if (body->line_start && !body->cr) {
			clean = clean_lines(view_slice(in, i, i + (s->room - s->n)), dots);
			put(s, in.p + i, clean);
			i += clean;
			if (clean)
				continue;
		}
		if (body->cr) { /* RFC 5321 2.3.8: CR only with LF behind it */
			body->cr = false;
			put_line_end(body, s);
			i += in.p[i] == '\n';
			continue;
		}
		if (!lf_known || lf < i) {
			lf = i + view_find(view_slice(in, i, in.n), '\n');
			lf_known = true;
		}
		stop = i + view_find(view_slice(in, i, lf), '\r');
		if (stop > i) {
			i += put_text(body, s, view_slice(in, i, stop), dots);
		} else if (in.p[i] == '\n') {
			put_line_end(body, s);
			i++;
		} else {
			body->cr = true;
			i++;
		}
	}
	return i;
}

/* As canon, for content that is no lines. */
static size_t opaque(struct sink *s, struct view in)
{
	size_t n = s->room - s->n < in.n ? s->room - s->n : in.n;

	put(s, in.p, n);
	return n;
}

static size_t output_room(const struct psmtp_client *c)
{
	size_t used = buf_len(&c->out) + CLIENT_HEADROOM;

	return used < CLIENT_OUTPUT_MAX ? CLIENT_OUTPUT_MAX - used : 0;
}

/* ---- DATA ---- */

static size_t lines_take(struct psmtp_client *c, struct view in, uint64_t now)
{
	size_t taken = 0, room;

	while (taken < in.n && (room = output_room(c)) > LINE_END + 2) {
		size_t want = in.n - taken + (in.n - taken) / 16 + 64; /* dots and bare line ends are few */
		struct sink s = { .room = want < room ? want : room };

		if (!buf_reserve(&c->out, s.room)) {
			client_fire(c, CLIENT_ON_NO_MEMORY, now);
			return taken;
		}
		s.p = buf_tail(&c->out);
		taken += canon(&client_tx(c)->body, &s, view_slice(in, taken, in.n), true);
		buf_commit(&c->out, s.n);
		c->written += s.n;
	}
	return taken;
}

bool client_body_end(struct psmtp_client *c)
{
	struct client_body *body = &client_tx(c)->body;

	/* RFC 5321 4.1.1.4: end of data is CRLF.CRLF, whose first CRLF ends the last line; CLIENT_HEADROOM was kept for it */
	if ((body->cr || !body->line_start) && !client_add(c, VIEW("\r\n")))
		return false;
	if (!client_add(c, VIEW(".\r\n")))
		return false;
	body->end = c->written;
	return true;
}

/* ---- BDAT ---- */

size_t client_chunks_open(const struct psmtp_client *c)
{
	return buf_len(&c->epoch.hello.tx.body.ends) / sizeof(uint64_t);
}

void client_chunk_answered(struct psmtp_client *c)
{
	buf_take(&client_tx(c)->body.ends, sizeof(uint64_t));
}

/* Without PIPELINING a chunk waits for the reply to the one before it (RFC 3030 section 2, RFC 2920). */
static bool chunk_may_go(const struct psmtp_client *c)
{
	bool pipelining = c->epoch.hello.offer.pipelining && !c->options.no_pipelining;
	size_t open = client_chunks_open(c);

	return (open == 0 || (pipelining && open < CLIENT_CHUNKS_AHEAD)) &&
	       output_room(c) >= buf_len(&c->epoch.hello.tx.body.chunk) + CHUNK_HEAD;
}

/* The gathered content becomes a chunk of the output; false when memory is out. */
static bool chunk_write(struct psmtp_client *c, bool last)
{
	struct client_body *body = &client_tx(c)->body;
	struct view content = buf_view(&body->chunk);
	char head[CHUNK_HEAD];
	int n = snprintf(head, sizeof head, "BDAT %zu%s\r\n", content.n, last ? " LAST" : "");
	uint64_t end = c->written + (uint64_t)n + content.n;

	/* All memory first, so that half a chunk is never in the output. */
	if (!buf_reserve(&c->out, (size_t)n + content.n) || !buf_add(&body->ends, view_of((const char *)&end, sizeof end)))
		return false;
	if (!client_add(c, view_of(head, (size_t)n)) || !client_add(c, content))
		return false;
	buf_take(&body->chunk, content.n);
	return true;
}

static bool chunk_full(const struct client_body *body)
{
	return buf_len(&body->chunk) + LINE_END + 2 > CLIENT_CHUNK;
}

bool client_chunks_pump(struct psmtp_client *c, uint64_t now)
{
	struct client_body *body = &client_tx(c)->body;

	if (chunk_full(body) && !body->ending && chunk_may_go(c))
		return chunk_write(c, false);
	if (body->ending && chunk_may_go(c)) {
		if (body->cr && !buf_add(&body->chunk, VIEW("\r\n"))) /* a CR at the very end; 16 octets are kept for this */
			return false;
		body->cr = false;
		if (!chunk_write(c, true))
			return false;
		client_fire(c, CLIENT_ON_LAST, now);
	}
	return true;
}

static size_t chunks_take(struct psmtp_client *c, struct view in, uint64_t now)
{
	struct client_transaction *tx = client_tx(c);
	struct client_body *body = &tx->body;
	size_t taken = 0;

	while (taken < in.n) {
		struct sink s;

		if (chunk_full(body)) {
			if (!chunk_may_go(c))
				break;
			if (!chunk_write(c, false)) {
				client_fire(c, CLIENT_ON_NO_MEMORY, now);
				break;
			}
		}
		s = (struct sink){ .room = CLIENT_CHUNK - buf_len(&body->chunk) };
		if (s.room > 2 * (in.n - taken) + LINE_END + 2) /* a small body needs a small chunk */
			s.room = 2 * (in.n - taken) + LINE_END + 2;
		if (!buf_reserve(&body->chunk, s.room)) {
			client_fire(c, CLIENT_ON_NO_MEMORY, now);
			break;
		}
		s.p = buf_tail(&body->chunk);
		if (tx->msg.binary)
			taken += opaque(&s, view_slice(in, taken, in.n));
		else
			taken += canon(body, &s, view_slice(in, taken, in.n), false);
		buf_commit(&body->chunk, s.n);
	}
	return taken;
}

/* ---- the call ---- */

/* The message was settled, or the session given up, while the caller was still writing: nothing is kept. */
static bool swallows(const struct psmtp_client *c)
{
	switch (c->phase) {
	case CLIENT_IN_ABANDON:
	case CLIENT_IN_SETTLED:
	case CLIENT_IN_RSET:
	case CLIENT_IN_LEAVING:
	case CLIENT_IN_QUIT:
	case CLIENT_IN_CLOSING:
	case CLIENT_IN_CLOSED:
		return true;
	default:
		return false;
	}
}

size_t psmtp_client_body(struct psmtp_client *c, const void *bytes, size_t n, bool last, uint64_t now)
{
	struct view in = view_of(bytes, n);
	struct client_body *body = &client_tx(c)->body;
	size_t taken;

	if (swallows(c))
		return n;
	if ((c->phase != CLIENT_IN_BODY && c->phase != CLIENT_IN_CHUNKS) || body->ending)
		return 0;
	taken = c->phase == CLIENT_IN_BODY ? lines_take(c, in, now) : chunks_take(c, in, now);
	if (c->phase != CLIENT_IN_BODY && c->phase != CLIENT_IN_CHUNKS) {
		client_run(c, now); /* memory ran out */
		return taken;
	}
	if (taken)
		client_clock_set(c, now);
	if (last && taken == n) {
		body->ending = true;
		if (c->phase == CLIENT_IN_BODY)
			client_fire(c, CLIENT_ON_LAST, now);
	}
	client_run(c, now);
	return taken;
}

void psmtp_client_body_abort(struct psmtp_client *c, uint64_t now)
{
	client_fire(c, CLIENT_ON_ABORT, now); /* where the message has its end already, or none is open, no row matches */
	client_run(c, now);
}
