/* broker.c - as root: each mailbox's mail goes through a worker that runs as the mailbox's owner.
 *
 * A delivery is split into one part per uid; every part is the same DELIVER with the recipients of that uid.  The body is
 * passed to all parts as it comes; `queue` gets credit for what the slowest part has taken.  Frames for a worker that is
 * still being started wait in the part, bounded by the credit.  A worker that dies defers what it had.
 * Workers are kept and used again: no process is made per message.
 */
#include "local/local.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct worker_link {
	struct worker_link *next;
	struct local *local;
	uint32_t uid;
	struct channel *channel; /* NULL: asked for */
};

struct part {
	struct part *next;
	struct delivery *delivery;
	struct worker_link *link;
	uint64_t stream;
	uint64_t credited; /* octets that the worker has taken, as it said */
	struct buf waiting; /* encoded frames: u32 type, u32 length, payload */
	bool over;
};

static void part_over(struct part *, const char *why);

/* ---- frames to a worker ---- */

/* A frame could not be handed on: the worker must not take what is left for the whole. */
static void part_fail(struct part *p)
{
	struct wire_DELIVER_ABORT m = { .stream = p->stream };

	if (p->link->channel)
		wire_send_DELIVER_ABORT(p->link->channel, &m);
	buf_free(&p->waiting);
	part_over(p, "no memory");
}

static void part_send(struct part *p, uint32_t type, struct view payload)
{
	uint32_t head[2] = { type, (uint32_t)payload.n };

	if (p->over)
		return;
	if (p->link->channel) {
		channel_send(p->link->channel, type, payload); /* what is full or closed ends, and says so itself */
		return;
	}
	if (!buf_add(&p->waiting, view_of((const char *)head, sizeof head)) || !buf_add(&p->waiting, payload))
		part_fail(p);
}

static void part_flush(struct part *p)
{
	while (buf_len(&p->waiting) >= 8) {
		struct view v = buf_view(&p->waiting);
		uint32_t head[2];
		memcpy(head, v.p, sizeof head);
		channel_send(p->link->channel, head[0], view_slice(v, 8, 8 + (size_t)head[1]));
		buf_take(&p->waiting, 8 + (size_t)head[1]);
	}
	buf_free(&p->waiting);
}

static void send_encoded(struct part *p, uint32_t type, struct buf *encoded, bool ok)
{
	if (ok)
		part_send(p, type, buf_view(encoded));
	else if (!p->over)
		part_fail(p);
	buf_clear(encoded);
}

/* ---- results ---- */

static void part_over(struct part *p, const char *why)
{
	struct delivery *d = p->delivery;

	if (p->over)
		return;
	p->over = true;
	for (size_t i = 0; i < d->count; i++)
		if (d->rcpts[i].valid && d->rcpts[i].mailbox.uid == p->link->uid)
			local_delivery_decide(&d->rcpts[i], WIRE_DEFERRED, 451, 3, 0, why);
	d->open--;
}

static void parts_free(struct delivery *d)
{
	while (d->parts) {
		struct part *p = d->parts;
		d->parts = p->next;
		buf_free(&p->waiting);
		free(p);
	}
}

static void finish_if_done(struct delivery *d)
{
	if (d->open > 0)
		return;
	if (!d->complete && d->from) { /* the body is still coming: take it all, then answer */
		uint32_t left = d->size > d->granted ? (uint32_t)(d->size - d->granted) : 0;
		struct wire_DELIVER_CREDIT m = { .stream = d->stream, .bytes = left };
		d->granted = d->size;
		if (left)
			wire_send_DELIVER_CREDIT(d->from, &m);
		return;
	}
	parts_free(d);
	local_delivery_answer(d);
}

static void grant(struct delivery *d)
{
	uint64_t least = UINT64_MAX;

	for (struct part *p = d->parts; p; p = p->next)
		if (!p->over && p->credited < least)
			least = p->credited;
	if (least != UINT64_MAX && least > d->size)
		least = d->size; /* nobody has taken what has not come: a worker's word is a peer's */
	if (least == UINT64_MAX || least <= d->granted || !d->from)
		return;
	struct wire_DELIVER_CREDIT m = { .stream = d->stream, .bytes = (uint32_t)(least - d->granted) };
	d->granted = least;
	wire_send_DELIVER_CREDIT(d->from, &m);
}

