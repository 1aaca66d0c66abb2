/* link.c - one outbound connection: dialled, greeted, secured, then used for one delivery after the other; see send.h.
 *
 * Fault before it is ready: the next address is tried; when all have failed, what waits is deferred.  Want of our own (descriptors,
 * memory) is no fault of the host: what waits is deferred, and no address or host is judged.  Fault in the middle
 * of a message: its undecided recipients are deferred, and the outcome says so if the final dot had left.  A connection
 * that was kept and died before it answered anything of a new message costs that message nothing: it is put back once.
 * TLS: what is owed is the judgement of route/tls.h, made before the first connection.  `may` goes on in clear only where STARTTLS
 * was refused, or (on a new connection) where the handshake itself failed; every higher level never (design.md 1.3).
 * REQUIRETLS: a host that does not offer it is left by QUIT for the next (RFC 8689 4.2.1); a report goes there all the same.
 *
 * Longer than most files: where a connection may go on in clear, and where a message may be put back, is decided by what stands
 * before it in the same life of the link, and is to be checked in one place.
 */
#include "send/send.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static uint64_t now_of(const struct link *l)
{
	return loop_now(l->sender->loop);
}

static struct events *log_of(const struct link *l)
{
	return send_role_of(l->sender)->events;
}

static struct candidate *candidate_of(const struct link *l)
{
	return &l->target->candidates[l->candidate];
}

static const struct fact_host *fact_of(const struct link *l)
{
	return &l->target->facts->hosts[candidate_of(l)->host];
}

/* The only place where a link changes its state, because the target counts those that open, and target and sender those that idle. */
static void set_state(struct link *l, enum link_state state)
{
	struct target *t = l->target;

	t->opening_n -= l->state == LINK_DIALLING || l->state == LINK_OPENING;
	if (l->state == LINK_IDLE)
		send_idle_ends(l);
	l->state = state;
	t->opening_n += state == LINK_DIALLING || state == LINK_OPENING;
	if (state == LINK_IDLE)
		send_idle_begins(l);
}

static void set_timer(struct link *l)
{
	uint64_t at = psmtp_client_deadline(l->smtp);

	if (l->state == LINK_IDLE) {
		uint64_t idle = l->started + send_role_of(l->sender)->conf->global.connection_idle;
		at = idle < at ? idle : at;
	}
	if (at == UINT64_MAX || l->state == LINK_CLOSING)
		loop_timer_stop(&l->timer);
	else
		loop_timer_set(&l->timer, at);
}

/* ---- the end of a link ---- */

void send_link_free(struct link *l)
{
	struct target *t = l->target;
	struct link **at = &t->links;

	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	set_state(l, LINK_CLOSING);
	l->sender->link_count--;
	t->used = now_of(l);
	if (l->delivery)
		l->delivery->link = NULL;
	loop_timer_stop(&l->timer);
	dial_cancel(&l->dial);
	if (l->conn_made)
		conn_free(&l->conn);
	psmtp_client_free(l->smtp);
	send_auth_free(l->auth);
	free(l);
}

static void log_failed(const struct link *l, const char *reason, struct view text)
{
	EMIT(log_of(l), SEND_FAILED, F_VIEW("dest", l->target->key), F_STR("host", l->remote), F_STR("reason", reason), F_VIEW("text", text),
	     F_STR("tls", l->tls), F_STR("owed", route_level_name(l->owed)), F_STR("why", l->why));
}

/* Is another connection of this destination at work?  Then what waits goes over that one. */
static bool others_work(const struct link *l)
{
	for (const struct link *o = l->target->links; o; o = o->next)
		if (o != l && (o->state == LINK_IDLE || o->state == LINK_BUSY))
			return true;
	return false;
}

/* All addresses have been tried.  REQUIRETLS that no host can fulfil fails the mail (RFC 8689 4.2.1), once none is left that
 * could not be asked; a report then still has its day (section 5: it is not discarded for that). */
