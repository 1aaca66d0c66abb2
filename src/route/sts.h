/* sts.h - MTA-STS as text (RFC 8461): the TXT record, the policy file, and whether an MX is among its patterns.  Pure.
 *
 * Both come from strangers.  What breaks the ABNF of sections 3.1 and 3.2 is refused whole; unknown fields are stepped over, of a
 * field said twice the first counts (section 3.2).  Two things are taken more kindly than the letter has it, because the other
 * way would leave the domain without protection: empty lines in a policy, and a max_age above the limit, which becomes the limit.
 * Ownership: views point into the text given; mx goes into the caller's buffer.
 */
#ifndef ROUTE_STS_H
#define ROUTE_STS_H
#include "base/buf.h"
#include "base/view.h"

#define STS_ID_MAX 32              /* RFC 8461 3.1 */
#define STS_POLICY_MAX (64u * 1024) /* RFC 8461 3.3: what a sender should be ready to take */
#define STS_AGE_MAX 31557600u      /* RFC 8461 3.2: a year */

enum sts_mode { STS_NONE = 1, STS_TESTING, STS_ENFORCE };

struct sts_policy {
	enum sts_mode mode;
	uint32_t max_age; /* s */
};

/* Does this TXT record say that it is one of MTA-STS?  Others at the same name are not looked at (RFC 8461 3.1). */
bool sts_record_is(struct view record);
/* The id of such a record.  NULL, or what is wrong with it. */
const char *sts_record_read(struct view record, struct view *id);

/* A policy file.  mx gets the patterns in lower case, one a line, in order ("" but for LF when there is none).  NULL, or what is
 * wrong; then mx is as it was before. */
const char *sts_policy_read(struct view text, struct sts_policy *, struct buf *mx);

/* Is the host among the patterns (RFC 8461 4.1)?  "*." stands for one label.  A final dot of the host does not count. */
bool sts_mx_match(struct view patterns, struct view host);

/* A policy file as we publish one (CRLF).  mx: n patterns.  False: no room. */
bool sts_policy_write(const struct sts_policy *, const char *const *mx, size_t n, struct buf *to);
/* The file of one of our sts_policy sections.  False: no room, or larger than a sender takes. */
struct conf_sts_policy;
bool sts_policy_ours(const struct conf_sts_policy *, struct buf *to);
/* The id of a policy file: another text, another id. */
#define STS_OUR_ID_SIZE 17
const char *sts_policy_id(struct view text, char to[STS_OUR_ID_SIZE]);

const char *sts_mode_name(enum sts_mode); /* as in a policy */

#endif
