/* delivery.c - one DELIVER: its recipients, the part of its body that waits, and its OUTCOME; see send.h. */
#include "send/send.h"

#include <stdio.h>
#include <stdlib.h>

/* The remote's words for a thousand recipients at a few lines each; what is over is cut, not the result. */
#define DELIVERY_TEXTS (1024u * 1024)
/* Words of one reply that are kept (RFC 3464 2.3.6 wants them whole; a reply line has 512). */
#define DELIVERY_TEXT_MAX 1500u

static struct send_delivery **bucket(struct sender *s, uint64_t stream)
{
	return &s->deliveries[stream % SEND_BUCKETS];
}

struct send_delivery *send_delivery_find(struct sender *s, uint64_t stream)
{
	struct send_delivery *d = *bucket(s, stream);

	while (d && d->stream != stream)
		d = d->next;
	return d;
}

static struct psmtp_view out(struct view v)
{
	return (struct psmtp_view){ v.p, v.n };
}

static bool is_ascii(struct psmtp_view v)
{
	for (size_t i = 0; i < v.n; i++)
		if ((unsigned char)v.p[i] > 127)
			return false;
	return true;
}

/* An address needs SMTPUTF8 as much as a header does: judged from its octets (RFC 6531 3.4). */
static bool addresses_ascii(const struct psmtp_client_message *m)
{
	bool ascii = is_ascii(m->sender);

	for (uint32_t i = 0; i < m->rcpt_count; i++)
		ascii = ascii && is_ascii(m->rcpts[i].address);
	return ascii;
}

static bool copy_message(struct send_delivery *d, const struct wire_DELIVER *m)
{
	struct view list;
	struct wire_rcpt r;
	uint32_t count = 0;
	int more;

	d->memory = malloc(m->sender.n + m->envid.n + m->rcpts.n + 1);
	if (!d->memory)
		return false;
	memcpy(d->memory, m->sender.p, m->sender.n);
	memcpy(d->memory + m->sender.n, m->envid.p, m->envid.n);
	memcpy(d->memory + m->sender.n + m->envid.n, m->rcpts.p, m->rcpts.n);
	for (list = m->rcpts; (more = wire_rcpt_next(&list, &r)) == 1;)
		count++;
	if (more == -1 || count == 0)
		return false;
	d->rcpts = calloc(count, sizeof *d->rcpts);
	d->results = calloc(count, sizeof *d->results);
	if (!d->rcpts || !d->results)
		return false;
	list = view_of(d->memory + m->sender.n + m->envid.n, m->rcpts.n);
	for (uint32_t i = 0; i < count && wire_rcpt_next(&list, &r) == 1; i++)
		d->rcpts[i] = (struct psmtp_client_rcpt){ out(r.address), r.notify, out(r.orcpt_type), out(r.orcpt) };
	d->message = (struct psmtp_client_message){
		.sender = out(view_of(d->memory, m->sender.n)),
		.rcpts = d->rcpts,
		.rcpt_count = count,
		.size = m->size,
		.has_8bit = m->flags & WIRE_HAS_8BIT,
		.has_utf8 = m->flags & WIRE_HAS_UTF8,
		.binary = m->flags & WIRE_BINARY,
		.requiretls = m->flags & WIRE_REQUIRETLS,
		.ret = m->ret == PSMTP_RET_FULL || m->ret == PSMTP_RET_HDRS ? (enum psmtp_ret)m->ret : PSMTP_RET_UNSAID,
		.envid = out(view_of(d->memory + m->sender.n, m->envid.n)),
	};
	d->requiretls = d->message.requiretls;
	if (!addresses_ascii(&d->message))
		d->message.has_utf8 = true;
	return true;
}

static void release(struct send_delivery *d)
{
	buf_free(&d->body);
	arena_free(&d->texts);
	free(d->rcpts);
	free(d->results);
	free(d->memory);
	free(d);
}

struct send_delivery *send_delivery_new(struct sender *s, const struct wire_DELIVER *m)
{
	struct send_delivery *d = calloc(1, sizeof *d), **at = bucket(s, m->stream);

	if (!d)
		return NULL;
	buf_init(&d->body, &alloc_libc, 2 * WIRE_BODY_WINDOW);
	arena_init(&d->texts, &alloc_libc, DELIVERY_TEXTS);
	d->stream = m->stream;
	d->id = m->id;
	d->size = m->size;
	if (!copy_message(d, m)) {
		release(d);
		return NULL;
	}
	d->next = *at;
	*at = d;
	s->delivery_count++;
	return d;
}