static void give_up(struct target *t, struct wire_result *result, const struct link *last)
{
	struct wire_result refused = *result;

	if (!t->dest.require || !t->refused || t->waits) {
		send_target_fail_waiting(t, result, true, last);
		return;
	}
	refused.kind = WIRE_FAILED;
	refused.code = 550;
	refused.enhanced[0] = 5;
	refused.enhanced[1] = 7;
	refused.enhanced[2] = t->refused;
	for (struct send_delivery *d; (d = send_target_pop(t)) != NULL;) {
		bool report = d->message.sender.n == 0;
		send_delivery_decide_rest(d, report ? result : &refused, VIEW(""));
		send_delivery_finish(d, false, false, false, last);
	}
}

/* This address will not do: the next one, or the end of hope.  lonely: no other link of the destination is at work.  last: a copy of
 * the link that is gone, for what it owed. */
static void next_address(struct target *t, size_t candidate, bool lonely, struct wire_result *result, const struct link *last)
{
	size_t next = send_target_candidate(t, candidate + 1);

	if (!t->waiting)
		return;
	if (next < t->candidate_count) {
		send_link_open(t, next);
		return;
	}
	if (lonely && t->opening_n == 0)
		give_up(t, result, last);
}

/* Our words on a failure: where, what, and what was owed there. */
static void describe(const struct link *l, const char *reason, const struct psmtp_reply *reply, char words[SEND_WORDS])
{
	int n = snprintf(words, SEND_WORDS, "%.120s: %.120s%s%.*s", l->remote, reason, reply && reply->text.n ? ": " : "",
	                 reply ? (int)(reply->text.n < 80 ? reply->text.n : 80) : 0, reply ? reply->text.p : "");

	if (l->owed > ROUTE_LEVEL_MAY && n > 0 && n < SEND_WORDS - 40)
		snprintf(words + n, SEND_WORDS - (size_t)n, " (TLS owed: %s; %s)", route_level_name(l->owed), l->why);
}

/* It never became ready: try the next address, or give up on all that waits. */
static void opening_failed(struct link *l, const char *reason, const struct psmtp_reply *reply)
{
	struct target *t = l->target;
	char words[SEND_WORDS];
	struct wire_result result = { .kind = WIRE_DEFERRED, .code = 451, .enhanced = { 4, 4, 1 }, .local = 1 };
	bool lonely = !others_work(l); /* told before the link is gone */
	size_t candidate = l->candidate;
	struct link last;

	log_failed(l, reason, reply ? send_view(reply->text) : VIEW(""));
	describe(l, reason, reply, words);
	result.text = view_cstr(words);
	if (l->tls_missing) { /* RFC 3463 3.8: the encryption that is owed cannot be had */
		result.enhanced[1] = 7;
		result.enhanced[2] = 5;
		t->refused = t->refused ? t->refused : 10;
	} else
		t->waits = true;
	candidate_of(l)->bad_until = now_of(l) + SEND_BAD_MS;
	last = *l;
	send_link_free(l);
	next_address(t, candidate, lonely, &result, &last);
}

/* It was not even tried, for want of a descriptor or of memory: that is no fault of the host.  A link that idles gives way to the next. */
static void in_want(struct link *l, const char *reason)
{
	struct target *t = l->target;
	struct sender *s = l->sender;
	char words[SEND_WORDS];
	struct wire_result result = { .kind = WIRE_DEFERRED, .code = 451, .enhanced = { 4, 3, 0 }, .local = 1 };
	bool lonely = !others_work(l);
	struct link last;

	log_failed(l, reason, VIEW(""));
	describe(l, reason, NULL, words);
	result.text = view_cstr(words);
	last = *l;
	send_link_free(l);
	if (lonely && t->opening_n == 0)
		send_target_fail_waiting(t, &result, false, &last);
	if (s->idle_first)
		send_link_leave(s->idle_first);
}

/* The same address once more: in clear, or with another mechanism. */
static void reopen(struct link *l)
{
	struct target *t = l->target;
	size_t candidate = l->candidate;

	send_link_free(l);
	send_link_open(t, candidate);
}

