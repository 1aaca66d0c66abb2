/* config_sample.c - the annotated sample: every setting with what it does, defaults commented out; see config.h. */
#include "config.h"

/* Text in comments is wrapped here: it shall be readable in a terminal. */
#define COLUMNS 100

/* Words of text as comment lines. */
static bool comment(struct buf *to, const char *indent, const char *text)
{
	bool ok = true;
	size_t column = 0;
	for (struct view rest = view_cstr(text); rest.n;) {
		const size_t n = view_find(rest, ' ');
		if (column == 0 || column + 1 + n > COLUMNS) {
			ok = ok && buf_addf(to, "%s%s#", column ? "\n" : "", indent);
			column = 1 + strlen(indent);
		}
		ok = ok && buf_addf(to, " %.*s", (int)n, rest.p);
		column += n + 1;
		rest = view_slice(rest, n + 1, rest.n);
	}
	return ok && buf_add(to, VIEW("\n"));
}

/* What is not its default, or says nothing as its default, is active; the rest shows what holds anyway. */
static bool active(const struct conf_row *row)
{
	return !row->fallback || row == &conf_rows[CONF_ROW_RELAY_from] || row == &conf_rows[CONF_ROW_STS_POLICY_mx];
}

static bool setting(struct buf *to, const struct conf_row *row, const char *indent)
{
	char facts[CONFIG_FACTS_SIZE];
	const char *example = config_example(row);
	return example && comment(to, indent, row->help) &&
	       buf_addf(to, "%s# (%s)\n", indent, config_facts(row, facts)) &&
	       buf_addf(to, "%s%s%s = %s\n", indent, active(row) ? "" : "#", row->name, example);
}

static bool section(struct buf *to, enum conf_tag tag)
{
	const struct conf_kind *kind = &conf_kinds[tag];
	const bool inside = kind->word[0] != '\0';
	bool ok = buf_add(to, VIEW("\n")) && comment(to, "", kind->help) &&
	          (!kind->many || comment(to, "", "There may be several.")) && (inside || buf_add(to, VIEW("\n")));
	if (inside)
		ok = ok && buf_addf(to, "%s ", kind->word) &&
		     (!kind->titled || buf_addf(to, "\"%s\" ", config_title(tag))) && buf_add(to, VIEW("{\n"));
	for (unsigned i = kind->first; i < conf_kinds[tag + 1].first; i++)
		ok = ok && (i == kind->first || buf_add(to, VIEW("\n"))) &&
		     setting(to, &conf_rows[i], inside ? "\t" : "");
	return ok && (!inside || buf_add(to, VIEW("}\n")));
}

bool config_print_sample(struct buf *to)
{
	bool ok = comment(to, "",
	                  "postrider.conf - every setting of Postrider, with its default behind a # sign. "
	                  "The manual is postrider.conf(5); `postrider config check` judges a file, "
	                  "`postrider config show` shows what is in effect. "
	                  "This file is printed from spec/config.def.");
	for (enum conf_tag tag = CONF_TAG_GLOBAL; tag < CONF_TAG_END; tag++)
		ok = ok && section(to, tag);
	return ok;
}
