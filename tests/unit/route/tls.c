/* tls.c - tests of route/tls.c: each row of tls.def, the laws that hold in every combination of facts, and bad input. */
#include "route/tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct row {
	const char *what, *rfc, *mx, *address, *tlsa[2], *sts, *local, *message;
	const char *verdict, *level, *check, *sni, *names, *policy, *event, *result, *words;
};

static const struct row rows[] = {
#define TLS_CASE(what, rfc, mx, address, first, second, sts, local, message, ...)                                    \
	{ what, rfc, mx, address, { first, second }, sts, local, message, __VA_ARGS__ },
#include "tls.def"
};
#define ROWS (sizeof rows / sizeof *rows)

static unsigned index_of(const char *word, const char *const *words)
{
	for (unsigned i = 0; words[i]; i++)
		if (strcmp(words[i], word) == 0)
			return i;
	fail_msg("tls.def: the word \"%s\" means nothing here", word);
	return 0;
}

#define DIGEST "0123456789abcdef0123456789abcdef"
static const struct { const char *word, *rdata; size_t n; } records[] = {
	{ "ee", "\3\1\1" DIGEST, 35 }, { "ta", "\2\0\2" DIGEST DIGEST, 67 }, { "pkix", "\1\1\1" DIGEST, 35 }, { "short", "\3\1\1", 3 },
	{ "empty", "", 0 }, { "digest", "\3\1\1" DIGEST "0", 36 }, { "strange", "\3\7\1" DIGEST, 35 },
};

struct world {
	struct route_tls_facts f;
	struct route_tls_host h;
	struct route_tlsa kept[2][2];
	struct route_tls_choice c;
	unsigned asked;
};

static struct route_answer answer_of(const char *word)
{
	static const char *const words[] = { "?", "secure", "insecure", "none", "none?", "failed", "bogus", NULL };
	static const struct route_answer answers[] = { { 0 }, { ROUTE_FOUND, true }, { ROUTE_FOUND, false }, { ROUTE_NOTHING, true },
		{ ROUTE_NOTHING, false }, { ROUTE_FAILED, false }, { ROUTE_BOGUS, false } };

	return answers[index_of(word, words)];
}

static void fill_tlsa(struct world *w, size_t i, const char *word)
{
	struct route_tlsa_set *set = &w->h.tlsa[i];
	bool mixed = strcmp(word, "mixed") == 0, insecure = strcmp(word, "insecure") == 0;

	set->records = w->kept[i];
	for (size_t r = 0; r < sizeof records / sizeof *records; r++) {
		bool mine = strcmp(records[r].word, word) == 0 || (mixed && (r == 0 || r == 2)) || (insecure && r == 0);
		if (mine)
			w->kept[i][set->n++] = route_tlsa_read(view_of(records[r].rdata, records[r].n));
	}
	set->answer = set->n ? (struct route_answer){ ROUTE_FOUND, !insecure } : answer_of(word);
}

static void set_mx(struct world *w, const char *word)
{
	char plain[20];

	w->f.dane = true;
	if (strcmp(word, "hop") == 0)
		return;
	w->f.domain = "d.test";
	snprintf(plain, sizeof plain, "%.*s", (int)strcspn(word, "+!"), word);
	w->f.mx = answer_of(plain);
	if (strchr(word, '+'))
		w->f.expanded = "e.test";
	if (strchr(word, '!'))
		w->f.dane = false;
}

static void set_address(struct world *w, const char *word)
{
	w->h.name = "mx.test";
	w->h.literal = strcmp(word, "literal") == 0;
	if (strcmp(word, "alias") == 0 || strcmp(word, "half") == 0 || strcmp(word, "alias?") == 0) {
		w->h.expanded = "real.test";
		w->h.address = (struct route_answer){ ROUTE_FOUND, strcmp(word, "alias") == 0 };
		w->h.alias_secure = strcmp(word, "alias?") != 0;
	} else if (!w->h.literal)
		w->h.address = answer_of(word);
}

