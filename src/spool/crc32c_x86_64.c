/* crc32c_x86_64.c - CRC-32C by the SSE 4.2 instruction where the processor has it.  See crc32c.h. */
#include "spool/crc32c.h"

#include <nmmintrin.h>
#include <string.h>

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const unsigned char *p, size_t n)
{
	uint64_t c = ~crc;

	for (; n >= 8; n -= 8, p += 8) {
		uint64_t word;
		memcpy(&word, p, sizeof word);
		c = _mm_crc32_u64(c, word);
	}
	for (; n; n--)
		c = _mm_crc32_u8((uint32_t)c, *p++);
	return ~(uint32_t)c;
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t n)
{
	if (__builtin_cpu_supports("sse4.2"))
		return by_instruction(crc, bytes, n);
	return crc32c_plain(crc, bytes, n);
}
