/* mail.c - what we write about a message from words that others said: the header scan, Received lines, reports.
 *
 * Input: options, then texts, then the message.  The scan must not depend on how the message is cut; a Received line
 * and a report hold no bare CR, bare LF or NUL, no line that is too long, and an octet above 127 only when they say so.
 */
#include "input.h"

#include "mail/dsn.h"
#include "mail/received.h"
#include "mail/scan.h"
#include "smtp/body.h"
#include "smtp/internal.h"

#define RCPTS         3
#define LINE_MAX_MAIL 998 /* RFC 5322 2.1.1, without CRLF */

static void scan(struct view message, unsigned seed)
{
	struct mail_scan whole = { 0 }, cut = { 0 };

	mail_scan_bytes(&whole, message);
	mail_scan_end(&whole);
	for (size_t at = 0; at < message.n;) {
		size_t piece = 1 + (seed = seed * 1103515245 + 12345) / 65536 % 5;

		mail_scan_bytes(&cut, view_slice(message, at, at + piece));
		at += piece;
	}
	mail_scan_end(&cut);
	assert(whole.received == cut.received && whole.fields == cut.fields && whole.header_done && cut.header_done);
	assert(whole.header_end == cut.header_end && whole.body_start == cut.body_start);
	assert(whole.header_end <= whole.body_start && whole.body_start <= message.n);
}

/* Sound text, cut into lines; a line of ours is never too long. */
static void check_text(struct view v, bool eight)
{
	struct psmtp_scan s = { 0 };

	psmtp_scan_bytes(&s, v.p, v.n);
	assert(!s.has_nul && !s.has_bare && (eight || !s.has_8bit));
	assert(v.n >= 2 && v.p[v.n - 1] == '\n');
}

static void received(struct input *in, unsigned options)
{
	struct mail_received r = { .hello = input_text(in),
				   .address = input_text(in),
				   .by = VIEW("mx.test"),
				   .with = VIEW("ESMTPS"),
				   .id = VIEW("0123"),
				   .recipient = input_text(in),
				   .wall_ms = 1795516081000,
				   .utf8 = options & 1 };
	struct buf out;
	struct view v;

	if (options & 2) {
		r.tls_protocol = input_text(in);
		r.tls_cipher = input_text(in);
		r.tls_verify = input_text(in);
		r.tls_bits = 256;
	}
	buf_init(&out, &alloc_libc, 1 << 16);
	assert(mail_received_build(&out, &r));
	v = buf_view(&out);
	check_text(v, r.utf8);
	assert(v.n <= MAIL_RECEIVED_MAX && view_starts_nocase(v, VIEW("Received: ")));
	for (size_t i = 0; i + 1 < v.n; i++)
		assert(v.p[i] != '\n' || v.p[i + 1] == ' ' || v.p[i + 1] == '\t'); /* one field */
	buf_free(&out);
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
	struct psmtp_scan before = { 0 }, after = { 0 };
	struct buf out;
	bool eight;

	for (size_t i = 0; i < d.n; i++) {
		unsigned more = input_byte(in);

		rcpts[i] = (struct mail_dsn_rcpt){ .address = input_text(in),
						   .action = d.action,
						   .local = more & 1,
						   .status = { 5, 1, (uint16_t)(more / 2 % 16) },
						   .code = more & 4 ? 550 : 0,
						   .last_attempt = 1795516081000,
						   .retry_until = 1795516081000 };
		rcpts[i].remote = input_text(in);
		rcpts[i].text = input_text(in);
		if (more & 8) {
			rcpts[i].orcpt_type = VIEW("rfc822");
			rcpts[i].orcpt = input_text(in);
		}
	}
	buf_init(&out, &alloc_libc, 1 << 20);
	assert(mail_dsn_build(&out, &d, &eight));
	psmtp_scan_bytes(&before, original.p, original.n);
	psmtp_scan_bytes(&after, buf_view(&out).p, buf_len(&out));
	check_text(buf_view(&out), eight);
	assert(eight || !after.has_8bit); /* true is allowed: a report under SMTPUTF8 is called 8bit */
	assert(!after.has_8bit || before.has_8bit || d.utf8);
	assert(!after.header_8bit || d.utf8);
	for (struct view v = buf_view(&out); original.n == 0 && v.n;) {
		size_t lf = view_find(v, '\n');

		assert(lf <= LINE_MAX_MAIL + 1);
		v = view_slice(v, lf + 1, v.n);
	}
	buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n }, texts;
	unsigned options = input_byte(&in), seed = input_byte(&in);
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
	scan(wire, seed);
	/* what the queue holds is canonical */
	buf_init(&original, &alloc_libc, 1 << 20);
	smtp_body_begin(&b, PSMTP_BARE_NORMALISE, true, false);
	while (wire.n) {
		step = smtp_body_read(&b, wire);
		assert(buf_add(&original, step.give));
		wire = view_slice(wire, step.take, wire.n);
	}
	assert(buf_add(&original, smtp_body_finish(&b)));
	received(&texts, options);
	report(&texts, seed ^ options, buf_view(&original));
	buf_free(&original);
	free(exact);
	return 0;
}
