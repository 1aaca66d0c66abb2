/* pool.h - a few threads for work that blocks on the disk; results come back on the loop.
 *
 * Use: local_pool_new after confinement (threads inherit it), local_pool_add from the loop's thread, the job's `run` happens on
 * some thread and its `done` on the loop, exactly once.  Jobs are independent: no order is kept between them.
 * local_pool_free waits for the jobs that run and calls `done` for all of them.
 */
#ifndef LOCAL_POOL_H
#define LOCAL_POOL_H
#include "net/loop.h"

struct pool;

struct pool_job { /* embedded in the caller's struct, borrowed until done */
	struct pool_job *next;
	void (*run)(struct pool_job *);
	void (*done)(struct pool_job *);
};

struct pool *local_pool_new(struct loop *, unsigned threads); /* 0 threads: run at once in local_pool_add, done later in the turn */
void local_pool_add(struct pool *, struct pool_job *);
void local_pool_free(struct pool *);

#endif
