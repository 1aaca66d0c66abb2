/* wire.c - frames between roles, and the lists inside them: what decodes is encoded again to the same octets.
 *
 * Input: the type of the frame, or of a list (0xfd rcpts, 0xfe results, 0xff records), then the payload.
 */
#include "input.h"

#include "base/buf.h"
#include "wire/wire.h"

#define LIST(id, kind)                                                                              \
	static void list_##id(struct view v)                                                        \
	{                                                                                           \
		struct view whole = v;                                                              \
		struct kind item;                                                                   \
		struct buf out;                                                                     \
		int next;                                                                           \
                                                                                                    \
		buf_init(&out, &alloc_libc, 1 << 22);                                               \
		while ((next = kind##_next(&v, &item)) == 1)                                        \
			assert(kind##_add(&out, &item));                                            \
		assert(next == 0 || next == -1);                                                    \
		assert(buf_len(&out) <= whole.n && (next == -1 || view_eq(buf_view(&out), whole))); \
		buf_free(&out);                                                                     \
	}
LIST(rcpts, wire_rcpt)
LIST(results, wire_result)
LIST(records, wire_record)

#define MESSAGE(id, from, to, fd, fields)                                      \
	static void frame_##id(struct view v)                                  \
	{                                                                      \
		struct wire_##id m;                                            \
		struct buf out;                                                \
                                                                               \
		if (wire_read_##id(v, &m))                                     \
			return;                                                \
		buf_init(&out, &alloc_libc, 1 << 22);                          \
		assert(wire_put_##id(&out, &m) && view_eq(buf_view(&out), v)); \
		buf_free(&out);                                                \
	}
#include "wire/messages.def"

static void (*const frames[])(struct view) = {
	NULL,
#define MESSAGE(id, from, to, fd, fields) frame_##id,
#include "wire/messages.def"
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n };
	unsigned type = input_byte(&in);
	char *exact = input_copy(view_of((const char *)in.p, in.n));
	struct view v = view_of(exact, in.n);

	if (type == 0xfd)
		list_rcpts(v);
	else if (type == 0xfe)
		list_results(v);
	else if (type == 0xff)
		list_records(v);
	else if (type && type < WIRE_END)
		frames[type](v);
	for (unsigned from = ROLE_SUPER; from <= ROLE_WORKER && type < WIRE_END; from++)
		for (unsigned to = ROLE_SUPER; to <= ROLE_WORKER; to++)
			assert(type || !wire_allowed(type, from, to));
	free(exact);
	return 0;
}
