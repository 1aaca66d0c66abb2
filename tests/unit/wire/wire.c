/* Every message survives a round trip; every truncation, trailing octet and lie about a length is refused; random octets
 * never crash; the lists inside TEXT fields likewise. */
#include "wire/wire.h"

#include "base/buf.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 50
#define TEXT_MAX 300

static uint64_t seed = 88172645463325252u;

static uint64_t next_random(void) /* xorshift: the same every run */
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static char pool[4096];

static struct view random_text(void)
{
	size_t n = next_random() % TEXT_MAX;
	size_t at = next_random() % (sizeof pool - TEXT_MAX);

	return view_of(pool + at, next_random() % 4 ? n : 0);
}

static int fill_pool(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof pool; i++)
		pool[i] = (char)next_random();
	return 0;
}

/* For each row: a random filling, and a comparison of two. */
#define U8(f) m->f = (uint8_t)next_random();
#define U16(f) m->f = (uint16_t)next_random();
#define U32(f) m->f = (uint32_t)next_random();
#define U64(f) m->f = next_random();
#define TEXT(f) m->f = random_text();
#define MESSAGE(id, from, to, fd, fields)                                                                              \
	static void random_##id(struct wire_##id *m)                                                                   \
	{                                                                                                              \
		fields                                                                                                 \
	}
#include "wire/messages.def"
#undef U8
#undef U16
#undef U32
#undef U64
#undef TEXT
#define NUMBER(f) assert_true(a->f == b->f);
#define U8(f) NUMBER(f)
#define U16(f) NUMBER(f)
#define U32(f) NUMBER(f)
#define U64(f) NUMBER(f)
#define TEXT(f) assert_true(view_eq(a->f, b->f));
#define MESSAGE(id, from, to, fd, fields)                                                                              \
	static void same_##id(const struct wire_##id *a, const struct wire_##id *b)                                    \
	{                                                                                                              \
		fields                                                                                                 \
	}
#include "wire/messages.def"
#undef U8
#undef U16
#undef U32
#undef U64
#undef TEXT

/* A copy of exactly n octets on the heap, so that the sanitizer sees a read behind the end. */
static struct view exact(struct view v, size_t n, char **owned)
{
	*owned = malloc(n ? n : 1);
	assert_non_null(*owned);
	if (n)
		memcpy(*owned, v.p, n);
	return view_of(*owned, n);
}

