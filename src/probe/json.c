/* json.c - the report as JSON (docs/probe.schema.json), and an older one read back and compared.
 *
 * What is read back is a file that somebody gives: its shape is checked, nothing of it is trusted.
 */
#include "probe/report.h"

#include <jansson.h>
#include <psmtp.h>
#include <stdlib.h>

static json_t *line_json(const struct probe_line *l)
{
	return json_pack("{s:i, s:i, s:s, s:b, s:s}", "ms", (int)l->at_ms, "connection", (int)l->connection,
			 "direction",
			 l->direction == PROBE_SENT  ? "sent"
			 : l->direction == PROBE_GOT ? "got"
						     : "event",
			 "tls", l->tls, "text", l->text);
}

static json_t *finding_json(const struct probe_finding *f)
{
	const struct probe_check *c = f->check;
	json_t *lines = json_array(), *o;

	for (unsigned i = 0; lines && i < f->line_count; i++)
		json_array_append_new(lines, line_json(&f->lines[i]));
	o = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "number", (int)c->number, "id", c->id, "title",
		      c->title, "group", *c->group, "reference", c->reference, "severity",
		      probe_severity_word(c->severity), "verdict", probe_verdict_word(f->verdict), "text", f->text,
		      "dialog", lines);
	if (o && f->lines_cut)
		json_object_set_new(o, "dialog_cut", json_integer(f->lines_cut));
	return o;
}

static json_t *change_json(const struct probe_change *c)
{
	return json_pack("{s:i, s:s, s:s?, s:s?, s:s, s:b}", "number", (int)c->number, "id", c->id, "before",
			 c->before ? probe_verdict_word(c->before) : NULL, "after",
			 c->after ? probe_verdict_word(c->after) : NULL, "text", c->text, "worse", c->worse);
}

bool probe_print_json(const struct probe_report *r, const struct probe_diff *d, FILE *to)
{
	json_t *facts = json_object(), *findings = json_array(), *changes = NULL, *all;
	char time[32];
	bool ok;

	for (unsigned i = 0; facts && i < r->fact_count; i++)
		json_object_set_new(facts, r->facts[i].name, json_string(r->facts[i].value));
	for (unsigned i = 0; findings && i < r->finding_count; i++)
		json_array_append_new(findings, finding_json(&r->findings[i]));
	all = json_pack("{s:i, s:s, s:s, s:s, s:s, s:i, s:i, s:{s:i, s:i, s:i, s:i}, s:o, s:o}", "schema", PROBE_SCHEMA,
			"program", "postrider " PSMTP_VERSION, "kind", r->kind, "target", r->target, "began",
			probe_time_words(r->began_ms, time), "took_ms", (int)r->took_ms, "connections",
			(int)r->connections, "verdicts", "pass", (int)probe_report_count(r, PROBE_PASS), "note",
			(int)probe_report_count(r, PROBE_NOTE), "fail", (int)probe_report_count(r, PROBE_FAIL),
			"not-tested", (int)probe_report_count(r, PROBE_UNTESTED), "facts", facts, "findings", findings);
	if (all && d) {
		changes = json_array();
		for (unsigned i = 0; changes && i < d->count; i++)
			json_array_append_new(changes, change_json(&d->changes[i]));
		json_object_set_new(all, "changes", changes);
	}
	ok = !r->broken && all && json_dumpf(all, to, JSON_INDENT(1) | JSON_ENSURE_ASCII) == 0 &&
	     fputc('\n', to) != EOF;
	json_decref(all);
	return ok;
}

/* ---- diff ---- */

static enum probe_verdict verdict_of(const char *word)
{
	for (enum probe_verdict v = PROBE_PASS; word && v <= PROBE_UNTESTED; v++)
		if (strcmp(word, probe_verdict_word(v)) == 0)
			return v;
	return (enum probe_verdict)0;
}

static const json_t *old_finding(const json_t *findings, const char *id)
{
	const json_t *f;
	size_t i;

	json_array_foreach(findings, i, f)
	{
		const char *word = json_string_value(json_object_get(f, "id"));

		if (word && strcmp(word, id) == 0)
			return f;
	}
	return NULL;
}

