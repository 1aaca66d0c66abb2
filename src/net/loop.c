/* loop.c - loop.h over libuv.
 *
 * A turn is: run what was asked for later, arm one uv timer for the nearest deadline, one uv_run (which polls once and calls
 * the handlers of descriptors, wakes and signals), fire what is due, run what was asked for later.  Deadlines are kept
 * in a heap of our own and by the injected clock; the uv timer only ends the sleep.  So a simulator that turns the loop
 * without blocking decides what time it is.
 * libuv frees handles at the end of a later turn, so each lives in a block of its own that points back to its owner
 * until that one stops it.  No other file knows libuv.
 */
#include "net/loop.h"

#include "base/alloc.h"
#include "events/events.h"

#include <assert.h>
#include <stdlib.h>
#include <uv.h>

/* What was asked for later may ask again; after so many runs the loop polls (without sleeping) before it goes on. */
#define LATER_ROUNDS 64
#define HEAP_FIRST 64

struct heap_entry {
	uint64_t at, seq;
	struct loop_timer *timer;
};

struct loop {
	uv_loop_t uv;
	uv_timer_t alarm;
	const struct env *env;
	uint64_t now;
	bool stale; /* the clock has to be read before the next handler */
	bool stopping;
	struct heap_entry *heap;
	size_t heap_n, heap_cap;
	uint64_t seq, armed; /* armed: the time that the alarm is set to, 0: none */
	struct loop_later *first, **last;
	void *scratch[2];
	struct events *log;
};

/* ---- the heap ---- */

static bool earlier(const struct heap_entry *a, const struct heap_entry *b)
{
	return a->at < b->at || (a->at == b->at && a->seq < b->seq);
}

static void put_at(struct loop *l, size_t i, struct heap_entry e)
{
	l->heap[i] = e;
	e.timer->place = i + 1;
}

static void sift_up(struct loop *l, size_t i)
{
	struct heap_entry e = l->heap[i];

	for (; i > 0 && earlier(&e, &l->heap[(i - 1) / 2]); i = (i - 1) / 2)
		put_at(l, i, l->heap[(i - 1) / 2]);
	put_at(l, i, e);
}

static void sift_down(struct loop *l, size_t i)
{
	struct heap_entry e = l->heap[i];
	size_t child;

	for (; (child = 2 * i + 1) < l->heap_n; i = child) {
		if (child + 1 < l->heap_n && earlier(&l->heap[child + 1], &l->heap[child]))
			child++;
		if (!earlier(&l->heap[child], &e))
			break;
		put_at(l, i, l->heap[child]);
	}
	put_at(l, i, e);
}

static void heap_grow(struct loop *l)
{
	size_t cap = l->heap_cap ? l->heap_cap * 2 : HEAP_FIRST;
	struct heap_entry *mem = alloc_libc.resize(alloc_libc.arg, l->heap, cap * sizeof *mem);

	if (!mem)
		abort(); /* no deadline could be kept: nothing safe is left, and super starts the role again */
	l->heap = mem;
	l->heap_cap = cap;
}

void loop_timer_init(struct loop_timer *t, struct loop *l, void (*fire)(void *arg), void *arg)
{
	*t = (struct loop_timer){ .loop = l, .fire = fire, .arg = arg };
}

void loop_timer_set(struct loop_timer *t, uint64_t at)
{
	struct loop *l = t->loop;
	struct heap_entry e = { at, ++l->seq, t };
	size_t i;

	t->at = at;
	if (!t->place) {
		if (l->heap_n == l->heap_cap)
			heap_grow(l);
		put_at(l, l->heap_n++, e);
		sift_up(l, l->heap_n - 1);
		return;
	}
	i = t->place - 1;
	assert(l->heap[i].timer == t);
	if (earlier(&e, &l->heap[i])) {
		l->heap[i] = e;
		sift_up(l, i);
	} else {
		l->heap[i] = e;
		sift_down(l, i);
	}
}

