/* probe_screen.c - a probe's report for people, and its progress while it runs.
 *
 * Colour only when standard output is a terminal, TERM is not dumb and NO_COLOR is not set; the words say all that the
 * colours say.  On a terminal text is wrapped at its edge, elsewhere nothing is cut or wrapped.  All text of a report
 * is printable ASCII already.
 */
#include "cmd/probe.h"

#include "cmd/screen.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INDENT      10 /* columns before what was seen: those of the number and the verdict */
#define LINES_SHOWN 14 /* of the evidence of a fail without -v: the end, where it happened */

struct page {
	FILE *to;
	unsigned width; /* 0: no limit */
	bool colour;
};

static const char *paint(const struct page *p, const char *code)
{
	return p->colour ? code : "";
}

static const char *paint_verdict(const struct page *p, enum probe_verdict v)
{
	static const char *const codes[] = { "", "\033[32m", "\033[33m", "\033[1;31m", "\033[2m" };

	return paint(p, codes[v]);
}

/* Words from the present column `at` on, later lines indented; a word that is too long for a line is cut at its edge.
 */
static void wrap(const struct page *p, const char *text, unsigned at)
{
	while (*text) {
		size_t left = p->width > at + 1 ? p->width - at - 1 : p->width ? 1 : strlen(text), n = strlen(text);

		if (p->width && n > left) {
			size_t blank = left;

			while (blank > 0 && text[blank] != ' ')
				blank--;
			n = blank ? blank : left;
		}
		fwrite(text, 1, n, p->to);
		text += n;
		while (*text == ' ')
			text++;
		fprintf(p->to, "\n%*s", *text ? INDENT : 0, "");
		at = INDENT;
	}
}

static void evidence(const struct page *p, const struct probe_finding *f, bool all)
{
	char words[PROBE_LINE_MAX + 40];
	unsigned first = !all && f->line_count > LINES_SHOWN ? f->line_count - LINES_SHOWN : 0;

	if (first)
		fprintf(p->to, "%*s%s(%u before this; -v shows all)%s\n", INDENT, "", paint(p, "\033[2m"), first,
			paint(p, "\033[0m"));
	for (unsigned i = first; i < f->line_count; i++) {
		probe_line_words(&f->lines[i], words);
		if (p->width > INDENT + 4 && strlen(words) > p->width - INDENT - 1)
			snprintf(words + p->width - INDENT - 4, 4, "...");
		fprintf(p->to, "%*s%s%s%s\n", INDENT, "", paint(p, "\033[2m"), words, paint(p, "\033[0m"));
	}
	if (f->lines_cut)
		fprintf(p->to, "%*s(%u more lines)\n", INDENT, "", f->lines_cut);
}

static void finding(const struct page *p, const struct probe_finding *f, bool verbose)
{
	static const char *const words[] = { "", "pass", "note", "FAIL", "-" };
	bool bad = f->verdict == PROBE_FAIL || f->verdict == PROBE_NOTE;

	fprintf(p->to, "%u  %s%-4s%s ", f->check->number, paint_verdict(p, f->verdict), words[f->verdict],
		paint(p, "\033[0m"));
	wrap(p, f->check->title, INDENT);
	if (!bad && f->verdict != PROBE_UNTESTED && !verbose)
		return;
	fprintf(p->to, "%*s", INDENT, "");
	wrap(p, f->verdict == PROBE_UNTESTED && !f->text[0] ? "not tested" : f->text, INDENT);
	if (bad) {
		char reference[200];

		snprintf(reference, sizeof reference, "%s%s%s", f->check->reference,
			 f->verdict == PROBE_FAIL ? "; severity " : "",
			 f->verdict == PROBE_FAIL ? probe_severity_word(f->check->severity) : "");
		fprintf(p->to, "%*s", INDENT, "");
		wrap(p, reference, INDENT);
	}
	if (verbose || f->verdict == PROBE_FAIL)
		evidence(p, f, verbose);
}

static void changes(const struct page *p, const struct probe_diff *d)
{
	fprintf(p->to, "\nSince the older report:%s\n", d->count ? "" : " nothing changed");
	for (unsigned i = 0; i < d->count; i++) {
		const struct probe_change *c = &d->changes[i];
		const char *was = c->before ? probe_verdict_word(c->before) : "not there",
			   *is = c->after ? probe_verdict_word(c->after) : "gone";

		fprintf(p->to, "%u  %s%-5s%s ", c->number, paint(p, c->worse ? "\033[1;31m" : "\033[32m"),
			c->worse ? "WORSE" : "other", paint(p, "\033[0m"));
		fprintf(p->to, "%s, was %s: ", is, was);
		wrap(p, c->title, INDENT + 7 + (unsigned)strlen(was) + (unsigned)strlen(is));
	}
}

static bool wants_colour(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

void probe_screen_report(const struct probe_report *r, const struct probe_diff *d, bool verbose, FILE *to)
{
	const struct page p = { to, screen_width(), wants_colour() };
	const char *const *group = NULL;
	char time[32];

	fprintf(to, "Probe of %s, %s\n", r->target, probe_time_words(r->began_ms, time));
	for (unsigned i = 0; i < r->fact_count; i++) {
		fprintf(to, "  %s: ", r->facts[i].name);
		wrap(&p, r->facts[i].value, 4 + (unsigned)strlen(r->facts[i].name));
	}
	for (unsigned i = 0; i < r->finding_count; i++) {
		const struct probe_finding *f = &r->findings[i];

		if (f->check->group != group) {
			group = f->check->group;
			fprintf(to, "\n%s%s%s\n", paint(&p, "\033[1m"), *group, paint(&p, "\033[0m"));
		}
		finding(&p, f, verbose);
	}
	if (d)
		changes(&p, d);
	fprintf(to, "\n%u pass, %u note, %u fail, %u not tested; %u connections, %u s\n",
		probe_report_count(r, PROBE_PASS), probe_report_count(r, PROBE_NOTE), probe_report_count(r, PROBE_FAIL),
		probe_report_count(r, PROBE_UNTESTED), r->connections, (r->took_ms + 500) / 1000);
}

void probe_screen_progress(unsigned done, unsigned total, const struct probe_check *c)
{
	if (!isatty(STDERR_FILENO))
		return;
	if (c)
		fprintf(stderr, "\r\033[K%u of %u: %.60s", done + 1, total, c->title);
	else
		fputs("\r\033[K", stderr);
	fflush(stderr);
}
