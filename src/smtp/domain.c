/* domain.c - domain names and address literals (RFC 5321 4.1.2, 4.1.3; RFC 6531 3.3).
 *
 * Syntax only: no name is looked up, no U-label is mapped (that is IDNA's, where names are resolved).  Letters, digits,
 * hyphens; labels of 63, names of 255; no dot at the end, no underscore (but in EHLO).  Views in, verdicts out.
 */
#include "smtp/command.h"
#include "smtp/internal.h"
#include "smtp/limits.h"

#define U_LABEL_POINTS 59 /* code points of a U-label: its A-label of 63 octets spends four on "xn--" (RFC 5890 4.2) */
#define IPV6_GROUPS 8

/* Code points that no U-label can hold (RFC 5892: disallowed), and that other programs take for something else: C1
 * controls, and the three characters which IDNA mappings turn into a dot. */
static bool forbidden_point(struct view at)
{
	static const char *const dots[] = { "\xe3\x80\x82", "\xef\xbc\x8e", "\xef\xbd\xa1" }; /* U+3002, FF0E, FF61 */

	if ((unsigned char)at.p[0] == 0xc2 && (unsigned char)at.p[1] < 0xa0)
		return true;
	for (size_t i = 0; i < sizeof dots / sizeof *dots; i++)
		if (at.n >= 3 && memcmp(at.p, dots[i], 3) == 0)
			return true;
	return false;
}

static bool label_valid(struct view v, bool utf8, bool underscore)
{
	bool wide = false;
	size_t points = 0;

	if (!v.n || v.p[0] == '-' || v.p[v.n - 1] == '-')
		return false;
	for (size_t i = 0, step; i < v.n; i += step, points++) {
		struct view at = view_slice(v, i, v.n);

		step = 1;
		if (smtp_is_8bit(v.p[i])) {
			step = utf8 ? smtp_utf8_length(at) : 0;
			if (!step || forbidden_point(at))
				return false;
			wide = true;
		} else if (!smtp_is_alnum(v.p[i]) && v.p[i] != '-' && !(underscore && v.p[i] == '_')) {
			return false;
		}
	}
	return wide ? points <= U_LABEL_POINTS : v.n <= SMTP_LABEL_MAX;
}

static bool name_valid(struct view v, bool utf8, bool underscore)
{
	if (!v.n || v.n > SMTP_DOMAIN_MAX)
		return false;
	for (;;) {
		size_t dot = view_find(v, '.');

		if (!label_valid(view_slice(v, 0, dot), utf8, underscore))
			return false;
		if (dot == v.n)
			return true;
		v = view_slice(v, dot + 1, v.n); /* nothing behind a last dot is an empty label: refused */
	}
}

bool psmtp_domain_valid(struct psmtp_view domain, bool utf8)
{
	return name_valid(smtp_view(domain), utf8, false);
}

/* Snum of RFC 5321 4.1.3: one to three digits, at most 255. */
static bool ipv4_valid(struct view v)
{
	for (unsigned part = 1;; part++) {
		size_t dot = view_find(v, '.');
		uint64_t value;

		if (dot > 3 || !view_to_u64(view_slice(v, 0, dot), &value) || value > 255)
			return false;
		if (dot == v.n)
			return part == 4;
		if (part == 4)
			return false;
		v = view_slice(v, dot + 1, v.n);
	}
}

static bool hex_group(struct view v)
{
	if (v.n < 1 || v.n > 4)
		return false;
	for (size_t i = 0; i < v.n; i++)
		if (!smtp_is_digit(v.p[i]) && !(view_lower(v.p[i]) >= 'a' && view_lower(v.p[i]) <= 'f'))
			return false;
	return true;
}

/* Counts the groups of "g:g:g", of which the last may be an IPv4 address and count for two; -1 when it is none.
 * Nothing at all is no group. */
static int ipv6_groups(struct view v, bool ipv4_last)
{
	int groups = 0;

	if (!v.n)
		return 0;
	for (;;) {
		size_t colon = view_find(v, ':');
		struct view group = view_slice(v, 0, colon);

		if (colon == v.n && ipv4_last && view_find(group, '.') < group.n)
			return ipv4_valid(group) ? groups + 2 : -1;
		if (!hex_group(group) || ++groups > IPV6_GROUPS)
			return -1;
		if (colon == v.n)
			return groups;
		v = view_slice(v, colon + 1, v.n);
	}
}

static size_t find_double_colon(struct view v)
{
	for (size_t i = 0; i + 1 < v.n; i++)
		if (v.p[i] == ':' && v.p[i + 1] == ':')
			return i;
	return v.n;
}

/* IPv6-full, IPv6-comp, IPv6v4-full, IPv6v4-comp.  "::" stands for at least two groups of zeros (RFC 5321 4.1.3), so at
 * most six stand beside it, where an IPv4 address counts for two. */
static bool ipv6_valid(struct view v)
{
	size_t gap = find_double_colon(v);
	int before, behind;

	if (gap == v.n)
		return ipv6_groups(v, true) == IPV6_GROUPS;
	before = ipv6_groups(view_slice(v, 0, gap), false);
	behind = ipv6_groups(view_slice(v, gap + 2, v.n), true);
	return before >= 0 && behind >= 0 && before + behind <= IPV6_GROUPS - 2;
}

/* Standardized-tag ":" 1*dcontent, where the tag is an Ldh-str: it ends with a letter or digit. */
static bool general_valid(struct view v)
{
	size_t colon = view_find(v, ':');

	if (colon == 0 || colon + 1 >= v.n || !smtp_is_alnum(v.p[colon - 1]))
		return false;
	for (size_t i = 0; i < colon; i++)
		if (!smtp_is_alnum(v.p[i]) && v.p[i] != '-')
			return false;
	for (size_t i = colon + 1; i < v.n; i++)
		if (!smtp_is_graph(v.p[i]) || (v.p[i] >= '[' && v.p[i] <= ']'))
			return false;
	return true;
}

enum psmtp_domain_kind smtp_literal_kind(struct view v)
{
	static const struct view tag = { "IPv6:", 5 };

	if (v.n < 3 || v.n > SMTP_DOMAIN_MAX || v.p[0] != '[' || v.p[v.n - 1] != ']')
		return 0;
	v = view_slice(v, 1, v.n - 1);
	if (view_starts_nocase(v, tag)) /* a malformed one is not a General-address-literal of that tag */
		return ipv6_valid(view_slice(v, tag.n, v.n)) ? PSMTP_DOMAIN_IPV6 : 0;
	if (ipv4_valid(v))
		return PSMTP_DOMAIN_IPV4;
	return general_valid(v) ? PSMTP_DOMAIN_LITERAL : 0;
}

bool smtp_hello_valid(struct view name, bool utf8)
{
	if (name.n && name.p[0] == '[')
		return smtp_literal_kind(name) != 0;
	return name_valid(name, utf8, true);
}
