/* fields.h - the shape that the TXT records of MTA-STS and TLS-RPT share: version, then name=value between semicolons.
 *
 * RFC 8461 3.1 and RFC 8460 3 have the same ABNF but for what a value may hold.  Private to sts.c and rpt.c.
 */
#ifndef ROUTE_FIELDS_H
#define ROUTE_FIELDS_H
#include "base/view.h"

/* Is the record's first field this version, with a semicolon behind it? */
bool fields_begin(struct view record, struct view version);
/* Takes the next field off the front of what follows the version (field-delim first).  1; 0 at the end; -1: malformed. */
int fields_next(struct view *rest, struct view *name, struct view *value);
/* (ALPHA / DIGIT) *31(ALPHA / DIGIT / "_" / "-" / ".") */
bool fields_name(struct view name);
/* 1*(%x21-3A / %x3C / %x3E-7E): of fields that nobody knows */
bool fields_value(struct view value);

#endif
