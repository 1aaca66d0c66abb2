/* spool.c - the front of every engine: calls become jobs, jobs go to lanes, answers come back.  See spool.h, engine.h.
 *
 * The owner's thread gathers jobs without a lock; spool_kick hands all of them over under one.  spool_dispatch takes
 * all answers under one lock and runs their completions without it, so that these may call the spool again.
 */
#include "spool/engine.h"

#include <assert.h>
#include <stdio.h>
#include <time.h>

#define SEGMENT_SIZE_DEFAULT (16u * 1024 * 1024) /* 4,000 messages of 4 KiB: two rotations a second at load; used again soon, with nothing to write ahead */
#define SEGMENT_SIZE_MIN (64u * 1024)            /* below this the headers and reserves would be the larger part */
#define BODY_FILE_DEFAULT (1024u * 1024)         /* from here on a file's own sync costs less than copying twice */
/* 32 MiB of the index's log: a page that many batches change is written back once. */
#define CHECKPOINT_PAGES_DEFAULT 8192u
#define MIN_FREE_DEFAULT (16u * 1024 * 1024)     /* outcomes must still find room when mail is refused */

int spool_make(struct spool **out, const struct spool_options *o, struct error *err)
{
	const struct alloc *alloc = o->alloc ? o->alloc : &alloc_libc;
	struct spool *s;
	size_t n = o->path ? strlen(o->path) : 0;

	*out = NULL;
	if (n + 64 > SPOOL_PATH_MAX)
		return error_set(err, ERROR_INPUT, "the spool's path is too long");
	s = alloc_get(alloc, sizeof *s);
	if (!s)
		return error_set(err, ERROR_AGAIN, "no memory for the spool");
	memset(s, 0, sizeof *s);
	s->path = alloc_get(alloc, n + 1);
	if (!s->path) {
		alloc_put(alloc, s);
		return error_set(err, ERROR_AGAIN, "no memory for the spool");
	}
	if (n)
		memcpy(s->path, o->path, n);
	s->path[n] = '\0';
	s->alloc = alloc;
	s->env = o->env;
	s->threaded = o->threaded;
	s->lagging = o->index == SPOOL_INDEX_LAGGING;
	s->checkpoint_pages = o->checkpoint_pages ? o->checkpoint_pages : CHECKPOINT_PAGES_DEFAULT;
	s->segment_size = o->segment_size ? o->segment_size : SEGMENT_SIZE_DEFAULT;
	if (s->segment_size < SEGMENT_SIZE_MIN)
		s->segment_size = SEGMENT_SIZE_MIN;
	s->segment_size = (s->segment_size + 4095) & ~(uint64_t)4095;
	s->body_file_size = o->body_file_size ? o->body_file_size : BODY_FILE_DEFAULT;
	s->min_free = o->min_free ? o->min_free : MIN_FREE_DEFAULT;
	s->wake = o->wake;
	s->wake_arg = o->wake_arg;
	pthread_mutex_init(&s->lock, NULL);
	for (int l = LANE_BODIES; l < LANE_END; l++)
		pthread_cond_init(&s->lanes[l].ready, NULL);
	marks_init(&s->marks, alloc);
	for (size_t i = 0; i < SPARE_JOBS; i++) {
		s->spare_jobs[i].next = s->spares;
		s->spares = &s->spare_jobs[i];
	}
	*out = s;
	return 0;
}

void spool_drop(struct spool *s)
{
	marks_free(&s->marks);
	for (int l = LANE_BODIES; l < LANE_END; l++)
		pthread_cond_destroy(&s->lanes[l].ready);
	pthread_mutex_destroy(&s->lock);
	alloc_put(s->alloc, s->path);
	alloc_put(s->alloc, s);
}

/* ---- lanes ---- */

/* True: the writer has more to do though nothing is queued. */
static bool run_lane(struct spool *s, int l, struct job_list *jobs)
{
	switch (l) {
	case LANE_BODIES:
		bodies_run(s, jobs);
		return false;
	case LANE_WRITER:
		return s->ops->write(s->engine, jobs);
	default:
		s->ops->read(s->engine, jobs);
		return false;
	}
}

struct lane_start { struct spool *spool; int lane; };

