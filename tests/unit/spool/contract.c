/* contract.c - what every engine of the spool must do.  The same tests for mem, queue stepped and queue threaded. */
#include "kit.h"

#include <stdio.h>
#include <stdlib.h>

static struct kit_found found;

static int setup(void **state, enum kit_engine engine)
{
	struct kit *k = calloc(1, sizeof *k);

	kit_init(k, engine);
	assert_int_equal(kit_open(k), 0);
	*state = k;
	return 0;
}

static int setup_mem(void **state)
{
	return setup(state, KIT_MEM);
}

static int setup_stepped(void **state)
{
	return setup(state, KIT_STEPPED);
}

static int setup_threaded(void **state)
{
	return setup(state, KIT_THREADED);
}

static int teardown(void **state)
{
	kit_end(*state);
	free(*state);
	return 0;
}

static void accept_and_read(void **state)
{
	struct kit *k = *state;
	struct kit_answer a = kit_accept(k, "Subject: x\r\n\r\nhello\r\n", "smtp:a", 2, false);
	size_t n;
	enum spool_status status;
	char *p;

	assert_int_equal(a.status, SPOOL_OK);
	assert_int_equal(a.calls, 1);
	assert_true(a.id > 1600000000000000u);
	kit_assert_body(k, a.id, "Subject: x\r\n\r\nhello\r\n");
	p = kit_read(k, a.id, 9, 5, &n, &status);
	assert_int_equal(n, 5);
	assert_memory_equal(p, "x\r\n\r\n", 5);
	free(p);
	p = kit_read(k, a.id, 1000, 5, &n, &status);
	assert_int_equal(status, SPOOL_OK);
	assert_int_equal(n, 0);
	free(p);
	assert_null(kit_read(k, a.id + 1, 0, 5, &n, &status));
	assert_int_equal(status, SPOOL_GONE);
	kit_list(k, 0, 0, "", 100, &found);
	assert_int_equal(found.n, 2);
	assert_int_equal(found.e[1].slot, 1);
	assert_int_equal(found.e[1].id, a.id);
	assert_int_equal(found.e[1].size, 21);
	assert_int_equal(found.e[1].created, 1000);
	assert_int_equal(found.e[1].expires, 900000);
	assert_string_equal(found.e[1].dest, "smtp:a");
	assert_string_equal(found.e[1].data, "data");
}

static void ids_rise(void **state)
{
	struct kit *k = *state;
	spool_id last = 0;
	struct kit_answer a[20];

	for (int i = 0; i < 20; i++)
		kit_begin_accept(k, "m", 1, "d", 1, false, &a[i]);
	for (int i = 0; i < 20; i++) {
		kit_wait(k, &a[i].done);
		assert_int_equal(a[i].status, SPOOL_OK);
		assert_true(a[i].id > last);
		last = a[i].id;
	}
}

static void empty_body(void **state)
{
	struct kit *k = *state;
	struct kit_answer a = kit_accept(k, "", "d", 1, false);
	size_t n;
	enum spool_status status;

	assert_int_equal(a.status, SPOOL_OK);
	free(kit_read(k, a.id, 0, 10, &n, &status));
	assert_int_equal(status, SPOOL_OK);
	assert_int_equal(n, 0);
}

static char *pattern(size_t n)
{
	char *p = malloc(n + 1);

	for (size_t i = 0; i < n; i++)
		p[i] = (char)('a' + (i * 7 + i / 251) % 26);
	p[n] = '\0';
	return p;
}

static void large_bodies(void **state)
{
	struct kit *k = *state;
	static const size_t sizes[] = { 4096, 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 300 * 1024, 1500 * 1024 };

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		char *text = pattern(sizes[i]);
		struct kit_answer a = kit_accept(k, text, "d", 1, false);
		size_t n;
		enum spool_status status;
		char *p;
		assert_int_equal(a.status, SPOOL_OK);
		kit_assert_body(k, a.id, text);
		p = kit_read(k, a.id, sizes[i] / 2, 1000, &n, &status);
		assert_int_equal(n, 1000);
		assert_memory_equal(p, text + sizes[i] / 2, 1000);
		free(p);
		free(text);
	}
}

