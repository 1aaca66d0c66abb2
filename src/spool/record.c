/* record.c - see record.h. */
#include "spool/record.h"

#include "spool/crc32c.h"

#include <assert.h>
#include <endian.h>

#define MAGIC 0x31527250u /* "PrR1" */
#define ENVELOPE_FIXED 48u

void put_u32(unsigned char *to, uint32_t v)
{
	v = htole32(v);
	memcpy(to, &v, sizeof v);
}

void put_u64(unsigned char *to, uint64_t v)
{
	v = htole64(v);
	memcpy(to, &v, sizeof v);
}

uint32_t get_u32(const void *from)
{
	uint32_t v;

	memcpy(&v, from, sizeof v);
	return le32toh(v);
}

uint64_t get_u64(const void *from)
{
	uint64_t v;

	memcpy(&v, from, sizeof v);
	return le64toh(v);
}

static uint32_t checksum(const unsigned char *at, uint64_t payload, uint64_t salt)
{
	unsigned char s[8];

	put_u64(s, salt);
	return crc32c(crc32c(crc32c(0, s, sizeof s), at, RECORD_HEADER - 4), at + RECORD_HEADER, payload);
}

uint64_t record_seal(unsigned char *at, const struct record *r, uint64_t n, uint64_t salt)
{
	assert(n <= UINT32_MAX);
	put_u32(at, MAGIC);
	at[4] = (unsigned char)r->type;
	at[5] = (unsigned char)r->flags;
	at[6] = at[7] = 0;
	put_u64(at + 8, r->generation);
	put_u64(at + 16, r->offset);
	put_u64(at + 24, r->sequence);
	put_u32(at + 32, (uint32_t)n);
	put_u32(at + 36, checksum(at, n, salt));
	memset(at + RECORD_HEADER + n, 0, record_size(n) - RECORD_HEADER - n);
	return record_size(n);
}

enum record_check record_parse(const unsigned char *p, size_t n, uint64_t generation, uint64_t salt, uint64_t offset,
                               struct record *r, uint64_t *need)
{
	uint32_t length;

	*need = RECORD_HEADER;
	if (n < RECORD_HEADER)
		return RECORD_BAD;
	if (get_u32(p) != MAGIC || get_u64(p + 8) != generation || get_u64(p + 16) != offset)
		return RECORD_FOREIGN;
	length = get_u32(p + 32);
	*need = record_size(length);
	if (n < *need || get_u32(p + 36) != checksum(p, length, salt))
		return RECORD_BAD;
	if (p[4] < RECORD_MESSAGE || p[4] > RECORD_MARK)
		return RECORD_BAD; /* it checks, so it is a later version's: not to be guessed at */
	r->type = (enum record_type)p[4];
	r->flags = p[5];
	r->generation = generation;
	r->offset = offset;
	r->sequence = get_u64(p + 24);
	r->payload = view_of((const char *)p + RECORD_HEADER, length);
	return RECORD_GOOD;
}

/* ---- messages ---- */

uint64_t record_message_size(const struct record_message *m)
{
	return RECORD_MESSAGE_FIXED + m->envelopes.n + (m->body_file ? 0 : m->body_size);
}

uint64_t record_body_offset(const struct record_message *m)
{
	return RECORD_HEADER + RECORD_MESSAGE_FIXED + m->envelopes.n;
}

unsigned char *record_put_message(unsigned char *to, const struct record_message *m)
{
	put_u64(to, m->id);
	put_u64(to + 8, (uint64_t)m->created);
	put_u32(to + 16, m->n);
	put_u32(to + 20, (uint32_t)m->envelopes.n);
	put_u64(to + 24, m->body_size);
	put_u64(to + 32, m->body_file);
	put_u32(to + 40, m->body_start);
	put_u32(to + 44, m->body_crc);
	put_u64(to + 48, 0);
	to += RECORD_MESSAGE_FIXED;
	if (m->envelopes.n)
		memcpy(to, m->envelopes.p, m->envelopes.n);
	return to + m->envelopes.n;
}

bool record_get_message(struct view v, struct record_message *m)
{
	uint32_t bytes;

	if (v.n < RECORD_MESSAGE_FIXED)
		return false;
	m->id = get_u64(v.p);
	m->created = (int64_t)get_u64(v.p + 8);
	m->n = get_u32(v.p + 16);
	bytes = get_u32(v.p + 20);
	m->body_size = get_u64(v.p + 24);
	m->body_file = get_u64(v.p + 32);
	m->body_start = get_u32(v.p + 40);
	m->body_crc = get_u32(v.p + 44);
	if (bytes > v.n - RECORD_MESSAGE_FIXED)
		return false;
	m->envelopes = view_of(v.p + RECORD_MESSAGE_FIXED, bytes);
	m->body = view_slice(v, RECORD_MESSAGE_FIXED + bytes, v.n);
	return m->n && (m->body_file ? m->body.n == 0 : m->body.n == m->body_size);
}

size_t record_envelope_size(const struct spool_envelope *e)
{
	return ENVELOPE_FIXED + e->dest.n + e->data.n;
}