static void lane_main(struct spool *s, int l)
{
	struct lane *lane = &s->lanes[l];

	pthread_mutex_lock(&s->lock);
	for (;;) {
		struct job_list jobs;
		bool more;
		while (!lane->jobs.head && !lane->more && !s->stop)
			pthread_cond_wait(&lane->ready, &s->lock);
		if (s->stop && !lane->jobs.head)
			break;
		if (l == LANE_WRITER && lane->jobs.head)
			company_await(s, lane);
		jobs = lane->jobs;
		lane->jobs = (struct job_list){ 0 };
		pthread_mutex_unlock(&s->lock);
		more = run_lane(s, l, &jobs);
		pthread_mutex_lock(&s->lock);
		lane->more = more;
	}
	pthread_mutex_unlock(&s->lock);
}

static void *bodies_main(void *s)
{
	lane_main(s, LANE_BODIES);
	return NULL;
}

static void *writer_main(void *s)
{
	lane_main(s, LANE_WRITER);
	return NULL;
}

static void *reader_main(void *s)
{
	lane_main(s, LANE_READER);
	return NULL;
}

static void stop_lanes(struct spool *s)
{
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	for (int l = LANE_BODIES; l < LANE_END; l++)
		pthread_cond_signal(&s->lanes[l].ready);
	pthread_mutex_unlock(&s->lock);
	for (int l = LANE_BODIES; l < LANE_END; l++)
		if (s->lanes[l].started)
			pthread_join(s->lanes[l].thread, NULL);
}

int spool_start(struct spool *s, const struct engine_ops *ops, void *engine, struct error *err)
{
	void *(*const mains[LANE_END])(void *) = {
		[LANE_BODIES] = bodies_main, [LANE_WRITER] = writer_main, [LANE_READER] = reader_main,
	};

	s->ops = ops;
	s->engine = engine;
	for (int l = LANE_BODIES; s->threaded && l < LANE_END; l++) {
		int r = pthread_create(&s->lanes[l].thread, NULL, mains[l], s);
		if (r != 0) {
			stop_lanes(s);
			return error_sys(err, r, "cannot start a thread of the spool");
		}
		s->lanes[l].started = true;
	}
	return 0;
}

void spool_post(struct spool *s, struct job_list *answered)
{
	bool first;

	if (!answered->head)
		return;
	pthread_mutex_lock(&s->lock);
	first = !s->answers.head;
	job_join(&s->answers, answered);
	pthread_mutex_unlock(&s->lock);
	if (first && s->wake)
		s->wake(s->wake_arg);
}

void spool_post_one(struct spool *s, struct job *j)
{
	struct job_list one = { 0 };

	job_push(&one, j);
	spool_post(s, &one);
}

/* Under the lock.  A writer that waits for company is not woken to count. */
static void signal_lane(struct spool *s, enum lane_kind lane)
{
	if (lane != LANE_WRITER || !s->company.waiting || company_here(s))
		pthread_cond_signal(&s->lanes[lane].ready);
}

void spool_pass(struct spool *s, enum lane_kind lane, struct job *j)
{
	pthread_mutex_lock(&s->lock);
	job_push(&s->lanes[lane].jobs, j);
	if (lane == LANE_WRITER)
		company_add(s, j);
	signal_lane(s, lane);
	pthread_mutex_unlock(&s->lock);
}

void spool_expect(struct spool *s, unsigned writers)
{
	s->expected = writers;
}

void spool_wanted(struct spool *s)
{
	s->wanted++;
}

void spool_kick(struct spool *s)
{
	bool any = false;

	for (int l = LANE_BODIES; l < LANE_END; l++)
		any = any || s->gathered[l].head;
	if (!any)
		return;
	pthread_mutex_lock(&s->lock);
	s->company.expected = s->expected;
	s->company.wanted += s->wanted;
	s->wanted = 0;
	for (const struct job *j = s->gathered[LANE_WRITER].head; j; j = j->next)
		company_add(s, j);
	for (int l = LANE_BODIES; l < LANE_END; l++)
		if (s->gathered[l].head) {
			job_join(&s->lanes[l].jobs, &s->gathered[l]);
			signal_lane(s, (enum lane_kind)l);
		}
	pthread_mutex_unlock(&s->lock);
}

void spool_look_at_space(struct spool *s)
{
	pthread_mutex_lock(&s->lock);
	s->lanes[LANE_WRITER].more = true; /* lost when the writer is in mid-turn: then it has just looked */
	pthread_cond_signal(&s->lanes[LANE_WRITER].ready);
	pthread_mutex_unlock(&s->lock);
}

