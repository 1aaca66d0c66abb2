/* closure.c - the closure test: from each listener policy every input in every reachable state, every law on every
 * edge.
 *
 * Also judges the table by itself: no hole, no row that an earlier one shadows, no row that nothing reaches.  It runs
 * with all switches off, then with each on, over the library's options and not only the listeners that we configure.
 *
 * Compiled a second and third time with a seeded fault in the table (SERVER_SEED_...) it is its own negative control:
 * then EXPECT_BROKEN names the law that must be found broken, and the test passes exactly when it is.
 */
#include "closure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct closure_result result;

static const char hostname[] = "mx.test";
static const char *const tls_names[] = { "", "none", "starttls", "required", "implicit", "broken" };

static struct closure_policy policy(enum psmtp_tls_offer tls, bool lmtp, bool auth, unsigned switches)
{
	struct closure_policy p = { .options = {
		.hostname = { hostname, sizeof hostname - 1 }, .tls = tls, .lmtp = lmtp, .switches = switches,
		.size_limit = 30, .rcpt_limit = 2, .error_limit = 1000, .idle_limit = 1000000,
		.auth = { auth ? "PLAIN LOGIN" : "", auth ? 11 : 0 },
	} };

	snprintf(p.name, sizeof p.name, "tls=%s %s auth=%d switches=%u", tls_names[tls],
		lmtp ? "lmtp" : "smtp", auth, switches);
	return p;
}

#ifndef EXPECT_BROKEN
static void name_more(struct closure_policy *p, const char *more)
{
	size_t n = strlen(p->name);

	snprintf(p->name + n, sizeof p->name - n, " %s", more);
}

/* Options beside the grid: each weakens or narrows something that the grid holds fixed. */
static void explore_oddities(void)
{
	struct closure_policy p = policy(PSMTP_TLS_STARTTLS, false, true, 0);

	p.options.auth_in_clear = true;
	name_more(&p, "auth in clear");
	closure_explore(&p, &result);
	p = policy(PSMTP_TLS_STARTTLS, false, false, 0);
	p.options.requiretls = true;
	name_more(&p, "requiretls");
	closure_explore(&p, &result);
	p = policy(PSMTP_TLS_NONE, false, false, 0);
	p.options.binarymime = true;
	name_more(&p, "binarymime");
	closure_explore(&p, &result);
	p = policy(PSMTP_TLS_NONE, false, false, 0);
	p.options.no_chunking = p.options.no_smtputf8 = p.options.no_dsn = p.options.binarymime = true;
	name_more(&p, "nothing offered");
	closure_explore(&p, &result);
	p = policy(PSMTP_TLS_NONE, false, false, 0);
	p.options.bare = PSMTP_BARE_NORMALISE;
	name_more(&p, "normalise");
	closure_explore(&p, &result);
	p = policy(PSMTP_TLS_NONE, false, false, 0);
	p.options.error_limit = 2;
	p.options.idle_limit = 3;
	p.options.mail_limit = 1;
	name_more(&p, "tight");
	closure_explore(&p, &result);
	p = policy(PSMTP_TLS_NONE, false, false, 0);
	p.flood = true;
	name_more(&p, "flooded");
	closure_explore(&p, &result);
}

static void explore_grid(void)
{
	for (unsigned tls = PSMTP_TLS_NONE; tls <= PSMTP_TLS_BROKEN; tls++)
		for (unsigned more = 0; more < 4; more++) {
			bool lmtp = more & 1, auth = more & 2;

			for (unsigned sw = 0; sw <= (PSMTP_SWITCH_STARTTLS_DISCARD | PSMTP_SWITCH_EHLO_AFTER_TLS_OPTIONAL); sw++) {
				struct closure_policy p = policy(tls, lmtp, auth, sw);

				/* the switches speak of STARTTLS; both together, and with the rest, on one listener */
				if (sw && tls != PSMTP_TLS_STARTTLS && tls != PSMTP_TLS_REQUIRED)
					continue;
				if (sw == 3 && more)
					continue;
				closure_explore(&p, &result);
			}
		}
}

#endif

