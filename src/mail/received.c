/* received.c - see received.h.  The field is a list of words; the writer folds between them. */
#include "mail/received.h"
#include "mail/date.h"

#include <stdio.h>

#define COLUMNS  78  /* RFC 5322 2.1.1: SHOULD be no more */
#define TEXT_MAX 320 /* of one foreign text: the longest address (RFC 5321 4.5.3.1: 64 + 1 + 255) */

struct writer {
	struct buf *out;
	size_t column;
	bool utf8, ok;
};

/* Octets that can stand in a word of the trace line: no blanks, no controls, nothing that opens or closes a comment or
 * starts the date. */
static char clean(char c, bool utf8)
{
	unsigned char u = (unsigned char)c;

	if (u > 127)
		return utf8 ? c : '?';
	if (u <= 32 || u == 127 || c == '(' || c == ')' || c == ';' || c == '<' || c == '>' || c == '\\' || c == '"')
		return '?';
	return c;
}

/* As clean, but the text is a whole mailbox between angle brackets, where a quoted local part may hold nearly all. */
static char clean_path(char c, bool utf8)
{
	unsigned char u = (unsigned char)c;

	if (u > 127)
		return utf8 ? c : '?';
	return u < 32 || u == 127 || c == '<' || c == '>' ? '?' : c;
}

/* One word that is never broken, with a fold or a blank before it. */
static void word(struct writer *w, struct view v)
{
	if (!w->ok || !v.n)
		return;
	if (w->column + 1 + v.n > COLUMNS && w->column > 8) {
		w->ok = buf_add(w->out, VIEW("\r\n\t"));
		w->column = 8;
	} else {
		w->ok = buf_add(w->out, VIEW(" "));
		w->column++;
	}
	w->ok = w->ok && buf_add(w->out, v);
	w->column += v.n;
}

/* before + cleaned text + behind as one word. */
static void foreign(struct writer *w, const char *before, struct view v, const char *behind,
		    char (*cleaner)(char, bool))
{
	char text[TEXT_MAX + 16];
	size_t i, n;

	n = (size_t)snprintf(text, 8, "%s", before);
	for (i = 0; i < v.n && i < TEXT_MAX; i++)
		text[n++] = cleaner(v.p[i], w->utf8);
	n += (size_t)snprintf(text + n, 8, "%s", behind);
	word(w, view_of(text, n));
}

static void from_clause(struct writer *w, const struct mail_received *r)
{
	bool v6 = view_find(r->address, ':') != r->address.n;

	word(w, VIEW("from"));
	foreign(w, "", r->hello.n ? r->hello : VIEW("unknown"), "", clean);
	/* RFC 5321 4.1.3: an IPv6 literal carries its tag */
	if (r->address.n)
		foreign(w, v6 ? "([IPv6:" : "([", r->address, "])", clean);
}

static void tls_clause(struct writer *w, const struct mail_received *r)
{
	char bits[24];

	if (!r->tls_cipher.n && !r->tls_protocol.n)
		return;
	if (r->tls_cipher.n) { /* RFC 8314 4.3 */
		word(w, VIEW("tls"));
		foreign(w, "", r->tls_cipher, "", clean);
	}
	foreign(w, "(", r->tls_protocol.n ? r->tls_protocol : VIEW("TLS"), "", clean);
	if (r->tls_bits) {
		snprintf(bits, sizeof bits, "%u", r->tls_bits % 100000);
		word(w, view_cstr(bits));
		word(w, VIEW("bits"));
	}
	for (struct view rest = r->tls_verify; rest.n;) {
		size_t n = view_find(rest, ' ');

		foreign(w, "", view_slice(rest, 0, n), "", clean);
		rest = view_slice(rest, n + 1, rest.n);
	}
	if (w->ok) {
		w->ok = buf_add(w->out, VIEW(")"));
		w->column++;
	}
}

bool mail_received_build(struct buf *out, const struct mail_received *r)
{
	struct writer w = { out, sizeof "Received:" - 1, r->utf8, true };
	size_t before = buf_len(out);
	char date[MAIL_DATE_SIZE + 8];

	w.ok = buf_add(out, VIEW("Received:"));
	from_clause(&w, r);
	word(&w, VIEW("by"));
	foreign(&w, "", r->by, "", clean);
	if (r->with.n) {
		word(&w, VIEW("with"));
		foreign(&w, "", r->with, "", clean);
	}
	if (r->id.n) {
		word(&w, VIEW("id"));
		foreign(&w, "", r->id, "", clean);
	}
	if (r->recipient.n && r->recipient.n <= TEXT_MAX) {
		word(&w, VIEW("for"));
		foreign(&w, "<", r->recipient, ">", clean_path);
	}
	tls_clause(&w, r); /* RFC 5321 4.4: Additional-Registered-Clauses come last, before the date */
	if (w.ok)
		w.ok = buf_add(out, VIEW(";"));
	w.column++;
	mail_date_text(r->wall_ms, date);
	if (w.column + 1 + sizeof "Tue, 24 Nov 2026 10:28:01 +0000" - 1 > COLUMNS)
		w.ok = w.ok && buf_add(out, VIEW("\r\n\t"));
	else
		w.ok = w.ok && buf_add(out, VIEW(" "));
	w.ok = w.ok && buf_add(out, view_cstr(date)) && buf_add(out, VIEW("\r\n"));
	if (!w.ok)
		out->wr = out->rd + before;
	return w.ok;
}
