/* ub_loop.h - libunbound's events on our loop, so that it neither forks nor starts a thread.
 *
 * ub_loop_base makes the base for ub_ctx_create_ub_event; it is freed by ub_loop_free after ub_ctx_delete.
 */
#ifndef RESOLVE_UB_LOOP_H
#define RESOLVE_UB_LOOP_H
#include "net/loop.h"

struct ub_event_base;

struct ub_event_base *ub_loop_base(struct loop *); /* NULL: memory */
void ub_loop_free(struct ub_event_base *);

#endif
