/* client_note.c - events on their way to the caller.
 *
 * A row tells at most three things, and no further input is read until they were taken, so that the queue is short and
 * the views in it (the reply, a challenge) stay valid.  A RESULT for many recipients is one note that is unrolled while
 * it is taken: a refused MAIL with a thousand recipients costs no memory.
 */
#include "smtp/client_state.h"

#include <assert.h>

static struct client_note *note_add(struct psmtp_client *c)
{
	assert(c->note_count < CLIENT_EVENTS_MAX);
	return &c->notes[(c->note_first + c->note_count++) % CLIENT_EVENTS_MAX];
}

void client_tell(struct psmtp_client *c, const struct psmtp_client_event *event)
{
	*note_add(c) = (struct client_note){ .event = *event };
}

static struct psmtp_client_event result_of(const struct psmtp_reply *reply, bool local)
{
	return (struct psmtp_client_event){ .type = PSMTP_CLIENT_RESULT, .reply = *reply, .local = local };
}

void client_tell_results(struct psmtp_client *c, unsigned match, const struct psmtp_reply *reply, bool local)
{
	*note_add(c) = (struct client_note){ .event = result_of(reply, local), .match = match };
}

void client_tell_result(struct psmtp_client *c, uint32_t index, const struct psmtp_reply *reply, bool local)
{
	struct client_note *note = note_add(c);

	*note = (struct client_note){ .event = result_of(reply, local) };
	note->event.rcpt_index = index;
}

static void decide(struct client_transaction *tx, uint32_t index)
{
	assert(tx->rcpts[index].state != CLIENT_RCPT_DECIDED && tx->undecided > 0);
	tx->rcpts[index].state = CLIENT_RCPT_DECIDED;
	tx->undecided--;
}

/* The next recipient of a note for many; false when there is none left. */
static bool unroll(struct psmtp_client *c, struct client_note *note, struct psmtp_client_event *event)
{
	struct client_transaction *tx = client_tx(c);

	for (; note->at < tx->msg.rcpt_count; note->at++)
		if (note->match & 1u << tx->rcpts[note->at].state) {
			*event = note->event;
			event->rcpt_index = note->at;
			decide(tx, note->at++);
			return true;
		}
	return false;
}

static void note_drop(struct psmtp_client *c)
{
	c->note_first = (c->note_first + 1) % CLIENT_EVENTS_MAX;
	c->note_count--;
}

static bool note_take(struct psmtp_client *c, struct psmtp_client_event *event)
{
	struct client_transaction *tx = client_tx(c);

	while (c->note_count) {
		struct client_note *note = &c->notes[c->note_first];

		if (note->match) {
			if (unroll(c, note, event))
				return true;
			note_drop(c);
			continue;
		}
		/* A session that fails behind the last result has still settled its message. */
		if (note->event.type == PSMTP_CLIENT_FAILED && tx->live && !tx->undecided) {
			tx->live = false;
			*event = (struct psmtp_client_event){ .type = PSMTP_CLIENT_DONE };
			return true;
		}
		if (note->event.type == PSMTP_CLIENT_RESULT)
			decide(tx, note->event.rcpt_index);
		if (note->event.type == PSMTP_CLIENT_DONE)
			tx->live = false;
		*event = note->event;
		note_drop(c);
		return true;
	}
	return false;
}

bool psmtp_client_next(struct psmtp_client *c, struct psmtp_client_event *event, uint64_t now)
{
	if (note_take(c, event))
		return true;
	client_run(c, now); /* what waited for the events to be taken may tell more */
	return note_take(c, event);
}
