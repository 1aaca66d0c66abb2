/* answer.c - see answer.h. */
#include "resolve/answer.h"

#include "net/channel.h"

#include <idn2.h>
#include <stdio.h>

#define DNS_NXDOMAIN 3

void answer_init(struct answer *a)
{
	*a = (struct answer){ .ttl = UINT32_MAX, .secure = true };
	buf_init(&a->list, &alloc_libc, CHANNEL_FRAME_MAX / 2);
}

void answer_free(struct answer *a)
{
	buf_free(&a->list);
}

void answer_fail(struct answer *a, const char *reason)
{
	a->temporary = true;
	snprintf(a->reason, sizeof a->reason, "%s", reason);
}

void answer_no_name(struct answer *a)
{
	a->nxdomain = true;
	snprintf(a->reason, sizeof a->reason, "that is no domain name");
}

static void note_security(struct answer *a, struct view packet, int security)
{
	a->answered = true;
	a->secure = a->secure && security == 2;
	if (!a->canonical[0])
		packet_canonical(packet, a->canonical);
}

void answer_take(struct answer *a, enum packet_type type, int rcode, struct view packet, int security, const char *why_bogus)
{
	size_t before = buf_len(&a->list);
	unsigned count = a->count;
	char code[60];

	if (rcode == 0 && packet.n > 3) /* libunbound says 0 for every answer that it has; the answer's own word is in its header */
		rcode = (unsigned char)packet.p[3] & 0x0f;
	if (security == 1) {
		a->bogus = true;
		snprintf(a->reason, sizeof a->reason, "%s", why_bogus ? why_bogus : "DNSSEC validation failed");
	} else if (rcode == DNS_NXDOMAIN) {
		a->nxdomain = true;
		note_security(a, packet, security);
	} else if (rcode != 0 || !packet.p) {
		snprintf(code, sizeof code, "the DNS answers with code %d", rcode);
		answer_fail(a, code);
	} else if (packet_read(packet, type, &a->list, &count, &a->ttl) == -1) {
		a->list.wr = a->list.rd + before; /* nothing of a broken packet is used */
		answer_fail(a, "the DNS answer is malformed");
	} else {
		a->count = count;
		note_security(a, packet, security);
	}
}

enum wire_resolve_status answer_status(const struct answer *a)
{
	if (a->count > 0)
		return WIRE_DNS_OK;
	if (a->bogus)
		return WIRE_DNS_BOGUS;
	if (a->temporary) /* one of two address queries failing leaves the other's answer */
		return WIRE_DNS_TEMPORARY;
	return a->nxdomain ? WIRE_DNS_NXDOMAIN : WIRE_DNS_NODATA;
}

struct wire_RESOLVED answer_wire(const struct answer *a)
{
	enum wire_resolve_status status = answer_status(a);

	return (struct wire_RESOLVED){
		.status = (uint8_t)status,
		.secure = a->secure && a->answered && status != WIRE_DNS_BOGUS && status != WIRE_DNS_TEMPORARY,
		.canonical = view_cstr(a->canonical),
		.ttl = a->ttl == UINT32_MAX ? 0 : a->ttl,
		.records = buf_view(&a->list),
		.reason = view_cstr(a->reason),
	};
}

bool answer_name(struct view name, char to[PACKET_NAME_MAX])
{
	char text[PACKET_NAME_MAX], *ascii = NULL;
	bool ok;

	if (name.n == 0 || name.n >= sizeof text || memchr(name.p, 0, name.n))
		return false;
	memcpy(text, name.p, name.n);
	text[name.n] = 0;
	ok = idn2_to_ascii_8z(text, &ascii, IDN2_NONTRANSITIONAL) == IDN2_OK && strlen(ascii) < PACKET_NAME_MAX;
	if (ok)
		snprintf(to, PACKET_NAME_MAX, "%s", ascii);
	idn2_free(ascii);
	return ok;
}
