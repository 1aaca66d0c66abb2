/* engine.h - the inside of the spool: jobs, lanes, and what an engine must do.  Not for other rooms.
 *
 * The front (spool.c, job.c, body.c) turns calls into jobs and gives each to a lane; a lane is a queue with a thread,
 * or, when the spool is stepped, a queue that spool_step empties.
 *   bodies  writes body files: chunks as they come, and their sync, so that a 50 MiB body never stalls the writer
 *   writer  group commit: all that waits is one batch
 *   reader  due, lease, read, list, on a snapshot of its own
 * An engine serves the writer's and the reader's lane and answers jobs by spool_post.
 *
 * Locking: `lock` guards the lanes' queues, the answers, marks, stats and the numbers below it.  An engine's own
 * state belongs to its writer's lane unless it says otherwise.  Jobs belong to whoever holds the list they are in.
 */
#ifndef SPOOL_ENGINE_H
#define SPOOL_ENGINE_H
#include "spool/marks.h"
#include "spool/spool.h"

#include <pthread.h>
#include <stdatomic.h>

#define BODY_PREFIX_MAX 4096u /* bytes of spool_body_prefix; also what a body file keeps free before its first byte */
#define BODY_CHUNK (256u * 1024) /* bytes handed to the bodies' lane at once: large enough for few calls */
/* Bodies in memory or waiting for their disk: 100 % of pressure.  50 senders with 1 MiB each are far below. */
#define HELD_BYTES_MAX (256u * 1024 * 1024)
#define SPARE_JOBS 256u /* answers that can still be given when memory is out */
#define CLOSE_ROUNDS 64u /* completions that ask for more work while closing get an answer, but not for ever */

enum job_kind {
	JOB_ACCEPT = 1,
	JOB_SETTLE,
	JOB_HOLD,
	JOB_RELEASE,
	JOB_FLUSH,
	JOB_DELETE,
	JOB_DUE,
	JOB_LEASE,
	JOB_READ,
	JOB_LIST,
	JOB_BODY_CHUNK, /* internal to the bodies' lane */
	JOB_BODY_DROP
};

enum lane_kind { LANE_BODIES = 1, LANE_WRITER, LANE_READER, LANE_END };

/* A new message inside a job: a body and its envelopes, already encoded as records hold them (record.h). */
struct message_in {
	struct spool_body *body;
	unsigned char *envelopes; /* owned; the lease flags (one byte each) follow the encoded bytes */
	size_t envelope_bytes;
	uint32_t n;
	spool_id id; /* chosen by the writer */
};

struct job {
	struct job *next;
	enum job_kind kind;
	enum spool_status status; /* 0 until decided */
	bool spare;               /* from the pool that answers when memory is out */
	bool remains;             /* settle: state is in the fields below */
	bool busy;                /* delete: something was in flight */
	union {
		spool_done *done;
		spool_due_list *due;
		spool_leased *leased;
		spool_chunk *chunk;
	} answer;
	void *arg;
	spool_id id;
	uint32_t slot;
	struct view dest; /* copied behind the job */
	struct view data; /* copied behind the job */
	uint32_t attempts;
	int64_t when, expires; /* now, or the due time of what remains */
	size_t max;
	uint64_t offset;
	/* where a long operation stands */
	spool_id after_id;
	uint32_t after_slot;
	spool_id until_id; /* the last id there was when the operation began */
	uint64_t count, matched;
	/* accept, settle */
	struct message_in *messages;
	size_t messages_n;
	struct message_in own; /* an accept's only message */
	/* bodies' lane */
	struct spool_body *body;
	unsigned char *bytes;
	size_t bytes_n;
	/* results: one block, owned */
	void *result;
	size_t result_n;
	int64_t next_due;
};

struct job_list { struct job *head, *tail; };

static inline void job_push(struct job_list *l, struct job *j)
{
	j->next = NULL;
	if (l->tail)
		l->tail->next = j;
	else
		l->head = j;
	l->tail = j;
}

static inline struct job *job_pop(struct job_list *l)
{
	struct job *j = l->head;

	if (j) {
		l->head = j->next;
		if (!l->head)
			l->tail = NULL;
		j->next = NULL;
	}
	return j;
}

static inline void job_join(struct job_list *to, struct job_list *from)
{
	if (!from->head)
		return;
	if (to->tail)
		to->tail->next = from->head;
	else
		to->head = from->head;
	to->tail = from->tail;
	from->head = from->tail = NULL;
}

struct spool_body {
	struct spool *spool;
	struct job *job;      /* the accept's, taken at the beginning so that an accept can always be answered */
	unsigned char *mem;   /* the whole body, or the chunk being filled once there is a file */
	size_t n, cap;
	uint64_t total;       /* bytes written, without the prefix */
	unsigned char *prefix;
	size_t prefix_n;
	uint64_t held;        /* bytes counted in held_bytes */
	bool file;
	_Atomic int error;    /* enum spool_status that stays; SPOOL_OK while well */
	/* bodies' lane only, until the writer takes over */
	int fd;
	uint64_t number;      /* names the file */
	uint64_t at;          /* next byte in the file */
	uint32_t crc;         /* of the bytes written to the file, without the prefix */
};

