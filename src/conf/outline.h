/* outline.h - the shape of a configuration file: which settings stand where, before libconfuse reads the values.
 *
 * libconfuse lets a repeated setting or section win in silence, expands ${VARIABLES}, follows SECTION|SETTING paths,
 * eats characters it does not know and miscounts lines behind some comments.  So the text is first held against a
 * smaller language, in which all of that is refused with the line where it stands: names, `=`, values in "" or '' or
 * bare words, lists in braces, sections in braces, comments from # to the end of the line.  What passes means the same
 * to libconfuse.
 * Ownership: the outline owns its memory until outline_free; it keeps no pointer into the text.
 */
#ifndef CONF_OUTLINE_H
#define CONF_OUTLINE_H
#include "conf/table.h"

/* A longest value: a path (PATH_MAX) fits, and a lost quote is found near where it was lost. */
#define CONF_VALUE_MAX 4096
/* A configuration of 100,000 domains has less than this. */
#define CONF_TEXT_MAX (16u << 20)

/* Where a message points to. */
struct conf_spot {
	const char *path;
	unsigned line;
	struct error *e;
};
/* Fills spot->e with "PATH:LINE: ..." (class input) and returns -1. */
int conf_refuse(const struct conf_spot *spot, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct outline_setting {
	unsigned line;  /* 0: not given */
	unsigned items; /* of a list */
	unsigned first; /* its first item's index in item_lines */
};

struct outline_section {
	enum conf_tag tag;
	unsigned line;                    /* 0: untitled and not given */
	char *title;                      /* NULL: untitled */
	struct outline_setting *settings; /* by number - conf_kinds[tag].first */
};

struct outline {
	struct outline_section *sections; /* in the order of the text; [0] is what stands outside sections */
	size_t section_count, section_room;
	unsigned *item_lines;
	size_t item_count, item_room;
	unsigned last_line;
};

int outline_read(struct outline *, struct view text, const char *path, struct error *);
void outline_free(struct outline *);

/* The nth (from 0) section of this kind, or NULL. */
const struct outline_section *outline_find(const struct outline *, enum conf_tag tag, size_t nth);
/* The line of a setting, that of its section when it was not given, 1 when there is none either. */
unsigned outline_line(const struct outline_section *, const struct conf_row *row);

/* " (did you mean X?)" for the nearest name, or "" ; `tag` as the section where it stands. */
#define CONF_HINT_SIZE 160
const char *conf_hint_setting(enum conf_tag tag, struct view name, char to[CONF_HINT_SIZE]);
const char *conf_hint_section(struct view name, char to[CONF_HINT_SIZE]);

#endif
