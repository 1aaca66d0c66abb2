/* bounce.c - see bounce.h. */
#include "queue/bounce.h"
#include "queue/intake.h"
#include "queue/outcome.h"
#include "queue/schedule.h"
#include "route/dest.h"

#include <psmtp.h>
#include <stdlib.h>

#define REPORT_MAX (2u * 1024 * 1024) /* a hundred recipients' words and MAIL_DSN_FULL_MAX of the original */

struct report {
	bool made;
	uint32_t n;            /* recipients told of */
	struct buf dest, data; /* of its envelope */
	struct spool_envelope e;
};

struct bounce {
	struct buf original;
	bool whole; /* all of the original was read */
	bool reading;
	struct report reports[BOUNCE_KINDS];
};

/* ---- who is told what ---- */

bool bounce_notify_asks(uint8_t notify, enum mail_dsn_action action)
{
	if (notify & PSMTP_NOTIFY_NEVER)
		return false;
	switch (action) {
	case MAIL_DSN_FAILED: return notify == PSMTP_NOTIFY_UNSAID || (notify & PSMTP_NOTIFY_FAILURE);
	case MAIL_DSN_DELAYED: return notify == PSMTP_NOTIFY_UNSAID || (notify & PSMTP_NOTIFY_DELAY);
	case MAIL_DSN_DELIVERED:
	case MAIL_DSN_RELAYED: return notify & PSMTP_NOTIFY_SUCCESS;
	}
	return false;
}

/* Who delivered for good, and so tells the truth by "delivered"? */
static bool is_final(const struct delivery *d)
{
	return route_dest_role(d->route) == ROUTE_BY_LOCAL || view_starts_nocase(d->route, VIEW("lmtp:"));
}

static enum mail_dsn_action action_of(const struct delivery *d, uint32_t i)
{
	switch (d->results[i].kind) {
	case WIRE_FAILED: return MAIL_DSN_FAILED;
	case WIRE_DELIVERED:
		if (is_final(d))
			return MAIL_DSN_DELIVERED;
		return d->dsn ? 0 : MAIL_DSN_RELAYED; /* RFC 3461 5.2.2: else the next hop tells */
	default: /* deferred, or not tried this time */ return d->warn ? MAIL_DSN_DELAYED : 0;
	}
}

enum mail_dsn_action bounce_action(const struct delivery *d, uint32_t i)
{
	enum mail_dsn_action action = action_of(d, i);

	if (!action || !d->env.sender.n || d->env.kind == QUEUE_REPORT)
		return 0;
	return bounce_notify_asks(d->env.rcpts[i].notify, action) ? action : 0;
}

/* A report that could not go on because of the octets that it returns (5.6.3 is our own judgement) goes without them: its
 * sender would hear nothing else. */
static bool shortens(const struct delivery *d)
{
	const struct delivery_result *r = &d->results[0];

	return d->env.kind == QUEUE_REPORT && d->env.n == 1 && (d->env.flags & WIRE_HAS_8BIT) && !(d->env.flags & WIRE_SMTPUTF8) &&
	       r->kind == WIRE_FAILED && !r->expired && r->last.local && r->last.enhanced[1] == 6 && r->last.enhanced[2] == 3;
}

bool bounce_shortened(const struct delivery *d)
{
	return d->bounce && d->bounce->reports[0].made && shortens(d);
}

bool bounce_wanted(const struct delivery *d)
{
	uint32_t i;

	if (shortens(d))
		return true;

	for (i = 0; i < d->env.n; i++)
		if (bounce_action(d, i))
			return true;
	return false;
}

/* ---- the original ---- */

static void original_read(void *arg, enum spool_status status, struct view bytes)
{
	struct delivery *d = arg;
	struct bounce *b = d->bounce;

	b->reading = false;
	/* without its original a report is poorer, but the sender must know */
	if (status == SPOOL_OK && buf_add(&b->original, bytes))
		b->whole = bytes.n == d->e.body_size;
	outcome_commit(d);
}

