/* mail.c - the header scan, and the Received line that we write from words that others said.
 *
 * Input: options, then texts, then the message.  The scan must not depend on how the message is cut; a Received line is
 * one field, holds no bare CR, bare LF or NUL, no line that is too long, and an octet above 127 only under SMTPUTF8.
 */
#include "input.h"

#include "mail/received.h"
#include "mail/scan.h"
#include "smtp/internal.h"

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n }, texts;
	unsigned options = input_byte(&in), seed = input_byte(&in);
	size_t split = input_byte(&in);
	char *exact;

	texts = (struct input){ in.p, split * 4 < in.n ? split * 4 : in.n };
	input_take(&in, texts.n);
	exact = input_copy(view_of((const char *)in.p, in.n));
	scan(view_of(exact, in.n), seed);
	received(&texts, options);
	free(exact);
	return 0;
}
