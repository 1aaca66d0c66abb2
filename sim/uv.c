/* uv.c - what net/loop.c asks of libuv, over the simulated world; see sim.h.
 *
 * So the real loop runs, with its heap of deadlines and its end of a turn; only the sleep is ours, and nobody ever sleeps:
 * world.c turns the loops until they are quiet, then moves the clock.  Descriptors are asked of net.c (level-triggered, as
 * epoll is here), in an order that dice choose, because no kernel promises one.
 */
#include "sim/sim.h"

#include <assert.h>
#include <stdlib.h>
#include <uv.h>

#define SPINS_MAX 20000 /* turns at one moment: the longest honest cascade is far below */

struct handle {
	struct handle *next;
	uv_handle_t *h;
	enum kind { POLL = 1, ASYNC } kind;
	int fd, events;
	bool active, pending, closed;
	uv_close_cb close_cb;
};

struct fake {
	struct handle *first, **last;
	uint64_t n;
	int64_t alarm; /* -1: none */
	uv_timer_t *timer;
	uv_timer_cb rang;
	bool timer_closing;
	uint64_t work; /* handlers called */
};

static struct fake *of(uv_loop_t *l)
{
	return l->data;
}

static struct handle *handle_of(uv_handle_t *h)
{
	return h->u.reserved[0];
}

int uv_loop_init(uv_loop_t *l)
{
	struct fake *f = calloc(1, sizeof *f);

	if (!f)
		return UV_ENOMEM;
	f->last = &f->first;
	f->alarm = -1;
	l->data = f;
	return 0;
}

int uv_loop_close(uv_loop_t *l)
{
	if (of(l)->first)
		return UV_EBUSY;
	free(l->data);
	return 0;
}

int uv_loop_alive(const uv_loop_t *l)
{
	const struct fake *f = l->data;

	return f->first != NULL || f->alarm >= 0;
}

void uv_update_time(uv_loop_t *l)
{
	(void)l;
}

int uv_timer_init(uv_loop_t *l, uv_timer_t *t)
{
	t->loop = l;
	t->type = UV_TIMER;
	of(l)->timer = t; /* one a loop: net/loop.c keeps its own heap */
	return 0;
}

int uv_timer_start(uv_timer_t *t, uv_timer_cb cb, uint64_t timeout, uint64_t repeat)
{
	struct fake *f = of(t->loop);

	assert(t == f->timer && repeat == 0);
	f->rang = cb;
	f->alarm = world.now + (int64_t)timeout;
	return 0;
}

void uv_stop(uv_loop_t *l)
{
	(void)l; /* a turn of ours never sleeps */
}

int uv_timer_stop(uv_timer_t *t)
{
	of(t->loop)->alarm = -1;
	return 0;
}

static int add(uv_loop_t *l, uv_handle_t *h, enum kind kind, int fd)
{
	struct fake *f = of(l);
	struct handle *one = calloc(1, sizeof *one);

	if (!one)
		return UV_ENOMEM;
	one->h = h;
	one->kind = kind;
	one->fd = fd;
	h->loop = l;
	h->type = kind == POLL ? UV_POLL : UV_ASYNC;
	h->u.reserved[0] = one;
	*f->last = one;
	f->last = &one->next;
	f->n++;
	return 0;
}

int uv_poll_init(uv_loop_t *l, uv_poll_t *p, int fd)
{
	return add(l, (uv_handle_t *)p, POLL, fd);
}

int uv_poll_start(uv_poll_t *p, int events, uv_poll_cb cb)
{
	struct handle *one = handle_of((uv_handle_t *)p);

	one->events = events;
	one->active = true;
	p->poll_cb = cb;
	return 0;
}

int uv_poll_stop(uv_poll_t *p)
{
	handle_of((uv_handle_t *)p)->active = false;
	return 0;
}

int uv_async_init(uv_loop_t *l, uv_async_t *a, uv_async_cb cb)
{
	a->async_cb = cb;
	return add(l, (uv_handle_t *)a, ASYNC, -1);
}

int uv_async_send(uv_async_t *a)
{
	handle_of((uv_handle_t *)a)->pending = true;
	return 0;
}

/* Signals are super's business; no role of the simulator has any. */
int uv_signal_init(uv_loop_t *l, uv_signal_t *s)
{
	(void)l;
	(void)s;
	return UV_ENOSYS;
}

int uv_signal_start(uv_signal_t *s, uv_signal_cb cb, int signum)
{
	(void)s;
	(void)cb;
	(void)signum;
	return UV_ENOSYS;
}

void uv_close(uv_handle_t *h, uv_close_cb cb)
{
	struct handle *one;

	if (h->type == UV_TIMER) {
		of(h->loop)->alarm = -1;
		return;
	}
	one = handle_of(h);
	assert(!one->closed);
	one->closed = true;
	one->active = false;
	one->close_cb = cb;
}

static void reap(struct fake *f)
{
	struct handle **at = &f->first, *one;

	while ((one = *at) != NULL) {
		if (!one->closed) {
			at = &one->next;
			continue;
		}
		*at = one->next;
		f->n--;
		if (one->close_cb)
			one->close_cb(one->h); /* frees the handle of libuv */
		free(one);
	}
	f->last = at;
}

static void call(struct fake *f, struct handle *one)
{
	unsigned want = 0, is;
	int events = 0;

	if (one->closed)
		return;
	if (one->kind == ASYNC) {
		if (!one->pending)
			return;
		one->pending = false;
		f->work++;
		((uv_async_t *)one->h)->async_cb((uv_async_t *)one->h);
		return;
	}
	if (!one->active)
		return;
	want |= one->events & UV_READABLE ? LOOP_READ : 0u;
	want |= one->events & UV_WRITABLE ? LOOP_WRITE : 0u;
	is = world.broken == BREAK_SPIN ? want : fd_ready(one->fd, want) & want;
	if (!is)
		return;
	events |= is & LOOP_READ ? UV_READABLE : 0;
	events |= is & LOOP_WRITE ? UV_WRITABLE : 0;
	f->work++;
	((uv_poll_t *)one->h)->poll_cb((uv_poll_t *)one->h, 0, events);
}

int uv_run(uv_loop_t *l, uv_run_mode mode)
{
	struct fake *f = of(l);
	struct handle **list = calloc(f->n + 1, sizeof *list);
	uint64_t n = 0, from;

	(void)mode;
	if (!list)
		abort();
	for (struct handle *one = f->first; one; one = one->next)
		list[n++] = one;
	from = n > 1 ? rng_below(&world.net, n) : 0;
	for (uint64_t i = 0; i < n; i++)
		call(f, list[(from + i) % n]);
	free(list);
	if (f->alarm >= 0 && f->alarm <= world.now) {
		f->alarm = -1;
		f->work++;
			f->rang(f->timer);
	}
	reap(f);
	return f->first != NULL;
}

/* net/loop.c begins with its uv_loop_t, so its address is that of the loop. */
static struct fake *fake_of(struct loop *l)
{
	return of((uv_loop_t *)l);
}

bool loop_settle(struct loop *l)
{
	struct fake *f = fake_of(l);
	uint64_t before;

	for (int i = 0; i < SPINS_MAX; i++) {
		before = f->work;
		loop_turn(l, false);
		if (f->work == before && (f->alarm < 0 || f->alarm > world.now))
			return true;
	}
	return false;
}

int64_t loop_wakes_at(struct loop *l)
{
	return fake_of(l)->alarm;
}
