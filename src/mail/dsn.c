/* dsn.c - see dsn.h. */
#include "mail/dsn.h"
#include "mail/date.h"
#include "mail/scan.h"

#include <inttypes.h>
#include <stdio.h>

#define FOLD 76 /* columns of a folded field */

struct writer {
	struct buf *out;
	const struct mail_dsn *d;
	bool ok;
	char boundary[64];
};

const char *mail_dsn_action_name(enum mail_dsn_action a)
{
	switch (a) {
	case MAIL_DSN_FAILED: return "failed";
	case MAIL_DSN_DELAYED: return "delayed";
	case MAIL_DSN_DELIVERED: return "delivered";
	case MAIL_DSN_RELAYED: return "relayed";
	}
	return "?";
}

static void put(struct writer *w, struct view v)
{
	w->ok = w->ok && buf_add(w->out, v);
}

static void put_cstr(struct writer *w, const char *s)
{
	put(w, view_cstr(s));
}

static char clean(char c, bool utf8)
{
	unsigned char u = (unsigned char)c;

	if (u > 127)
		return utf8 ? c : '?';
	return u < 32 || u == 127 ? ' ' : c;
}

/* Foreign words as part of a line: controls become blanks, so that nothing can begin a line of its own. */
static void put_clean(struct writer *w, struct view v, size_t max)
{
	size_t i;
	char c;

	if (v.n > max)
		v.n = max;
	for (i = 0; i < v.n; i++) {
		c = clean(v.p[i], w->d->utf8);
		put(w, view_of(&c, 1));
	}
}

/* "Name: " and foreign words, folded at blanks (RFC 5322 2.2.3). */
static void put_folded(struct writer *w, size_t column, struct view v)
{
	size_t n;

	if (v.n > MAIL_DSN_TEXT_MAX)
		v.n = MAIL_DSN_TEXT_MAX;
	for (v = view_trim(v); v.n; v = view_trim(view_slice(v, n, v.n))) {
		for (n = 0; n < v.n && (unsigned char)v.p[n] > 32;)
			n++;
		if (!n) { /* a control octet is a blank to us */
			n = 1;
			continue;
		}
		if (column + 1 + n > FOLD && column > 1) {
			put(w, VIEW("\r\n "));
			column = 1;
		} else {
			put(w, VIEW(" "));
			column++;
		}
		put_clean(w, view_slice(v, 0, n), n);
		column += n;
	}
	put(w, VIEW("\r\n"));
}

static void put_date(struct writer *w, const char *name, int64_t ms)
{
	char date[MAIL_DATE_SIZE];

	w->ok = w->ok && buf_addf(w->out, "%s: %s\r\n", name, mail_date_text(ms, date));
}

static bool has_high(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if ((unsigned char)v.p[i] > 127)
			return true;
	return false;
}

/* RFC 3461 4.2, RFC 6533 3: outside SMTPUTF8 an original recipient of type utf-8 goes out as utf-8-addr-xtext. */
static void put_original_recipient(struct writer *w, struct view type, struct view address)
{
	size_t i, more, column = 0;
	uint32_t point;
	unsigned char u;

	put(w, VIEW("Original-Recipient: "));
	if (has_high(address) && view_eq_nocase(type, VIEW("rfc822")))
		type = VIEW("utf-8"); /* some clients hide UTF-8 in xtext; RFC 6533 3: the type says how to read it */
	put_clean(w, type, 64);
	put(w, VIEW("; "));
	for (i = 0; i < address.n && column < MAIL_DSN_TEXT_MAX; i++) {
		u = (unsigned char)address.p[i];
		if (u < 128 || w->d->utf8) {
			put_clean(w, view_of(address.p + i, 1), 1);
			column++;
			continue;
		}
		column += sizeof "\\x{10FFFF}" - 1; /* what is written must fit a line, not what is read */
		more = u >= 0xf0 ? 3 : u >= 0xe0 ? 2 : 1;
		point = u & (0x3fu >> more);
		for (; more && i + 1 < address.n && ((unsigned char)address.p[i + 1] & 0xc0) == 0x80; more--)
			point = point << 6 | ((unsigned char)address.p[++i] & 0x3f);
		w->ok = w->ok && buf_addf(w->out, "\\x{%" PRIX32 "}", point);
	}
	put(w, VIEW("\r\n"));
}

/* ---- the message's own header ---- */

