/* laws.c - what must hold at the end, whatever went wrong: each law is one function with a name; see ledger.h.
 *
 * Laws about a moment (clear text where TLS is owed, limits, contents) are judged where it happens: hop.c, ledger.c.
 */
#include "sim/ledger.h"

#include <stdio.h>

#define NEWS_MS 60000 /* so long a role may work on for one that has died: frames, and the end of a channel, can be late */

/* Is a failure of this recipient told to nobody, by its own rules? */
static bool told_to_nobody(const struct mail *m, const struct mail_rcpt *r)
{
	return !m->from[0] || (r->notify && !(r->notify & 4));
}

static bool settled(const struct mail *m, const struct mail_rcpt *r)
{
	if (r->delivered || r->failed || r->deleted || r->site == SITE_SINK)
		return true;
	if (m->from[0] && ledger_may_bounce(r) && ledger_discarded(m->from))
		return true; /* its report could not be delivered, and the log says so */
	return told_to_nobody(m, r) && ledger_may_bounce(r) && ledger_discarded(r->address);
}

/* design.md 1.1: each recipient ends delivered, bounced, queued, or discarded for a named reason; at the end nothing is
 * queued. */
static void law_kept(const struct mail *m)
{
	for (unsigned i = 0; i < m->rcpts_n; i++)
		if (m->answer == 250 && m->rcpts[i].taken && !settled(m, &m->rcpts[i]))
			law_broken("told 250 means kept", "mail %u for %s: neither delivered nor bounced", m->number, m->rcpts[i].address);
}

static void law_refused(const struct mail *m)
{
	bool came = false;

	for (unsigned i = 0; i < m->rcpts_n; i++)
		came = came || m->rcpts[i].delivered || m->rcpts[i].failed;
	if (m->answer >= 500 && came)
		law_broken("what was refused does not come", "mail %u was answered %d and came", m->number, m->answer);
	if (m->answer >= 400 && m->answer < 500 && came && !ledger_disturbed_between(m->node, m->born, m->told))
		law_broken("what was refused does not come", "mail %u was answered %d without a fault of the disk or a crash, and came", m->number,
			   m->answer);
}

static void law_never_5xx(const struct mail *m)
{
	if (m->answer >= 500 && !m->bare && world.broken != BREAK_REFUSE)
		law_broken("a fault of ours is a 4xx", "mail %u was answered %d", m->number, m->answer);
	if (m->answer == 250 && m->bare)
		law_broken("no message ends where it did not end", "mail %u has a bare newline and was answered 250", m->number);
}

static void law_caused(const struct mail *m)
{
	for (unsigned i = 0; i < m->rcpts_n; i++)
		if (m->rcpts[i].failed && !ledger_may_bounce(&m->rcpts[i]))
			law_broken("a bounce has a cause", "mail %u for %s bounced, and nobody refused it", m->number, m->rcpts[i].address);
}

static void law_asked(const struct mail *m)
{
	for (unsigned i = 0; i < m->rcpts_n; i++) {
		const struct mail_rcpt *r = &m->rcpts[i];
		if (!m->from[0] && (r->failed || r->delayed || r->relayed || r->good))
			law_broken("reports go to those who asked", "mail %u of <> was reported", m->number);
		if ((r->notify & 1) && (r->failed || r->delayed || r->relayed || r->good))
			law_broken("reports go to those who asked", "mail %u for %s with NOTIFY=NEVER was reported", m->number, r->address);
	}
}

/* RFC 1047: a double may come where an answer was lost or a process died; never otherwise. */
static void law_doubles(const struct mail *m, unsigned rcpt)
{
	for (unsigned i = 0; i < copies_n; i++) {
		const struct copy *c = &copies[i], *first = NULL;
		if (c->mail != m->number || c->rcpt != rcpt)
			continue;
		for (unsigned k = 0; k < i; k++) /* the last one before it, of the same acceptance */
			if (copies[k].mail == c->mail && copies[k].rcpt == rcpt && strcmp(copies[k].id, c->id) == 0)
				first = &copies[k];
		/* what is slow to arrive may belong to the attempt before, so either answer counts */
		if (first && first->told && c->told && !ledger_disturbed_between(NULL, first->at - NEWS_MS, c->at))
			law_broken("no double without a cause", "mail %u for %s came again; both 250s were read, and nobody died", m->number,
				   m->rcpts[rcpt].address);
	}
}

/* Each copy behind the first under one id was announced by its node. */
static void law_logged(const struct mail *m, unsigned rcpt)
{
	/* A second node that dies between its commit and its 250 has the message, and will be given it again: no one can tell. */
	unsigned outer = 0;
	const struct copy *some = NULL;

	for (unsigned i = 0; i < copies_n; i++) {
		const struct copy *c = &copies[i];
		unsigned same = 0, before = 0;
		if (c->mail != m->number || c->rcpt != rcpt)
			continue;
		some = c;
		for (unsigned k = 0; k < copies_n; k++)
			if (copies[k].mail == c->mail && copies[k].rcpt == rcpt && strcmp(copies[k].id, c->id) == 0) {
				same++;
				before += k < i;
			}
		outer += before == 0; /* how many ids the last node gave it */
		if (before == 0 && same > 1 + ledger_doubles_logged(c->from, c->id, m->from) && !ledger_no_marks(c->from))
			law_broken("each double is logged", "mail %u for %s came %u times with id %s; the log tells of %u", m->number,
				   m->rcpts[rcpt].address, same, c->id, ledger_doubles_logged(c->from, c->id, m->from));
	}
	if (some && outer > 1 && strcmp(some->id, some->inner) != 0 && !ledger_no_marks(m->node) &&
	    outer > 1 + ledger_doubles_logged(m->node, some->inner, m->from) + ledger_disturbances(some->from))
		law_broken("each double is logged", "mail %u for %s was relayed %u times with id %s", m->number, m->rcpts[rcpt].address, outer,
			   some->inner);
}

bool ledger_open(void)
{
	for (unsigned i = 0; i < mails_n; i++)
		for (unsigned k = 0; k < mails[i]->rcpts_n; k++)
			if (mails[i]->answer == 250 && mails[i]->rcpts[k].taken && mails[i]->rcpts[k].site != SITE_KEEP &&
			    !settled(mails[i], &mails[i]->rcpts[k]))
				return true;
	return false;
}

void ledger_check(void)
{
	for (unsigned i = 0; i < mails_n && !world.failure[0]; i++) {
		const struct mail *m = mails[i];
		law_kept(m);
		law_refused(m);
		law_never_5xx(m);
		law_caused(m);
		law_asked(m);
		for (unsigned k = 0; k < m->rcpts_n; k++) {
			law_doubles(m, k);
			law_logged(m, k);
		}
	}
}
