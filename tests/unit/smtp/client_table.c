/* client_table.c - the laws of spec/client.def, judged over every phase, event and combination of the facts that its
 * guards ask: no holes, no row that can never match, and walks over all that can follow one another.
 *
 * The same judges run over spoilt tables (negative controls), so that a law that can never fail is found too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "smtp/client_table.h"

#define PHASE(id) (1u << CLIENT_IN_##id)
#define ON(id) (1u << CLIENT_ON_##id)
#define ROWS_MAX 256 /* of a copy to spoil; the table has half as many */

struct table {
	struct client_row rows[ROWS_MAX];
	size_t n;
	bool used[ROWS_MAX];
};

static void table_copy(struct table *t)
{
	assert_true(client_row_count <= ROWS_MAX);
	memset(t, 0, sizeof *t);
	memcpy(t->rows, client_rows, client_row_count * sizeof *client_rows);
	t->n = client_row_count;
}

static const struct client_row *find(struct table *t, enum client_event e, enum client_phase p, uint64_t facts)
{
	const struct client_row *r = client_row_find(t->rows, t->n, e, p, facts);

	if (r)
		t->used[r - t->rows] = true;
	return r;
}

/* The facts that the rows of (event, phase) ask. */
static uint64_t asked(const struct table *t, enum client_event e, enum client_phase p)
{
	uint64_t facts = 0;

	for (size_t i = 0; i < t->n; i++)
		if (t->rows[i].events & client_events[e].kinds && t->rows[i].phases & 1u << p)
			facts |= t->rows[i].want | t->rows[i].lack;
	return facts;
}

/* The next combination of the facts in mask; 0 after the last. */
static uint64_t next_facts(uint64_t facts, uint64_t mask)
{
	return (facts - mask) & mask;
}

/* ---- no holes, no dead rows ---- */

static unsigned holes(struct table *t)
{
	unsigned n = 0;

	for (unsigned e = 1; e < CLIENT_ON_END_; e++)
		for (unsigned p = 1; p < CLIENT_IN_END_; p++) {
			uint64_t mask = asked(t, e, p), f = 0;

			if (!(client_events[e].phases & 1u << p))
				continue;
			do
				if (!find(t, e, p, f))
					n++;
			while ((f = next_facts(f, mask)));
		}
	return n;
}

static unsigned dead_rows(struct table *t)
{
	unsigned n = 0;

	holes(t);
	for (size_t i = 0; i < t->n; i++)
		if (t->rows[i].events && !t->used[i]) {
			print_message("row %zu can never match: %s -> %s\n", i, client_actions[t->rows[i].does].name,
				client_phases[t->rows[i].next].name);
			n++;
		}
	return n;
}

static void complete(void **state)
{
	struct table *t = malloc(sizeof *t);

	(void)state;
	table_copy(t);
	assert_int_equal(holes(t), 0);
	assert_int_equal(dead_rows(t), 0);
	/* controls: a row less is a hole, a row behind itself is dead */
	for (size_t i = 0; i < t->n; i++)
		if (t->rows[i].events & ON(TIMEOUT) && t->rows[i].phases & PHASE(BODY))
			t->rows[i].events = 0;
	assert_true(holes(t) > 0);
	table_copy(t);
	t->rows[t->n++] = t->rows[1];
	assert_true(dead_rows(t) > 0);
	free(t);
}

/* Where an event cannot happen there is no row for it: a call out of turn changes nothing. */
static void nowhere_else(void **state)
{
	(void)state;
	for (size_t i = 0; i < client_row_count; i++)
		for (unsigned e = 1; e < CLIENT_ON_END_; e++)
			if (client_rows[i].events & 1u << e)
				assert_true(client_rows[i].phases & client_events[e].phases);
	for (unsigned e = CLIENT_ON_RESPONSE; e <= CLIENT_ON_LEAVE; e++)
		for (unsigned p = 1; p < CLIENT_IN_END_; p++)
			if (!(client_events[e].phases & 1u << p))
				assert_null(client_row_find(client_rows, client_row_count, e, p, ~UINT64_C(0)));
}

static void words(void **state)
{
	(void)state;
	for (unsigned p = 1; p < CLIENT_IN_END_; p++)
		assert_true(client_phases[p].name && client_phases[p].note && client_phases[p].clock);
	for (size_t i = 0; i < client_row_count; i++)
		if (client_rows[i].events) {
			assert_true(strlen(client_rows[i].rfc) >= 6);
			assert_true(client_rows[i].phases && client_rows[i].next && client_rows[i].does);
			/* whoever tells FAILED or TLS_REFUSED says why */
			assert_int_equal(client_rows[i].reason[0] != 0,
				(client_rows[i].does >= CLIENT_DO_TEMPORARY && client_rows[i].does <= CLIENT_DO_POLICY) ||
				client_rows[i].does == CLIENT_DO_TELL_CLEAR || client_rows[i].does == CLIENT_DO_FINAL_LEFT);
		}
}

/* ---- walks ---- */

