/* inside.h - what the files of src/conf share: the memory behind a struct conf, and the steps of making one.
 *
 * Steps, in order: outline (shape and lines) -> libconfuse (values as strings) -> value (each by its type) ->
 * check (each section's own rules, then what relates sections) -> index of domains.
 */
#ifndef CONF_INSIDE_H
#define CONF_INSIDE_H
#include "base/arena.h"
#include "conf/outline.h"

/* A configuration of 100,000 domains with every setting given takes less than this. */
#define CONF_MEMORY_MAX (256u << 20)

struct conf_domain_key {
	const char *name; /* A-labels, lower case */
	const struct conf_domain *domain;
};

struct conf_memory {
	struct arena arena;
	struct outline outline;
	const char *path; /* as given to conf_parse */
	char *text;       /* the whole configuration, for handoff_read */
	size_t text_n;
	const struct outline_section **by_tag[CONF_TAG_END]; /* each kind's sections, in the order of the arrays of conf */
	size_t count[CONF_TAG_END];
	struct conf_domain_key *keys; /* sorted by name; domain_count of them */
	bool tls_defaulted;           /* no certificate section: listeners without a `tls` setting got none */
};

/* The lines of a section's settings; NULL for an untitled section that is not in the text. */
const struct outline_section *conf_lines(const struct conf *, enum conf_tag, size_t nth);
unsigned conf_line(const struct conf *, size_t nth, unsigned row_number);
bool conf_given(const struct conf *, size_t nth, unsigned row_number);

/* The nth struct conf_TAG_set, as bytes for a row's offset. */
const void *conf_set(const struct conf *, enum conf_tag, size_t nth);
const char *conf_title(const struct conf *, enum conf_tag, size_t nth); /* NULL: untitled */
size_t conf_section_count(const struct conf *, enum conf_tag);

/* Puts one value into its field.  folder: what relative paths begin at, "" or ending in /. */
int conf_value_put(void *set, const struct conf_row *row, const char *text, const char *folder, struct arena *,
                   const struct conf_spot *);
int conf_value_put_list(void *set, const struct conf_row *row, const char *const *items, size_t n, struct arena *,
                        const struct conf_spot *);

/* Everything that one value's type does not tell. */
int conf_check(struct conf *, const char *path, struct error *);

#endif
