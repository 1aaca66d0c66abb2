/* accept.c - see accept.h. */
#include "receive/accept.h"

#include "conf/users.h"

#define REPLY(c, a, b, d, words) { .code = (c), .enhanced = { (a), (b), (d) }, .text = { "" words, sizeof(words) - 1 } }

const struct psmtp_reply receive_accept_no_mailbox = REPLY(550, 5, 1, 1, "No such mailbox here");
const struct psmtp_reply receive_accept_not_now = REPLY(451, 4, 3, 0, "The mailbox cannot be checked now; try again");
static const struct psmtp_reply no_relay = REPLY(550, 5, 7, 1, "Relaying denied");
static const struct psmtp_reply no_route = REPLY(550, 5, 7, 1, "Routed local parts are not relayed");

/* The longest local part is 64 octets (RFC 5321 4.5.3.1.1). */
#define LOCAL_MAX 64

static void refuse(struct accept_judgement *j, const struct psmtp_reply *reply, const char *reason)
{
	j->kind = ACCEPT_REFUSE;
	j->reply = *reply;
	j->reason = reason;
}

/* A next hop might take these for a route and relay for a stranger on our behalf. */
static bool looks_routed(struct view local)
{
	return view_find(local, '%') < local.n || view_find(local, '!') < local.n || view_find(local, '@') < local.n;
}

static void judge_ours(const struct conf_domain *domain, const struct handoff *files, bool trusted, struct view local,
                       struct accept_judgement *j)
{
	bool maildir = domain->hop.delivery.kind == CONF_DELIVER_MAILDIR;
	struct view users = handoff_get(files, "users", domain->title);

	if (view_eq_nocase(local, VIEW("postmaster"))) { /* RFC 5321 4.5.1: always */
		j->kind = ACCEPT_YES;
		j->reason = "postmaster";
		return;
	}
	if (!maildir && domain->hop.delivery.kind != CONF_DELIVER_DISCARD && !trusted && looks_routed(local)) {
		refuse(j, &no_route, "routed_local_part");
		return;
	}
	if (domain->set.users && domain->set.users[0]) {
		if (!users.p)
			refuse(j, &receive_accept_not_now, "users_unreadable");
		else if (!conf_users_has(users, local))
			refuse(j, &receive_accept_no_mailbox, "unknown_user");
		else
			j->kind = ACCEPT_YES, j->reason = "listed";
		return;
	}
	j->kind = maildir ? ACCEPT_ASK_LOCAL : ACCEPT_YES;
	j->reason = "domain";
}

void receive_accept_judge(const struct conf *conf, const struct handoff *files, const struct sockaddr *client,
                  const struct psmtp_address *recipient, struct accept_judgement *j)
{
	char local[LOCAL_MAX];
	bool trusted = conf_may_relay(conf, client);
	struct view name;

	*j = (struct accept_judgement){ .kind = ACCEPT_YES };
	if (recipient->kind == PSMTP_DOMAIN_NONE) { /* <Postmaster>: RFC 5321 4.5.1 */
		j->reason = "postmaster";
		return;
	}
	if (recipient->local.n > sizeof local) {
		refuse(j, &receive_accept_no_mailbox, "unknown_user");
		return;
	}
	name = view_of(local, psmtp_local_unquote(recipient->local, local));
	if (recipient->kind == PSMTP_DOMAIN_NAME)
		j->domain = conf_find_domain(conf, view_of(recipient->domain.p, recipient->domain.n));
	if (j->domain)
		judge_ours(j->domain, files, trusted, name, j);
	else if (recipient->kind == PSMTP_DOMAIN_NAME && view_eq_nocase(name, VIEW("postmaster")) &&
	         view_eq_nocase(view_of(recipient->domain.p, recipient->domain.n), view_cstr(conf->global.hostname)))
		j->reason = "postmaster"; /* whom our greeting names */
	else if (trusted)
		j->reason = "relay_from";
	else
		refuse(j, &no_relay, "relay_denied");
}
