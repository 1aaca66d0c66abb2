/* packet.c - tests of resolve/packet.c: hand-made answers, every truncation, random octets, and an encoder as oracle. */
#include "resolve/packet.h"
#include "wire/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <sys/socket.h>

/* ---- a tiny encoder ---- */

struct packet {
	unsigned char p[4096];
	size_t n;
};

static void put(struct packet *k, const void *p, size_t n)
{
	memcpy(k->p + k->n, p, n);
	k->n += n;
}

static void put16(struct packet *k, unsigned v)
{
	put(k, (unsigned char[]){ (unsigned char)(v >> 8), (unsigned char)v }, 2);
}

static void put32(struct packet *k, uint32_t v)
{
	put16(k, v >> 16);
	put16(k, v & 0xffff);
}

static void put_name(struct packet *k, const char *name)
{
	while (*name) {
		size_t n = strcspn(name, ".");
		k->p[k->n++] = (unsigned char)n;
		put(k, name, n);
		name += n + (name[n] == '.');
	}
	k->p[k->n++] = 0;
}

static void begin(struct packet *k, const char *name, unsigned type, unsigned answers)
{
	k->n = 0;
	put16(k, 0x1234);
	put16(k, 0x8180);
	put16(k, 1);
	put16(k, answers);
	put32(k, 0);
	put_name(k, name);
	put16(k, type);
	put16(k, 1);
}

/* The owner is a pointer to the question; *at is where the length stands. */
static size_t begin_record(struct packet *k, unsigned type, uint32_t ttl)
{
	put16(k, 0xc00c);
	put16(k, type);
	put16(k, 1);
	put32(k, ttl);
	put16(k, 0);
	return k->n;
}

static void end_record(struct packet *k, size_t from)
{
	k->p[from - 2] = (unsigned char)((k->n - from) >> 8);
	k->p[from - 1] = (unsigned char)(k->n - from);
}

static void put_mx(struct packet *k, unsigned preference, const char *name, uint32_t ttl)
{
	size_t at = begin_record(k, PACKET_MX, ttl);

	put16(k, preference);
	put_name(k, name);
	end_record(k, at);
}

static void put_octets(struct packet *k, unsigned type, const void *p, size_t n, uint32_t ttl)
{
	size_t at = begin_record(k, type, ttl);

	put(k, p, n);
	end_record(k, at);
}

/* ---- reading ---- */

static struct buf list;
static unsigned count;
static uint32_t ttl;

static int read_n(const struct packet *k, size_t n, enum packet_type type)
{
	unsigned char *exact = malloc(n ? n : 1); /* so that one octet too far is found */
	int r;

	memcpy(exact, k->p, n);
	buf_clear(&list);
	count = 0;
	ttl = UINT32_MAX;
	r = packet_read(view_of((char *)exact, n), type, &list, &count, &ttl);
	free(exact);
	return r;
}

static int reads(const struct packet *k, enum packet_type type)
{
	return read_n(k, k->n, type);
}

static void is_mx(struct view *v, unsigned preference, const char *name)
{
	struct wire_record r;

	assert_int_equal(wire_record_next(v, &r), 1);
	assert_int_equal(r.preference, preference);
	assert_int_equal(r.name.n, strlen(name));
	assert_memory_equal(r.name.p, name, r.name.n);
}

static void test_mx(void **state)
{
	struct packet k;
	struct view v;

	(void)state;
	begin(&k, "example.org", PACKET_MX, 3);
	put_mx(&k, 10, "MX1.Example.org", 300);
	put_mx(&k, 65535, "mx_2.example.net", 60);
	put_mx(&k, 0, "", 900);
	assert_int_equal(reads(&k, PACKET_MX), 0);
	assert_int_equal(count, 3);
	assert_int_equal(ttl, 60);
	v = buf_view(&list);
	is_mx(&v, 10, "mx1.example.org");
	is_mx(&v, 65535, "mx_2.example.net");
	is_mx(&v, 0, "");
	assert_int_equal(v.n, 0);
}

static void test_compression(void **state)
{
	struct packet k;
	struct view v;
	size_t at, name;

	(void)state;
	begin(&k, "example.org", PACKET_MX, 2);
	at = begin_record(&k, PACKET_MX, 5);
	put16(&k, 7);
	name = k.n;
	put(&k, "\2mx\xc0\x0c", 5); /* mx + the question */
	end_record(&k, at);
	at = begin_record(&k, PACKET_MX, 5);
	put16(&k, 8);
	put(&k, "\1b", 2);
	put16(&k, 0xc000 | (unsigned)name); /* a pointer to a name that ends in a pointer */
	end_record(&k, at);
	assert_int_equal(reads(&k, PACKET_MX), 0);
	v = buf_view(&list);
	is_mx(&v, 7, "mx.example.org");
	is_mx(&v, 8, "b.mx.example.org");
}

