/* conf.c - configuration text: refused with words, or a struct whose printed form means the same.
 *
 * Input: the text.  Kept small (max_len in tests/fuzz/run): libconfuse ends the process when its memory is out.
 */
#include "input.h"

#include "base/buf.h"
#include "conf/conf.h"

#include <stdio.h>

#define WARNINGS 16

static void print(const struct conf *c, struct buf *out)
{
	buf_init(out, &alloc_libc, 1 << 24);
	assert(conf_show(c, out) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct conf_warning warnings[WARNINGS];
	struct buf first, second, json;
	struct conf *c = NULL, *again = NULL;
	struct error e = { 0 };
	char *text = input_copy(view_of((const char *)data, n));

	if (conf_parse(&c, view_of(text, n), "/etc/postrider/p.conf", &e) == -1) {
		assert(e.class && e.text[0] && memchr(e.text, '\0', sizeof e.text));
		free(text);
		return 0;
	}
	free(text); /* nothing of it is borrowed */
	conf_warnings(c, warnings, WARNINGS);
	print(c, &first);
	if (conf_parse(&again, buf_view(&first), "/etc/postrider/p.conf", &e) == -1) {
		fprintf(stderr, "%s in:\n%.*s\n", e.text, VIEW_ARGS(buf_view(&first)));
		abort();
	}
	print(again, &second);
	assert(view_eq(buf_view(&first), buf_view(&second)));
	buf_init(&json, &alloc_libc, 1 << 24);
	assert(conf_show_json(c, &json) == 0);
	buf_free(&json);
	buf_free(&first);
	buf_free(&second);
	conf_free(c);
	conf_free(again);
	return 0;
}
