/* wire.c - the codec, made from messages.def; see wire.h.
 *
 * Each FIELDS list is compiled three times: to measure, to write, to read.  The order of the row is the order on the wire.
 */
#include "wire/wire.h"

#include "base/buf.h"

#include <string.h>
#include <unistd.h>

/* ---- primitives ---- */

static unsigned char *put_number(unsigned char *p, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		*p++ = (unsigned char)(v >> (8 * i));
	return p;
}

static unsigned char *put_text(unsigned char *p, struct view v)
{
	p = put_number(p, v.n, 4);
	if (v.n)
		memcpy(p, v.p, v.n);
	return p + v.n;
}

static bool take_number(struct view *v, uint64_t *to, size_t n)
{
	if (v->n < n)
		return false;
	*to = 0;
	for (size_t i = 0; i < n; i++)
		*to |= (uint64_t)(unsigned char)v->p[i] << (8 * i);
	v->p += n;
	v->n -= n;
	return true;
}

static bool take_text(struct view *v, struct view *to)
{
	uint64_t n;

	if (!take_number(v, &n, 4) || n > v->n)
		return false;
	*to = view_of(v->p, (size_t)n);
	v->p += n;
	v->n -= (size_t)n;
	return true;
}

/* ---- messages ---- */

#define U8(f) n += 1;
#define U16(f) n += 2;
#define U32(f) n += 4;
#define U64(f) n += 8;
#define TEXT(f) n += 4 + m->f.n;
#define MESSAGE(id, from, to, fd, fields)                                                                              \
	static size_t size_##id(const struct wire_##id *m)                                                             \
	{                                                                                                              \
		size_t n = 0;                                                                                          \
		(void)m;                                                                                               \
		fields                                                                                                 \
		return n;                                                                                              \
	}
#include "wire/messages.def"
#undef U8
#undef U16
#undef U32
#undef U64
#undef TEXT