int bounce_fetch(struct delivery *d)
{
	struct bounce *b = calloc(1, sizeof *b);
	size_t n = d->e.body_size < MAIL_DSN_FULL_MAX ? (size_t)d->e.body_size : MAIL_DSN_FULL_MAX, i;

	if (!b)
		return -1;
	buf_init(&b->original, &alloc_libc, MAIL_DSN_FULL_MAX);
	for (i = 0; i < BOUNCE_KINDS; i++) {
		buf_init(&b->reports[i].dest, &alloc_libc, 4096);
		buf_init(&b->reports[i].data, &alloc_libc, REPORT_MAX);
	}
	d->bounce = b;
	if (d->bytes || !n) {
		b->whole = n == d->e.body_size && (!n || buf_add(&b->original, view_of((const char *)d->bytes->p, n)));
		outcome_commit(d);
		return 0;
	}
	b->reading = true;
	spool_read(d->q->spool, d->e.id, 0, n, original_read, d);
	queue_pump_soon(d->q);
	return 0;
}

/* ---- a report ---- */

static size_t kind_of(enum mail_dsn_action action)
{
	return action == MAIL_DSN_FAILED ? 0 : action == MAIL_DSN_DELAYED ? 1 : 2;
}

static void describe(const struct delivery *d, uint32_t i, enum mail_dsn_action action, struct mail_dsn_rcpt *to)
{
	const struct queue_rcpt *r = &d->env.rcpts[i];
	const struct queue_last *l = d->results[i].kind ? &d->results[i].last : &r->last;

	*to = (struct mail_dsn_rcpt){ .address = r->address,
				      .orcpt_type = r->orcpt_type,
				      .orcpt = r->orcpt,
				      .action = action,
				      .status = { l->enhanced[0], l->enhanced[1], l->enhanced[2] },
				      .remote = l->remote,
				      .code = l->code,
				      .text = l->text,
				      .local = l->local,
				      .last_attempt = l->when,
				      .retry_until = d->e.expires };
	if (d->results[i].expired) { /* RFC 3463 3.5: X.4.7 delivery time expired */
		to->status[0] = 4;
		to->status[1] = 4;
		to->status[2] = 7;
	}
}

static bool write_report(struct delivery *d, size_t kind, struct buf *text, bool *has_8bit)
{
	struct queue *q = d->q;
	struct bounce *b = d->bounce;
	struct mail_dsn m = { .host = view_cstr(q->conf->global.hostname),
			      .sender = d->env.sender,
			      .envid = d->env.envid,
			      .id = d->e.id,
			      .nonce = env_random_u64(q->env),
			      .arrival = d->e.created,
			      .now = queue_now(q),
			      .utf8 = d->env.flags & WIRE_SMTPUTF8,
			      .original = buf_view(&b->original) };
	struct mail_dsn_rcpt *rcpts = calloc(d->env.n, sizeof *rcpts);
	enum mail_dsn_action action;
	uint32_t i;
	bool ok;

	if (!rcpts)
		return false;
	for (i = 0; i < d->env.n; i++) {
		action = bounce_action(d, i);
		if (!action || kind_of(action) != kind)
			continue;
		m.action = action;
		describe(d, i, action, &rcpts[m.n++]);
	}
	/* RFC 3461 4.3: RET is about failures, other reports return the header; what is binary cannot be a part as it
	 * is */
	m.whole = kind == 0 && b->whole && d->env.ret != PSMTP_RET_HDRS && !(d->env.flags & (WIRE_BINARY | WIRE_REQUIRETLS)); /* RFC 8689 5 */
	m.rcpts = rcpts;
	b->reports[kind].n = (uint32_t)m.n;
	ok = mail_dsn_build(text, &m, has_8bit);
	free(rcpts);
	return ok;
}

static bool address_report(struct delivery *d, struct report *r, uint64_t size, bool has_8bit)
{
	struct queue *q = d->q;
	struct queue_rcpt to = { .address = d->env.kind == QUEUE_REPORT ? d->env.rcpts[0].address : d->env.sender,
				 .notify = PSMTP_NOTIFY_NEVER }; /* RFC 3461 6.1 */
	bool utf8 = d->env.flags & WIRE_SMTPUTF8;
	struct intake_message m = { .kind = QUEUE_REPORT,
				    .origin = d->e.id,
				    .session = d->env.session,
				    .client = VIEW("report"),
				    .ret = PSMTP_RET_UNSAID,
				    .rcpts = &to,
				    .n = 1,
				    .size = size,
				    .now = queue_now(q),
				    .flags = (has_8bit ? WIRE_HAS_8BIT : 0) | (d->env.flags & (WIRE_REQUIRETLS | WIRE_RELAXED)) | /* RFC 8689 5 */
					     (utf8 ? WIRE_HAS_UTF8 | WIRE_SMTPUTF8 : 0) };

	buf_clear(&r->dest);
	buf_clear(&r->data);
	return intake_envelope_one(q, &m, &r->dest, &r->data, &r->e);
}

