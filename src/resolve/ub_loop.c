/* ub_loop.c - see ub_loop.h.  An event of libunbound is a watch, a timer, or both; one that does not persist is taken
 * down before its callback runs, as libevent does. */
#include "resolve/ub_loop.h"

#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unbound.h>
#include <unbound-event.h>

struct base {
	struct ub_event_base head; /* first: libunbound sees only this */
	struct loop *loop;
};

struct event {
	struct ub_event head; /* first */
	struct loop *loop;
	struct loop_watch watch;
	struct loop_timer timer;
	int fd;
	short bits;
	bool watching, added;
	void (*callback)(int, short, void *);
	void *arg;
};

static struct event *of(struct ub_event *ev)
{
	return (struct event *)(void *)ev;
}

static void take_down(struct event *e)
{
	if (e->watching)
		loop_watch_stop(&e->watch);
	e->watching = false;
	loop_timer_stop(&e->timer);
	e->added = false;
}

static void on_ready(void *arg, unsigned io)
{
	struct event *e = arg;
	short got = (short)(((io & LOOP_READ) ? UB_EV_READ : 0) | ((io & LOOP_WRITE) ? UB_EV_WRITE : 0));

	if (!(e->bits & UB_EV_PERSIST))
		take_down(e);
	e->callback(e->fd, (short)(got & e->bits), e->arg); /* may free the event */
}

static void on_time(void *arg)
{
	struct event *e = arg;

	if (!(e->bits & UB_EV_PERSIST))
		take_down(e);
	e->callback(e->fd, UB_EV_TIMEOUT, e->arg);
}

static void set_time(struct event *e, const struct timeval *tv)
{
	uint64_t ms = (uint64_t)tv->tv_sec * 1000 + ((uint64_t)tv->tv_usec + 999) / 1000;

	loop_timer_set(&e->timer, loop_now(e->loop) + ms);
}

static int event_add(struct ub_event *ev, struct timeval *tv)
{
	struct event *e = of(ev);
	unsigned want = ((e->bits & UB_EV_READ) ? LOOP_READ : 0) | ((e->bits & UB_EV_WRITE) ? LOOP_WRITE : 0);

	if (e->watching)
		loop_watch_want(&e->watch, want);
	else if (e->fd != -1 && want) {
		if (loop_watch_start(&e->watch, e->loop, e->fd, want, on_ready, e) != 0)
			return -1;
		e->watching = true;
	}
	if (tv && (e->bits & UB_EV_TIMEOUT))
		set_time(e, tv);
	e->added = true;
	return 0;
}

static int event_del(struct ub_event *ev)
{
	take_down(of(ev));
	return 0;
}

static void event_add_bits(struct ub_event *ev, short bits)
{
	of(ev)->bits |= bits;
}

static void event_del_bits(struct ub_event *ev, short bits)
{
	of(ev)->bits = (short)(of(ev)->bits & ~bits);
}

static void event_set_fd(struct ub_event *ev, int fd)
{
	of(ev)->fd = fd;
}

static void event_free(struct ub_event *ev)
{
	take_down(of(ev));
	free(ev);
}

static int event_add_timer(struct ub_event *ev, struct ub_event_base *base, void (*cb)(int, short, void *), void *arg,
                           struct timeval *tv)
{
	struct event *e = of(ev);

	(void)base;
	e->callback = cb;
	e->arg = arg;
	set_time(e, tv);
	e->added = true;
	return 0;
}

static int event_del_timer(struct ub_event *ev)
{
	loop_timer_stop(&of(ev)->timer);
	return 0;
}

static int no_signal(struct ub_event *ev, struct timeval *tv)
{
	(void)ev;
	(void)tv;
	return -1;
}

static int no_signal_del(struct ub_event *ev)
{
	(void)ev;
	return -1;
}

static struct ub_event_vmt event_vmt = {
	.add_bits = event_add_bits, .del_bits = event_del_bits, .set_fd = event_set_fd, .free = event_free, .add = event_add,
	.del = event_del, .add_timer = event_add_timer, .del_timer = event_del_timer, .add_signal = no_signal,
	.del_signal = no_signal_del,
};

static struct ub_event *new_event(struct ub_event_base *b, int fd, short bits, void (*cb)(int, short, void *), void *arg)
{
	struct base *base = (struct base *)(void *)b;
	struct event *e = calloc(1, sizeof *e);

	if (!e)
		return NULL;
	*e = (struct event){ .head = { UB_EVENT_MAGIC, &event_vmt }, .loop = base->loop, .fd = fd, .bits = bits, .callback = cb, .arg = arg };
	loop_timer_init(&e->timer, base->loop, on_time, e);
	return &e->head;
}

static struct ub_event_base_vmt base_vmt = { .new_event = new_event };

struct ub_event_base *ub_loop_base(struct loop *loop)
{
	struct base *b = calloc(1, sizeof *b);

	if (!b)
		return NULL;
	*b = (struct base){ .head = { UB_EVENT_MAGIC, &base_vmt }, .loop = loop };
	return &b->head;
}

void ub_loop_free(struct ub_event_base *b)
{
	free(b);
}
