/* seal.h - DKIM for a mail of ours (RFC 6376): the keys are in the role `keys`, which is asked to sign the hash.
 *
 * Use       seal_start with the whole mail and its author; done comes once, maybe before seal_start returns: then SEAL_OK and the mail with a
 *           signature of each dkim section that signs for the author (none: as it was), or SEAL_FAILED
 * Ownership the seal is its owner's; mail belongs to it from seal_start on; seal_cancel frees it at any time
 * Failure   memory, keys away, a key that cannot sign: a mail is never sent half signed, its owner tries again later
 */
#ifndef POLICY_SEAL_H
#define POLICY_SEAL_H
#include "base/buf.h"
#include "policy/policy.h"

enum seal_end { SEAL_OK = 1, SEAL_FAILED };

struct seal {
	struct seal *next;
	struct policy *room; /* NULL: at rest */
	struct buf mail, fields, field, octets;
	size_t section; /* of the signature that is asked for */
	uint64_t stream;
	const char *author;
	void (*done)(void *arg, enum seal_end, const char *why);
	void *arg;
};

/* author: of the configuration, borrowed. */
void seal_start(struct seal *, struct policy *, const char *author, struct view mail, void (*done)(void *arg, enum seal_end, const char *why), void *arg);
/* The signed mail, after SEAL_OK, until seal_cancel. */
struct view seal_mail(const struct seal *);
void seal_cancel(struct seal *);
/* keys is there, or there anew. */
void seal_channel(struct policy *, struct channel *);
/* All that wait have failed: the configuration by which they were asked for goes. */
void seal_forget(struct policy *);
void seal_stop(struct policy *);

#endif