struct engine_ops {
	/* One turn of the writer over all that waits; true: wants another although nothing is queued. */
	bool (*write)(void *engine, struct job_list *in);
	void (*read)(void *engine, struct job_list *in);
	void (*close)(void *engine);
	bool body_files; /* bodies may go to files */
};

struct lane {
	struct job_list jobs;
	pthread_cond_t ready;
	pthread_t thread;
	bool started, more;
};

/* Who is waited for; see company.c.  Under the lock. */
struct company {
	size_t accepts;    /* in the writer's lane */
	unsigned expected; /* writers on their way, as of the last kick */
	unsigned wanted;   /* settles in the lane that somebody waits for */
	bool hurry, waiting;
	uint64_t lately;   /* accepts of the last turns, in COMPANY_UNITs, fading */
	uint64_t at;       /* when that was so, ns */
};
#define COMPANY_UNIT 1000u

struct spool {
	const struct engine_ops *ops;
	void *engine;
	const struct env *env;
	const struct alloc *alloc;
	char *path;
	bool threaded, closing, lagging;
	unsigned checkpoint_pages;
	uint64_t segment_size, body_file_size, min_free;
	void (*wake)(void *);
	void *wake_arg;
	/* the owner's thread */
	struct job_list gathered[LANE_END]; /* queued since the last kick */
	uint64_t outstanding;               /* jobs not yet answered */
	unsigned expected;                  /* what spool_expect said */
	unsigned wanted;                    /* how often spool_wanted was called since the last kick */
	/* the bodies' lane */
	uint64_t body_number; /* the last given */
	/* under the lock */
	pthread_mutex_t lock;
	struct lane lanes[LANE_END];
	struct company company;
	bool stop;
	struct job_list answers;
	struct job *spares; /* a stack, linked by next */
	struct job spare_jobs[SPARE_JOBS];
	struct marks marks;
	struct spool_stats stats;
	unsigned space_pressure; /* how near the disk is to full, 0..100 */
	_Atomic bool sick;
	_Atomic bool damaged; /* and a start will make the index anew */
	_Atomic uint64_t held_bytes;
};

/* spool.c */
int spool_make(struct spool **, const struct spool_options *, struct error *);
int spool_start(struct spool *, const struct engine_ops *, void *engine, struct error *); /* starts the lanes */
void spool_drop(struct spool *); /* frees the front; the engine is gone already */
void spool_post(struct spool *, struct job_list *); /* answered: hands them to spool_dispatch */
void spool_post_one(struct spool *, struct job *);
void spool_pass(struct spool *, enum lane_kind, struct job *); /* from one lane to another, at once */

/* company.c: under the lock */
void company_add(struct spool *, const struct job *); /* it comes into the writer's lane */
bool company_here(const struct spool *);              /* nobody is worth waiting for */
void company_await(struct spool *, struct lane *);    /* the writer's lane; its turn begins with the return */

/* job.c */
struct job *job_new(struct spool *, enum job_kind, struct view dest, struct view data); /* never NULL but for spares */
void job_free(struct spool *, struct job *);
void job_answer(struct job *); /* calls its completion */
bool message_in_fill(struct spool *, struct message_in *, struct spool_body *, const struct spool_envelope *,
                     const bool *lease, uint32_t n);
static inline bool message_in_leased(const struct message_in *m, uint32_t i)
{
	return m->envelopes[m->envelope_bytes + i] != 0;
}

/* body.c */
void bodies_run(struct spool *, struct job_list *in); /* a turn of the bodies' lane */
void body_free(struct spool_body *);                  /* memory only; its file stays */
void body_discard(struct spool_body *);               /* the file too; on a lane's thread */
void body_path(const struct spool *, uint64_t number, char *to, size_t n);
#define SPOOL_PATH_MAX 4096u

/* Results of lease and list: envelopes and their bytes in one growing block. */
struct gather { const struct alloc *alloc; unsigned char *mem; size_t n, cap, count; };
bool gather_envelope(struct gather *, const struct spool_envelope *);
void *gather_finish(struct gather *, size_t *n); /* struct spool_envelope[n]; NULL when n is 0 or memory is out */
bool gather_next(const struct gather *, size_t *at, struct spool_envelope *); /* what was gathered; *at begins at 0 */
void gather_free(struct gather *);

/* Results of due: the `max` destinations with the earliest mail. */
struct gather_due { const struct alloc *alloc; struct spool_due *heap; size_t n, cap, max; };
bool gather_due_add(struct gather_due *, struct view dest, int64_t due, uint64_t count); /* false: memory */
void *gather_due_finish(struct gather_due *, size_t *n); /* struct spool_due[n], earliest first */
void gather_due_free(struct gather_due *);

enum spool_status status_of_errno(int err);

#endif
