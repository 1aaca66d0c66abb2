/* date.h - times as mail writes them: RFC 5322 3.3, always UTC (no time zone file is read, so a confined role can). */
#ifndef MAIL_DATE_H
#define MAIL_DATE_H
#include <stdint.h>

#define MAIL_DATE_SIZE 32 /* "Tue, 24 Nov 2026 10:28:01 +0000" and its NUL */

/* Writes the date of a wall clock time (ms since the epoch) and returns to.  Times before 1970 and after 9999 are
 * clamped: a broken clock must not break a header. */
const char *mail_date_text(int64_t wall_ms, char to[MAIL_DATE_SIZE]);

#endif