static void test_loops(void **state)
{
	struct packet k;
	size_t at;

	(void)state;
	for (int kind = 0; kind < 4; kind++) {
		begin(&k, "example.org", PACKET_MX, 1);
		at = begin_record(&k, PACKET_MX, 5);
		put16(&k, 7);
		if (kind == 0)
			put16(&k, 0xc000 | (unsigned)k.n); /* to itself */
		else if (kind == 1)
			put16(&k, 0xc000 | (unsigned)(k.n + 2)); /* forward */
		else if (kind == 2)
			put16(&k, 0xffff); /* behind the end */
		else {
			put(&k, "\1a", 2);
			put16(&k, 0xc000 | (unsigned)(k.n - 2)); /* to the label before it: for ever a.a.a */
		}
		end_record(&k, at);
		put16(&k, 0);
		assert_int_equal(reads(&k, PACKET_MX), -1);
	}
	/* 0x40 and 0x80 are reserved (RFC 1035 4.1.4) */
	begin(&k, "example.org", PACKET_MX, 1);
	at = begin_record(&k, PACKET_MX, 5);
	put16(&k, 7);
	put(&k, "\x41" "a", 3);
	end_record(&k, at);
	assert_int_equal(reads(&k, PACKET_MX), -1);
}

static void test_lengths(void **state)
{
	struct packet k;
	size_t at;

	(void)state;
	begin(&k, "example.org", PACKET_MX, 1);
	put_octets(&k, PACKET_MX, "\0\12", 2, 1); /* a preference, no name */
	assert_int_equal(reads(&k, PACKET_MX), -1);
	begin(&k, "example.org", PACKET_MX, 1);
	put_octets(&k, PACKET_MX, "\0\12\0\0", 4, 1); /* one octet behind the name */
	assert_int_equal(reads(&k, PACKET_MX), -1);
	begin(&k, "example.org", PACKET_A, 1);
	put_octets(&k, PACKET_A, "abc", 3, 1);
	assert_int_equal(reads(&k, PACKET_A), -1);
	begin(&k, "example.org", PACKET_AAAA, 1);
	put_octets(&k, PACKET_AAAA, "0123456789abcdefg", 17, 1);
	assert_int_equal(reads(&k, PACKET_AAAA), -1);
	begin(&k, "example.org", PACKET_A, 1);
	at = begin_record(&k, PACKET_A, 1);
	put(&k, "abcd", 4);
	end_record(&k, at);
	k.p[at - 1] = 5; /* longer than the packet */
	assert_int_equal(reads(&k, PACKET_A), -1);
	begin(&k, "example.org", PACKET_A, 2); /* two are said, one comes */
	put_octets(&k, PACKET_A, "abcd", 4, 1);
	assert_int_equal(reads(&k, PACKET_A), -1);
}

static void test_addresses(void **state)
{
	struct packet k;
	struct view v;
	struct wire_record r;

	(void)state;
	begin(&k, "www.example.org", PACKET_A, 3);
	put_octets(&k, 5, "\3www\0", 5, 1); /* a CNAME is stepped over, and its TTL says nothing here */
	put_octets(&k, PACKET_A, "\177\0\0\1", 4, 70);
	put_octets(&k, PACKET_AAAA, "0123456789abcdef", 16, 2);
	assert_int_equal(reads(&k, PACKET_A), 0);
	assert_int_equal(count, 1);
	assert_int_equal(ttl, 70);
	v = buf_view(&list);
	assert_int_equal(wire_record_next(&v, &r), 1);
	assert_int_equal(r.family, AF_INET);
	assert_memory_equal(r.address.p, "\177\0\0\1", 4);
	assert_int_equal(reads(&k, PACKET_AAAA), 0);
	v = buf_view(&list);
	assert_int_equal(wire_record_next(&v, &r), 1);
	assert_int_equal(r.family, AF_INET6);
	assert_int_equal(r.address.n, 16);
}

