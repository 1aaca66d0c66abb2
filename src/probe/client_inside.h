/* client_inside.h - the scripted server of `probe client`; private to probe/.
 *
 * A case fills a script (all zero: a sound server), lets client_play wait for the client and play it, and judges by what was seen.  What was
 * seen is one trace a connection: a letter for each command and each turn of things, so that an order is a text to look at:
 *     E EHLO  H HELO  S STARTTLS  M MAIL  R RCPT  D DATA  B BDAT  . a message's end  A AUTH  T RSET  N NOOP  Q QUIT  ? another line
 *     [ TLS came up   ! the handshake failed   % what follows is in clear on a connection that TLS was begun on
 *     h a ClientHello that nobody asked for    x the client closed    X we closed
 */
#ifndef PROBE_CLIENT_INSIDE_H
#define PROBE_CLIENT_INSIDE_H
#include "probe/client.h"
#include "probe/inside.h"

#define CLIENT_CONNECTIONS_MAX 12u   /* of one case: an attempt in TLS, one in clear, and some that a queue makes of its own */
#define CLIENT_TRACE_MAX 200u        /* commands of one connection */
#define CLIENT_LINE_MAX 4096u        /* octets of a command: RFC 5321 4.5.3.1.4 has 512, AUTH 12,288, which nobody needs here */
#define CLIENT_MESSAGE_MAX (64u << 20) /* octets of a message that we swallow */
#define CLIENT_PARAMETERS_MAX 1000u  /* octets of MAIL and RCPT lines that are kept */

/* STEP(tag, command, letter, reply): what the client can do next, and how a sound server answers. */
#define CLIENT_STEPS \
	STEP(GREETING, "", '^', "220 probe.invalid ESMTP\r\n") \
	STEP(EHLO, "EHLO", 'E', "") \
	STEP(HELO, "HELO", 'H', "250 probe.invalid\r\n") \
	STEP(STARTTLS, "STARTTLS", 'S', "220 2.0.0 go on\r\n") \
	STEP(MAIL, "MAIL", 'M', "250 2.1.0 fine\r\n") \
	STEP(RCPT, "RCPT", 'R', "250 2.1.5 fine\r\n") \
	STEP(DATA, "DATA", 'D', "354 go on\r\n") \
	STEP(BDAT, "BDAT", 'B', "250 2.0.0 fine\r\n") \
	STEP(AUTH, "AUTH", 'A', "235 2.7.0 fine\r\n") \
	STEP(RSET, "RSET", 'T', "250 2.0.0 fine\r\n") \
	STEP(NOOP, "NOOP", 'N', "250 2.0.0 fine\r\n") \
	STEP(QUIT, "QUIT", 'Q', "221 2.0.0 bye\r\n") \
	STEP(END, "", '.', "250 2.0.0 taken\r\n") \
	STEP(OTHER, "", '?', "502 5.5.1 not here\r\n")
enum client_step {
	CLIENT_STEP_NONE = 0,
#define STEP(tag, command, letter, reply) CLIENT_##tag,
	CLIENT_STEPS
#undef STEP
	CLIENT_STEP_COUNT
};

struct client_answer {
	const char *reply; /* whole lines; NULL: the sound one */
	bool late;         /* after the window, in which nothing should come */
};

enum client_after { CLIENT_AFTER_SHAKE = 0, CLIENT_AFTER_GARBAGE, CLIENT_AFTER_ALERT, CLIENT_AFTER_CLOSE }; /* zero: a script of zeros is sound */
enum client_shown { CLIENT_SHOWN_GOOD = 0, CLIENT_SHOWN_SELF, CLIENT_SHOWN_WRONG, CLIENT_SHOWN_EXPIRED }; /* as above: zero is sound */

struct client_script {
	struct client_answer answer[CLIENT_STEP_COUNT][2]; /* in clear, inside TLS */
	const char *words[2];    /* of EHLO, LF between them; NULL: the sound ones */
	const char *behind_ehlo[2]; /* octets in the segment of the reply to EHLO */
	const char *behind_220;  /* octets in the segment of the 220 to STARTTLS */
	const char *segment;     /* octets in a segment of their own behind it */
	enum client_after after; /* the 220 */
	enum client_shown shown;
	bool old_tls;
	bool flood;              /* the reply to EHLO in clear never ends, or nearly */
	bool notify;             /* close_notify behind the reply to MAIL inside TLS */
};

struct client_trace {
	char steps[CLIENT_TRACE_MAX + 4];
	size_t n;
};

struct client_seen {
	unsigned connections;
	struct client_trace trace[CLIENT_CONNECTIONS_MAX];
	bool early[CLIENT_STEP_COUNT][2]; /* something came while we kept silent before the answer to this */
	bool pipelined[2];                /* something stood behind MAIL or RCPT */
	char parameters[2][CLIENT_PARAMETERS_MAX]; /* MAIL and RCPT lines, LF between them */
	unsigned delivered[2];            /* messages that came to their end */
	bool flooded;                     /* it swallowed the whole of it */
	int status;                       /* of the command; -1: none, or ended by us */
};

struct client_certificates {
	EVP_PKEY *authority_key, *key, *given_key;
	X509 *authority, *good, *self, *wrong, *expired;
	STACK_OF(X509) *given; /* the operator's chain; NULL: none */
};

struct client_probe {
	const struct probe_client_options *o;
	struct probe p;                     /* for links: report, finding, clocks */
	struct probe_server_options timing; /* what links ask of it */
	struct address bound;
	int fd;
	struct client_certificates certificates;
	struct client_script script;
	struct client_seen seen;
	unsigned missed; /* cases in a row to which nobody came */
	bool came;       /* somebody, to any case */
};

/* ---- client_play.c ---- */

/* Waits for the client and plays the script to each of its connections.  False: nobody came, and that is judged. */
bool client_play(struct client_probe *);

/* ---- client_session.c ---- */

void client_serve(struct client_probe *, struct probe_link *, struct client_trace *);

/* ---- client_tls.c ---- */

int client_certificates_make(struct client_certificates *, const struct probe_client_options *, struct error *);
void client_certificates_free(struct client_certificates *);
bool client_shake(struct client_probe *, struct probe_link *, const struct client_script *);
void client_notify(struct probe_link *); /* close_notify; what follows on the link is in clear */

/* ---- client_judge.c: questions about what was seen ---- */

/* Was this step done, in clear (before TLS, or on a connection without it) or inside TLS? */
bool client_did(const struct client_seen *, enum client_step, bool tls);
bool client_shook(const struct client_seen *);  /* a handshake came to its end */
bool client_went_on(const struct client_seen *); /* with commands in clear, where TLS was begun */
bool client_has_order(const struct client_seen *, const char *steps); /* one behind the other, in some trace */
/* Judges what was done in clear: a fail when TLS is owed, else a note.  False: nothing was, and nothing is judged. */
bool client_judge_clear(struct client_probe *);
bool client_lacks_tls(struct client_probe *); /* judges not tested when TLS never came up: what the case is about was not seen */
void client_pass(struct client_probe *, const char *what); /* and the outcome */
const char *client_outcome(const struct client_probe *, char to[200]); /* in words */

#define client_say(c, verdict, ...) probe_report_judge((c)->p.report, (c)->p.now, verdict, __VA_ARGS__)

/* ---- client_cases.c, client_cases_more.c: each judges c->p.now ---- */

#define GROUP(hundred, title)
#define CASE(number, name, severity, needs, reference, title, plays) void client_case_##name(struct client_probe *);
#include "spec/probe_client.def"

#endif
