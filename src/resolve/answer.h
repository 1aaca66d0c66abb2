/* answer.h - what the DNS said to one question: one packet, or two where addresses are asked for, joined to one answer.  Pure.
 *
 * What it cannot say is temporary.  What is used must be secure, or the whole is not; what is not used (bogus, or no answer at
 * all) counts for nothing: else a spoilt AAAA beside a good A would make the host insecure, and DANE be passed over (RFC 7672 2.1.2).
 * Use        answer_init, answer_take for each packet, answer_wire, answer_free.
 */
#ifndef RESOLVE_ANSWER_H
#define RESOLVE_ANSWER_H
#include "resolve/packet.h"
#include "wire/wire.h"

struct answer {
	struct buf list; /* wire_records */
	unsigned count;
	uint32_t ttl;
	char canonical[PACKET_NAME_MAX];
	bool secure, answered, nxdomain, temporary, bogus; /* secure: all answers that were used are */
	char reason[200];
};

void answer_init(struct answer *);
void answer_free(struct answer *);
/* security: 2 secure, 1 bogus, 0 neither, as libunbound has it; packet.p NULL: there is none. */
void answer_take(struct answer *, enum packet_type, int rcode, struct view packet, int security, const char *why_bogus);
void answer_fail(struct answer *, const char *reason); /* the question could not be put */
void answer_no_name(struct answer *);                  /* what was asked for is no domain name */
enum wire_resolve_status answer_status(const struct answer *);
struct wire_RESOLVED answer_wire(const struct answer *); /* borrows; its stream is 0 */
/* A name in the DNS's letters: U-labels become A-labels (RFC 5891).  False: it is none. */
bool answer_name(struct view name, char to[PACKET_NAME_MAX]);

#endif
