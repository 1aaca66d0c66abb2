/* dns.c - DNS answers as packets of a hostile server: a yield of well-formed records, or nothing.
 *
 * Input: the type asked for, then the packet.
 */
#include "input.h"

#include "resolve/packet.h"
#include "wire/wire.h"

static void check_name(struct view name)
{
	assert(name.n < PACKET_NAME_MAX);
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];

		assert((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.');
	}
}

static void check_records(struct view list, enum packet_type type, unsigned count)
{
	struct wire_record r;
	unsigned seen = 0;
	int next;

	while ((next = wire_record_next(&list, &r)) == 1) {
		seen++;
		if (type == PACKET_MX)
			check_name(r.name);
		else if (type == PACKET_TLSA || type == PACKET_TXT)
			assert(r.address.n <= (type == PACKET_TLSA ? PACKET_TLSA_MAX : PACKET_TXT_MAX) && !r.name.n);
		else
			assert(r.address.n == (type == PACKET_A ? 4u : 16u) && r.family && !r.name.n);
	}
	assert(next == 0 && seen == count && count <= PACKET_RECORDS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const enum packet_type types[] = { PACKET_A, PACKET_MX, PACKET_AAAA, PACKET_TLSA, PACKET_TXT, PACKET_CNAME };
	struct input in = { data, n };
	enum packet_type type = types[input_byte(&in) % (sizeof types / sizeof *types)];
	struct view packet = view_of((const char *)in.p, in.n);
	char *exact = input_copy(packet);
	struct buf list;
	unsigned count = 0;
	uint32_t ttl = 86400;
	char canonical[PACKET_NAME_MAX];

	buf_init(&list, &alloc_libc, 1 << 20);
	if (packet_read(view_of(exact, packet.n), type, &list, &count, &ttl) == 0) {
		assert(ttl <= 86400);
		if (type != PACKET_CNAME) /* of those only the number is told */
			check_records(buf_view(&list), type, count);
	}
	packet_canonical(view_of(exact, packet.n), canonical);
	assert(memchr(canonical, 0, sizeof canonical));
	buf_free(&list);
	free(exact);
	return 0;
}