static bool may_retry_in_clear(const struct link *l)
{
	return l->owed == ROUTE_LEVEL_MAY && !l->in_clear;
}

/* Is clear text the way for now at this address?  Only under `may`, and not for ever. */
static bool is_clear_place(const struct target *t, const struct address *a, uint64_t now)
{
	for (size_t i = 0; i < SEND_CLEAR_MAX; i++)
		if (t->clear[i].until > now && address_equal_host((const struct sockaddr *)&t->clear[i].address.sa, (const struct sockaddr *)&a->sa))
			return true;
	return false;
}

static void note_clear_place(struct target *t, const struct address *a, uint64_t now)
{
	struct clear_place *oldest = &t->clear[0];

	for (size_t i = 1; i < SEND_CLEAR_MAX; i++)
		if (t->clear[i].until < oldest->until)
			oldest = &t->clear[i];
	*oldest = (struct clear_place){ *a, now + SEND_CLEAR_MS };
}

/* ---- TLS-RPT ---- */

/* Once a session: how its TLS ended (RFC 8460 4.3). */
static void tell_result(struct link *l, enum route_tls_event event, struct view reason)
{
	char remote[ADDRESS_TEXT] = "", local[ADDRESS_TEXT] = "";
	struct sockaddr_storage own;
	socklen_t n = sizeof own;

	if (l->told || l->owed == ROUTE_LEVEL_NONE || l->in_clear)
		return;
	l->told = true;
	address_host((const struct sockaddr *)&candidate_of(l)->address.sa, remote);
	if (l->conn_made && conn_is_open(&l->conn) && getsockname(l->conn.fd, (struct sockaddr *)&own, &n) == 0)
		address_host((struct sockaddr *)&own, local);
	send_facts_tell(l->target, fact_of(l), route_tls_result(&fact_of(l)->choice, event), view_cstr(remote), view_cstr(local), reason);
}

static bool has_word(struct view list, struct view word)
{
	while (list.n) {
		size_t end = view_find(list, ' ');
		if (view_eq_nocase(view_slice(list, 0, end), word))
			return true;
		list = view_slice(list, end + 1, list.n);
	}
	return false;
}

static void opening_fault(struct link *l, const struct psmtp_client_event *ev)
{
	struct psmtp_client_facts f;

	if (ev->fault == PSMTP_FAULT_TLS && may_retry_in_clear(l)) {
		log_failed(l, "tls_failed, in clear for ten minutes", VIEW(""));
		note_clear_place(l->target, &candidate_of(l)->address, now_of(l));
		reopen(l);
		return;
	}
	l->tls_missing = ev->fault == PSMTP_FAULT_TLS || ev->fault == PSMTP_FAULT_POLICY;
	if (ev->fault == PSMTP_FAULT_POLICY && l->reached < ROUTE_LEVEL_ENCRYPT)
		tell_result(l, view_eq(view_cstr(ev->reason), VIEW("starttls_pending")) ? ROUTE_TLS_BROKE : ROUTE_TLS_NOT_OFFERED, view_cstr(ev->reason));
	psmtp_client_get_facts(l->smtp, &f);
	if (l->target->dest.auth && !l->target->login && f.tls && !has_word(send_view(f.auth), VIEW("PLAIN")) &&
	    has_word(send_view(f.auth), VIEW("LOGIN"))) {
		l->target->login = true;
		reopen(l);
		return;
	}
	/* what the handshake ended with says more than that it did */
	opening_failed(l, ev->fault == PSMTP_FAULT_TLS && l->tls[0] ? l->tls : ev->reason ? ev->reason : "failed", &ev->reply);
}

