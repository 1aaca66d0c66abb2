/* html.c - the report as one page of HTML: nothing is loaded, nothing runs, dialogs are folded with <details>.
 *
 * All text is escaped, whoever wrote it.  Colours follow the reader's light or dark scheme; a verdict is never told by
 * colour alone.  On a narrow screen a check's cells stand below each other.
 */
#include "probe/report.h"

#include <psmtp.h>

/* clang-format off */
static const char style[] =
	":root { color-scheme: light dark; --bg: #fbfbfa; --fg: #1d1f21; --soft: #5d646b; --line: #dcdfe2; --card: #fff; --code: #f3f4f5;\n"
	"  --pass: #1a7f37; --note: #8a6100; --fail: #b3261e; --none: #5d646b; --tls: #0b62a8 }\n"
	"@media (prefers-color-scheme: dark) { :root { --bg: #15171a; --fg: #e4e6e8; --soft: #9aa3ab; --line: #31363b; --card: #1c1f23;\n"
	"  --code: #121417; --pass: #4ac26b; --note: #d9a520; --fail: #ff7b72; --none: #9aa3ab; --tls: #6cb6ff } }\n"
	"* { box-sizing: border-box }\n"
	"body { margin: 0; background: var(--bg); color: var(--fg); font: 16px/1.5 system-ui, sans-serif }\n"
	"main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }\n"
	"h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere }\n"
	"h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }\n"
	".soft { color: var(--soft) }\n"
	".sums { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1rem 0; padding: 0; list-style: none }\n"
	".sums li { border: 1px solid var(--line); background: var(--card); border-radius: .5rem; padding: .35rem .9rem }\n"
	".sums b { font-size: 1.3rem }\n"
	"dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0 }\n"
	"dt { color: var(--soft) }\n"
	"dd { margin: 0; overflow-wrap: anywhere }\n"
	"details { border: 1px solid var(--line); background: var(--card); border-radius: .5rem; margin: .4rem 0 }\n"
	"summary { display: grid; grid-template-columns: 2.6rem 5.2rem 1fr 1rem; gap: .1rem .6rem; padding: .55rem .8rem; cursor: pointer;\n"
	"  list-style: none; align-items: baseline }\n"
	"summary::-webkit-details-marker { display: none }\n"
	"summary::after { content: '\\25b8'; grid-column: 4; grid-row: 1; color: var(--soft) }\n"
	"details[open] > summary::after { content: '\\25be' }\n"
	"summary:focus-visible { outline: 2px solid var(--tls); outline-offset: 2px; border-radius: .5rem }\n"
	".num { color: var(--soft); font-variant-numeric: tabular-nums }\n"
	".seen { grid-column: 3; color: var(--soft); font-size: .93rem; overflow-wrap: anywhere }\n"
	".v { font-weight: 650 }\n"
	".pass { color: var(--pass) }\n"
	".note { color: var(--note) }\n"
	".fail { color: var(--fail) }\n"
	".not-tested { color: var(--none); font-weight: 400 }\n"
	".body { padding: 0 .8rem .8rem }\n"
	".ref { font-size: .9rem; color: var(--soft); margin: .2rem 0 .6rem }\n"
	"pre { background: var(--code); border: 1px solid var(--line); border-radius: .4rem; padding: .6rem .7rem; margin: 0;\n"
	"  font: 13px/1.55 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere }\n"
	".t { color: var(--tls) }\n"
	".e { color: var(--soft) }\n"
	".g { font-weight: 600 }\n"
	"table { border-collapse: collapse; width: 100% }\n"
	"td, th { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid var(--line) }\n"
	"@media (max-width: 36rem) { summary { grid-template-columns: 2.6rem 1fr 1rem } .name, .seen { grid-column: 1 / -1 }\n"
	"  summary::after { grid-column: 3 }\n"
	"  dl { grid-template-columns: 1fr } dt { margin-top: .4rem } }\n"
	"@media print { details { break-inside: avoid } }\n";
/* clang-format on */

static void text(const char *p, FILE *to)
{
	for (; *p; p++)
		switch (*p) {
		case '<': fputs("&lt;", to); break;
		case '>': fputs("&gt;", to); break;
		case '&': fputs("&amp;", to); break;
		case '"': fputs("&quot;", to); break;
		case '\'': fputs("&#39;", to); break;
		default: fputc(*p, to);
		}
}

static void line(const struct probe_line *l, FILE *to)
{
	const char *sign;

	if (!l->connection) {
		fprintf(to, "<span class=e>%u.%03u * ", l->at_ms / 1000, l->at_ms % 1000);
		text(l->text, to);
		fputs("</span>\n", to);
		return;
	}
	sign = l->direction == PROBE_SENT ? "&gt;" : l->direction == PROBE_GOT ? "&lt;" : "*";

	fprintf(to, "<span class=e>%u.%03u #%u</span> <span class=%s>%s</span> <span class=%s>%s ", l->at_ms / 1000,
		l->at_ms % 1000, l->connection, l->tls ? "t" : "e", l->tls ? "TLS" : "clear",
		l->direction == PROBE_EVENT  ? "e"
		: l->direction == PROBE_SENT ? "g"
					     : "r",
		sign);
	text(l->text, to);
	fputs("</span>\n", to);
}

