/* internal.h - what the files of libpsmtp share: conversions of views, classes of octets, UTF-8.
 *
 * The public header has its own view type, so that it needs nothing of base/; the two have the same shape and the
 * conversions cost nothing.  No function here keeps state or allocates.  Locale-free: SMTP is ASCII (RFC 5321 2.4).
 */
#ifndef SMTP_INTERNAL_H
#define SMTP_INTERNAL_H
#include <psmtp.h>

#include "base/view.h"

static inline struct view smtp_view(struct psmtp_view v)
{
	return (struct view){ v.p, v.n };
}
static inline struct psmtp_view smtp_public(struct view v)
{
	return (struct psmtp_view){ v.p, v.n };
}

static inline bool smtp_is_digit(char c)
{
	return c >= '0' && c <= '9';
}
static inline bool smtp_is_alnum(char c)
{
	return smtp_is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static inline bool smtp_is_blank(char c)
{
	return c == ' ' || c == '\t';
}
static inline bool smtp_is_8bit(char c)
{
	return (unsigned char)c > 127;
}
static inline bool smtp_is_control(char c) /* C0 and DEL; the tab is one */
{
	return (unsigned char)c < 32 || c == 127;
}
static inline bool smtp_is_graph(char c) /* VCHAR of RFC 5234: 33 to 126 */
{
	return c > 32 && c < 127;
}
/* atext of RFC 5322 3.2.3, by which RFC 5321 4.1.2 defines Atom. */
bool smtp_is_atext(char c);

/* Length of the one valid UTF-8 sequence of 2 to 4 octets at the start of v, or 0 (RFC 3629: no overlong form, no
 * surrogate, nothing above U+10FFFF). */
size_t smtp_utf8_length(struct view v);
/* True when every octet above 127 belongs to a valid sequence. */
bool smtp_utf8_valid(struct view v);
bool smtp_has_8bit(struct view v);

/* Where the path at the start of v ends: octets up to and with its `>`, minding quotes and brackets; 0 when v does not
 * start with `<` or the path has no end.  Says nothing about its validity. */
size_t smtp_path_length(struct view v);
/* An address literal with its brackets (RFC 5321 4.1.3); its kind, or 0 when it is none. */
enum psmtp_domain_kind smtp_literal_kind(struct view v);

#endif