/* Facts as `send` gathers them: TLSA sets come in as they are asked for. */
static void play(struct world *w, const struct row *r)
{
	static const char *const sts[] = { "?", "-", "failed", "none", "testing", "enforce", NULL },
				*const locals[] = { "?", "none", "may", "encrypt", "verify", NULL }, *const messages[] = { "-", "require", "relaxed", "both", NULL };
	char plain[20];
	const char *name;
	size_t base;
	unsigned message = index_of(r->message, messages);

	*w = (struct world){ 0 };
	set_mx(w, r->mx);
	set_address(w, r->address);
	snprintf(plain, sizeof plain, "%.*s", (int)strcspn(r->sts, "!"), r->sts);
	w->f.sts = (enum route_sts)index_of(plain, sts);
	w->f.sts_mx = strchr(r->sts, '!') ? VIEW("other.test\n*.elsewhere.test\n") : VIEW("other.test\n*.test\n");
	w->f.local = (enum route_level)index_of(r->local, locals);
	w->f.require = message & 1;
	w->f.relaxed = message & 2;
	while ((name = route_tls_ask(&w->f, &w->h, &base)) != NULL) {
		const char *word = r->tlsa[strcmp(name, "mx.test") == 0];
		assert_true(w->asked++ < 2);
		if (strcmp(word, "-") == 0)
			fail_msg("%s: TLSA at %s must not be asked for", r->what, name);
		fill_tlsa(w, base, word);
	}
	route_tls_judge(&w->f, &w->h, &w->c);
}

static void expect_text(const struct row *r, const char *what, const char *is, const char *should)
{
	if (strcmp(is, should) != 0)
		fail_msg("%s: %s is \"%s\", not \"%s\"", r->what, what, is, should);
}

static void check_row(const struct row *r)
{
	static const char *const events[] = { "-", "up", "clear", "name", "expired", "untrusted", "tlsa", "broke", NULL };
	static const char *const checks[] = { "?", "nothing", "chain", "dane" };
	struct world w;
	char text[200] = "";
	unsigned event = index_of(r->event, events), asked = 0;
	enum route_rpt_result result;

	play(&w, r);
	snprintf(text, sizeof text, w.c.refuse ? "%s %u" : "%s", route_verdict_name(w.c.verdict), w.c.refuse);
	expect_text(r, "verdict", text, r->verdict);
	expect_text(r, "level", route_level_name(w.c.level), r->level);
	expect_text(r, "check", w.c.watch && w.c.check == ROUTE_CHECK_NOTHING ? "watch" : checks[w.c.check], r->check);
	if (w.c.verdict == ROUTE_SEND)
		expect_text(r, "SNI", w.c.sni ? w.c.sni : "", r->sni);
	text[0] = '\0';
	for (size_t i = 0; i < w.c.names_n; i++)
		snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " " : "", w.c.names[i]);
	expect_text(r, "names", text, r->names);
	expect_text(r, "policy", route_rpt_policy_name(w.c.policy), r->policy);
	result = event ? route_tls_result(&w.c, (enum route_tls_event)event) : w.c.result;
	expect_text(r, "result", result ? route_rpt_result_name(result) : "-", r->result);
	if (!strstr(w.c.why, r->words) || !w.c.why[0])
		fail_msg("%s: the reason is \"%s\"", r->what, w.c.why);
	for (size_t i = 0; i < 2; i++)
		asked += strcmp(r->tlsa[i], "-") != 0;
	if (asked != w.asked)
		fail_msg("%s: %u TLSA lookups", r->what, w.asked);
}

static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ROWS; i++)
		check_row(&rows[i]);
	assert_true(ROWS >= 90);
}