/* pass, note and fail are a scale; what cannot be tested any more may hide anything, so it is worse than what was
 * known. */
static bool is_worse(enum probe_verdict before, enum probe_verdict after)
{
	if (before == 0)
		return after == PROBE_FAIL;
	if (before == PROBE_UNTESTED)
		return after == PROBE_FAIL;
	return after > before;
}

static void note(struct probe_diff *d, const struct probe_check *c, enum probe_verdict before, enum probe_verdict after,
		 const char *text)
{
	struct probe_change *at;

	if (before == after)
		return;
	at = &d->changes[d->count++];
	*at = (struct probe_change){ c->number, c->id, c->title, before, after, text, is_worse(before, after) };
	d->worse += at->worse;
}

/* A check that the older report has and this one has not: a copy of what identifies it. */
static bool note_gone(struct probe_diff *d, const json_t *f)
{
	struct probe_check c = { .number = (unsigned)json_integer_value(json_object_get(f, "number")) };
	const char *id = json_string_value(json_object_get(f, "id")),
		   *title = json_string_value(json_object_get(f, "title"));
	enum probe_verdict before = verdict_of(json_string_value(json_object_get(f, "verdict")));

	if (!id || !title || !before)
		return true; /* not a finding */
	c.id = arena_cstr(&d->text, view_cstr(id));
	c.title = arena_cstr(&d->text, view_cstr(title));
	if (!c.id || !c.title)
		return false;
	note(d, &c, before, (enum probe_verdict)0, "");
	return true;
}

static const struct probe_finding *new_finding(const struct probe_report *r, const char *id)
{
	for (unsigned i = 0; id && i < r->finding_count; i++)
		if (strcmp(r->findings[i].check->id, id) == 0)
			return &r->findings[i];
	return NULL;
}

static bool compare(struct probe_diff *d, const json_t *findings, const struct probe_report *r)
{
	const json_t *f;
	size_t n;

	d->changes = calloc(r->finding_count + json_array_size(findings) + 1, sizeof *d->changes);
	if (!d->changes)
		return false;
	for (unsigned i = 0; i < r->finding_count; i++) {
		const struct probe_finding *now = &r->findings[i];
		const json_t *was = old_finding(findings, now->check->id);

		note(d, now->check,
		     was ? verdict_of(json_string_value(json_object_get(was, "verdict"))) : (enum probe_verdict)0,
		     now->verdict, now->text);
	}
	json_array_foreach(findings, n, f) if (!new_finding(r, json_string_value(json_object_get(f, "id"))) &&
					       !note_gone(d, f)) return false;
	return true;
}

int probe_diff_make(struct probe_diff *d, struct view json, const struct probe_report *r, struct error *e)
{
	json_error_t where;
	json_t *all = json_loadb(json.p, json.n, JSON_REJECT_DUPLICATES, &where);
	const json_t *findings = json_object_get(all, "findings");
	const char *kind = json_string_value(json_object_get(all, "kind")),
		   *target = json_string_value(json_object_get(all, "target"));
	int status = 0;

	*d = (struct probe_diff){ 0 };
	arena_init(&d->text, &alloc_libc, PROBE_TEXT_MAX);
	if (!all)
		status = error_set(e, ERROR_INPUT, "line %d: %s", where.line, where.text);
	else if (json_integer_value(json_object_get(all, "schema")) != PROBE_SCHEMA || !kind || !target ||
		 !json_is_array(findings))
		status = error_set(e, ERROR_INPUT, "it is no report of schema %d", PROBE_SCHEMA);
	else if (strcmp(kind, r->kind) != 0 || strcmp(target, r->target) != 0)
		status = error_set(e, ERROR_INPUT, "it is a report of %s %s, not of %s %s", kind, target, r->kind,
				   r->target);
	else if (!compare(d, findings, r))
		status = error_set(e, ERROR_AGAIN, "out of memory");
	json_decref(all);
	if (status == -1)
		probe_diff_free(d);
	return status;
}

void probe_diff_free(struct probe_diff *d)
{
	free(d->changes);
	arena_free(&d->text);
	*d = (struct probe_diff){ 0 };
}
