/* thread.c - see thread.h. */
#include "net/thread.h"

#include <stdlib.h>
#include <unistd.h>

#define POST_STOP 0 /* rooms number theirs from 1 */

static struct loop_post *take_all(struct loop_thread *t)
{
	struct loop_post *list;

	pthread_mutex_lock(&t->lock);
	list = t->posts;
	t->posts = NULL;
	t->posts_end = &t->posts;
	pthread_mutex_unlock(&t->lock);
	return list;
}

static void on_posts(void *arg)
{
	struct loop_thread *t = arg;

	for (struct loop_post *p = take_all(t), *next; p; p = next) {
		next = p->next;
		if (p->kind == POST_STOP)
			loop_stop(t->loop);
		else
			t->take(t->arg, p);
		free(p);
	}
}

int loop_thread_init(struct loop_thread *t, const struct env *env, struct loop *loop,
		     void (*take)(void *arg, const struct loop_post *), void *arg)
{
	*t = (struct loop_thread){ .loop = loop, .take = take, .arg = arg, .own_loop = !loop };
	t->posts_end = &t->posts;
	if (t->own_loop)
		t->loop = loop_new(env);
	if (!t->loop)
		return -1;
	if (loop_wake_init(&t->wake, t->loop, on_posts, t) == -1) {
		if (t->own_loop)
			loop_free(t->loop);
		t->loop = NULL;
		return -1;
	}
	pthread_mutex_init(&t->lock, NULL);
	return 0;
}

static void *thread_main(void *arg)
{
	struct loop_thread *t = arg;

	loop_run(t->loop);
	return NULL;
}

int loop_thread_run(struct loop_thread *t, struct error *e)
{
	int r = pthread_create(&t->thread, NULL, thread_main, t);

	if (r != 0)
		return error_sys(e, r, "start a thread");
	t->threaded = true;
	return 0;
}

bool loop_thread_post(struct loop_thread *t, const struct loop_post *what)
{
	struct loop_post *p = malloc(sizeof *p);

	if (!p)
		return false;
	*p = *what;
	p->next = NULL;
	pthread_mutex_lock(&t->lock);
	*t->posts_end = p;
	t->posts_end = &p->next;
	pthread_mutex_unlock(&t->lock);
	if (t->own_loop)
		loop_wake(&t->wake); /* before the thread runs too: the wake-up waits for it */
	else
		on_posts(t);
	return true;
}

void loop_thread_stop(struct loop_thread *t)
{
	struct loop_post stop = { .kind = POST_STOP, .fd = -1 };

	if (!t->loop)
		return;
	if (t->threaded) {
		if (!loop_thread_post(t, &stop))
			abort(); /* a thread cannot be left behind while its data are freed */
		pthread_join(t->thread, NULL);
		t->threaded = false;
	}
	for (struct loop_post *p = take_all(t), *next; p; p = next) {
		next = p->next;
		if (p->fd != -1)
			close(p->fd);
		if (p->channel)
			channel_free(p->channel);
		free(p);
	}
}

void loop_thread_free(struct loop_thread *t)
{
	if (!t->loop)
		return;
	loop_wake_free(&t->wake);
	if (t->own_loop)
		loop_free(t->loop);
	pthread_mutex_destroy(&t->lock);
	t->loop = NULL;
}