static void test_every_edge(void **state)
{
	(void)state;
#ifdef EXPECT_BROKEN
	{
		struct closure_policy p = policy(PSMTP_TLS_STARTTLS, false, false, 0);

		closure_explore(&p, &result);
		assert_true(closure_broken[EXPECT_BROKEN] > 0);
	}
#else
	explore_grid();
	explore_oddities();
	print_message("%zu states, %zu edges\n", result.states, result.edges);
	for (unsigned law = 1; law < LAW_END_; law++) {
		if (closure_broken[law])
			print_error("%s: broken %lu times\n", closure_law_names[law], closure_broken[law]);
		assert_int_equal(closure_broken[law], 0);
	}
#endif
}

#ifndef EXPECT_BROKEN
/* The facts that the rows of one event in one phase ask about. */
static uint64_t asked(enum server_event event, unsigned phase)
{
	uint64_t facts = 0;

	for (size_t i = 0; i < server_row_count; i++)
		if (server_rows[i].event == event && server_rows[i].phases >> phase & 1)
			facts |= server_rows[i].want | server_rows[i].lack;
	return facts;
}

/* The next subset of mask after s; 0 when all were seen. */
static uint64_t next_subset(uint64_t s, uint64_t mask)
{
	return (s - mask) & mask;
}

static bool row_first[512];

static void judge_pair(enum server_event event, unsigned phase)
{
	uint64_t mask = asked(event, phase), facts = 0;

	do {
		const struct server_row *row = server_row_find(event, phase, facts);

		if (!row)
			fail_msg("hole: %s in %s", server_events[event].name, server_phases[phase].name);
		row_first[row - server_rows] = true;
		facts = next_subset(facts, mask);
	} while (facts);
}

static void test_no_hole_no_shadow(void **state)
{
	(void)state;
	assert_true(server_row_count <= 512);
	for (unsigned event = 1; event < EVENT_END_; event++)
		for (unsigned phase = 1; phase < PHASE_END_; phase++) {
			if (server_events[event].phases >> phase & 1)
				judge_pair(event, phase);
			else
				assert_null(server_row_find(event, phase, 0)); /* a row for what cannot happen */
		}
	for (size_t i = 0; i < server_row_count; i++)
		if (server_rows[i].event && !row_first[i])
			fail_msg("row %zu (%s) is shadowed by rows above it", i, server_events[server_rows[i].event].name);
}

static void test_no_unreachable_row(void **state)
{
	unsigned missed = 0;

	(void)state;
	for (size_t i = 0; i < server_row_count; i++) {
		const struct server_row *row = &server_rows[i];

		if (row->event && !result.row_fired[i]) {
			print_error("row %zu is never reached: %s, reply %s\n", i, server_events[row->event].name,
				row->reply ? server_replies[row->reply].id : "none");
			missed++;
		}
	}
	assert_int_equal(missed, 0);
}

static void test_rows_are_well_formed(void **state)
{
	(void)state;
	for (size_t i = 0; i < server_row_count; i++) {
		const struct server_row *row = &server_rows[i];

		if (!row->event) { /* OFFER and NOTE speak of a row that follows */
			assert_true(i + 1 < server_row_count);
			continue;
		}
		assert_int_equal(row->want & row->lack, 0);
		assert_non_null(row->rfc);
		/* what closes ends the connection, and nothing else does */
		assert_int_equal(row->next == PHASE_CLOSED, row->ends == LIFE_CONNECTION);
		/* a reply ends its command, unless it is held, asked for again (LMTP), or a parameter's */
		if (row->reply && row->does != DO_HOLD && row->does != DO_ASK_NEXT &&
			!(row->event >= EVENT_P_SIZE && row->event <= EVENT_P_TLS))
			assert_int_not_equal(row->ends, LIFE_NONE);
	}
	for (unsigned i = 1; i < REPLY_END_; i++) {
		const struct server_reply_text *r = &server_replies[i];
		bool plain = r->code == 354 || r->code == 334 || i == REPLY_GREETING || i == REPLY_EHLO ||
			     i == REPLY_HELO || i == REPLY_HELD;

		assert_true(r->code >= 200 && r->code <= 599);
		if (plain)
			assert_int_equal(r->enhanced[0], 0);
		else
			assert_int_equal(r->enhanced[0], r->code / 100); /* RFC 3463: the class agrees with the code */
	}
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
#ifndef EXPECT_BROKEN
		cmocka_unit_test(test_no_hole_no_shadow),
		cmocka_unit_test(test_rows_are_well_formed),
#endif
		cmocka_unit_test(test_every_edge),
#ifndef EXPECT_BROKEN
		cmocka_unit_test(test_no_unreachable_row),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
