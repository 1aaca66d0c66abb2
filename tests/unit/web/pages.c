/* pages.c - what a request is answered: what is refused first, then the pages. */
#include "web/pages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "route/sts.h"

#define PATH "/.well-known/mta-sts.txt"

static struct conf *conf;

static int set_up(void **state)
{
	static const char text[] =
		"hostname = \"mx.ours.test\"\nspool = \"/s\"\ncontrol = \"/c\"\n"
		"certificate default { chain = a key = b }\nweb w { address = \"127.0.0.1:443\" }\n"
		"sts_policy \"good.test\" { mode = enforce mx = {\"mx.good.test\", \"*.back.test\"} max_age = \"7d\" }\n"
		"sts_policy \"b\xc3\xbc" "cher.test\" { mode = none max_age = \"1d\" }\n";
	struct error e;

	(void)state;
	if (conf_parse(&conf, view_cstr(text), "/t.conf", &e) == -1)
		fail_msg("%s", e.text);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	conf_free(conf);
	return 0;
}

static struct page_answer ask(const char *method, const char *target, const char *host, const char *sni)
{
	struct page_ask q = { .method = view_cstr(method), .target = view_cstr(target), .host = view_cstr(host), .hosts = host ? 1 : 0, .sni = view_cstr(sni) };
	struct page_answer a;

	pages_answer(conf, &q, &a);
	return a;
}

static void what_is_refused(void **state)
{
	static const struct { const char *method, *target, *host, *sni; unsigned status; const char *reason; } rows[] = {
		{ "POST", PATH, "mta-sts.good.test", "mta-sts.good.test", 405, "method" },
		{ "OPTIONS", "*", "mta-sts.good.test", "", 405, "method" },
		{ "get", PATH, "mta-sts.good.test", "", 405, "method" },
		{ "", PATH, "mta-sts.good.test", "", 405, "method" },
		{ "CONNECT", "mta-sts.good.test:443", "mta-sts.good.test", "", 405, "method" },
		{ "GET", PATH, NULL, "mta-sts.good.test", 400, "malformed" },
		{ "GET", "", "mta-sts.good.test", "", 400, "malformed" },
		{ "GET", "*", "mta-sts.good.test", "", 400, "malformed" },
		{ "GET", "http://mta-sts.good.test" PATH, "mta-sts.good.test", "", 400, "malformed" },
		{ "GET", PATH, "mta-sts.good.test", "mta-sts.other.test", 421, "misdirected" },
		{ "GET", "https://mta-sts.good.test" PATH, "x", "x", 421, "misdirected" },
		{ "GET", PATH, "", "", 404, "not_found" },
		{ "GET", PATH, "good.test", "", 404, "not_found" },
		{ "GET", PATH, "www.good.test", "", 404, "not_found" },
		{ "GET", PATH, "mta-sts.", "", 404, "not_found" },
		{ "GET", PATH, "mta-sts.other.test", "", 404, "not_found" },
		{ "GET", PATH, "mta-sts.sub.good.test", "", 404, "not_found" },
		{ "GET", PATH, "mta-sts.good.test..", "", 404, "not_found" },
		{ "GET", PATH, "[::1]:443", "", 404, "not_found" },
		{ "GET", "/", "mta-sts.good.test", "", 404, "not_found" },
		{ "GET", PATH "/", "mta-sts.good.test", "", 404, "not_found" },
		{ "GET", PATH "?", "mta-sts.good.test", "", 404, "not_found" },
		{ "GET", PATH "?x=1", "mta-sts.good.test", "", 404, "not_found" },
		{ "GET", "/" PATH, "mta-sts.good.test", "", 404, "not_found" },
		{ "GET", "/x/.." PATH, "mta-sts.good.test", "", 404, "not_found" },
		{ "GET", "/.WELL-KNOWN/mta-sts.txt", "mta-sts.good.test", "", 404, "not_found" },
		{ "GET", "/.well-known/mta%2Dsts.txt", "mta-sts.good.test", "", 404, "not_found" },
		{ "GET", "https://mta-sts.good.test", "mta-sts.good.test", "", 404, "not_found" },
		{ "GET", "https://", "mta-sts.good.test", "", 404, "not_found" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct page_answer a = ask(rows[i].method, rows[i].target, rows[i].host, rows[i].sni);

		if (a.status != rows[i].status || strcmp(a.reason, rows[i].reason) != 0)
			fail_msg("row %zu: %s %s: %u %s", i, rows[i].method, rows[i].target, a.status, a.reason);
		assert_string_equal(a.type, "text/plain");
		assert_true(buf_len(&a.text) > 5);
		buf_free(&a.text);
	}
}

static void two_hosts_are_none(void **state)
{
	struct page_ask q = { .method = VIEW("GET"), .target = VIEW(PATH), .host = VIEW("mta-sts.good.test"), .hosts = 2 };
	struct page_answer a;

	(void)state;
	pages_answer(conf, &q, &a);
	assert_int_equal(a.status, 400);
	buf_free(&a.text);
}

static void expect_policy(struct page_answer a, size_t nth)
{
	struct buf text;

	buf_init(&text, &alloc_libc, STS_POLICY_MAX);
	assert_true(sts_policy_ours(&conf->sts_policies[nth], &text));
	assert_int_equal(a.status, 200);
	assert_string_equal(a.reason, "");
	assert_string_equal(a.type, "text/plain");
	assert_true(view_eq(buf_view(&a.text), buf_view(&text)));
	buf_free(&text);
	buf_free(&a.text);
}

static void policies(void **state)
{
	static const char file[] = "version: STSv1\r\nmode: enforce\r\nmx: mx.good.test\r\nmx: *.back.test\r\nmax_age: 604800\r\n";
	struct page_answer a = ask("GET", PATH, "mta-sts.good.test", "mta-sts.good.test");

	(void)state;
	assert_true(view_eq(buf_view(&a.text), view_cstr(file)));
	assert_true(view_eq(a.host, VIEW("mta-sts.good.test")));
	assert_true(view_eq(a.path, VIEW(PATH)));
	expect_policy(a, 0);
	expect_policy(ask("HEAD", PATH, "mta-sts.good.test", ""), 0);
	expect_policy(ask("GET", PATH, "MTA-STS.Good.TEST:443", "mta-sts.good.test"), 0);
	expect_policy(ask("GET", PATH, "mta-sts.good.test.", "mta-sts.good.test"), 0);
	expect_policy(ask("GET", PATH, "mta-sts.good.test.:8443", "Mta-Sts.good.test"), 0);
	expect_policy(ask("GET", "https://mta-sts.good.test" PATH, "ignored", "mta-sts.good.test"), 0);
	expect_policy(ask("GET", "HTTPS://mta-sts.good.test:443" PATH, "", ""), 0);
	expect_policy(ask("GET", PATH, "mta-sts.xn--bcher-kva.test", "mta-sts.xn--bcher-kva.test"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_refused), cmocka_unit_test(two_hosts_are_none), cmocka_unit_test(policies),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
