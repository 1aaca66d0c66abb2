/* show.c - the effective values: as a file that parses to an equal struct, and as JSON; see conf.h.
 *
 * Every setting of every section, defaults included, so that what is not in the file can be seen too.
 * Failure: -1 when the buffer is full or memory is out.
 */
#include "base/buf.h"
#include "conf/inside.h"
#include "conf/parts.h"

#include <jansson.h>
#include <stdlib.h>

/* A string in the quotes of the file: only the backslash and the quote need a backslash before them. */
static bool add_quoted(struct buf *out, const char *text)
{
	bool ok = buf_add(out, VIEW("\""));
	for (const char *p = text; *p; p++)
		ok = ok && (*p != '"' && *p != '\\' ? true : buf_add(out, VIEW("\\"))) && buf_add(out, view_of(p, 1));
	return ok && buf_add(out, VIEW("\""));
}

static bool add_list(struct buf *out, const struct conf_list *list)
{
	bool ok = buf_add(out, VIEW("{"));
	for (size_t i = 0; i < list->n; i++)
		ok = ok && (i == 0 || buf_add(out, VIEW(", "))) && add_quoted(out, list->items[i]);
	return ok && buf_add(out, VIEW("}"));
}

static bool add_value(struct buf *out, const struct conf_row *row, const void *set)
{
	const void *field = (const char *)set + row->offset;
	char text[CONF_QUANTITY_TEXT];
	switch (row->type) {
	case CONF_TYPE_STR:
	case CONF_TYPE_PATH:
		return add_quoted(out, *(const char *const *)field);
	case CONF_TYPE_SIZE:
	case CONF_TYPE_COUNT:
		return buf_addf(out, "%llu", (unsigned long long)*(const uint64_t *)field);
	case CONF_TYPE_DURATION:
		return buf_addf(out, "%s", conf_duration_text(*(const uint64_t *)field, text));
	case CONF_TYPE_LIST:
		return add_list(out, field);
	case CONF_TYPE_CHOICE:
		return buf_add(out, conf_choice_word(row, *(const unsigned *)field));
	case CONF_TYPE_FLAG:
		return buf_addf(out, "%s", *(const bool *)field ? "true" : "false");
	}
	return false;
}

/* A listener without TLS names no certificate: the default title would be one that does not exist. */
static bool shown(const struct conf *c, size_t nth, unsigned row_number)
{
	if (row_number != CONF_ROW_LISTENER_certificate)
		return true;
	return c->listeners[nth].certificate_count || conf_given(c, nth, row_number);
}

static bool show_section(const struct conf *c, enum conf_tag tag, size_t nth, struct buf *out)
{
	const struct conf_kind *kind = &conf_kinds[tag];
	const char *title = conf_title(c, tag, nth);
	bool ok = true;
	if (kind->word[0])
		ok = buf_addf(out, "\n%s ", kind->word) &&
		     (!title || (add_quoted(out, title) && buf_add(out, VIEW(" ")))) && buf_add(out, VIEW("{\n"));
	for (unsigned i = kind->first; i < conf_kinds[tag + 1].first; i++)
		if (shown(c, nth, i))
			ok = ok && buf_addf(out, "%s%s = ", kind->word[0] ? "\t" : "", conf_rows[i].name) &&
			     add_value(out, &conf_rows[i], conf_set(c, tag, nth)) && buf_add(out, VIEW("\n"));
	return ok && (!kind->word[0] || buf_add(out, VIEW("}\n")));
}

int conf_show(const struct conf *c, struct buf *out)
{
	for (enum conf_tag tag = CONF_TAG_GLOBAL; tag < CONF_TAG_END; tag++)
		for (size_t i = 0; i < conf_section_count(c, tag); i++)
			if (!show_section(c, tag, i, out))
				return -1;
	return 0;
}

/* ---- JSON: sizes in octets, durations in milliseconds, both as numbers ---- */

static json_t *json_value(const struct conf_row *row, const void *set)
{
	const void *field = (const char *)set + row->offset;
	switch (row->type) {
	case CONF_TYPE_STR:
	case CONF_TYPE_PATH:
		return json_string(*(const char *const *)field);
	case CONF_TYPE_SIZE:
	case CONF_TYPE_COUNT:
	case CONF_TYPE_DURATION:
		return json_integer((json_int_t) * (const uint64_t *)field);
	case CONF_TYPE_CHOICE: {
		const struct view word = conf_choice_word(row, *(const unsigned *)field);
		return json_stringn(word.p, word.n);
	}
	case CONF_TYPE_FLAG:
		return json_boolean(*(const bool *)field);
	case CONF_TYPE_LIST:
		break;
	}
	const struct conf_list *list = field;
	json_t *array = json_array();
	for (size_t i = 0; array && i < list->n; i++)
		if (json_array_append_new(array, json_string(list->items[i])) == -1) {
			json_decref(array);
			return NULL;
		}
	return array;
}

static int json_settings(const struct conf *c, enum conf_tag tag, size_t nth, json_t *to)
{
	for (unsigned i = conf_kinds[tag].first; i < conf_kinds[tag + 1].first; i++)
		if (shown(c, nth, i) &&
		    json_object_set_new(to, conf_rows[i].name, json_value(&conf_rows[i], conf_set(c, tag, nth))) == -1)
			return -1;
	return 0;
}

/* { hostname: .., listener: { "mx": { .. } }, relay: { .. } } */
static int json_all(const struct conf *c, json_t *root)
{
	for (enum conf_tag tag = CONF_TAG_GLOBAL; tag < CONF_TAG_END; tag++) {
		const struct conf_kind *kind = &conf_kinds[tag];
		json_t *in = root;
		if (kind->word[0]) {
			in = json_object();
			if (json_object_set_new(root, kind->word, in) == -1)
				return -1;
		}
		for (size_t i = 0; i < conf_section_count(c, tag); i++) {
			json_t *section = in;
			if (kind->titled) {
				section = json_object();
				if (json_object_set_new(in, conf_title(c, tag, i), section) == -1)
					return -1;
			}
			if (json_settings(c, tag, i, section) == -1)
				return -1;
		}
	}
	return 0;
}

int conf_show_json(const struct conf *c, struct buf *out)
{
	json_t *root = json_object();
	char *text = root && json_all(c, root) == 0 ? json_dumps(root, JSON_INDENT(2)) : NULL;
	const bool ok = text && buf_add(out, view_cstr(text)) && buf_add(out, VIEW("\n"));
	free(text);
	json_decref(root);
	return ok ? 0 : -1;
}
