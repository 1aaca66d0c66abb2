/* pieces.c - checksum, records and in-flight marks by themselves. */
#include "kit.h"

#include "spool/crc32c.h"
#include "spool/marks.h"
#include "spool/record.h"

#include <stdlib.h>

static void checksum(void **state)
{
	unsigned char b[300];

	(void)state;
	/* RFC 3720 B.4 */
	memset(b, 0, 32);
	assert_int_equal(crc32c(0, b, 32), 0x8a9136aau);
	memset(b, 0xff, 32);
	assert_int_equal(crc32c(0, b, 32), 0x62a8ab43u);
	for (int i = 0; i < 32; i++)
		b[i] = (unsigned char)i;
	assert_int_equal(crc32c(0, b, 32), 0x46dd794eu);
	for (size_t i = 0; i < sizeof b; i++)
		b[i] = (unsigned char)(i * 31);
	for (size_t n = 0; n < 280; n++) {
		assert_int_equal(crc32c(7, b + n % 9, n), crc32c_plain(7, b + n % 9, n));
		assert_int_equal(crc32c(crc32c(0, b, n / 3), b + n / 3, n - n / 3), crc32c(0, b, n));
	}
}

static size_t one_record(unsigned char *at, uint64_t salt)
{
	struct spool_envelope e[2] = { kit_envelope("smtp:a", 5, "first"), kit_envelope("", -7, "") };
	unsigned char env[256], *end;
	struct record_message m = { .id = 99, .created = -3, .n = 2, .body_size = 5, .body_crc = 0x1234 };
	struct record r = { .type = RECORD_MESSAGE, .flags = RECORD_MORE, .generation = 7, .offset = 4096, .sequence = 12 };

	e[1].slot = 1;
	e[1].held = true;
	e[1].attempts = 77;
	end = record_put_envelope(record_put_envelope(env, &e[0]), &e[1]);
	m.envelopes = view_of((char *)env, (size_t)(end - env));
	assert_int_equal(m.envelopes.n, record_envelope_size(&e[0]) + record_envelope_size(&e[1]));
	memcpy(record_put_message(at + RECORD_HEADER, &m), "hello", 5);
	return (size_t)record_seal(at, &r, record_message_size(&m), salt);
}

static void records(void **state)
{
	unsigned char at[1024];
	size_t n = one_record(at, 55);
	struct record r;
	struct record_message m;
	struct spool_envelope e;
	struct view rest;
	uint64_t need;

	(void)state;
	assert_int_equal(record_parse(at, n, 7, 55, 4096, &r, &need), RECORD_GOOD);
	assert_int_equal(need, n);
	assert_int_equal(r.sequence, 12);
	assert_int_equal(r.flags, RECORD_MORE);
	assert_true(record_get_message(r.payload, &m));
	assert_int_equal(m.id, 99);
	assert_int_equal(m.created, -3);
	assert_true(view_eq(m.body, VIEW("hello")));
	assert_int_equal(record_body_offset(&m), (uint64_t)(m.body.p - (char *)at));
	rest = m.envelopes;
	assert_true(record_get_envelope(&rest, &e));
	assert_true(view_eq(e.dest, VIEW("smtp:a")));
	assert_true(view_eq(e.data, VIEW("first")));
	assert_true(record_get_envelope(&rest, &e));
	assert_int_equal(e.attempts, 77);
	assert_int_equal(e.due, -7);
	assert_true(e.held);
	assert_false(record_get_envelope(&rest, &e));
	/* another place, life or spool */
	assert_int_equal(record_parse(at, n, 8, 55, 4096, &r, &need), RECORD_FOREIGN);
	assert_int_equal(record_parse(at, n, 7, 55, 4104, &r, &need), RECORD_FOREIGN);
	assert_int_equal(record_parse(at, n, 7, 56, 4096, &r, &need), RECORD_BAD);
	/* every byte counts, and every length is survived */
	for (size_t i = 0; i < RECORD_HEADER + r.payload.n; i++) {
		at[i] ^= 0x10;
		assert_int_not_equal(record_parse(at, n, 7, 55, 4096, &r, &need), RECORD_GOOD);
		at[i] ^= 0x10;
	}
	for (size_t i = 0; i < n; i++)
		assert_int_not_equal(record_parse(at, i, 7, 55, 4096, &r, &need), RECORD_GOOD);
}

/* Payloads that check but are not as we write them: decoders refuse, whatever the lengths inside say. */
static void odd_payloads(void **state)
{
	unsigned char at[1024];
	size_t n = one_record(at, 1);
	uint32_t seed = 1;

	(void)state;
	for (int i = 0; i < 100000; i++) {
		unsigned char *p;
		size_t size;
		struct view v, rest;
		struct record_message m;
		struct record_outcome o;
		struct record_list l;
		struct spool_envelope e;
		uint64_t a, b;
		seed = seed * 1664525u + 1013904223u;
		size = (seed >> 8) % (n - RECORD_HEADER);
		p = malloc(size + 1); /* its own block: the sanitizer sees a byte too far */
		memcpy(p, at + RECORD_HEADER, size);
		for (int k = 0; k < 3 && size; k++) {
			seed = seed * 1664525u + 1013904223u;
			p[(seed >> 4) % size] = (unsigned char)(seed >> 24);
		}
		v = view_of((char *)p, size);
		if (record_get_message(v, &m)) {
			rest = m.envelopes;
			while (record_get_envelope(&rest, &e))
				;
		}
		if (record_get_list(v, &l))
			for (uint32_t x = 0; x < l.n; x++)
				record_get_item(&l, x, &a, &seed);
		record_get_outcome(v, &o);
		record_get_range(v, &a, &b);
		free(p);
	}
}

static void in_flight(void **state)
{
	struct marks m;

	(void)state;
	marks_init(&m, &alloc_libc);
	assert_false(marks_has(&m, 1, 0));
	marks_drop(&m, 1, 0);
	marks_retire(&m, 1, 0);
	for (uint64_t i = 0; i < 5000; i++)
		assert_true(marks_add(&m, i / 3, (uint32_t)(i % 3), MARK_LEASE));
	assert_int_equal(m.leased, 5000);
	for (uint64_t i = 0; i < 5000; i += 2)
		marks_drop(&m, i / 3, (uint32_t)(i % 3));
	for (uint64_t i = 0; i < 5000; i++)
		assert_int_equal(marks_has(&m, i / 3, (uint32_t)(i % 3)), i % 2);
	assert_int_equal(m.leased, 2500);
	/* no reader: gone at once */
	marks_retire(&m, 0, 1);
	assert_false(marks_has(&m, 0, 1));
	/* a reader with an older snapshot: stays until it ends, though nobody holds the lease any more */
	marks_reader_begin(&m, 5);
	marks_retire(&m, 1, 0);
	marks_retire(&m, 1, 0);
	assert_true(marks_has(&m, 1, 0));
	marks_drop(&m, 1, 0);
	assert_true(marks_has(&m, 1, 0));
	assert_int_equal(m.leased, 2498);
	marks_reader_end(&m);
	assert_false(marks_has(&m, 1, 0));
	assert_true(marks_has(&m, 1, 2));
	marks_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(checksum), cmocka_unit_test(records),
		cmocka_unit_test(odd_payloads), cmocka_unit_test(in_flight) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
