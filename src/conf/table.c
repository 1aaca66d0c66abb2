/* table.c - see table.h. */
#include "conf/table.h"

#define REQUIRED NULL

#define STRUCT_GLOBAL struct conf_global_set
#define STRUCT_CERTIFICATE struct conf_certificate_set
#define STRUCT_LISTENER struct conf_listener_set
#define STRUCT_DOMAIN struct conf_domain_set
#define STRUCT_ROUTE struct conf_route_set
#define STRUCT_RELAY struct conf_relay_set
#define STRUCT_STS_POLICY struct conf_sts_policy_set
#define STRUCT_DKIM struct conf_dkim_set
#define STRUCT_WEB struct conf_web_set
#define STRUCT_TLS_REPORT struct conf_tls_report_set

const struct conf_row conf_rows[CONF_ROW_END] = {
#define SECTION(TAG, word, titled, many, help)
#define SETTING(TAG, name_, type_, fallback_, unit_, help_)                                                            \
	[CONF_ROW_##TAG##_##name_] = { .tag = CONF_TAG_##TAG,                                                          \
	                               .type = CONF_TYPE_##type_,                                                      \
	                               .name = #name_,                                                                 \
	                               .fallback = fallback_,                                                          \
	                               .unit = unit_,                                                                  \
	                               .help = help_,                                                                  \
	                               .offset = offsetof(STRUCT_##TAG, name_) },
#include "spec/config.def"
};

const struct conf_kind conf_kinds[CONF_TAG_END + 1] = {
#define SECTION(TAG, word_, titled_, many_, help_)                                                                     \
	[CONF_TAG_##TAG] = {                                                                                           \
		.word = word_, .help = help_, .titled = titled_, .many = many_, .first = CONF_FIRST_##TAG              \
	},
#define SETTING(TAG, name, type, fallback, unit, help)
#include "spec/config.def"
	[CONF_TAG_END] = { .word = "", .help = "", .first = CONF_ROW_END },
};

static const struct range {
	enum conf_row_number row;
	const char *least, *most;
} ranges[] = {
#define SECTION(TAG, word, titled, many, help)
#define SETTING(TAG, name, type, fallback, unit, help)
#define RANGE(TAG, name, least, most) { CONF_ROW_##TAG##_##name, least, most },
#include "spec/config.def"
};

bool conf_row_range(const struct conf_row *row, const char **least, const char **most)
{
	for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
		if (&conf_rows[ranges[i].row] == row) {
			*least = ranges[i].least;
			*most = ranges[i].most;
			return true;
		}
	return false;
}

const struct conf_row *conf_row_find(enum conf_tag tag, struct view name)
{
	for (unsigned i = conf_kinds[tag].first; i < conf_kinds[tag + 1].first; i++)
		if (view_eq(view_cstr(conf_rows[i].name), name))
			return &conf_rows[i];
	return NULL;
}

enum conf_tag conf_tag_find(struct view word)
{
	for (enum conf_tag tag = CONF_TAG_GLOBAL; word.n && tag < CONF_TAG_END; tag++)
		if (view_eq(view_cstr(conf_kinds[tag].word), word))
			return tag;
	return CONF_TAG_END;
}

struct view conf_choice_word(const struct conf_row *row, unsigned i)
{
	struct view rest = view_cstr(row->unit);
	for (;;) {
		const size_t n = view_find(rest, ' ');
		if (rest.n == 0)
			return view_of(NULL, 0);
		if (--i == 0)
			return view_slice(rest, 0, n);
		rest = view_slice(rest, n + 1, rest.n);
	}
}
