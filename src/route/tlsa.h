/* tlsa.h - a TLSA record (RFC 6698 2.1) as SMTP may rely on it (RFC 7672 3.1).  Pure: octets in, judgement out.
 *
 * Whatever stands in a record, it is one: a domain that publishes something, however broken, has said that it speaks TLS
 * (RFC 7672 2.2).  So reading never fails; what is too short or unknown is unusable.
 * Ownership: data points into the octets given.
 */
#ifndef ROUTE_TLSA_H
#define ROUTE_TLSA_H
#include "base/buf.h"
#include "base/view.h"

/* Records of one host that are looked at; sane sets have two or three (a key, and the next), each costs a comparison. */
#define ROUTE_TLSA_MAX 32
/* Octets of one record's data that are kept: a whole certificate (matching type 0) with a key of 8192 bits has some 3,000. */
#define ROUTE_TLSA_DATA_MAX 4096

struct route_tlsa {
	uint8_t usage, selector, matching; /* zeros when the record is too short to have them */
	bool usable;
	struct view data;
};

struct route_tlsa route_tlsa_read(struct view rdata);
/* As zone files have it: "3 1 1 hex"; data over 64 octets is cut.  false: memory. */
bool route_tlsa_text(const struct route_tlsa *, struct buf *);

#endif