static void prefix_comes_first(void **state)
{
	struct kit *k = *state;

	for (size_t size = 10; size <= 100000; size += 99990) {
		struct spool_body *b = spool_body_begin(k->spool, 0);
		struct spool_envelope e = kit_envelope("d", 1, "x");
		struct kit_answer a = { 0 };
		char *text = pattern(size), *whole = malloc(size + 32), *big = pattern(5000);
		spool_body_write(b, text, size);
		assert_int_equal(spool_body_prefix(b, VIEW("Received: by us\r\n")), SPOOL_OK);
		spool_accept(k->spool, b, &e, NULL, 1, kit_done, &a);
		kit_wait(k, &a.done);
		assert_int_equal(a.status, SPOOL_OK);
		snprintf(whole, size + 32, "Received: by us\r\n%s", text);
		kit_assert_body(k, a.id, whole);
		b = spool_body_begin(k->spool, 0);
		assert_int_not_equal(spool_body_prefix(b, view_cstr(big)), SPOOL_OK); /* more than 4 KiB */
		assert_int_not_equal(spool_body_write(b, "x", 1), SPOOL_OK);          /* the error stays */
		spool_body_abort(b);
		free(text);
		free(whole);
		free(big);
	}
}

static void aborted_bodies_leave_nothing(void **state)
{
	struct kit *k = *state;
	char *text = pattern(400 * 1024);

	for (size_t size = 100; size <= 400 * 1024; size *= 60) {
		struct spool_body *b = spool_body_begin(k->spool, size);
		spool_body_write(b, text, size);
		spool_body_abort(b);
	}
	free(text);
	assert_int_equal(kit_count(k), 0);
}

static void due_and_lease(void **state)
{
	struct kit *k = *state;
	struct spool_envelope later = kit_envelope("", 500, "deferred");
	struct kit_answer a = kit_accept(k, "1", "smtp:a", 3, false);
	struct kit_answer b = kit_accept(k, "2", "smtp:b", 1, false);

	kit_due(k, 99, 10, &found);
	assert_int_equal(found.n, 0);
	assert_int_equal(found.next_due, 100);
	kit_due(k, 100, 10, &found);
	assert_int_equal(found.n, 2);
	assert_int_equal(found.next_due, INT64_MAX);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(found.e[i].count, strcmp(found.e[i].dest, "smtp:a") == 0 ? 3 : 1);
	kit_lease(k, "smtp:a", 100, 2, &found);
	assert_int_equal(found.n, 2);
	assert_int_equal(found.e[0].slot, 0);
	assert_int_equal(found.e[1].slot, 1);
	kit_due(k, 100, 10, &found);
	assert_int_equal(found.n, 2);
	kit_lease(k, "smtp:a", 100, 10, &found);
	assert_int_equal(found.n, 1);
	assert_int_equal(found.e[0].slot, 2);
	kit_lease(k, "smtp:a", 100, 10, &found);
	assert_int_equal(found.n, 0);
	assert_int_equal(found.status, SPOOL_OK);
	kit_due(k, 100, 10, &found);
	assert_int_equal(found.n, 1);
	assert_string_equal(found.e[0].dest, "smtp:b");
	kit_due(k, 100, 0, &found);
	assert_int_equal(found.n, 0);
	/* a mark given back; one settled with something that remains; one with nothing */
	spool_unlease(k->spool, a.id, 0);
	later.attempts = 3;
	later.expires = 12345;
	assert_int_equal(kit_settle(k, a.id, 1, &later).status, SPOOL_OK);
	assert_int_equal(kit_settle(k, a.id, 2, NULL).status, SPOOL_OK);
	kit_lease(k, "smtp:a", 100, 10, &found);
	assert_int_equal(found.n, 1);
	assert_int_equal(found.e[0].slot, 0);
	kit_due(k, 400, 10, &found);
	assert_int_equal(found.next_due, 500);
	kit_lease(k, "smtp:a", 500, 10, &found);
	assert_int_equal(found.n, 1);
	assert_int_equal(found.e[0].slot, 1);
	assert_int_equal(found.e[0].attempts, 3);
	assert_int_equal(found.e[0].due, 500);
	assert_int_equal(found.e[0].expires, 12345);
	assert_int_equal(found.e[0].created, 1000);
	assert_string_equal(found.e[0].data, "deferred");
	assert_string_equal(found.e[0].dest, "smtp:a");
	assert_int_equal(kit_settle(k, a.id, 2, NULL).status, SPOOL_GONE);
	assert_int_equal(kit_settle(k, b.id + 100, 0, NULL).status, SPOOL_GONE);
	assert_int_equal(kit_settle(k, b.id, 7, &later).status, SPOOL_GONE);
	assert_int_equal(kit_count(k), 3);
}