/* A name that is no host's does not take the good ones away; alone it is not "no MX", which would mean the domain's address. */
static void test_odd_names(void **state)
{
	struct packet k;
	struct view v;

	(void)state;
	begin(&k, "example.org", PACKET_MX, 2);
	put_mx(&k, 5, "mail host.example.org", 9);
	put_mx(&k, 10, "mx.example.org", 9);
	assert_int_equal(reads(&k, PACKET_MX), 0);
	assert_int_equal(count, 1);
	v = buf_view(&list);
	is_mx(&v, 10, "mx.example.org");
	begin(&k, "example.org", PACKET_MX, 1);
	put_mx(&k, 5, "b\xc3\xbc.example.org", 9);
	assert_int_equal(reads(&k, PACKET_MX), -1);
}

static void test_limits(void **state)
{
	static struct packet k;
	char name[300], label[64];

	(void)state;
	begin(&k, "a", PACKET_A, PACKET_RECORDS_MAX + 20);
	for (unsigned i = 0; i < PACKET_RECORDS_MAX + 20; i++)
		put_octets(&k, PACKET_A, &i, 4, 1);
	assert_int_equal(reads(&k, PACKET_A), 0);
	assert_int_equal(count, PACKET_RECORDS_MAX);
	/* RFC 1035 2.3.4: 253 characters of name go, more do not */
	memset(label, 'a', sizeof label - 1);
	label[sizeof label - 1] = 0;
	for (int last = 60; last <= 63; last++) {
		snprintf(name, sizeof name, "%s.%s.%s.%.*s", label, label, label, last, label);
		begin(&k, "a", PACKET_MX, 1);
		put_mx(&k, 1, name, 1);
		assert_int_equal(reads(&k, PACKET_MX), last <= 61 ? 0 : -1);
	}
}

static void test_truncations(void **state)
{
	struct packet k;

	(void)state;
	begin(&k, "example.org", PACKET_MX, 3);
	put_mx(&k, 10, "mx1.example.org", 300);
	put_octets(&k, 5, "\3www\300\14", 6, 1);
	put_mx(&k, 20, "mx2.example.org", 300);
	assert_int_equal(reads(&k, PACKET_MX), 0);
	for (size_t n = 0; n < k.n; n++)
		assert_int_equal(read_n(&k, n, PACKET_MX), -1);
}

/* Nothing to assert but that it ends, within its bounds: the sanitizers judge. */
static void test_noise(void **state)
{
	static const enum packet_type types[] = { PACKET_A, PACKET_MX, PACKET_AAAA };
	struct packet good, k;

	(void)state;
	srand(7);
	begin(&good, "example.org", PACKET_MX, 3);
	put_mx(&good, 10, "mx1.example.org", 300);
	put_octets(&good, PACKET_MX, "\0\1\2ab\300\14", 7, 1);
	put_mx(&good, 20, "mx2.example.org", 300);
	for (unsigned i = 0; i < 60000; i++) {
		k = good;
		if (i % 3 == 0)
			for (size_t j = 0; j < k.n; j++)
				k.p[j] = (unsigned char)rand();
		for (int flips = rand() % 6; flips >= 0; flips--)
			k.p[(size_t)rand() % k.n] = (unsigned char)(rand() % 4 ? rand() : 0xc0);
		read_n(&k, rand() % 4 ? k.n : (size_t)rand() % k.n, types[i % 3]);
		assert_true(count <= PACKET_RECORDS_MAX);
	}
}

/* Whatever the encoder wrote is read back: the same records, in the same order. */
static void test_oracle(void **state)
{
	struct packet k;

	(void)state;
	srand(11);
	for (unsigned round = 0; round < 2000; round++) {
		unsigned n = (unsigned)rand() % 12, preference[12];
		char names[12][40];
		struct view v;

		begin(&k, "d.example", PACKET_MX, n);
		for (unsigned i = 0; i < n; i++) {
			preference[i] = (unsigned)rand() & 0xffff;
			snprintf(names[i], sizeof names[i], "h%d.%c-%d.example", rand() % 1000, 'a' + rand() % 26, rand() % 10);
			put_mx(&k, preference[i], names[i], (uint32_t)rand());
		}
		assert_int_equal(reads(&k, PACKET_MX), 0);
		assert_int_equal(count, n);
		v = buf_view(&list);
		for (unsigned i = 0; i < n; i++)
			is_mx(&v, preference[i], names[i]);
		assert_int_equal(v.n, 0);
	}
}

