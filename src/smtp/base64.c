/* base64.c - see base64.h. */
#include "smtp/base64.h"

static int value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

long smtp_base64_decode(struct view v, unsigned char *to)
{
	size_t pad = 0, n = 0;
	uint32_t bits = 0;

	if (v.n % 4)
		return -1;
	while (pad < 2 && pad < v.n && v.p[v.n - 1 - pad] == '=')
		pad++;
	for (size_t i = 0; i < v.n; i++) {
		int value = i < v.n - pad ? value_of(v.p[i]) : 0;

		if (value < 0)
			return -1;
		bits = bits << 6 | (uint32_t)value;
		if (i % 4 == 3) { /* written behind what is read, so that `to` may be v.p */
			to[n++] = (unsigned char)(bits >> 16);
			to[n++] = (unsigned char)(bits >> 8);
			to[n++] = (unsigned char)bits;
		}
	}
	for (size_t i = 0; i < pad; i++)
		if (to[--n]) /* RFC 4648 3.5: unused bits are zero, or one value would have several encodings */
			return -1;
	return (long)n;
}

size_t smtp_base64_encode(struct view v, char *to)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *p = (const unsigned char *)v.p;
	size_t n = 0;

	for (size_t i = 0; i < v.n; i += 3) {
		size_t left = v.n - i;
		uint32_t bits = (uint32_t)p[i] << 16;

		if (left > 1)
			bits |= (uint32_t)p[i + 1] << 8;
		if (left > 2)
			bits |= p[i + 2];
		to[n++] = digits[bits >> 18];
		to[n++] = digits[bits >> 12 & 63];
		to[n++] = left > 1 ? digits[bits >> 6 & 63] : '=';
		to[n++] = left > 2 ? digits[bits & 63] : '=';
	}
	return n;
}
