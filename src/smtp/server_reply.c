/* server_reply.c - replies of the table with their words filled in, and the words that EHLO offers.
 *
 * The text of a reply is put together in a block on the stack that holds the longest one possible (options are limited
 * when the session is made) and leaves through smtp_reply_write, which keeps it printable and its lines short.
 * Failure: false when the output cannot grow.
 */
#include "smtp/base64.h"
#include "smtp/reply_out.h"
#include "smtp/server_state.h"

#include <stdio.h>

#define TEXT_MAX 2048 /* hostname and software 255 each, mechanisms 400, the other words below 300 */

struct text {
	char bytes[TEXT_MAX];
	size_t n;
};

static void put(struct text *t, struct view v)
{
	size_t n = v.n < sizeof t->bytes - t->n ? v.n : sizeof t->bytes - t->n;

	if (n)
		memcpy(t->bytes + t->n, v.p, n);
	t->n += n;
}

static void put_number(struct text *t, uint64_t number)
{
	char digits[24];
	int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);

	put(t, view_of(digits, (size_t)n));
}

static void put_capabilities(struct text *, const struct psmtp_server *);

/* RFC 9422 section 3: LIMITS with its limits, blank-separated. */
static void put_limits(struct text *t, const struct psmtp_server_options *o)
{
	put(t, VIEW("RCPTMAX="));
	put_number(t, o->rcpt_limit);
	if (o->mail_limit) {
		put(t, VIEW(" MAILMAX="));
		put_number(t, o->mail_limit);
	}
}

/* One word in braces. */
static void put_word(struct text *t, const struct psmtp_server *s, struct view word)
{
	const struct psmtp_server_options *o = &s->options;

	if (view_eq(word, VIEW("host"))) {
		put(t, smtp_view(o->hostname));
	} else if (view_eq(word, VIEW("software"))) {
		put(t, smtp_view(o->software));
	} else if (view_eq(word, VIEW("tls"))) {
		put(t, view_cstr(s->epoch.protocol));
		put(t, VIEW(" "));
		put(t, view_cstr(s->epoch.cipher));
	} else if (view_eq(word, VIEW("octets"))) {
		put_number(t, s->epoch.hello.transaction.command.chunk.size);
	} else if (view_eq(word, VIEW("limit"))) {
		put_number(t, o->size_limit);
	} else if (view_eq(word, VIEW("limits"))) {
		put_limits(t, o);
	} else if (view_eq(word, VIEW("mechanisms"))) {
		put(t, smtp_view(o->auth));
	} else if (view_eq(word, VIEW("capabilities"))) {
		put_capabilities(t, s);
	}
}

static void put_filled(struct text *t, const struct psmtp_server *s, struct view words)
{
	while (words.n) {
		size_t plain = view_find(words, '{'), end;

		put(t, view_slice(words, 0, plain));
		words = view_slice(words, plain, words.n);
		if (!words.n)
			return;
		end = view_find(words, '}');
		put_word(t, s, view_slice(words, 1, end));
		words = view_slice(words, end + 1, words.n);
	}
}

/* Each word on its own line, exactly when its row's guards could hold now: there is no second list. */
static void put_capabilities(struct text *t, const struct psmtp_server *s)
{
	uint64_t facts = server_facts(s, NULL);

	for (size_t i = 0; i + 1 < server_row_count; i++) {
		const struct server_row *row = &server_rows[i];

		if (!row->offers)
			continue;
		while (!row->event) /* a NOTE may stand between */
			row++;
		if (!server_row_possible(row, facts))
			continue;
		put(t, VIEW("\n"));
		put_filled(t, s, view_cstr(server_rows[i].offers));
	}
}

struct psmtp_reply server_reply_value(enum server_reply id)
{
	const struct server_reply_text *r = &server_replies[id];

	return (struct psmtp_reply){ .code = r->code, .enhanced = { r->enhanced[0], r->enhanced[1], r->enhanced[2] },
		.text = smtp_public(view_cstr(r->text)) };
}

bool server_reply_add(struct psmtp_server *s, enum server_reply id, const struct psmtp_reply *own)
{
	struct text t;
	struct psmtp_reply reply;

	if (own)
		return smtp_reply_write(&s->epoch.out, own);
	t.n = 0;
	put_filled(&t, s, view_cstr(server_replies[id].text));
	reply = server_reply_value(id);
	reply.text = (struct psmtp_view){ t.bytes, t.n };
	return smtp_reply_write(&s->epoch.out, &reply);
}

/* RFC 4954 section 4: 334, one blank, the challenge in base64, which may be empty.  It may be longer than other
 * replies. */
bool server_challenge_add(struct psmtp_server *s, struct psmtp_view challenge)
{
	struct buf *out = &s->epoch.out;
	size_t n = SMTP_BASE64_ENCODED(challenge.n);

	if (!buf_reserve(out, 4 + n + 2))
		return false;
	buf_add(out, VIEW("334 "));
	buf_commit(out, smtp_base64_encode(smtp_view(challenge), (char *)buf_tail(out)));
	buf_add(out, VIEW("\r\n"));
	return true;
}
