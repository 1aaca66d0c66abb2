/* load.h - the loader's sessions: one struct for what is asked, one worker a thread, many sessions a worker.
 *
 * A worker keeps as many sessions open as its share of --concurrency, on one epoll; it shares with the others only the
 * counter that hands out numbers.  A session's number and the message's place in it make the message's id.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H
#include "bench.h"

#include <pthread.h>

enum load_tls { LOAD_CLEAR = 1, LOAD_STARTTLS, LOAD_IMPLICIT };

struct load_options {
	struct sockaddr_in to;
	enum load_tls tls;
	const char *tls_min, *tls_max, *groups, *name; /* name: asked for by SNI */
	const char *hello, *sender, *local, *domain, *run;
	long sessions, concurrency, per_session, size, rcpts, threads, sources, domains, ramp;
	long domains_from, number_from;
	double duration, hold, rate; /* seconds, seconds, sessions a second (0: as fast as the server lets us) */
	long timeout_ms;
	bool resume, no_pipelining, chunking;
	char *text;                  /* of every message, behind its own header */
	size_t text_n;
	struct psmtp_client_options smtp;
};
extern struct load_options load;

#define HEAD_MAX 512   /* the header that is each message's own */
#define RCPTS_MAX 16
#define ERRORS_MAX 32  /* kinds of errors: the reasons of psmtp.h and some of ours */

struct load_count {
	long sessions_ok, sessions_failed, messages_ok, deferred, refused, lost, resumed, held;
	int64_t bytes_out;
	struct samples session, message, handshake;
	struct { const char *reason; long n; } errors[ERRORS_MAX];
	char first_error[256], protocol[32], cipher[64], group[64];
};

struct worker;
struct session {
	struct worker *w;
	struct pipe_end io;
	struct psmtp_client *smtp; /* NULL: the place is free */
	enum { SESSION_CONNECTING = 1, SESSION_TALKING, SESSION_SHAKING, SESSION_HOLDING } step;
	bool tls, writing, over, failed, accepted, in_message;
	long number, done;         /* of the run; messages so far */
	int64_t began, shake_began, message_began;
	uint64_t give_up_ms;       /* while connecting */
	size_t head_at, head_n, text_at;
	struct psmtp_client_message message;
	struct load_room *room;    /* of the place, not of the session */
};

#define ADDRESS_MAX 128
struct load_room {
	char head[HEAD_MAX], address[RCPTS_MAX][ADDRESS_MAX];
	struct psmtp_client_rcpt rcpts[RCPTS_MAX];
};

struct worker {
	pthread_t thread;
	long id, open, pending, started, source; /* pending: not yet holding */
	int epoll;
	SSL_CTX *tls;
	SSL_SESSION *ticket;
	struct session *sessions, **free;
	long sessions_n, free_n;
	bool ramped;
	struct load_count count;
};

/* load_session.c */
void session_start(struct worker *, long number, int64_t due);
void session_event(struct session *, uint32_t events);
void session_sweep(struct session *, uint64_t now_ms);
void session_release(struct session *); /* ends a session that holds: counted as a success */
/* load.c: what the two report */
void session_settled(struct session *);
void session_holds(struct session *);

#endif
