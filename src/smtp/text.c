/* text.c - classes of octets and UTF-8; see internal.h. */
#include "smtp/internal.h"

bool smtp_is_atext(char c)
{
	static const char special[] = "!#$%&'*+-/=?^_`{|}~";

	return smtp_is_alnum(c) || (c && memchr(special, c, sizeof special - 1));
}

size_t smtp_utf8_length(struct view v)
{
	const unsigned char *p = (const unsigned char *)v.p;
	unsigned char low = 0x80, high = 0xbf; /* the second octet's range, by which overlong forms and surrogates go */
	size_t n;

	if (v.n < 2)
		return 0;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		n = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		n = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (v.n < n)
		return 0;
	/* RFC 3629 section 4 */
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if (p[i] < 0x80 || p[i] > 0xbf)
			return 0;
	return n;
}

bool smtp_utf8_valid(struct view v)
{
	for (size_t i = 0, step; i < v.n; i += step) {
		step = smtp_is_8bit(v.p[i]) ? smtp_utf8_length(view_slice(v, i, v.n)) : 1;
		if (!step)
			return false;
	}
	return true;
}

bool smtp_has_8bit(struct view v)
{
	for (size_t i = 0; i < v.n; i++)
		if (smtp_is_8bit(v.p[i]))
			return true;
	return false;
}
