/* rpt.c - tests of route/rpt.c: the record of RFC 8460 section 3, what is refused first. */
#include "route/rpt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct rpt_uri uris[RPT_URIS_MAX];
static size_t n;

static void broken_records(void **state)
{
	static const char *const texts[] = {
		"", "v=TLSRPTv1", "v=TLSRPTv1;", "v=TLSRPTv2; rua=mailto:a@b.test", "v=tlsrptv1; rua=mailto:a@b.test", "rua=mailto:a@b.test",
		"v=TLSRPTv1; rua=", "v=TLSRPTv1; rua", "v=TLSRPTv1; rua=none", "v=TLSRPTv1; rua=mailto:a@b.test,", "v=TLSRPTv1; rua=,mailto:a@b.test",
		"v=TLSRPTv1; rua=mailto:a@b.test,,mailto:c@b.test", "v=TLSRPTv1; rua=mailto:a@b.test mailto:c@b.test", "v=TLSRPTv1; rua=mailto:a@b.test!10m",
		"v=TLSRPTv1; rua=mailto:<a@b.test>", "v=TLSRPTv1; rua=https://a.test/\x01", "v=TLSRPTv1; x=y", "v=TLSRPTv1; rua=mailto:a@b.test; x",
		"v=TLSRPTv1; rua=mailto:a@b.test; x=y=z", "v=TLSRPTv1 rua=mailto:a@b.test", "v=TLSRPTv1; RUA=mailto:a@b.test",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		n = 99;
		if (!rpt_record_read(view_cstr(texts[i]), uris, &n))
			fail_msg("taken: %s", texts[i]);
		assert_int_equal(n, 0);
	}
}

static void records(void **state)
{
	(void)state;
	/* RFC 8460 3.1, the examples */
	assert_null(rpt_record_read(VIEW("v=TLSRPTv1;rua=mailto:reports@example.com"), uris, &n));
	assert_int_equal(n, 1);
	assert_int_equal(uris[0].scheme, RPT_MAILTO);
	assert_true(view_eq(uris[0].text, VIEW("mailto:reports@example.com")));
	assert_null(rpt_record_read(VIEW("v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt"), uris, &n));
	assert_int_equal(n, 1);
	assert_int_equal(uris[0].scheme, RPT_HTTPS);
	assert_null(rpt_record_read(VIEW("v=TLSRPTv1 ; x=y ; rua=MAILTO:a@b.test , https://c.test:8443/x?y=z ;"), uris, &n));
	assert_int_equal(n, 2);
	assert_true(view_eq(uris[1].text, VIEW("https://c.test:8443/x?y=z")));
	assert_null(rpt_record_read(VIEW("v=TLSRPTv1; rua=mailto:a@b.test; rua=mailto:c@b.test"), uris, &n));
	assert_int_equal(n, 2);
}

/* What cannot be used is stepped over, and the rest counts. */
static void others(void **state)
{
	static const char *const useless[] = {
		"http://a.test/", "ftp://a.test/", "https:///x", "https://user:secret@a.test/", "https://[::1]/", "https://a_b!/", "mailto:", "mailto:a",
		"mailto:a@", "mailto:a%0d%0aBcc:x@b.test", "mailto:a@b.test%00", "mailto:a%4", "mailto:a%zz@b.test", "mailto:a@[192.0.2.1]", "mailto:a@b@c.test",
	};
	char text[200];

	(void)state;
	for (size_t i = 0; i < sizeof useless / sizeof *useless; i++) {
		snprintf(text, sizeof text, "v=TLSRPTv1; rua=%s,mailto:ok@b.test", useless[i]);
		if (strchr(useless[i], '!')) {
			assert_non_null(rpt_record_read(view_cstr(text), uris, &n));
			continue;
		}
		assert_null(rpt_record_read(view_cstr(text), uris, &n));
		if (n != 1 || !view_eq(uris[0].text, VIEW("mailto:ok@b.test")))
			fail_msg("%s: %zu", useless[i], n);
	}
}

static void too_many(void **state)
{
	char text[600] = "v=TLSRPTv1; rua=mailto:a0@b.test";

	(void)state;
	for (int i = 1; i < 20; i++)
		snprintf(text + strlen(text), sizeof text - strlen(text), ",mailto:a%d@b.test", i);
	assert_null(rpt_record_read(view_cstr(text), uris, &n));
	assert_int_equal(n, RPT_URIS_MAX);
}

static void addresses(void **state)
{
	static const struct { const char *uri, *address; } good[] = {
		{ "mailto:a@b.test", "a@b.test" }, { "mailto:a@b.test?subject=x", "a@b.test" }, { "mailto:a%2Bx@b.test", "a+x@b.test" },
		{ "mailto:a%21@b.test", "a!@b.test" }, { "mailto:%22a%20b%22@c.test", "\"a b\"@c.test" },
	};
	char to[RPT_ADDRESS_SIZE], text[500];

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_true(rpt_mailto_address(view_cstr(good[i].uri), to));
		assert_string_equal(to, good[i].address);
	}
	snprintf(text, sizeof text, "mailto:%0400d@b.test", 1);
	assert_false(rpt_mailto_address(view_cstr(text), to));
	assert_false(rpt_mailto_address(VIEW("https://a.test"), to));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(broken_records), cmocka_unit_test(records), cmocka_unit_test(others), cmocka_unit_test(too_many), cmocka_unit_test(addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