#define MESSAGE(id, from, to, fd, fields)                                                                              \
	static void trip_##id(void **state)                                                                            \
	{                                                                                                              \
		struct wire_##id m, got;                                                                               \
		struct buf b;                                                                                          \
		char *owned;                                                                                           \
		(void)state;                                                                                           \
		buf_init(&b, &alloc_libc, CHANNEL_FRAME_MAX);                                                          \
		for (int i = 0; i < ROUNDS; i++) {                                                                     \
			memset(&m, 0, sizeof m);                                                                       \
			random_##id(&m);                                                                               \
			buf_clear(&b);                                                                                 \
			assert_true(wire_put_##id(&b, &m));                                                            \
			for (size_t n = 0; n < buf_len(&b); n++) {                                                     \
				assert_int_equal(wire_read_##id(exact(buf_view(&b), n, &owned), &got), -1);            \
				free(owned);                                                                           \
			}                                                                                              \
			assert_int_equal(wire_read_##id(exact(buf_view(&b), buf_len(&b), &owned), &got), 0);           \
			same_##id(&m, &got);                                                                           \
			free(owned);                                                                                   \
			assert_true(buf_add(&b, VIEW("x")));                                                           \
			assert_int_equal(wire_read_##id(buf_view(&b), &got), -1);                                      \
		}                                                                                                      \
		buf_free(&b);                                                                                          \
	}
#include "wire/messages.def"

/* Random octets of every small length, read as every message: each read stays inside (sanitizer), none is believed that
 * does not fill its octets. */
static void random_octets(void **state)
{
	char *owned;

	(void)state;
	for (int i = 0; i < 4000; i++) {
		struct view v = exact(random_text(), next_random() % 80, &owned);
		if (v.n > 12 && next_random() % 2) /* small numbers look like lengths */
			memset(owned + 9, 0, 3);
#define MESSAGE(id, from, to, fd, fields)                                                                              \
	{                                                                                                              \
		struct wire_##id m;                                                                                    \
		int rc = wire_read_##id(v, &m);                                                                        \
		assert_true(rc == 0 || rc == -1);                                                                      \
	}
#include "wire/messages.def"
		struct view list = v;
		struct wire_rcpt rcpt;
		struct wire_result result;
		struct wire_record record;
		for (size_t turns = 0; wire_rcpt_next(&list, &rcpt) == 1; turns++)
			assert_true(turns <= v.n);
		for (list = v; wire_result_next(&list, &result) == 1;)
			;
		for (list = v; wire_record_next(&list, &record) == 1;)
			;
		free(owned);
	}
}

/* ---- lists ---- */

#define LIST_ITEMS 20

static void rcpt_list(void **state)
{
	struct wire_rcpt in[LIST_ITEMS], out;
	size_t ends[LIST_ITEMS + 1] = { 0 };
	struct buf b;
	struct view v;

	(void)state;
	buf_init(&b, &alloc_libc, CHANNEL_FRAME_MAX);
	for (size_t i = 0; i < LIST_ITEMS; i++) {
		in[i] = (struct wire_rcpt){ random_text(), random_text(), random_text(), (uint8_t)next_random() };
		assert_true(wire_rcpt_add(&b, &in[i]));
		ends[i + 1] = buf_len(&b);
	}
	v = buf_view(&b);
	for (size_t i = 0; i < LIST_ITEMS; i++) {
		assert_int_equal(wire_rcpt_next(&v, &out), 1);
		assert_true(view_eq(in[i].address, out.address) && view_eq(in[i].orcpt_type, out.orcpt_type));
		assert_true(view_eq(in[i].orcpt, out.orcpt) && in[i].notify == out.notify);
	}
	assert_int_equal(wire_rcpt_next(&v, &out), 0);
	for (size_t n = 0; n < ends[2]; n++) { /* cut anywhere but behind an item: malformed */
		int rc = 1;
		for (v = view_slice(buf_view(&b), 0, n); rc == 1;)
			rc = wire_rcpt_next(&v, &out);
		assert_int_equal(rc, n == 0 || n == ends[1] ? 0 : -1);
	}
	buf_free(&b);
}

static void result_list(void **state)
{
	struct wire_result in[LIST_ITEMS], out;
	struct buf b;
	struct view v;

	(void)state;
	buf_init(&b, &alloc_libc, CHANNEL_FRAME_MAX);
	for (size_t i = 0; i < LIST_ITEMS; i++) {
		in[i] = (struct wire_result){ (uint8_t)next_random(), (uint16_t)next_random(),
			{ (uint16_t)next_random(), (uint16_t)next_random(), (uint16_t)next_random() }, random_text(), random_text(),
			(uint8_t)next_random() };
		assert_true(wire_result_add(&b, &in[i]));
	}
	v = buf_view(&b);
	for (size_t i = 0; i < LIST_ITEMS; i++) {
		assert_int_equal(wire_result_next(&v, &out), 1);
		assert_int_equal(in[i].kind, out.kind);
		assert_int_equal(in[i].code, out.code);
		assert_memory_equal(in[i].enhanced, out.enhanced, sizeof out.enhanced);
		assert_true(view_eq(in[i].text, out.text) && view_eq(in[i].remote, out.remote));
		assert_int_equal(in[i].local, out.local);
	}
	assert_int_equal(wire_result_next(&v, &out), 0);
	v = view_slice(buf_view(&b), 0, 5);
	assert_int_equal(wire_result_next(&v, &out), -1);
	buf_free(&b);
}

static void record_list(void **state)
{
	struct wire_record in[LIST_ITEMS], out;
	struct buf b;
	struct view v;

	(void)state;
	buf_init(&b, &alloc_libc, CHANNEL_FRAME_MAX);
	for (size_t i = 0; i < LIST_ITEMS; i++) {
		in[i] = (struct wire_record){ (uint16_t)next_random(), random_text(), (uint8_t)next_random(), random_text() };
		assert_true(wire_record_add(&b, &in[i]));
	}
	v = buf_view(&b);
	for (size_t i = 0; i < LIST_ITEMS; i++) {
		assert_int_equal(wire_record_next(&v, &out), 1);
		assert_true(in[i].preference == out.preference && in[i].family == out.family);
		assert_true(view_eq(in[i].name, out.name) && view_eq(in[i].address, out.address));
	}
	assert_int_equal(wire_record_next(&v, &out), 0);
	v = view_slice(buf_view(&b), 0, 3);
	assert_int_equal(wire_record_next(&v, &out), -1);
	buf_free(&b);
}

/* What does not fit into the list leaves it as it was. */
static void list_full(void **state)
{
	struct wire_rcpt r = { VIEW("someone@example.test"), VIEW("rfc822"), VIEW("someone@example.test"), 1 }, out;
	struct buf b;
	struct view v;
	size_t n = 0, got = 0;

	(void)state;
	buf_init(&b, &alloc_libc, 200);
	while (wire_rcpt_add(&b, &r))
		n++;
	v = buf_view(&b);
	while (wire_rcpt_next(&v, &out) == 1)
		got++;
	assert_int_equal(v.n, 0);
	assert_true(n > 0 && got == n);
	buf_free(&b);
}

/* ---- sending ---- */

static void too_large(void **state)
{
	static char huge[CHANNEL_FRAME_MAX];
	struct wire_BODY_BYTES m = { .stream = 1, .bytes = view_of(huge, sizeof huge) };
	struct loop *loop = loop_new(&env_real);
	struct channel *ends[2];
	struct buf b;

	(void)state;
	buf_init(&b, &alloc_libc, CHANNEL_FRAME_MAX * 2);
	assert_false(wire_put_BODY_BYTES(&b, &m));
	assert_int_equal(buf_len(&b), 0);
	assert_int_equal(channel_pair(loop, ends), 0);
	assert_false(wire_send_BODY_BYTES(ends[0], &m));
	m.bytes.n -= 12;
	assert_true(wire_send_BODY_BYTES(ends[0], &m));
	channel_free(ends[0]);
	channel_free(ends[1]);
	loop_free(loop);
	buf_free(&b);
}

struct arrival {
	int frames, fds;
	uint32_t uid;
};

static void on_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct arrival *a = arg;
	struct wire_WORKER m;

	(void)ch;
	assert_int_equal(type, WIRE_WORKER);
	assert_int_equal(wire_read_WORKER(payload, &m), 0);
	a->uid = m.uid;
	a->frames++;
	if (fd != -1) {
		a->fds++;
		close(fd);
	}
}

static void on_closed(void *arg, struct channel *ch)
{
	(void)arg;
	(void)ch;
}

static void with_descriptor(void **state)
{
	static const struct channel_handler handler = { on_frame, on_closed, NULL };
	struct wire_WORKER m = { .uid = 4711 };
	struct wire_DRAIN none = { .grace_ms = 1 };
	struct loop *loop = loop_new(&env_real);
	struct arrival a = { 0 };
	struct channel *ends[2];
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_int_equal(channel_pair(loop, ends), 0);
	channel_set_handler(ends[1], &handler, &a);
	assert_false(wire_send_DRAIN_fd(ends[0], &none, fd)); /* its row has none */
	assert_false(wire_send_WORKER_fd(ends[0], &m, -1));
	assert_true(wire_send_WORKER_fd(ends[0], &m, fd));
	for (int i = 0; i < 10 && !a.frames; i++)
		loop_turn(loop, false);
	assert_int_equal(a.frames, 1);
	assert_int_equal(a.fds, 1);
	assert_int_equal(a.uid, 4711);
	close(fd);
	channel_free(ends[0]);
	channel_free(ends[1]);
	loop_free(loop);
}

/* ---- who may say what ---- */

static void rights(void **state)
{
	(void)state;
	assert_true(wire_allowed(WIRE_BODY_BEGIN, ROLE_RECEIVE, ROLE_QUEUE));
	assert_false(wire_allowed(WIRE_BODY_BEGIN, ROLE_QUEUE, ROLE_RECEIVE));
	assert_false(wire_allowed(WIRE_BODY_BEGIN, ROLE_SEND, ROLE_QUEUE));
	assert_true(wire_allowed(WIRE_BODY_BEGIN, ROLE_POLICY, ROLE_QUEUE));
	assert_true(wire_allowed(WIRE_BODY_DONE, ROLE_QUEUE, ROLE_POLICY));
	assert_false(wire_allowed(WIRE_DELIVER, ROLE_QUEUE, ROLE_POLICY));
	assert_true(wire_allowed(WIRE_RESOLVE, ROLE_POLICY, ROLE_RESOLVE));
	assert_false(wire_allowed(WIRE_RESOLVE, ROLE_RECEIVE, ROLE_RESOLVE));
	assert_true(wire_allowed(WIRE_STS_ASK, ROLE_SEND, ROLE_POLICY));
	assert_false(wire_allowed(WIRE_STS_POLICY, ROLE_SEND, ROLE_POLICY));
	assert_false(wire_allowed(WIRE_TLS_RESULT, ROLE_RECEIVE, ROLE_POLICY));
	assert_true(wire_allowed(WIRE_DELIVER, ROLE_QUEUE, ROLE_SEND));
	assert_true(wire_allowed(WIRE_DELIVER, ROLE_QUEUE, ROLE_LOCAL));
	assert_false(wire_allowed(WIRE_DELIVER, ROLE_QUEUE, ROLE_RECEIVE));
	assert_true(wire_allowed(WIRE_OUTCOME, ROLE_SEND, ROLE_QUEUE));
	assert_false(wire_allowed(WIRE_OUTCOME, ROLE_RECEIVE, ROLE_QUEUE));
	assert_true(wire_allowed(WIRE_KEY_SIGN, ROLE_RECEIVE, ROLE_KEYS));
	assert_true(wire_allowed(WIRE_KEY_SIGN, ROLE_WEB, ROLE_KEYS));
	assert_true(wire_allowed(WIRE_KEY_SIGNED, ROLE_KEYS, ROLE_WEB));
	assert_true(wire_allowed(WIRE_LISTENER, ROLE_SUPER, ROLE_WEB));
	assert_false(wire_allowed(WIRE_LISTENER, ROLE_SUPER, ROLE_SEND));
	for (unsigned b = ROLE_RECEIVE; b <= ROLE_WORKER; b++) /* web knows nobody but super and keys */
		for (uint32_t type = WIRE_NONE + 1; type < WIRE_END; type++)
			if (wire_allowed(type, ROLE_WEB, b))
				assert_true(b == ROLE_KEYS && type == WIRE_KEY_SIGN);
	assert_true(wire_allowed(WIRE_KEY_SIGN, ROLE_SEND, ROLE_KEYS));
	assert_true(wire_allowed(WIRE_KEY_SIGNED, ROLE_KEYS, ROLE_SEND));
	assert_false(wire_allowed(WIRE_KEY_SIGNED, ROLE_SEND, ROLE_KEYS));
	assert_false(wire_allowed(WIRE_KEY_SIGN, ROLE_RECEIVE, ROLE_SEND));
	assert_false(wire_allowed(WIRE_KEY_SIGN, ROLE_QUEUE, ROLE_KEYS));
	assert_true(wire_allowed(WIRE_START, ROLE_SUPER, ROLE_KEYS));
	assert_true(wire_allowed(WIRE_STARTED, ROLE_KEYS, ROLE_SUPER));
	assert_false(wire_allowed(WIRE_STARTED, ROLE_KEYS, ROLE_RECEIVE)); /* ANY is not super's place alone: the edge is */
	assert_false(wire_allowed(WIRE_START, ROLE_QUEUE, ROLE_SEND));
	assert_true(wire_allowed(WIRE_CONTROL, ROLE_QUEUE, ROLE_SUPER));
	assert_false(wire_allowed(WIRE_CONTROL, ROLE_RECEIVE, ROLE_SUPER)); /* receive cannot stop the house */
	for (unsigned a = ROLE_SUPER; a <= ROLE_WORKER; a++) /* an intruder in what faces the network has nobody ended */
		for (unsigned b = ROLE_SUPER; b <= ROLE_WORKER; b++) {
			if (!wire_may_accuse(a, b))
				continue;
			assert_true(b == ROLE_RECEIVE || b == ROLE_SEND || b == ROLE_POLICY || (a == ROLE_KEYS && b == ROLE_WEB) || (a == ROLE_QUEUE && b == ROLE_LOCAL));
			assert_true(a != ROLE_RECEIVE && a != ROLE_SEND && a != ROLE_POLICY && a != ROLE_WEB && a != ROLE_WORKER);
		}
	assert_true(wire_may_accuse(ROLE_QUEUE, ROLE_RECEIVE));
	assert_true(wire_may_accuse(ROLE_KEYS, ROLE_RECEIVE));
	assert_true(wire_may_accuse(ROLE_KEYS, ROLE_SEND));
	assert_false(wire_may_accuse(ROLE_SEND, ROLE_KEYS));
	assert_true(wire_may_accuse(ROLE_RESOLVE, ROLE_SEND));
	assert_false(wire_allowed(WIRE_NEED_WORKER, ROLE_RECEIVE, ROLE_SUPER));
	assert_true(wire_allowed(WIRE_NEED_WORKER, ROLE_LOCAL, ROLE_SUPER));
	assert_false(wire_allowed(WIRE_NEED_WORKER, ROLE_WORKER, ROLE_SUPER)); /* a user's process makes no others */
	assert_true(wire_allowed(WIRE_DELIVER, ROLE_LOCAL, ROLE_WORKER));
	assert_true(wire_allowed(WIRE_OUTCOME, ROLE_WORKER, ROLE_LOCAL));
	assert_false(wire_allowed(WIRE_OUTCOME, ROLE_WORKER, ROLE_QUEUE));
	assert_false(wire_allowed(WIRE_NONE, ROLE_SUPER, ROLE_QUEUE));
	assert_false(wire_allowed(WIRE_END, ROLE_SUPER, ROLE_QUEUE));
	assert_false(wire_allowed(UINT32_MAX, ROLE_SUPER, ROLE_QUEUE));
}

/* Every type has an edge it may travel, and none travels where no edge is. */
static void closed_world(void **state)
{
	static const bool edge[ROLE_WORKER + 1][ROLE_WORKER + 1] = {
#define EDGE(from, to, why) [ROLE_##from][ROLE_##to] = true,
#include "wire/edges.def"
		[ROLE_SUPER][ROLE_WORKER] = true, [ROLE_LOCAL][ROLE_WORKER] = true,
	};

	(void)state;
	for (uint32_t type = WIRE_NONE + 1; type < WIRE_END; type++) {
		int ways = 0;
		for (unsigned from = ROLE_SUPER; from <= ROLE_WORKER; from++)
			for (unsigned to = ROLE_SUPER; to <= ROLE_WORKER; to++) {
				bool ok = wire_allowed(type, from, to);
				assert_false(ok && !edge[from][to] && !edge[to][from]);
				ways += ok;
			}
		assert_true(ways > 0);
		assert_string_not_equal(wire_name(type), "unknown");
	}
	assert_string_equal(wire_name(WIRE_END), "unknown");
	assert_true(wire_has_fd(WIRE_CHANNEL));
	assert_false(wire_has_fd(WIRE_OUTCOME));
	assert_false(wire_has_fd(WIRE_END));
}

static void names(void **state)
{
	(void)state;
	assert_string_equal(role_name(ROLE_RECEIVE), "receive");
	assert_string_equal(role_name(ROLE_WORKER), "worker");
	assert_string_equal(role_name(0), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define MESSAGE(id, from, to, fd, fields) cmocka_unit_test(trip_##id),
#include "wire/messages.def"
		cmocka_unit_test(random_octets), cmocka_unit_test(rcpt_list), cmocka_unit_test(result_list),
		cmocka_unit_test(record_list), cmocka_unit_test(list_full), cmocka_unit_test(too_large),
		cmocka_unit_test(with_descriptor), cmocka_unit_test(rights), cmocka_unit_test(closed_world), cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, fill_pool, NULL);
}