void loop_timer_stop(struct loop_timer *t)
{
	struct loop *l = t->loop;
	size_t i = t->place;

	if (!i)
		return;
	i--;
	assert(l->heap[i].timer == t);
	t->place = 0;
	if (i == --l->heap_n)
		return;
	put_at(l, i, l->heap[l->heap_n]);
	sift_up(l, i);
	sift_down(l, l->heap[i].timer->place - 1);
}

/* Fires what is due.  What a handler sets anew waits for the next turn, even when it is due at once. */
static bool fire_due(struct loop *l)
{
	uint64_t seq = l->seq;
	bool any = false;

	while (l->heap_n && l->heap[0].at <= l->now && l->heap[0].seq <= seq) {
		struct loop_timer *t = l->heap[0].timer;

		loop_timer_stop(t);
		t->fire(t->arg);
		any = true;
	}
	return any;
}

/* ---- later ---- */

void loop_later(struct loop *l, struct loop_later *later)
{
	if (later->queued)
		return;
	later->queued = true;
	later->next = NULL;
	*l->last = later;
	l->last = &later->next;
}

void loop_later_cancel(struct loop *l, struct loop_later *later)
{
	struct loop_later **p = &l->first;

	if (!later->queued)
		return;
	while (*p != later)
		p = &(*p)->next;
	*p = later->next;
	if (l->last == &later->next)
		l->last = p;
	later->queued = false;
	later->next = NULL;
}

/* One round takes what is queued when it starts; what that queues is the next round. */
static bool run_laters(struct loop *l)
{
	struct loop_later end = { NULL, true, NULL, NULL };
	unsigned round;

	if (!l->first)
		return false;
	for (round = 0; l->first && round < LATER_ROUNDS; round++) {
		*l->last = &end; /* a mark in the list: it stays right when a handler cancels others */
		l->last = &end.next;
		end.next = NULL;
		while (l->first != &end) {
			struct loop_later *one = l->first;

			l->first = one->next; /* the mark at least */
			one->next = NULL;
			one->queued = false;
			one->run(one->arg);
		}
		l->first = end.next;
		if (!l->first)
			l->last = &l->first;
	}
	return true;
}

/* ---- turns ---- */

static void read_clock(struct loop *l)
{
	int64_t now;

	if (!l->stale)
		return;
	now = env_mono_ms(l->env);
	if (now > 0 && (uint64_t)now > l->now)
		l->now = (uint64_t)now;
	l->stale = false;
}

static void alarm_rang(uv_timer_t *alarm)
{
	struct loop *l = alarm->data;

	l->armed = 0;
	uv_stop(&l->uv); /* libuv rings what is due already before it polls, and would then sleep without a deadline */
}

static void arm(struct loop *l)
{
	uint64_t at = l->heap_n ? l->heap[0].at : 0, wait;

	if (!l->heap_n) {
		if (l->armed)
			uv_timer_stop(&l->alarm);
		l->armed = 0;
		return;
	}
	if (at == 0)
		at = 1;
	if (l->armed == at && at > l->now)
		return;
	wait = at > l->now ? at - l->now : 0;
	uv_update_time(&l->uv);
	uv_timer_start(&l->alarm, alarm_rang, wait, 0);
	l->armed = at;
}

bool loop_turn(struct loop *l, bool may_block)
{
	l->stale = true;
	read_clock(l);
	if (run_laters(l))
		may_block = false;
	arm(l);
	l->stale = true;
	events_flush(l->log);
	if (uv_loop_alive(&l->uv))
		uv_run(&l->uv, may_block && !l->stopping ? UV_RUN_ONCE : UV_RUN_NOWAIT);
	l->stale = true;
	read_clock(l);
	fire_due(l);
	run_laters(l);
	return l->first || l->heap_n || uv_loop_alive(&l->uv);
}

int loop_run(struct loop *l)
{
	l->stopping = false;
	while (!l->stopping && loop_turn(l, true))
		;
	return 0;
}

