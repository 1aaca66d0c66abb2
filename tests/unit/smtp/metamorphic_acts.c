/* metamorphic_acts.c - what can be said, what the caller can answer, and what is asked of a session afterwards.
 *
 * The acts are each command, right and in each way that the rows of spec/server.def tell apart.  A limit of 30 octets
 * and 2 recipients is set by metamorphic.c, so that every limit is within reach of a few acts.
 */
#include "metamorphic.h"

#define SAY(text) { .say = text }
#define TEXT_40 "0123456789012345678901234567890123456789"
#define TEXT_600                                                                                                       \
	TEXT_40 TEXT_40 TEXT_40 TEXT_40 TEXT_40 TEXT_40 TEXT_40 TEXT_40 TEXT_40 TEXT_40 TEXT_40 TEXT_40 TEXT_40 TEXT_40 \
		TEXT_40

const struct act acts[] = {
	SAY("EHLO clear.test\r\n"),
	SAY("EHLO\r\n"),
	SAY("EHLO a b\r\n"),
	SAY("HELO clear.test\r\n"),
	SAY("HELO\r\n"),
	SAY("LHLO clear.test\r\n"),
	SAY("LHLO\r\n"),
	SAY("STARTTLS\r\n"),
	SAY("STARTTLS now\r\n"),
	{ .say = "AUTH PLAIN\r\n", .response = "AGNsZWFyAHB3\r\n" },
	{ .say = "AUTH PLAIN\r\n", .response = "!!!!\r\n" },
	{ .say = "AUTH LOGIN\r\n", .response = "*\r\n" },
	{ .say = "AUTH LOGIN\r\n", .response = "a\nline\r\n" },
	{ .say = "AUTH LOGIN\r\n", .response = TEXT_600 TEXT_600 TEXT_600 TEXT_600 TEXT_600 TEXT_600 TEXT_600 TEXT_600
			TEXT_600 TEXT_600 TEXT_600 TEXT_600 TEXT_600 TEXT_600 TEXT_600 TEXT_600 TEXT_600 TEXT_600 TEXT_600
			TEXT_600 TEXT_600 "\r\n" },
	SAY("AUTH PLAIN AGNsZWFyAHB3\r\n"),
	SAY("AUTH PLAIN !!!\r\n"),
	SAY("AUTH NTLM\r\n"),
	SAY("AUTH\r\n"),
	SAY("MAIL FROM:<clear@b.test>\r\n"),
	SAY("MAIL FROM:<>\r\n"),
	SAY("MAIL FROM:<clear@b.test> SIZE=1\r\n"),
	SAY("MAIL FROM:<clear@b.test> SIZE=999999999\r\n"),
	SAY("MAIL FROM:<clear@b.test> SIZE=x\r\n"),
	SAY("MAIL FROM:<clear@b.test> BODY=8BITMIME\r\n"),
	SAY("MAIL FROM:<clear@b.test> BODY=BINARYMIME\r\n"),
	SAY("MAIL FROM:<clear@b.test> SMTPUTF8\r\n"),
	SAY("MAIL FROM:<clear@b.test> RET=HDRS ENVID=clear\r\n"),
	SAY("MAIL FROM:<clear@b.test> AUTH=<>\r\n"),
	SAY("MAIL FROM:<clear@b.test> REQUIRETLS\r\n"),
	SAY("MAIL FROM:<clear@b.test> XYZZY=1\r\n"),
	SAY("MAIL FROM:<clear@b.test> ENVID=a ENVID=b\r\n"),
	SAY("MAIL FROM:<\xc3\xa4@b.test>\r\n"),
	SAY("MAIL FROM:<a@@b>\r\n"),
	SAY("MAIL\r\n"),
	{ .say = "MAIL FROM:<clear@b.test>\r\n", .tight = true },
	SAY("RCPT TO:<clear@d.test>\r\n"),
	SAY("RCPT TO:<clear@d.test> NOTIFY=NEVER ORCPT=rfc822;clear@d.test\r\n"),
	SAY("RCPT TO:<clear@d.test> NOTIFY=SOMETIMES\r\n"),
	SAY("RCPT TO:<clear@d.test> XYZZY\r\n"),
	SAY("RCPT TO:<\xc3\xa4@d.test>\r\n"),
	SAY("RCPT TO:<c@@d>\r\n"),
	SAY("RCPT\r\n"),
	{ .say = "RCPT TO:<clear@d.test> ORCPT=rfc822;clear@d.test\r\n", .tight = true },
	SAY("DATA\r\n"),
	{ .say = "DATA\r\n", .content = "a\nb\r\n.\r\n" },
	{ .say = "DATA\r\n", .content = "a\rb\r\n.\r\n" },
	{ .say = "DATA\r\n", .content = TEXT_40 "\r\n.\r\n" },
	{ .say = "DATA\r\n", .content = ".\r\n" },
	SAY("DATA now\r\n"),
	SAY("BDAT 3\r\nabc"),
	SAY("BDAT 5\r\na\nbcd"),
	SAY("BDAT 20\r\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n"), /* 40 octets when made canonical */
	SAY("BDAT 3 LAST\r\nx\r\n"),
	SAY("BDAT 3 LAST\r\na\nb"),
	SAY("BDAT 0 LAST\r\n"),
	SAY("BDAT 0\r\n"),
	SAY("BDAT 40 LAST\r\n" TEXT_40),
	SAY("BDAT 40\r\n" TEXT_40),
	SAY("BDAT 3 FIRST\r\nabc"),
	SAY("BDAT -3\r\nabc"),
	SAY("RSET\r\n"),
	SAY("RSET now\r\n"),
	SAY("NOOP\r\n"),
	SAY("VRFY a\r\n"),
	SAY("VRFY\r\n"),
	SAY("EXPN a\r\n"),
	SAY("HELP\r\n"),
	SAY("QUIT now\r\n"),
	SAY("QUIT\r\n"),
	SAY("XYZZY\r\n"),
	SAY("\r\n"),
	SAY("GET / HTTP/1.1\r\n"),
	SAY("NO\nOP\r\n"),
	SAY("NO\rOP\r\n"),
	SAY("N\xc3\xb6OP\r\n"),
	SAY("NOOP " TEXT_600 TEXT_600 TEXT_600 TEXT_600 "\r\n"),
	SAY(TEXT_600 TEXT_600 TEXT_600 TEXT_600 "\r\n"),
};
const size_t act_count = sizeof acts / sizeof acts[0];

