/* ledger.c - see ledger.h. */
#include "sim/ledger.h"

#include <stdio.h>
#include <stdlib.h>

#define HEADERS_MAX 64

struct mail **mails;
unsigned mails_n;
struct copy *copies;
unsigned copies_n;

struct logged { struct node *node; char id[20], session[20]; };
static struct logged *doubles; /* maybe_duplicate lines */
static unsigned doubles_n;
struct named { struct node *node; char id[20], session[20], address[64]; };
static struct named *discards, *accepts; /* accepts: address is the sender's */
static unsigned discards_n, accepts_n;
struct disturbance { struct node *node; int64_t at; };
static struct disturbance *disturbances;
static unsigned disturbances_n;
static int64_t lifetime;
static bool cut[NODES_MAX], domain_refused[SITE_END];

static void *more(void *array, unsigned n, size_t size)
{
	void *p = n & (n - 1) ? array : realloc(array, (n ? n * 2 : 1) * size); /* doubles at the powers of two */

	if (!p)
		abort();
	return p;
}

int64_t ledger_lifetime(void)
{
	return lifetime;
}

void ledger_set_lifetime(int64_t ms)
{
	lifetime = ms;
}

/* ---- mails ---- */

struct mail *ledger_mail(void)
{
	struct mail *m = calloc(1, sizeof *m);

	mails = more(mails, mails_n, sizeof *mails);
	if (!m)
		abort();
	m->number = mails_n;
	m->born = world.now;
	buf_init(&m->body, &alloc_libc, SIZE_MAX / 4);
	mails[mails_n++] = m;
	world.mails++;
	return m;
}

struct mail *ledger_find(unsigned number)
{
	return number < mails_n ? mails[number] : NULL;
}

/* s12@..., or r12x3[no]@... */
bool ledger_address(struct view a, struct mail **m, struct mail_rcpt **r)
{
	size_t at = 1;
	uint64_t number = 0;

	*m = NULL;
	*r = NULL;
	if (a.n < 3 || (a.p[0] != 's' && a.p[0] != 'r'))
		return false;
	while (at < a.n && a.p[at] >= '0' && a.p[at] <= '9')
		number = number * 10 + (uint64_t)(a.p[at++] - '0');
	*m = ledger_find((unsigned)number);
	if (!*m)
		return false;
	for (unsigned i = 0; i < (*m)->rcpts_n; i++)
		if (view_eq_nocase(a, view_cstr((*m)->rcpts[i].address)))
			*r = &(*m)->rcpts[i];
	return a.p[0] == 's' || *r;
}

static struct mail_rcpt *rcpt_at(struct mail *m, enum site site)
{
	for (unsigned i = 0; i < m->rcpts_n; i++)
		if (m->rcpts[i].site == site)
			return &m->rcpts[i];
	return NULL;
}

void ledger_answer(struct mail *m, int code)
{
	m->answer = code;
	m->told = world.now;
	if (world.broken == BREAK_REFUSE && code == 250)
		m->answer = 550;
	if (world.broken == BREAK_LASTING && code >= 400 && code < 500)
		m->answer = code + 100;
	say("ledger: mail %u was answered %d", m->number, code);
}

void ledger_refused(struct view address, const char *why)
{
	struct mail *m;
	struct mail_rcpt *r;

	if (world.broken == BREAK_UNCAUSED)
		return;
	if (ledger_address(address, &m, &r) && r) {
		r->refused++;
		say("ledger: %.*s may bounce: %s", VIEW_ARGS(address), why);
	}
}

bool ledger_may_bounce(const struct mail_rcpt *r)
{
	return r->refused || domain_refused[r->site];
}

void ledger_domain_refused(enum site site, const char *why)
{
	domain_refused[site] = true;
	say("ledger: all of %s may bounce: %s", sites[site].domain, why);
}

/* ---- what arrives ---- */

struct arrived {
	char outer[24], inner[24]; /* ids of the last and the first Received line: SESSION.n */
	struct view content;       /* behind the trace lines */
	struct mail *mail;
	bool smuggled;
};

static struct view line_of(struct view *rest)
{
	size_t end = view_find(*rest, '\n');
	struct view line = view_slice(*rest, 0, end);