/* Strings are joined; one that claims more octets than the record has breaks the packet; a record too long is left out. */
static void test_txt(void **state)
{
	static const char two[] = "\7v=STSv1\6; id=1", past[] = "\3ab", empty[] = "\0";
	struct wire_record r;
	struct packet k;
	struct view v;

	(void)state;
	begin(&k, "_mta-sts.a.test", PACKET_TXT, 2);
	put_octets(&k, PACKET_TXT, two, sizeof two - 1, 300);
	put_octets(&k, PACKET_TXT, empty, 1, 60);
	assert_int_equal(read_n(&k, k.n, PACKET_TXT), 0);
	assert_int_equal(count, 2);
	assert_int_equal(ttl, 60);
	v = buf_view(&list);
	assert_int_equal(wire_record_next(&v, &r), 1);
	assert_true(view_eq(r.address, VIEW("v=STSv1; id=1")));
	assert_int_equal(wire_record_next(&v, &r), 1);
	assert_int_equal(r.address.n, 0);
	assert_int_equal(wire_record_next(&v, &r), 0);
	for (size_t n = 0; n < k.n; n++)
		assert_int_equal(read_n(&k, n, PACKET_TXT), -1);
	begin(&k, "a.test", PACKET_TXT, 1);
	put_octets(&k, PACKET_TXT, past, sizeof past - 1, 300);
	assert_int_equal(read_n(&k, k.n, PACKET_TXT), -1);
	begin(&k, "a.test", PACKET_TXT, 1);
	put_octets(&k, PACKET_TXT, "", 0, 300);
	assert_int_equal(read_n(&k, k.n, PACKET_TXT), -1);
}

/* A TLSA record counts however short it is. */
static void test_tlsa(void **state)
{
	static const size_t sizes[] = { 0, 3, 35 };
	static struct packet k;
	struct view v;
	struct wire_record r;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		begin(&k, "_25._tcp.mx.test", PACKET_TLSA, 1);
		put_octets(&k, PACKET_TLSA, "\3\1\1" "0123456789abcdef0123456789abcdef", sizes[i], 5);
		assert_int_equal(reads(&k, PACKET_TLSA), 0);
		assert_int_equal(count, 1);
		v = buf_view(&list);
		assert_int_equal(wire_record_next(&v, &r), 1);
		assert_int_equal(r.address.n, sizes[i]);
	}
}

static void put_alias(struct packet *k, const char *owner, const char *target)
{
	size_t at;

	put_name(k, owner);
	put16(k, PACKET_CNAME);
	put16(k, 1);
	put32(k, 60);
	at = k->n;
	put16(k, 0);
	put_name(k, target);
	k->p[at] = (unsigned char)((k->n - at - 2) >> 8);
	k->p[at + 1] = (unsigned char)(k->n - at - 2);
}

static const char *canonical(const struct packet *k, size_t n)
{
	static char to[PACKET_NAME_MAX];
	char *exact = malloc(n ? n : 1);

	memcpy(exact, k->p, n);
	packet_canonical(view_of(exact, n), to);
	free(exact);
	return to;
}

static void test_canonical(void **state)
{
	struct packet k;

	(void)state;
	begin(&k, "www.example.org", PACKET_A, 1);
	put_octets(&k, PACKET_A, "\177\0\0\1", 4, 70);
	assert_string_equal(canonical(&k, k.n), "");
	begin(&k, "WWW.example.org", PACKET_A, 3);
	put_alias(&k, "www.Example.org", "b.test");
	put_alias(&k, "other.test", "wrong.test"); /* nobody asked for it */
	put_alias(&k, "B.test", "c.test");
	assert_string_equal(canonical(&k, k.n), "c.test");
	for (size_t n = 0; n < k.n; n++)
		assert_string_equal(canonical(&k, n), "");
	begin(&k, "www.example.org", PACKET_A, 2);
	put_alias(&k, "www.example.org", "b.test");
	put_alias(&k, "b.test", "www.example.org"); /* a loop ends */
	assert_string_equal(canonical(&k, k.n), "www.example.org");
	begin(&k, "www.example.org", PACKET_A, 1);
	put_alias(&k, "www.example.org", "no host.test");
	assert_string_equal(canonical(&k, k.n), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lengths), cmocka_unit_test(test_loops), cmocka_unit_test(test_truncations), cmocka_unit_test(test_noise),
		cmocka_unit_test(test_limits), cmocka_unit_test(test_odd_names), cmocka_unit_test(test_mx), cmocka_unit_test(test_compression),
		cmocka_unit_test(test_addresses), cmocka_unit_test(test_oracle), cmocka_unit_test(test_txt), cmocka_unit_test(test_tlsa), cmocka_unit_test(test_canonical),
	};
	int r;

	buf_init(&list, &alloc_libc, 1 << 20);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	buf_free(&list);
	return r;
}
