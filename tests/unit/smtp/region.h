/* region.h - all memory of a session in one static region, so that a whole session can be copied and put back.
 *
 * A bump allocator that never moves anything back: a snapshot is a memcpy of the used part, and every pointer stays
 * good when it is copied back to the same addresses.  The newest block grows in its place.  For tests of one thread.
 */
#ifndef TESTS_REGION_H
#define TESTS_REGION_H
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#ifndef REGION_SIZE
#define REGION_SIZE (256u * 1024)
#endif

static struct {
	_Alignas(16) unsigned char bytes[REGION_SIZE];
	size_t used;
	bool starved; /* no request is granted */
} region;

static void *region_resize(void *arg, void *old, size_t size)
{
	unsigned char *p;
	size_t had = 0;

	(void)arg;
	if (size == 0)
		return NULL;
	size = (size + 15) / 16 * 16;
	if (old)
		memcpy(&had, (unsigned char *)old - 16, sizeof had);
	if (region.starved || size + 16 > REGION_SIZE - region.used)
		return NULL;
	if (old && (unsigned char *)old + had == region.bytes + region.used && size >= had) {
		region.used += size - had;
		memcpy((unsigned char *)old - 16, &size, sizeof size);
		return old;
	}
	p = region.bytes + region.used + 16;
	memcpy(p - 16, &size, sizeof size);
	region.used += size + 16;
	if (old)
		memcpy(p, old, had < size ? had : size);
	return p;
}

#endif