void spool_dispatch(struct spool *s)
{
	struct job_list answers;

	pthread_mutex_lock(&s->lock);
	answers = s->answers;
	s->answers = (struct job_list){ 0 };
	pthread_mutex_unlock(&s->lock);
	for (struct job *j; (j = job_pop(&answers)) != NULL;) {
		s->outstanding--;
		job_answer(j);
		job_free(s, j);
	}
}

bool spool_step(struct spool *s)
{
	bool did = false;

	assert(!s->threaded);
	spool_kick(s);
	for (int l = LANE_BODIES; l < LANE_END; l++) {
		struct lane *lane = &s->lanes[l];
		struct job_list jobs;
		if (!lane->jobs.head && !lane->more)
			continue;
		did = true;
		jobs = lane->jobs;
		lane->jobs = (struct job_list){ 0 };
		lane->more = run_lane(s, l, &jobs);
	}
	return did;
}

void spool_close(struct spool *s)
{
	if (!s)
		return;
	for (unsigned round = 0; s->outstanding; round++) {
		s->closing = round >= CLOSE_ROUNDS;
		spool_kick(s);
		if (!s->threaded) {
			spool_step(s);
		} else {
			/* The lanes run by themselves; completions wait for this thread. */
			struct timespec nap = { .tv_nsec = 200 * 1000 };
			bool none;
			pthread_mutex_lock(&s->lock);
			none = !s->answers.head;
			pthread_mutex_unlock(&s->lock);
			if (none) {
				nanosleep(&nap, NULL);
				round--;
				continue;
			}
		}
		spool_dispatch(s);
	}
	stop_lanes(s);
	s->ops->close(s->engine);
	spool_drop(s);
}

/* ---- the calls ---- */

/* Queues j for its lane, or for its answer when it is decided already. */
static void submit(struct spool *s, enum lane_kind lane, struct job *j)
{
	s->outstanding++;
	if (!j->status && s->closing && lane != LANE_BODIES)
		j->status = SPOOL_AGAIN;
	if (j->status) {
		spool_post_one(s, j);
		return;
	}
	job_push(&s->gathered[lane], j);
}

static const struct view nothing = { "", 0 };

void spool_accept(struct spool *s, struct spool_body *b, const struct spool_envelope *e, const bool *lease, uint32_t n,
                  spool_done *done, void *arg)
{
	struct job *j = b->job;

	assert(n >= 1);
	b->job = NULL;
	j->kind = JOB_ACCEPT;
	j->answer.done = done;
	j->arg = arg;
	j->messages = &j->own;
	j->messages_n = 1;
	if (!message_in_fill(s, &j->own, b, e, lease, n))
		j->status = SPOOL_AGAIN;
	else if (!b->file && atomic_load(&b->error) != SPOOL_OK)
		j->status = (enum spool_status)atomic_load(&b->error);
	if (j->status && b->file) {
		/* Its chunks may be under way: the bodies' lane, which knows when they are done, gives the answer. */
		atomic_store(&b->error, (int)j->status);
		j->status = 0;
	}
	submit(s, b->file ? LANE_BODIES : LANE_WRITER, j);
}

void spool_settle(struct spool *s, spool_id id, uint32_t slot, const struct spool_envelope *remains,
                  const struct spool_new *news, size_t news_n, spool_done *done, void *arg)
{
	struct job *j = job_new(s, JOB_SETTLE, nothing, remains ? remains->data : nothing);
	enum lane_kind lane = LANE_WRITER;
	size_t i = 0;

	if (!j) {
		for (; i < news_n; i++)
			spool_body_abort(news[i].body);
		if (done)
			done(arg, SPOOL_AGAIN, id); /* even the spares are used up: the only answer left is at once */
		return;
	}
	j->answer.done = done;
	j->arg = arg;
	j->id = id;
	j->slot = slot;
	if (remains) {
		j->remains = true;
		j->attempts = remains->attempts;
		j->when = remains->due;
		j->expires = remains->expires;
	}
	if (news_n && !j->status) {
		j->messages = alloc_get(s->alloc, news_n * sizeof *j->messages);
		if (!j->messages)
			j->status = SPOOL_AGAIN;
	}
	for (; i < news_n && j->status == 0; i++) {
		struct spool_body *b = news[i].body;
		if (!b->file && atomic_load(&b->error) != SPOOL_OK) {
			j->status = (enum spool_status)atomic_load(&b->error);
			break;
		}
		if (!message_in_fill(s, &j->messages[i], b, news[i].envelopes, NULL, news[i].n)) {
			j->status = SPOOL_AGAIN;
			break;
		}
		j->messages_n++;
		if (b->file)
			lane = LANE_BODIES;
	}
	if (j->status) { /* what was taken over goes by its own way, for its chunks may be under way */
		for (size_t k = 0; k < j->messages_n; k++)
			j->messages[k].body = NULL;
		for (size_t k = 0; k < news_n; k++)
			spool_body_abort(news[k].body);
	}
	submit(s, lane, j);
}

