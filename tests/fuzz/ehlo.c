/* ehlo.c - the reply to EHLO as a client learns from it, against a slow and obvious reader.
 *
 * Input: options (1: in pieces, 2: a limit of lines, 4: LMTP), a seed for the pieces, then what the server says to EHLO.
 * The oracle cuts the reply into lines and words as RFC 5321 4.1.1.1 says, knows no machine and allocates nothing; what
 * it finds is what the client must believe, no more and no less.
 */
#include "input.h"

#include <ctype.h>
#include <psmtp.h>

#define LINES_LIMIT 40
#define LINE_LIMIT  4096 /* octets of a line, as smtp/limits.h has it */

struct learnt {
	bool valid, whole; /* it begins with a good reply 2xx (RFC 5321 4.3.2: the first digit decides); and is nothing but that */
	bool pipelining, chunking, binarymime, eightbit, smtputf8, dsn, starttls, size, requiretls;
	uint64_t size_limit;
	uint32_t mail_limit, rcpt_limit;
	struct view auth, name;
};

/* ---- the oracle ---- */

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct view word_at(struct view v, size_t *at)
{
	size_t from;

	while (*at < v.n && blank(v.p[*at]))
		++*at;
	for (from = *at; *at < v.n && !blank(v.p[*at]);)
		++*at;
	return view_slice(v, from, *at);
}

/* Digits only, and small enough; else -1. */
static int64_t number(struct view v, int64_t most)
{
	int64_t value = 0;

	for (size_t i = 0; i < v.n; i++) {
		if (!isdigit((unsigned char)v.p[i]) || value > most / 10)
			return -1;
		value = value * 10 + (v.p[i] - '0');
	}
	return v.n && value <= most ? value : -1;
}

static void learn_limits(struct learnt *k, struct view line, size_t at)
{
	for (struct view w = word_at(line, &at); w.n; w = word_at(line, &at)) {
		size_t eq = view_find(w, '=');
		int64_t value = number(view_slice(w, eq + 1, w.n), 999999);

		if (value <= 0)
			continue;
		if (view_eq_nocase(view_slice(w, 0, eq), VIEW("MAILMAX")))
			k->mail_limit = (uint32_t)value;
		if (view_eq_nocase(view_slice(w, 0, eq), VIEW("RCPTMAX")))
			k->rcpt_limit = (uint32_t)value;
	}
}

static void learn(struct learnt *k, struct view line)
{
	size_t at = 0;
	struct view word = word_at(line, &at);
	int64_t value;

	k->pipelining |= view_eq_nocase(word, VIEW("PIPELINING"));
	k->chunking |= view_eq_nocase(word, VIEW("CHUNKING"));
	k->binarymime |= view_eq_nocase(word, VIEW("BINARYMIME"));
	k->eightbit |= view_eq_nocase(word, VIEW("8BITMIME"));
	k->smtputf8 |= view_eq_nocase(word, VIEW("SMTPUTF8"));
	k->dsn |= view_eq_nocase(word, VIEW("DSN"));
	k->starttls |= view_eq_nocase(word, VIEW("STARTTLS"));
	k->requiretls |= view_eq_nocase(word, VIEW("REQUIRETLS"));
	if (view_eq_nocase(word, VIEW("SIZE"))) {
		k->size = true;
		value = number(word_at(line, &at), INT64_MAX);
		if (value >= 0)
			k->size_limit = (uint64_t)value;
	} else if (view_eq_nocase(word, VIEW("LIMITS"))) {
		learn_limits(k, line, at);
	} else if (view_eq_nocase(word, VIEW("AUTH")) && !k->auth.n) {
		k->auth = view_trim(view_slice(line, at, line.n));
	}
}

/* Whether the reply's code and a separator begin the line; *last when it is the reply's last. */
static bool head(struct view line, const char *code, bool *last)
{
	if (line.n < 3 || memcmp(line.p, code, 3) != 0 || code[0] != '2' || !isdigit((unsigned char)code[1]) ||
	    !isdigit((unsigned char)code[2]) || (line.n > 3 && line.p[3] != ' ' && line.p[3] != '-'))
		return false;
	*last = line.n == 3 || line.p[3] == ' ';
	return true;
}

/* "2.x.y " in front, which some servers write there although RFC 2034 section 4 forbids it: how long it is. */
static size_t enhanced(struct view v, int64_t out[3])
{
	size_t at = 0;

	for (unsigned i = 0; i < 3; i++) {
		size_t from = at;

		while (at < v.n && at - from < 3 && isdigit((unsigned char)v.p[at]))
			at++;
		out[i] = number(view_slice(v, from, at), 999);
		if (out[i] < 0 || (i == 0 && out[i] != 2) || (i < 2 && (at == v.n || v.p[at++] != '.')))
			return 0;
	}
	if (at < v.n && v.p[at] != ' ')
		return 0;
	return at < v.n ? at + 1 : at;
}

