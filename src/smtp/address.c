/* address.c - paths and mailboxes (RFC 5321 4.1.2, 4.5.3.1; RFC 6531 3.3).
 *
 * psmtp_address_parse judges one path that fills the whole view, and cuts it into views of the same text: nothing is
 * copied, unquoted or lowered.  A source route is judged and left out (RFC 5321 4.1.1.3, appendix C).  No comments, no
 * folding, no blanks outside quotes: those are of RFC 5322 and have no place in an envelope.
 * Failure: -1, and *out is all zero.
 */
#include "smtp/internal.h"
#include "smtp/limits.h"

/* Length of a quoted string at the start of v, quotes included; 0 when it is none. */
static size_t quoted_length(struct view v, bool utf8)
{
	for (size_t i = 1; i < v.n;) {
		size_t step = 1;

		if (v.p[i] == '"')
			return i + 1;
		if (v.p[i] == '\\') { /* quoted-pairSMTP: printable ASCII or a blank behind it */
			if (++i == v.n || smtp_is_8bit(v.p[i]))
				return 0;
		} else if (smtp_is_8bit(v.p[i])) {
			step = utf8 ? smtp_utf8_length(view_slice(v, i, v.n)) : 0;
		}
		if (!step || smtp_is_control(v.p[i]))
			return 0;
		i += step;
	}
	return 0;
}

/* Length of a Dot-string at the start of v; 0 when it is none. */
static size_t dot_string_length(struct view v, bool utf8)
{
	bool atom = false; /* the atom under way has an octet */
	size_t i = 0;

	while (i < v.n) {
		size_t step = 1;

		if (v.p[i] == '.') {
			if (!atom)
				return 0;
			atom = false;
			i++;
			continue;
		}
		if (smtp_is_8bit(v.p[i]))
			step = utf8 ? smtp_utf8_length(view_slice(v, i, v.n)) : 0;
		else if (!smtp_is_atext(v.p[i]))
			break;
		if (!step)
			return 0;
		atom = true;
		i += step;
	}
	return atom ? i : 0;
}

/* A-d-l ":" before a mailbox: "@one,@two:".  Takes it off *v; false when there is one that breaks the grammar. */
static bool strip_route(struct view *v, bool utf8)
{
	struct view rest = *v;

	if (!rest.n || rest.p[0] != '@')
		return true;
	for (;;) {
		size_t end = 0;

		if (!rest.n || rest.p[0] != '@')
			return false;
		rest = view_slice(rest, 1, rest.n);
		while (end < rest.n && rest.p[end] != ',' && rest.p[end] != ':')
			end++;
		if (end == rest.n || !psmtp_domain_valid(smtp_public(view_slice(rest, 0, end)), utf8))
			return false;
		rest = view_slice(rest, end, rest.n);
		if (rest.p[0] == ':')
			break;
		rest = view_slice(rest, 1, rest.n);
	}
	*v = view_slice(rest, 1, rest.n);
	return true;
}

/* local "@" domain. */
static int parse_mailbox(struct view v, bool utf8, struct psmtp_address *a)
{
	bool quoted = v.n && v.p[0] == '"';
	size_t at = quoted ? quoted_length(v, utf8) : dot_string_length(v, utf8);
	struct view domain;

	if (at == 0 || at > SMTP_LOCAL_MAX || at >= v.n || v.p[at] != '@')
		return -1;
	domain = view_slice(v, at + 1, v.n);
	if (domain.n && domain.p[0] == '[')
		a->kind = smtp_literal_kind(domain);
	else if (psmtp_domain_valid(smtp_public(domain), utf8))
		a->kind = PSMTP_DOMAIN_NAME;
	if (!a->kind)
		return -1;
	a->text = smtp_public(v);
	a->local = smtp_public(view_slice(v, 0, at));
	a->domain = smtp_public(domain);
	a->quoted = quoted;
	a->utf8 = smtp_has_8bit(v);
	return 0;
}

/* The path without its angle brackets. */
static int parse_inner(struct view v, unsigned flags, struct psmtp_address *a)
{
	bool utf8 = flags & PSMTP_ADDRESS_UTF8;
	static const struct view postmaster = { "postmaster", 10 };

	if (!v.n || (flags & PSMTP_ADDRESS_POSTMASTER && view_eq_nocase(v, postmaster))) { /* RFC 5321 4.1.1.3, 4.5.1 */
		if (!v.n && !(flags & PSMTP_ADDRESS_NULL))
			return -1;
		a->kind = PSMTP_DOMAIN_NONE;
		a->text = a->local = smtp_public(v);
		a->domain = smtp_public(view_slice(v, v.n, v.n));
		return 0;
	}
	/* no route without brackets: outside a path nothing says that the colon belongs to the address */
	if (!(flags & PSMTP_ADDRESS_BARE) && !strip_route(&v, utf8))
		return -1;
	return parse_mailbox(v, utf8, a);
}

int psmtp_address_parse(struct psmtp_view text, unsigned flags, struct psmtp_address *out)
{
	struct view v = text.p ? smtp_view(text) : VIEW("");
	bool bare = flags & PSMTP_ADDRESS_BARE;

	*out = (struct psmtp_address){ 0 };
	if (v.n > SMTP_PATH_MAX - (bare ? 2u : 0u)) /* RFC 5321 4.5.3.1.3 counts the brackets */
		return -1;
	if (!bare) {
		if (v.n < 2 || v.p[0] != '<' || v.p[v.n - 1] != '>')
			return -1;
		v = view_slice(v, 1, v.n - 1);
	}
	if (parse_inner(v, flags, out) == -1) {
		*out = (struct psmtp_address){ 0 };
		return -1;
	}
	return 0;
}

size_t psmtp_local_unquote(struct psmtp_view local, char *to)
{
	struct view v = smtp_view(local);
	size_t n = 0;

	if (v.n < 2 || v.p[0] != '"' || v.p[v.n - 1] != '"') {
		if (v.n)
			memmove(to, v.p, v.n);
		return v.n;
	}
	v = view_slice(v, 1, v.n - 1);
	for (size_t i = 0; i < v.n; i++) {
		if (v.p[i] == '\\' && i + 1 < v.n)
			i++;
		to[n++] = v.p[i];
	}
	return n;
}

size_t smtp_path_length(struct view v)
{
	bool quotes = false, brackets = false;

	if (!v.n || v.p[0] != '<')
		return 0;
	for (size_t i = 1; i < v.n; i++) {
		char c = v.p[i];

		if (quotes && c == '\\')
			i++;
		else if (c == '"' && !brackets)
			quotes = !quotes;
		else if (c == '[' && !quotes)
			brackets = true;
		else if (c == ']' && !quotes)
			brackets = false;
		else if (c == '>' && !quotes && !brackets)
			return i + 1;
	}
	return 0;
}
