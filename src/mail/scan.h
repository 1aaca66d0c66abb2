/* scan.h - what a header says, seen while a message passes.
 *
 * Feed the octets of a message in pieces of any size; the scan counts Received lines (RFC 5321 6.3: the loop
 * detection), notes which other fields are there, and finds where the header ends.  It needs no memory beyond the
 * struct and never fails; a zeroed struct is the start.  Field names are compared without case (RFC 5322 1.2.2); blanks
 * between name and colon are taken (RFC 5322 4.5.8).  A line that is no field ends the header, as the empty line does.
 */
#ifndef MAIL_SCAN_H
#define MAIL_SCAN_H
#include "base/view.h"

enum mail_field {
	MAIL_FIELD_RECEIVED = 1,
	MAIL_FIELD_RETURN_PATH = 2,
	MAIL_FIELD_DELIVERED_TO = 4,
	MAIL_FIELD_DATE = 8,
	MAIL_FIELD_MESSAGE_ID = 16,
	MAIL_FIELD_SUBJECT = 32,
	MAIL_FIELD_FROM = 64,
	MAIL_FIELD_TLS_NO = 128 /* TLS-Required: No (RFC 8689 3); another value says nothing */
};

/* One more than the longest name that we look for ("delivered-to"): longer names are none of ours. */
#define MAIL_SCAN_NAME 13

struct mail_scan {
	uint32_t received; /* Received fields so far */
	unsigned fields;   /* bits of enum mail_field */
	bool header_done;
	uint64_t header_end; /* when done: octets of the header, without the empty line */
	uint64_t body_start; /* when done: offset of the first octet of the body */
	/* private */
	uint64_t at, line;
	unsigned char state, length, value_n;
	bool in_tls; /* the present field is TLS-Required */
	char name[MAIL_SCAN_NAME], value[3];
};

void mail_scan_bytes(struct mail_scan *, struct view);
/* The message ended: a header without a body is complete too. */
void mail_scan_end(struct mail_scan *);

#endif
