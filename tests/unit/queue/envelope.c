/* The encoding of envelopes: what was written is read; what is damaged is refused, at every octet. */
#include "queue/envelope.h"
#include "queue/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct queue_rcpt rcpts[3];

static struct queue_envelope sample(void)
{
	rcpts[0] = (struct queue_rcpt){ .address = VIEW("a@x.test"),
					.orcpt_type = VIEW("rfc822"),
					.orcpt = VIEW("o@x.test"),
					.notify = 4,
					.last = { .when = 12345,
						  .code = 451,
						  .enhanced = { 4, 2, 1 },
						  .text = VIEW("later"),
						  .remote = VIEW("mx[1.2.3.4]:25") } };
	rcpts[1] = (struct queue_rcpt){ .address = VIEW("b@x.test"),
					.last = { .when = 12346,
						  .code = 451,
						  .enhanced = { 4, 2, 1 },
						  .text = VIEW("later"),
						  .remote = VIEW("mx[1.2.3.4]:25") } };
	rcpts[2] = (struct queue_rcpt){ .address = VIEW("c@x.test"),
					.last = { .when = 9, .local = true, .text = VIEW("other") } };
	return (struct queue_envelope){ .kind = QUEUE_MAIL,
					.session = 77,
					.flags = 9,
					.ret = 2,
					.warned = true,
					.lost = 3,
					.sender = VIEW("s@y.test"),
					.envid = VIEW("id"),
					.client = VIEW("c"),
					.rcpts = rcpts,
					.n = 3 };
}

static void encode(struct buf *b, const struct queue_envelope *e)
{
	buf_init(b, &alloc_libc, 1 << 20);
	assert_true(queue_envelope_encode(b, e));
}

static int decode(struct view v, struct queue_envelope *e, struct arena *arena)
{
	arena_init(arena, &alloc_libc, 1 << 20);
	return queue_envelope_decode(v, e, arena);
}

static void damaged(void **state)
{
	struct queue_envelope e = sample(), back;
	struct arena arena;
	struct buf b;
	unsigned char *copy;
	size_t i, n;
	unsigned bit;

	(void)state;
	encode(&b, &e);
	n = buf_len(&b);
	for (i = 0; i < n; i++) { /* cut, in a block of its own so that the sanitizer sees a read beyond */
		copy = malloc(i ? i : 1);
		memcpy(copy, buf_view(&b).p, i);
		assert_int_equal(decode(view_of((char *)copy, i), &back, &arena), -1);
		arena_free(&arena);
		free(copy);
	}
	copy = malloc(n + 1);
	memcpy(copy, buf_view(&b).p, n);
	copy[n] = 0;
	assert_int_equal(decode(view_of((char *)copy, n + 1), &back, &arena), -1);
	arena_free(&arena);
	for (i = 0; i < n; i++) /* any bit: no crash, whatever it says */
		for (bit = 0; bit < 8; bit++) {
			copy[i] ^= (unsigned char)(1u << bit);
			decode(view_of((char *)copy, n), &back, &arena);
			arena_free(&arena);
			copy[i] ^= (unsigned char)(1u << bit);
		}
	free(copy);
	buf_free(&b);
}

static void other_version(void **state)
{
	struct queue_envelope e = sample(), back;
	struct arena arena;
	struct buf b;

	(void)state;
	encode(&b, &e);
	b.mem[b.rd] = 2;
	assert_int_equal(decode(buf_view(&b), &back, &arena), -1);
	arena_free(&arena);
	buf_free(&b);
}

static void memory(void **state)
{
	struct queue_envelope e = sample(), back;
	struct arena arena;
	struct buf b;

	(void)state;
	encode(&b, &e);
	arena_init(&arena, &alloc_libc, 10);
	assert_int_equal(queue_envelope_decode(buf_view(&b), &back, &arena), -2);
	arena_free(&arena);
	buf_free(&b);
}

static void reads_back(void **state)
{
	struct queue_envelope e = sample(), back;
	struct arena arena;
	struct buf b;

	(void)state;
	encode(&b, &e);
	assert_int_equal(decode(buf_view(&b), &back, &arena), 0);
	assert_int_equal(back.kind, QUEUE_MAIL);
	assert_int_equal(back.session, 77);
	assert_int_equal(back.flags, 9);
	assert_int_equal(back.ret, 2);
	assert_int_equal(back.lost, 3);
	assert_true(back.warned && !back.maybe);
	assert_true(view_eq(back.sender, e.sender) && view_eq(back.envid, e.envid) && view_eq(back.client, e.client));
	assert_int_equal(back.n, 3);
	assert_true(view_eq(back.rcpts[0].orcpt, VIEW("o@x.test")));
	assert_true(view_eq(back.rcpts[1].last.text, VIEW("later")) &&
		    view_eq(back.rcpts[1].last.remote, VIEW("mx[1.2.3.4]:25")));
	assert_int_equal(back.rcpts[1].last.enhanced[1], 2);
	assert_true(back.rcpts[2].last.local && view_eq(back.rcpts[2].last.text, VIEW("other")));
	arena_free(&arena);
	buf_free(&b);
}