/* The remote's words as it said them: the protocol library takes the enhanced code off, the log and reports want it. */
static struct view words_of(struct send_delivery *d, const struct psmtp_reply *reply, bool local)
{
	char words[DELIVERY_TEXT_MAX + sizeof "2.999.999 "];
	struct view text = view_slice(send_view(reply->text), 0, DELIVERY_TEXT_MAX);

	if (local || !reply->enhanced[0])
		return arena_copy(&d->texts, text);
	snprintf(words, sizeof words, "%u.%u.%u %.*s", reply->enhanced[0] % 10u, reply->enhanced[1] % 1000u, reply->enhanced[2] % 1000u,
	         VIEW_ARGS(text));
	return arena_copy(&d->texts, view_cstr(words));
}

void send_delivery_decide(struct send_delivery *d, uint32_t rcpt, enum wire_result_kind kind, const struct psmtp_reply *reply,
                     struct view remote, bool local)
{
	struct wire_result *r;
	struct view text;

	if (rcpt >= d->message.rcpt_count || d->results[rcpt].kind)
		return;
	r = &d->results[rcpt];
	text = words_of(d, reply, local);
	remote = arena_copy(&d->texts, remote);
	*r = (struct wire_result){
		.kind = (uint8_t)kind,
		.code = (uint16_t)reply->code,
		.enhanced = { reply->enhanced[0], reply->enhanced[1], reply->enhanced[2] },
		.text = text.p ? text : VIEW(""),
		.remote = remote.p ? remote : VIEW(""),
		.local = local,
	};
}

void send_delivery_decide_rest(struct send_delivery *d, const struct wire_result *result, struct view remote)
{
	struct psmtp_reply reply = {
		.code = result->code,
		.enhanced = { result->enhanced[0], result->enhanced[1], result->enhanced[2] },
		.text = out(result->text),
	};

	for (uint32_t i = 0; i < d->message.rcpt_count; i++)
		send_delivery_decide(d, i, (enum wire_result_kind)result->kind, &reply, remote, result->local);
}

void send_delivery_drop(struct send_delivery *d)
{
	struct sender *s = d->target->sender;
	struct send_delivery **at = bucket(s, d->stream);

	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	s->delivery_count--;
	if (d->link)
		d->link->delivery = NULL;
	release(d);
	send_check_drained(s);
}

void send_delivery_finish(struct send_delivery *d, bool host_failed, bool maybe, bool dsn, const struct link *l)
{
	struct sender *s = d->target->sender;
	struct wire_OUTCOME m = { .stream = d->stream, .host_failed = host_failed, .maybe_delivered = maybe, .dsn = dsn };
	struct buf list;
	bool ok = true;

	if (l) {
		m.tls = view_cstr(l->tls);
		m.owed = (uint8_t)l->owed;
		m.reached = (uint8_t)l->reached;
		m.policy = view_cstr(route_rpt_policy_name(l->policy));
		m.why = view_cstr(l->why);
	} else if (d->target->failure_owed) { /* no session, because of what is owed: the reason says why */
		m.owed = (uint8_t)d->target->failure_owed;
		m.policy = view_cstr(route_rpt_policy_name(d->target->failure_policy));
	}
	buf_init(&list, &alloc_libc, CHANNEL_FRAME_MAX - 4096);
	for (uint32_t i = 0; i < d->message.rcpt_count && ok; i++) {
		ok = wire_result_add(&list, &d->results[i]);
		if (!ok) { /* the words of so many do not fit a frame: the results without them do */
			buf_clear(&list);
			ok = true;
			for (uint32_t j = 0; j < d->message.rcpt_count && ok; j++) {
				d->results[j].text = d->results[j].remote = VIEW("");
				ok = wire_result_add(&list, &d->results[j]);
			}
			break;
		}
	}
	/* Without memory for the results an answer without them makes the queue end the channel and take all as undecided: better
	 * than a delivery that never ends. */
	m.results = ok ? buf_view(&list) : VIEW("");
	if (s->queue && (!wire_send_OUTCOME(s->queue, &m) || !ok) && channel_is_open(s->queue))
		EMIT(send_role_of(s)->events, FAULT, F_STR("where", "send"), F_STR("reason", "an outcome could not be told"));
	buf_free(&list);
	send_delivery_drop(d);
}
