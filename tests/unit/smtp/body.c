/* body.c - the framer of message content against the oracle: every short string over the octets that matter, at every
 * split; random long ones; and the ways in which messages have been smuggled, by name.
 */
#include "body_oracle.h"
#include "parse_test.h"
#include "smtp/body.h"

struct result {
	char *give;
	size_t n, consumed;
	bool end, sound;
	struct smtp_body body;
};

static void take(struct result *r, struct view v)
{
	if (v.n)
		memcpy(r->give + r->n, v.p, v.n);
	r->n += v.n;
}

/* Feeds one piece as a caller does. */
static void feed(struct result *r, struct view in)
{
	while (in.n && !r->end) {
		struct smtp_body_step step = smtp_body_read(&r->body, in);

		r->sound = r->sound && step.take <= in.n && (step.take || step.give.n);
		take(r, step.give);
		r->consumed += step.take;
		r->end = step.end;
		in = view_slice(in, step.take, in.n);
	}
}

static void check(const struct result *r, const struct oracle *o, struct view wire, bool chunked, bool normalise,
	size_t a, size_t b)
{
	const char *want = normalise ? o->canonical : o->plain;
	size_t want_n = normalise ? o->canonical_n : o->plain_n;
	const char *fault = normalise ? NULL : o->fault;
	bool complete = o->ended || chunked, same;

	/* one that will be refused is given up to its fault at most; one that has not ended may be held back in part */
	if (complete && !fault)
		same = r->n == want_n && memcmp(r->give, want, want_n) == 0 && r->body.size == want_n &&
			(!normalise || r->body.changed == (o->fault != NULL));
	else
		same = r->n <= want_n && memcmp(r->give, want, r->n) == 0;
	/* a CR that ends what has not ended is no fault yet */
	if (complete)
		same = same && (fault ? r->body.fault && strcmp(fault, r->body.fault) == 0 : !r->body.fault);
	if (same && r->sound && r->end == o->ended && r->consumed == o->consumed)
		return;
	for (size_t i = 0; i < wire.n; i++)
		print_message("%02x ", (unsigned char)wire.p[i]);
	fail_msg("chunked %d normalise %d split %zu %zu: end %d consumed %zu gave %zu fault %s; the oracle: end %d "
		 "consumed %zu gave %zu fault %s",
		chunked, normalise, a, b, r->end, r->consumed, r->n, r->body.fault ? r->body.fault : "-", o->ended,
		o->consumed, want_n, fault ? fault : "-");
}

/* Octets [0, a), [a, b), [b, n), or one by one when a > n. */
static void run(struct view wire, const struct oracle *o, bool chunked, bool normalise, size_t a, size_t b)
{
	static char give[8192];
	struct result r = { .give = give, .sound = true };

	smtp_body_begin(&r.body, normalise ? PSMTP_BARE_NORMALISE : PSMTP_BARE_REJECT, chunked, false);
	if (a > wire.n) {
		for (size_t i = 0; i < wire.n; i++)
			feed(&r, view_slice(wire, i, i + 1));
	} else {
		feed(&r, view_slice(wire, 0, a));
		feed(&r, view_slice(wire, a, b));
		feed(&r, view_slice(wire, b, wire.n));
	}
	if (chunked)
		take(&r, smtp_body_finish(&r.body));
	check(&r, o, wire, chunked, normalise, a, b);
}

static void compare(struct view text, bool all_splits)
{
	struct view wire = exact(text);

	for (int chunked = 0; chunked < 2; chunked++) {
		struct oracle o = oracle_frame(wire.p, wire.n, chunked);

		for (int normalise = 0; normalise < 2; normalise++) {
			run(wire, &o, chunked, normalise, wire.n, wire.n);
			run(wire, &o, chunked, normalise, wire.n + 1, 0);
			for (size_t a = 1; all_splits && a < wire.n; a++)
				run(wire, &o, chunked, normalise, a, a);
		}
		oracle_free(&o);
	}
	drop(wire);
}

static const char octets[5] = { '\r', '\n', '.', 'a', '\0' };

/* Every string of up to 6 of these octets at every split, of 7 whole and by octets; and with a true end behind it. */
static void every_short_string(void **state)
{
	static const char tail[] = "\r\n.\r\nQUIT\r\n";
	char s[32];

	(void)state;
	for (size_t n = 0, count = 1; n <= 7; n++, count *= 5)
		for (size_t k = 0; k < count; k++) {
			for (size_t i = 0, rest = k; i < n; i++, rest /= 5)
				s[i] = octets[rest % 5];
			compare(view_of(s, n), n <= 6);
			memcpy(s + n, tail, sizeof tail - 1);
			compare(view_of(s, n + sizeof tail - 1), n <= 4);
		}
}

static unsigned random_next(unsigned *seed)
{
	*seed = *seed * 1103515245u + 12345u;
	return *seed >> 16;
}

