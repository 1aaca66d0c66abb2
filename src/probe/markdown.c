/* markdown.c - the report as Markdown, for a ticket or a page; and as Prometheus text, for repeated probing. */
#include "probe/report.h"

#include <string.h>

/* A cell of a table: a bar would end it, and what looks like markup is none. */
static void cell(const char *text, FILE *to)
{
	for (; *text; text++) {
		if (strchr("|\\`*_<>[]", *text))
			fputc('\\', to);
		fputc(*text, to);
	}
}

static void dialog(const struct probe_finding *f, FILE *to)
{
	char words[PROBE_LINE_MAX + 40];

	fprintf(to, "\n### %u %s: %s\n\n", f->check->number, f->check->title, probe_verdict_word(f->verdict));
	cell(f->text, to);
	/* indented: no text of a peer can end the block */
	fputs("\n\n", to);
	for (unsigned i = 0; i < f->line_count; i++) {
		probe_line_words(&f->lines[i], words);
		fprintf(to, "    %s\n", words);
	}
	if (f->lines_cut)
		fprintf(to, "    (%u more lines)\n", f->lines_cut);
}

static void changes(const struct probe_diff *d, FILE *to)
{
	fprintf(to, "\n## Changes\n\n");
	if (!d->count)
		fprintf(to, "None.\n");
	for (unsigned i = 0; i < d->count; i++) {
		const struct probe_change *c = &d->changes[i];

		fprintf(to, "- %u %s: %s, was %s%s\n", c->number, c->title,
			c->after ? probe_verdict_word(c->after) : "gone",
			c->before ? probe_verdict_word(c->before) : "not there", c->worse ? " (worse)" : "");
	}
}

bool probe_print_markdown(const struct probe_report *r, const struct probe_diff *d, FILE *to)
{
	char time[32];

	fprintf(to, "# Probe of %s ", r->kind);
	cell(r->target, to);
	fprintf(to, "\n\n%s, %u connections, %u s: %u pass, %u note, %u fail, %u not tested.\n\n",
		probe_time_words(r->began_ms, time), r->connections, (r->took_ms + 500) / 1000,
		probe_report_count(r, PROBE_PASS), probe_report_count(r, PROBE_NOTE), probe_report_count(r, PROBE_FAIL),
		probe_report_count(r, PROBE_UNTESTED));
	for (unsigned i = 0; i < r->fact_count; i++) {
		fputs("- ", to);
		cell(r->facts[i].name, to);
		fputs(": ", to);
		cell(r->facts[i].value, to);
		fputc('\n', to);
	}
	if (d)
		changes(d, to);
	fputs("\n| number | check | verdict | what was seen | reference | severity |\n|---|---|---|---|---|---|\n", to);
	for (unsigned i = 0; i < r->finding_count; i++) {
		const struct probe_finding *f = &r->findings[i];

		fprintf(to, "| %u | %s | %s | ", f->check->number, f->check->title, probe_verdict_word(f->verdict));
		cell(f->text, to);
		fprintf(to, " | %s | %s |\n", f->check->reference, probe_severity_word(f->check->severity));
	}
	fputs("\n## Evidence\n\n`>` sent, `<` received, `*` happened; before it the number of the connection.\n", to);
	for (unsigned i = 0; i < r->finding_count; i++)
		if (r->findings[i].line_count)
			dialog(&r->findings[i], to);
	return !r->broken && !ferror(to);
}

/* ---- Prometheus ---- */

static void label(const char *text, FILE *to)
{
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', to);
		fputc(*text, to);
	}
}

static void series(const struct probe_report *r, const char *name, FILE *to)
{
	fprintf(to, "postrider_probe_%s{kind=\"%s\",target=\"", name, r->kind);
	label(r->target, to);
	fputc('"', to);
}

bool probe_print_prometheus(const struct probe_report *r, FILE *to)
{
	static const char *const values[] = { "", "0", "1", "2", "-1" };
	fputs("# HELP postrider_probe_check What a check gave: 0 pass, 1 note, 2 fail, -1 not tested.\n# TYPE "
	      "postrider_probe_check gauge\n",
	      to);
	for (unsigned i = 0; i < r->finding_count; i++) {
		const struct probe_check *c = r->findings[i].check;

		series(r, "check", to);
		fprintf(to, ",number=\"%u\",id=\"%s\",severity=\"%s\"} %s\n", c->number, c->id,
			probe_severity_word(c->severity), values[r->findings[i].verdict]);
	}
	fputs("# HELP postrider_probe_verdicts Checks by verdict.\n# TYPE postrider_probe_verdicts gauge\n", to);
	for (enum probe_verdict v = PROBE_PASS; v <= PROBE_UNTESTED; v++) {
		series(r, "verdicts", to);
		fprintf(to, ",verdict=\"%s\"} %u\n", probe_verdict_word(v), probe_report_count(r, v));
	}
	if (r->certificate_end_s) {
		fputs("# HELP postrider_probe_certificate_expires_seconds When the certificate shown ends, since the "
		      "epoch.\n"
		      "# TYPE postrider_probe_certificate_expires_seconds gauge\n",
		      to);
		series(r, "certificate_expires_seconds", to);
		fprintf(to, "} %lld\n", (long long)r->certificate_end_s);
	}
	fputs("# HELP postrider_probe_began_seconds When the probe began, since the epoch.\n# TYPE "
	      "postrider_probe_began_seconds gauge\n",
	      to);
	series(r, "began_seconds", to);
	fprintf(to, "} %lld\n", (long long)(r->began_ms / 1000));
	fputs("# HELP postrider_probe_duration_seconds How long it took.\n# TYPE postrider_probe_duration_seconds "
	      "gauge\n",
	      to);
	series(r, "duration_seconds", to);
	fprintf(to, "} %u.%03u\n", r->took_ms / 1000, r->took_ms % 1000);
	return !r->broken && !ferror(to);
}
