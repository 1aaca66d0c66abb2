/* policy.h - inside the role that knows what others ask of TLS, and tells them how it went.
 *
 * `send` asks for a domain's MTA-STS policy (RFC 8461) and says how each TLS session went (RFC 8460).  The role outlives
 * reloads; each `send` has a channel for each of its loops.  A `send` that breaks the rules loses its channel, and nothing more: who
 * faces the network has nobody ended (wire_may_accuse).
 *
 *   policy.c  channels, start and end       sts.c    a question: record, cache, fetch
 *   dns.c     questions to `resolve`        fetch.c  HTTPS by libcurl
 *   store.c, store_report.c  the database   report.c, report_text.c  TLS-RPT
 *   seal.c    DKIM, by `keys`
 */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H
#include "wire/role.h"
#include "wire/wire.h"

struct policy_peer { /* a channel of `send` */
	struct policy_peer *next;
	struct policy *room;
	struct channel *channel;
};

struct policy {
	struct role *role;
	struct policy_peer *peers;
	struct channel *resolve;
	uint32_t resolve_generation;
	struct policy_dns_ask *dns; /* without an answer yet */
	uint64_t dns_stream;
	struct fetch_room *fetches;
	struct channel *keys;
	struct seal *seals; /* mails that wait for a signature */
	uint64_t seal_stream;
	struct store *store;
	struct sts_room *sts;
	struct report_room *reports;
};

static inline int64_t policy_now(const struct policy *room) /* s since the epoch */
{
	return env_wall_ms(room->role->env) / 1000;
}

#endif