static void busy_fault(struct link *l, const struct psmtp_client_event *ev)
{
	struct send_delivery *d = l->delivery;
	struct target *t = l->target;
	struct psmtp_client_facts f;
	char words[300];
	struct wire_result result = { .kind = WIRE_DEFERRED, .code = 451, .enhanced = { 4, 4, 2 }, .local = 1 };

	l->delivery = NULL;
	d->link = NULL;
	if (l->messages > 0 && !d->answered_any && d->consumed == 0 && !d->again && !ev->maybe_delivered) {
		d->again = true;
		send_target_push(t, d, true);
		send_link_free(l);
		send_target_run(t);
		return;
	}
	log_failed(l, ev->reason ? ev->reason : "failed", send_view(ev->reply.text));
	if (ev->reply.code >= 400) {
		result.code = (uint16_t)ev->reply.code;
		for (int i = 0; i < 3; i++)
			result.enhanced[i] = ev->reply.enhanced[i];
		if (result.code >= 500) { /* 5xx that ends a session says nothing of the recipients: unknown means 4xx */
			result.code = 451;
			result.enhanced[0] = 4;
		}
		result.local = 0;
	}
	snprintf(words, sizeof words, "%s%s%.*s", ev->reason ? ev->reason : "the connection failed", ev->reply.text.n ? ": " : "",
	         (int)(ev->reply.text.n < 200 ? ev->reply.text.n : 200), ev->reply.text.n ? ev->reply.text.p : "");
	result.text = view_cstr(words);
	send_delivery_decide_rest(d, &result, view_cstr(l->remote));
	psmtp_client_get_facts(l->smtp, &f);
	send_delivery_finish(d, true, ev->maybe_delivered, f.dsn, l);
	send_link_free(l);
	send_target_run(t);
}

static void on_fault(struct link *l, const struct psmtp_client_event *ev)
{
	struct target *t = l->target;

	if (l->delivery) {
		busy_fault(l, ev);
	} else if (l->state == LINK_OPENING) {
		opening_fault(l, ev);
	} else { /* idle: the remote may end it as it likes */
		send_link_free(l);
		send_target_run(t);
	}
}

/* ---- the body ---- */

static void fill(struct link *l)
{
	struct send_delivery *d = l->delivery;
	struct wire_DELIVER_CREDIT credit;
	size_t n, taken = 0;

	if (!d || !l->body_wanted)
		return;
	for (;;) {
		struct view v = buf_view(&d->body);
		n = psmtp_client_body(l->smtp, v.p, v.n, d->last, now_of(l));
		buf_take(&d->body, n);
		d->consumed += n;
		taken += n;
		if (d->last && n == v.n) {
			l->body_wanted = false;
			break;
		}
		if (n == 0)
			break;
	}
	if (taken && !d->last && l->sender->queue) {
		credit = (struct wire_DELIVER_CREDIT){ .stream = d->stream, .bytes = (uint32_t)taken };
		wire_send_DELIVER_CREDIT(l->sender->queue, &credit);
	}
}

void send_link_body(struct link *l)
{
	if (l->conn_made && l->body_wanted)
		send_link_run(l);
}

/* ---- events of the protocol ---- */

static void say_tls(struct link *l, const struct tls_facts *f)
{
	l->reached = f->by == TLS_BY_DANE_TA || f->by == TLS_BY_DANE_EE ? ROUTE_LEVEL_DANE : f->verified ? ROUTE_LEVEL_VERIFY : ROUTE_LEVEL_ENCRYPT;
	snprintf(l->tls, sizeof l->tls, "%.*s %.*s %s%.*s%s%.*s", VIEW_ARGS(f->protocol), VIEW_ARGS(f->cipher), f->verified ? "" : "unverified: ",
	         VIEW_ARGS(view_slice(f->verify, 0, 120)), f->peer_name.n ? ", peer " : "", VIEW_ARGS(view_slice(f->peer_name, 0, 100)));
}

static void start_tls(struct link *l)
{
	struct sender *s = l->sender;

	send_facts_check(fact_of(l), &l->check);
	l->tls_broke = true; /* until it is up */
	if (conn_start_tls(&l->conn, send_identity_context(s, l->target->dest.hop.client_certificate), false, &l->check) == -1)
		psmtp_client_tls_failed(l->smtp, now_of(l));
}