void loop_stop(struct loop *l)
{
	l->stopping = true;
}

uint64_t loop_now(const struct loop *l)
{
	return l->now;
}

void loop_log(struct loop *l, struct events *log)
{
	l->log = log;
}

void *loop_scratch(struct loop *l, unsigned which)
{
	assert(which < 2);
	return l->scratch[which];
}

/* ---- life ---- */

struct loop *loop_new(const struct env *env)
{
	struct loop *l = alloc_get(&alloc_libc, sizeof *l);

	if (!l)
		return NULL;
	*l = (struct loop){ .env = env, .stale = true };
	l->last = &l->first;
	l->scratch[0] = alloc_get(&alloc_libc, LOOP_SCRATCH);
	l->scratch[1] = alloc_get(&alloc_libc, LOOP_SCRATCH);
	if (!l->scratch[0] || !l->scratch[1] || uv_loop_init(&l->uv) != 0) {
		alloc_put(&alloc_libc, l->scratch[0]);
		alloc_put(&alloc_libc, l->scratch[1]);
		alloc_put(&alloc_libc, l);
		return NULL;
	}
	uv_timer_init(&l->uv, &l->alarm); /* cannot fail */
	l->alarm.data = l;
	read_clock(l);
	return l;
}

void loop_free(struct loop *l)
{
	unsigned i;

	if (!l)
		return;
	uv_close((uv_handle_t *)&l->alarm, NULL);
	for (i = 0; i < 3 && uv_run(&l->uv, UV_RUN_NOWAIT) != 0; i++)
		; /* the close callbacks of stopped handles */
	i = uv_loop_close(&l->uv) == 0;
	assert(i); /* else somebody still watches something: our bug */
	alloc_put(&alloc_libc, l->heap);
	alloc_put_secret(&alloc_libc, l->scratch[0], LOOP_SCRATCH);
	alloc_put_secret(&alloc_libc, l->scratch[1], LOOP_SCRATCH);
	alloc_put(&alloc_libc, l);
}

/* ---- descriptors ---- */

/* What is no longer wanted stays armed until it rings once: a session that holds its reading back while it waits for an
 * answer mostly hears nothing meanwhile, and is spared two system calls. */
struct watch_impl {
	uv_poll_t uv;
	struct loop_watch *watch; /* NULL once stopped */
	unsigned armed;           /* what libuv watches for: at least what is wanted */
};

static void impl_closed(uv_handle_t *h)
{
	alloc_put(&alloc_libc, h->data);
}

static void watch_rang(uv_poll_t *h, int status, int events);

static int watch_apply(struct watch_impl *impl)
{
	int events = 0;

	impl->armed = impl->watch->want;
	if (impl->armed & LOOP_READ)
		events |= UV_READABLE;
	if (impl->armed & LOOP_WRITE)
		events |= UV_WRITABLE;
	return events ? uv_poll_start(&impl->uv, events, watch_rang) : uv_poll_stop(&impl->uv);
}

static void watch_rang(uv_poll_t *h, int status, int events)
{
	struct watch_impl *impl = h->data;
	struct loop_watch *w = impl->watch;
	unsigned io = 0;

	if (!w)
		return;
	read_clock(w->loop);
	if (events & UV_READABLE)
		io |= LOOP_READ;
	if (events & UV_WRITABLE)
		io |= LOOP_WRITE;
	if (status < 0) {
		io = w->want; /* an error on the descriptor: let the handler meet it in its own call */
		impl->armed = 0; /* libuv stopped the handle when it told the error */
	}
	bool unwanted = io & ~w->want;
	io &= w->want;
	if (io)
		w->ready(w->arg, io);
	/* a handler that still wants it keeps it */
	if (impl->watch && ((unwanted && impl->armed & ~w->want) || (w->want & ~impl->armed)))
		watch_apply(impl);
}

