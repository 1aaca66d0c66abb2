/* report.c - see report.h: the findings while they are gathered. */
#include "probe/report.h"

#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#define GROW 16 /* entries by which a list grows at first */

const char *probe_verdict_word(enum probe_verdict v)
{
	static const char *const words[] = { "?", "pass", "note", "fail", "not-tested" };

	return words[v];
}

const char *probe_severity_word(enum probe_severity s)
{
	static const char *const words[] = { "?", "low", "medium", "high" };

	return words[s];
}

void probe_report_init(struct probe_report *r, const char *kind, const char *target, int64_t now_ms)
{
	*r = (struct probe_report){ .kind = kind, .began_ms = now_ms };
	arena_init(&r->text, &alloc_libc, PROBE_TEXT_MAX);
	r->target = arena_cstr(&r->text, view_cstr(target));
	if (!r->target) {
		r->target = "";
		r->broken = true;
	}
}

void probe_report_free(struct probe_report *r)
{
	for (unsigned i = 0; i < r->finding_count; i++)
		free(r->findings[i].lines);
	free(r->findings);
	free(r->facts);
	arena_free(&r->text);
	*r = (struct probe_report){ 0 };
}

/* Room for one more entry; the list may move. */
static bool grow(void **list, unsigned count, unsigned *room, size_t size)
{
	unsigned more = *room ? *room * 2 : GROW;
	void *larger;

	if (count < *room)
		return true;
	larger = realloc(*list, more * size);
	if (!larger)
		return false;
	*list = larger;
	*room = more;
	return true;
}

struct probe_finding *probe_report_add(struct probe_report *r, const struct probe_check *check)
{
	struct probe_finding *f;
	void *list = r->findings;

	if (!grow(&list, r->finding_count, &r->finding_room, sizeof *r->findings)) {
		r->broken = true;
		return NULL;
	}
	r->findings = list;
	f = &r->findings[r->finding_count++];
	*f = (struct probe_finding){ .check = check, .verdict = PROBE_UNTESTED, .text = "" };
	return f;
}

static const char *keep(struct probe_report *r, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static const char *keep(struct probe_report *r, const char *fmt, va_list ap)
{
	char words[2000]; /* more is not read by anybody; vsnprintf cuts */
	const char *kept;

	vsnprintf(words, sizeof words, fmt, ap);
	/* what a peer said may be in it: nothing of that may steer a terminal or break a form */
	for (char *p = words; *p; p++)
		if ((unsigned char)*p < 32 || (unsigned char)*p > 126)
			*p = *p == '\n' ? '|' : '?';
	kept = arena_cstr(&r->text, view_cstr(words));
	if (!kept)
		r->broken = true;
	return kept ? kept : "";
}

void probe_report_judge(struct probe_report *r, struct probe_finding *f, enum probe_verdict verdict, const char *fmt,
			...)
{
	va_list ap;

	va_start(ap, fmt);
	f->verdict = verdict;
	f->text = keep(r, fmt, ap);
	va_end(ap);
}

void probe_report_fact(struct probe_report *r, const char *name, const char *fmt, ...)
{
	void *list = r->facts;
	va_list ap;

	if (!grow(&list, r->fact_count, &r->fact_room, sizeof *r->facts)) {
		r->broken = true;
		return;
	}
	r->facts = list;
	va_start(ap, fmt);
	r->facts[r->fact_count++] = (struct probe_fact){ name, keep(r, fmt, ap) };
	va_end(ap);
}

const char *probe_report_get(const struct probe_report *r, const char *name)
{
	for (unsigned i = 0; i < r->fact_count; i++)
		if (strcmp(r->facts[i].name, name) == 0)
			return r->facts[i].value;
	return NULL;
}

/* Spells octets; at most PROBE_LINE_MAX columns, the last of which then say that there was more. */
static size_t spell(struct view octets, char to[PROBE_LINE_MAX + 1])
{
	size_t n = 0;

	for (size_t i = 0; i < octets.n; i++) {
		unsigned char c = (unsigned char)octets.p[i];
		char one[8];
		int m = c == '\r'            ? snprintf(one, sizeof one, "\\r")
			: c == '\n'          ? snprintf(one, sizeof one, "\\n")
			: c == '\t'          ? snprintf(one, sizeof one, "\\t")
			: c == '\\'          ? snprintf(one, sizeof one, "\\\\")
			: c >= 32 && c < 127 ? snprintf(one, sizeof one, "%c", c)
					     : snprintf(one, sizeof one, "\\x%02x", c);
		if (n + (size_t)m > PROBE_LINE_MAX - 32) {
			n += (size_t)snprintf(to + n, 32, " ... (%zu octets)", octets.n);
			break;
		}
		memcpy(to + n, one, (size_t)m);
		n += (size_t)m;
	}
	to[n] = 0;
	return n;
}

void probe_report_line(struct probe_report *r, struct probe_finding *f, uint32_t at_ms, uint32_t connection,
		       enum probe_direction direction, bool tls, struct view octets)
{
	char words[PROBE_LINE_MAX + 1];
	void *list = f->lines;
	const char *kept;

	if (f->line_count >= PROBE_LINES_MAX) {
		f->lines_cut++;
		return;
	}
	kept = arena_cstr(&r->text, view_of(words, spell(octets, words)));
	if (!kept || !grow(&list, f->line_count, &f->line_room, sizeof *f->lines)) {
		r->broken = true;
		return;
	}
	f->lines = list;
	f->lines[f->line_count++] = (struct probe_line){ at_ms, connection, direction, tls, kept };
}

unsigned probe_report_count(const struct probe_report *r, enum probe_verdict v)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->finding_count; i++)
		n += r->findings[i].verdict == v;
	return n;
}

void probe_line_words(const struct probe_line *l, char to[PROBE_LINE_MAX + 40])
{
	static const char signs[] = "?><*";

	if (!l->connection) /* the DNS, the web, a command: neither in clear nor inside TLS */
		snprintf(to, PROBE_LINE_MAX + 40, "* %s", l->text);
	else
		snprintf(to, PROBE_LINE_MAX + 40, "%u %s %c %s", l->connection, l->tls ? "tls  " : "clear", signs[l->direction],
			 l->text);
}

const char *probe_time_words(int64_t ms, char to[32])
{
	time_t t = (time_t)(ms / 1000);
	struct tm tm;

	if (!gmtime_r(&t, &tm) || strftime(to, 32, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		snprintf(to, 32, "-");
	return to;
}