static void answer_auth(struct link *l, struct view challenge)
{
	struct view credentials = handoff_get(send_role_of(l->sender)->files, "auth", l->target->dest.auth), answer = VIEW("");
	struct error e = { .text = "no credentials" };

	if (!l->auth && credentials.p) {
		l->auth = send_auth_new(l->target->login ? "LOGIN" : "PLAIN", credentials, &e);
		if (l->auth && l->target->login) { /* not every server takes LOGIN's name before it has asked for it */
			psmtp_client_auth_answer(l->smtp, (struct psmtp_view){ "", 0 }, false, now_of(l));
			return;
		}
	}
	if (!l->auth || send_auth_step(l->auth, challenge, &answer) == -1) {
		EMIT(log_of(l), FAULT, F_STR("where", "send"), F_STR("reason", l->auth ? "the AUTH exchange went wrong" : e.text));
		psmtp_client_auth_answer(l->smtp, (struct psmtp_view){ "", 0 }, true, now_of(l));
		return;
	}
	psmtp_client_auth_answer(l->smtp, (struct psmtp_view){ answer.p, answer.n }, false, now_of(l));
}

static enum wire_result_kind kind_of(int code)
{
	return code / 100 == 2 ? WIRE_DELIVERED : code / 100 == 5 ? WIRE_FAILED : WIRE_DEFERRED;
}

/* QUIT: no new message goes over it, whatever comes meanwhile. */
static void leave(struct link *l)
{
	set_state(l, LINK_BUSY);
	psmtp_client_quit(l->smtp, now_of(l));
}

void send_link_leave(struct link *l)
{
	leave(l);
	send_link_run(l);
}

/* REQUIRETLS waits, and this host does not offer it (RFC 8689 4.2.1, 5).  A report goes all the same. */
static bool lacks_requiretls(const struct link *l)
{
	struct psmtp_client_facts f;

	psmtp_client_get_facts(l->smtp, &f);
	return l->target->dest.require && !f.requiretls && l->target->waiting && l->target->waiting->message.sender.n > 0;
}

/* The host will not do; it is left by QUIT, as RFC 8689 4.2.1 wants, and the next is tried. */
static void refuse_host(struct link *l, const char *reason, uint16_t detail)
{
	struct target *t = l->target;
	char words[SEND_WORDS];
	struct wire_result result = { .kind = WIRE_DEFERRED, .code = 451, .enhanced = { 4, 7, detail }, .local = 1 };
	bool lonely = !others_work(l);
	size_t candidate = l->candidate;

	describe(l, reason, NULL, words);
	result.text = view_cstr(words);
	log_failed(l, reason, VIEW(""));
	if (detail == 30)
		t->refused = 30;
	else
		t->waits = true;
	candidate_of(l)->bad_until = now_of(l) + SEND_BAD_MS;
	leave(l);
	next_address(t, candidate, lonely, &result, l);
}

/* The last word before any message: what was owed has been reached.  libpsmtp and the TLS engine have seen to it; this is the
 * other half of the pair. */
static bool is_kept(const struct link *l)
{
	return l->owed <= ROUTE_LEVEL_MAY || l->reached >= l->owed;
}

static void note_connected(struct link *l)
{
	candidate_of(l)->bad_until = 0;
	if (!l->tls[0])
		snprintf(l->tls, sizeof l->tls, "clear%s%s", l->why_clear[0] ? ": " : "", l->why_clear);
	EMIT(log_of(l), SEND_CONNECTED, F_VIEW("dest", l->target->key), F_STR("host", l->remote), F_STR("tls", l->tls),
	     F_STR("owed", route_level_name(l->owed)), F_STR("reached", route_level_name(l->reached)), F_STR("policy", route_rpt_policy_name(l->policy)),
	     F_STR("why", l->why), F_U64("ms", now_of(l) - l->started));
}

