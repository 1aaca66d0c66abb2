/* loop.h - the event loop: timers, descriptors, wake-ups, the end of a turn.  libuv underneath; a simulator can stand in.
 *
 * One loop belongs to one thread; only loop_wake may be called from another.  Objects are embedded in their owner's
 * structs and must be stopped before these are freed.  Handlers may stop or start anything, also themselves.
 * Time is the monotonic clock in ms, read once a turn.
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H
#include "base/env.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct events;
struct loop;

struct loop *loop_new(const struct env *); /* NULL: memory or descriptors */
void loop_free(struct loop *);             /* nothing may be watched any more */
int loop_run(struct loop *);               /* until loop_stop, or nothing is left to wait for */
void loop_stop(struct loop *);
bool loop_turn(struct loop *, bool may_block); /* one turn; for tests and simulators */
uint64_t loop_now(const struct loop *);    /* ms */
void loop_log(struct loop *, struct events *); /* borrowed: its lines leave before the loop sleeps */

struct loop_timer { struct loop *loop; void (*fire)(void *arg); void *arg; uint64_t at; size_t place; }; /* equal times: in the order set */
void loop_timer_init(struct loop_timer *, struct loop *, void (*fire)(void *arg), void *arg);
void loop_timer_set(struct loop_timer *, uint64_t at); /* absolute ms; replaces an earlier time */
void loop_timer_stop(struct loop_timer *);

enum loop_io { LOOP_READ = 1, LOOP_WRITE = 2 };
struct loop_watch { struct loop *loop; void *impl; int fd; unsigned want; void (*ready)(void *arg, unsigned io); void *arg; };
int loop_watch_start(struct loop_watch *, struct loop *, int fd, unsigned want, void (*ready)(void *arg, unsigned io), void *arg);
void loop_watch_want(struct loop_watch *, unsigned want); /* 0: nothing, but stay registered */
void loop_watch_stop(struct loop_watch *);               /* before the descriptor is closed */

/* Runs fn once, at the end of this turn, before the loop sleeps; in order of being asked for. */
struct loop_later { struct loop_later *next; bool queued; void (*run)(void *arg); void *arg; };
void loop_later(struct loop *, struct loop_later *);      /* run and arg set by the caller; asking twice is once */
void loop_later_cancel(struct loop *, struct loop_later *);

struct loop_wake { struct loop *loop; void *impl; void (*woken)(void *arg); void *arg; };
int loop_wake_init(struct loop_wake *, struct loop *, void (*woken)(void *arg), void *arg);
void loop_wake(struct loop_wake *);                       /* from any thread; several may become one */
void loop_wake_free(struct loop_wake *);

struct loop_signal { struct loop *loop; void *impl; void (*caught)(void *arg, int signum); void *arg; };
int loop_signal_start(struct loop_signal *, struct loop *, int signum, void (*caught)(void *arg, int signum), void *arg);
void loop_signal_stop(struct loop_signal *);

/* Two areas of LOOP_SCRATCH octets that handlers share: valid until the handler returns or calls somebody else who
 * uses it.  They save each connection its own read buffer.  which: 0 as read from a descriptor, 1 as decrypted. */
#define LOOP_SCRATCH (64u * 1024)
void *loop_scratch(struct loop *, unsigned which);

#endif
