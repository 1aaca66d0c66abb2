/* accept.h - may this client send to this recipient?  Pure: configuration and addresses in, a judgement out.
 *
 * The rule that makes an open relay impossible by accident: a recipient is accepted when its domain has a `domain`
 * section, or when the client's address is in `relay { from = ... }`; nothing else opens the door.  Local parts are never
 * interpreted as routes: '%', '!' and '@' in them are refused where a next hop might interpret them (RFC 5321 3.6.1,
 * RFC 2505 2.1), source routes were stripped by the parser.
 */
#ifndef RECEIVE_ACCEPT_H
#define RECEIVE_ACCEPT_H
#include "conf/conf.h"
#include "conf/handoff.h"

#include <psmtp.h>

enum accept_kind {
	ACCEPT_YES = 1,
	ACCEPT_ASK_LOCAL, /* does the mailbox exist?  the role `local` knows */
	ACCEPT_REFUSE
};

struct accept_judgement {
	enum accept_kind kind;
	struct psmtp_reply reply;         /* REFUSE */
	const char *reason;               /* for the log, static */
	const struct conf_domain *domain; /* NULL: not ours */
};

void receive_accept_judge(const struct conf *, const struct handoff *, const struct sockaddr *client,
                  const struct psmtp_address *recipient, struct accept_judgement *out);

/* Replies for what `local` said, and for anything that could not be asked. */
extern const struct psmtp_reply receive_accept_no_mailbox, receive_accept_not_now;

#endif
