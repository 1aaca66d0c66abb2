/* params.h - the arguments of MAIL and RCPT (RFC 5321 4.1.1.2, 4.1.1.3, 4.1.1.11): path and ESMTP parameters.
 *
 * One call parses everything behind the verb into struct psmtp_mail or psmtp_rcpt.  The argument is copied into the
 * arena once, xtext is decoded there in place, and every view of the result points into that copy.
 * `allowed` says which parameters this session offers now; one that is known and not offered is refused as an unknown
 * one is (RFC 5321 4.1.1.11: 555), so the whole list can also be allowed and `seen` judged by the caller.
 * Failure: the first fault from left to right; the output is then undefined.  Nothing of the arena is given back.
 *
 * Leniency, both common in the field and harmless: blanks between the colon and the path ("MAIL FROM: <a@b>"), and
 * more than one blank between parameters.  A path without angle brackets is refused.
 */
#ifndef SMTP_PARAMS_H
#define SMTP_PARAMS_H
#include <psmtp.h>

#include "base/arena.h"
#include "smtp/limits.h"

enum smtp_param { /* bits */
	SMTP_PARAM_SIZE = 1,
	SMTP_PARAM_BODY = 2,   /* BODY=7BIT, BODY=8BITMIME */
	SMTP_PARAM_BINARY = 4, /* BODY=BINARYMIME */
	SMTP_PARAM_UTF8 = 8,   /* SMTPUTF8 */
	SMTP_PARAM_DSN = 16,   /* RET, ENVID, NOTIFY, ORCPT */
	SMTP_PARAM_AUTH = 32,
	SMTP_PARAM_TLS = 64    /* REQUIRETLS */
};
#define SMTP_PARAM_ALL 127u

/*        fault           code  enhanced  reason for the log        words */
#define SMTP_PARSE_FAULTS(X)                                                                                          \
	X(OK, 0, 0, 0, 0, "", "")                                                                                     \
	/* no FROM: or TO:, no path, or words behind it that are no parameters */                                     \
	X(SYNTAX, 501, 5, 5, 4, "syntax", "Syntax error in the arguments")                                            \
	X(SENDER, 501, 5, 1, 7, "bad_sender", "Bad sender address syntax")                                            \
	X(RECIPIENT, 501, 5, 1, 3, "bad_recipient", "Bad recipient address syntax")                                   \
	/* UTF-8, and SMTPUTF8 was not said (RFC 6531 3.5) */                                                         \
	X(UTF8_SENDER, 553, 5, 6, 7, "utf8_sender", "A UTF-8 address needs SMTPUTF8")                                 \
	X(UTF8_RECIPIENT, 553, 5, 6, 7, "utf8_recipient", "A UTF-8 address needs SMTPUTF8")                           \
	X(UNKNOWN, 555, 5, 5, 4, "unknown_parameter", "Parameter not recognized")                                     \
	X(NOT_OFFERED, 555, 5, 5, 4, "parameter_not_offered", "Parameter not offered here")                           \
	X(VALUE, 501, 5, 5, 4, "bad_parameter", "Syntax error in a parameter")                                        \
	X(TWICE, 501, 5, 5, 4, "parameter_twice", "A parameter was given twice")                                      \
	X(MEMORY, 452, 4, 3, 1, "no_memory", "Out of memory, try again later")

enum smtp_parse_fault {
	SMTP_PARSE_NONE_ = 0,
#define X(id, code, a, b, c, reason, text) SMTP_PARSE_##id,
	SMTP_PARSE_FAULTS(X)
#undef X
	SMTP_PARSE_END_
};

struct smtp_parsed {
	enum smtp_parse_fault fault;
	unsigned seen; /* bits of enum smtp_param, up to the fault */
};

/* argument: what stands behind "MAIL " or "RCPT ".  rcpt_utf8: the transaction's MAIL said SMTPUTF8. */
struct smtp_parsed smtp_mail_parse(struct view argument, unsigned allowed, struct arena *, struct psmtp_mail *);
struct smtp_parsed smtp_rcpt_parse(struct view argument, unsigned allowed, bool rcpt_utf8, struct arena *,
	struct psmtp_rcpt *);

/* Code, enhanced code and words for a fault; text is static.  OK gives code 0. */
struct psmtp_reply smtp_parse_reply(enum smtp_parse_fault);
const char *smtp_parse_reason(enum smtp_parse_fault);

#endif
