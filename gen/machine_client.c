/* machine_client.c - the client's compiled table as a struct machine; see machine.h. */
#include "gen/machine.h"
#include "smtp/client_table.h"

static const char *fact_name(unsigned bit)
{
	return bit < CLIENT_FACT_COUNT_ ? client_facts_info[bit].name : "?";
}

/* A row may serve several events; the page names them all. */
static const char *event_names(uint32_t events)
{
	const char *text = "";

	for (unsigned i = 1; i < CLIENT_ON_END_; i++)
		if (events >> i & 1)
			text = machine_text("%s%s%s", text, *text ? ", " : "", client_events[i].name);
	return text;
}

static void fill_rows(struct machine *m)
{
	const char *note = "";

	m->rows = machine_take(client_row_count, sizeof *m->rows);
	for (size_t i = 0; i < client_row_count; i++) {
		const struct client_row *r = &client_rows[i];

		if (r->note)
			note = r->note;
		if (!r->events)
			continue;
		m->rows[m->row_count++] = (struct machine_row){
			.phases = r->phases >> 1, .event = event_names(r->events),
			.guards = machine_guards(r->want, r->lack, fact_name), .reply = r->reason ? r->reason : "",
			.does = r->does ? client_actions[r->does].name : "", .next = client_phases[r->next].name,
			.ends = r->ends ? client_lives[r->ends].name : "", .rfc = r->rfc ? r->rfc : "", .note = note,
		};
		note = "";
	}
}

static void add_list(struct machine *m, const char *title, const char *kind, const char *note,
	struct machine_word *words, size_t n)
{
	m->lists[m->list_count++] = (struct machine_list){ title, kind, note, words, n };
}

static void fill_glossary(struct machine *m)
{
	struct machine_word *w = machine_take(CLIENT_LIFE_END_, sizeof *w);
	size_t n = 0;

	for (unsigned i = 1; i < CLIENT_LIFE_END_; i++)
		w[n++] = (struct machine_word){ client_lives[i].name, client_lives[i].ended, client_lives[i].holds };
	add_list(m, "Lifetimes of the client, outermost first", "ended by", "holds", w, n);
	w = machine_take(CLIENT_FACT_COUNT_, sizeof *w);
	for (unsigned i = 0; i < CLIENT_FACT_COUNT_; i++)
		w[i] = (struct machine_word){ client_facts_info[i].name, client_lives[client_facts_info[i].life].name,
			client_facts_info[i].note };
	add_list(m, "Facts that the client's guards ask", "belongs to", "holds when", w, CLIENT_FACT_COUNT_);
	w = machine_take(CLIENT_ON_END_, sizeof *w);
	n = 0;
	for (unsigned i = 1; i < CLIENT_ON_END_; i++)
		w[n++] = (struct machine_word){ client_events[i].name, "", client_events[i].note };
	add_list(m, "Events of the client", "", "what happened", w, n);
	w = machine_take(CLIENT_DO_END_, sizeof *w);
	n = 0;
	for (unsigned i = 1; i < CLIENT_DO_END_; i++)
		w[n++] = (struct machine_word){ client_actions[i].name, "", client_actions[i].note };
	add_list(m, "Actions of the client", "", "what is done", w, n);
}

const struct machine *machine_client(void)
{
	static struct machine m = {
		.name = "client",
		.lead = "The reply column holds the word for the log that the row gives when it fails or refuses.",
	};
	static const char *const clocks[] = { "", "none", "left at once", "the greeting's", "the command's", "DATA to 354",
		"one block written", "final dot to reply", "the handshake's", "QUIT to 221" };

	if (m.row_count)
		return &m;
	for (unsigned i = 1; i < CLIENT_IN_END_; i++)
		m.phases[m.phase_count++] = (struct machine_phase){
			client_phases[i].name, client_phases[i].note, clocks[client_phases[i].clock] };
	fill_rows(&m);
	fill_glossary(&m);
	return &m;
}