int loop_watch_start(struct loop_watch *w, struct loop *l, int fd, unsigned want, void (*ready)(void *arg, unsigned io),
		     void *arg)
{
	struct watch_impl *impl = alloc_get(&alloc_libc, sizeof *impl);

	if (!impl)
		return -1;
	*w = (struct loop_watch){ .loop = l, .impl = impl, .fd = fd, .want = want, .ready = ready, .arg = arg };
	impl->watch = w;
	if (uv_poll_init(&l->uv, &impl->uv, fd) != 0) {
		alloc_put(&alloc_libc, impl);
		w->impl = NULL;
		return -1;
	}
	impl->uv.data = impl;
	if (watch_apply(impl) != 0) {
		loop_watch_stop(w);
		return -1;
	}
	return 0;
}

void loop_watch_want(struct loop_watch *w, unsigned want)
{
	if (!w->impl || w->want == want)
		return;
	w->want = want;
	if (want & ~((struct watch_impl *)w->impl)->armed)
		watch_apply(w->impl);
}

void loop_watch_stop(struct loop_watch *w)
{
	struct watch_impl *impl = w->impl;

	if (!impl)
		return;
	impl->watch = NULL;
	w->impl = NULL;
	uv_close((uv_handle_t *)&impl->uv, impl_closed);
}

/* ---- wakes ---- */

struct wake_impl {
	uv_async_t uv;
	struct loop_wake *wake;
};

static void wake_rang(uv_async_t *h)
{
	struct wake_impl *impl = h->data;

	if (!impl->wake)
		return;
	read_clock(impl->wake->loop);
	impl->wake->woken(impl->wake->arg);
}

int loop_wake_init(struct loop_wake *w, struct loop *l, void (*woken)(void *arg), void *arg)
{
	struct wake_impl *impl = alloc_get(&alloc_libc, sizeof *impl);

	if (!impl)
		return -1;
	impl->wake = w;
	if (uv_async_init(&l->uv, &impl->uv, wake_rang) != 0) {
		alloc_put(&alloc_libc, impl);
		return -1;
	}
	impl->uv.data = impl;
	*w = (struct loop_wake){ .loop = l, .impl = impl, .woken = woken, .arg = arg };
	return 0;
}

void loop_wake(struct loop_wake *w)
{
	struct wake_impl *impl = w->impl;

	uv_async_send(&impl->uv);
}

void loop_wake_free(struct loop_wake *w)
{
	struct wake_impl *impl = w->impl;

	if (!impl)
		return;
	impl->wake = NULL;
	w->impl = NULL;
	uv_close((uv_handle_t *)&impl->uv, impl_closed);
}

/* ---- signals ---- */

struct signal_impl {
	uv_signal_t uv;
	struct loop_signal *sig;
};

static void signal_rang(uv_signal_t *h, int signum)
{
	struct signal_impl *impl = h->data;

	if (!impl->sig)
		return;
	read_clock(impl->sig->loop);
	impl->sig->caught(impl->sig->arg, signum);
}

int loop_signal_start(struct loop_signal *s, struct loop *l, int signum, void (*caught)(void *arg, int signum), void *arg)
{
	struct signal_impl *impl = alloc_get(&alloc_libc, sizeof *impl);

	if (!impl)
		return -1;
	impl->sig = s;
	if (uv_signal_init(&l->uv, &impl->uv) != 0) {
		alloc_put(&alloc_libc, impl);
		return -1;
	}
	impl->uv.data = impl;
	*s = (struct loop_signal){ .loop = l, .impl = impl, .caught = caught, .arg = arg };
	if (uv_signal_start(&impl->uv, signal_rang, signum) != 0) {
		loop_signal_stop(s);
		return -1;
	}
	return 0;
}

void loop_signal_stop(struct loop_signal *s)
{
	struct signal_impl *impl = s->impl;

	if (!impl)
		return;
	impl->sig = NULL;
	s->impl = NULL;
	uv_close((uv_handle_t *)&impl->uv, impl_closed);
}
