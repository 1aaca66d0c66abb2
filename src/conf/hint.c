/* hint.c - what an unknown name was probably meant to be.
 *
 * Pure.  The nearest name by edit distance, when it is near enough that the guess is more help than noise; else the
 * section where a setting of just this name exists.
 */
#include "conf/outline.h"

#include <stdio.h>

#define NAME_MAX_OCTETS 32 /* no name of the table is longer; longer words get no hint */

/* Levenshtein's distance, case ignored and - taken for _, because those are the commonest slips. */
static unsigned distance(struct view a, struct view b)
{
	unsigned row[NAME_MAX_OCTETS + 1];
	if (a.n > NAME_MAX_OCTETS || b.n > NAME_MAX_OCTETS)
		return NAME_MAX_OCTETS;
	for (unsigned j = 0; j <= b.n; j++)
		row[j] = j;
	for (unsigned i = 1; i <= a.n; i++) {
		unsigned diagonal = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= b.n; j++) {
			const char ca = a.p[i - 1] == '-' ? '_' : view_lower(a.p[i - 1]);
			const unsigned change = diagonal + (ca != b.p[j - 1]);
			const unsigned least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
			diagonal = row[j];
			row[j] = change < least ? change : least;
		}
	}
	return row[b.n];
}

struct nearest {
	const char *name;
	unsigned distance;
};

static void consider(struct nearest *best, struct view typed, const char *name)
{
	const struct view v = view_cstr(name);
	const unsigned d = v.n ? distance(typed, v) : NAME_MAX_OCTETS;
	/* a third of the word may be wrong: one letter of three, two of six; a beginning of three letters is a guess
	 * too */
	const bool near = d <= (v.n + 2) / 3 || (typed.n >= 3 && view_starts_nocase(v, typed));
	if (near && d < best->distance)
		*best = (struct nearest){ name, d };
}

const char *conf_hint_setting(enum conf_tag tag, struct view name, char to[CONF_HINT_SIZE])
{
	struct nearest best = { NULL, NAME_MAX_OCTETS };
	to[0] = '\0';
	/* the right name in the wrong place is the better guess */
	for (unsigned i = 0; i < CONF_ROW_END; i++)
		if (view_eq(view_cstr(conf_rows[i].name), name) && conf_rows[i].tag != tag) {
			if (conf_rows[i].tag == CONF_TAG_GLOBAL)
				snprintf(to, CONF_HINT_SIZE, "; it belongs outside any section");
			else
				snprintf(to, CONF_HINT_SIZE, "; it belongs inside a section %s { ... }",
				         conf_kinds[conf_rows[i].tag].word);
			return to;
		}
	for (unsigned i = conf_kinds[tag].first; i < conf_kinds[tag + 1].first; i++)
		consider(&best, name, conf_rows[i].name);
	if (best.name)
		snprintf(to, CONF_HINT_SIZE, "; did you mean %s?", best.name);
	return to;
}

const char *conf_hint_section(struct view name, char to[CONF_HINT_SIZE])
{
	struct nearest best = { NULL, NAME_MAX_OCTETS };
	to[0] = '\0';
	for (enum conf_tag tag = CONF_TAG_GLOBAL; tag < CONF_TAG_END; tag++)
		consider(&best, name, conf_kinds[tag].word);
	if (best.name)
		snprintf(to, CONF_HINT_SIZE, "; did you mean %s?", best.name);
	return to;
}
