/* value.c - one value, by its type, from text to field; see inside.h.
 *
 * Says for every refusal what would be right, from the row itself: its choices, its bounds, its unit.
 */
#include "conf/inside.h"
#include "conf/parts.h"

#include <stdio.h>

/* "none, starttls, required or implicit" */
static const char *choices(const struct conf_row *row, char *to, size_t size)
{
	size_t n = 0;
	to[0] = '\0';
	for (unsigned i = 1; conf_choice_word(row, i).p && n < size; i++) {
		const char *between = i == 1 ? "" : conf_choice_word(row, i + 1).p ? ", " : " or ";
		n += (size_t)snprintf(to + n, size - n, "%s%.*s", between, VIEW_ARGS(conf_choice_word(row, i)));
	}
	return to;
}

static int put_choice(unsigned *field, const struct conf_row *row, const char *text, const struct conf_spot *spot)
{
	char words[160];
	for (unsigned i = 1; conf_choice_word(row, i).p; i++)
		if (view_eq(conf_choice_word(row, i), view_cstr(text))) {
			*field = i;
			return 0;
		}
	return conf_refuse(spot, "%s = \"%.64s\" is not known; write %s", row->name, text,
	                   choices(row, words, sizeof words));
}

static int put_flag(bool *field, const struct conf_row *row, const char *text, const struct conf_spot *spot)
{
	static const char *const words[] = { "false", "true", "no", "yes", "off", "on" };
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcmp(words[i], text) == 0) {
			*field = i % 2;
			return 0;
		}
	return conf_refuse(spot, "%s = \"%.64s\" is neither true nor false; write true or false", row->name, text);
}

static bool quantity(enum conf_type type, struct view text, uint64_t *out)
{
	switch (type) {
	case CONF_TYPE_SIZE:
		return conf_size_parse(text, out);
	case CONF_TYPE_DURATION:
		return conf_duration_parse(text, out);
	default:
		return view_to_u64(text, out);
	}
}

static int put_quantity(uint64_t *field, const struct conf_row *row, const char *text, const struct conf_spot *spot)
{
	const char *least, *most;
	uint64_t number, low, high;
	if (!quantity(row->type, view_cstr(text), &number)) {
		const char *right = row->type == CONF_TYPE_SIZE ? "write octets like 52428800 or 50M (K, M, G, T)"
		                    : row->type == CONF_TYPE_DURATION
		                            ? "write a number and its unit, like 30s, 5m, 4h or 5d"
		                            : "write a plain number";
		return conf_refuse(spot, "%s = \"%.64s\" is no %s; %s", row->name, text,
		                   row->type == CONF_TYPE_SIZE       ? "size"
		                   : row->type == CONF_TYPE_DURATION ? "duration"
		                                                     : "number",
		                   right);
	}
	if (conf_row_range(row, &least, &most) && quantity(row->type, view_cstr(least), &low) &&
	    quantity(row->type, view_cstr(most), &high) && (number < low || number > high))
		return conf_refuse(spot, "%s = %.64s is too %s; it must be between %s and %s", row->name, text,
		                   number < low ? "small" : "large", least, most);
	*field = number;
	return 0;
}

static int put_text(const char **field, const char *text, struct arena *arena, const struct conf_spot *spot)
{
	*field = arena_cstr(arena, view_cstr(text));
	return *field ? 0 : error_set(spot->e, ERROR_AGAIN, "%s: out of memory", spot->path);
}

static int put_path(const char **field, const struct conf_row *row, const char *text, const char *folder,
                    struct arena *arena, const struct conf_spot *spot)
{
	char joined[2 * CONF_VALUE_MAX];
	if (text[0] == '/' || text[0] == '\0' || folder[0] == '\0')
		return put_text(field, text, arena, spot);
	if (snprintf(joined, sizeof joined, "%s%s", folder, text) > CONF_VALUE_MAX)
		return conf_refuse(spot, "%s: the path is longer than %d octets together with its folder", row->name,
		                   CONF_VALUE_MAX);
	return put_text(field, joined, arena, spot);
}

int conf_value_put(void *set, const struct conf_row *row, const char *text, const char *folder, struct arena *arena,
                   const struct conf_spot *spot)
{
	void *field = (char *)set + row->offset;
	/* an empty value means "none", and only where none is what the table has */
	if (text[0] == '\0' && !(row->fallback && row->fallback[0] == '\0'))
		return conf_refuse(spot, "%s is empty; %s", row->name,
		                   row->fallback ? "give it a value or remove the line" : "give it a value");
	switch (row->type) {
	case CONF_TYPE_STR:
		return put_text(field, text, arena, spot);
	case CONF_TYPE_PATH:
		return put_path(field, row, text, folder, arena, spot);
	case CONF_TYPE_SIZE:
	case CONF_TYPE_COUNT:
	case CONF_TYPE_DURATION:
		return put_quantity(field, row, text, spot);
	case CONF_TYPE_CHOICE:
		return put_choice(field, row, text, spot);
	case CONF_TYPE_FLAG:
		return put_flag(field, row, text, spot);
	case CONF_TYPE_LIST:
		break; /* by conf_value_put_list */
	}
	return error_set(spot->e, ERROR_OURS, "%s is a list", row->name);
}

int conf_value_put_list(void *set, const struct conf_row *row, const char *const *items, size_t n, struct arena *arena,
                        const struct conf_spot *spot)
{
	struct conf_list *list = (struct conf_list *)((char *)set + row->offset);
	if (n == 0 && !row->fallback)
		return conf_refuse(spot, "%s is empty; write %s = {\"%s\"}", row->name, row->name, row->unit);
	list->items = arena_take(arena, n * sizeof *list->items);
	if (!list->items)
		return error_set(spot->e, ERROR_AGAIN, "%s: out of memory", spot->path);
	for (size_t i = 0; i < n; i++)
		if (put_text(&list->items[i], items[i], arena, spot) == -1)
			return -1;
	list->n = n;
	return 0;
}