static void due_order_and_limit(void **state)
{
	struct kit *k = *state;
	static const char *const names[] = { "e", "d", "c", "b", "a" };

	for (int i = 0; i < 5; i++) {
		struct spool_body *b = spool_body_begin(k->spool, 1);
		struct spool_envelope e = kit_envelope(names[i], 100 + i, "x");
		struct kit_answer a = { 0 };
		spool_accept(k->spool, b, &e, NULL, 1, kit_done, &a);
		kit_wait(k, &a.done);
	}
	kit_due(k, 103, 3, &found);
	assert_int_equal(found.n, 3);
	assert_string_equal(found.e[0].dest, "e");
	assert_string_equal(found.e[1].dest, "d");
	assert_string_equal(found.e[2].dest, "c");
	assert_int_equal(found.next_due, 104);
}

static void leased_from_the_start(void **state)
{
	struct kit *k = *state;
	struct kit_answer a = kit_accept(k, "x", "d", 2, true);
	struct spool_stats st;

	kit_lease(k, "d", 1000, 10, &found);
	assert_int_equal(found.n, 0);
	kit_due(k, 1000, 10, &found);
	assert_int_equal(found.n, 0);
	spool_get_stats(k->spool, &st);
	assert_int_equal(st.in_flight, 2);
	assert_int_equal(kit_settle(k, a.id, 0, NULL).status, SPOOL_OK);
	assert_int_equal(kit_settle(k, a.id, 1, NULL).status, SPOOL_OK);
	spool_get_stats(k->spool, &st);
	assert_int_equal(st.in_flight, 0);
	assert_int_equal(st.messages, 0);
	assert_int_equal(kit_count(k), 0);
}

static void settle_with_news(void **state)
{
	struct kit *k = *state;
	struct kit_answer a = kit_accept(k, "original", "d", 1, true), s = { 0 };
	char *big = pattern(100 * 1024);

	for (int file = 0; file < 2; file++) {
		struct spool_envelope e[2] = { kit_envelope("bounce", 5, "one"), kit_envelope("bounce2", 6, "two") };
		struct spool_new news[2] = { { .envelopes = e, .n = 2 }, { .envelopes = e, .n = 1 } };
		news[0].body = spool_body_begin(k->spool, 0);
		news[1].body = spool_body_begin(k->spool, 0);
		spool_body_write(news[0].body, "a bounce", 8);
		spool_body_write(news[1].body, big, file ? 100 * 1024 : 10);
		memset(&s, 0, sizeof s);
		spool_settle(k->spool, a.id, 0, NULL, news, 2, kit_done, &s);
		kit_wait(k, &s.done);
		/* the second time the envelope is gone: then nothing new comes either */
		assert_int_equal(s.status, file ? SPOOL_GONE : SPOOL_OK);
		assert_int_equal(kit_count(k), 3);
	}
	kit_list(k, 0, 0, "bounce", 10, &found);
	assert_int_equal(found.n, 2);
	kit_assert_body(k, found.e[0].id, "a bounce");
	assert_string_equal(found.e[0].data, "one");
	free(big);
}

