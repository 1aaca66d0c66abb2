/* The questions that cases of `probe client` ask about traces: what was done in clear, inside TLS, and behind a broken border. */
#include "probe/client_inside.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static struct client_seen seen(const char *first, const char *second)
{
	struct client_seen s = { .connections = second ? 2 : 1 };

	snprintf(s.trace[0].steps, sizeof s.trace[0].steps, "%s", first);
	if (second)
		snprintf(s.trace[1].steps, sizeof s.trace[1].steps, "%s", second);
	return s;
}

static void inside_and_outside(void **state)
{
	struct client_seen s = seen("ES[EMRD.Q", NULL);

	(void)state;
	assert_true(client_did(&s, CLIENT_MAIL, true));
	assert_false(client_did(&s, CLIENT_MAIL, false));
	assert_true(client_did(&s, CLIENT_STARTTLS, false));
	assert_false(client_did(&s, CLIENT_STARTTLS, true));
	assert_true(client_shook(&s));
	assert_false(client_went_on(&s));
	assert_true(client_has_order(&s, "[EM"));
	assert_false(client_has_order(&s, "[M"));
}

static void a_second_connection_counts(void **state)
{
	struct client_seen s = seen("ES!", "EMRD.Q");

	(void)state;
	assert_true(client_did(&s, CLIENT_MAIL, false));
	assert_false(client_did(&s, CLIENT_MAIL, true));
	assert_false(client_shook(&s));
	assert_false(client_went_on(&s)); /* a new connection is a retry, not a session continued */
	s.connections = 1;
	assert_false(client_did(&s, CLIENT_MAIL, false));
}

static void behind_a_broken_border(void **state)
{
	static const struct { const char *trace; bool went_on; } rows[] = {
		{ "ES!%", false }, { "ES!%x", false }, { "ES!%Q", false }, { "ES!%E", true }, { "ES!%HM", true }, { "ES%MX", true },
		{ "ES[EM%x", false }, { "ES[EM%R", true }, { "ES[EMRD.Qx", false }, { "EMRD.Q", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct client_seen s = seen(rows[i].trace, NULL);

		assert_int_equal(client_went_on(&s), rows[i].went_on);
	}
	{
		struct client_seen s = seen("ES[EM%R", NULL);

		assert_true(client_did(&s, CLIENT_RCPT, false)); /* what follows the border is in clear */
		assert_false(client_did(&s, CLIENT_RCPT, true));
	}
}

static void what_went_in_clear_by_expectation(void **state)
{
	static const struct probe_check check = { 301, "x", "x", NULL, "x", "x", PROBE_HIGH, 0 };
	static const struct { const char *trace; enum client_expect expect; bool judged; enum probe_verdict verdict; } rows[] = {
		{ "EMRD.Q", CLIENT_MAY, true, PROBE_NOTE }, { "EMRD.Q", CLIENT_ENCRYPT, true, PROBE_FAIL }, { "EMRD.Q", CLIENT_VERIFY, true, PROBE_FAIL },
		{ "ES!%E", CLIENT_MAY, true, PROBE_FAIL }, { "EQ", CLIENT_MAY, false, PROBE_UNTESTED }, { "ES[EMRD.Q", CLIENT_VERIFY, false, PROBE_UNTESTED },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct probe_client_options o = { .expect = rows[i].expect };
		struct probe_report r;
		struct client_probe *c = calloc(1, sizeof *c);

		assert_non_null(c);
		probe_report_init(&r, "client", "x", 0);
		c->o = &o;
		c->p.report = &r;
		c->p.now = probe_report_add(&r, &check);
		c->seen = seen(rows[i].trace, NULL);
		assert_int_equal(client_judge_clear(c), rows[i].judged);
		assert_int_equal(c->p.now->verdict, rows[i].verdict);
		probe_report_free(&r);
		free(c);
	}
}

static void every_case_is_found_by_its_number(void **state)
{
	(void)state;
	for (unsigned i = 0; i < client_case_count; i++) {
		assert_ptr_equal(client_case_find(client_cases[i].number), &client_cases[i]);
		assert_true(i == 0 || client_cases[i].number > client_cases[i - 1].number);
		assert_non_null(*client_cases[i].group);
	}
	assert_null(client_case_find(0));
	assert_null(client_case_find(999));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inside_and_outside),
		cmocka_unit_test(a_second_connection_counts),
		cmocka_unit_test(behind_a_broken_border),
		cmocka_unit_test(what_went_in_clear_by_expectation),
		cmocka_unit_test(every_case_is_found_by_its_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
