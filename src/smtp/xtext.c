/* xtext.c - xtext (RFC 3461 section 4): octets 33 to 126 but "+" and "=", and "+" with two upper-case hex digits.
 *
 * Decoding can make any octet, NUL and line ends among them: the caller judges what it can bear.
 */
#include "smtp/internal.h"

static int hex_value(char c)
{
	if (smtp_is_digit(c))
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; /* upper case only, says the RFC */
}

long psmtp_xtext_decode(struct psmtp_view v, char *to)
{
	size_t n = 0;

	for (size_t i = 0; i < v.n; i++) {
		char c = v.p[i];

		if (!smtp_is_graph(c) || c == '=')
			return -1;
		if (c == '+') {
			int high = i + 2 < v.n ? hex_value(v.p[i + 1]) : -1;
			int low = i + 2 < v.n ? hex_value(v.p[i + 2]) : -1;

			if (high < 0 || low < 0)
				return -1;
			c = (char)(high * 16 + low);
			i += 2;
		}
		to[n++] = c; /* never ahead of what is read, so that `to` may be v.p */
	}
	return (long)n;
}

size_t psmtp_xtext_encode(struct psmtp_view v, char *to)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t n = 0;

	for (size_t i = 0; i < v.n; i++) {
		unsigned char c = (unsigned char)v.p[i];

		if (smtp_is_graph(v.p[i]) && c != '+' && c != '=') {
			to[n++] = (char)c;
			continue;
		}
		to[n++] = '+';
		to[n++] = digits[c >> 4];
		to[n++] = digits[c & 15];
	}
	return n;
}
