/* answer.c - tests of resolve/answer.c: what one packet or two mean together; secure only when all that is used is. */
#include "resolve/answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

#define HEAD(rcode, answers) "\x12\x34\x81" rcode "\0\1" answers "\0\0\0\0" "\1h\0"
/* h. A 192.0.2.1, h. AAAA 2001:db8::1, TTL 60 */
static const char a_packet[] = HEAD("\x80", "\0\1") "\0\1\0\1" "\1h\0\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1";
static const char aaaa_packet[] = HEAD("\x80", "\0\1") "\0\x1c\0\1" "\1h\0\0\x1c\0\1\0\0\0\x1e\0\x10\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1";
static const char nothing[] = HEAD("\x80", "\0\0") "\0\x1c\0\1";
static const char no_name[] = HEAD("\x83", "\0\0") "\0\x1c\0\1";
static const char servfail[] = HEAD("\x82", "\0\0") "\0\x1c\0\1";
static const char broken[] = HEAD("\x80", "\0\2") "\0\1\0\1" "\1h\0\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1";

#define PACKET(array) view_of(array, sizeof(array) - 1)

struct given { struct view packet; int security; };

static struct wire_RESOLVED joined(struct answer *a, struct given aaaa, struct given plain)
{
	answer_init(a);
	answer_take(a, PACKET_AAAA, 0, aaaa.packet, aaaa.security, aaaa.security == 1 ? "signature expired" : NULL);
	answer_take(a, PACKET_A, 0, plain.packet, plain.security, plain.security == 1 ? "signature expired" : NULL);
	return answer_wire(a);
}

static void two_packets_are_one_answer(void **state)
{
	const struct {
		struct given aaaa, a;
		enum wire_resolve_status status;
		bool secure;
		unsigned count;
	} rows[] = {
		{ { PACKET(aaaa_packet), 2 }, { PACKET(a_packet), 2 }, WIRE_DNS_OK, true, 2 },
		{ { PACKET(aaaa_packet), 0 }, { PACKET(a_packet), 2 }, WIRE_DNS_OK, false, 2 },
		{ { PACKET(nothing), 2 }, { PACKET(a_packet), 2 }, WIRE_DNS_OK, true, 1 },
		{ { PACKET(nothing), 0 }, { PACKET(a_packet), 2 }, WIRE_DNS_OK, false, 1 },
		/* a spoilt AAAA beside a good A does not make the host insecure: DANE would be passed over */
		{ { PACKET(aaaa_packet), 1 }, { PACKET(a_packet), 2 }, WIRE_DNS_OK, true, 1 },
		{ { PACKET(servfail), 0 }, { PACKET(a_packet), 2 }, WIRE_DNS_OK, true, 1 },
		{ { { NULL, 0 }, 0 }, { PACKET(a_packet), 2 }, WIRE_DNS_OK, true, 1 },
		{ { PACKET(nothing), 2 }, { PACKET(nothing), 2 }, WIRE_DNS_NODATA, true, 0 },
		{ { PACKET(no_name), 2 }, { PACKET(no_name), 2 }, WIRE_DNS_NXDOMAIN, true, 0 },
		{ { PACKET(no_name), 0 }, { PACKET(no_name), 0 }, WIRE_DNS_NXDOMAIN, false, 0 },
		/* what failed is not nothing; bogus is worse than failed; neither is secure */
		{ { PACKET(servfail), 0 }, { PACKET(nothing), 2 }, WIRE_DNS_TEMPORARY, false, 0 },
		{ { PACKET(servfail), 0 }, { PACKET(a_packet), 1 }, WIRE_DNS_BOGUS, false, 0 },
		{ { PACKET(nothing), 2 }, { PACKET(a_packet), 1 }, WIRE_DNS_BOGUS, false, 0 },
		/* half an answer is none, and takes nothing of the other away */
		{ { PACKET(aaaa_packet), 2 }, { PACKET(broken), 2 }, WIRE_DNS_OK, true, 1 },
		{ { PACKET(nothing), 2 }, { PACKET(broken), 2 }, WIRE_DNS_TEMPORARY, false, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct answer a;
		struct wire_RESOLVED m = joined(&a, rows[i].aaaa, rows[i].a);
		struct wire_record r;
		struct view list = m.records;
		unsigned n = 0;

		while (wire_record_next(&list, &r) == 1)
			n++;
		if (m.status != rows[i].status || (m.secure != 0) != rows[i].secure || n != rows[i].count || a.count != n)
			fail_msg("row %zu: status %u, secure %d, %u records", i, m.status, m.secure, n);
		answer_free(&a);
	}
}

static void ttl_and_reason(void **state)
{
	struct answer a;
	struct wire_RESOLVED m = joined(&a, (struct given){ PACKET(aaaa_packet), 2 }, (struct given){ PACKET(a_packet), 2 });

	(void)state;
	assert_int_equal(m.ttl, 30); /* the least of both */
	assert_int_equal(m.reason.n, 0);
	answer_free(&a);
	m = joined(&a, (struct given){ PACKET(servfail), 0 }, (struct given){ PACKET(nothing), 0 });
	assert_int_equal(m.ttl, 0);
	assert_true(view_eq(m.reason, VIEW("the DNS answers with code 2")));
	answer_free(&a);
	m = joined(&a, (struct given){ PACKET(nothing), 0 }, (struct given){ PACKET(a_packet), 1 });
	assert_true(view_eq(m.reason, VIEW("signature expired")));
	answer_free(&a);
	answer_init(&a);
	answer_fail(&a, "no socket");
	assert_int_equal(answer_status(&a), WIRE_DNS_TEMPORARY);
	answer_free(&a);
	answer_init(&a);
	answer_no_name(&a);
	assert_int_equal(answer_status(&a), WIRE_DNS_NXDOMAIN);
	assert_false(answer_wire(&a).secure); /* nobody said so */
	answer_free(&a);
}

static void names(void **state)
{
	char to[PACKET_NAME_MAX], longest[300];

	(void)state;
	assert_true(answer_name(VIEW("Example.org"), to));
	assert_string_equal(to, "example.org");
	assert_true(answer_name(VIEW("b\xc3\xbc" "cher.example"), to));
	assert_string_equal(to, "xn--bcher-kva.example");
	assert_false(answer_name(VIEW(""), to));
	assert_false(answer_name(view_of("a\0b", 3), to));
	memset(longest, 'a', sizeof longest);
	assert_false(answer_name(view_of(longest, sizeof longest), to));
	assert_false(answer_name(view_of(longest, 64), to)); /* RFC 1035 2.3.4: a label has 63 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_packets_are_one_answer),
		cmocka_unit_test(ttl_and_reason),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
