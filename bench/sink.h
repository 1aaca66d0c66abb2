/* sink.h - the sink's sessions: a psmtp_server on a socket, answered from the command line's percentages.
 *
 * Workers share the listening socket and nothing else but counters; a session belongs to the worker that accepted it.
 */
#ifndef BENCH_SINK_H
#define BENCH_SINK_H
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>

struct sink_options {
	long expect, defer, reject, refuse, delay_ms, threads; /* percent: messages deferred, recipients rejected, sessions refused */
	double idle, max;
	const char *run;      /* NULL: that of the first message */
	SSL_CTX *tls;         /* NULL: STARTTLS is not offered */
	bool implicit;
	struct psmtp_server_options smtp;
};
extern struct sink_options sink;

#define LINE_KEPT 160 /* of a header line: the id's is shorter, others do not matter */
struct sink_session {
	struct sink_worker *w;
	struct pipe_end io;
	struct psmtp_server *smtp;
	bool tls, shaking, over, header, waiting;
	uint32_t rcpts;
	int64_t answer_at;               /* the delayed answer to a message; 0: none is owed */
	struct sink_session *next;       /* among those delayed: in order of answer_at */
	unsigned line_n;
	char line[LINE_KEPT], id[LINE_KEPT];
	uint64_t random;
	uint64_t octets;
};

struct sink_worker {
	pthread_t thread;
	int epoll;
	uint64_t random;
	struct sink_session *delayed, **delayed_end;
};

/* Of all workers. */
struct sink_count {
	atomic_long connections, tls, open, most_open, messages, expected, rcpts, unique, doubled, no_id, other_run, deferred, rejected, refused;
	atomic_llong octets, first_us, last_us;
};
extern struct sink_count count;

void sink_accept(struct sink_worker *, int fd);
void sink_event(struct sink_session *, uint32_t events);
void sink_answer_due(struct sink_worker *, int64_t now_us);
/* sink.c: a whole message came; counts it by its id. */
void sink_book(struct sink_session *, int64_t now_us);

#endif
