/* sts.c - tests of route/sts.c: the records and policies of RFC 8461, what is refused first. */
#include "route/sts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SIXTEEN "0123456789abcdef"

/* ---- records ---- */

static const char *record(const char *text)
{
	static char id[64];
	struct view v = { 0 };

	if (sts_record_read(view_cstr(text), &v))
		return NULL;
	snprintf(id, sizeof id, "%.*s", VIEW_ARGS(v));
	return id;
}

static void broken_records(void **state)
{
	static const char *const texts[] = {
		"", "v=STSv1", "v=STSv1;", "v=STSv1; ", "v=STSv2; id=1;", "V=STSv1; id=1;", "v=stsv1; id=1;", " v=STSv1; id=1", "id=1; v=STSv1;",
		"v=STSv1; id=", "v=STSv1; id=;", "v=STSv1; id", "v=STSv1; ID=1", "v=STSv1; id=a-b", "v=STSv1; id=a b", "v=STSv1; id=1;;",
		"v=STSv1; id=" SIXTEEN SIXTEEN "0", "v=STSv1 id=1", "v=STSv1;id=1 x", "v=STSv1; id=1; x", "v=STSv1; id=1; =y", "v=STSv1; id=1; x=",
		"v=STSv1; id=1; -x=y", "v=STSv1; id=1; x=y=z", "v=STSv1; id=1; x=\x01", "v=STSv1; id=1; x=\xc3\xa9", "v=STSv1; id=1; x y=z",
		"v=STSv1; id=1; " SIXTEEN SIXTEEN "0=x", "v=STSv1; " SIXTEEN "=x",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (record(texts[i]))
			fail_msg("taken: %s", texts[i]);
}

static void records(void **state)
{
	static const struct { const char *text, *id; } good[] = {
		{ "v=STSv1; id=20160831085700Z;", "20160831085700Z" }, /* RFC 8461 3.1, the example */
		{ "v=STSv1;id=1", "1" }, { "v=STSv1 ; id=1 ; ", "1" }, { "v=STSv1\t;\tid=aZ9\t;\t", "aZ9" },
		{ "v=STSv1; id=" SIXTEEN SIXTEEN, SIXTEEN SIXTEEN }, { "v=STSv1; x=y; id=2; z.-_9=~!", "2" },
		{ "v=STSv1; id=1; id=2", "1" }, { "v=STSv1; id=1; id=-", "1" }, { "v=STSv1; " SIXTEEN SIXTEEN "=x; id=1", "1" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		const char *id = record(good[i].text);
		if (!id || strcmp(id, good[i].id) != 0)
			fail_msg("%s: %s", good[i].text, id ? id : "refused");
	}
	assert_true(sts_record_is(VIEW("v=STSv1; id=")));
	assert_true(sts_record_is(VIEW("v=STSv1 ;")));
	assert_false(sts_record_is(VIEW("v=STSv1")));
	assert_false(sts_record_is(VIEW("v=STSv10; id=1")));
	assert_false(sts_record_is(VIEW("v=spf1 -all")));
}

/* ---- policies ---- */

static struct sts_policy policy;
static struct buf mx;

static const char *read_policy(struct view text)
{
	buf_clear(&mx);
	policy = (struct sts_policy){ 0 };
	return sts_policy_read(text, &policy, &mx);
}

static void broken_policies(void **state)
{
	static const char *const texts[] = {
		"", "\n", "version: STSv1\n", "version: STSv1\nmode: enforce\nmx: a.test\n", "version: STSv1\nmax_age: 1\nmx: a.test\n",
		"mode: enforce\nmax_age: 1\nmx: a.test\n", "version: STSv1\nmode: enforce\nmax_age: 1\n", "version: STSv1\nmode: testing\nmax_age: 1\n",
		"version: STSv2\nmode: enforce\nmax_age: 1\nmx: a.test\n", "version: stsv1\nmode: enforce\nmax_age: 1\nmx: a.test\n",
		"version: STSv1\nmode: Enforce\nmax_age: 1\nmx: a.test\n", "version: STSv1\nmode: report\nmax_age: 1\nmx: a.test\n",
		"Version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.test\n", "version: STSv1\nmode: enforce\nmax_age: -1\nmx: a.test\n",
		"version: STSv1\nmode: enforce\nmax_age: 1d\nmx: a.test\n", "version: STSv1\nmode: enforce\nmax_age:\nmx: a.test\n",
		"version: STSv1\nmode: enforce\nmax_age: 12345678901\nmx: a.test\n", "version: STSv1\nmode: enforce\nmax_age: 1\nmx:\n",
		"version: STSv1\nmode: enforce\nmax_age: 1\nmx: *.\n", "version: STSv1\nmode: enforce\nmax_age: 1\nmx: *\n",
		"version: STSv1\nmode: enforce\nmax_age: 1\nmx: *a.test\n", "version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.*.test\n",
		"version: STSv1\nmode: enforce\nmax_age: 1\nmx: *.*.test\n", "version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.test.\n",
		"version: STSv1\nmode: enforce\nmax_age: 1\nmx: a b\n", "version: STSv1\nmode: enforce\nmax_age: 1\nmx: \xc3\xa9.test\n",
		"version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.test\nbroken\n", "version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.test\nx y: z\n",
		"version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.test\nx:\n", "version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.test\nx: \x01\n",
		"version: STSv1\rmode: enforce\rmax_age: 1\rmx: a.test\r", "version: STSv1\r\nmode: enforce\r\nmax_age: 1\r\nmx: a.test\r",
		"version : STSv1\nmode: enforce\nmax_age: 1\nmx: a.test\n", " version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.test\n",
		"<html><body>version: STSv1</body></html>\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		if (!read_policy(view_cstr(texts[i])))
			fail_msg("taken: %s", texts[i]);
		assert_int_equal(buf_len(&mx), 0);
	}
	assert_non_null(read_policy(VIEW("version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.test\nx: a\0b\n")));
}

static void oversize(void **state)
{
	static const char head[] = "version: STSv1\nmode: enforce\nmax_age: 1\nmx: a.test\nx: ";
	char *text = malloc(STS_POLICY_MAX + 1);

	(void)state;
	assert_non_null(text);
	memset(text, 'y', STS_POLICY_MAX + 1);
	memcpy(text, head, sizeof head - 1);
	assert_null(read_policy(view_of(text, STS_POLICY_MAX)));
	assert_non_null(read_policy(view_of(text, STS_POLICY_MAX + 1)));
	free(text);
}

/* Patterns that would fill the buffer are refused, and what was in it stays. */
static void no_room(void **state)
{
	struct sts_policy p;
	struct buf small;

	(void)state;
	buf_init(&small, &alloc_libc, 16);
	assert_true(buf_add(&small, VIEW("before\n")));
	assert_non_null(sts_policy_read(VIEW("version: STSv1\nmode: enforce\nmax_age: 1\nmx: mx.example.test\n"), &p, &small));
	assert_true(view_eq(buf_view(&small), VIEW("before\n")));
	buf_free(&small);
}

static void policies(void **state)
{
	(void)state;
	/* RFC 8461 3.2, the example */
	assert_null(read_policy(VIEW("version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmx: backupmx.example.com\nmax_age: 604800\n")));
	assert_int_equal(policy.mode, STS_ENFORCE);
	assert_int_equal(policy.max_age, 604800);
	assert_true(view_eq(buf_view(&mx), VIEW("mail.example.com\n*.example.net\nbackupmx.example.com\n")));
	/* CRLF, no end of the last line, no blanks or many, order, case of names of hosts */
	assert_null(read_policy(VIEW("max_age:0\r\nmx:\t MX.Example.test \t\r\nmode:testing\r\nversion:STSv1")));
	assert_int_equal(policy.mode, STS_TESTING);
	assert_int_equal(policy.max_age, 0);
	assert_true(view_eq(buf_view(&mx), VIEW("mx.example.test\n")));
	/* mixed ends, empty lines, unknown fields, UTF-8 in them */
	assert_null(read_policy(VIEW("version: STSv1\r\n\nmode: none\n\nfuture-Thing.9: a: b \xc3\xa9\nmax_age: 9999999999\r\n\r\n")));
	assert_int_equal(policy.mode, STS_NONE);
	assert_int_equal(policy.max_age, STS_AGE_MAX); /* RFC 8461 3.2 */
	assert_int_equal(buf_len(&mx), 0);
	assert_null(read_policy(VIEW("version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 31557600\n")));
	assert_int_equal(policy.max_age, 31557600);
	assert_null(read_policy(VIEW("version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 31557601\n")));
	assert_int_equal(policy.max_age, 31557600);
	/* of a field said twice the first counts, whatever the second is; mx alone may be repeated */
	assert_null(read_policy(VIEW("version: STSv1\nversion: x\nmode: enforce\nmode: bad\nmode: none\nmx: a.test\nmx: a.test\nmax_age: 7\nmax_age: y\n")));
	assert_int_equal(policy.mode, STS_ENFORCE);
	assert_int_equal(policy.max_age, 7);
	assert_true(view_eq(buf_view(&mx), VIEW("a.test\na.test\n")));
}

/* ---- matching ---- */

static void matching(void **state)
{
	static const struct { const char *patterns, *host; bool yes; } cases[] = {
		{ "mail.example.com\n", "mail.example.com", true }, { "mail.example.com\n", "MAIL.example.COM", true },
		{ "mail.example.com\n", "mail.example.com.", true }, { "mail.example.com\n", "example.com", false },
		{ "mail.example.com\n", "x.mail.example.com", false }, { "mail.example.com\n", "mail.example.com.evil.test", false },
		/* RFC 8461 4.1: the whole left-most label, and that alone */
		{ "*.example.com\n", "mail.example.com", true }, { "*.example.com\n", "example.com", false },
		{ "*.example.com\n", "foo.bar.example.com", false }, { "*.example.com\n", ".example.com", false },
		{ "*.example.com\n", "*.example.com", true }, { "*.example.com\n", "mailexample.com", false },
		{ "a.test\n*.b.test\nc.test\n", "c.test", true }, { "a.test\n*.b.test\nc.test\n", "x.b.test", true },
		{ "a.test\n*.b.test\nc.test\n", "b.test", false }, { "a.test\nb.test", "b.test", true },
		{ "", "a.test", false }, { "\n", "", false }, { "a.test\n", "", false }, { "a.test\n", ".", false }, { "*.test\n", ".test", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (sts_mx_match(view_cstr(cases[i].patterns), view_cstr(cases[i].host)) != cases[i].yes)
			fail_msg("%s against %s", cases[i].host, cases[i].patterns);
}

/* What we publish is what we would take. */
static void our_own(void **state)
{
	static const char *const hosts[] = { "mx.a.test", "*.b.test" };
	const struct sts_policy ours = { STS_ENFORCE, 604800 }, none = { STS_NONE, 3600 };
	char id[STS_OUR_ID_SIZE], other[STS_OUR_ID_SIZE], text[80];
	struct buf b;

	(void)state;
	buf_init(&b, &alloc_libc, STS_POLICY_MAX);
	assert_true(sts_policy_write(&ours, hosts, 2, &b));
	assert_true(view_eq(buf_view(&b), VIEW("version: STSv1\r\nmode: enforce\r\nmx: mx.a.test\r\nmx: *.b.test\r\nmax_age: 604800\r\n")));
	assert_null(read_policy(buf_view(&b)));
	assert_true(policy.mode == ours.mode && policy.max_age == ours.max_age && view_eq(buf_view(&mx), VIEW("mx.a.test\n*.b.test\n")));
	sts_policy_id(buf_view(&b), id);
	snprintf(text, sizeof text, "v=STSv1; id=%s;", id);
	assert_string_equal(record(text), id);
	buf_clear(&b);
	assert_true(sts_policy_write(&none, NULL, 0, &b));
	assert_null(read_policy(buf_view(&b)));
	assert_string_not_equal(sts_policy_id(buf_view(&b), other), id);
	buf_free(&b);
	buf_init(&b, &alloc_libc, 20);
	assert_false(sts_policy_write(&ours, hosts, 2, &b));
	buf_free(&b);
}

static void modes(void **state)
{
	(void)state;
	assert_string_equal(sts_mode_name(STS_NONE), "none");
	assert_string_equal(sts_mode_name(STS_TESTING), "testing");
	assert_string_equal(sts_mode_name(STS_ENFORCE), "enforce");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(broken_records), cmocka_unit_test(records), cmocka_unit_test(broken_policies), cmocka_unit_test(oversize),
		cmocka_unit_test(no_room), cmocka_unit_test(policies), cmocka_unit_test(matching), cmocka_unit_test(our_own), cmocka_unit_test(modes),
	};
	int failed;

	buf_init(&mx, &alloc_libc, STS_POLICY_MAX);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	buf_free(&mx);
	return failed;
}
