/* coming.c - which sessions will soon have a message for `queue`; see receive.h.
 *
 * A list in the order in which they were last heard of: who is silent for too long falls off its head when it is counted.
 */
#include "receive/receive.h"

void receive_coming_leave(struct session *s)
{
	struct worker *w = s->worker;

	if (!s->coming_at)
		return;
	*s->coming_at = s->coming_next;
	if (s->coming_next)
		s->coming_next->coming_at = s->coming_at;
	else
		w->coming_end = s->coming_at;
	s->coming_at = NULL;
	w->coming_count--;
}

void receive_coming_heard(struct session *s)
{
	struct worker *w = s->worker;

	receive_coming_leave(s);
	if (s->closing || s->owed == OWED_BODY || s->refusal)
		return;
	s->heard = loop_now(w->loop);
	s->coming_next = NULL;
	s->coming_at = w->coming_end;
	*w->coming_end = s;
	w->coming_end = &s->coming_next;
	w->coming_count++;
}

uint32_t receive_coming_count(struct worker *w)
{
	uint64_t now = loop_now(w->loop);

	while (w->coming && w->coming->heard + RECEIVE_COMING_MS <= now)
		receive_coming_leave(w->coming);
	return w->coming_count;
}
