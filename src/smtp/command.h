/* command.h - a command line as verb and argument (RFC 5321 2.4, 4.1.1).
 *
 * Verbs are compared without case; blanks behind the line are tolerated (RFC 5321 4.1.1).  Enum, names and limits come
 * from the one list SMTP_VERBS.  What is somebody's HTTP request is told apart, so that the session can be dropped: a
 * browser can be made to speak to port 25, and what it says must not be taken for mail.
 * Views borrow from the line.  Nothing here fails: what is no command is SMTP_VERB_UNKNOWN.
 */
#ifndef SMTP_COMMAND_H
#define SMTP_COMMAND_H
#include "base/view.h"
#include "smtp/limits.h"

/*        verb       octets of its line at most */
#define SMTP_VERBS(X)                        \
	X(EHLO, SMTP_LINE_MAX)               \
	X(HELO, SMTP_LINE_MAX)               \
	X(LHLO, SMTP_LINE_MAX)               \
	X(STARTTLS, SMTP_LINE_MAX)           \
	X(AUTH, SMTP_AUTH_LINE_MAX)          \
	X(MAIL, SMTP_ENVELOPE_LINE_MAX)      \
	X(RCPT, SMTP_ENVELOPE_LINE_MAX)      \
	X(DATA, SMTP_LINE_MAX)               \
	X(BDAT, SMTP_LINE_MAX)               \
	X(RSET, SMTP_LINE_MAX)               \
	X(NOOP, SMTP_LINE_MAX)               \
	X(VRFY, SMTP_LINE_MAX)               \
	X(EXPN, SMTP_LINE_MAX)               \
	X(HELP, SMTP_LINE_MAX)               \
	X(QUIT, SMTP_LINE_MAX)

enum smtp_verb {
	SMTP_VERB_UNKNOWN = 1,
	SMTP_VERB_HTTP, /* a request line or header field of HTTP */
#define X(verb, limit) SMTP_VERB_##verb,
	SMTP_VERBS(X)
#undef X
	SMTP_VERB_END_
};

struct smtp_command {
	enum smtp_verb verb;
	struct view word;     /* the first word as said */
	struct view argument; /* behind one blank, without blanks at its end; more blanks at its head are kept for the
	                       * command's own grammar to judge */
	bool has_argument;    /* argument.n > 0 */
};

/* line: without CR LF. */
struct smtp_command smtp_command_parse(struct view line);
/* How long the line that begins with head may be, CR LF included.  head may be any beginning of it, also nothing. */
size_t smtp_command_limit(struct view head);
const char *smtp_verb_name(enum smtp_verb);

/* The name in EHLO, HELO, LHLO: a domain or an address literal (RFC 5321 4.1.1.1); utf8 allows U-labels (RFC 6531
 * 3.7.1).  An underscore is let pass, since Windows hosts say it and the name decides nothing. */
bool smtp_hello_valid(struct view name, bool utf8);

#endif
