/* check.h - what the files of conf_check share; see check.c.
 *
 * A check returns 0, or -1 after conf_refuse (or when memory is out).
 */
#ifndef CONF_CHECK_H
#define CONF_CHECK_H
#include "conf/inside.h"

struct check {
	struct conf *c;
	const char *path;
	struct error *e;
};

/* The line of a setting; where it was not given, that of its section. */
#define SPOT(k, nth, row) (&(struct conf_spot){ (k)->path, conf_line((k)->c, (nth), (row)), (k)->e })

void *conf_check_take(const struct check *, size_t size); /* memory of the configuration; NULL: told */
/* The line of one item of a list. */
struct conf_spot conf_check_item(const struct check *, size_t nth, unsigned row_number, size_t item);

int conf_check_listeners(const struct check *); /* check_listen.c */

#endif
