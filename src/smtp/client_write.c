/* client_write.c - the commands that the client says.
 *
 * Every octet goes through client_add, which counts them: the count is what a reply is held against, so that none is
 * believed that came before its command had left (client_said).  Failure: false when memory is out; the cap of the
 * output cannot be hit here, because the flight stops short of it and the rest fits CLIENT_HEADROOM.
 */
#include "smtp/client_state.h"

#include <stdarg.h>
#include <stdio.h>

bool client_add(struct psmtp_client *c, struct view v)
{
	if (!buf_add(&c->out, v))
		return false;
	c->written += v.n;
	return true;
}

bool client_say(struct psmtp_client *c, const char *fmt, ...)
{
	char line[CLIENT_AUTH_COMMAND + 2]; /* hello name or mechanism, both bounded when the session was made */
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof line)
		return false;
	if (!client_add(c, view_of(line, (size_t)n)))
		return false;
	c->epoch.said = c->written;
	return true;
}

/* ---- MAIL and RCPT: built in one buffer, so that half a command can never be in the output ---- */

struct line {
	char text[CLIENT_LINE_MAX];
	size_t n;
};

static void line_add(struct line *l, struct view v)
{
	if (v.n > sizeof l->text - l->n)
		v.n = sizeof l->text - l->n; /* cannot be: every part is bounded, and their sum is under 2,500 */
	if (v.n)
		memcpy(l->text + l->n, v.p, v.n);
	l->n += v.n;
}

static void line_number(struct line *l, uint64_t number)
{
	char digits[24];
	int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);

	line_add(l, view_of(digits, (size_t)n));
}

/* xtext (RFC 3461 section 4): printable ASCII but + and =; raw8: octets above 127 as they are (RFC 6533 section 3,
 * utf-8-addr-unitext, which only SMTPUTF8 may carry). */
static void line_xtext(struct line *l, struct view v, bool raw8)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < v.n; i++) {
		unsigned char ch = (unsigned char)v.p[i];

		if ((ch > 32 && ch < 127 && ch != '+' && ch != '=') || (raw8 && ch > 127)) {
			line_add(l, view_slice(v, i, i + 1));
		} else {
			char code[3] = { '+', hex[ch >> 4], hex[ch & 15] };
			line_add(l, view_of(code, sizeof code));
		}
	}
}

bool client_say_mail(struct psmtp_client *c)
{
	struct client_transaction *tx = client_tx(c);
	const struct psmtp_client_message *m = &tx->msg;
	const struct psmtp_client_facts *offer = &client_hello(c)->offer;
	struct line l = { .n = 0 };

	line_add(&l, VIEW("MAIL FROM:<"));
	line_add(&l, smtp_view(m->sender));
	line_add(&l, VIEW(">"));
	if (offer->size && m->size) { /* RFC 1870 section 6 */
		line_add(&l, VIEW(" SIZE="));
		line_number(&l, m->size);
	}
	if (m->binary) /* RFC 3030 section 3; the row of SEND has made sure of the offer, as for all below */
		line_add(&l, VIEW(" BODY=BINARYMIME"));
	else if (m->has_8bit) /* RFC 6152 section 3 */
		line_add(&l, VIEW(" BODY=8BITMIME"));
	if (tx->utf8) /* RFC 6531 section 3.4 */
		line_add(&l, VIEW(" SMTPUTF8"));
	if (m->requiretls) /* RFC 8689 section 2 */
		line_add(&l, VIEW(" REQUIRETLS"));
	if (offer->dsn && m->ret > PSMTP_RET_UNSAID) /* RFC 3461 section 4.3 */
		line_add(&l, m->ret == PSMTP_RET_FULL ? VIEW(" RET=FULL") : VIEW(" RET=HDRS"));
	if (offer->dsn && m->envid.n && m->envid.n <= CLIENT_ENVID_MAX) { /* RFC 3461 section 4.4 */
		line_add(&l, VIEW(" ENVID="));
		line_xtext(&l, smtp_view(m->envid), false);
	}
	line_add(&l, VIEW("\r\n"));
	if (!client_add(c, view_of(l.text, l.n)))
		return false;
	tx->mail_said = c->written;
	return true;
}

