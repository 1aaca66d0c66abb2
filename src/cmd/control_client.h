/* control_client.h - asks the running Postrider over its control socket; queue/control.h has the protocol.
 *
 * Use        control_client_open, then any number of control_client_ask, then control_client_close.  Blocking.
 * Answers    each "item" goes to the caller's function as it comes, so that a list of millions needs no memory; the
 *            line with "ok" is returned, and the caller frees it with json_decref.
 * Failure    words on standard error and an exit status of sysexits.h: 69 nobody answers, 77 not allowed, 66 no such
 *            message, 64 the request is wrong, 75 later, 76 the answer is none, 78 the configuration is wrong.
 */
#ifndef CMD_CONTROL_CLIENT_H
#define CMD_CONTROL_CLIENT_H
#include "base/buf.h"

#include <jansson.h>

/* An answer's longest line is an envelope with all its recipients; the server's own cap for its output is lower. */
#define CONTROL_CLIENT_LINE_MAX (16u * 1024 * 1024)
/* A commit on a sick disk is slow, silence for so long is not an answer. */
#define CONTROL_CLIENT_SECONDS 60

struct control_client {
	const char *command; /* for messages: "queue" */
	int fd;
	struct buf in;
};

/* Where the socket is: --control PATH, or the setting `control` of -c FILE. */
struct control_where {
	const char *config, *path; /* NULL: not said */
};

/* Takes "-c FILE" or "--control PATH" at argv[*i]; true when it was one of them (*i is moved on). */
bool control_where_option(struct control_where *, int argc, char **argv, int *i);

/* 0, or an exit status after words on standard error. */
int control_client_open(struct control_client *, const char *command, const struct control_where *);
/* request is taken over.  item may be NULL; its json is borrowed; a status other than 0 ends the asking.  *answer (may
 * be NULL) is the line with "ok": true. */
int control_client_ask(struct control_client *, json_t *request, int (*item)(void *arg, json_t *item), void *arg,
		       json_t **answer);
void control_client_close(struct control_client *);

#endif