static const char *subject(enum mail_dsn_action a)
{
	switch (a) {
	case MAIL_DSN_FAILED: return "Undelivered mail returned to sender";
	case MAIL_DSN_DELAYED: return "Delayed mail (still being tried)";
	case MAIL_DSN_DELIVERED:
	case MAIL_DSN_RELAYED: return "Successful mail delivery report";
	}
	return "Mail delivery report";
}

static void put_header(struct writer *w, bool high)
{
	const struct mail_dsn *d = w->d;

	/* RFC 3464 2: From a postmaster-like address of this host, To the return address */
	put(w, VIEW("From: Mail Delivery System <MAILER-DAEMON@"));
	put_clean(w, d->host, 255);
	put(w, VIEW(">\r\nTo: <"));
	put_clean(w, d->sender, MAIL_DSN_TEXT_MAX);
	put(w, VIEW(">\r\n"));
	put_date(w, "Date", d->now);
	w->ok = w->ok && buf_addf(w->out, "Message-ID: <%016" PRIx64 ".%016" PRIx64 "@", d->id, d->nonce);
	put_clean(w, d->host, 255);
	w->ok = w->ok && buf_addf(w->out, ">\r\nSubject: %s\r\n", subject(d->action));
	put(w, VIEW("Auto-Submitted: auto-replied\r\n")); /* RFC 3834 5: no machine shall answer this */
	w->ok = w->ok &&
		buf_addf(w->out,
			 "MIME-Version: 1.0\r\n"
			 "Content-Type: multipart/report; report-type=%s;\r\n"
			 "\tboundary=\"%s\"\r\n"
			 "Content-Transfer-Encoding: %s\r\n\r\n"
			 "This is a report in MIME format.\r\n\r\n",
			 d->utf8 ? "global-delivery-status" : "delivery-status", w->boundary, high ? "8bit" : "7bit");
}

/* ---- the part for humans ---- */

static const char *explain(enum mail_dsn_action a)
{
	switch (a) {
	case MAIL_DSN_FAILED:
		return "Your message could not be delivered to the recipients below, and it is\r\n"
		       "not tried again.  What the other side said stands below each.\r\n";
	case MAIL_DSN_DELAYED:
		return "Your message has not been delivered to the recipients below yet.  It is\r\n"
		       "tried again; you need not send it again.\r\n";
	case MAIL_DSN_DELIVERED:
	case MAIL_DSN_RELAYED:
		return "You asked to be told: your message was delivered to the recipients below,\r\n"
		       "or handed to a mail system that sends no such reports.\r\n";
	}
	return "";
}

static void put_human(struct writer *w, bool high)
{
	const struct mail_dsn *d = w->d;
	char date[MAIL_DATE_SIZE];
	size_t i;

	w->ok = w->ok &&
		buf_addf(w->out,
			 "--%s\r\nContent-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: %s\r\n\r\n",
			 w->boundary, d->utf8 ? "utf-8" : "us-ascii", high ? "8bit" : "7bit");
	put(w, VIEW("This is the mail system at "));
	put_clean(w, d->host, 255);
	put(w, VIEW(".\r\n\r\n"));
	put_cstr(w, explain(d->action));
	for (i = 0; i < d->n; i++) {
		const struct mail_dsn_rcpt *r = &d->rcpts[i];

		put(w, VIEW("\r\n<"));
		put_clean(w, r->address, MAIL_DSN_TEXT_MAX);
		w->ok = w->ok && buf_addf(w->out, ">: %s\r\n", mail_dsn_action_name(r->action));
		if (r->remote.n) {
			put(w, VIEW("    "));
			put_clean(w, r->remote, 300);
			put_cstr(w, r->local ? ":\r\n" : " said:\r\n");
		}
		if (r->text.n || r->code) {
			put(w, VIEW("   "));
			if (r->code && !r->local)
				w->ok = w->ok && buf_addf(w->out, " %u", r->code);
			put_folded(w, 8, r->text.n ? r->text : VIEW("(no words)"));
		}
		if (r->action == MAIL_DSN_DELAYED && r->retry_until)
			w->ok = w->ok &&
				buf_addf(w->out, "    Tried until %s\r\n", mail_date_text(r->retry_until, date));
	}
	w->ok = w->ok &&
		buf_addf(w->out,
			 "\r\nThe message was accepted here on %s\r\nand has the queue id %016" PRIx64 ".\r\n\r\n",
			 mail_date_text(d->arrival, date), d->id);
}

