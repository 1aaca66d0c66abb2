/* report_text.h - a TLS-RPT report as text: the JSON of RFC 8460 section 4, gzipped, and the mail of section 5.3 around it.  Pure.
 *
 * A report is made by begin, add for each result in the order of policies, end.  Words of peers (reasons, policies) become valid UTF-8
 * without control characters.  Memory that ends makes the whole fail.
 */
#ifndef POLICY_REPORT_TEXT_H
#define POLICY_REPORT_TEXT_H
#include "policy/store.h"

#include <jansson.h>

#define REPORT_DAY_S 86400
#define REPORT_BODY_MAX (128u * 1024) /* gzipped: STORE_DETAILS_MAX results are some 20 KiB; as base64 it fits one window of a body */

struct report_about {
	const char *organization, *contact, *submitter, *domain;
	int64_t day;
	const char *id; /* the report's, as a msg-id without brackets */
};

struct report {
	json_t *policies, *policy; /* policy: the one being filled */
	uint8_t type;
	struct buf text;           /* of that policy */
	uint64_t ok, failed;       /* of that policy */
	uint64_t all_ok, all_failed;
	bool broken;
};

void report_begin(struct report *);
void report_add(struct report *, const char *domain, const struct store_result *);
/* The gzipped JSON is appended to `to`.  False: memory, or nothing was added.  The report is over either way. */
bool report_end(struct report *, const struct report_about *, struct buf *to);

const char *report_result_name(unsigned wire_rpt_result); /* RFC 8460 4.3; "success" */
/* RFC 8460 5.1, without the ending. */
void report_file_name(const struct report_about *, char *to, size_t room);

/* The whole message, CRLF.  gz: the report; from, to: addresses. */
bool report_mail(const struct report_about *, const char *from, const char *to, const char *file_name, struct view gz, int64_t now_ms, struct buf *mail);

#endif
