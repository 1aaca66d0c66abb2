/* dkim.c - see dkim.h. */
#include "mail/dkim.h"

#include <stdlib.h>

#define FOLD 72           /* characters of base64 in a line */
#define NAMES_MAX 64      /* names in h= that are looked at: ours has a dozen */

/* What is worth signing (RFC 6376 5.4.1), and what RFC 8460 5.3 adds. */
static const char *const signed_names[] = { "from", "to", "cc", "reply-to", "subject", "date", "message-id", "in-reply-to", "references", "mime-version",
	"content-type", "content-transfer-encoding", "auto-submitted", "tls-required", "tls-report-domain", "tls-report-submitter" };

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* ---- relaxed ---- */

/* Runs of blanks become one; none is left at the end.  True: all was added. */
static bool add_relaxed(struct view line, struct buf *to)
{
	for (size_t i = 0; i < line.n;) {
		size_t from = i;
		while (i < line.n && !is_blank(line.p[i]))
			i++;
		if (!buf_add(to, view_slice(line, from, i)))
			return false;
		while (i < line.n && is_blank(line.p[i]))
			i++;
		if (i < line.n && is_blank(line.p[i - 1]) && !buf_add(to, VIEW(" ")))
			return false;
	}
	return true;
}

/* The line at the front, without its CRLF; the rest moves on. */
static struct view take_line(struct view *rest)
{
	size_t n = 0;
	struct view line;

	while (n < rest->n && !(rest->p[n] == '\r' && n + 1 < rest->n && rest->p[n + 1] == '\n'))
		n++;
	line = view_slice(*rest, 0, n);
	*rest = view_slice(*rest, n + 2, rest->n);
	return line;
}

static bool is_empty(struct view line)
{
	return view_trim(line).n == 0;
}

/* RFC 6376 3.4.4: empty lines at the end do not count; a body of nothing else has no octets. */
bool mail_dkim_body(struct view body, struct buf *to)
{
	size_t empty = 0;

	while (body.n) {
		struct view line = take_line(&body);
		if (is_empty(line)) {
			empty++;
			continue;
		}
		for (; empty; empty--)
			if (!buf_add(to, VIEW("\r\n")))
				return false;
		if (!add_relaxed(line, to) || !buf_add(to, VIEW("\r\n")))
			return false;
	}
	return true;
}

/* RFC 6376 3.4.2: the name small, folds undone, blanks as one, none around the colon or at the end. */
static bool put_field(struct view field, bool last, struct buf *to)
{
	size_t colon = view_find(field, ':');
	struct view name = view_trim(view_slice(field, 0, colon)), rest = view_slice(field, colon + 1, field.n);
	struct buf flat;
	bool ok = true;

	for (size_t i = 0; ok && i < name.n; i++) {
		char c = view_lower(name.p[i]);
		ok = buf_add(to, view_of(&c, 1));
	}
	buf_init(&flat, &alloc_libc, field.n + 64);
	while (ok && rest.n)
		ok = buf_add(&flat, take_line(&rest));
	ok = ok && buf_add(to, VIEW(":")) && add_relaxed(view_trim(buf_view(&flat)), to) && (last || buf_add(to, VIEW("\r\n")));
	buf_free(&flat);
	return ok;
}

bool mail_dkim_field(struct view field, struct buf *to)
{
	return put_field(field, false, to);
}

/* ---- fields of a header ---- */

/* The field at the front, with its folds and its CRLF; the rest moves on. */
static struct view take_field(struct view *rest)
{
	struct view all = *rest;

	do
		take_line(rest);
	while (rest->n && is_blank(rest->p[0]));
	return view_slice(all, 0, all.n - rest->n);
}

static bool has_name(struct view field, struct view name)
{
	return view_eq_nocase(view_trim(view_slice(field, 0, view_find(field, ':'))), name);
}

/* The nth field of that name from the bottom (RFC 6376 5.4.2); none: nothing. */
static struct view find_field(struct view header, struct view name, size_t nth)
{
	struct view found = { 0 };
	size_t n = 0, wanted;