static struct job *ask(struct spool *s, enum job_kind kind, struct view dest, void *arg)
{
	struct job *j = job_new(s, kind, dest, nothing);

	if (j) {
		j->arg = arg;
		j->next_due = INT64_MAX;
	}
	return j;
}

void spool_due(struct spool *s, int64_t now, size_t max, spool_due_list *list, void *arg)
{
	struct job *j = ask(s, JOB_DUE, nothing, arg);

	if (!j) {
		list(arg, SPOOL_AGAIN, NULL, 0, INT64_MAX);
		return;
	}
	j->answer.due = list;
	j->when = now;
	j->max = max;
	submit(s, LANE_READER, j);
}

void spool_lease(struct spool *s, struct view dest, int64_t now, size_t max, spool_leased *leased, void *arg)
{
	struct job *j = ask(s, JOB_LEASE, dest, arg);

	if (!j) {
		leased(arg, SPOOL_AGAIN, NULL, 0);
		return;
	}
	j->answer.leased = leased;
	j->when = now;
	j->max = max;
	submit(s, LANE_READER, j);
}

void spool_unlease(struct spool *s, spool_id id, uint32_t slot)
{
	pthread_mutex_lock(&s->lock);
	marks_drop(&s->marks, id, slot);
	pthread_mutex_unlock(&s->lock);
}

void spool_read(struct spool *s, spool_id id, uint64_t offset, size_t n, spool_chunk *chunk, void *arg)
{
	struct job *j = ask(s, JOB_READ, nothing, arg);

	if (!j) {
		chunk(arg, SPOOL_AGAIN, nothing);
		return;
	}
	j->answer.chunk = chunk;
	j->id = id;
	j->offset = offset;
	j->max = n;
	submit(s, LANE_READER, j);
}

void spool_list(struct spool *s, spool_id after_id, uint32_t after_slot, struct view dest, size_t max,
                spool_leased *list, void *arg)
{
	struct job *j = ask(s, JOB_LIST, dest, arg);

	if (!j) {
		list(arg, SPOOL_AGAIN, NULL, 0);
		return;
	}
	j->answer.leased = list;
	j->after_id = after_id;
	j->after_slot = after_slot;
	j->max = max;
	submit(s, LANE_READER, j);
}

static void operate(struct spool *s, enum job_kind kind, spool_id id, struct view dest, int64_t now, spool_done *done,
                    void *arg)
{
	struct job *j = ask(s, kind, dest, arg);

	if (!j) {
		if (done)
			done(arg, SPOOL_AGAIN, 0);
		return;
	}
	j->answer.done = done;
	j->id = id;
	j->when = now;
	submit(s, LANE_WRITER, j);
}

void spool_hold(struct spool *s, spool_id id, struct view dest, bool on, spool_done *done, void *arg)
{
	operate(s, on ? JOB_HOLD : JOB_RELEASE, id, dest, 0, done, arg);
}

void spool_flush(struct spool *s, spool_id id, struct view dest, int64_t now, spool_done *done, void *arg)
{
	operate(s, JOB_FLUSH, id, dest, now, done, arg);
}

void spool_delete(struct spool *s, spool_id id, struct view dest, spool_done *done, void *arg)
{
	operate(s, JOB_DELETE, id, dest, 0, done, arg);
}

void spool_get_stats(struct spool *s, struct spool_stats *out)
{
	pthread_mutex_lock(&s->lock);
	*out = s->stats;
	out->in_flight = s->marks.leased;
	out->sick = atomic_load(&s->sick);
	pthread_mutex_unlock(&s->lock);
}

bool spool_damaged(struct spool *s)
{
	return atomic_load(&s->damaged);
}

unsigned spool_pressure(struct spool *s)
{
	uint64_t held = atomic_load(&s->held_bytes) * 100 / HELD_BYTES_MAX;
	unsigned space;

	if (atomic_load(&s->sick))
		return 100;
	pthread_mutex_lock(&s->lock);
	space = s->space_pressure;
	pthread_mutex_unlock(&s->lock);
	return held > space ? (unsigned)held : space;
}
