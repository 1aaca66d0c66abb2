/* outline.c - see outline.h. */
#include "conf/outline.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum token { TOKEN_END = 1, TOKEN_WORD, TOKEN_STRING, TOKEN_OPEN, TOKEN_CLOSE, TOKEN_EQUALS, TOKEN_COMMA, TOKEN_BAD };

struct scan {
	struct view text;
	size_t at;
	unsigned line;
	const char *path;
	struct error *e;
	enum token token; /* the present one */
	unsigned token_line;
	size_t n;
	char value[CONF_VALUE_MAX + 1]; /* of a word or string, terminated */
};

int conf_refuse(const struct conf_spot *spot, const char *fmt, ...)
{
	char words[sizeof spot->e->text];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(words, sizeof words, fmt, ap);
	va_end(ap);
	return error_set(spot->e, ERROR_INPUT, "%s:%u: %s", spot->path, spot->line, words);
}

#define REFUSE(s, line_, ...) conf_refuse(&(struct conf_spot){ (s)->path, (line_), (s)->e }, __VA_ARGS__)

/* ---- tokens ---- */

static bool word_octet(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
	       c == '.' || c == ':' || c == '%';
}

static enum token bad_octet(struct scan *s, char c)
{
	const unsigned char u = (unsigned char)c;
	if (c == '/' || c == ';')
		REFUSE(s, s->line,
		       "'%c' outside quotes; comments begin with #, and a value that holds it is written in quotes", c);
	else if (c == '+')
		REFUSE(s, s->line, "+= is not used here; write the whole list once, as NAME = {\"...\", \"...\"}");
	else if (c == '$')
		REFUSE(s, s->line, "environment variables are not read here; write the value itself");
	else if (c == '(')
		REFUSE(s, s->line, "functions such as include() are not used here; write everything in this file");
	else if (u > ' ' && u < 127)
		REFUSE(s, s->line, "'%c' outside quotes; write the value in quotes", c);
	else
		REFUSE(s, s->line, "an octet with the value %u outside quotes; only printable ASCII may stand there",
		       u);
	return TOKEN_BAD;
}

/* Length of the UTF-8 sequence at p, 0 when it is none (RFC 3629 section 4): what gets into headers and logs is text.
 */