/* ---- the part for machines: RFC 3464 2.2 and 2.3 ---- */

static void put_status(struct writer *w, const struct mail_dsn_rcpt *r)
{
	uint16_t s[3] = { r->status[0], r->status[1], r->status[2] };

	/* RFC 3463: the class follows the action; 4 is told also for a failure after many temporary ones */
	if (r->action == MAIL_DSN_DELIVERED || r->action == MAIL_DSN_RELAYED)
		s[0] = 2;
	else if (r->action == MAIL_DSN_DELAYED)
		s[0] = 4;
	else if (s[0] != 4 && s[0] != 5)
		s[0] = 5;
	w->ok = w->ok && buf_addf(w->out, "Status: %u.%u.%u\r\n", s[0], s[1] % 1000u, s[2] % 1000u);
}

/* RFC 3464 2.3.6; words of ours are no SMTP reply, and are labelled so. */
static void put_diagnostic(struct writer *w, const struct mail_dsn_rcpt *r)
{
	char lead[48];
	int n;

	if (!r->code && !r->text.n)
		return;
	if (r->code && !r->local)
		n = snprintf(lead, sizeof lead, "Diagnostic-Code: smtp; %u", r->code);
	else
		n = snprintf(lead, sizeof lead, "Diagnostic-Code: X-Postrider;");
	put_cstr(w, lead);
	put_folded(w, (size_t)n, r->text.n ? r->text : VIEW("(no words)"));
}

/* RFC 3464 2.3.5: the name of the host, of "name[address]:port".  One that is known by its address alone is a domain
 * literal (RFC 3464 2.1.2, RFC 5321 4.1.3). */
static void put_remote(struct writer *w, struct view remote)
{
	struct view host = view_slice(remote, 0, view_find(remote, '['));
	bool v6 = view_find(host, ':') < host.n, v4 = !v6 && host.n > 0;
	size_t i;

	for (i = 0; i < host.n; i++)
		v4 = v4 && (host.p[i] == '.' || (host.p[i] >= '0' && host.p[i] <= '9'));
	put(w, VIEW("Remote-MTA: dns; "));
	put_cstr(w, v6 ? "[IPv6:" : v4 ? "[" : "");
	put_clean(w, host, 255);
	put_cstr(w, v6 || v4 ? "]\r\n" : "\r\n");
}

static void put_machine(struct writer *w, bool high)
{
	const struct mail_dsn *d = w->d;
	size_t i;

	w->ok = w->ok &&
		buf_addf(w->out,
			 "--%s\r\nContent-Type: message/%sdelivery-status\r\nContent-Transfer-Encoding: %s\r\n\r\n",
			 w->boundary, d->utf8 ? "global-" : "", high ? "8bit" : "7bit");
	if (d->envid.n) { /* RFC 3464 2.2.1 */
		put(w, VIEW("Original-Envelope-Id: "));
		put_clean(w, d->envid, MAIL_DSN_TEXT_MAX);
		put(w, VIEW("\r\n"));
	}
	put(w, VIEW("Reporting-MTA: dns; "));
	put_clean(w, d->host, 255);
	put(w, VIEW("\r\n"));
	put_date(w, "Arrival-Date", d->arrival);
	for (i = 0; i < d->n; i++) {
		const struct mail_dsn_rcpt *r = &d->rcpts[i];

		put(w, VIEW("\r\n"));
		if (r->orcpt_type.n && r->orcpt.n)
			put_original_recipient(w, r->orcpt_type, r->orcpt);
		/* RFC 6533 3: the address type says how to read it */
		put(w, has_high(r->address) ? VIEW("Final-Recipient: utf-8; ") : VIEW("Final-Recipient: rfc822; "));
		put_clean(w, r->address, MAIL_DSN_TEXT_MAX);
		w->ok = w->ok && buf_addf(w->out, "\r\nAction: %s\r\n", mail_dsn_action_name(r->action));
		put_status(w, r);
		if (r->remote.n && r->remote.p[0] != '/' && r->remote.p[0] != '[') /* a socket's path is no host */
			put_remote(w, r->remote);
		put_diagnostic(w, r);
		if (r->last_attempt)
			put_date(w, "Last-Attempt-Date", r->last_attempt);
		if (r->action == MAIL_DSN_DELAYED && r->retry_until)
			put_date(w, "Will-Retry-Until", r->retry_until);
	}
	put(w, VIEW("\r\n"));
}

