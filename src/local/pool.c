/* pool.c - see pool.h. */
#include "local/pool.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

/* More threads than this do not make a disk faster. */
#define POOL_THREADS_MAX 16

struct pool {
	struct loop *loop;
	struct loop_wake wake;
	struct loop_later later; /* without threads: done at the end of the turn, never inside local_pool_add */
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct pool_job *todo, **todo_end, *finished;
	pthread_t threads[POOL_THREADS_MAX];
	unsigned count;
	bool stopping;
};

static struct pool_job *take_finished(struct pool *p)
{
	struct pool_job *list;

	pthread_mutex_lock(&p->lock);
	list = p->finished;
	p->finished = NULL;
	pthread_mutex_unlock(&p->lock);
	return list;
}

static void on_finished(void *arg)
{
	struct pool *p = arg;

	for (struct pool_job *job = take_finished(p), *next; job; job = next) {
		next = job->next;
		job->done(job);
	}
}

static void *work(void *arg)
{
	struct pool *p = arg;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (!p->todo && !p->stopping)
			pthread_cond_wait(&p->work, &p->lock);
		struct pool_job *job = p->todo;
		if (!job)
			break; /* stopping, and nothing is left */
		p->todo = job->next;
		if (!p->todo)
			p->todo_end = &p->todo;
		pthread_mutex_unlock(&p->lock);
		job->run(job);
		pthread_mutex_lock(&p->lock);
		job->next = p->finished;
		p->finished = job;
		loop_wake(&p->wake);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

struct pool *local_pool_new(struct loop *loop, unsigned threads)
{
	struct pool *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	p->loop = loop;
	p->todo_end = &p->todo;
	p->later.run = on_finished;
	p->later.arg = p;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	if (loop_wake_init(&p->wake, loop, on_finished, p) == -1) {
		free(p);
		return NULL;
	}
	if (threads > POOL_THREADS_MAX)
		threads = POOL_THREADS_MAX;
	while (p->count < threads && pthread_create(&p->threads[p->count], NULL, work, p) == 0)
		p->count++;
	return p; /* with fewer threads than asked for, even none, it still works */
}

void local_pool_add(struct pool *p, struct pool_job *job)
{
	assert(!p->stopping);
	if (p->count == 0) {
		job->run(job);
		job->next = p->finished;
		p->finished = job;
		loop_later(p->loop, &p->later);
		return;
	}
	job->next = NULL;
	pthread_mutex_lock(&p->lock);
	*p->todo_end = job;
	p->todo_end = &job->next;
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

void local_pool_free(struct pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->count; i++)
		pthread_join(p->threads[i], NULL);
	on_finished(p);
	loop_later_cancel(p->loop, &p->later);
	loop_wake_free(&p->wake);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
