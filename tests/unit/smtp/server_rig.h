/* server_rig.h - a server session in a test's hands: bytes in, transcript out, verdicts by rule, memory that can fail.
 *
 * The rig answers every question itself: with the first unused rule that matches, else yes.  Rules match by the
 * question and by words in it, not by time, so that the same dialog gives the same transcript however its bytes are
 * split.
 */
#ifndef TESTS_SERVER_RIG_H
#define TESTS_SERVER_RIG_H
#include <psmtp.h>

#define RIG_OUT 131072
#define RIG_RULES 16

struct rig_rule {
	enum psmtp_server_event_type question;
	char match[64]; /* in the address, name or mechanism asked about; empty: any */
	char text[256]; /* the reply's own words */
	char identity[64];
	struct psmtp_verdict verdict;
	bool used;
};

struct rig {
	struct psmtp_server *s;
	struct psmtp_server_options options;
	unsigned epoch;
	uint64_t now;
	char out[RIG_OUT];  /* all that was written, with a NUL */
	size_t out_len;
	char body[RIG_OUT]; /* all octets of messages */
	size_t body_len;
	struct rig_rule rules[RIG_RULES];
	unsigned rule_count;
	const char *pending; /* fed at the question STARTTLS, as net's last read would */
	size_t pending_len;
	const char *more; /* likewise, behind what rig_feed was given */
	size_t more_len;
	bool hold;          /* do not answer: the test will */
	bool no_tls_start;  /* TLS_START is left to the test */
	/* what was seen */
	unsigned resets, closes, asks, rejects, tls_starts, begins, ends;
	char close_reason[40], reject_reason[40], reject_command[40], sender[300], rcpt[300], hello[300];
	int reject_code;
	struct psmtp_server_event last_question;
	/* memory */
	size_t blocks, requests, fail_at; /* fail_at: the n-th request fails (1 is the first), 0 never */
};

void rig_open(struct rig *, const struct psmtp_server_options *); /* NULL: mx.test, STARTTLS */
void rig_close(struct rig *); /* frees, and fails the test when memory leaked */
/* Feeds all, answering as it goes.  Returns how many octets the session took. */
size_t rig_feed(struct rig *, const char *bytes, size_t n);
void rig_say(struct rig *, const char *text); /* a NUL-terminated text as it stands */
void rig_drain(struct rig *);
void rig_tls(struct rig *); /* the handshake succeeds */
void rig_rule(struct rig *, enum psmtp_server_event_type, const char *match, enum psmtp_verdict_kind, int code,
	const char *text);
/* Says the text and returns what came back for it. */
const char *rig_ask(struct rig *, const char *text);

#endif
