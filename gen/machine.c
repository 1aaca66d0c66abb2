/* machine.c - prints the protocol machines: docs/machine.md, to be read beside the RFCs, and their graphs.
 *
 *   machine md                 the page, on standard output
 *   machine dot server|client  the graph, for graphviz
 *   machine check FILE         exit 1 when FILE is not what `machine md` prints: the page is stale
 *
 * Input is what the compiler made of spec/server.def, spec/client.def and their sisters; nothing is parsed here.
 */
#include "gen/machine.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All memory taken, to be given back at the end: leak checkers watch this program too. */
static void **kept;
static size_t kept_count;

static void forget(void)
{
	while (kept_count)
		free(kept[--kept_count]);
	free(kept);
}

static void *keep(void *p)
{
	void **more = realloc(kept, (kept_count + 1) * sizeof *kept);

	if (!p || !more) {
		fputs("machine: out of memory\n", stderr);
		exit(1);
	}
	kept = more;
	kept[kept_count++] = p;
	return p;
}

void *machine_take(size_t count, size_t size)
{
	return keep(calloc(count ? count : 1, size));
}

const char *machine_text(const char *fmt, ...)
{
	va_list ap;
	char *text = NULL;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	return keep(text);
}

const char *machine_guards(uint64_t want, uint64_t lack, const char *(*name)(unsigned bit))
{
	const char *text = "";

	for (unsigned i = 0; i < 64; i++) {
		const char *sign = want >> i & 1 ? "" : lack >> i & 1 ? "not " : NULL;

		if (sign)
			text = machine_text("%s%s%s%s", text, *text ? ", " : "", sign, name(i));
	}
	return text;
}

/* A cell: a bar would end it. */
static void cell(FILE *f, const char *text)
{
	fputs("| ", f);
	for (; text && *text; text++) {
		if (*text == '|')
			fputc('\\', f);
		fputc(*text == '\n' ? ' ' : *text, f);
	}
	fputc(' ', f);
}

static void print_row(FILE *f, const struct machine_row *r)
{
	cell(f, r->event);
	cell(f, r->guards);
	cell(f, r->reply);
	cell(f, r->does);
	cell(f, r->next);
	cell(f, r->ends);
	cell(f, r->rfc);
	cell(f, r->note);
	fputs("|\n", f);
}

static void print_phase(FILE *f, const struct machine *m, size_t p)
{
	bool any = false;

	for (size_t i = 0; i < m->row_count; i++) {
		if (!(m->rows[i].phases >> p & 1))
			continue;
		if (!any)
			fprintf(f, "\n### %s\n\nWaits for: %s. Clock: %s.\n\n"
				"| event | guards | reply | does | next phase | ends | RFC | note |\n|---|---|---|---|---|---|---|---|\n",
				m->phases[p].name, m->phases[p].note, m->phases[p].clock);
		any = true;
		print_row(f, &m->rows[i]);
	}
}

static void print_list(FILE *f, const struct machine_list *l)
{
	fprintf(f, "\n### %s\n\n| name | %s | %s |\n|---|---|---|\n", l->title, l->kind_title, l->note_title);
	for (size_t i = 0; i < l->count; i++) {
		cell(f, l->words[i].name);
		cell(f, l->words[i].kind);
		cell(f, l->words[i].note);
		fputs("|\n", f);
	}
}

static void print_machine(FILE *f, const struct machine *m)
{
	fprintf(f, "\n## The %s\n\n%s\n\n![The %s's phases](machine-%s.svg)\n", m->name, m->lead, m->name, m->name);
	for (size_t p = 0; p < m->phase_count; p++)
		print_phase(f, m, p);
	for (size_t i = 0; i < m->list_count; i++)
		print_list(f, &m->lists[i]);
}

static void print_page(FILE *f)
{
	fputs("# The protocol machines\n\n"
	      "Printed by `gen/machine` from `spec/server.def`, `spec/client.def`, `spec/lifetimes.def` and "
	      "`spec/replies.def`; do not edit.\n"
	      "Read it beside RFC 5321 (SMTP), RFC 3207 (STARTTLS), RFC 2033 (LMTP) and RFC 3030 (BDAT): each row names "
	      "its section.\n"
	      "In a phase, the first row whose event and guards match wins. Ending a lifetime ends all inside it.\n",
		f);
	print_machine(f, machine_server());
	if (machine_client())
		print_machine(f, machine_client());
}

/* One edge for each pair of phases, labelled with its events. */
static void print_edge(FILE *f, const struct machine *m, size_t from, const char *to)
{
	const char *label = "", *last = "";

	for (size_t i = 0; i < m->row_count; i++) {
		const struct machine_row *r = &m->rows[i];

		if (!(r->phases >> from & 1) || strcmp(r->next, to) != 0 || strcmp(r->event, last) == 0)
			continue;
		if (strcmp(m->phases[from].name, to) == 0)
			continue; /* what stays is in the page; the graph shows what moves */
		label = machine_text("%s%s%s", label, *label ? "\\n" : "", r->event);
		last = r->event;
	}
	if (*label)
		fprintf(f, "\t%s -> %s [label=\"%s\"];\n", m->phases[from].name, to, label);
}

static void print_graph(FILE *f, const struct machine *m)
{
	fprintf(f, "digraph %s {\n\trankdir=LR;\n\tnode [shape=box, style=rounded, fontname=\"sans-serif\", fontsize=11];\n"
		   "\tedge [fontname=\"sans-serif\", fontsize=8];\n", m->name);
	for (size_t p = 0; p < m->phase_count; p++)
		fprintf(f, "\t%s [tooltip=\"%s\"];\n", m->phases[p].name, m->phases[p].note);
	for (size_t from = 0; from < m->phase_count; from++)
		for (size_t to = 0; to < m->phase_count; to++)
			print_edge(f, m, from, m->phases[to].name);
	fputs("}\n", f);
}

static int check_page(const char *path)
{
	char *now = NULL, *then;
	size_t now_len = 0, then_len;
	FILE *f = open_memstream(&now, &now_len);

	if (!f)
		return 1;
	print_page(f);
	fclose(f);
	f = fopen(path, "rb");
	if (!f) {
		perror(path);
		return 1;
	}
	then = machine_take(now_len + 1, 1);
	then_len = fread(then, 1, now_len + 1, f);
	fclose(f);
	if (then_len != now_len || memcmp(now, then, now_len) != 0) {
		fprintf(stderr, "%s is stale: ninja docs-machine prints it anew\n", path);
		return 1;
	}
	free(now);
	return 0;
}

int main(int argc, char **argv)
{
	atexit(forget);
	if (argc == 2 && strcmp(argv[1], "md") == 0) {
		print_page(stdout);
	} else if (argc == 3 && strcmp(argv[1], "dot") == 0 && strcmp(argv[2], "server") == 0) {
		print_graph(stdout, machine_server());
	} else if (argc == 3 && strcmp(argv[1], "dot") == 0 && strcmp(argv[2], "client") == 0 && machine_client()) {
		print_graph(stdout, machine_client());
	} else if (argc == 3 && strcmp(argv[1], "check") == 0) {
		return check_page(argv[2]);
	} else {
		fputs("usage: machine md | dot server|client | check FILE\n", stderr);
		return 2;
	}
	return fflush(stdout) == 0 ? 0 : 1;
}