static void settle_with_a_large_bounce(void **state)
{
	struct kit *k = *state;
	struct kit_answer a = kit_accept(k, "original", "d", 1, true), s = { 0 };
	char *big = pattern(100 * 1024);
	struct spool_envelope e = kit_envelope("bounce", 5, "one");
	struct spool_new news = { .envelopes = &e, .n = 1, .body = spool_body_begin(k->spool, 0) };

	spool_body_write(news.body, big, 100 * 1024);
	spool_settle(k->spool, a.id, 0, NULL, &news, 1, kit_done, &s);
	kit_wait(k, &s.done);
	assert_int_equal(s.status, SPOOL_OK);
	kit_list(k, 0, 0, "", 10, &found);
	assert_int_equal(found.n, 1);
	kit_assert_body(k, found.e[0].id, big);
	free(big);
}

static void hold_and_release(void **state)
{
	struct kit *k = *state;
	struct kit_answer a = kit_accept(k, "x", "d1", 2, false), b = kit_accept(k, "y", "d2", 1, false), r;
	struct spool_stats st;

	r = kit_hold(k, 0, "d1", true);
	assert_int_equal(r.status, SPOOL_OK);
	assert_int_equal(r.id, 2);
	assert_int_equal(kit_hold(k, 0, "d1", true).id, 0);
	spool_get_stats(k->spool, &st);
	assert_int_equal(st.held, 2);
	kit_lease(k, "d1", 1000, 10, &found);
	assert_int_equal(found.n, 0);
	kit_due(k, 1000, 10, &found);
	assert_int_equal(found.n, 1);
	r = kit_hold(k, a.id, "", false);
	assert_int_equal(r.id, 2);
	kit_lease(k, "d1", 1000, 10, &found);
	assert_int_equal(found.n, 2);
	assert_int_equal(kit_hold(k, b.id, "", true).id, 1);
	assert_int_equal(kit_hold(k, b.id + 5, "", true).status, SPOOL_GONE);
	assert_int_equal(kit_hold(k, 0, "", false).id, 1);
	spool_get_stats(k->spool, &st);
	assert_int_equal(st.held, 0);
}

static void held_from_the_start(void **state)
{
	struct kit *k = *state;
	struct spool_body *b = spool_body_begin(k->spool, 1);
	struct spool_envelope e = kit_envelope("d", 1, "x");
	struct kit_answer a = { 0 };
	struct spool_stats st;

	e.held = true;
	spool_accept(k->spool, b, &e, NULL, 1, kit_done, &a);
	kit_wait(k, &a.done);
	kit_lease(k, "d", 1000, 10, &found);
	assert_int_equal(found.n, 0);
	spool_get_stats(k->spool, &st);
	assert_int_equal(st.held, 1);
	assert_int_equal(kit_settle(k, a.id, 0, NULL).status, SPOOL_OK);
	spool_get_stats(k->spool, &st);
	assert_int_equal(st.held, 0);
}

static void flush(void **state)
{
	struct kit *k = *state;
	struct kit_answer a = kit_accept(k, "x", "d", 2, true);
	struct spool_envelope later = kit_envelope("", 5000, "later");

	kit_settle(k, a.id, 0, &later);
	kit_settle(k, a.id, 1, &later);
	kit_lease(k, "d", 1000, 10, &found);
	assert_int_equal(found.n, 0);
	assert_int_equal(kit_flush(k, 0, "other", 1000).id, 0);
	assert_int_equal(kit_flush(k, a.id, "", 1000).id, 2);
	kit_lease(k, "d", 1000, 10, &found);
	assert_int_equal(found.n, 2);
	assert_int_equal(found.e[0].due, 1000);
}