static void on_ready(struct link *l)
{
	uint64_t limit = send_role_of(l->sender)->conf->global.connection_messages;

	if (!is_kept(l)) {
		EMIT(log_of(l), FAULT, F_STR("where", "send"), F_STR("reason", "less TLS than is owed: nothing is sent"));
		refuse_host(l, "less TLS than is owed", 5);
		return;
	}
	if (l->state == LINK_OPENING)
		note_connected(l);
	set_state(l, LINK_IDLE);
	l->started = now_of(l);
	if (lacks_requiretls(l))
		refuse_host(l, "REQUIRETLS is needed and not offered", 30);
	else if ((l->sender->draining && !l->target->waiting) || (limit && l->messages >= limit))
		leave(l);
	else if (l->target->waiting)
		send_link_give(l, send_target_pop(l->target));
	else {
		psmtp_client_idle(l->smtp);
		while (l->sender->idle_n > l->sender->idle_most)
			send_link_leave(l->sender->idle_first); /* another one: there is room for the last */
	}
}

static void on_done(struct link *l)
{
	struct send_delivery *d = l->delivery;
	struct psmtp_client_facts f;

	psmtp_client_get_facts(l->smtp, &f);
	l->delivery = NULL;
	d->link = NULL;
	l->body_wanted = false;
	l->messages++;
	send_delivery_finish(d, false, false, f.dsn, l);
}

static void on_result(struct link *l, const struct psmtp_client_event *ev)
{
	if (!l->delivery)
		return;
	l->delivery->answered_any = true;
	send_delivery_decide(l->delivery, ev->rcpt_index, kind_of(ev->reply.code), &ev->reply, view_cstr(l->remote), ev->local);
}

/* False: the link is gone. */
static bool handle(struct link *l, const struct psmtp_client_event *ev)
{
	switch (ev->type) {
	case PSMTP_CLIENT_READY: on_ready(l); break;
	case PSMTP_CLIENT_TLS_START: start_tls(l); break;
	case PSMTP_CLIENT_TLS_REFUSED:
		snprintf(l->why_clear, sizeof l->why_clear, "%s", ev->reason ? ev->reason : "STARTTLS refused");
		tell_result(l, ROUTE_TLS_NOT_OFFERED, view_cstr(l->why_clear));
		break;
	case PSMTP_CLIENT_AUTH: answer_auth(l, send_view(ev->data)); break;
	case PSMTP_CLIENT_RCPT:
		if (l->delivery)
			l->delivery->answered_any = true;
		break;
	case PSMTP_CLIENT_BODY: l->body_wanted = true; break;
	case PSMTP_CLIENT_RESULT: on_result(l, ev); break;
	case PSMTP_CLIENT_DONE: on_done(l); break;
	case PSMTP_CLIENT_FAILED: on_fault(l, ev); return false;
	case PSMTP_CLIENT_CLOSE:
		set_state(l, LINK_CLOSING);
		loop_timer_stop(&l->timer);
		conn_close(&l->conn);
		return false;
	}
	return true;
}

void send_link_run(struct link *l)
{
	struct psmtp_client_event ev;

	if (l->running || l->state == LINK_CLOSING)
		return;
	l->running = true;
	for (;;) {
		if (!psmtp_client_next(l->smtp, &ev, now_of(l))) {
			fill(l);
			if (!psmtp_client_next(l->smtp, &ev, now_of(l)))
				break;
		}
		if (!handle(l, &ev))
			return; /* gone, or closing: nothing is run any more */
	}
	l->running = false;
	set_timer(l);
	conn_resume(&l->conn);
	conn_pump(&l->conn);
}

void send_link_give(struct link *l, struct send_delivery *d)
{
	struct psmtp_client_facts f;

	psmtp_client_get_facts(l->smtp, &f);
	if (d->message.sender.n == 0) /* RFC 8689 5: a report keeps the requirement where it can, and is not lost where it cannot */
		d->message.requiretls = d->requiretls && f.requiretls;
	set_state(l, LINK_BUSY);
	l->delivery = d;
	l->body_wanted = false;
	d->link = l;
	if (psmtp_client_send(l->smtp, &d->message, now_of(l)) == -1) {
		EMIT(log_of(l), FAULT, F_STR("where", "send"), F_STR("reason", "a message was given out of turn"));
		abort(); /* our own mistake: super starts the role anew, and nothing is lost */
	}
	send_link_run(l);
}

