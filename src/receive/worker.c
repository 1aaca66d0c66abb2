/* worker.c - one event loop of `receive`: its channels, listeners, certificates and the end of its sessions.
 *
 * A worker starts to accept once `queue` (and `local`, `keys` where they matter) can be reached: until then clients wait
 * in the kernel's backlog, which is kinder than a 451.
 */
#include "receive/receive.h"

#include "wire/certificates.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Places are made for the descriptors that the process may have; a session needs one. */
#define WORKER_PLACES (1u << 17)

const struct role *receive_worker_role(const struct worker *w)
{
	return w->room->role;
}

/* ---- frames ---- */

static void on_queue_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct worker *w = arg;
	struct wire_BODY_CREDIT credit;
	struct wire_BODY_DONE done;
	struct wire_PRESSURE pressure;
	struct session *s;

	(void)ch;
	if (fd != -1)
		close(fd);
	if (type == WIRE_BODY_CREDIT && wire_read_BODY_CREDIT(payload, &credit) == 0) {
		if ((s = receive_session_of_stream(w, credit.stream)) != NULL)
			receive_transaction_credit(s, credit.stream, credit.bytes);
	} else if (type == WIRE_BODY_DONE && wire_read_BODY_DONE(payload, &done) == 0) {
		if ((s = receive_session_of_stream(w, done.stream)) != NULL)
			receive_transaction_done(s, &done);
	} else if (type == WIRE_PRESSURE && wire_read_PRESSURE(payload, &pressure) == 0) {
		w->pressure = pressure.level;
	} else {
		EMIT(receive_worker_role(w)->events, FAULT, F_STR("where", "receive"), F_STR("reason", "a frame of queue that is none"));
	}
}

static void for_sessions(struct worker *w, void (*do_it)(struct session *))
{
	for (uint32_t i = 0; i < w->place_count; i++)
		if (w->places[i])
			do_it(w->places[i]);
}

static void on_queue_closed(void *arg, struct channel *ch)
{
	struct worker *w = arg;

	channel_free(ch);
	if (w->queue == ch) {
		w->queue = NULL;
		for_sessions(w, receive_transaction_queue_lost);
	}
}

static void on_local_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct worker *w = arg;
	struct wire_RCPT_VERDICT v;
	struct session *s;

	(void)ch;
	if (fd != -1)
		close(fd);
	if (type != WIRE_RCPT_VERDICT || wire_read_RCPT_VERDICT(payload, &v) == -1)
		EMIT(receive_worker_role(w)->events, FAULT, F_STR("where", "receive"), F_STR("reason", "a frame of local that is none"));
	else if ((s = receive_session_of_stream(w, v.stream)) != NULL)
		receive_transaction_rcpt_verdict(s, v.stream, v.verdict);
}

static void on_local_closed(void *arg, struct channel *ch)
{
	struct worker *w = arg;

	channel_free(ch);
	if (w->local == ch) {
		w->local = NULL;
		for_sessions(w, receive_transaction_local_lost);
	}
}

static const struct channel_handler queue_handler = { on_queue_frame, on_queue_closed, NULL };
static const struct channel_handler local_handler = { on_local_frame, on_local_closed, NULL };

/* ---- certificates ---- */

static struct certificates_shown shown(struct worker *w, const struct conf_listener *l)
{
	return (struct certificates_shown){
		.title = l->title,
		.certificates = l->certificates,
		.n = l->certificate_count,
		.policy = (enum tls_policy)l->set.tls_policy,
		.tickets = w->room->tickets,
		.clients = l->set.client_certificates == CONF_CLIENTS_ASK ? w->room->clients : NULL,
		.keys = &w->keys,
		.silent = w->index != 0,
	};
}

static void check_certificates(struct worker *w)
{
	const struct role *role = receive_worker_role(w);

	for (size_t i = 0; i < role->conf->listener_count; i++) {
		struct certificates_shown s = shown(w, &role->conf->listeners[i]);

		certificates_check(role, &s, w->tls[i], &w->tls_broken[i]);
	}
}

