/* server_memory.c - a whole session with the n-th request for memory failing, for every n: no crash, no leak, and what
 * the peer hears is a 4xx or a close, never a 5xx for a fault of ours (design.md section 1.1). */
#include "server_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct walk {
	const char *clear, *inside; /* what is said before and after TLS */
	struct psmtp_server_options options;
};

#define WORDS "0123456789012345678901234567890123456789012345678901234567890123456789\r\n"

static const char mail[] = "MAIL FROM:<a@b.test> SIZE=100 RET=HDRS ENVID=QQ314159 AUTH=<>\r\n"
			   "RCPT TO:<c@d.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c+2Bx@d.test\r\n"
			   "RCPT TO:<e@d.test>\r\n";

static void walk(struct rig *r, const struct walk *w)
{
	rig_open(r, &w->options);
	if (!r->s)
		return;
	rig_say(r, w->clear);
	if (r->tls_starts && !r->closes) {
		rig_tls(r);
		rig_say(r, w->inside);
	}
}

/* Every reply of the session without faults is 2xx or 3xx, so a 5xx would be a fault of ours told as theirs.  Behind a
 * 4xx the rest of the text, sent without waiting, is out of order: those replies say nothing. */
static void judge(const struct rig *r, size_t n)
{
	for (const char *line = r->out; *line && *line != '4';) {
		if (line[0] == '5')
			fail_msg("request %zu failed, and the peer heard: %.80s", n, line);
		line = strchr(line, '\n') + 1;
	}
	assert_true(r->closes <= 1);
}

static void try_all(const struct walk *w)
{
	size_t requests = 1;

	for (size_t n = 0; n <= requests; n++) { /* the 0th run is the one without a fault */
		struct rig *r = calloc(1, sizeof *r);

		assert_non_null(r);
		r->fail_at = n;
		walk(r, w);
		judge(r, n);
		if (n == 0) {
			requests = r->requests;
			assert_string_equal(r->close_reason, "quit");
		}
		rig_close(r);
	}
	assert_true(requests >= 4);
}

static char text[4000];

static void test_data_over_tls(void **state)
{
	struct walk w = { .clear = "EHLO c.test\r\nSTARTTLS\r\n", .inside = text,
		.options = { .hostname = { "mx.test", 7 }, .tls = PSMTP_TLS_STARTTLS, .auth = { "PLAIN", 5 } } };

	(void)state;
	snprintf(text, sizeof text, "EHLO c.test\r\nAUTH PLAIN AGEAYg==\r\n%sDATA\r\n"
		WORDS WORDS WORDS WORDS WORDS WORDS WORDS WORDS ".\r\nQUIT\r\n", mail);
	try_all(&w);
}

static void test_chunks(void **state)
{
	struct walk w = { .clear = text, .inside = "",
		.options = { .hostname = { "mx.test", 7 }, .tls = PSMTP_TLS_NONE, .binarymime = true } };

	(void)state;
	snprintf(text, sizeof text, "%s", "EHLO c.test\r\nMAIL FROM:<a@b.test> BODY=BINARYMIME\r\nRCPT TO:<c@d.test>\r\n"
		"BDAT 72\r\n" WORDS "BDAT 72 LAST\r\n" WORDS "QUIT\r\n");
	try_all(&w);
}

static void test_lmtp(void **state)
{
	struct walk w = { .clear = text, .inside = "",
		.options = { .hostname = { "mx.test", 7 }, .tls = PSMTP_TLS_NONE, .lmtp = true } };

	(void)state;
	snprintf(text, sizeof text, "%s", "LHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nRCPT TO:<e@d.test>\r\n"
		"DATA\r\n" WORDS ".\r\nQUIT\r\n");
	try_all(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_data_over_tls),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_lmtp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
