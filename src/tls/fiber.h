/* fiber.h - a function that can be left in the middle and entered again: a stack of its own, on the same thread.
 *
 * OpenSSL cannot be told that a signature will come later, except from within: our provider's sign function, many calls deep in
 * SSL_do_handshake, leaves that whole stack (fiber_pause), and the handshake goes on where it stood when the answer is there
 * (docs/decisions/009-rsa-waits-on-its-own-stack.md).
 *
 * Use        fiber_start runs the function until it pauses or returns; fiber_resume goes on.  Both tell whether it has returned:
 *            then the fiber is gone.  One that has paused must be run to its end: what lies on its stack frees nothing by itself.
 * Threads    a fiber stays on the thread that started it; struct fibers belongs to that thread.
 * Memory     FIBER_STACK of address space each, of which only what was touched is had, with an unmapped page below it.
 * Failure    fiber_start: no memory, the function was not run.
 */
#ifndef TLS_FIBER_H
#define TLS_FIBER_H
#include <stdbool.h>
#include <stddef.h>

/* A handshake with a certificate of the client needs some 20 KiB; hybrid key exchange and sanitizers want more. */
#define FIBER_STACK (256u * 1024)
/* So many unused stacks are kept, with what they have touched: a loop runs one at a time, and a burst is over soon. */
#define FIBERS_IDLE 8u

struct fiber;
struct fibers { /* zero: none yet */
	struct fiber *idle;
	unsigned idle_n, used_n;
};

enum fiber_state { FIBER_OVER = 1, FIBER_PAUSED, FIBER_NO_MEMORY };

enum fiber_state fiber_start(struct fibers *, void (*run)(void *arg), void *arg, struct fiber **paused);
enum fiber_state fiber_resume(struct fibers *, struct fiber *);
void *fiber_arg(void);   /* of the fiber that runs; NULL: none does */
void fiber_pause(void);  /* in a fiber: back to who started or resumed it */
void fibers_free(struct fibers *); /* none is in use */

#endif