/* What a walk knows of a session. */
struct walk {
	enum client_phase phase;
	bool tls, helloed, authed, knows_clear;
};

static unsigned walk_index(struct walk w)
{
	return (unsigned)w.phase << 4 | (unsigned)w.tls << 3 | (unsigned)w.helloed << 2 | (unsigned)w.authed << 1 |
	       w.knows_clear;
}

enum law {
	LAW_MAIL_HELLO = 1, /* MAIL only behind EHLO or HELO of this epoch */
	LAW_MAIL_TLS,       /* no MAIL in clear when TLS is owed */
	LAW_AUTH_TLS,       /* no AUTH in clear unless the caller insists */
	LAW_FORGETS,        /* nothing learned in clear is known inside TLS */
	LAW_QUIET,          /* no handshake with octets pending */
	LAW_ONCE,           /* STARTTLS never inside TLS */
	LAW_HELO,           /* no HELO inside TLS, or when it is owed */
	LAW_220,            /* only 220 starts TLS */
	LAW_END
};

struct search {
	struct table *t;
	uint64_t policy; /* facts of the session */
	bool seen[CLIENT_IN_END_ << 4];
	bool broken[LAW_END];
};

static void judge(struct search *s, struct walk w, enum client_event e, uint64_t facts, const struct client_row *r)
{
	bool owed = s->policy & CLIENT_IF(OWED);

	switch (r->does) {
	case CLIENT_DO_SAY_MAIL:
		s->broken[LAW_MAIL_HELLO] |= !w.helloed; /* RFC 3207 4.2, RFC 5321 4.1.4: in this epoch */
		s->broken[LAW_MAIL_TLS] |= owed && !w.tls;
		break;
	case CLIENT_DO_ASK_AUTH:
	case CLIENT_DO_SAY_AUTH:
	case CLIENT_DO_SAY_REPLY:
		s->broken[LAW_AUTH_TLS] |= !w.tls && !(facts & CLIENT_IF(ANYHOW));
		break;
	case CLIENT_DO_SAY_HELO:
		s->broken[LAW_HELO] |= w.tls || owed;
		break;
	case CLIENT_DO_SAY_TLS:
		s->broken[LAW_ONCE] |= w.tls;
		break;
	case CLIENT_DO_START_TLS:
		s->broken[LAW_QUIET] |= !(facts & CLIENT_IF(QUIET));
		s->broken[LAW_220] |= e != CLIENT_ON_R220;
		break;
	default:
		break;
	}
}

static struct walk follow(struct walk w, enum client_event e, const struct client_row *r)
{
	w.phase = r->next;
	if (r->ends && r->ends <= CLIENT_LIFE_HELLO)
		w.helloed = w.knows_clear = false;
	if (r->ends && r->ends <= CLIENT_LIFE_EPOCH)
		w.authed = false;
	if (r->does == CLIENT_DO_LEARN_EHLO || r->does == CLIENT_DO_LEARN_HELO) {
		w.helloed = true;
		w.knows_clear = !w.tls;
	}
	if (e == CLIENT_ON_R235)
		w.authed = true;
	if (e == CLIENT_ON_TLS_UP)
		w.tls = true;
	return w;
}

static void search_from(struct search *s, struct walk w)
{
	if (s->seen[walk_index(w)])
		return;
	s->seen[walk_index(w)] = true;
	s->broken[LAW_FORGETS] |= w.tls && w.knows_clear;
	for (unsigned e = 1; e < CLIENT_ON_END_; e++) {
		uint64_t standing = CLIENT_IF(IMPLICIT) | CLIENT_IF(WANTED) | CLIENT_IF(OWED) | CLIENT_IF(TLS) | CLIENT_IF(ANYHOW);
		uint64_t mask = asked(s->t, e, w.phase) & ~standing, f = 0;

		if (!(client_events[e].phases & 1u << w.phase))
			continue;
		do {
			uint64_t facts = f | s->policy | (w.tls ? CLIENT_IF(TLS) : 0);
			const struct client_row *r = find(s->t, e, w.phase, facts);

			if (!r)
				continue;
			judge(s, w, e, facts, r);
			search_from(s, follow(w, e, r));
		} while ((f = next_facts(f, mask)));
	}
}

static void search_all(struct table *t, bool broken[LAW_END])
{
	const uint64_t policies[] = { 0, CLIENT_IF(WANTED), CLIENT_IF(WANTED) | CLIENT_IF(OWED),
		CLIENT_IF(IMPLICIT) | CLIENT_IF(OWED) };

	memset(broken, 0, LAW_END * sizeof *broken);
	for (int i = 0; i < 8; i++) {
		struct search *s = calloc(1, sizeof *s);

		s->t = t;
		s->policy = policies[i / 2] | (i % 2 ? CLIENT_IF(ANYHOW) : 0);
		search_from(s, (struct walk){ .phase = CLIENT_IN_START });
		for (int law = 1; law < LAW_END; law++)
			broken[law] |= s->broken[law];
		free(s);
	}
}

