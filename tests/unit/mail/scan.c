/* The header scan: every test is run whole, octet by octet and at every split, and must say the same. */
#include "mail/scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct mail_scan scan_in_pieces(struct view v, size_t piece)
{
	struct mail_scan s = { 0 };
	size_t i;

	for (i = 0; i < v.n; i += piece)
		mail_scan_bytes(&s, view_slice(v, i, i + piece));
	mail_scan_end(&s);
	return s;
}

static void check(struct view v, unsigned fields, uint32_t received, uint64_t header_end, uint64_t body)
{
	size_t piece;

	for (piece = 1; piece <= v.n + 1; piece++) {
		struct mail_scan s = scan_in_pieces(v, piece);

		assert_true(s.header_done);
		assert_int_equal(s.fields, fields);
		assert_int_equal(s.received, received);
		assert_int_equal(s.header_end, header_end);
		assert_int_equal(s.body_start, body);
	}
}

static void nothing(void **state)
{
	(void)state;
	check(VIEW(""), 0, 0, 0, 0);
	check(VIEW("\r\nReceived: x\r\n"), 0, 0, 0, 2);
	check(VIEW("\nReceived: x\r\n"), 0, 0, 0, 1);
	check(VIEW("\r"), 0, 0, 0, 0);
	check(VIEW("\rReceived: x\r\n"), 0, 0, 0, 0);
	check(VIEW(" Received: x\r\n"), 0, 0, 0, 0);
	check(VIEW(": x\r\n"), 0, 0, 0, 0);
}

static void counts_received(void **state)
{
	(void)state;
	check(VIEW("Received: a\r\nRECEIVED : b\r\nreceived:\r\n\tReceived: c\r\nX-Received: d\r\n\r\nReceived: e\r\n"),
	      MAIL_FIELD_RECEIVED, 3, 67, 69);
}

static void finds_fields(void **state)
{
	(void)state;
	check(VIEW("Return-Path: <>\r\nDelivered-To: a\r\nDate: x\r\nMessage-ID: y\r\nSubject: z\r\nFrom: "
		   "f\r\n\r\nDate: x"),
	      MAIL_FIELD_RETURN_PATH | MAIL_FIELD_DELIVERED_TO | MAIL_FIELD_DATE | MAIL_FIELD_MESSAGE_ID |
		      MAIL_FIELD_SUBJECT | MAIL_FIELD_FROM,
	      0, 79, 81);
	check(VIEW("Delivered-To-Someone-Else: a\r\nDelivered-T: b\r\n\r\n"), 0, 0, 46, 48);
	check(VIEW("Date: x\n\nb"), MAIL_FIELD_DATE, 0, 8, 9);
	check(VIEW("Date: x"), MAIL_FIELD_DATE, 0, 7, 7);
	check(VIEW("Date: x\r\n"), MAIL_FIELD_DATE, 0, 9, 9);
}

/* RFC 8689 5: the header field has one value; folded it is the same, and in the body it is none. */
static void tls_required(void **state)
{
	static const struct { const char *text; bool no; } cases[] = {
		{ "TLS-Required: No\r\n\r\nx", true }, { "tls-required:no\r\n\r\n", true }, { "TLS-Required \t: \tNO \r\n\r\n", true },
		{ "TLS-Required:\r\n No\r\n\r\n", true }, { "TLS-Required: N\r\n o\r\n\r\n", true }, { "A: b\r\nTLS-Required: No", true },
		{ "TLS-Required: Yes\r\n\r\n", false }, { "TLS-Required: \r\n\r\n", false }, { "TLS-Required: Not\r\n\r\n", false },
		{ "TLS-Required: No really\r\n\r\n", false }, { "TLS-Required: Yes\r\nTLS-Required: No\r\n\r\n", true },
		{ "X-TLS-Required: No\r\n\r\n", false }, { "TLS-Requiredx: No\r\n\r\n", false }, { "A: b\r\n\r\nTLS-Required: No\r\n", false },
		{ "A:\r\n TLS-Required: No\r\n\r\n", false }, { "TLS-Required: \r\nSubject: No\r\n\r\n", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		for (size_t piece = 1; piece <= strlen(cases[i].text) + 1; piece++) {
			struct mail_scan s = scan_in_pieces(view_cstr(cases[i].text), piece);

			if (!(s.fields & MAIL_FIELD_TLS_NO) == cases[i].no)
				fail_msg("%s in pieces of %zu", cases[i].text, piece);
		}
}

static void body_without_empty_line(void **state)
{
	(void)state;
	check(VIEW("Date: x\r\nthis is text\r\nReceived: a\r\n"), MAIL_FIELD_DATE, 0, 9, 9);
	check(VIEW("Date: x\r\n\xff: a\r\nReceived: a\r\n"), MAIL_FIELD_DATE, 0, 9, 9);
	check(VIEW("Date: x\r\nDate"), MAIL_FIELD_DATE, 0, 9, 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing),
		cmocka_unit_test(counts_received),
		cmocka_unit_test(finds_fields),
		cmocka_unit_test(tls_required),
		cmocka_unit_test(body_without_empty_line),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