/* ---- the connection's callbacks ---- */

static size_t on_input(void *arg, unsigned epoch, const void *bytes, size_t n)
{
	struct link *l = arg;

	return psmtp_client_feed(l->smtp, epoch, bytes, n, now_of(l));
}

static void on_input_done(void *arg)
{
	send_link_run(arg);
}

static struct view on_output(void *arg)
{
	struct link *l = arg;

	fill(l);
	return send_view(psmtp_client_output(l->smtp));
}

static void on_sent(void *arg, size_t n)
{
	struct link *l = arg;

	psmtp_client_sent(l->smtp, n, now_of(l));
	set_timer(l);
}

static void on_peer_closed(void *arg)
{
	struct link *l = arg;

	if (l->tls_broke) {
		l->tls_broke = false;
		tell_result(l, ROUTE_TLS_BROKE, VIEW("the connection was closed in the handshake"));
		psmtp_client_tls_failed(l->smtp, now_of(l));
	} else {
		psmtp_client_peer_closed(l->smtp, now_of(l));
	}
	send_link_run(l);
}

static void on_tls_up(void *arg, const struct tls_facts *f)
{
	struct link *l = arg;
	struct psmtp_tls_facts facts = { { f->protocol.p, f->protocol.n }, { f->cipher.p, f->cipher.n } };

	l->tls_broke = false;
	say_tls(l, f);
	tell_result(l, fact_of(l)->choice.watch && f->fault != TLS_FAULT_NONE ? send_facts_event(f) : ROUTE_TLS_UP, f->verify);
	psmtp_client_tls_up(l->smtp, &facts, now_of(l));
	send_link_run(l);
}

static void on_tls_failed(void *arg, const char *why)
{
	struct link *l = arg;

	l->tls_broke = false;
	snprintf(l->tls, sizeof l->tls, "TLS failed: %s", why);
	tell_result(l, send_facts_event(conn_tls_facts(&l->conn)), view_cstr(why));
	psmtp_client_tls_failed(l->smtp, now_of(l));
	send_link_run(l);
}

static void on_failed(void *arg, const struct error *e)
{
	struct link *l = arg;

	log_failed(l, "connection_failed", view_cstr(e->text));
	on_peer_closed(l);
}

static void on_closed(void *arg)
{
	struct link *l = arg;
	struct target *t = l->target;

	send_link_free(l);
	send_target_run(t); /* what came while it was closing */
}

static const struct conn_ops conn_ops = {
	.input = on_input, .input_done = on_input_done, .output = on_output, .sent = on_sent, .peer_closed = on_peer_closed,
	.tls_up = on_tls_up, .tls_failed = on_tls_failed, .failed = on_failed, .closed = on_closed,
};

static void on_timer(void *arg)
{
	struct link *l = arg;
	uint64_t now = now_of(l);

	if (now >= psmtp_client_deadline(l->smtp))
		psmtp_client_timeout(l->smtp, now);
	else if (l->state == LINK_IDLE)
		leave(l);
	send_link_run(l);
}

/* ---- dialling ---- */

static enum psmtp_client_tls tls_mode(struct link *l)
{
	switch (l->owed) {
	case ROUTE_LEVEL_NONE: return PSMTP_CLIENT_TLS_NONE;
	case ROUTE_LEVEL_MAY: return l->in_clear ? PSMTP_CLIENT_TLS_NONE : PSMTP_CLIENT_TLS_MAY;
	case ROUTE_LEVEL_ENCRYPT:
	case ROUTE_LEVEL_VERIFY:
	case ROUTE_LEVEL_DANE: break;
	}
	return PSMTP_CLIENT_TLS_MUST; /* whatever it is, it is not less */
}

