/* reply_out.c - see reply_out.h. */
#include "smtp/reply_out.h"

#include <assert.h>

#include "smtp/internal.h"
#include "smtp/limits.h"

#define ENHANCED_MAX 18 /* "5.65535.65535 " at most, since each part is 16 bits; RFC 3463 section 2 has three digits */

struct prefix {
	char code[4];
	char enhanced[ENHANCED_MAX];
	size_t enhanced_len;
};

static size_t put_number(char *to, unsigned value)
{
	char digits[5]; /* of a uint16_t */
	size_t n = 0, len = 0;

	do
		digits[n++] = (char)('0' + value % 10);
	while (value /= 10);
	while (n)
		to[len++] = digits[--n];
	return len;
}

static struct prefix prefix_of(const struct psmtp_reply *r)
{
	struct prefix p = { .enhanced_len = 0 };
	int class = r->code / 100;

	put_number(p.code, (unsigned)r->code);
	if (r->enhanced[0] == 0 || r->enhanced[0] != class || class == 3) /* RFC 2034 section 4 */
		return p;
	for (int i = 0; i < 3; i++) {
		p.enhanced_len += put_number(p.enhanced + p.enhanced_len, r->enhanced[i]);
		p.enhanced[p.enhanced_len++] = i < 2 ? '.' : ' ';
	}
	return p;
}

/* Takes the next line off *rest, at most room octets of it. */
static struct view next_line(struct view *rest, size_t room)
{
	size_t lf = view_find(*rest, '\n'), cut;
	struct view line = view_slice(*rest, 0, lf);

	if (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	if (line.n <= room) {
		*rest = view_slice(*rest, lf + 1, rest->n);
		return line;
	}
	for (cut = room; cut > room / 2 && line.p[cut] != ' ';)
		cut--;
	if (line.p[cut] != ' ')
		cut = room;
	*rest = view_slice(*rest, line.p[cut] == ' ' ? cut + 1 : cut, rest->n);
	return view_slice(line, 0, cut);
}

static bool put_line(struct buf *to, const struct prefix *p, struct view line, bool last)
{
	char *at;
	size_t n = 4 + p->enhanced_len + line.n + 2;

	assert(n <= SMTP_REPLY_LINE_MAX);
	if (!buf_reserve(to, n))
		return false;
	at = (char *)buf_tail(to);
	memcpy(at, p->code, 3);
	at[3] = last ? ' ' : '-';
	at += 4;
	memcpy(at, p->enhanced, p->enhanced_len);
	at += p->enhanced_len;
	for (size_t i = 0; i < line.n; i++) {
		char c = line.p[i] == '\t' ? ' ' : line.p[i];

		*at++ = smtp_is_control(c) || smtp_is_8bit(c) ? '?' : c;
	}
	memcpy(at, "\r\n", 2);
	buf_commit(to, n);
	return true;
}

bool smtp_reply_write(struct buf *to, const struct psmtp_reply *r)
{
	struct prefix p;
	struct view rest = r->text.n ? smtp_view(r->text) : VIEW("");
	size_t before = buf_len(to);

	assert(r->code >= 200 && r->code <= 599); /* a reply is ours or our caller's, never the peer's */
	p = prefix_of(r);
	if (rest.n && rest.p[rest.n - 1] == '\n') /* an end of line at the end makes no further line */
		rest.n--;
	do {
		struct view line = next_line(&rest, SMTP_REPLY_LINE_MAX - 2 - 4 - p.enhanced_len);

		if (!put_line(to, &p, line, rest.n == 0)) {
			to->wr = to->rd + before; /* all or nothing */
			return false;
		}
	} while (rest.n);
	return true;
}
