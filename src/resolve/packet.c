/* packet.c - see packet.h. */
#include "resolve/packet.h"

#include "wire/wire.h"

#include <sys/socket.h>

#define HEADER 12
#define POINTERS_MAX 128 /* more compression pointers than labels fit a name (RFC 1035 4.1.4) */

/* 255 octets on the wire (RFC 1035 2.3.4) are so many as text. */
#define NAME_TEXT_MAX 253
/* Stands in a name for an octet that no host name has. */
#define ODD '?'

struct cursor {
	const unsigned char *p;
	size_t at, n;
};

static bool take16(struct cursor *c, unsigned *v)
{
	if (c->n - c->at < 2)
		return false;
	*v = (unsigned)c->p[c->at] << 8 | c->p[c->at + 1];
	c->at += 2;
	return true;
}

static bool take32(struct cursor *c, uint32_t *v)
{
	unsigned high, low;

	if (!take16(c, &high) || !take16(c, &low))
		return false;
	*v = (uint32_t)high << 16 | low;
	return true;
}

/* One label's octets as text.  False: too long. */
static bool put_label(const unsigned char *from, size_t n, char *to, size_t *used)
{
	if (*used + (*used > 0) + n > NAME_TEXT_MAX)
		return false;
	if (*used)
		to[(*used)++] = '.';
	for (size_t i = 0; i < n; i++) {
		char ch = view_lower((char)from[i]);
		bool plain = (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '-' || ch == '_';
		to[(*used)++] = plain ? ch : ODD;
	}
	return true;
}

/* Reads (to != NULL) or skips a name.  Pointers must go backwards, so that no loop can be built. */
static bool take_name(struct cursor *c, char *to, size_t *used)
{
	size_t at = c->at, lowest = c->at;
	bool jumped = false;
	unsigned jumps = 0;

	if (to)
		*used = 0;
	for (;;) {
		if (at >= c->n)
			return false;
		unsigned len = c->p[at];
		if (len == 0) {
			if (!jumped)
				c->at = at + 1;
			return true;
		}
		if ((len & 0xc0) == 0xc0) {
			if (at + 1 >= c->n || ++jumps > POINTERS_MAX)
				return false;
			size_t target = (size_t)(len & 0x3f) << 8 | c->p[at + 1];
			if (target >= lowest)
				return false;
			if (!jumped)
				c->at = at + 2;
			jumped = true;
			lowest = at = target;
			continue;
		}
		if (len & 0xc0 || c->n - at - 1 < len)
			return false;
		if (to && !put_label(c->p + at + 1, len, to, used))
			return false;
		at += 1 + len;
	}
}

static bool add_address(struct buf *list, int family, const unsigned char *octets, size_t n, size_t want)
{
	struct wire_record r = { .family = (uint8_t)family, .address = view_of((const char *)octets, n) };

	return n == want && wire_record_add(list, &r);
}

/* A record whose name is no host's is stepped over: it must not take the good ones beside it away. */
static bool add_mx(struct buf *list, struct cursor c, size_t n, bool *odd)
{
	char name[PACKET_NAME_MAX];
	size_t used, end = c.at + n;
	unsigned preference;
	struct wire_record r;

	if (n < 3 || !take16(&c, &preference) || !take_name(&c, name, &used) || c.at != end)
		return false;
	*odd = memchr(name, ODD, used) != NULL;
	if (*odd)
		return true;
	r = (struct wire_record){ .preference = (uint16_t)preference, .name = view_of(name, used) }; /* empty: "." (RFC 7505) */
	return wire_record_add(list, &r);
}

/* The strings of one record are one text, joined without blanks (RFC 8461 3.1, RFC 8460 3). */
static bool add_txt(struct buf *list, struct cursor c, size_t n, unsigned *count)
{
	char text[PACKET_TXT_MAX];
	size_t end = c.at + n, used = 0;
	struct wire_record r;

	while (c.at < end) {
		size_t len = c.p[c.at];
		if (end - c.at - 1 < len)
			return false;
		if (used + len > sizeof text)
			return true; /* nobody's that we ask for: as if it were not there */
		memcpy(text + used, c.p + c.at + 1, len);
		used += len;
		c.at += 1 + len;
	}
	r = (struct wire_record){ .address = view_of(text, used) };
	++*count;
	return n > 0 && wire_record_add(list, &r); /* RFC 1035 3.3.14: one string at least */
}

/* As it is, too short or not: what is published counts, and route/ judges it. */
static bool add_tlsa(struct buf *list, const unsigned char *octets, size_t n)
{
	struct wire_record r = { .address = view_of((const char *)octets, n < PACKET_TLSA_MAX ? n : PACKET_TLSA_MAX) };

	return wire_record_add(list, &r);
}

static bool take_record(struct cursor *c, enum packet_type type, struct buf *list, unsigned *count, uint32_t *ttl, bool *any_odd)
{
	unsigned rtype, class, n;
	uint32_t lives;
	bool ok = true, odd = false;

	if (!take_name(c, NULL, NULL) || !take16(c, &rtype) || !take16(c, &class) || !take32(c, &lives) || !take16(c, &n) || c->n - c->at < n)
		return false;
	if (class == 1 && rtype == (unsigned)type && *count < PACKET_RECORDS_MAX) {
		if (type == PACKET_MX)
			ok = add_mx(list, *c, n, &odd);
		else if (type == PACKET_TXT)
			ok = add_txt(list, *c, n, count);
		else if (type == PACKET_TLSA)
			ok = add_tlsa(list, c->p + c->at, n);
		else if (type == PACKET_CNAME)
			ok = true; /* that there is one is all that is asked */
		else if (type == PACKET_A)
			ok = add_address(list, AF_INET, c->p + c->at, n, 4);
		else
			ok = add_address(list, AF_INET6, c->p + c->at, n, 16);
		*count += !odd && type != PACKET_TXT;
		*any_odd = *any_odd || odd;
		if (lives < *ttl)
			*ttl = lives;
	}
	c->at += n;
	return ok;
}

/* Header and questions; name: that of the last question. */
static bool take_head(struct cursor *c, unsigned *answers, char *name, size_t *used)
{
	unsigned questions, skipped;

	if (c->n < HEADER || !take16(c, &questions) || !take16(c, answers) || !take16(c, &skipped) || !take16(c, &skipped))
		return false;
	while (questions--)
		if (!take_name(c, name, used) || !take16(c, &skipped) || !take16(c, &skipped))
			return false;
	return true;
}

int packet_read(struct view packet, enum packet_type type, struct buf *list, unsigned *count, uint32_t *ttl)
{
	struct cursor c = { (const unsigned char *)packet.p, 4, packet.n };
	unsigned answers, before = *count;
	bool odd = false;

	if (!take_head(&c, &answers, NULL, NULL))
		return -1;
	while (answers--)
		if (!take_record(&c, type, list, count, ttl, &odd))
			return -1;
	return odd && *count == before ? -1 : 0; /* hosts were named, and none can be: that is not "no MX" */
}

/* Follows one CNAME if it stands in the answer: the chain is in order (RFC 1034 4.3.2), so one pass finds it. */
static bool follow(struct cursor *c, char *name, size_t *used, bool *moved)
{
	char owner[PACKET_NAME_MAX];
	size_t owner_n;
	unsigned rtype, class, n;
	uint32_t lives;
	struct cursor data;

	if (!take_name(c, owner, &owner_n) || !take16(c, &rtype) || !take16(c, &class) || !take32(c, &lives) || !take16(c, &n) || c->n - c->at < n)
		return false;
	data = *c;
	c->at += n;
	if (class != 1 || rtype != PACKET_CNAME || !view_eq(view_of(owner, owner_n), view_of(name, *used)))
		return true;
	*moved = true;
	return take_name(&data, name, used) && data.at == c->at;
}

void packet_canonical(struct view packet, char to[PACKET_NAME_MAX])
{
	struct cursor c = { (const unsigned char *)packet.p, 4, packet.n };
	char name[PACKET_NAME_MAX];
	size_t used = 0;
	unsigned answers;
	bool moved = false;

	to[0] = '\0';
	if (!take_head(&c, &answers, name, &used))
		return;
	while (answers--)
		if (!follow(&c, name, &used, &moved))
			return;
	if (!moved || memchr(name, ODD, used))
		return;
	memcpy(to, name, used);
	to[used] = '\0';
}