static bool make_client(struct link *l)
{
	struct view hello = view_cstr(send_role_of(l->sender)->conf->global.hostname);
	const struct psmtp_allocator memory = { alloc_libc.resize, alloc_libc.arg };
	enum conf_delivery_kind kind = l->target->dest.hop.delivery.kind;
	struct psmtp_client_options o = {
		.hello = { hello.p, hello.n },
		.lmtp = kind == CONF_DELIVER_LMTP || kind == CONF_DELIVER_LMTP_UNIX,
		.tls = tls_mode(l),
	};

	if (l->target->dest.auth)
		o.auth_mechanism = l->target->login ? (struct psmtp_view){ "LOGIN", 5 } : (struct psmtp_view){ "PLAIN", 5 };
	l->smtp = psmtp_client_new(&o, &memory, now_of(l));
	return l->smtp != NULL;
}

static void on_dialled(void *arg, int fd, const struct error *e)
{
	struct link *l = arg;
	struct error opened = { 0 };

	if (fd == -1) {
		error_is_want(e->sys) ? in_want(l, e->text) : opening_failed(l, e->text, NULL);
		return;
	}
	conn_init(&l->conn, l->sender->loop, &alloc_libc, &conn_ops, l);
	l->conn_made = true;
	set_state(l, LINK_OPENING);
	if (!make_client(l)) {
		close(fd);
		in_want(l, "no memory");
		return;
	}
	if (conn_open(&l->conn, fd, &opened) == -1) {
		opening_failed(l, opened.text, NULL);
		return;
	}
	send_link_run(l);
}

/* What is owed outlives the plan: a link that is at work may see the next. */
static void take_judgement(struct link *l)
{
	const struct route_tls_choice *c = &fact_of(l)->choice;

	assert(c->verdict == ROUTE_SEND);
	l->owed = c->level;
	l->reached = ROUTE_LEVEL_NONE;
	l->policy = c->policy;
	snprintf(l->why, sizeof l->why, "%s", c->why);
}

bool send_link_open(struct target *t, size_t candidate)
{
	struct sender *s = t->sender;
	struct candidate *c = &t->candidates[candidate];
	struct wire_result no_memory = { .kind = WIRE_DEFERRED, .code = 451, .enhanced = { 4, 3, 0 }, .text = VIEW("no memory"), .local = 1 };
	struct link *l = calloc(1, sizeof *l);
	uint32_t timeout = (uint32_t)send_role_of(s)->conf->global.connect_timeout;
	struct address source;
	char text[ADDRESS_TEXT];

	if (!l) {
		send_target_fail_waiting(t, &no_memory, false, NULL);
		return false;
	}
	*l = (struct link){ .next = t->links, .target = t, .sender = s, .candidate = candidate };
	set_state(l, LINK_DIALLING);
	t->links = l;
	s->link_count++;
	l->started = now_of(l);
	take_judgement(l);
	l->in_clear = l->owed == ROUTE_LEVEL_MAY && is_clear_place(t, &c->address, l->started);
	if (l->in_clear)
		snprintf(l->why_clear, sizeof l->why_clear, "TLS failed there before");
	loop_timer_init(&l->timer, s->loop, on_timer, l);
	if (t->dest.hop.delivery.kind == CONF_DELIVER_LMTP_UNIX) {
		snprintf(l->remote, sizeof l->remote, "%s", t->dest.hop.delivery.path);
		dial_start_unix(&l->dial, s->loop, view_cstr(t->dest.hop.delivery.path), timeout, on_dialled, l);
		return true;
	}
	snprintf(l->remote, sizeof l->remote, "%s[%s]:%u", c->name, address_host((struct sockaddr *)&c->address.sa, text),
	         address_port((struct sockaddr *)&c->address.sa));
	dial_start(&l->dial, s->loop, (struct sockaddr *)&c->address.sa, c->address.len,
	           t->dest.hop.source && address_parse_host(view_cstr(t->dest.hop.source), 0, &source) ? &source : NULL, timeout, on_dialled, l);
	return true;
}
