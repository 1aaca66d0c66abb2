/* dsn.c - delivery reports made from words that hostile remotes and senders said.
 *
 * Input: options, then texts, then the message that is returned.  The report is read back by a slow reader: the header
 * has the fields that we write and no other, the parts are three and hold what they must, each recipient has one group
 * with one of each field, a whole original is returned octet for octet; no bare CR, bare LF or NUL, no line of ours that
 * is too long, and octets above 127 only where the report says so.
 */
#include "input.h"

#include "mail/dsn.h"
#include "smtp/body.h"
#include "smtp/internal.h"

#define RCPTS         3
#define LINE_MAX_MAIL 998 /* RFC 5322 2.1.1, without CRLF */

/* The next line without its CRLF; folded lines belong to it when fold is set. */
static struct view line_next(struct view *rest, bool fold)
{
	size_t n = 0;

	do {
		const char *lf = memchr(rest->p + n, '\n', rest->n - n);

		assert(lf && lf > rest->p && lf[-1] == '\r');
		n = (size_t)(lf - rest->p) + 1;
	} while (fold && n > 2 && n < rest->n && (rest->p[n] == ' ' || rest->p[n] == '\t'));
	struct view line = view_of(rest->p, n - 2);

	*rest = view_slice(*rest, n, rest->n);
	return line;
}

/* Takes a block of fields, to the empty line behind it.  names: those that may come, each at most once, with a '!'
 * behind it those that must. */
static void fields(struct view *rest, const char *const *names)
{
	unsigned seen = 0;

	for (struct view line = line_next(rest, true); line.n; line = line_next(rest, true)) {
		unsigned known = 0;

		for (unsigned i = 0; names[i]; i++) {
			size_t n = strcspn(names[i], "!");

			if (line.n > n + 1 && view_eq(view_slice(line, 0, n), view_of(names[i], n)) && line.p[n] == ':')
				known = 1u << i;
		}
		assert(known && !(seen & known)); /* nobody's words made a field of their own */
		seen |= known;
		if (!rest->n)
			break;
	}
	for (unsigned i = 0; names[i]; i++)
		assert(!strchr(names[i], '!') || seen & 1u << i);
}

static struct view boundary_of(struct view report)
{
	static const char lead[] = "\r\n\tboundary=\""; /* nobody's words begin a line */
	const char *at = memmem(report.p, report.n, lead, sizeof lead - 1);

	assert(at);
	at += sizeof lead - 1;
	return view_of(at, (size_t)((const char *)memchr(at, '"', 100) - at));
}

/* The rest behind the next "--boundary" line; its body before. */
static struct view part_next(struct view *rest, struct view boundary, bool *last)
{
	struct view body = *rest;

	for (;;) {
		struct view at = *rest, line = line_next(rest, false);

		if (line.n >= 2 + boundary.n && line.p[0] == '-' && line.p[1] == '-' &&
		    view_eq(view_slice(line, 2, 2 + boundary.n), boundary)) {
			*last = line.n == boundary.n + 4;
			assert(*last || line.n == boundary.n + 2);
			return view_of(body.p, (size_t)(at.p - body.p));
		}
	}
}

static void judge(struct view report, const struct mail_dsn *d)
{
	static const char *const top[] = { "From!", "To!", "Date!", "Message-ID!", "Subject!", "Auto-Submitted!", "MIME-Version!",
					   "Content-Type!", "Content-Transfer-Encoding!", NULL },
				 *const mime[] = { "Content-Type!", "Content-Transfer-Encoding!", NULL },
				 *const message[] = { "Original-Envelope-Id", "Reporting-MTA!", "Arrival-Date!", NULL },
				 *const each[] = { "Original-Recipient", "Final-Recipient!", "Action!", "Status!", "Remote-MTA",
						   "Diagnostic-Code", "Last-Attempt-Date", "Will-Retry-Until", NULL };
	struct view boundary = boundary_of(report), rest = report, part[3];
	bool last = false;

	fields(&rest, top);
	part_next(&rest, boundary, &last);
	for (unsigned i = 0; i < 3; i++) {
		assert(!last);
		part[i] = part_next(&rest, boundary, &last);
	}
	assert(last && rest.n == 0);
	for (unsigned i = 0; i < 3; i++)
		fields(&part[i], mime);
	fields(&part[1], message);
	for (size_t i = 0; i < d->n; i++)
		fields(&part[1], each);
	assert(part[1].n == 0);
	if (d->whole) /* CRLF before the boundary is the boundary's */
		assert(part[2].n >= d->original.n + 2 && (!d->original.n || memcmp(part[2].p, d->original.p, d->original.n) == 0));
}