/* More than a batch of an operation holds (1,000); what is due already, held, in flight or another's counts as it should. */
static void flush_of_a_destination(void **state)
{
	struct kit *k = *state;
	struct spool_envelope later = kit_envelope("", 5000, "later");
	struct kit_answer a, held, flying, other;

	for (int i = 0; i < 60; i++) {
		a = kit_accept(k, "x", "d", 20, true);
		for (uint32_t slot = 0; slot < 20; slot++)
			kit_settle(k, a.id, slot, &later);
	}
	kit_accept(k, "due", "d", 3, false);
	held = kit_accept(k, "held", "d", 1, true);
	kit_settle(k, held.id, 0, &later);
	kit_hold(k, held.id, "", true);
	other = kit_accept(k, "other", "e", 1, true);
	kit_settle(k, other.id, 0, &later);
	flying = kit_accept(k, "flying", "d", 1, true);
	kit_settle(k, flying.id, 0, &later);
	kit_lease(k, "d", 5000, 2000, &found);
	assert_int_equal(found.n, 1204);
	assert_int_equal(kit_flush(k, 0, "d", 1000).id, 1201); /* in flight or not: the 3 were due, one is held, one is of e */
	assert_int_equal(kit_flush(k, 0, "d", 1000).id, 0);
	for (size_t i = 0; i < found.n; i++)
		spool_unlease(k->spool, found.e[i].id, found.e[i].slot);
	kit_lease(k, "d", 1000, 2000, &found);
	assert_int_equal(found.n, 1204);
	kit_hold(k, held.id, "", false);
	kit_lease(k, "d", 1000, 2000, &found);
	assert_int_equal(found.n, 0); /* what was held kept its time */
	kit_lease(k, "e", 1000, 2000, &found);
	assert_int_equal(found.n, 0);
	assert_int_equal(kit_flush(k, 0, "", 1000).id, 2);
}

static void delete(void **state)
{
	struct kit *k = *state;
	struct kit_answer a = kit_accept(k, "x", "d", 2, false), b = kit_accept(k, "y", "d", 1, true), r;
	size_t n;
	enum spool_status status;

	r = kit_delete(k, b.id, "");
	assert_int_equal(r.status, SPOOL_AGAIN); /* in flight */
	assert_int_equal(r.id, 0);
	r = kit_delete(k, a.id, "");
	assert_int_equal(r.status, SPOOL_OK);
	assert_int_equal(r.id, 2);
	assert_null(kit_read(k, a.id, 0, 1, &n, &status));
	assert_int_equal(status, SPOOL_GONE);
	assert_int_equal(kit_delete(k, a.id, "").status, SPOOL_GONE);
	assert_int_equal(kit_settle(k, b.id, 0, NULL).status, SPOOL_OK);
	kit_accept(k, "z", "d", 3, false);
	assert_int_equal(kit_delete(k, 0, "").id, 3);
	assert_int_equal(kit_count(k), 0);
}

static void list_pages(void **state)
{
	struct kit *k = *state;
	spool_id id = 0;
	uint32_t slot = 0;
	unsigned n = 0;

	for (int i = 0; i < 7; i++)
		kit_accept(k, "x", i % 2 ? "odd" : "even", 2, false);
	for (;;) {
		kit_list(k, id, slot, "", 3, &found);
		if (!found.n)
			break;
		for (size_t i = 0; i < found.n; i++)
			assert_true(found.e[i].id > id || (found.e[i].id == id && (found.e[i].slot > slot || !n))),
				id = found.e[i].id, slot = found.e[i].slot, n++;
	}
	assert_int_equal(n, 14);
	kit_list(k, 0, 0, "odd", 100, &found);
	assert_int_equal(found.n, 6);
}

struct chain { struct kit *k; struct kit_answer next; bool asked; };

static void chained(void *arg, enum spool_status status, spool_id id)
{
	struct chain *c = arg;

	assert_int_equal(status, SPOOL_OK);
	c->asked = true;
	spool_settle(c->k->spool, id, 0, NULL, NULL, 0, kit_done, &c->next);
	spool_kick(c->k->spool);
}

static void completions_may_call(void **state)
{
	struct kit *k = *state;
	struct chain c = { .k = k };
	struct spool_envelope e = kit_envelope("d", 1, "x");
	bool lease = true;

	spool_accept(k->spool, spool_body_begin(k->spool, 0), &e, &lease, 1, chained, &c);
	assert_false(c.asked); /* only spool_dispatch answers */
	kit_wait(k, &c.next.done);
	assert_int_equal(c.next.status, SPOOL_OK);
	assert_int_equal(kit_count(k), 0);
}

