/* machine_server.c - the server's compiled table as a struct machine; see machine.h. */
#include "gen/machine.h"
#include "smtp/server_table.h"

static const char *fact_name(unsigned bit)
{
	return bit < FACT_COUNT_ ? server_facts_info[bit].name : "?";
}

static const char *reply_words(enum server_reply id)
{
	const struct server_reply_text *r = &server_replies[id];

	if (id == REPLY_NONE)
		return "";
	if (id == REPLY_HELD)
		return "the reply held";
	if (!r->enhanced[0])
		return machine_text("%d %s", r->code, r->text);
	return machine_text("%d %u.%u.%u %s", r->code, r->enhanced[0], r->enhanced[1], r->enhanced[2], r->text);
}

static void fill_rows(struct machine *m, struct machine_word *offers, size_t *offered)
{
	const char *note = "", *word = NULL;

	m->rows = machine_take(server_row_count, sizeof *m->rows);
	for (size_t i = 0; i < server_row_count; i++) {
		const struct server_row *r = &server_rows[i];
		struct machine_row *to = &m->rows[m->row_count];

		if (r->note)
			note = r->note;
		if (r->offers)
			word = r->offers;
		if (!r->event)
			continue;
		*to = (struct machine_row){
			.phases = r->phases >> 1, .event = server_events[r->event].name,
			.guards = machine_guards(r->want, r->lack, fact_name), .reply = reply_words(r->reply),
			.does = r->does == DO_NOTHING ? "" : server_actions[r->does].name, .next = server_phases[r->next].name,
			.ends = r->ends ? server_lives[r->ends].name : "", .rfc = r->rfc,
			.note = word ? machine_text("%s%soffers %s", note, *note ? "; " : "", word) : note,
		};
		if (word)
			offers[(*offered)++] = (struct machine_word){
				word, to->event, *to->guards ? machine_text("could hold: %s", to->guards) : "whenever the row can be reached" };
		note = "";
		word = NULL;
		m->row_count++;
	}
}

static void add_list(struct machine *m, const char *title, const char *kind, const char *note,
	struct machine_word *words, size_t n)
{
	m->lists[m->list_count++] = (struct machine_list){ title, kind, note, words, n };
}

static void fill_glossary(struct machine *m)
{
	static const char *const lives[] = { "", "policy", "epoch", "hello", "transaction", "command" };
	struct machine_word *w = machine_take(LIFE_END_, sizeof *w);
	size_t n = 0;

	for (unsigned i = 1; i < LIFE_END_; i++)
		w[n++] = (struct machine_word){ server_lives[i].name, server_lives[i].ended, server_lives[i].holds };
	add_list(m, "Lifetimes, outermost first", "ended by", "holds", w, n);
	w = machine_take(FACT_COUNT_, sizeof *w);
	for (unsigned i = 0; i < FACT_COUNT_; i++)
		w[i] = (struct machine_word){ server_facts_info[i].name, lives[server_facts_info[i].life],
			server_facts_info[i].note };
	add_list(m, "Facts that guards ask", "belongs to", "holds when", w, FACT_COUNT_);
	w = machine_take(EVENT_END_, sizeof *w);
	n = 0;
	for (unsigned i = 1; i < EVENT_END_; i++)
		w[n++] = (struct machine_word){ server_events[i].name, "", server_events[i].note };
	add_list(m, "Events", "", "what happened", w, n);
	w = machine_take(DO_END_, sizeof *w);
	n = 0;
	for (unsigned i = 1; i < DO_END_; i++)
		if (i != DO_NOTHING)
			w[n++] = (struct machine_word){ server_actions[i].name, "", server_actions[i].note };
	add_list(m, "Actions", "", "what is done besides the reply", w, n);
	w = machine_take(REPLY_END_, sizeof *w);
	n = 0;
	for (unsigned i = 1; i < REPLY_END_; i++)
		w[n++] = (struct machine_word){ server_replies[i].id, server_replies[i].reason, reply_words(i) };
	add_list(m, "Replies", "word in the log", "reply", w, n);
}

const struct machine *machine_server(void)
{
	static struct machine m = {
		.name = "server",
		.lead = "A verdict that the library cannot give is an event to the caller (ASK_...); the phases JUDGE_... wait "
			"for its answer.",
	};
	static const char *const clocks[] = { "", "none", "the handshake's", "the command line's", "the whole message's" };
	struct machine_word *offers;
	size_t offered = 0;

	if (m.row_count)
		return &m;
	for (unsigned i = 1; i < PHASE_END_; i++)
		m.phases[m.phase_count++] = (struct machine_phase){
			server_phases[i].name, server_phases[i].note, clocks[server_phases[i].deadline] };
	offers = machine_take(server_row_count, sizeof *offers);
	fill_rows(&m, offers, &offered);
	add_list(&m, "Capabilities: EHLO offers a word exactly when its row could match now", "row of", "guards", offers,
		offered);
	fill_glossary(&m);
	return &m;
}