	*rest = view_slice(*rest, end + 1, rest->n);
	if (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	return line;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* "... id SESSION.n ..." of a Received field, which may be folded anywhere. */
static void take_id(struct view field, struct arrived *a)
{
	size_t i = 1, n = 0;

	while (i + 3 < field.n && !(blank(field.p[i - 1]) && field.p[i] == 'i' && field.p[i + 1] == 'd' && blank(field.p[i + 2])))
		i++;
	for (i += 2; i < field.n && blank(field.p[i]); i++)
		;
	while (i + n < field.n && !blank(field.p[i + n]) && field.p[i + n] != ';')
		n++;
	snprintf(a->inner, sizeof a->inner, "%.*s", (int)(n < 23 ? n : 23), field.p + i);
	if (!a->outer[0])
		memcpy(a->outer, a->inner, sizeof a->outer);
}

static void read_text(struct view text, struct arrived *a)
{
	struct view rest = text, line;

	memset(a, 0, sizeof *a);
	while (rest.n) {
		struct view before = rest, field;
		line = line_of(&rest);
		if (!view_starts_nocase(line, VIEW("Received:")) && !view_starts_nocase(line, VIEW("Return-Path:")) &&
		    !view_starts_nocase(line, VIEW("Delivered-To:"))) {
			a->content = before;
			break;
		}
		while (rest.n && (rest.p[0] == ' ' || rest.p[0] == '\t'))
			line_of(&rest);
		field = view_of(before.p, before.n - rest.n);
		if (view_starts_nocase(line, VIEW("Received:")))
			take_id(field, a);
	}
	for (rest = a->content; rest.n;) {
		uint64_t number;
		line = line_of(&rest);
		if (line.n == 0)
			break;
		if (view_starts_nocase(line, VIEW("X-Sim: ")) && view_to_u64(view_slice(line, 7, line.n), &number))
			a->mail = ledger_find((unsigned)number);
		a->smuggled = a->smuggled || view_starts_nocase(line, VIEW("X-Smuggled:"));
	}
}

/* A Maildir has LF where the wire has CRLF. */
static bool same_text(struct view wire, struct view file, bool maildir)
{
	size_t i = 0, k = 0;

	if (!maildir)
		return view_eq(wire, file);
	while (i < wire.n && k < file.n) {
		if (wire.p[i] == '\r' && i + 1 < wire.n && wire.p[i + 1] == '\n')
			i++;
		if (wire.p[i++] != file.p[k++])
			return false;
	}
	return i == wire.n && k == file.n;
}

/* The fields of a report about one recipient each: Final-Recipient, then Action. */
static void read_report(struct mail *m, struct view text)
{
	struct view rest = text, line;
	struct mail_rcpt *r = NULL;

	while (rest.n) {
		line = line_of(&rest);
		if (view_starts_nocase(line, VIEW("Final-Recipient: rfc822;"))) {
			struct view address = view_trim(view_slice(line, 24, line.n));
			r = NULL;
			for (unsigned i = 0; i < m->rcpts_n; i++)
				if (view_eq_nocase(address, view_cstr(m->rcpts[i].address)))
					r = &m->rcpts[i];
		} else if (r && view_starts_nocase(line, VIEW("Action: "))) {
			struct view what = view_slice(line, 8, line.n);
			say("report: mail %u, %s: %.*s", m->number, r->address, VIEW_ARGS(what));
			world.reports++;
			r->failed += view_eq(what, VIEW("failed"));
			r->delayed += view_eq(what, VIEW("delayed"));
			r->relayed += view_eq(what, VIEW("relayed"));
			r->good += view_eq(what, VIEW("delivered"));
			r = NULL;
		}
	}
}

static void take_report(const char *to, struct view text)
{
	struct mail *m;
	struct mail_rcpt *r;

	if (!ledger_address(view_cstr(to), &m, &r) || to[0] != 's') {
		law_broken("mail goes where it was sent", "a report to %s, who sent nothing", to);
		return;
	}
	if (world.broken != BREAK_EAT)
		read_report(m, text);
}

static void book(struct arrived *a, struct mail_rcpt *r, struct node *from, unsigned session)
{
	copies = more(copies, copies_n, sizeof *copies);
	copies[copies_n] = (struct copy){ .mail = a->mail->number, .rcpt = (unsigned)(r - a->mail->rcpts), .at = world.now, .from = from,
					  .session = session };
	memcpy(copies[copies_n].id, a->outer, sizeof a->outer);
	memcpy(copies[copies_n].inner, a->inner, sizeof a->inner);
	copies_n++;
	r->delivered++;
	world.deliveries++;
}

/* A file of a mailbox. */
void ledger_mailbox(void *arg, const char *path, struct view content)
{
	struct arrived a;
	struct mail_rcpt *r = NULL;

	(void)path;
	read_text(content, &a);
	if (a.mail)
		r = rcpt_at(a.mail, SITE_KEEP);
	if (!r) {
		law_broken("mail goes where it was sent", "%s has a message that nobody sent there", path);
		return;
	}
	ledger_delivered(SITE_KEEP, arg, 0, VIEW(""), &r, 1, content, true);
}

void ledger_delivered(enum site site, struct node *from, unsigned session, struct view sender, struct mail_rcpt *const *rcpts, unsigned n,
		      struct view text, bool maildir)
{
	struct arrived a;

	read_text(text, &a);
	if (a.smuggled || (a.mail && a.mail->bare)) {
		law_broken("no message ends where it did not end", "%s got a message that was smuggled", sites[site].domain);
		return;
	}
	if (!a.mail) {
		law_broken("what was sent is what arrives", "%s got a message that nobody sent", sites[site].domain);
		return;
	}
	if (!same_text(buf_view(&a.mail->body), a.content, maildir)) {
		if (world.trace)
			printf("--- sent:\n%.*s\n--- arrived:\n%.*s\n---\n", VIEW_ARGS(buf_view(&a.mail->body)), VIEW_ARGS(text));
		law_broken("what was sent is what arrives", "mail %u reached %s with another content (%zu octets, %zu were sent)", a.mail->number,
			   sites[site].domain, a.content.n, buf_len(&a.mail->body));
	}
	if (!maildir && !view_eq(sender, view_cstr(a.mail->from)))
		law_broken("mail goes where it was sent", "mail %u of <%s> came from <%.*s>", a.mail->number, a.mail->from, VIEW_ARGS(sender));
	if (!a.mail->dot_sent)
		law_broken("no message ends where it did not end", "mail %u reached %s and was never sent to its end", a.mail->number,
			   sites[site].domain);
	for (unsigned i = 0; i < n; i++) {
		if (rcpts[i] < a.mail->rcpts || rcpts[i] >= a.mail->rcpts + a.mail->rcpts_n) {
			law_broken("mail goes where it was sent", "mail %u came to %s", a.mail->number, rcpts[i]->address);
			continue;
		}
		if (rcpts[i]->site != site && site != SITE_VIA)
			law_broken("mail goes where it was sent", "mail %u for %s came to %s", a.mail->number, rcpts[i]->address,
				   sites[site].domain);
		book(&a, rcpts[i], from, session);
		if (world.broken == BREAK_ALWAYS_AGAIN)
			book(&a, rcpts[i], from, session);
	}
	say("%s got mail %u for %u, id %s", sites[site].domain, a.mail->number, n, a.outer);
}

void ledger_report(const char *to, struct view text)
{
	take_report(to, text);
}

/* ---- the log ---- */

static bool value_of(struct view line, const char *key, char *to, size_t room)
{
	char want[40];
	size_t n = (size_t)snprintf(want, sizeof want, " %s=", key), k = 0;

	to[0] = 0;
	for (size_t i = 0; i + n <= line.n; i++) {
		if (memcmp(line.p + i, want, n) != 0)
			continue;
		i += n;
		if (i < line.n && line.p[i] == '"')
			i++;
		while (i < line.n && line.p[i] != '"' && (line.p[i] != ' ' || line.p[i - 1] == '"') && k + 1 < room)
			to[k++] = line.p[i++];
		to[k] = 0;
		return true;
	}
	return false;
}

static void note_disturbance(struct node *n)
{
	disturbances = more(disturbances, disturbances_n, sizeof *disturbances);
	disturbances[disturbances_n++] = (struct disturbance){ n, world.now };
}

void ledger_crash(struct node *n, bool power)
{
	cut[n->number] = cut[n->number] || power;
	note_disturbance(n);
}

void ledger_marks_lost(struct node *n)
{
	cut[n->number] = true;
}

bool ledger_no_marks(struct node *n)
{
	return n && cut[n->number];
}

void ledger_disturbed(struct node *n)
{
	note_disturbance(n);
}

static void keep_name(struct named **list, unsigned *n, struct node *node, struct view line, const char *key)
{
	char id[64], session[64], address[80];

	value_of(line, "id", id, sizeof id);
	value_of(line, "session", session, sizeof session);
	value_of(line, key, address, sizeof address);
	*list = more(*list, *n, sizeof **list);
	(*list)[*n].node = node;
	snprintf((*list)[*n].session, sizeof (*list)[*n].session, "%.19s", session);
	snprintf((*list)[*n].id, sizeof (*list)[*n].id, "%.19s", id);
	snprintf((*list)[*n].address, sizeof (*list)[*n].address, "%.63s", address);
	(*n)++;
}

void ledger_deleted(const char *id)
{
	struct mail *m;
	struct mail_rcpt *r;

	for (unsigned i = 0; i < accepts_n; i++)
		if (strncmp(accepts[i].id, id, 16) == 0 && ledger_address(view_cstr(accepts[i].address), &m, &r))
			for (unsigned k = 0; k < m->rcpts_n; k++)
				m->rcpts[k].deleted = true;
}

/* Lines that our own mistakes would write. */
static void take_fault(struct node *n, struct view line)
{
	law_broken("no role is at fault", "%s: %.*s", n->name, VIEW_ARGS(line));
}

void ledger_log(struct node *n, struct view line)
{
	char event[40], id[64], text[80];

	if (!value_of(line, "event", event, sizeof event))
		return;
	value_of(line, "id", id, sizeof id);
	if (strcmp(event, "accepted") == 0) {
		keep_name(&accepts, &accepts_n, n, line, "from");
	} else if (strcmp(event, "maybe_duplicate") == 0 && world.broken != BREAK_SILENT) {
		doubles = more(doubles, doubles_n, sizeof *doubles);
		doubles[doubles_n] = (struct logged){ .node = n };
		value_of(line, "session", text, sizeof text);
		snprintf(doubles[doubles_n].session, sizeof doubles->session, "%.19s", text);
		snprintf(doubles[doubles_n++].id, sizeof doubles->id, "%.19s", id);
	} else if (strcmp(event, "discarded") == 0) {
		keep_name(&discards, &discards_n, n, line, "to");
	} else if (strcmp(event, "deleted") == 0) {
		ledger_deleted(id);
	} else if (strcmp(event, "operation_unsure") == 0) { /* it may be deleted, and need not */
		value_of(line, "what", text, sizeof text);
		if (strcmp(text, "deleted") == 0)
			ledger_deleted(id);
	} else if (strcmp(event, "expired") == 0) {
		struct mail *m;
		struct mail_rcpt *r;
		value_of(line, "to", text, sizeof text);
		if (!ledger_address(view_cstr(text), &m, &r)) { /* a mailbox: whose mail it was, its sender says */
			value_of(line, "from", text, sizeof text);
			if (ledger_address(view_cstr(text), &m, &r))
				r = rcpt_at(m, SITE_KEEP);
		}
		if (r) {
			if (world.now - m->born + n->wall_forward < lifetime)
				law_broken("a bounce has a cause", "%s expired after %lld ms", text, (long long)(world.now - m->born));
			r->refused++;
		}
	} else if (strcmp(event, "spool_fault") == 0 || strcmp(event, "not_accepted") == 0) {
		note_disturbance(n);
	} else if (strcmp(event, "frame_refused") == 0 || strcmp(event, "fault") == 0) {
		take_fault(n, line);
	}
}

/* The id of some mail of a client that this node accepted, for an operator; NULL: none. */
const char *ledger_some_id(struct node *n, uint64_t roll)
{
	struct mail *m;
	struct mail_rcpt *r;

	for (unsigned i = 0; i < accepts_n; i++) {
		const struct named *a = &accepts[(roll + i) % accepts_n];
		if (ledger_address(view_cstr(a->address), &m, &r) && m->node == n)
			return a->id;
	}
	return NULL;
}

/* ---- questions ---- */

/* Does this line speak of a message of that sender?  A queue that died before it could say `accepted` leaves it open. */
static bool speaks_of(const struct logged *l, const char *sender)
{
	bool known = false;

	for (unsigned k = 0; k < accepts_n; k++)
		if (accepts[k].node == l->node && strcmp(accepts[k].id, l->id) == 0) {
			if (strcmp(accepts[k].address, sender) == 0)
				return true;
			known = true;
		}
	return !known;
}

/* Lines about messages of this sender that came in by one session: `received` is what a Received line calls it. */
unsigned ledger_doubles_logged(struct node *n, const char *received, const char *sender)
{
	unsigned count = 0;

	for (unsigned i = 0; i < doubles_n; i++)
		count += doubles[i].node == n && strncmp(doubles[i].session, received, 16) == 0 && speaks_of(&doubles[i], sender);
	return count;
}

bool ledger_disturbed_between(struct node *n, int64_t from, int64_t to)
{
	for (unsigned i = 0; i < disturbances_n; i++)
		if ((!n || disturbances[i].node == n) && disturbances[i].at >= from && disturbances[i].at <= to)
			return true;
	return false;
}

unsigned ledger_disturbances(struct node *n)
{
	unsigned count = 0;

	for (unsigned i = 0; i < disturbances_n; i++)
		count += disturbances[i].node == n;
	return count;
}

bool ledger_discarded(const char *address)
{
	for (unsigned i = 0; i < discards_n; i++)
		if (strcmp(discards[i].address, address) == 0)
			return true;
	return false;
}
