/* crc32c_any.c - CRC-32C where no instruction helps.  See crc32c.h. */
#include "spool/crc32c.h"

uint32_t crc32c(uint32_t crc, const void *bytes, size_t n)
{
	return crc32c_plain(crc, bytes, n);
}
