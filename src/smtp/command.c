/* command.c - see command.h. */
#include "smtp/command.h"

#include "smtp/internal.h"

struct verb {
	struct view name;
	size_t limit;
};

static const struct verb verbs[SMTP_VERB_END_] = {
	[SMTP_VERB_UNKNOWN] = { { "unknown", 7 }, SMTP_LINE_MAX },
	[SMTP_VERB_HTTP] = { { "http", 4 }, SMTP_LINE_MAX },
#define X(verb, limit) [SMTP_VERB_##verb] = { { #verb, sizeof #verb - 1 }, limit },
	SMTP_VERBS(X)
#undef X
};

/* RFC 9110 section 9, RFC 5789, and the preface of HTTP/2 (RFC 9113 3.4).  None is a verb of SMTP. */
static const char *const http_methods[] = { "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE",
	"PATCH", "PRI" };

/* Header fields that a request begins with, for when its first line was lost on the way. */
static const char *const http_fields[] = { "Host", "User-Agent", "Accept", "Accept-Encoding", "Accept-Language",
	"Connection", "Content-Length", "Content-Type", "Cookie", "Origin", "Referer", "Upgrade", "Cache-Control",
	"Pragma", "Transfer-Encoding" };

static bool among(struct view word, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (view_eq_nocase(word, view_cstr(list[i])))
			return true;
	return false;
}

static enum smtp_verb find_verb(struct view word)
{
	for (enum smtp_verb v = SMTP_VERB_HTTP + 1; v < SMTP_VERB_END_; v++)
		if (view_eq_nocase(word, verbs[v].name))
			return v;
	return SMTP_VERB_UNKNOWN;
}

static bool is_http(const struct smtp_command *c)
{
	size_t colon = view_find(c->word, ':');

	if (colon < c->word.n)
		return among(view_slice(c->word, 0, colon), http_fields, sizeof http_fields / sizeof *http_fields);
	return c->has_argument && among(c->word, http_methods, sizeof http_methods / sizeof *http_methods);
}

struct smtp_command smtp_command_parse(struct view line)
{
	struct smtp_command c = { 0 };
	size_t blank;

	while (line.n && smtp_is_blank(line.p[line.n - 1])) /* RFC 5321 4.1.1: tolerate trailing white space */
		line.n--;
	blank = view_find(line, ' ');
	c.word = view_slice(line, 0, blank);
	c.argument = view_slice(line, blank + 1, line.n);
	c.has_argument = c.argument.n > 0;
	c.verb = find_verb(c.word);
	if (c.verb == SMTP_VERB_UNKNOWN && is_http(&c))
		c.verb = SMTP_VERB_HTTP;
	return c;
}

size_t smtp_command_limit(struct view head)
{
	return verbs[find_verb(view_slice(head, 0, view_find(head, ' ')))].limit;
}

const char *smtp_verb_name(enum smtp_verb v)
{
	return v > 0 && v < SMTP_VERB_END_ ? verbs[v].name.p : "none";
}