#define U8(f) p = put_number(p, m->f, 1);
#define U16(f) p = put_number(p, m->f, 2);
#define U32(f) p = put_number(p, m->f, 4);
#define U64(f) p = put_number(p, m->f, 8);
#define TEXT(f) p = put_text(p, m->f);
#define MESSAGE(id, from, to, fd, fields)                                                                              \
	static void write_##id(unsigned char *p, const struct wire_##id *m)                                            \
	{                                                                                                              \
		fields                                                                                                 \
		(void)p;                                                                                               \
	}                                                                                                              \
	bool wire_send_##id(struct channel *ch, const struct wire_##id *m)                                             \
	{                                                                                                              \
		size_t n = size_##id(m);                                                                               \
		void *room = n <= CHANNEL_FRAME_MAX ? channel_reserve(ch, n) : NULL;                                   \
		if (!room)                                                                                             \
			return false;                                                                                  \
		write_##id(room, m);                                                                                   \
		channel_commit(ch, WIRE_##id, n);                                                                      \
		return true;                                                                                           \
	}                                                                                                              \
	bool wire_send_##id##_fd(struct channel *ch, const struct wire_##id *m, int sent)                              \
	{                                                                                                              \
		size_t n = size_##id(m);                                                                               \
		unsigned char few[256]; /* frames with a descriptor have numbers only */                               \
		if (!(fd) || sent < 0 || n > sizeof few)                                                               \
			return false;                                                                                  \
		write_##id(few, m);                                                                                    \
		return channel_send_fd(ch, WIRE_##id, view_of((const char *)few, n), sent);                            \
	}                                                                                                              \
	bool wire_put_##id(struct buf *b, const struct wire_##id *m)                                                   \
	{                                                                                                              \
		size_t n = size_##id(m);                                                                               \
		if (n > CHANNEL_FRAME_MAX || !buf_reserve(b, n))                                                       \
			return false;                                                                                  \
		write_##id(buf_tail(b), m);                                                                            \
		buf_commit(b, n);                                                                                      \
		return true;                                                                                           \
	}
#include "wire/messages.def"
#undef U8
#undef U16
#undef U32
#undef U64
#undef TEXT

#define NUMBER(f, size)                                                                                                \
	if (!take_number(&v, &number, size))                                                                           \
		return -1;                                                                                             \
	m->f = (__typeof__(m->f))number;
#define U8(f) NUMBER(f, 1)
#define U16(f) NUMBER(f, 2)
#define U32(f) NUMBER(f, 4)
#define U64(f) NUMBER(f, 8)
#define TEXT(f)                                                                                                        \
	if (!take_text(&v, &m->f))                                                                                     \
		return -1;
#define MESSAGE(id, from, to, fd, fields)                                                                              \
	int wire_read_##id(struct view v, struct wire_##id *m)                                                         \
	{                                                                                                              \
		uint64_t number;                                                                                       \
		(void)number;                                                                                          \
		fields                                                                                                 \
		return v.n == 0 ? 0 : -1; /* octets left over are as wrong as octets missing */                        \
	}
#include "wire/messages.def"
#undef NUMBER
#undef U8
#undef U16
#undef U32
#undef U64
#undef TEXT

/* ---- names and rights ---- */

const char *wire_name(uint32_t type)
{
	switch (type) {
#define MESSAGE(id, from, to, fd, fields)                                                                              \
	case WIRE_##id:                                                                                                \
		return #id;
#include "wire/messages.def"
	default:
		return "unknown";
	}
}

bool wire_has_fd(uint32_t type)
{
	switch (type) {
#define MESSAGE(id, from, to, fd, fields)                                                                              \
	case WIRE_##id:                                                                                                \
		return fd;
#include "wire/messages.def"
	default:
		return false;
	}
}

const char *role_name(enum role_kind kind)
{
	switch (kind) {
	case ROLE_SUPER: return "super";
	case ROLE_RECEIVE: return "receive";
	case ROLE_QUEUE: return "queue";
	case ROLE_SEND: return "send";
	case ROLE_RESOLVE: return "resolve";
	case ROLE_LOCAL: return "local";
	case ROLE_KEYS: return "keys";
	case ROLE_POLICY: return "policy";
	case ROLE_WEB: return "web";
	case ROLE_WORKER: return "worker";
	}
	return "unknown";
}

unsigned role_loops(const struct conf *conf)
{
	long cores;

	if (conf->global.workers > 0)
		return (unsigned)conf->global.workers;
	cores = sysconf(_SC_NPROCESSORS_ONLN);
	return cores > 0 ? (unsigned)cores : 1;
}

/* Groups of messages.def: ANY is every role but super itself, OUT is who takes deliveries, IN who brings
 * messages, ASKER who asks the DNS, SIGNER who needs signatures,
 * LISTENS who accepts from the network.  A worker belongs to ANY alone: it
 * speaks with super as every role does, and with the broker as wire_allowed says; it may not ask for workers itself. */
enum { GROUP_ANY = 100, GROUP_OUT, GROUP_IN, GROUP_ASKER, GROUP_SIGNER, GROUP_LISTENS };
#define ROLE_ANY GROUP_ANY
#define ROLE_OUT GROUP_OUT
#define ROLE_IN GROUP_IN
#define ROLE_ASKER GROUP_ASKER
#define ROLE_SIGNER GROUP_SIGNER
#define ROLE_LISTENS GROUP_LISTENS

static bool in_group(unsigned group, enum role_kind kind)
{
	if (group == GROUP_ANY)
		return kind != ROLE_SUPER;
	if (group == GROUP_OUT)
		return kind == ROLE_SEND || kind == ROLE_LOCAL;
	if (group == GROUP_IN)
		return kind == ROLE_RECEIVE || kind == ROLE_POLICY;
	if (group == GROUP_ASKER)
		return kind == ROLE_SEND || kind == ROLE_POLICY;
	if (group == GROUP_SIGNER)
		return kind == ROLE_RECEIVE || kind == ROLE_SEND || kind == ROLE_POLICY || kind == ROLE_WEB;
	if (group == GROUP_LISTENS)
		return kind == ROLE_RECEIVE || kind == ROLE_WEB;
	return (unsigned)kind == group;
}

static bool edge_exists(enum role_kind a, enum role_kind b)
{
	static const struct { enum role_kind from, to; } edges[] = {
#define EDGE(f, t, why) { ROLE_##f, ROLE_##t },
#include "wire/edges.def"
		{ ROLE_LOCAL, ROLE_WORKER }, /* as root: the broker and its workers */
		{ ROLE_SUPER, ROLE_WORKER },
	};

	for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
		if ((edges[i].from == a && edges[i].to == b) || (edges[i].from == b && edges[i].to == a))
			return true;
	return false;
}

bool wire_allowed(uint32_t type, enum role_kind from, enum role_kind to)
{
	if (from == ROLE_LOCAL && to == ROLE_WORKER) /* the broker speaks as queue does */
		return type == WIRE_DELIVER || type == WIRE_DELIVER_BYTES || type == WIRE_DELIVER_ABORT;
	if (from == ROLE_WORKER && to == ROLE_LOCAL)
		return type == WIRE_DELIVER_CREDIT || type == WIRE_OUTCOME;
	if (!edge_exists(from, to))
		return false;
	switch (type) {
#define MESSAGE(id, f, t, fd, fields)                                                                                  \
	case WIRE_##id:                                                                                                \
		return in_group(ROLE_##f, from) && in_group(ROLE_##t, to);
#include "wire/messages.def"
	default:
		return false;
	}
}

/* ---- lists ---- */

static bool list_number(struct buf *b, uint64_t v, size_t n)
{
	unsigned char bytes[8];

	put_number(bytes, v, n);
	return buf_add(b, view_of((const char *)bytes, n));
}

static bool list_text(struct buf *b, struct view v)
{
	return list_number(b, v.n, 4) && buf_add(b, v);
}

/* A list that could not take all of an item is as it was before. */
static bool keep_or_undo(struct buf *b, size_t before, bool ok)
{
	if (!ok)
		b->wr = b->rd + before;
	return ok;
}

bool wire_rcpt_add(struct buf *b, const struct wire_rcpt *r)
{
	size_t before = buf_len(b);

	return keep_or_undo(b, before, list_text(b, r->address) && list_text(b, r->orcpt_type) && list_text(b, r->orcpt) &&
	                                       list_number(b, r->notify, 1));
}

int wire_rcpt_next(struct view *v, struct wire_rcpt *r)
{
	uint64_t notify;

	if (v->n == 0)
		return 0;
	if (!take_text(v, &r->address) || !take_text(v, &r->orcpt_type) || !take_text(v, &r->orcpt) || !take_number(v, &notify, 1))
		return -1;
	r->notify = (uint8_t)notify;
	return 1;
}

bool wire_result_add(struct buf *b, const struct wire_result *r)
{
	size_t before = buf_len(b);

	return keep_or_undo(b, before,
	                    list_number(b, r->kind, 1) && list_number(b, r->code, 2) && list_number(b, r->enhanced[0], 2) &&
	                            list_number(b, r->enhanced[1], 2) && list_number(b, r->enhanced[2], 2) && list_text(b, r->text) &&
	                            list_text(b, r->remote) && list_number(b, r->local, 1));
}

int wire_result_next(struct view *v, struct wire_result *r)
{
	uint64_t kind, code, e[3], local;

	if (v->n == 0)
		return 0;
	if (!take_number(v, &kind, 1) || !take_number(v, &code, 2) || !take_number(v, &e[0], 2) || !take_number(v, &e[1], 2) ||
	    !take_number(v, &e[2], 2) || !take_text(v, &r->text) || !take_text(v, &r->remote) || !take_number(v, &local, 1))
		return -1;
	r->kind = (uint8_t)kind;
	r->code = (uint16_t)code;
	for (int i = 0; i < 3; i++)
		r->enhanced[i] = (uint16_t)e[i];
	r->local = (uint8_t)local;
	return 1;
}

bool wire_record_add(struct buf *b, const struct wire_record *r)
{
	size_t before = buf_len(b);

	return keep_or_undo(b, before, list_number(b, r->preference, 2) && list_text(b, r->name) && list_number(b, r->family, 1) &&
	                                       list_text(b, r->address));
}

int wire_record_next(struct view *v, struct wire_record *r)
{
	uint64_t preference, family;

	if (v->n == 0)
		return 0;
	if (!take_number(v, &preference, 2) || !take_text(v, &r->name) || !take_number(v, &family, 1) || !take_text(v, &r->address))
		return -1;
	r->preference = (uint16_t)preference;
	r->family = (uint8_t)family;
	return 1;
}

bool wire_may_accuse(enum role_kind accuser, enum role_kind peer)
{
	switch (accuser) {
	case ROLE_QUEUE: return peer == ROLE_RECEIVE || peer == ROLE_SEND || peer == ROLE_LOCAL || peer == ROLE_POLICY;
	case ROLE_LOCAL: return peer == ROLE_RECEIVE;
	case ROLE_KEYS: return peer == ROLE_RECEIVE || peer == ROLE_SEND || peer == ROLE_POLICY || peer == ROLE_WEB;
	case ROLE_RESOLVE: return peer == ROLE_SEND || peer == ROLE_POLICY;
	default: return false; /* an intruder in receive, send, policy or web must not have the others ended */
	}
}

void wire_accuse(struct role *role, enum role_kind peer, uint32_t generation)
{
	struct wire_ACCUSED m = { .role = (uint8_t)peer, .generation = generation };
	struct buf b;

	buf_init(&b, &alloc_libc, 64);
	if (role->to_super && wire_put_ACCUSED(&b, &m))
		role->to_super(role, WIRE_ACCUSED, buf_view(&b));
	buf_free(&b);
}