static size_t utf8_length(struct view v)
{
	const unsigned char *p = (const unsigned char *)v.p;
	const size_t n = p[0] < 0x80                    ? 1
	                 : p[0] >= 0xc2 && p[0] <= 0xdf ? 2
	                 : p[0] >= 0xe0 && p[0] <= 0xef ? 3
	                 : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
	                                                : 0;
	if (n > v.n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

/* A string in the quotes that it begins with.  Inside "" a backslash may stand before " and \ only. */
static enum token string(struct scan *s)
{
	const char quote = s->text.p[s->at++];
	for (s->n = 0; s->at < s->text.n;) {
		const struct view rest = view_slice(s->text, s->at, s->text.n);
		const char c = rest.p[0];
		if (c == quote) {
			s->at++;
			s->value[s->n] = '\0';
			return TOKEN_STRING;
		}
		if (c == '\n' || c == '\r')
			break;
		if ((unsigned char)c < ' ' || c == 127) {
			REFUSE(s, s->line, "a control octet (%u) in a string; remove it", (unsigned char)c);
			return TOKEN_BAD;
		}
		if (c == '$' && quote == '"' && rest.n > 1 && rest.p[1] == '{') {
			REFUSE(s, s->line, "environment variables are not read here; write the value itself");
			return TOKEN_BAD;
		}
		size_t n = utf8_length(rest);
		if (c == '\\') {
			if (quote != '"' || rest.n < 2 || (rest.p[1] != '"' && rest.p[1] != '\\')) {
				REFUSE(s, s->line, "a backslash in a string; only \\\" and \\\\ may stand in \"...\"");
				return TOKEN_BAD;
			}
			s->at++;
			n = 1;
		}
		if (n == 0) {
			REFUSE(s, s->line, "a string that is not UTF-8; save the file as UTF-8");
			return TOKEN_BAD;
		}
		if (s->n + n > CONF_VALUE_MAX) {
			REFUSE(s, s->line, "a string of more than %d octets; is its closing quote missing?",
			       CONF_VALUE_MAX);
			return TOKEN_BAD;
		}
		memcpy(s->value + s->n, s->text.p + s->at, n);
		s->n += n;
		s->at += n;
	}
	REFUSE(s, s->line, "a string without its closing %c; strings end on the line where they begin", quote);
	return TOKEN_BAD;
}

static enum token word(struct scan *s)
{
	for (s->n = 0; s->at < s->text.n && word_octet(s->text.p[s->at]); s->at++) {
		if (s->n == CONF_VALUE_MAX) {
			REFUSE(s, s->line, "a word of more than %d octets", CONF_VALUE_MAX);
			return TOKEN_BAD;
		}
		s->value[s->n++] = s->text.p[s->at];
	}
	s->value[s->n] = '\0';
	return TOKEN_WORD;
}

/* Steps over blanks, ends of lines and comments.  False at the end of the text. */
static bool skip(struct scan *s)
{
	for (; s->at < s->text.n; s->at++) {
		const char c = s->text.p[s->at];
		if (c == '#') {
			s->at += view_find(view_slice(s->text, s->at, s->text.n), '\n');
			if (s->at == s->text.n)
				return false;
			s->line++;
		} else if (c == '\n') {
			s->line++;
		} else if (c != ' ' && c != '\t' &&
		           !(c == '\r' && s->at + 1 < s->text.n && s->text.p[s->at + 1] == '\n')) {
			return true;
		}
	}
	return false;
}

static enum token next(struct scan *s)
{
	const bool more = skip(s);
	s->token_line = s->line;
	if (!more)
		return s->token = TOKEN_END;
	const char c = s->text.p[s->at];
	switch (c) {
	case '{':
	case '}':
	case '=':
	case ',':
		s->at++;
		return s->token = c == '{'   ? TOKEN_OPEN
		                  : c == '}' ? TOKEN_CLOSE
		                  : c == '=' ? TOKEN_EQUALS
		                             : TOKEN_COMMA;
	case '"':
	case '\'':
		return s->token = string(s);
	default:
		return s->token = word_octet(c) ? word(s) : bad_octet(s, c);
	}
}

/* ---- the outline ---- */

/* One more element of size bytes; NULL when memory is out. */
static void *grow(void *old, size_t *room, size_t count, size_t size)
{
	if (count < *room)
		return old;
	const size_t more = *room ? *room * 2 : 16;
	void *p = reallocarray(old, more, size);
	if (p)
		*room = more;
	return p;
}

static int out_of_memory(const struct scan *s)
{
	return error_set(s->e, ERROR_AGAIN, "%s: out of memory", s->path);
}

static struct outline_section *add_section(struct outline *o, enum conf_tag tag, unsigned line)
{
	struct outline_section *all = grow(o->sections, &o->section_room, o->section_count, sizeof *all);
	if (!all)
		return NULL;
	o->sections = all;
	struct outline_setting *settings = calloc(conf_row_count(tag), sizeof *settings);
	if (!settings)
		return NULL;
	all += o->section_count++;
	*all = (struct outline_section){ .tag = tag, .line = line, .settings = settings };
	return all;
}

static int add_item(struct scan *s, struct outline *o, struct outline_setting *set)
{
	unsigned *lines = grow(o->item_lines, &o->item_room, o->item_count, sizeof *lines);
	if (!lines)
		return out_of_memory(s);
	o->item_lines = lines;
	lines[o->item_count++] = s->token_line;
	set->items++;
	return 0;
}

/* { a, b, c }, at its opening brace; a comma behind the last is fine. */
static int list(struct scan *s, struct outline *o, const struct conf_row *row, struct outline_setting *set)
{
	for (;;) {
		switch (next(s)) {
		case TOKEN_BAD:
			return -1;
		case TOKEN_CLOSE:
			return 0;
		case TOKEN_WORD:
		case TOKEN_STRING:
			break;
		default:
			return REFUSE(s, s->token_line, "%s: the list is broken; write %s = {\"...\", \"...\"}",
			              row->name, row->name);
		}
		if (add_item(s, o, set) == -1)
			return -1;
		switch (next(s)) {
		case TOKEN_BAD:
			return -1;
		case TOKEN_CLOSE:
			return 0;
		case TOKEN_COMMA:
			break;
		default:
			return REFUSE(s, s->token_line, "%s: after an item comes a comma, or } at the list's end",
			              row->name);
		}
	}
}

/* What stands behind the name; `line` is the name's. */
static int setting(struct scan *s, struct outline *o, struct outline_section *in, const struct conf_row *row,
                   unsigned line)
{
	struct outline_setting *set = &in->settings[row - &conf_rows[conf_kinds[in->tag].first]];
	if (set->line)
		return REFUSE(s, line, "%s is set again (first in line %u); keep one of the two", row->name, set->line);
	if (s->token != TOKEN_EQUALS)
		return REFUSE(s, line, "%s has no value; write %s = VALUE", row->name, row->name);
	*set = (struct outline_setting){ .line = line, .first = (unsigned)o->item_count };
	switch (next(s)) {
	case TOKEN_BAD:
		return -1;
	case TOKEN_STRING:
		break;
	case TOKEN_WORD:
		/* `tls =` and a forgotten value must not take the next line's name for it */
		if (s->token_line == line)
			break;
		return REFUSE(s, line, "%s has no value; write %s = VALUE in one line", row->name, row->name);
	case TOKEN_OPEN:
		if (row->type == CONF_TYPE_LIST)
			return list(s, o, row, set);
		return REFUSE(s, line, "%s takes one value, not a list; write %s = VALUE without braces", row->name,
		              row->name);
	default:
		return REFUSE(s, line, "%s has no value; write %s = VALUE", row->name, row->name);
	}
	return row->type == CONF_TYPE_LIST ? add_item(s, o, set) : 0;
}

static int unknown(struct scan *s, enum conf_tag tag, const char *name, unsigned line, bool section)
{
	char hint[CONF_HINT_SIZE];
	const struct view v = view_cstr(name);
	if (section)
		return REFUSE(s, line, "there is no section %.64s%s", name, conf_hint_section(v, hint));
	if (tag == CONF_TAG_GLOBAL)
		return REFUSE(s, line, "there is no setting %.64s%s", name, conf_hint_setting(tag, v, hint));
	return REFUSE(s, line, "there is no setting %.64s in a section %s%s", name, conf_kinds[tag].word,
	              conf_hint_setting(tag, v, hint));
}

/* The settings of a section, behind its opening brace. */
static int section_body(struct scan *s, struct outline *o, struct outline_section *in)
{
	for (;;) {
		char name[65];
		switch (next(s)) {
		case TOKEN_BAD:
			return -1;
		case TOKEN_CLOSE:
			return 0;
		case TOKEN_WORD:
			break;
		case TOKEN_END:
			return REFUSE(
				s, in->line,
				"the section %s that begins here is never closed; write } behind its last setting",
				conf_kinds[in->tag].word);
		default:
			return REFUSE(
				s, s->token_line,
				"inside a section stand lines like NAME = VALUE; names are written without quotes");
		}
		const unsigned line = s->token_line;
		snprintf(name, sizeof name, "%.64s", s->value);
		const struct conf_row *row = conf_row_find(in->tag, view_of(s->value, s->n));
		if (next(s) == TOKEN_BAD)
			return -1;
		if (!row && s->token != TOKEN_EQUALS && conf_tag_find(view_cstr(name)) != CONF_TAG_END)
			return REFUSE(s, line,
			              "sections do not stand inside each other; close %s (line %u) with } first",
			              conf_kinds[in->tag].word, in->line);
		if (!row)
			return unknown(s, in->tag, name, line, false);
		if (setting(s, o, in, row, line) == -1)
			return -1;
	}
}

/* Behind the section's word: its title if it has one, and its body. */
static int section(struct scan *s, struct outline *o, enum conf_tag tag, unsigned line)
{
	const struct conf_kind *kind = &conf_kinds[tag];
	if (s->token == TOKEN_EQUALS)
		return REFUSE(s, line, "%s is a section; write %s %s{ ... }", kind->word, kind->word,
		              kind->titled ? "\"title\" " : "");
	const struct outline_section *before = kind->many ? NULL : outline_find(o, tag, 0);
	if (before)
		return REFUSE(s, line, "section %s again (first in line %u); write all its settings in one", kind->word,
		              before->line);
	struct outline_section *in = add_section(o, tag, line);
	if (!in)
		return out_of_memory(s);
	if (kind->titled) {
		if ((s->token != TOKEN_STRING && s->token != TOKEN_WORD) || s->n == 0)
			return REFUSE(s, line, "a section %s needs a title; write %s \"title\" { ... }", kind->word,
			              kind->word);
		if ((in->title = strdup(s->value)) == NULL)
			return out_of_memory(s);
		if (next(s) == TOKEN_BAD)
			return -1;
	} else if (s->token == TOKEN_STRING || s->token == TOKEN_WORD) {
		return REFUSE(s, line, "a section %s has no title; write %s { ... }", kind->word, kind->word);
	}
	if (s->token != TOKEN_OPEN)
		return REFUSE(s, line, "the settings of a section stand in braces; write %s %s{ ... }", kind->word,
		              kind->titled ? "\"title\" " : "");
	return section_body(s, o, in);
}

static int top(struct scan *s, struct outline *o)
{
	for (;;) {
		char name[65];
		switch (next(s)) {
		case TOKEN_BAD:
			return -1;
		case TOKEN_END:
			return 0;
		case TOKEN_WORD:
			break;
		case TOKEN_CLOSE:
			return REFUSE(s, s->token_line, "a } that closes nothing; remove it");
		case TOKEN_STRING:
			return REFUSE(s, s->token_line,
			              "a string where a name should stand; names are written without quotes");
		default:
			return REFUSE(s, s->token_line,
			              "a name should stand here; write NAME = VALUE or SECTION { ... }");
		}
		const unsigned line = s->token_line;
		const struct conf_row *row = conf_row_find(CONF_TAG_GLOBAL, view_of(s->value, s->n));
		const enum conf_tag tag = conf_tag_find(view_of(s->value, s->n));
		snprintf(name, sizeof name, "%.64s", s->value);
		if (next(s) == TOKEN_BAD)
			return -1;
		if (!row && tag == CONF_TAG_END)
			return unknown(s, CONF_TAG_GLOBAL, name, line,
			               s->token != TOKEN_EQUALS && s->token != TOKEN_END);
		if ((row ? setting(s, o, &o->sections[0], row, line) : section(s, o, tag, line)) == -1)
			return -1;
	}
}

static int by_title(const void *a, const void *b)
{
	const struct outline_section *x = *(const struct outline_section *const *)a;
	const struct outline_section *y = *(const struct outline_section *const *)b;
	const int order = x->tag != y->tag ? (x->tag < y->tag ? -1 : 1) : strcmp(x->title, y->title);
	return order ? order : x->line < y->line ? -1 : x->line > y->line;
}

/* libconfuse would merge or replace sections of one title in silence.  Reports the repetition that comes first. */
static int check_titles(const struct scan *s, const struct outline *o)
{
	const struct outline_section **sorted = calloc(o->section_count, sizeof *sorted);
	const struct outline_section *again = NULL, *first = NULL;
	size_t n = 0;
	if (!sorted)
		return out_of_memory(s);
	for (size_t i = 0; i < o->section_count; i++)
		if (o->sections[i].title)
			sorted[n++] = &o->sections[i];
	qsort(sorted, n, sizeof *sorted, by_title);
	for (size_t i = 1; i < n; i++)
		if (sorted[i]->tag == sorted[i - 1]->tag && strcmp(sorted[i]->title, sorted[i - 1]->title) == 0 &&
		    (!again || sorted[i]->line < again->line)) {
			again = sorted[i];
			first = sorted[i - 1];
		}
	free(sorted);
	if (!again)
		return 0;
	return REFUSE(s, again->line, "%s \"%.100s\" again (first in line %u); keep one of the two",
	              conf_kinds[again->tag].word, again->title, first->line);
}

int outline_read(struct outline *o, struct view text, const char *path, struct error *e)
{
	struct scan s = { .text = text, .line = 1, .path = path, .e = e };
	*o = (struct outline){ 0 };
	if (text.n > CONF_TEXT_MAX)
		return error_set(e, ERROR_INPUT, "%s: larger than %u MiB; this is no configuration", path,
		                 CONF_TEXT_MAX >> 20);
	/* a NUL would end the text for libconfuse, but not for us: it must not hide in a comment */
	const size_t nul = view_find(text, '\0');
	for (size_t i = 0; i < nul && nul < text.n; i++)
		s.line += text.p[i] == '\n';
	if (nul < text.n)
		return REFUSE(&s, s.line, "a NUL octet; save the file as plain text");
	if (!add_section(o, CONF_TAG_GLOBAL, 1))
		return out_of_memory(&s);
	if (top(&s, o) == -1 || check_titles(&s, o) == -1) {
		outline_free(o);
		return -1;
	}
	o->last_line = s.line;
	return 0;
}

void outline_free(struct outline *o)
{
	for (size_t i = 0; i < o->section_count; i++) {
		free(o->sections[i].title);
		free(o->sections[i].settings);
	}
	free(o->sections);
	free(o->item_lines);
	*o = (struct outline){ 0 };
}

const struct outline_section *outline_find(const struct outline *o, enum conf_tag tag, size_t nth)
{
	for (size_t i = 0; i < o->section_count; i++)
		if (o->sections[i].tag == tag && nth-- == 0)
			return &o->sections[i];
	return NULL;
}

unsigned outline_line(const struct outline_section *in, const struct conf_row *row)
{
	if (!in)
		return 1;
	const unsigned line = in->settings[row - &conf_rows[conf_kinds[in->tag].first]].line;
	return line ? line : in->line;
}