/* text is changed: controls become '?'. */
static struct learnt oracle(char *text, size_t n, unsigned lines_limit)
{
	int64_t first[3] = { 0 }, again[3];
	struct learnt k = { 0 };
	const char *code = text;
	bool last = false;

	for (unsigned lines = 0; !last; lines++) {
		char *end = n ? memchr(text, '\n', n) : NULL;
		struct view line = view_of(text, end ? (size_t)(end - text) : 0);
		size_t cut;

		if (!end || line.n == 0 || line.p[line.n - 1] != '\r' || lines == lines_limit || line.n + 1 > LINE_LIMIT)
			return (struct learnt){ 0 };
		line.n--;
		if (memchr(line.p, '\r', line.n) || memchr(line.p, '\0', line.n) || !head(line, code, &last))
			return (struct learnt){ 0 };
		for (size_t i = 4; i < line.n; i++)
			if (((unsigned char)text[i] < 32 && text[i] != '\t') || text[i] == 127)
				text[i] = '?';
		line = view_slice(line, line.n > 3 ? 4 : 3, line.n);
		cut = enhanced(line, again);
		if (lines == 0 && cut)
			memcpy(first, again, sizeof first);
		if (cut && memcmp(first, again, sizeof first) == 0)
			line = view_slice(line, cut, line.n);
		if (lines == 0) {
			size_t at = 0;

			k.name = word_at(line, &at);
		} else {
			learn(&k, line);
		}
		n -= (size_t)(end + 1 - text);
		text = end + 1;
	}
	k.valid = true;
	k.whole = n == 0;
	return k;
}

/* ---- the client ---- */

static bool same(struct psmtp_view a, struct view b)
{
	return a.n == b.n && (!a.n || memcmp(a.p, b.p, a.n) == 0);
}

static void feed(struct psmtp_client *c, struct view v, unsigned seed)
{
	char *exact = input_copy(v);

	for (size_t at = 0, took; at < v.n; at += took) {
		size_t piece = seed ? 1 + (seed = seed * 1103515245u + 12345u) / 65536 % 7 : v.n - at;

		took = psmtp_client_feed(c, 1, exact + at, piece < v.n - at ? piece : v.n - at, 0);
		if (!took)
			break; /* an event waits */
	}
	free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n };
	unsigned options = input_byte(&in), seed = input_byte(&in);
	struct input_memory memory = { 0 };
	struct psmtp_allocator a = { input_resize, &memory };
	struct psmtp_client_options o = { .hello = { "c.test", 6 }, .tls = PSMTP_CLIENT_TLS_NONE, .lmtp = options & 4,
					  .reply_lines = options & 2 ? 3 : LINES_LIMIT };
	struct psmtp_client *c = psmtp_client_new(&o, &a, 0);
	struct view said = view_of((const char *)in.p, in.n);
	char *text = input_copy(said);
	struct psmtp_client_event e;
	struct psmtp_client_facts f;
	struct learnt k = oracle(text, said.n, o.reply_lines);
	bool ready = false;

	assert(c);
	feed(c, view_of("220 hi\r\n", 8), 0);
	while (psmtp_client_next(c, &e, 0))
		assert(e.type != PSMTP_CLIENT_READY);
	psmtp_client_sent(c, psmtp_client_output(c).n, 0);
	feed(c, said, options & 1 ? seed | 1 : 0);
	while (psmtp_client_next(c, &e, 0))
		ready = ready || e.type == PSMTP_CLIENT_READY;
	psmtp_client_get_facts(c, &f);
	if (k.whole) {
		assert(ready && f.ehlo && f.pipelining == k.pipelining && f.chunking == k.chunking && f.binarymime == k.binarymime);
		assert(f.eightbit == k.eightbit && f.smtputf8 == k.smtputf8 && f.dsn == k.dsn && f.starttls == k.starttls);
		assert(f.requiretls == k.requiretls && f.size == k.size && f.size_limit == k.size_limit);
		assert(f.mail_limit == k.mail_limit && f.rcpt_limit == k.rcpt_limit);
		assert(same(f.auth, k.auth) && same(f.hello, k.name));
	} else { /* octets behind it may end the session; a client that is ready all the same had a good reply */
		assert(!ready || !f.ehlo || k.valid);
	}
	psmtp_client_free(c);
	free(text);
	assert(memory.blocks == 0);
	return 0;
}