static struct tls_context *make_context(struct worker *w, const struct conf_listener *l)
{
	struct certificates_shown s = shown(w, l);

	return certificates_context(receive_worker_role(w), &s);
}

/* ---- listeners ---- */

static void on_accepted(void *arg, int fd, const struct address *peer)
{
	struct accepting *a = arg;

	receive_session_open(a->worker, a->listener, fd, peer);
}

static void on_refused(void *arg, int err)
{
	struct accepting *a = arg;

	EMIT(receive_worker_role(a->worker)->events, FAULT, F_STR("where", "accept"), F_STR("reason", strerror(err)));
}

static bool can_serve(const struct worker *w)
{
	bool keys = receive_worker_role(w)->single || receive_worker_role(w)->conf->certificate_count == 0 || signer_is_open(&w->keys);

	return w->queue && w->local && keys && !w->draining;
}

static void start_listeners(struct worker *w)
{
	if (!can_serve(w))
		return;
	for (struct accepting *a = w->accepting; a; a = a->next) {
		if (a->started)
			continue;
		/* elsewhere the client waits for our greeting: it would come a second late */
		listen_defer(a->fd, receive_worker_role(w)->conf->listeners[a->listener].set.tls == CONF_LISTENER_IMPLICIT ? RECEIVE_DEFER_S : 0);
		a->started = listen_start(&a->on, w->loop, a->fd, on_accepted, on_refused, a) == 0;
		if (!a->started)
			EMIT(receive_worker_role(w)->events, FAULT, F_STR("where", "listen"), F_STR("reason", strerror(errno)));
	}
}

static void stop_listeners(struct worker *w)
{
	struct accepting *a;

	while ((a = w->accepting) != NULL) {
		w->accepting = a->next;
		if (a->started)
			listen_stop(&a->on);
		else
			close(a->fd);
		free(a);
	}
}

static void add_listener(struct worker *w, uint32_t number, int fd)
{
	struct accepting *a = w->draining ? NULL : calloc(1, sizeof *a);

	if (!a) {
		close(fd);
		return;
	}
	a->worker = w;
	a->listener = number;
	a->fd = fd;
	a->next = w->accepting;
	w->accepting = a;
}

/* ---- the mailbox ---- */

static void take_channel(struct worker *w, const struct loop_post *p)
{
	struct channel *ch = p->channel;

	if (p->peer == ROLE_KEYS) {
		signer_set_fd(&w->keys, p->fd);
		check_certificates(w);
		return;
	}
	if (!ch)
		ch = channel_new(w->loop, p->fd);
	if (!ch) {
		if (p->fd != -1)
			close(p->fd);
		EMIT(receive_worker_role(w)->events, FAULT, F_STR("where", "receive"), F_STR("reason", "no memory for a channel"));
		return;
	}
	if (p->peer == ROLE_QUEUE) {
		if (w->queue) { /* `queue` was started anew before we saw the old end close */
			struct channel *old = w->queue;
			w->queue = NULL;
			channel_free(old);
			for_sessions(w, receive_transaction_queue_lost);
		}
		w->queue = ch;
		w->pressure = 0; /* what the last one told was of its own; this one tells when it has any */
		channel_set_handler(ch, &queue_handler, w);
	} else {
		if (w->local) {
			struct channel *old = w->local;
			w->local = NULL;
			channel_free(old);
			for_sessions(w, receive_transaction_local_lost);
		}
		w->local = ch;
		channel_set_handler(ch, &local_handler, w);
	}
}

static void check_drained(struct worker *w)
{
	if (!w->draining || w->sessions > 0 || w->done)
		return;
	w->done = true;
	loop_timer_stop(&w->grace);
	if (atomic_fetch_sub(&w->room->workers_busy, 1) == 1)
		loop_wake(&w->room->drained);
}

static void cut(void *arg)
{
	struct worker *w = arg;

	for (uint32_t i = 0; i < w->place_count; i++)
		if (w->places[i]) {
			w->places[i]->reason = "shutdown";
			receive_session_free(w->places[i]);
		}
}