/* A hundred recipients of one refusal share its words. */
static void shared_words(void **state)
{
	struct queue_envelope e = sample(), back;
	struct queue_rcpt many[100];
	char words[QUEUE_WORDS_MAX + 100];
	struct arena arena;
	struct buf b;
	unsigned i;

	(void)state;
	memset(words, 'w', sizeof words);
	for (i = 0; i < 100; i++) {
		many[i] = rcpts[1];
		many[i].last.text = view_of(words, sizeof words); /* longer than what is kept */
	}
	e.rcpts = many;
	e.n = 100;
	encode(&b, &e);
	assert_true(buf_len(&b) < 100 * 60 + 2000);
	assert_int_equal(decode(buf_view(&b), &back, &arena), 0);
	assert_int_equal(back.rcpts[99].last.text.n, QUEUE_WORDS_MAX);
	arena_free(&arena);
	buf_free(&b);
}

static void maps(void **state)
{
	enum { N = 1000 };
	static struct map_node nodes[N];
	struct map m = { 0 };
	unsigned i, n = 0;

	(void)state;
	assert_null(map_get(&m, 1));
	assert_null(map_any(&m));
	for (i = 0; i < N; i++)
		assert_true(map_put(&m, &nodes[i], i / 2));
	assert_int_equal(m.count, N);
	for (i = 0; i < N / 2; i++) {
		struct map_node *one = map_get(&m, i);

		assert_non_null(one);
		assert_non_null(map_next(one));
		assert_null(map_next(map_next(one)));
	}
	map_remove(&m, &nodes[10]);
	assert_ptr_equal(map_get(&m, 5), &nodes[11]);
	assert_null(map_next(map_get(&m, 5)));
	for (; map_any(&m); n++)
		map_remove(&m, map_any(&m));
	assert_int_equal(n, N - 1);
	for (i = 0; i < N; i++) { /* one comes back behind the place where the last look ended */
		assert_true(map_put(&m, &nodes[0], i));
		assert_ptr_equal(map_any(&m), &nodes[0]);
		map_remove(&m, &nodes[0]);
		assert_null(map_any(&m));
	}
	map_free(&m);
}

/* A buffer too small by any number of octets: false; and texts longer than may be kept are cut, not refused. */
static void no_room(void **state)
{
	struct queue_envelope e = sample(), back;
	char words[QUEUE_WORDS_MAX + 50], remote[QUEUE_REMOTE_MAX + 50];
	struct arena arena;
	struct buf whole, b;

	(void)state;
	encode(&whole, &e);
	for (size_t cap = 0; cap < buf_len(&whole); cap++) {
		buf_init(&b, &alloc_libc, cap);
		assert_false(queue_envelope_encode(&b, &e));
		buf_free(&b);
	}
	buf_init(&b, &alloc_libc, buf_len(&whole));
	assert_true(queue_envelope_encode(&b, &e) && view_eq(buf_view(&b), buf_view(&whole)));
	buf_free(&b);
	buf_free(&whole);
	memset(words, 'w', sizeof words);
	memset(remote, 'r', sizeof remote);
	rcpts[0].last.text = rcpts[1].last.text = view_of(words, sizeof words);
	rcpts[0].last.remote = rcpts[1].last.remote = view_of(remote, sizeof remote);
	encode(&b, &e);
	assert_int_equal(decode(buf_view(&b), &back, &arena), 0);
	assert_int_equal(back.rcpts[0].last.text.n, QUEUE_WORDS_MAX);
	assert_true(view_eq(back.rcpts[1].last.text, back.rcpts[0].last.text));
	assert_int_equal(back.rcpts[1].last.remote.n, QUEUE_REMOTE_MAX);
	arena_free(&arena);
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(damaged),    cmocka_unit_test(other_version), cmocka_unit_test(memory),
		cmocka_unit_test(reads_back), cmocka_unit_test(shared_words),  cmocka_unit_test(maps),
		cmocka_unit_test(no_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