static struct spool_body *make_body(struct queue *q, struct view text)
{
	struct spool_body *body = spool_body_begin(q->spool, text.n);

	if (body && spool_body_write(body, text.p, text.n) != SPOOL_OK) {
		spool_body_abort(body);
		return NULL;
	}
	return body;
}

static bool put_report(struct delivery *d, struct report *r, struct view text, bool has_8bit, struct spool_new *to)
{
	to->body = address_report(d, r, text.n, has_8bit) ? make_body(d->q, text) : NULL;
	to->envelopes = &r->e;
	to->n = 1;
	r->made = to->body != NULL;
	return r->made;
}

static bool make_report(struct delivery *d, size_t kind, struct spool_new *to)
{
	struct report *r = &d->bounce->reports[kind];
	struct buf text;
	bool ok, has_8bit;

	buf_init(&text, &alloc_libc, REPORT_MAX);
	ok = write_report(d, kind, &text, &has_8bit) && put_report(d, r, buf_view(&text), has_8bit, to);
	buf_free(&text);
	return ok;
}

/* 1; 0: it cannot be shortened, and ends as a double bounce; -1: memory, disk. */
static int shorten_report(struct delivery *d, struct spool_new *to)
{
	struct report *r = &d->bounce->reports[0];
	struct buf text;
	int ok;

	buf_init(&text, &alloc_libc, REPORT_MAX);
	r->made = false;
	r->n = 1;
	ok = mail_dsn_shorten(&text, buf_view(&d->bounce->original));
	if (ok == 1 && !put_report(d, r, buf_view(&text), false, to))
		ok = -1;
	buf_free(&text);
	return ok;
}

int bounce_news(struct delivery *d, struct spool_new news[BOUNCE_KINDS])
{
	bool wanted[BOUNCE_KINDS] = { false };
	enum mail_dsn_action action;
	uint32_t i;
	int n = 0;
	size_t kind;

	if (!d->bounce)
		return 0;
	if (shortens(d))
		return shorten_report(d, news);
	for (i = 0; i < d->env.n; i++) {
		action = bounce_action(d, i);
		if (action)
			wanted[kind_of(action)] = true;
	}
	for (kind = 0; kind < BOUNCE_KINDS; kind++) {
		d->bounce->reports[kind].made = false;
		if (!wanted[kind])
			continue;
		if (!make_report(d, kind, &news[n])) {
			while (n > 0)
				spool_body_abort(news[--n].body);
			return -1;
		}
		n++;
	}
	return n;
}

void bounce_settled(struct delivery *d)
{
	static const char *const words[BOUNCE_KINDS] = { "failed", "delayed", "delivered" };
	size_t kind;

	for (kind = 0; d->bounce && kind < BOUNCE_KINDS; kind++) {
		struct report *r = &d->bounce->reports[kind];

		if (!r->made)
			continue;
		EMIT(d->q->events, BOUNCED, F_ID("id", d->e.id), F_ID("session", d->env.session),
		     F_VIEW("to", bounce_shortened(d) ? d->env.rcpts[0].address : d->env.sender), F_U64("nrcpt", r->n),
		     F_STR("kind", bounce_shortened(d) ? "shortened" : words[kind]));
		if (!d->q->stopping)
			schedule_arrived(d->q, buf_view(&r->dest));
	}
}

void bounce_free(struct delivery *d)
{
	struct bounce *b = d->bounce;
	size_t i;

	if (!b)
		return;
	buf_free(&b->original);
	for (i = 0; i < BOUNCE_KINDS; i++) {
		buf_free(&b->reports[i].dest);
		buf_free(&b->reports[i].data);
	}
	free(b);
	d->bounce = NULL;
}
