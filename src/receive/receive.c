/* receive.c - the role that listens: makes its workers, hands channels and listeners to them; see receive.h.
 *
 * After confinement it can accept connections and talk over the descriptors it was given; it opens nothing.  A reload is
 * a new generation of the whole role, so nothing here changes its configuration while it runs.
 */
#include "receive/receive.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void on_drained(void *arg)
{
	struct receive *r = arg;

	if (r->draining && atomic_load(&r->workers_busy) == 0)
		r->role->drained(r->role);
}

static unsigned sessions_by_descriptors(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == -1 || r.rlim_cur > UINT32_MAX)
		return UINT32_MAX;
	/* with very few the reserve of the listener has to do (net/listen.h) */
	return r.rlim_cur > 2 * RECEIVE_DESCRIPTORS_KEPT ? (unsigned)r.rlim_cur - RECEIVE_DESCRIPTORS_KEPT : (unsigned)r.rlim_cur;
}

static void change_ticket_key(void *arg)
{
	struct receive *r = arg;
	unsigned char key[TLS_TICKET_KEY];

	r->role->env->random(r->role->env->arg, key, sizeof key);
	tls_tickets_change(r->tickets, key);
	explicit_bzero(key, sizeof key);
	loop_timer_set(&r->ticket_timer, loop_now(r->role->loop) + TLS_TICKET_MS);
}

/* What the contexts of all workers share. */
static int prepare_tls(struct receive *r, struct error *e)
{
	struct view trust = handoff_get(r->role->files, "trust", "");

	loop_timer_init(&r->ticket_timer, r->role->loop, change_ticket_key, r);
	if (r->role->conf->global.session_tickets) {
		r->tickets = tls_tickets_new();
		if (!r->tickets)
			return error_set(e, ERROR_AGAIN, "no memory");
		change_ticket_key(r);
	}
	if (trust.p)
		r->clients = tls_client_new(trust, e);
	return trust.p && !r->clients ? -1 : 0;
}

static int prepare(struct role *role, struct error *e)
{
	struct receive *r = calloc(1, sizeof *r);

	if (!r)
		return error_set(e, ERROR_AGAIN, "no memory");
	role->state = r;
	r->role = role;
	r->peers = peers_new(env_random_u64(role->env));
	r->worker_count = role->single ? 1 : role_loops(role->conf);
	r->workers = calloc(r->worker_count, sizeof *r->workers);
	r->sessions = calloc(role->conf->listener_count, sizeof *r->sessions);
	if (!r->peers || !r->workers || !r->sessions)
		return error_set(e, ERROR_AGAIN, "no memory");
	if (tls_warm_up(e) == -1 || prepare_tls(r, e) == -1)
		return -1;
	if (loop_wake_init(&r->drained, role->loop, on_drained, r) == -1)
		return error_set(e, ERROR_AGAIN, "no memory or descriptor");
	atomic_store(&r->workers_busy, r->worker_count);
	r->most_sessions = sessions_by_descriptors();
	for (unsigned i = 0; i < r->worker_count; i++)
		if (receive_worker_init(&r->workers[i], r, i, e) == -1)
			return -1;
	return 0;
}

static int start(struct role *role, struct error *e)
{
	struct receive *r = role->state;

	for (unsigned i = 1; i < r->worker_count; i++)
		if (loop_thread_run(&r->workers[i].thread, e) == -1)
			return -1;
	return 0;
}

static void post(struct role *role, struct worker *w, struct loop_post what)
{
	if (loop_thread_post(&w->thread, &what))
		return;
	EMIT(role->events, FAULT, F_STR("where", "receive"), F_STR("reason", "no memory for a post"));
	abort(); /* a role without its channels is of no use: super starts it anew */
}

static void on_channel(struct role *role, enum role_kind peer, uint32_t index, uint32_t generation, struct channel *ch)
{
	struct receive *r = role->state;
	struct loop_post p = { .kind = POST_CHANNEL, .peer = peer, .fd = -1 };

	(void)generation;
	if (index >= r->worker_count || (peer != ROLE_QUEUE && peer != ROLE_LOCAL && peer != ROLE_KEYS) || (peer == ROLE_KEYS && role->single)) {
		channel_free(ch);
		return;
	}
	/* A channel belongs to one loop: what is for another worker, or read without a loop (keys), goes as a descriptor. */
	if (index == 0 && peer != ROLE_KEYS)
		p.channel = ch;
	else
		p.fd = channel_detach_fd(ch);
	post(role, &r->workers[index], p);
}

static void on_frame(struct role *role, uint32_t type, struct view payload, int fd)
{
	struct receive *r = role->state;
	struct wire_LISTENER m;

	if (type != WIRE_LISTENER || wire_read_LISTENER(payload, &m) == -1 || m.listener >= role->conf->listener_count || fd == -1) {
		if (fd != -1)
			close(fd);
		return;
	}
	/* Every worker accepts from the same socket, by a descriptor of its own: a backlog is never lost with a worker. */
	for (unsigned i = 0; i < r->worker_count; i++) {
		int own = i + 1 == r->worker_count ? fd : dup(fd);
		if (own != -1)
			post(role, &r->workers[i], (struct loop_post){ .kind = POST_LISTENER, .number = m.listener, .fd = own });
		else
			EMIT(role->events, FAULT, F_STR("where", "listen"), F_STR("reason", "no descriptor for a worker"));
	}
}

static void drain(struct role *role, uint32_t grace_ms)
{
	struct receive *r = role->state;

	r->draining = true;
	for (unsigned i = 0; i < r->worker_count; i++)
		post(role, &r->workers[i], (struct loop_post){ .kind = POST_DRAIN, .number = grace_ms, .fd = -1 });
}

static void stop(struct role *role)
{
	struct receive *r = role->state;

	if (!r)
		return;
	for (unsigned i = 0; r->workers && i < r->worker_count; i++)
		receive_worker_free(&r->workers[i]);
	loop_wake_free(&r->drained);
	peers_free(r->peers);
	if (r->ticket_timer.loop)
		loop_timer_stop(&r->ticket_timer);
	tls_tickets_free(r->tickets);
	tls_context_free(r->clients);
	free(r->workers);
	free(r->sessions);
	free(r);
	role->state = NULL;
}

const struct role_ops receive_role = {
	.kind = ROLE_RECEIVE, .prepare = prepare, .start = start, .channel = on_channel, .frame = on_frame, .drain = drain,
	.stop = stop, .loops = role_loops,
};
