/* config.h - the pages that are printed from spec/config.def: the manual page and the annotated sample.
 *
 * Both walk the same rows as the parser (conf/table.h), so no page can tell of a setting that is not there, or miss
 * one.
 */
#ifndef GEN_CONFIG_H
#define GEN_CONFIG_H
#include "base/buf.h"
#include "conf/table.h"

/* All of a page at once; false when the buffer is full or a required setting has no example. */
bool config_print_man(struct buf *to);
bool config_print_sample(struct buf *to);

/* How a setting would be written: its default, or for a required one an example; NULL when there is none yet. */
const char *config_example(const struct conf_row *row);
/* An example title for a section; "" when it has none. */
const char *config_title(enum conf_tag tag);
/* "octets; 1 to 1024G; default 52428800": unit, bounds and default in words. */
#define CONFIG_FACTS_SIZE 200
const char *config_facts(const struct conf_row *row, char to[CONFIG_FACTS_SIZE]);

#endif