/* grace 0: a new generation serves, this one ends with its last session.  Otherwise sessions end at their next safe
 * place, and are cut when the time is over. */
static void drain(struct worker *w, uint32_t grace_ms)
{
	bool first = !w->draining;

	w->draining = true;
	stop_listeners(w);
	if (grace_ms > 0) {
		loop_timer_set(&w->grace, loop_now(w->loop) + grace_ms);
		for_sessions(w, receive_session_shutdown);
	}
	if (first)
		check_drained(w);
}

static void trim(void *arg)
{
	(void)arg;
	malloc_trim(0);
}

void receive_worker_session_gone(struct worker *w)
{
	/* glibc would keep a flood's memory for the next one.  Given back at an eighth of it, an eighth of that and so on:
	 * what is left at the first time holds pages of its own. */
	if ((w->trimming || w->sessions_most >= RECEIVE_TRIM_SESSIONS) && w->sessions <= w->sessions_most / 8) {
		malloc_trim(0);
		w->sessions_most = w->sessions;
		w->trimming = w->sessions >= 8;
		loop_timer_set(&w->trim, loop_now(w->loop) + CONN_LINGER_MS + 500);
	}
	check_drained(w);
}

static void on_post(void *arg, const struct loop_post *p)
{
	struct worker *w = arg;

	switch ((enum post_kind)p->kind) {
	case POST_CHANNEL: take_channel(w, p); break;
	case POST_LISTENER: add_listener(w, p->number, p->fd); break;
	case POST_DRAIN: drain(w, p->number); break;
	}
	start_listeners(w);
}

/* ---- begin and end ---- */

static int make_places(struct worker *w)
{
	w->places = calloc(WORKER_PLACES, sizeof *w->places);
	w->free_places = calloc(WORKER_PLACES, sizeof *w->free_places);
	if (!w->places || !w->free_places)
		return -1;
	w->place_count = WORKER_PLACES;
	while (w->place_free < w->place_count) { /* low places first */
		w->free_places[w->place_free] = w->place_count - 1 - w->place_free;
		w->place_free++;
	}
	return 0;
}

int receive_worker_init(struct worker *w, struct receive *room, unsigned index, struct error *e)
{
	const struct conf *conf = room->role->conf;

	*w = (struct worker){ .room = room, .index = index };
	w->coming_end = &w->coming;
	if (loop_thread_init(&w->thread, room->role->env, index == 0 ? room->role->loop : NULL, on_post, w) == -1)
		return error_set(e, ERROR_AGAIN, "no memory or descriptor for a worker");
	w->loop = w->thread.loop;
	signer_init(&w->keys, w->loop, WIRE_KEY_SIGN, WIRE_KEY_SIGNED);
	loop_log(w->loop, room->role->events);
	w->tls = calloc(conf->listener_count, sizeof *w->tls);
	w->tls_broken = calloc(conf->listener_count, sizeof *w->tls_broken);
	if (!w->tls || !w->tls_broken || make_places(w) == -1)
		return error_set(e, ERROR_AGAIN, "no memory for a worker");
	loop_timer_init(&w->grace, w->loop, cut, w);
	loop_timer_init(&w->trim, w->loop, trim, w);
	for (size_t i = 0; i < conf->listener_count; i++)
		if (conf->listeners[i].certificate_count)
			w->tls[i] = make_context(w, &conf->listeners[i]);
	if (room->role->single)
		check_certificates(w);
	return 0;
}

void receive_worker_free(struct worker *w)
{
	if (!w->loop)
		return;
	loop_thread_stop(&w->thread);
	stop_listeners(w);
	cut(w);
	if (w->queue)
		channel_free(w->queue);
	if (w->local)
		channel_free(w->local);
	signer_free(&w->keys);
	for (size_t i = 0; w->tls && i < w->room->role->conf->listener_count; i++)
		tls_context_free(w->tls[i]);
	free(w->tls);
	free(w->tls_broken);
	free(w->places);
	free(w->free_places);
	loop_timer_stop(&w->grace);
	loop_timer_stop(&w->trim);
	loop_thread_free(&w->thread);
}
