/* packet.h - DNS answers as we read them (RFC 1035 4.1): a wire-format packet to records, every length checked.
 *
 * libunbound has already chased CNAMEs and scrubbed what does not belong, so the answer section's records of the type
 * asked for are the answer; CNAMEs among them are stepped over (RFC 5321 5.1 follows them).  A packet that breaks a rule
 * yields nothing at all: half an answer is none.  An MX whose name is no host name is left out, unless it is the only one.
 */
#ifndef RESOLVE_PACKET_H
#define RESOLVE_PACKET_H
#include "base/buf.h"

#define PACKET_NAME_MAX 256  /* RFC 1035 2.3.4: 255 octets; as text with NUL */
#define PACKET_TXT_MAX 4096  /* one TXT record's octets; those of MTA-STS and TLS-RPT have some hundred, and longer ones are left out */
#define PACKET_TLSA_MAX 8192 /* one TLSA record's octets: twice what a certificate needs; it stays a record when it is cut (RFC 7672 2.2) */
#define PACKET_RECORDS_MAX 100 /* more hosts or addresses than this are an attack on our patience */

enum packet_type { PACKET_A = 1, PACKET_CNAME = 5, PACKET_MX = 15, PACKET_TXT = 16, PACKET_AAAA = 28, PACKET_TLSA = 52 };

/* Appends a wire_record (wire/wire.h) per record of the type to `list`; *count grows; *ttl falls to the least seen.
 * 0, or -1: malformed, or memory. */
int packet_read(struct view packet, enum packet_type, struct buf *list, unsigned *count, uint32_t *ttl);
/* The name behind the CNAMEs of the answer; "" where there are none, or where it is no host name. */
void packet_canonical(struct view packet, char to[PACKET_NAME_MAX]);

#endif
