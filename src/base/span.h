/* span.h - how many octets at the front are of no interest, looked at eight at a time.
 *
 * A message is nearly all plain octets: what reads it should spend its time on the others.
 */
#ifndef BASE_SPAN_H
#define BASE_SPAN_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SPAN_EACH (UINT64_MAX / 255) /* 0x0101...: times an octet is that octet in all eight places */

/* How many octets from p on are greater than `least` (at most 127), and, when ascii, less than 128. */
static inline size_t span_plain(const unsigned char *p, size_t n, unsigned char least, int ascii)
{
	const uint64_t above = ascii ? SPAN_EACH * 128 : 0;
	size_t i = 0;
	uint64_t x;

	for (; n - i >= sizeof x; i += sizeof x) {
		memcpy(&x, p + i, sizeof x);
		/* subtracting borrows into the top bit of a place where, and only where, some octet is too small */
		if (((x - SPAN_EACH * (least + 1u)) & ~x & SPAN_EACH * 128) | (x & above))
			break;
	}
	while (i < n && p[i] > least && (!ascii || p[i] < 128))
		i++;
	return i;
}

#endif