/* ---- what is returned ---- */

static struct view returned(const struct mail_dsn *d)
{
	struct mail_scan scan = { 0 };

	if (d->whole && d->original.n <= MAIL_DSN_FULL_MAX)
		return d->original;
	mail_scan_bytes(&scan, d->original);
	mail_scan_end(&scan);
	return view_slice(d->original, 0,
			  scan.header_end < MAIL_DSN_HEADER_MAX ? (size_t)scan.header_end : MAIL_DSN_HEADER_MAX);
}

static void put_returned(struct writer *w, struct view v, bool whole)
{
	const struct mail_dsn *d = w->d;
	const char *type = whole ? (d->utf8 ? "message/global" : "message/rfc822")
				 : (d->utf8 ? "message/global-headers" : "text/rfc822-headers");

	/* RFC 6522 3: third part; RFC 2046 5.2.1 lets message/rfc822 be 7bit or 8bit only */
	w->ok = w->ok && buf_addf(w->out, "--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n",
				  w->boundary, type, has_high(v) ? "8bit" : "7bit");
	put(w, v);
	if (v.n && v.p[v.n - 1] != '\n')
		put(w, VIEW("\r\n"));
	w->ok = w->ok && buf_addf(w->out, "\r\n--%s--\r\n", w->boundary);
}

bool mail_dsn_build(struct buf *out, const struct mail_dsn *d, bool *has_8bit)
{
	struct writer w = { .out = out, .d = d, .ok = true };
	struct view back = returned(d);
	bool whole = d->whole && back.n == d->original.n;
	bool words = d->utf8, high = words || has_high(back);
	uint64_t nonce = d->nonce;

	/* RFC 2046 5.1.1: the boundary must not occur in a part; a returned report of ours holds one of our own */
	do {
		snprintf(w.boundary, sizeof w.boundary, "=_postrider_%016" PRIx64 "_%016" PRIx64, d->id, nonce++);
	} while (back.n && memmem(back.p, back.n, w.boundary, strlen(w.boundary)));
	put_header(&w, high);
	put_human(&w, words);
	put_machine(&w, words);
	put_returned(&w, back, whole);
	*has_8bit = high;
	return w.ok;
}

/* ---- without what it returned ---- */

/* Where the n-th line "--boundary" of the report begins; report.n when there is none. */
static size_t part(struct view report, struct view line, unsigned n)
{
	size_t at = 0;
	const char *p;

	while (at < report.n && (p = memmem(report.p + at, report.n - at, line.p, line.n)) != NULL) {
		at = (size_t)(p - report.p);
		if (--n == 0)
			return at;
		at += line.n;
	}
	return report.n;
}

int mail_dsn_shorten(struct buf *out, struct view report)
{
	static const char word[] = "boundary=\"=_postrider_", high[] = "\r\nContent-Transfer-Encoding: 8bit\r\n";
	const char *p = report.n ? memmem(report.p, report.n, word, sizeof word - 1) : NULL, *end, *label;
	size_t from = p ? (size_t)(p - report.p) + sizeof "boundary=\"" - 1 : 0, third;
	char line[80];
	struct view name, kept, head;
	int n;

	end = p ? memchr(report.p + from, '"', report.n - from) : NULL;
	if (!end)
		return 0;
	name = view_slice(report, from, (size_t)(end - report.p));
	n = snprintf(line, sizeof line, "\r\n--%.*s\r\n", VIEW_ARGS(name));
	third = (size_t)n < sizeof line ? part(report, view_of(line, (size_t)n), 3) : report.n;
	kept = view_slice(report, 0, third);
	if (third == report.n || has_high(kept))
		return 0;
	/* the first label is that of the whole; the two parts that stay have 7 bits already */
	label = memmem(kept.p, kept.n, high, sizeof high - 1);
	if (!label)
		return 0;
	head = view_slice(kept, 0, (size_t)(label - kept.p));
	if (buf_add(out, head) && buf_addf(out, "\r\nContent-Transfer-Encoding: 7bit\r\n") &&
	    buf_add(out, view_slice(kept, head.n + sizeof high - 1, kept.n)) && buf_addf(out, "\r\n--%.*s--\r\n", VIEW_ARGS(name)))
		return 1;
	return -1;
}
