/* reply_in.c - see reply_in.h. */
#include "smtp/reply_in.h"

#include "base/span.h"
#include "smtp/internal.h"

void smtp_reply_in_init(struct smtp_reply_in *r, const struct alloc *alloc, uint32_t octet_limit, uint32_t line_limit)
{
	*r = (struct smtp_reply_in){ .octet_limit = octet_limit, .line_limit = line_limit,
		.line_max = SMTP_REPLY_IN_LINE_MAX };
	buf_init(&r->text, alloc, octet_limit);
}

void smtp_reply_in_free(struct smtp_reply_in *r)
{
	buf_free(&r->text);
	smtp_reply_in_next(r);
}

void smtp_reply_in_next(struct smtp_reply_in *r)
{
	struct buf text = r->text;

	buf_clear(&text); /* wiped: a 334 may hold what a mechanism keeps to itself */
	*r = (struct smtp_reply_in){ .text = text, .octet_limit = r->octet_limit, .line_limit = r->line_limit,
		.line_max = r->line_max };
}

static enum smtp_reply_status bad(struct smtp_reply_in *r, const char *reason)
{
	r->reason = reason;
	return SMTP_REPLY_BAD;
}

/* One to three digits at *at; -1 when there are none. */
static int take_number(struct view v, size_t *at)
{
	int value = 0;
	size_t start = *at;

	while (*at < v.n && *at - start < 3 && smtp_is_digit(v.p[*at]))
		value = value * 10 + (v.p[(*at)++] - '0');
	return *at == start ? -1 : value;
}

/* An enhanced code of the reply's class at the start of v, with the blank behind it (RFC 2034 section 4): its length,
 * or 0. */
static size_t enhanced_length(struct view v, int class, uint16_t out[3])
{
	size_t at = 0;

	if (class == 3)
		return 0;
	for (int i = 0; i < 3; i++) {
		int value = take_number(v, &at);

		if (value < 0 || (i == 0 && value != class) || (i < 2 && (at == v.n || v.p[at++] != '.')))
			return 0;
		out[i] = (uint16_t)value;
	}
	if (at < v.n && v.p[at] != ' ')
		return 0;
	return at < v.n ? at + 1 : at;
}

/* Takes the enhanced code off the line's words: the first line's is the reply's, others go when they repeat it. */
static void strip_enhanced(struct smtp_reply_in *r)
{
	struct view words = view_slice(buf_view(&r->text), r->line_start, buf_len(&r->text));
	uint16_t code[3] = { 0 };
	size_t n = enhanced_length(words, r->code / 100, code);

	if (!n)
		return;
	if (r->lines == 0)
		memcpy(r->enhanced, code, sizeof code);
	else if (memcmp(r->enhanced, code, sizeof code) != 0)
		return;
	memmove(r->text.mem + r->text.rd + r->line_start, words.p + n, words.n - n);
	r->text.wr -= n;
}

/* CR LF has come. */
static enum smtp_reply_status end_line(struct smtp_reply_in *r)
{
	if (r->column < 3)
		return bad(r, "reply_syntax");
	if (r->column == 3) /* RFC 5321 4.2: the code alone is a whole last line */
		r->last = true;
	strip_enhanced(r);
	r->lines++;
	if (r->last)
		return SMTP_REPLY_DONE;
	if (r->lines >= r->line_limit)
		return bad(r, "reply_too_many_lines");
	if (!buf_add(&r->text, VIEW("\n")))
		return SMTP_REPLY_MEMORY;
	r->line_start = buf_len(&r->text);
	r->column = 0;
	r->line_code = 0;
	r->cr = false;
	return SMTP_REPLY_MORE;
}

/* One of the first four octets of a line. */
static enum smtp_reply_status take_head(struct smtp_reply_in *r, char c)
{
	if (r->column == 4) {
		r->last = c == ' ';
		return c == ' ' || c == '-' ? SMTP_REPLY_MORE : bad(r, "reply_syntax");
	}
	/* RFC 5321 4.2: 2 to 5 first; the other digits are not judged, since the first alone decides (4.3.2) */
	if (!smtp_is_digit(c) || (r->column == 1 && (c < '2' || c > '5')))
		return bad(r, "reply_syntax");
	r->line_code = r->line_code * 10 + (c - '0');
	if (r->column < 3)
		return SMTP_REPLY_MORE;
	if (r->lines == 0)
		r->code = r->line_code;
	return r->code == r->line_code ? SMTP_REPLY_MORE : bad(r, "reply_codes_differ");
}

static enum smtp_reply_status take_octet(struct smtp_reply_in *r, char c)
{
	if (++r->octets > r->octet_limit)
		return bad(r, "reply_too_long");
	if (r->cr)
		return c == '\n' ? end_line(r) : bad(r, "reply_bare_cr");
	if (c == '\n')
		return bad(r, "reply_bare_lf");
	if (c == '\0')
		return bad(r, "reply_nul");
	if (c == '\r') {
		r->cr = true;
		return SMTP_REPLY_MORE;
	}
	if (++r->column > r->line_max - 2)
		return bad(r, "reply_line_too_long");
	if (r->column <= 4)
		return take_head(r, c);
	if (smtp_is_control(c) && c != '\t')
		c = '?';
	return buf_add(&r->text, view_of(&c, 1)) ? SMTP_REPLY_MORE : SMTP_REPLY_MEMORY;
}

/* Words of a line, taken at once: octets that need no look one by one, as far as every limit allows.  False: memory. */
static bool take_words(struct smtp_reply_in *r, struct view in, size_t *taken)
{
	size_t room = r->line_max - 2 - r->column, left = r->octet_limit - r->octets, n;
	const char *del;

	if (r->cr || r->column < 4 || r->column > r->line_max - 2 || r->octets > r->octet_limit)
		return true;
	n = span_plain((const unsigned char *)in.p, in.n, 31, 1);
	n = n > room ? room : n;
	n = n > left ? left : n;
	del = n ? memchr(in.p, 127, n) : NULL; /* a control, as those below 32 are */
	n = del ? (size_t)(del - in.p) : n;
	if (!buf_add(&r->text, view_of(in.p, n)))
		return false;
	r->octets += (uint32_t)n;
	r->column += (uint32_t)n;
	*taken += n;
	return true;
}

enum smtp_reply_status smtp_reply_in_read(struct smtp_reply_in *r, struct view in, size_t *taken)
{
	enum smtp_reply_status status = SMTP_REPLY_MORE;

	*taken = 0;
	if (r->ended)
		return r->ended;
	while (status == SMTP_REPLY_MORE && *taken < in.n) {
		if (!take_words(r, view_slice(in, *taken, in.n), taken))
			status = SMTP_REPLY_MEMORY;
		else if (*taken < in.n)
			status = take_octet(r, in.p[(*taken)++]);
	}
	if (status != SMTP_REPLY_MORE)
		r->ended = status;
	return status;
}

struct psmtp_reply smtp_reply_in_get(const struct smtp_reply_in *r)
{
	return (struct psmtp_reply){
		.code = r->code,
		.enhanced = { r->enhanced[0], r->enhanced[1], r->enhanced[2] },
		.text = smtp_public(buf_view(&r->text)),
	};
}