static void take_results(struct part *p, struct view list)
{
	struct delivery *d = p->delivery;
	struct wire_result r;

	for (size_t i = 0; i < d->count; i++) {
		struct delivery_rcpt *rcpt = &d->rcpts[i];
		char text[256];
		if (!rcpt->valid || rcpt->mailbox.uid != p->link->uid)
			continue;
		if (wire_result_next(&list, &r) != 1 || r.kind < WIRE_DELIVERED || r.kind > WIRE_DEFERRED)
			break; /* fewer than asked: the rest is deferred by part_over */
		snprintf(text, sizeof text, "%.*s", VIEW_ARGS(r.text));
		local_delivery_decide(rcpt, r.kind, r.code, r.enhanced[1], r.enhanced[2], text);
	}
}

static struct part *part_of_stream(struct worker_link *link, uint64_t stream)
{
	for (struct delivery *d = link->local->deliveries; d; d = d->next)
		for (struct part *p = d->parts; p; p = p->next)
			if (p->link == link && p->stream == stream && !p->over)
				return p;
	return NULL;
}

static void link_lost(struct worker_link *, const char *why);

static void on_worker_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct worker_link *link = arg;
	struct wire_OUTCOME outcome;
	struct wire_DELIVER_CREDIT credit;
	struct part *p;

	if (fd != -1)
		close(fd);
	if (type == WIRE_OUTCOME && wire_read_OUTCOME(payload, &outcome) == 0) {
		p = part_of_stream(link, outcome.stream);
		if (!p)
			return;
		struct delivery *d = p->delivery;
		take_results(p, outcome.results);
		part_over(p, "the worker said too little");
		grant(d);
		finish_if_done(d);
	} else if (type == WIRE_DELIVER_CREDIT && wire_read_DELIVER_CREDIT(payload, &credit) == 0) {
		p = part_of_stream(link, credit.stream);
		if (!p)
			return;
		p->credited += credit.bytes;
		grant(p->delivery);
	} else {
		EMIT(link->local->role->events, FAULT, F_STR("where", "local"), F_STR("reason", "a frame of a worker that is none; its channel ends"));
		channel_free(ch);
		link_lost(link, "the delivery's worker went mad");
	}
}

/* Ends every part of a worker that is gone.  A delivery has one part a worker, and may be gone with it. */
static void link_lost(struct worker_link *link, const char *why)
{
	struct local *l = link->local;
	struct worker_link **at = &l->workers;

	for (struct delivery *d = l->deliveries, *next; d; d = next) {
		struct part *p = d->parts;

		next = d->next;
		while (p && (p->link != link || p->over))
			p = p->next;
		if (!p)
			continue;
		part_over(p, why);
		grant(d);
		finish_if_done(d);
	}
	while (*at != link)
		at = &(*at)->next;
	*at = link->next;
	/* deliveries that still collect their body keep parts that are over: they point at this link no more */
	for (struct delivery *d = l->deliveries; d; d = d->next)
		for (struct part *p = d->parts; p; p = p->next)
			if (p->link == link)
				p->link = NULL;
	free(link);
}

static void on_worker_closed(void *arg, struct channel *ch)
{
	channel_free(ch);
	link_lost(arg, "the delivery's worker ended");
}

static const struct channel_handler worker_handler = { on_worker_frame, on_worker_closed, NULL };

void local_broker_worker_up(struct local *l, uint32_t uid, struct channel *ch)
{
	struct worker_link *link = l->workers;

	while (link && link->uid != uid)
		link = link->next;
	if (!link || link->channel) { /* not asked for */
		channel_free(ch);
		return;
	}
	link->channel = ch;
	channel_set_handler(ch, &worker_handler, link);
	for (struct delivery *d = l->deliveries; d; d = d->next)
		for (struct part *p = d->parts; p; p = p->next)
			if (p->link == link)
				part_flush(p);
}

void local_broker_worker_refused(struct local *l, uint32_t uid, struct view reason)
{
	struct worker_link *link = l->workers;
	char why[160];

	while (link && link->uid != uid)
		link = link->next;
	if (!link || link->channel)
		return;
	snprintf(why, sizeof why, "no worker for this mailbox: %.*s", VIEW_ARGS(reason));
	link_lost(link, why);
}

static struct worker_link *link_for(struct local *l, uint32_t uid)
{
	struct worker_link *link = l->workers;
	struct wire_NEED_WORKER m = { .uid = uid };
	struct buf b;