static void close_finishes(void **state)
{
	struct kit *k = *state;
	struct kit_answer a[30];
	struct chain c = { .k = k };
	struct spool_envelope e = kit_envelope("d", 1, "x");

	for (int i = 0; i < 30; i++)
		kit_begin_accept(k, "x", 1, "d", 1, false, &a[i]);
	spool_accept(k->spool, spool_body_begin(k->spool, 0), &e, NULL, 1, chained, &c);
	kit_close(k); /* without a kick */
	for (int i = 0; i < 30; i++) {
		assert_int_equal(a[i].calls, 1);
		assert_int_equal(a[i].status, SPOOL_OK);
	}
	assert_true(c.next.done);
	assert_int_equal(kit_open(k), 0);
	assert_int_equal(kit_count(k), k->engine == KIT_MEM ? 0 : 30);
}

static void nothing_twice(void **state)
{
	struct kit *k = *state;
	unsigned handed = 0, rounds = 0;
	static struct kit_answer answers[1000][7]; /* they live until answered */

	/* Leases, settles and due questions all at once: each envelope is handed out once per life. */
	for (int i = 0; i < 40; i++)
		kit_accept(k, "x", "d", 5, false);
	while (handed < 200 && rounds++ < 1000) {
		struct kit_answer *a = answers[rounds - 1];
		kit_lease(k, "d", 1000, 7, &found);
		memset(a, 0, sizeof answers[0]);
		for (size_t i = 0; i < found.n; i++)
			spool_settle(k->spool, found.e[i].id, found.e[i].slot, NULL, NULL, 0, kit_done, &a[i]);
		handed += (unsigned)found.n;
		spool_kick(k->spool);
		if (rounds % 3 == 0)
			continue; /* the next lease comes while these are being committed */
		for (size_t i = 0; i < found.n; i++)
			kit_wait(k, &a[i].done);
		for (size_t i = 0; i < found.n; i++)
			assert_int_equal(a[i].status, SPOOL_OK);
	}
	assert_int_equal(handed, 200);
	assert_int_equal(kit_count(k), 0);
}

static void stats_and_pressure(void **state)
{
	struct kit *k = *state;
	struct spool_stats st;

	kit_accept(k, "12345", "d", 2, false);
	kit_accept(k, "12345", "d", 1, true);
	spool_get_stats(k->spool, &st);
	assert_int_equal(st.messages, 2);
	assert_int_equal(st.envelopes, 3);
	assert_int_equal(st.in_flight, 1);
	assert_true(st.commits > 0);
	assert_true(st.oldest > 1600000000000);
	assert_true(st.bytes_live >= 10);
	assert_true(spool_pressure(k->spool) <= 100);
	for (int s = SPOOL_OK; s <= SPOOL_GONE; s++)
		assert_string_not_equal(spool_status_name((enum spool_status)s), "unknown");
}

#define FOR(engine, test) { #test " (" #engine ")", test, setup_##engine, teardown, NULL }
#define ALL(engine) \
	FOR(engine, accept_and_read), FOR(engine, ids_rise), FOR(engine, empty_body), FOR(engine, large_bodies), \
	FOR(engine, prefix_comes_first), FOR(engine, aborted_bodies_leave_nothing), FOR(engine, due_and_lease), \
	FOR(engine, due_order_and_limit), FOR(engine, leased_from_the_start), FOR(engine, settle_with_news), \
	FOR(engine, settle_with_a_large_bounce), FOR(engine, hold_and_release), FOR(engine, held_from_the_start), \
	FOR(engine, flush), FOR(engine, flush_of_a_destination), FOR(engine, delete), FOR(engine, list_pages), FOR(engine, completions_may_call), \
	FOR(engine, close_finishes), FOR(engine, nothing_twice), FOR(engine, stats_and_pressure)

int main(void)
{
	const struct CMUnitTest tests[] = { ALL(mem), ALL(stepped), ALL(threaded) };

	return KIT_BOTH_MODES(tests, NULL);
}