static void check_octets(struct view v, const struct mail_dsn *d, bool eight)
{
	struct psmtp_scan before = { 0 }, after = { 0 };

	psmtp_scan_bytes(&before, d->original.p, d->original.n);
	psmtp_scan_bytes(&after, v.p, v.n);
	assert(!after.has_nul && !after.has_bare);
	assert(eight || !after.has_8bit); /* true is allowed: a report under SMTPUTF8 is called 8bit */
	assert(!after.has_8bit || before.has_8bit || d->utf8);
	assert(!after.header_8bit || d->utf8);
	for (; d->original.n == 0 && v.n;) {
		size_t lf = view_find(v, '\n');

		assert(lf <= LINE_MAX_MAIL + 1);
		v = view_slice(v, lf + 1, v.n);
	}
}

static void report(struct input *in, unsigned options, struct view original)
{
	struct mail_dsn_rcpt rcpts[RCPTS];
	struct mail_dsn d = { .action = 1 + options % 4,
			      .host = VIEW("mx.test"),
			      .sender = input_text(in),
			      .envid = input_text(in),
			      .id = 7,
			      .nonce = 99,
			      .arrival = 1795516081000,
			      .now = 1795516081000,
			      .utf8 = options & 4,
			      .rcpts = rcpts,
			      .n = 1 + options / 16 % RCPTS,
			      .original = original,
			      .whole = options & 8 };
	struct buf out;
	bool eight;

	for (size_t i = 0; i < d.n; i++) {
		unsigned more = input_byte(in);

		rcpts[i] = (struct mail_dsn_rcpt){ .address = input_text(in),
						   .action = d.action,
						   .local = more & 1,
						   .status = { (uint16_t)(more >> 4), 1, (uint16_t)(more * 9) },
						   .code = more & 4 ? 550 : 0,
						   .last_attempt = more & 2 ? 1795516081000 : 0,
						   .retry_until = 1795516081000 };
		rcpts[i].remote = input_text(in);
		rcpts[i].text = input_text(in);
		if (more & 8) {
			rcpts[i].orcpt_type = more & 1 ? VIEW("rfc822") : input_text(in);
			rcpts[i].orcpt = input_text(in);
		}
	}
	buf_init(&out, &alloc_libc, 1 << 20);
	assert(mail_dsn_build(&out, &d, &eight));
	check_octets(buf_view(&out), &d, eight);
	judge(buf_view(&out), &d);
	buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n }, texts;
	unsigned options = input_byte(&in);
	size_t split = input_byte(&in);
	struct view wire;
	struct smtp_body b;
	struct smtp_body_step step;
	struct buf original;
	char *exact;

	texts = (struct input){ in.p, split * 4 < in.n ? split * 4 : in.n };
	input_take(&in, texts.n);
	exact = input_copy(view_of((const char *)in.p, in.n));
	wire = view_of(exact, in.n);
	/* what the queue holds is canonical */
	buf_init(&original, &alloc_libc, 1 << 20);
	smtp_body_begin(&b, PSMTP_BARE_NORMALISE, true, false);
	while (wire.n) {
		step = smtp_body_read(&b, wire);
		assert(buf_add(&original, step.give));
		wire = view_slice(wire, step.take, wire.n);
	}
	assert(buf_add(&original, smtp_body_finish(&b)));
	report(&texts, options, buf_view(&original));
	buf_free(&original);
	free(exact);
	return 0;
}