	while (link && link->uid != uid)
		link = link->next;
	if (link)
		return link;
	link = calloc(1, sizeof *link);
	if (!link)
		return NULL;
	*link = (struct worker_link){ .next = l->workers, .local = l, .uid = uid };
	l->workers = link;
	buf_init(&b, &alloc_libc, 64);
	if (wire_put_NEED_WORKER(&b, &m))
		l->role->to_super(l->role, WIRE_NEED_WORKER, buf_view(&b));
	buf_free(&b);
	return link;
}

/* ---- a delivery ---- */

static struct part *part_for(struct delivery *d, uint32_t uid)
{
	struct part *p = d->parts;

	while (p && p->link->uid != uid)
		p = p->next;
	if (p)
		return p;
	p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->link = link_for(d->local, uid);
	if (!p->link) {
		free(p);
		return NULL;
	}
	p->delivery = d;
	p->stream = ++d->local->streams;
	buf_init(&p->waiting, &alloc_libc, CHANNEL_FRAME_MAX * 2 + WIRE_BODY_WINDOW * 2);
	p->next = d->parts;
	d->parts = p;
	d->open++;
	return p;
}

static bool part_recipients(struct part *p, const struct wire_DELIVER *m, struct buf *out)
{
	struct delivery *d = p->delivery;
	struct view list = m->rcpts;
	struct wire_rcpt r;

	for (size_t i = 0; i < d->count && wire_rcpt_next(&list, &r) == 1; i++)
		if (d->rcpts[i].valid && d->rcpts[i].mailbox.uid == p->link->uid && !wire_rcpt_add(out, &r))
			return false;
	return true;
}

void local_broker_start(struct delivery *d, const struct wire_DELIVER *m)
{
	struct buf list, frame;

	for (size_t i = 0; i < d->count; i++) {
		struct delivery_rcpt *r = &d->rcpts[i];
		if (r->valid && r->mailbox.uid == 0)
			local_delivery_decide(r, WIRE_DEFERRED, 451, 3, 5, "the mailbox belongs to root, and nothing is delivered as root");
		else if (r->valid && !part_for(d, (uint32_t)r->mailbox.uid))
			local_delivery_decide(r, WIRE_DEFERRED, 451, 3, 0, "no memory");
	}
	buf_init(&list, &alloc_libc, CHANNEL_FRAME_MAX);
	buf_init(&frame, &alloc_libc, CHANNEL_FRAME_MAX);
	for (struct part *p = d->parts; p; p = p->next) {
		struct wire_DELIVER own = *m;
		bool ok = part_recipients(p, m, &list);
		own.stream = p->stream;
		own.rcpts = buf_view(&list);
		send_encoded(p, WIRE_DELIVER, &frame, ok && wire_put_DELIVER(&frame, &own));
		buf_clear(&list);
	}
	buf_free(&list);
	buf_free(&frame);
}

void local_broker_bytes(struct delivery *d, const struct wire_DELIVER_BYTES *m)
{
	struct buf frame;

	d->size += m->bytes.n;
	d->complete = m->last;
	buf_init(&frame, &alloc_libc, CHANNEL_FRAME_MAX);
	for (struct part *p = d->parts; p; p = p->next) {
		struct wire_DELIVER_BYTES own = { .stream = p->stream, .last = m->last, .bytes = m->bytes };
		if (!p->over)
			send_encoded(p, WIRE_DELIVER_BYTES, &frame, wire_put_DELIVER_BYTES(&frame, &own));
	}
	buf_free(&frame);
	if (d->open == 0)
		finish_if_done(d);
}

void local_broker_abort(struct delivery *d)
{
	struct buf frame;

	buf_init(&frame, &alloc_libc, 64);
	for (struct part *p = d->parts; p; p = p->next) {
		struct wire_DELIVER_ABORT own = { .stream = p->stream };
		if (!p->over)
			send_encoded(p, WIRE_DELIVER_ABORT, &frame, wire_put_DELIVER_ABORT(&frame, &own));
	}
	buf_free(&frame);
	parts_free(d);
	local_delivery_free(d);
}

void local_broker_stop(struct local *l)
{
	while (l->workers) {
		struct worker_link *link = l->workers;
		l->workers = link->next;
		if (link->channel)
			channel_free(link->channel);
		free(link);
	}
}
