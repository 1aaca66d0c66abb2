/* client.h - one connection to the control socket, as control.c (socket, lines) and answer.c (commands) share it. */
#ifndef QUEUE_CLIENT_H
#define QUEUE_CLIENT_H
#include "base/buf.h"
#include "queue/queue.h"

#include <jansson.h>
#include <sys/types.h>

#define CLIENT_OUT_MAX    (4u * 1024 * 1024) /* of answers: a batch of a list, or the metrics */
#define CLIENT_BATCH      64                 /* envelopes of one step of a list */
#define CLIENT_EXPLAIN_WAIT 50000            /* ms for the DNS and a policy to be fetched; the client waits a minute */
#define CLIENT_SUPER_WAIT 5000               /* ms for super's answer: then the rest is said without it */

#define CLIENT_TICK 2000                     /* ms between two signs of life while the spool works through the queue */

enum client_task { CLIENT_LIST = 1, CLIENT_SHOW, CLIENT_WHY, CLIENT_COUNTED, CLIENT_SUPER, CLIENT_EXPLAIN, CLIENT_REPORTS };

struct client {
	struct client *next;
	struct queue *q;
	int fd;
	uid_t uid;
	uint64_t serial; /* names it to super */
	struct loop_watch watch;
	struct loop_timer timer; /* for super's answer; the next tick */
	struct buf in, out;
	bool half_closed;      /* it sends nothing more */
	bool cut;              /* an answer could not be told whole: nothing more is told */
	bool dead;             /* to be freed when the spool has answered */
	bool pending;          /* the spool owes a completion */
	bool pumping;          /* lines are being served, further up the stack */
	enum client_task task; /* 0: waits for a request */
	/* the request under way */
	json_t *request;
	const char *cmd;  /* borrowed from request, as dest */
	enum event event; /* COUNTED: what to log */
	struct view dest;
	uint64_t id, max, n;
	uint64_t after_id;
	uint32_t after_slot;
	bool more; /* LIST: the next step waits until the client has read this one */
};

/* One request line.  Sets task while the answer is not complete. */
void client_request(struct client *, struct view line);
/* COUNTED: it goes on.  The client is told, so that it waits; what is due by now is seen before the whole is done. */
void client_tick(struct client *);
/* LIST: the next step, when the output has gone. */
void client_continue(struct client *);
/* super's answer; json NULL: it did not answer in time. */
void client_super_answered(struct client *, struct view json);
/* send's answer to EXPLAIN; NULL: none in time. */
struct wire_EXPLAINED;
void client_explained(struct client *, const struct wire_EXPLAINED *);
void client_begin_explain(struct client *);
/* policy's answer to REPORT_NOW; NULL: none in time. */
struct wire_REPORT_GOING;
void client_reported(struct client *, const struct wire_REPORT_GOING *);
void client_begin_reports(struct client *);
/* Of control.c: a line is appended (the object is taken over), and the request ended. */
void client_put(struct client *, json_t *);
void client_finish(struct client *);
/* The spool answered: true when the client is dead, and now gone. */
bool client_resume(struct client *);
/* Words of a peer as a JSON string: octets that are no UTF-8 become '?'. */
json_t *client_text(struct view);

#endif
