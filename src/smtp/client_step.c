/* client_step.c - the driver: one event, one row, one setter.
 *
 * The row says everything; the action only does it.  An action that runs out of memory is replaced by the row of
 * NO_MEMORY, whose action cannot fail.
 */
#include "smtp/client_state.h"

#include <assert.h>

static uint64_t clock_ms(const struct psmtp_client *c)
{
	const struct psmtp_client_options *o = &c->options;

	switch (client_phases[c->phase].clock) {
	case CLIENT_CLOCK_GREETING:
		return o->greeting_ms;
	case CLIENT_CLOCK_COMMAND:
		return o->command_ms;
	case CLIENT_CLOCK_DATA_START:
		return o->data_start_ms;
	case CLIENT_CLOCK_BLOCK:
		return o->data_block_ms;
	case CLIENT_CLOCK_DATA_END: /* RFC 5321 4.5.3.2.6: from the moment that the last octet has left */
		return buf_len(&c->out) ? o->data_block_ms : o->data_end_ms;
	case CLIENT_CLOCK_HANDSHAKE:
		return o->handshake_ms;
	case CLIENT_CLOCK_QUIT:
		return o->quit_ms;
	case CLIENT_CLOCK_NEVER:
	case CLIENT_CLOCK_PASS:
		break;
	}
	return 0;
}

void client_clock_set(struct psmtp_client *c, uint64_t now)
{
	uint64_t ms = clock_ms(c);

	c->deadline = ms && now < UINT64_MAX - ms ? now + ms : UINT64_MAX;
}

/* The one place where the phase changes. */
static void phase_set(struct psmtp_client *c, enum client_phase next, uint64_t now)
{
	assert(next > CLIENT_IN_NONE_ && next < CLIENT_IN_END_);
	c->trace[c->traced++ % CLIENT_TRACE_MAX] = c->phase;
	c->phase = next;
	client_clock_set(c, now);
}

bool client_fire(struct psmtp_client *c, enum client_event event, uint64_t now)
{
	const struct client_row *row = client_row_find(client_rows, client_row_count, event, c->phase, client_facts(c));

	if (!row)
		return false;
	client_life_end(c, row->ends);
	if (!client_act(c, row, event)) {
		row = client_row_find(client_rows, client_row_count, CLIENT_ON_NO_MEMORY, c->phase, client_facts(c));
		assert(row); /* the table has it for every phase in which an action can fail */
		client_act(c, row, CLIENT_ON_NO_MEMORY);
	}
	phase_set(c, row->next, now);
	return true;
}

/* Writes ahead what the phase allows; false when memory is out. */
static bool pump(struct psmtp_client *c, uint64_t now)
{
	switch (c->phase) {
	case CLIENT_IN_MAIL:
	case CLIENT_IN_RCPT:
		return client_flight(c);
	case CLIENT_IN_CHUNKS:
		return client_chunks_pump(c, now);
	default:
		return true;
	}
}

void client_run(struct psmtp_client *c, uint64_t now)
{
	for (;;) {
		if (c->note_count == 0 && client_phases[c->phase].clock == CLIENT_CLOCK_PASS)
			client_fire(c, CLIENT_ON_GO, now);
		else if (!pump(c, now))
			client_fire(c, CLIENT_ON_NO_MEMORY, now);
		else
			return;
	}
}
