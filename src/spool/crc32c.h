/* crc32c.h - the checksum of segment records and bodies (CRC-32C, Castagnoli; RFC 3720 appendix B.4 has test values).
 *
 * crc32c(0, p, n) is the checksum of n bytes; crc32c(crc32c(0, a, n), b, m) that of a followed by b.  Never fails.
 */
#ifndef SPOOL_CRC32C_H
#define SPOOL_CRC32C_H
#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *bytes, size_t n);
uint32_t crc32c_plain(uint32_t crc, const void *bytes, size_t n); /* the same by table, on any machine */

#endif
