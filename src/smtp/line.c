/* line.c - see line.h. */
#include "smtp/line.h"

#include "smtp/internal.h"

/* Index of the LF of the first CR LF whose LF stands at or behind from; v.n when there is none. */
static size_t find_end(struct view v, size_t from)
{
	while (from < v.n) {
		size_t lf = from + view_find(view_slice(v, from, v.n), '\n');

		if (lf < v.n && lf > 0 && v.p[lf - 1] == '\r')
			return lf;
		from = lf + 1;
	}
	return v.n;
}

/* What a search may forget: all but a CR at the end, whose LF may come next. */
static size_t without_cr(struct view v)
{
	return v.n && v.p[v.n - 1] == '\r' ? v.n - 1 : v.n;
}

/* What makes a line bad, or NULL. */
static const char *fault_of(struct view text)
{
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];

		if (!smtp_is_control(c) || c == '\t')
			continue;
		return c == '\0' ? "nul" : c == '\r' ? "bare_cr" : c == '\n' ? "bare_lf" : "control";
	}
	return NULL;
}

static struct smtp_line too_long(struct smtp_line_state *s, size_t end)
{
	*s = (struct smtp_line_state){ 0 };
	return (struct smtp_line){
		.kind = SMTP_LINE_TOO_LONG, .text = VIEW(""), .take = end + 1, .reason = "line_too_long"
	};
}

/* No end of line yet. */
static struct smtp_line wait_more(struct smtp_line_state *s, struct view input, size_t limit)
{
	struct smtp_line line = { .kind = SMTP_LINE_NONE, .text = VIEW("") };

	s->seen = without_cr(input);
	if (s->skipping || input.n >= limit) { /* with its CR LF it is longer than the limit, whatever comes */
		s->skipping = true;
		line.take = s->seen;
		s->seen = 0;
	}
	return line;
}

struct smtp_line smtp_line_read(struct smtp_line_state *s, struct view input, size_t limit)
{
	size_t end = find_end(input, s->seen);
	struct smtp_line line = { .kind = SMTP_LINE_GOOD };

	if (end == input.n)
		return wait_more(s, input, limit);
	if (s->skipping || end + 1 > limit)
		return too_long(s, end);
	s->seen = 0;
	line.text = view_slice(input, 0, end - 1);
	line.take = end + 1;
	line.reason = fault_of(line.text);
	line.eight_bit = smtp_has_8bit(line.text);
	if (line.reason)
		line.kind = SMTP_LINE_BAD;
	return line;
}
