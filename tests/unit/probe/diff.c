/* Two reports compared: what is worse, what is only other, and what is no report at all. */
#include "probe/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const char *const group = "Group";
static const struct probe_check checks[] = {
	{ 101, "a", "A", &group, "RFC 1", "", PROBE_HIGH, 0 },
	{ 102, "b", "B", &group, "RFC 1", "", PROBE_HIGH, 0 },
	{ 103, "c", "C", &group, "RFC 1", "", PROBE_HIGH, 0 },
};

static void make(struct probe_report *r, const char *target, unsigned n, const enum probe_verdict *verdicts)
{
	probe_report_init(r, "server", target, 0);
	for (unsigned i = 0; i < n; i++)
		probe_report_judge(r, probe_report_add(r, &checks[i]), verdicts[i], "words");
}

/* The older report as JSON, compared with the newer. */
static int compare(const struct probe_report *old, const struct probe_report *new, struct probe_diff *d,
		   struct error *e)
{
	char *json = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&json, &n);
	int status;

	assert_true(probe_print_json(old, NULL, f));
	fclose(f);
	status = probe_diff_make(d, view_of(json, n), new, e);
	free(json);
	return status;
}

static void what_is_no_report_is_refused(void **state)
{
	static const char *const texts[] = {
		"",
		"[]",
		"{",
		"7",
		"{\"schema\": 1}",
		"{\"schema\": 2, \"kind\": \"server\", \"target\": \"x\", \"findings\": []}",
		"{\"schema\": 1, \"kind\": \"server\", \"target\": 7, \"findings\": []}",
		"{\"schema\": 1, \"kind\": \"server\", \"target\": \"x\", \"findings\": {}}"
	};
	struct probe_report r;
	struct probe_diff d;
	struct error e;

	(void)state;
	make(&r, "x", 0, NULL);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		assert_int_equal(probe_diff_make(&d, view_cstr(texts[i]), &r, &e), -1);
		assert_int_equal(e.class, ERROR_INPUT);
		assert_true(e.text[0]);
	}
	/* a finding that is none is passed over */
	assert_int_equal(probe_diff_make(&d,
					 VIEW("{\"schema\": 1, \"kind\": \"server\", \"target\": \"x\", \"findings\": "
					      "[7, {}, {\"id\": 7}]}"),
					 &r, &e),
			 0);
	assert_int_equal(d.count, 0);
	probe_diff_free(&d);
	probe_report_free(&r);
}

static void another_target_is_refused(void **state)
{
	struct probe_report old, new;
	struct probe_diff d;
	struct error e;

	(void)state;
	make(&old, "a:25", 0, NULL);
	make(&new, "b:25", 0, NULL);
	assert_int_equal(compare(&old, &new, &d, &e), -1);
	assert_non_null(strstr(e.text, "a:25"));
	probe_report_free(&old);
	probe_report_free(&new);
}

static void worse_and_other(void **state)
{
	static const struct {
		enum probe_verdict before, after;
		bool change, worse;
	} cases[] = {
		{ PROBE_PASS, PROBE_PASS, false, false },    { PROBE_PASS, PROBE_NOTE, true, true },
		{ PROBE_PASS, PROBE_FAIL, true, true },      { PROBE_NOTE, PROBE_FAIL, true, true },
		{ PROBE_NOTE, PROBE_PASS, true, false },     { PROBE_FAIL, PROBE_PASS, true, false },
		{ PROBE_FAIL, PROBE_NOTE, true, false },     { PROBE_UNTESTED, PROBE_PASS, true, false },
		{ PROBE_UNTESTED, PROBE_NOTE, true, false }, { PROBE_UNTESTED, PROBE_FAIL, true, true },
		{ PROBE_PASS, PROBE_UNTESTED, true, true },  { PROBE_UNTESTED, PROBE_UNTESTED, false, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct probe_report old, new;
		struct probe_diff d;
		struct error e;

		make(&old, "x", 1, &cases[i].before);
		make(&new, "x", 1, &cases[i].after);
		assert_int_equal(compare(&old, &new, &d, &e), 0);
		assert_int_equal(d.count, cases[i].change);
		assert_int_equal(d.worse, cases[i].worse);
		probe_diff_free(&d);
		probe_report_free(&old);
		probe_report_free(&new);
	}
}

static void checks_come_and_go(void **state)
{
	static const enum probe_verdict three[] = { PROBE_PASS, PROBE_PASS, PROBE_FAIL },
					two[] = { PROBE_PASS, PROBE_PASS };
	struct probe_report with, without;
	struct probe_diff d;
	struct error e;

	(void)state;
	make(&with, "x", 3, three);
	make(&without, "x", 2, two);
	assert_int_equal(compare(&without, &with, &d, &e), 0);
	assert_int_equal(d.count, 1);
	assert_int_equal(d.worse, 1); /* a new check that fails is news */
	assert_int_equal(d.changes[0].before, 0);
	probe_diff_free(&d);
	assert_int_equal(compare(&with, &without, &d, &e), 0);
	assert_int_equal(d.count, 1);
	assert_string_equal(d.changes[0].id, "c");
	assert_int_equal(d.changes[0].after, 0);
	probe_diff_free(&d);
	probe_report_free(&with);
	probe_report_free(&without);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_report_is_refused),
		cmocka_unit_test(another_target_is_refused),
		cmocka_unit_test(worse_and_other),
		cmocka_unit_test(checks_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
