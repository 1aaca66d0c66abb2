/* What a server answers to the ClientHello written by hand: read right, and never read beyond. */
#include "probe/inside.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#define HELLO_MAX 256
#define MUTATIONS 200000

struct hello {
	unsigned char octets[HELLO_MAX];
	size_t n;
};

static void put(struct hello *h, unsigned v, unsigned octets)
{
	while (octets--)
		h->octets[h->n++] = (unsigned char)(v >> (8 * octets));
}

/* RFC 8446 4.1.3; id: octets of the session id; version and group 0: no such extension. */
static struct hello make(unsigned legacy, unsigned id, unsigned cipher, unsigned version, unsigned group)
{
	struct hello h = { .n = 0 };
	unsigned extensions = (version ? 6 : 0) + (group ? 6 : 0);

	put(&h, 2, 1);
	put(&h, 2 + 32 + 1 + id + 3 + 2 + extensions, 3);
	put(&h, legacy, 2);
	h.n += 32;
	put(&h, id, 1);
	h.n += id;
	put(&h, cipher, 2);
	put(&h, 0, 1);
	put(&h, extensions, 2);
	if (version) {
		put(&h, 43, 2);
		put(&h, 2, 2);
		put(&h, version, 2);
	}
	if (group) {
		put(&h, 51, 2);
		put(&h, 2, 2);
		put(&h, group, 2);
	}
	return h;
}

/* From memory of exactly that size, so that the sanitizer sees a step beyond it. */
static bool read_exactly(const unsigned char *octets, size_t n, struct probe_raw_answer *a)
{
	char *copy = malloc(n ? n : 1);
	bool is;

	assert_non_null(copy);
	memcpy(copy, octets, n);
	*a = (struct probe_raw_answer){ .alert = -1 };
	is = probe_raw_read(view_of(copy, n), a);
	free(copy);
	return is;
}

static void old_and_new(void **state)
{
	struct hello old = make(0x0303, 32, 0xc02f, 0, 0), new = make(0x0303, 32, 0x1301, 0x0304, 0x11ec),
		     none = make(0x0301, 0, 0x002f, 0, 0);
	struct probe_raw_answer a;

	(void)state;
	assert_true(read_exactly(old.octets, old.n, &a));
	assert_true(a.accepted && a.version == 0x0303 && a.cipher == 0xc02f && a.group == 0);
	assert_true(read_exactly(new.octets, new.n, &a));
	assert_true(a.accepted && a.version == 0x0304 && a.cipher == 0x1301 && a.group == 0x11ec);
	assert_true(read_exactly(none.octets, none.n, &a));
	assert_true(a.accepted && a.version == 0x0301 && a.cipher == 0x002f);
	/* SSL 3 has no extensions, and no length of them */
	assert_true(read_exactly(none.octets, none.n - 2, &a));
}

static void something_else(void **state)
{
	struct hello h = make(0x0303, 32, 0x1301, 0x0304, 29);
	struct probe_raw_answer a;

	(void)state;
	h.octets[0] = 11; /* a Certificate */
	assert_false(read_exactly(h.octets, h.n, &a));
	assert_false(a.accepted);
	h.octets[0] = 2;
	h.octets[4 + 2 + 32] = 255; /* a session id that is longer than the message */
	assert_false(read_exactly(h.octets, h.n, &a));
}

static void cut_anywhere(void **state)
{
	struct hello h = make(0x0303, 32, 0x1301, 0x0304, 29);
	const size_t cipher = 4 + 2 + 32 + 1 + 32 + 3; /* behind cipher and compression method it can be told */
	struct probe_raw_answer a;

	(void)state;
	for (size_t n = 0; n < h.n; n++)
		assert_int_equal(read_exactly(h.octets, n, &a), n >= cipher);
}

static void mutated(void **state)
{
	struct hello h = make(0x0303, 32, 0x1301, 0x0304, 29);
	struct probe_raw_answer a;

	(void)state;
	srand(1);
	for (unsigned i = 0; i < MUTATIONS; i++) {
		struct hello m = h;

		for (int n = rand() % 4 + 1; n; n--)
			m.octets[(size_t)rand() % m.n] = (unsigned char)rand();
		read_exactly(m.octets, (size_t)rand() % (m.n + 1), &a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(something_else),
		cmocka_unit_test(cut_anywhere),
		cmocka_unit_test(mutated),
		cmocka_unit_test(old_and_new),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
