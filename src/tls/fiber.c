/* fiber.c - see fiber.h: makecontext and swapcontext of the C library, on stacks of mmap.
 *
 * A stack that overflows meets a page that cannot be touched, and the process ends; it never writes into other memory.
 * The sanitizer has to be told of each change of stack, or it takes one for the overflow of the other.
 */
#include "tls/fiber.h"

#include <assert.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

struct fiber {
	struct fiber *next;
	void (*run)(void *arg);
	void *arg;
	ucontext_t own, outer;
	char *stack;             /* FIBER_STACK octets; the guard page lies below */
	size_t guard;
	bool over;
	const void *outer_stack; /* for the sanitizer: where it was entered from */
	size_t outer_size;
};

static _Thread_local struct fiber *running;

/* ---- the sanitizer's part ---- */

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WATCHED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(WATCHED)
#define WATCHED 1
#endif

#ifdef WATCHED
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define LEAVING(keep, stack, n) __sanitizer_start_switch_fiber(keep, stack, n)
#define ARRIVED(kept, stack, n) __sanitizer_finish_switch_fiber(kept, stack, n)
#define CLEAN(stack, n) __asan_unpoison_memory_region(stack, n)
#else
#define LEAVING(keep, stack, n) ((void)(keep), (void)(stack), (void)(n))
#define ARRIVED(kept, stack, n) ((void)(kept), (void)(stack), (void)(n))
#define CLEAN(stack, n) ((void)(stack), (void)(n))
#endif

/* ---- stacks ---- */

/* The struct lies at the upper end of its stack. */
static struct fiber *make(void)
{
	size_t guard = (size_t)sysconf(_SC_PAGESIZE);
	char *p = mmap(NULL, guard + FIBER_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct fiber *f;

	if (p == MAP_FAILED)
		return NULL;
	if (mprotect(p, guard, PROT_NONE) == -1) {
		munmap(p, guard + FIBER_STACK);
		return NULL;
	}
	f = (struct fiber *)(void *)(p + guard + FIBER_STACK - (sizeof *f + 63) / 64 * 64);
	*f = (struct fiber){ .stack = p + guard, .guard = guard };
	return f;
}

static void unmake(struct fiber *f)
{
	munmap(f->stack - f->guard, f->guard + FIBER_STACK);
}

static size_t room(const struct fiber *f)
{
	return (size_t)((const char *)f - f->stack);
}

static void put_back(struct fibers *home, struct fiber *f)
{
	home->used_n--;
	if (home->idle_n >= FIBERS_IDLE) {
		unmake(f);
		return;
	}
	f->next = home->idle;
	home->idle = f;
	home->idle_n++;
}

void fibers_free(struct fibers *home)
{
	struct fiber *f;

	assert(home->used_n == 0);
	while ((f = home->idle) != NULL) {
		home->idle = f->next;
		unmake(f);
	}
	home->idle_n = 0;
}

/* ---- the change of stacks ---- */

static void first(void)
{
	struct fiber *f = running;

	ARRIVED(NULL, &f->outer_stack, &f->outer_size);
	f->run(f->arg);
	f->over = true;
	LEAVING(NULL, f->outer_stack, f->outer_size);
	swapcontext(&f->own, &f->outer);
	assert(0); /* it is over */
}

static enum fiber_state enter(struct fibers *home, struct fiber *f)
{
	void *kept = NULL;

	assert(!running); /* none starts another */
	running = f;
	LEAVING(&kept, f->stack, room(f));
	swapcontext(&f->outer, &f->own);
	ARRIVED(kept, NULL, NULL);
	running = NULL;
	if (!f->over)
		return FIBER_PAUSED;
	put_back(home, f);
	return FIBER_OVER;
}

/* Apart, because getcontext is a function that may return twice to a compiler. */
static bool aim(struct fiber *f)
{
	if (getcontext(&f->own) == -1)
		return false;
	f->own.uc_stack.ss_sp = f->stack;
	f->own.uc_stack.ss_size = room(f);
	f->own.uc_link = NULL;
	makecontext(&f->own, first, 0);
	return true;
}

static struct fiber *take(struct fibers *home)
{
	struct fiber *f = home->idle;

	if (!f)
		return make();
	home->idle = f->next;
	home->idle_n--;
	CLEAN(f->stack, room(f)); /* what it ran last has not returned from its outermost frame */
	return f;
}

enum fiber_state fiber_start(struct fibers *home, void (*run)(void *arg), void *arg, struct fiber **paused)
{
	struct fiber *f = take(home);
	enum fiber_state st = FIBER_NO_MEMORY;

	*paused = NULL;
	if (!f)
		return st;
	home->used_n++;
	f->run = run;
	f->arg = arg;
	f->over = false;
	if (!aim(f)) {
		put_back(home, f);
		return st;
	}
	st = enter(home, f);
	if (st == FIBER_PAUSED)
		*paused = f;
	return st;
}

enum fiber_state fiber_resume(struct fibers *home, struct fiber *f)
{
	return enter(home, f);
}

void *fiber_arg(void)
{
	return running ? running->arg : NULL;
}

void fiber_pause(void)
{
	struct fiber *f = running;
	void *kept = NULL;

	assert(f);
	LEAVING(&kept, f->outer_stack, f->outer_size);
	swapcontext(&f->own, &f->outer);
	ARRIVED(kept, &f->outer_stack, &f->outer_size);
}