unsigned char *record_put_envelope(unsigned char *to, const struct spool_envelope *e)
{
	put_u32(to, e->slot);
	put_u32(to + 4, e->attempts);
	put_u64(to + 8, (uint64_t)e->due);
	put_u64(to + 16, (uint64_t)e->created);
	put_u64(to + 24, (uint64_t)e->expires);
	put_u32(to + 32, e->held);
	put_u32(to + 36, (uint32_t)e->dest.n);
	put_u32(to + 40, (uint32_t)e->data.n);
	put_u32(to + 44, 0);
	to += ENVELOPE_FIXED;
	if (e->dest.n)
		memcpy(to, e->dest.p, e->dest.n);
	to += e->dest.n;
	if (e->data.n)
		memcpy(to, e->data.p, e->data.n);
	return to + e->data.n;
}

bool record_get_envelope(struct view *rest, struct spool_envelope *e)
{
	struct view v = *rest;
	size_t dest, data;

	if (v.n < ENVELOPE_FIXED)
		return false;
	e->slot = get_u32(v.p);
	e->attempts = get_u32(v.p + 4);
	e->due = (int64_t)get_u64(v.p + 8);
	e->created = (int64_t)get_u64(v.p + 16);
	e->expires = (int64_t)get_u64(v.p + 24);
	e->held = get_u32(v.p + 32) != 0;
	dest = get_u32(v.p + 36);
	data = get_u32(v.p + 40);
	if (dest > v.n - ENVELOPE_FIXED || data > v.n - ENVELOPE_FIXED - dest)
		return false;
	e->dest = view_of(v.p + ENVELOPE_FIXED, dest);
	e->data = view_of(v.p + ENVELOPE_FIXED + dest, data);
	*rest = view_slice(v, ENVELOPE_FIXED + dest + data, v.n);
	return true;
}

bool record_message_sound(const struct record_message *m)
{
	struct view rest = m->envelopes;
	struct spool_envelope e;
	uint64_t next = 0;

	for (uint32_t i = 0; i < m->n; i++) {
		if (!record_get_envelope(&rest, &e) || e.slot < next)
			return false;
		next = (uint64_t)e.slot + 1;
	}
	return !rest.n && m->id && m->id <= INT64_MAX; /* the index keeps ids as signed numbers */
}

/* ---- the others ---- */

unsigned char *record_put_outcome(unsigned char *to, const struct record_outcome *o)
{
	put_u64(to, o->id);
	put_u32(to + 8, o->slot);
	put_u32(to + 12, o->remains);
	put_u64(to + 16, (uint64_t)o->due);
	put_u64(to + 24, (uint64_t)o->expires);
	put_u32(to + 32, o->attempts);
	put_u32(to + 36, (uint32_t)o->data.n);
	if (o->data.n)
		memcpy(to + RECORD_OUTCOME_FIXED, o->data.p, o->data.n);
	return to + RECORD_OUTCOME_FIXED + o->data.n;
}

bool record_get_outcome(struct view v, struct record_outcome *o)
{
	if (v.n < RECORD_OUTCOME_FIXED || get_u32(v.p + 36) != v.n - RECORD_OUTCOME_FIXED)
		return false;
	o->id = get_u64(v.p);
	o->slot = get_u32(v.p + 8);
	o->remains = get_u32(v.p + 12) != 0;
	o->due = (int64_t)get_u64(v.p + 16);
	o->expires = (int64_t)get_u64(v.p + 24);
	o->attempts = get_u32(v.p + 32);
	o->data = view_slice(v, RECORD_OUTCOME_FIXED, v.n);
	return true;
}

void record_put_list(unsigned char *to, int64_t due, uint32_t n)
{
	put_u64(to, (uint64_t)due);
	put_u32(to + 8, n);
	put_u32(to + 12, 0);
}

void record_put_item(unsigned char *to, uint32_t i, spool_id id, uint32_t slot)
{
	to += RECORD_LIST_FIXED + (size_t)i * RECORD_LIST_ITEM;
	put_u64(to, id);
	put_u32(to + 8, slot);
	put_u32(to + 12, 0);
}

bool record_get_list(struct view v, struct record_list *l)
{
	if (v.n < RECORD_LIST_FIXED)
		return false;
	l->due = (int64_t)get_u64(v.p);
	l->n = get_u32(v.p + 8);
	l->items = v.p + RECORD_LIST_FIXED;
	return v.n - RECORD_LIST_FIXED == (uint64_t)l->n * RECORD_LIST_ITEM;
}

void record_get_item(const struct record_list *l, uint32_t i, spool_id *id, uint32_t *slot)
{
	const char *p = l->items + (size_t)i * RECORD_LIST_ITEM;

	*id = get_u64(p);
	*slot = get_u32(p + 8);
}

void record_put_range(unsigned char *to, uint64_t first, uint64_t last)
{
	put_u64(to, first);
	put_u64(to + 8, last);
}

bool record_get_range(struct view v, uint64_t *first, uint64_t *last)
{
	if (v.n != RECORD_RANGE)
		return false;
	*first = get_u64(v.p);
	*last = get_u64(v.p + 8);
	return true;
}
