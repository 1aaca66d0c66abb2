/* harness.h - a whole queue in one thread: stepped time, the memory spool, memory channels, a scripted send.
 *
 * harness_new makes the role as the simulator would; the test speaks receive's frames by submit and judges what a fake
 * send or local was given.  Time moves only by harness_pass.
 */
#ifndef TESTS_QUEUE_HARNESS_H
#define TESTS_QUEUE_HARNESS_H
#include "queue/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#ifndef GOT_MAX /* the fuzz targets make thousands of harnesses, and keep less */
#define GOT_MAX 1024
#endif
#define NOW0    1795516081000

struct harness;

/* A delivery that a fake peer was given. */
struct got {
	struct harness *h;
	struct fake *peer;
	uint64_t stream, id, size;
	uint32_t attempts, flags, n;
	char dest[300], sender[300], envid[100];
	uint8_t ret;
	char rcpts[100][200];
	uint8_t notify[100];
	struct buf body;
	bool last, answered;
};

/* What a fake peer says of a delivery whose body came whole; NULL: nothing (the test answers later). */
typedef void script(struct got *);

struct fake {
	struct harness *h;
	enum role_kind kind;
	struct channel *channel; /* our end */
	bool closed;
	script *script;
	bool no_credit; /* never grants any */
	uint64_t deliveries, open, open_most;
};

struct done {
	uint64_t stream, id;
	uint8_t status;
};

struct harness {
	struct env env;
	int64_t now;
	uint64_t seed;
	struct loop *loop;
	struct conf *conf;
	struct events *events;
	int log;
	uint64_t counters[EVENT_END + 1];
	struct role role;
	struct queue *q;
	struct channel *receive;
	bool receive_closed;
	uint32_t credit;
	struct done done[GOT_MAX];
	unsigned done_n;
	struct fake send, send2, local;
	struct got got[GOT_MAX]; /* the first so many; later ones are answered and forgotten */
	unsigned got_n;
	uint64_t next_stream;
	bool drained;
	uint8_t accused; /* the role that the queue complained of to super; 0: none */
	uint32_t control_command;
	uint64_t control_stream;
	char log_text[1 << 20];
};

extern int harness_busy; /* the harness itself works: its memory does not fail */
struct harness *harness_new(const char *more_conf);
struct harness *harness_new_with(const char *more_conf, int extra_fd);
/* On the disk, with the spool's own thread and the machine's clock. */
struct harness *harness_new_disk(const char *more_conf, const char *path);
void harness_free(struct harness *);
void harness_run(struct harness *);              /* until nothing moves at this instant */
void harness_pass(struct harness *, int64_t ms); /* time goes on, in steps of at most a minute */
void harness_connect(struct harness *, struct fake *, enum role_kind, uint32_t generation, script *);
void harness_receive(struct harness *); /* a new channel of receive */
/* Says one result for all recipients, or for one. */
void answer_all(struct got *, uint8_t kind, uint16_t code, const char *text, bool host_failed);
struct buf *answer_list(struct buf *); /* empty, to be filled by wire_result_add */
void answer_list_send(struct got *, struct buf *, bool host_failed, bool maybe, bool dsn);
void say_ok(struct got *);
void say_temporary(struct got *);
void say_permanent(struct got *);
void say_host_failed(struct got *);

struct submit {
	const char *sender, *envid, *body, *prefix;
	uint8_t ret, notify;
	uint32_t flags;
	const char *orcpt;
	const char *rcpts[200];
};
/* Begins, streams and submits; returns the stream. */
uint64_t submit(struct harness *, const struct submit *);
/* The same, and it must be answered with this status; returns the id. */
uint64_t submit_done(struct harness *, const struct submit *, uint8_t status);
void send_begin(struct harness *, uint64_t stream);
void send_bytes(struct harness *, uint64_t stream, const char *, size_t);
void send_submit(struct harness *, uint64_t stream, const struct submit *);

/* Lines of the log with event=name and the text; how many. */
unsigned logged(struct harness *, const char *event, const char *text);
struct spool_stats stats(struct harness *);
struct view got_body(const struct got *);

#endif
