/* due.c - schedule.h's clock: asks the spool which destinations have mail due, and when to ask next.
 *
 * One timer serves all.  A question may read the whole index of what is due, so there is a pause between two of them.
 */
#include "queue/schedule.h"

static void set_timer(struct queue *q)
{
	struct schedule *s = &q->schedule;
	int64_t wait = s->due - queue_now(q), since = env_mono_ms(q->env) - s->asked_at;

	if (s->due == INT64_MAX)
		wait = SCHEDULE_SLEEP_MAX;
	if (since >= 0 && wait < SCHEDULE_ASK_PAUSE - since)
		wait = SCHEDULE_ASK_PAUSE - since;
	if (wait < 0)
		wait = 0;
	if (wait > SCHEDULE_SLEEP_MAX)
		wait = SCHEDULE_SLEEP_MAX;
	loop_timer_set(&s->timer, loop_now(q->loop) + (uint64_t)wait);
}

void schedule_note_due(struct queue *q, int64_t due)
{
	if (due >= q->schedule.due || q->draining)
		return;
	q->schedule.due = due;
	if (!q->schedule.asking)
		set_timer(q);
}

static void due_list(void *arg, enum spool_status status, const struct spool_due *list, size_t n, int64_t next_due)
{
	struct queue *q = arg;
	struct schedule *s = &q->schedule;
	size_t i;

	s->asking = false;
	if (status != SPOOL_OK) {
		EMIT(q->events, SPOOL_FAULT, F_STR("what", "due"), F_STR("status", spool_status_name(status)));
		next_due = queue_now(q) + 1000;
		n = 0;
	}
	for (i = 0; i < n; i++)
		schedule_arrived(q, list[i].dest);
	if (n == s->ask_max) { /* there are more destinations: those that are served slowly must not hide them */
		s->ask_max *= 2;
		next_due = queue_now(q);
	} else if (s->ask_max > SCHEDULE_ASK_FIRST && n < s->ask_max / 4)
		s->ask_max /= 2;
	if (next_due < s->due)
		s->due = next_due;
	if (!q->draining)
		set_timer(q);
}

static void ask(struct queue *q)
{
	struct schedule *s = &q->schedule;

	if (s->asking || q->draining)
		return;
	s->asking = true;
	s->due = INT64_MAX;
	s->asked_at = env_mono_ms(q->env);
	spool_due(q->spool, queue_now(q), s->ask_max, due_list, q);
	queue_pump_soon(q);
}

static void fire(void *arg)
{
	struct queue *q = arg;

	if (q->schedule.due > queue_now(q) && q->schedule.due != INT64_MAX)
		set_timer(q); /* a long sleep in pieces */
	else if (q->schedule.due == INT64_MAX)
		set_timer(q);
	else
		ask(q);
}

void schedule_init_due(struct queue *q)
{
	struct schedule *s = &q->schedule;

	s->due = INT64_MAX;
	s->ask_max = SCHEDULE_ASK_FIRST;
	s->asked_at = INT64_MIN / 2;
	loop_timer_init(&s->timer, q->loop, fire, q);
}

void schedule_start(struct queue *q)
{
	ask(q);
}