/* Long ones, mostly of sound lines, in three pieces anywhere. */
static void random_long_strings(void **state)
{
	static const char *const parts[] = { "\r\n", "\r\n.", "\r\n..", "a line of text", ".", "\r", "\n", "\r\n", "x",
		"\r\n\r\n" };
	unsigned seed = 20261124;
	char s[2048];

	(void)state;
	for (unsigned round = 0; round < 600; round++) {
		unsigned odd = round % 4 == 0; /* one in four has faults at all */
		size_t n = 0;

		for (unsigned k = random_next(&seed) % 60; k; k--) {
			const char *part = parts[random_next(&seed) % COUNT(parts)];

			if (!odd && part[1] == '\0' && part[0] < ' ')
				part = "\r\n";
			memcpy(s + n, part, strlen(part));
			n += strlen(part);
			if (odd && random_next(&seed) % 20 == 0)
				s[n++] = '\0';
		}
		memcpy(s + n, "\r\n.\r\nNOOP\r\n", 11);
		n += 11;
		for (int chunked = 0; chunked < 2; chunked++) {
			struct view wire = exact(view_of(s, n));
			struct oracle o = oracle_frame(s, n, chunked);

			for (unsigned k = 0; k < 40; k++) {
				size_t a = random_next(&seed) % (n + 1), b = a + random_next(&seed) % (n + 1 - a);

				run(wire, &o, chunked, k & 1, a, b);
			}
			run(wire, &o, chunked, round & 1, n + 1, 0);
			oracle_free(&o);
			drop(wire);
		}
	}
}

/* What other programs were seen to take for the end of a message, or for a part of it. */
static const struct view smuggled[] = {
	LIT("\n.\n"),
	LIT("\n.\r\n"),
	LIT("\r.\r"),
	LIT("\r.\r\n"),
	LIT("\r.\n"),
	LIT("\n.\r"),
	LIT("\r\n.\n"),
	LIT("\r\n.\r"),
	LIT("\r\n.\r\r\n"),
	LIT("\r\n.\r\r\r\n"),
	LIT("\r\n.\n\r\n"),
	LIT("\r\n.\n\r"),
	LIT("\n\r.\n\r"),
	LIT("\n\r.\r\n"),
	LIT("\r\r.\r\r"),
	LIT("\n\n.\n\n"),
	LIT("\n\n.\r\n"),
	LIT("\r\r.\r\n"),
	LIT("\r\r\n.\r\n"),
	LIT("\n\r\r\n.\r\n"),
	LIT("\r\r\r\n.\r\n"),
	LIT("\r\n.\r\r\n.\r\n"),
	LIT("\r\n\0.\r\n"),
	LIT("\r\n.\0\r\n"),
	LIT("\r\n.\r\0\n"),
	LIT("\r\0\n.\r\n"),
	LIT("\0\r\n\0.\0\r\n\0"),
	LIT("\n\0.\n"),
	LIT("\r\n.\0\n"),
	LIT("\r\n. \r\n"),
	LIT("\r\n.\t\r\n"),
	LIT("\r\n .\r\n"),
	LIT("\r\n..\r\n"),
	LIT("\r\n...\r\n"),
	LIT("\r\n.\x0b\r\n"),
	LIT("\r\n.\x0c\r\n"),
	LIT("\x0b.\r\n"),
	LIT("\x85.\x85"),
	LIT("\xc2\x85.\xc2\x85"),
	LIT("\xe2\x80\xa8.\xe2\x80\xa8"),
	LIT("\r\n\xc0\xae\r\n"),
	LIT("\r\n\xae\r\n"),
	LIT("\x8d\x8a.\x8d\x8a"),
	LIT("\r\n.\x1a\r\n"),
	LIT("\x1a"),
	LIT("\x04"),
	LIT("\r\n\x04\r\n"),
	LIT("\r\n%2e\r\n"),
	LIT("\r\n=2E\r\n"),
	LIT("\r\n\".\"\r\n"),
};

static void smuggling_ends_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(smuggled); i++) {
		char s[128] = "A: b\r\n\r\ntext";
		size_t n = strlen(s), inner = n;
		struct oracle o;

		memcpy(s + n, smuggled[i].p, smuggled[i].n);
		n += smuggled[i].n;
		memcpy(s + n, "MAIL FROM:<evil@x>\r\n.\r\nQUIT\r\n", 29);
		n += 29;
		o = oracle_frame(s, n, false);
		assert_true(o.ended && o.consumed == n - 6 && o.consumed > inner + smuggled[i].n);
		oracle_free(&o);
		compare(view_of(s, n), true);
		compare(smuggled[i], true);
	}
}

/* Each of these ends at its own last octet. */
static void true_ends(void **state)
{
	static const struct view table[] = { LIT(".\r\n"), LIT("\r\n.\r\n"), LIT("a\r\n.\r\n"), LIT("..\r\n.\r\n"),
		LIT("\n\r\n.\r\n"), LIT("a\r\r\n.\r\n\r\n.\r\n"), LIT("\0\r\n.\r\n") };

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct oracle o = oracle_frame(table[i].p, table[i].n, false);

		assert_true(o.ended && o.consumed == table[i].n);
		oracle_free(&o);
		compare(table[i], true);
	}
}