/* What the table's last column is, by kind of probe. */
static const char *sends_word(const char *kind)
{
	return kind[0] == 'd' ? "Asks" : kind[0] == 'c' ? "Plays" : "Sends";
}

static void finding(const struct probe_finding *f, const char *kind, FILE *to)
{
	const struct probe_check *c = f->check;
	const char *word = probe_verdict_word(f->verdict);

	fprintf(to,
		"<details id=c%u%s><summary><span class=num>%u</span><span class=\"v %s\">%s</span><span class=name>",
		c->number, f->verdict == PROBE_FAIL ? " open" : "", c->number, word,
		f->verdict == PROBE_UNTESTED ? "not tested" : word);
	text(c->title, to);
	fputs("</span><span class=seen>", to);
	text(f->text, to);
	fputs("</span></summary><div class=body><p class=ref>", to);
	text(c->reference, to);
	fprintf(to, "; severity %s", probe_severity_word(c->severity));
	if (c->sends && *c->sends) {
		fprintf(to, "<br>%s: ", sends_word(kind));
		text(c->sends, to);
	}
	fputs("</p>", to);
	if (f->line_count) {
		fputs("<pre>", to);
		for (unsigned i = 0; i < f->line_count; i++)
			line(&f->lines[i], to);
		if (f->lines_cut)
			fprintf(to, "<span class=e>(%u more lines)</span>\n", f->lines_cut);
		fputs("</pre>", to);
	}
	fputs("</div></details>\n", to);
}

static void changes(const struct probe_diff *d, FILE *to)
{
	fprintf(to, "<h2>Changes</h2>\n");
	if (!d->count) {
		fputs("<p>None.</p>\n", to);
		return;
	}
	fputs("<table><tr><th>check<th>before<th>now</tr>\n", to);
	for (unsigned i = 0; i < d->count; i++) {
		const struct probe_change *c = &d->changes[i];

		fprintf(to, "<tr><td>%u ", c->number);
		text(c->title, to);
		fprintf(to, "<td>%s<td>%s%s</tr>\n", c->before ? probe_verdict_word(c->before) : "not there",
			c->after ? probe_verdict_word(c->after) : "gone", c->worse ? ", <b class=fail>worse</b>" : "");
	}
	fputs("</table>\n", to);
}

static void head(const struct probe_report *r, FILE *to)
{
	char time[32];

	fputs("<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport "
	      "content=\"width=device-width,initial-scale=1\">\n"
	      "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src "
	      "'unsafe-inline'\">\n<title>Probe of ",
	      to);
	text(r->target, to);
	fprintf(to, "</title>\n<style>\n%s</style></head>\n<body><main>\n<h1>Probe of ", style);
	text(r->target, to);
	fprintf(to,
		"</h1>\n<p class=soft>%s, %s, %u connections, %u s, postrider " PSMTP_VERSION "</p>\n<ul class=sums>",
		r->kind, probe_time_words(r->began_ms, time), r->connections, (r->took_ms + 500) / 1000);
	for (enum probe_verdict v = PROBE_PASS; v <= PROBE_UNTESTED; v++)
		fprintf(to, "<li><b class=%s>%u</b> %s", probe_verdict_word(v), probe_report_count(r, v),
			v == PROBE_UNTESTED ? "not tested" : probe_verdict_word(v));
	fputs("</ul>\n", to);
	if (r->fact_count) {
		fputs("<dl>", to);
		for (unsigned i = 0; i < r->fact_count; i++) {
			fputs("<dt>", to);
			for (const char *p = r->facts[i].name; *p; p++)
				fputc(*p == '_' ? ' ' : *p, to);
			fputs("<dd>", to);
			text(r->facts[i].value, to);
		}
		fputs("</dl>\n", to);
	}
}

bool probe_print_html(const struct probe_report *r, const struct probe_diff *d, FILE *to)
{
	const char *const *group = NULL;

	head(r, to);
	if (d)
		changes(d, to);
	for (unsigned i = 0; i < r->finding_count; i++) {
		const struct probe_finding *f = &r->findings[i];

		if (f->check->group != group) {
			group = f->check->group;
			fputs("<h2>", to);
			text(*group, to);
			fputs("</h2>\n", to);
		}
		finding(f, r->kind, to);
	}
	fputs("<p class=soft>&gt; sent, &lt; received, * happened; before it seconds, the number of the connection, "
	      "and whether it was inside TLS.</p>\n"
	      "</main></body></html>\n",
	      to);
	return !r->broken && !ferror(to);
}