/* RFC 3461 section 4.1: NEVER stands alone. */
static void line_notify(struct line *l, unsigned notify)
{
	static const struct {
		unsigned bit;
		const char *word;
	} words[] = { { PSMTP_NOTIFY_SUCCESS, "SUCCESS" }, { PSMTP_NOTIFY_FAILURE, "FAILURE" },
		{ PSMTP_NOTIFY_DELAY, "DELAY" } };
	bool first = true;

	line_add(l, VIEW(" NOTIFY="));
	if (notify & PSMTP_NOTIFY_NEVER) {
		line_add(l, VIEW("NEVER"));
		return;
	}
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (notify & words[i].bit) {
			if (!first)
				line_add(l, VIEW(","));
			line_add(l, view_cstr(words[i].word));
			first = false;
		}
}

static bool is_atom(struct view v)
{
	for (size_t i = 0; i < v.n; i++)
		if (v.p[i] <= 32 || v.p[i] >= 127 || strchr("()<>@,;:\\\".[]+=", v.p[i]))
			return false;
	return v.n > 0 && v.n <= 64; /* "rfc822", "utf-8"; 64 is far beyond any registered type */
}

static bool say_rcpt(struct psmtp_client *c, uint32_t index)
{
	struct client_transaction *tx = client_tx(c);
	const struct psmtp_client_rcpt *r = &tx->msg.rcpts[index];
	const unsigned all = PSMTP_NOTIFY_NEVER | PSMTP_NOTIFY_SUCCESS | PSMTP_NOTIFY_FAILURE | PSMTP_NOTIFY_DELAY;
	bool dsn = client_hello(c)->offer.dsn;
	struct line l = { .n = 0 };

	line_add(&l, VIEW("RCPT TO:<"));
	line_add(&l, smtp_view(r->address));
	line_add(&l, VIEW(">"));
	if (dsn && r->notify & all)
		line_notify(&l, r->notify);
	if (dsn && is_atom(smtp_view(r->orcpt_type)) && r->orcpt.n && r->orcpt.n <= CLIENT_ORCPT_MAX) { /* RFC 3461 4.2 */
		line_add(&l, VIEW(" ORCPT="));
		line_add(&l, smtp_view(r->orcpt_type));
		line_add(&l, VIEW(";"));
		line_xtext(&l, smtp_view(r->orcpt), tx->utf8 && view_eq_nocase(smtp_view(r->orcpt_type), VIEW("utf-8")));
	}
	line_add(&l, VIEW("\r\n"));
	if (!client_add(c, view_of(l.text, l.n)))
		return false;
	tx->rcpts[index].said = c->written;
	if (!tx->flying++)
		tx->reply_at = index;
	tx->to_write--;
	return true;
}

static bool flight_room(const struct psmtp_client *c)
{
	return buf_len(&c->out) + CLIENT_LINE_MAX + CLIENT_HEADROOM <= CLIENT_OUTPUT_MAX;
}

bool client_flight(struct psmtp_client *c)
{
	struct client_transaction *tx = client_tx(c);
	bool pipelining = client_hello(c)->offer.pipelining && !c->options.no_pipelining;

	/* A refused MAIL ends the flight; without PIPELINING each command waits for the reply before it (RFC 2920 3.1). */
	while (!tx->refused && tx->to_write && flight_room(c)) {
		if (!pipelining && (c->phase == CLIENT_IN_MAIL || tx->flying))
			return true;
		while (tx->rcpts[tx->write_at].state != CLIENT_RCPT_WAITING)
			tx->write_at++;
		if (!say_rcpt(c, tx->write_at))
			return false;
		tx->write_at++;
	}
	/* DATA may be the last command of a group, and stands behind the last RCPT; BDAT waits to know of a recipient. */
	if (!tx->refused && !tx->to_write && pipelining && !tx->chunked && !tx->data_said && flight_room(c)) {
		if (!client_add(c, VIEW("DATA\r\n")))
			return false;
		tx->data_said = c->written;
	}
	return true;
}
