/* The trace line: its form, its folds, and that nothing a client says can leave its place. */
#include "mail/received.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#define NOW 1795516081000

static char *build(const struct mail_received *r)
{
	struct buf b;
	char *text;

	buf_init(&b, &alloc_libc, 65536);
	assert_true(mail_received_build(&b, r));
	assert_true(buf_len(&b) <= MAIL_RECEIVED_MAX);
	text = strndup(buf_view(&b).p, buf_len(&b));
	buf_free(&b);
	return text;
}

static void expect(const struct mail_received *r, const char *expected)
{
	char *text = build(r);

	assert_string_equal(text, expected);
	free(text);
}

static void out_of_memory(void **state)
{
	struct mail_received r = { .hello = VIEW("a"), .by = VIEW("b") };
	struct buf b;

	(void)state;
	buf_init(&b, &alloc_libc, 20);
	assert_true(buf_add(&b, VIEW("keep")));
	assert_false(mail_received_build(&b, &r));
	assert_int_equal(buf_len(&b), 4);
	buf_free(&b);
}

static void clear_text(void **state)
{
	struct mail_received r = { .hello = VIEW("client.test"),
				   .address = VIEW("192.0.2.1"),
				   .by = VIEW("mx.sink.test"),
				   .with = VIEW("ESMTP"),
				   .id = VIEW("0006430a1b2c3d4e"),
				   .wall_ms = NOW };

	(void)state;
	expect(&r, "Received: from client.test ([192.0.2.1]) by mx.sink.test with ESMTP id\r\n"
		   "\t0006430a1b2c3d4e; Tue, 24 Nov 2026 10:28:01 +0000\r\n");
	r.hello = VIEW("");
	r.address = VIEW("");
	r.id = VIEW("");
	r.with = VIEW("");
	expect(&r, "Received: from unknown by mx.sink.test; Tue, 24 Nov 2026 10:28:01 +0000\r\n");
}

static void with_tls(void **state)
{
	struct mail_received r = { .hello = VIEW("[IPv6:2001:db8::1]"),
				   .address = VIEW("2001:db8::1"),
				   .by = VIEW("mx.sink.test"),
				   .with = VIEW("ESMTPS"),
				   .id = VIEW("0006430a1b2c3d4e"),
				   .recipient = VIEW("\"a b\"@local.test"),
				   .tls_protocol = VIEW("TLSv1.3"),
				   .tls_cipher = VIEW("TLS_AES_256_GCM_SHA384"),
				   .tls_bits = 256,
				   .tls_verify = VIEW("no client certificate"),
				   .wall_ms = NOW };

	(void)state;
	expect(&r, "Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1]) by mx.sink.test with\r\n"
		   "\tESMTPS id 0006430a1b2c3d4e for <\"a b\"@local.test> tls\r\n"
		   "\tTLS_AES_256_GCM_SHA384 (TLSv1.3 256 bits no client certificate);\r\n"
		   "\tTue, 24 Nov 2026 10:28:01 +0000\r\n");
}

/* Every octet at every foreign place: the field stays one field, and its clauses stay where they are. */
static void injection(void **state)
{
	int c;

	(void)state;
	for (c = 0; c < 256; c++) {
		char evil[] = { 'a', (char)c, '\n', (char)c, 'b' };
		struct view v = view_of(evil, sizeof evil);
		struct mail_received r = { .hello = v,
					   .address = v,
					   .by = v,
					   .with = v,
					   .id = v,
					   .recipient = v,
					   .tls_protocol = v,
					   .tls_cipher = v,
					   .tls_verify = v,
					   .wall_ms = NOW };
		char *text = build(&r), *p;
		size_t semicolons = 0;

		for (p = text; *p; p++) {
			assert_true((unsigned char)*p < 127);
			if (*p == '\n')
				assert_true(p[1] == '\t' || p[1] == '\0');
			if (*p == '\r')
				assert_true(p[1] == '\n');
			semicolons += *p == ';';
		}
		assert_int_equal(semicolons, c == ';' ? 3 : 1); /* within <> it is allowed */
		free(text);
	}
}

static void long_texts(void **state)
{
	char big[5000];
	struct mail_received r = { 0 };
	char *text, *line, *end;

	(void)state;
	memset(big, 'x', sizeof big);
	r.hello = r.address = r.by = r.with = r.id = r.recipient = r.tls_protocol = r.tls_cipher = r.tls_verify =
		view_of(big, sizeof big);
	text = build(&r);
	assert_null(strstr(text, " for "));
	for (line = text; *line; line = end + 2) {
		end = strstr(line, "\r\n");
		assert_non_null(end);
		assert_true(end - line < 998);
	}
	free(text);
}

static void utf8(void **state)
{
	struct mail_received r = { .hello = VIEW("c.test"),
				   .by = VIEW("mx"),
				   .with = VIEW("UTF8SMTP"),
				   .recipient = VIEW("\xc3\xa9@x.test"),
				   .utf8 = true,
				   .wall_ms = NOW };
	char *text = build(&r);

	(void)state;
	assert_non_null(strstr(text, "for <\xc3\xa9@x.test>"));
	free(text);
	r.utf8 = false;
	text = build(&r);
	assert_non_null(strstr(text, "for <\?\?@x.test>"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(out_of_memory), cmocka_unit_test(clear_text), cmocka_unit_test(with_tls),
		cmocka_unit_test(injection),     cmocka_unit_test(long_texts), cmocka_unit_test(utf8),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