	for (struct view rest = header; rest.n;)
		n += has_name(take_field(&rest), name);
	if (n <= nth)
		return found;
	wanted = n - nth;
	for (struct view rest = header; rest.n && wanted;) {
		found = take_field(&rest);
		wanted -= has_name(found, name);
	}
	return found;
}

/* ---- the DKIM-Signature field ---- */

static bool add_names(struct view header, struct buf *field)
{
	size_t line = buf_len(field);

	if (!buf_add(field, VIEW(" h=from")))
		return false;
	for (size_t i = 0; i < sizeof signed_names / sizeof *signed_names; i++)
		for (size_t n = 0; find_field(header, view_cstr(signed_names[i]), n).n; n++) {
			if (buf_len(field) - line > FOLD) {
				line = buf_len(field);
				if (!buf_add(field, VIEW("\r\n\t")))
					return false;
			}
			if (!buf_addf(field, ":%s", signed_names[i]))
				return false;
		}
	return buf_add(field, VIEW(";\r\n"));
}

bool mail_dkim_begin(const struct mail_dkim *d, struct view header, struct buf *field)
{
	return buf_addf(field, "DKIM-Signature: v=1; a=%.*s; c=relaxed/relaxed;\r\n d=%.*s; s=%.*s; t=%lld;\r\n", VIEW_ARGS(d->algorithm), VIEW_ARGS(d->domain),
	                VIEW_ARGS(d->selector), (long long)d->time_s) &&
	       add_names(header, field) && buf_addf(field, " bh=%.*s;\r\n b=", VIEW_ARGS(d->body_hash));
}

/* The value of h=, folds and all. */
static struct view names_of(struct view field)
{
	struct view rest = view_slice(field, view_find(field, ':') + 1, field.n);

	while (rest.n) {
		size_t end = view_find(rest, ';');
		struct view tag = view_slice(rest, 0, end);
		size_t i = 0;
		while (i < tag.n && (is_blank(tag.p[i]) || tag.p[i] == '\r' || tag.p[i] == '\n'))
			i++;
		tag = view_slice(tag, i, tag.n);
		if (tag.n > 1 && tag.p[0] == 'h' && (tag.p[1] == '=' || is_blank(tag.p[1])))
			return view_slice(tag, view_find(tag, '=') + 1, tag.n);
		rest = view_slice(rest, end + 1, rest.n);
	}
	return rest;
}

static struct view bare(struct view name)
{
	while (name.n && (is_blank(name.p[0]) || name.p[0] == '\r' || name.p[0] == '\n'))
		name = view_slice(name, 1, name.n);
	while (name.n && (is_blank(name.p[name.n - 1]) || name.p[name.n - 1] == '\r' || name.p[name.n - 1] == '\n'))
		name.n--;
	return name;
}

/* RFC 6376 3.7: the named fields, each use one further up, then this field, whose end has no CRLF. */
bool mail_dkim_octets(struct view header, struct view field, struct buf *to)
{
	struct view names = names_of(field), used[NAMES_MAX];
	size_t n = 0;

	while (names.n && n < NAMES_MAX) {
		size_t end = view_find(names, ':'), before = 0;
		struct view one;
		used[n] = bare(view_slice(names, 0, end));
		names = view_slice(names, end + 1, names.n);
		for (size_t i = 0; i < n; i++)
			before += view_eq_nocase(used[i], used[n]);
		one = find_field(header, used[n++], before);
		if (one.n && !mail_dkim_field(one, to)) /* one that is not there adds nothing (5.4.2) */
			return false;
	}
	return names.n == 0 && put_field(field, true, to);
}

bool mail_dkim_finish(struct view signature, struct buf *field)
{
	for (size_t at = 0; at < signature.n; at += FOLD)
		if ((at && !buf_add(field, VIEW("\r\n\t"))) || !buf_add(field, view_slice(signature, at, at + FOLD)))
			return false;
	return buf_add(field, VIEW("\r\n"));
}
