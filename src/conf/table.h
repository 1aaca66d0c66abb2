/* table.h - spec/config.def as data: what a section is, what a setting is, where its value lives.
 *
 * Everything that treats settings alike (parser, `config show`, tests) walks these rows; there is no second list.
 * All of it is constant.  Private to src/conf and its tests.
 */
#ifndef CONF_TABLE_H
#define CONF_TABLE_H
#include "conf/conf.h"

enum conf_type {
	CONF_TYPE_STR = 1,
	CONF_TYPE_PATH,
	CONF_TYPE_SIZE,
	CONF_TYPE_COUNT,
	CONF_TYPE_DURATION,
	CONF_TYPE_LIST,
	CONF_TYPE_CHOICE,
	CONF_TYPE_FLAG
};

enum conf_tag {
	CONF_TAG_NONE = 0, /* never legal */
#define SECTION(TAG, word, titled, many, help) CONF_TAG_##TAG,
#define SETTING(TAG, name, type, fallback, unit, help)
#include "spec/config.def"
	CONF_TAG_END
};

/* The number of every setting among all rows: CONF_ROW_LISTENER_tls; they run from 0.  CONF_FIRST_LISTENER is the
 * number of the section's first one (its second name only steps back, so that the first setting gets that number). */
enum conf_row_number {
#define SECTION(TAG, word, titled, many, help) CONF_FIRST_##TAG, CONF_FIRST_BACK_##TAG = CONF_FIRST_##TAG - 1,
#define SETTING(TAG, name, type, fallback, unit, help) CONF_ROW_##TAG##_##name,
#include "spec/config.def"
	CONF_ROW_END
};

struct conf_row {
	enum conf_tag tag;
	enum conf_type type;
	const char *name;
	const char *fallback;     /* NULL: required */
	const char *unit, *help;  /* CHOICE: unit holds the words */
	size_t offset;            /* of the field in its conf_TAG_set */
};

struct conf_kind {
	const char *word, *help;
	bool titled, many;
	unsigned first; /* its first row; they end where the next kind's begin */
};

extern const struct conf_row conf_rows[CONF_ROW_END];
extern const struct conf_kind conf_kinds[CONF_TAG_END + 1]; /* by tag; the last one only ends the rows */

static inline unsigned conf_row_count(enum conf_tag tag)
{
	return conf_kinds[tag + 1].first - conf_kinds[tag].first;
}

/* The row of a setting of this section, or NULL. */
const struct conf_row *conf_row_find(enum conf_tag tag, struct view name);
/* The tag of a section's word, or CONF_TAG_END.  The empty word is no section. */
enum conf_tag conf_tag_find(struct view word);

/* Bounds as they would be written in the file.  False: the row has none. */
bool conf_row_range(const struct conf_row *row, const char **least, const char **most);
/* The i-th of a row's choices, from 1; p NULL behind the last. */
struct view conf_choice_word(const struct conf_row *row, unsigned i);

#endif
