/* tlsrpt_read.h - a TLS-RPT report of somebody else's, from whatever it came in: JSON, gzip of it, or the whole mail (RFC 8460 5). */
#ifndef CMD_TLSRPT_READ_H
#define CMD_TLSRPT_READ_H
#include "base/buf.h"

#include <jansson.h>

#define TLSRPT_FILE_MAX (16u << 20) /* a report of a large site is some hundred KiB */
#define TLSRPT_JSON_MAX (64u << 20) /* unpacked: more is a bomb and no report */

/* The report's object, to be given back by json_decref; NULL and why it is none. */
json_t *tlsrpt_read(struct view file, const char **why);

#endif