#define YES { .kind = PSMTP_YES, .identity = { "clear-user", 10 } }
#define YES_WORDS { .kind = PSMTP_YES, .identity = { "", 0 } }
#define NOT_NOW { .kind = PSMTP_NO_TEMPORARY }
#define NEVER { .kind = PSMTP_NO_PERMANENT }
#define NOT_NOW_WORDS { .kind = PSMTP_NO_TEMPORARY, .reply = { 450, { 4, 2, 1 }, { "in clear\nwords", 14 }, false } }
#define NEVER_WORDS { .kind = PSMTP_NO_PERMANENT, .reply = { 554, { 5, 2, 1 }, { "in clear\nwords", 14 }, false } }
#define CLOSING { .kind = PSMTP_NO_TEMPORARY, .reply = { 421, { 4, 3, 2 }, { "bye", 3 }, false } }
#define ASK_ON { .kind = PSMTP_CHALLENGE, .challenge = { "who?", 4 } }

const struct script scripts[] = {
	{ "yes", 0, { { 0 } } },
	{ "not now", 1, { NOT_NOW } },
	{ "never", 1, { NEVER } },
	{ "not now, in own words", 1, { NOT_NOW_WORDS } },
	{ "never, in own words", 1, { NEVER_WORDS } },
	{ "421", 1, { CLOSING } },
	{ "challenge, yes", 1, { ASK_ON } },
	{ "challenge, not now", 2, { ASK_ON, NOT_NOW } },
	{ "challenge, never", 2, { ASK_ON, NEVER } },
	{ "challenge, challenge", 2, { ASK_ON, ASK_ON } },
	{ "yes, not now", 2, { YES, NOT_NOW } },
	{ "yes, never", 2, { YES, NEVER } },
	{ "yes, never in own words", 2, { YES, NEVER_WORDS } },
	{ "yes, yes, not now", 3, { YES, YES, NOT_NOW } },
	{ "yes, never, yes", 3, { YES, NEVER, YES } },
	{ "yes, yes, never", 3, { YES, YES, NEVER_WORDS } },
};
const size_t script_count = sizeof scripts / sizeof scripts[0];

/* Each begins with another command, so that no earlier one hides what is left; then all that a session can do. */
#define WHOLE                                                                                                          \
	"RCPT TO:<in@d.test>\r\n", "DATA\r\n", \
		"STARTTLS\r\n", "EHLO inside.test\r\n", "LHLO inside.test\r\n",                                          \
		"MAIL FROM:<in@b.test> SIZE=9 BODY=8BITMIME RET=FULL ENVID=in\r\n", "AUTH PLAIN\r\n", "STARTTLS\r\n",    \
		"RCPT TO:<in@d.test> NOTIFY=SUCCESS\r\n", "RCPT TO:<two@d.test>\r\n", "RCPT TO:<three@d.test>\r\n",      \
		"DATA\r\n", "AUTH PLAIN AGluAHB3\r\n", "AUTH PLAIN AGluAHB3\r\n", "MAIL FROM:<in@b.test>\r\n",           \
		"RCPT TO:<in@d.test>\r\n", "BDAT 3\r\nabc", "RCPT TO:<in@d.test>\r\n", "BDAT 3 LAST\r\nx\r\n",           \
		"RSET\r\n", "HELO inside.test\r\n", "MAIL FROM:<in@b.test>\r\n", "RCPT TO:<in@d.test>\r\n", "DATA\r\n",  \
		"QUIT\r\n", NULL

const struct battery batteries[] = {
	{ "MAIL first", { "MAIL FROM:<in@b.test>\r\n", WHOLE } },
	{ "RCPT first", { "RCPT TO:<in@d.test>\r\n", WHOLE } },
	{ "DATA first", { "DATA\r\n", WHOLE } },
	{ "BDAT first", { "BDAT 3\r\nabc", "BDAT 3 LAST\r\nx\r\n", WHOLE } },
	{ "AUTH first", { "AUTH PLAIN AGluAHB3\r\n", WHOLE } },
	{ "STARTTLS first", { "STARTTLS\r\n", WHOLE } },
	{ "NOOP first", { "NOOP\r\n", "HELP\r\n", "VRFY a\r\n", "EXPN a\r\n", "XYZZY\r\n", "NO\nOP\r\n", "RSET\r\n", WHOLE } },
	{ "RSET first", { "RSET\r\n", WHOLE } },
	{ "HELO first", { "HELO inside.test\r\n", "MAIL FROM:<in@b.test>\r\n", WHOLE } },
	{ "a response first", { "AGluAHB3\r\n", ".\r\n", WHOLE } },
	{ "EHLO first", { "EHLO inside.test\r\n", "MAIL FROM:<in@b.test>\r\n", "RSET\r\n", WHOLE } },
};
const size_t battery_count = sizeof batteries / sizeof batteries[0];