static void laws(void **state)
{
	struct table *t = malloc(sizeof *t);
	bool broken[LAW_END];

	(void)state;
	table_copy(t);
	search_all(t, broken);
	for (int law = 1; law < LAW_END; law++)
		if (broken[law]) {
			print_error("law %d is broken\n", law);
			fail();
		}
	free(t);
}

/* The first row that does this, in this phase. */
static struct client_row *row_of(struct table *t, enum client_action does, uint32_t phase)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->rows[i].does == does && t->rows[i].phases & phase)
			return &t->rows[i];
	fail_msg("no such row");
	return NULL;
}

static void laws_can_fail(void **state)
{
	struct table *t = malloc(sizeof *t);
	bool broken[LAW_END];

	(void)state;
	table_copy(t);
	row_of(t, CLIENT_DO_START_TLS, PHASE(STARTTLS))->want = 0;
	search_all(t, broken);
	assert_true(broken[LAW_QUIET]);
	table_copy(t);
	row_of(t, CLIENT_DO_SAY_EHLO, PHASE(HANDSHAKE))->ends = CLIENT_LIFE_NONE;
	search_all(t, broken);
	assert_true(broken[LAW_FORGETS]);
	table_copy(t);
	row_of(t, CLIENT_DO_START_TLS, PHASE(STARTTLS))->events = ON(R2XX);
	search_all(t, broken);
	assert_true(broken[LAW_220]);
	table_copy(t);
	row_of(t, CLIENT_DO_SAY_HELO, PHASE(EHLO))->lack = 0;
	search_all(t, broken);
	assert_true(broken[LAW_HELO]);
	table_copy(t);
	row_of(t, CLIENT_DO_POLICY, PHASE(HELLOED))->does = CLIENT_DO_TELL_CLEAR;
	row_of(t, CLIENT_DO_TELL_CLEAR, PHASE(HELLOED))->next = CLIENT_IN_SECURED;
	search_all(t, broken);
	assert_true(broken[LAW_MAIL_TLS]);
	table_copy(t);
	row_of(t, CLIENT_DO_NOTHING, PHASE(HELLOED))->want = CLIENT_IF(OPEN_TX); /* the row that knows that TLS is up */
	search_all(t, broken);
	assert_true(broken[LAW_ONCE]);
	table_copy(t);
	row_of(t, CLIENT_DO_POLICY, PHASE(SECURED))->want = CLIENT_IF(OPEN_TX);
	search_all(t, broken);
	assert_true(broken[LAW_AUTH_TLS]);
	table_copy(t);
	row_of(t, CLIENT_DO_SAY_EHLO, PHASE(HANDSHAKE))->next = CLIENT_IN_READY;
	search_all(t, broken);
	assert_true(broken[LAW_MAIL_HELLO]);
	free(t);
}

/* Every wait has a deadline, but that for the caller's next wish; every phase has a way to CLOSED. */
static void ends(void **state)
{
	struct table *t = malloc(sizeof *t);
	bool closes[CLIENT_IN_END_] = { [CLIENT_IN_CLOSED] = true };
	bool changed = true;

	(void)state;
	table_copy(t);
	for (unsigned p = 1; p < CLIENT_IN_END_; p++)
		if (client_phases[p].clock == CLIENT_CLOCK_NEVER)
			assert_true(p == CLIENT_IN_START || p == CLIENT_IN_READY || p == CLIENT_IN_CLOSED);
	while (changed) {
		changed = false;
		for (size_t i = 0; i < t->n; i++)
			for (unsigned p = 1; p < CLIENT_IN_END_; p++)
				if (t->rows[i].events && t->rows[i].phases & 1u << p && closes[t->rows[i].next] && !closes[p])
					closes[p] = changed = true;
	}
	for (unsigned p = 1; p < CLIENT_IN_END_; p++)
		assert_true(closes[p]);
	/* a deadline that passes, and a peer that goes, always end the session */
	for (unsigned p = 1; p < CLIENT_IN_END_; p++)
		for (int i = 0; i < 2; i++) {
			enum client_event e = i ? CLIENT_ON_TIMEOUT : CLIENT_ON_PEER_CLOSED;

			if (client_events[e].phases & 1u << p)
				assert_int_equal(find(t, e, p, 0)->next, CLIENT_IN_CLOSING);
		}
	/* a phase that passes never passes back into itself without an event */
	for (unsigned p = 1; p < CLIENT_IN_END_; p++)
		if (client_phases[p].clock == CLIENT_CLOCK_PASS) {
			unsigned at = p, steps = 0;

			while (client_phases[at].clock == CLIENT_CLOCK_PASS) {
				at = find(t, CLIENT_ON_GO, at, 0)->next;
				assert_true(++steps < CLIENT_IN_END_);
			}
		}
	free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(complete), cmocka_unit_test(nowhere_else), cmocka_unit_test(words), cmocka_unit_test(laws),
		cmocka_unit_test(laws_can_fail), cmocka_unit_test(ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
