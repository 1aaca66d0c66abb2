/* thread.h - a loop with a mailbox, on the role's main loop or on a thread of its own.
 *
 * Rooms with one loop a core (receive, send) share nothing between them; what another loop should know is posted to it
 * and taken there, in order.  Member 0 usually borrows the main loop and takes posts at once, so only that loop's own
 * thread may post to it.
 * Ownership: a post is allocated by malloc and freed here after `take`.  Threads: only loop_thread_post is for all.
 */
#ifndef NET_THREAD_H
#define NET_THREAD_H
#include "net/channel.h"
#include "net/loop.h"

#include <pthread.h>

struct loop_post {
	struct loop_post *next;
	unsigned kind, peer;      /* the room's own numbers */
	uint32_t number, generation;
	int fd;                   /* -1: none */
	struct channel *channel;  /* already on the taker's loop; NULL: none */
};

struct loop_thread {
	struct loop *loop;
	void (*take)(void *arg, const struct loop_post *);
	void *arg;
	/* private */
	bool own_loop, threaded;
	pthread_t thread;
	pthread_mutex_t lock; /* guards posts */
	struct loop_wake wake;
	struct loop_post *posts, **posts_end;
};

/* loop NULL: makes one.  -1: memory or descriptors. */
int loop_thread_init(struct loop_thread *, const struct env *, struct loop *, void (*take)(void *arg, const struct loop_post *), void *arg);
int loop_thread_run(struct loop_thread *, struct error *);  /* starts the thread; without it posts are taken at once */
bool loop_thread_post(struct loop_thread *, const struct loop_post *); /* copied; false: memory */
void loop_thread_stop(struct loop_thread *); /* the thread has ended when this returns; nothing is taken any more */
void loop_thread_free(struct loop_thread *); /* after what was on the loop is gone */

#endif
