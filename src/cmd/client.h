/* client.h - `postrider client`: one message to one server; private to cmd/.
 *
 * client.c reads the arguments and the message, client_session.c holds the connection, client_trace.c prints the dialog
 * of -v, client_report.c judges what came of it.
 */
#ifndef CMD_CLIENT_H
#define CMD_CLIENT_H
#include "base/buf.h"
#include "conf/conf.h"
#include "net/conn.h"
#include "net/dial.h"

#include <netdb.h>
#include <psmtp.h>
#include <stdio.h>

/* A connection that is not there after so long tries the next address (--timeout, when it is less, ends all). */
#define CLIENT_CONNECT_MS 30000u
#define CLIENT_HOST_MAX 256 /* a domain name and NUL */
#define CLIENT_LINE 1024    /* of the dialog: 512 of RFC 5321 4.5.3.1.4 and what extensions add; longer is cut */

struct client_arguments {
	struct psmtp_view sender;
	struct psmtp_client_rcpt *rcpts;
	uint32_t rcpt_count;
	char host[CLIENT_HOST_MAX]; /* without brackets; or a path beginning with '/' */
	uint16_t port;
	const char *ca_file, *helo, *auth_file;
	enum conf_tls tls;
	uint64_t timeout_ms; /* of all; 0: the protocol's own */
	bool lmtp, implicit, verbose, json;
};

/* ---- client_trace.c: both directions as "C: ..." and "S: ...", inside TLS as "TLS C: ...", on standard error ---- */

struct client_trace {
	FILE *to; /* NULL: silent */
	bool tls, secret, data; /* data: the last command was DATA */
	enum client_trace_mode { TRACE_LINES = 1, TRACE_DOTS, TRACE_OCTETS } mode; /* of what we write */
	uint64_t left, octets; /* of a chunk, or of the line begun; of the content so far */
	struct client_trace_line { char text[CLIENT_LINE]; size_t n; bool cut; } in, out;
};
void client_trace_init(struct client_trace *, FILE *to);
void client_trace_input(struct client_trace *, struct view);
void client_trace_output(struct client_trace *, struct view);
void client_trace_note(struct client_trace *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void client_trace_body(struct client_trace *); /* after DATA and its 354: what follows is content */

/* ---- client_session.c ---- */

struct client_result { int code; char text[600]; bool local; }; /* code 0: undecided */

struct client_run {
	const struct client_arguments *a;
	struct view content;   /* canonical */
	struct psmtp_client_message message;
	struct client_result *results; /* a->rcpt_count */
	struct view credentials;
	struct tls_context *tls_context;
	struct tls_peer_check check;
	struct loop *loop;
	/* where it is */
	struct addrinfo *addresses, *at;
	struct dial dial;
	struct conn conn;
	struct psmtp_client *smtp;
	struct loop_timer timer, whole;
	struct client_trace trace;
	struct auth *auth;
	size_t given;          /* octets of content that the protocol took */
	bool conn_made, body_wanted, tls_broke, in_clear, login, running, left, over;
	/* what came of it */
	bool settled;          /* every recipient has its result by the server or by us */
	bool maybe;            /* the final dot had left and no answer came */
	int status;            /* when not settled: an exit status */
	char why[700];         /* when not settled */
	char tls[200];         /* in words */
};

/* Runs to the end. */
void client_session(struct client_run *);

/* ---- client_report.c ---- */

/* Prints what is to be said; the exit status. */
int client_report(const struct client_run *);

#endif