/* What holds whatever the facts are: every combination of the words in the table. */
static void check_laws(const struct row *r)
{
	struct world w;

	play(&w, r);
	assert_in_range(w.c.verdict, ROUTE_SEND, ROUTE_SKIP);
	assert_in_range(w.c.level, ROUTE_LEVEL_NONE, ROUTE_LEVEL_DANE);
	assert_true(w.c.why[0] && memchr(w.c.why, 0, sizeof w.c.why));
	assert_true(w.c.level >= w.f.local); /* it can only rise */
	if (w.c.verdict != ROUTE_SEND)
		return;
	if (w.f.require)
		assert_true(w.c.level >= ROUTE_LEVEL_VERIFY);
	if (w.c.level == ROUTE_LEVEL_VERIFY)
		assert_true(w.c.check == ROUTE_CHECK_CHAIN && w.c.names_n == 1);
	assert_int_equal(w.c.level == ROUTE_LEVEL_DANE, w.c.check == ROUTE_CHECK_DANE);
	if (w.c.check == ROUTE_CHECK_DANE) { /* RFC 7672 2.2: all of the way was secure */
		assert_true(!w.f.domain || w.f.mx.secure);
		assert_true(w.h.address.secure || w.h.alias_secure);
		assert_true(w.c.tlsa && w.c.tlsa->answer.secure && !w.c.tlsa_useless && w.c.names_n && w.c.sni == w.c.names[0]);
	}
	for (size_t i = 0; i < 2; i++) /* a lookup that failed is never passed over */
		assert_true(w.h.tlsa[i].answer.status != ROUTE_FAILED && w.h.tlsa[i].answer.status != ROUTE_BOGUS);
	if (w.f.domain && w.f.sts == ROUTE_STS_ENFORCE && w.f.local != ROUTE_LEVEL_NONE && (!w.f.relaxed || w.f.require) && !w.h.literal)
		assert_true(w.c.level >= ROUTE_LEVEL_VERIFY);
}

static void test_laws(void **state)
{
	static const char *const mx[] = { "secure", "insecure", "none", "none?", "failed", "bogus", "hop", "secure+alias", "secure!" },
				*const address[] = { "secure", "insecure", "alias", "half", "alias?", "failed", "bogus", "none", "literal" },
				*const tlsa[] = { "none", "none?", "failed", "bogus", "insecure", "ee", "pkix", "empty", "mixed" },
				*const sts[] = { "-", "failed", "none", "testing", "testing!", "enforce", "enforce!" },
				*const local[] = { "none", "may", "encrypt", "verify" }, *const message[] = { "-", "require", "relaxed", "both" };
#define EACH(i, list) for (size_t i = 0; i < sizeof list / sizeof *list; i++)
	struct row r = { .what = "laws" };

	(void)state;
	EACH(a, mx) EACH(b, address) EACH(c, tlsa) EACH(d, tlsa) EACH(e, sts) EACH(f, local) EACH(g, message)
	{
		r.mx = mx[a], r.address = address[b], r.tlsa[0] = tlsa[c], r.tlsa[1] = tlsa[d];
		r.sts = sts[e], r.local = local[f], r.message = message[g];
		check_laws(&r);
	}
}

/* Facts that nobody should give: the worst that follows is that mail waits. */
static void test_bad_facts(void **state)
{
	static char long_name[300];
	struct route_tls_facts f = { .domain = long_name, .expanded = long_name, .local = ROUTE_LEVEL_MAY, .dane = true, .mx = { ROUTE_FOUND, true } };
	struct route_tls_host h = { .name = long_name, .address = { ROUTE_FOUND, true } };
	struct route_tls_choice c;
	size_t base;

	(void)state;
	memset(long_name, 'x', sizeof long_name - 1);
	route_tls_judge(&f, &h, &c); /* the TLSA answer was never asked for: as a failed lookup */
	assert_int_equal(c.verdict, ROUTE_DEFER);
	assert_int_equal(strlen(c.why), sizeof c.why - 1);
	h.tlsa[0].answer = (struct route_answer){ ROUTE_FOUND, true }; /* found, and no records */
	assert_null(route_tls_ask(&f, &h, &base));
	route_tls_judge(&f, &h, &c);
	assert_int_equal(c.verdict, ROUTE_SEND);
	assert_int_equal(c.level, ROUTE_LEVEL_ENCRYPT);
	h.address.status = 0;
	route_tls_judge(&f, &h, &c);
	assert_int_equal(c.verdict, ROUTE_DEFER);
	assert_string_equal(route_level_name(99), "?");
	assert_string_equal(route_rpt_result_name(0), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_facts), cmocka_unit_test(test_table), cmocka_unit_test(test_laws),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