static void names_the_first_fault(void **state)
{
	static const struct {
		struct view wire;
		const char *fault;
	} table[] = { { LIT("a\n\r\n.\r\n"), "bare_lf" }, { LIT("a\rb\n\r\n.\r\n"), "bare_cr" },
		{ LIT("a\0\n\r\n.\r\n"), "nul" }, { LIT("a\r\r\n.\r\n.\r\n"), "bare_cr" },
		{ LIT("\r\n.\n\r\n.\r\n"), "bare_lf" }, { LIT(".\rx\r\n.\r\n"), "bare_cr" },
		{ LIT("ok\r\n.\r\n"), NULL } };

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		char give[64];
		struct result r = { .give = give, .sound = true };

		smtp_body_begin(&r.body, PSMTP_BARE_REJECT, false, false);
		feed(&r, table[i].wire);
		assert_true(r.end);
		if (table[i].fault)
			assert_string_equal(smtp_body_fault(&r.body), table[i].fault);
		else
			assert_null(smtp_body_fault(&r.body));
	}
}

/* Content is given as it is, in one span where nothing is in the way, and stays where it was. */
static void copies_nothing(void **state)
{
	struct view wire = LIT("A: b\r\n\r\nno dots\r\nat any line\r\n.\r\n");
	struct smtp_body b;
	struct smtp_body_step step;

	(void)state;
	smtp_body_begin(&b, PSMTP_BARE_REJECT, false, false);
	step = smtp_body_read(&b, wire);
	assert_ptr_equal(step.give.p, wire.p);
	assert_int_equal(step.give.n, wire.n - 3);
}

static void counts_up_to_the_limit(void **state)
{
	struct view wire = LIT("..2345\r\n90\r\n.\r\nQUIT\r\n");

	(void)state;
	for (uint64_t limit = 0; limit < 14; limit++)
		for (size_t cut = 0; cut <= wire.n; cut++) {
			char give[64];
			struct result r = { .give = give, .sound = true };

			smtp_body_begin(&r.body, PSMTP_BARE_REJECT, false, false);
			r.body.limit = limit;
			feed(&r, view_slice(wire, 0, cut));
			feed(&r, view_slice(wire, cut, wire.n));
			assert_true(r.end && r.consumed == wire.n - 6); /* the rest is consumed to its true end */
			assert_int_equal(r.body.over, limit < 11);
			assert_true(r.n <= limit);
			assert_int_equal(r.body.size, 11);
		}
}

static void binary_is_opaque(void **state)
{
	struct view wire = LIT(".\r\n\0\r\n.\r\n\n\r\r");
	struct smtp_body b;
	char give[64];

	(void)state;
	for (size_t cut = 0; cut <= wire.n; cut++) {
		struct result r = { .give = give, .sound = true };

		smtp_body_begin(&r.body, PSMTP_BARE_REJECT, true, true);
		feed(&r, view_slice(wire, 0, cut));
		feed(&r, view_slice(wire, cut, wire.n));
		take(&r, smtp_body_finish(&r.body));
		assert_true(r.n == wire.n && memcmp(give, wire.p, wire.n) == 0 && !r.body.fault && !r.end);
	}
	/* by DATA nothing is binary (RFC 3030 section 3: the server refuses DATA then) */
	smtp_body_begin(&b, PSMTP_BARE_REJECT, false, true);
	assert_true(smtp_body_read(&b, LIT("a\r\n.\r\n")).take == 4 && b.place == SMTP_BODY_DOT);
}

static void nothing_follows_the_end(void **state)
{
	struct smtp_body b;
	struct smtp_body_step step;

	(void)state;
	smtp_body_begin(&b, PSMTP_BARE_REJECT, false, false);
	step = smtp_body_read(&b, LIT("."));
	assert_true(step.take == 1 && !step.end);
	step = smtp_body_read(&b, LIT(""));
	assert_true(step.take == 0 && !step.end && !step.give.n);
	step = smtp_body_read(&b, LIT("\r\nNOOP"));
	assert_true(step.take == 1 && !step.end);
	step = smtp_body_read(&b, LIT("\nNOOP"));
	assert_true(step.take == 1 && step.end);
	step = smtp_body_read(&b, LIT("NOOP"));
	assert_true(step.take == 0 && step.end && !step.give.n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_short_string),
		cmocka_unit_test(random_long_strings),
		cmocka_unit_test(smuggling_ends_nothing),
		cmocka_unit_test(true_ends),
		cmocka_unit_test(names_the_first_fault),
		cmocka_unit_test(copies_nothing),
		cmocka_unit_test(counts_up_to_the_limit),
		cmocka_unit_test(binary_is_opaque),
		cmocka_unit_test(nothing_follows_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
