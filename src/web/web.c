/* web.c - the role that serves pages over HTTPS: its listeners, certificates and the end; see web.h.
 *
 * After confinement it can accept connections, make pairs of sockets of its own, and talk over the descriptors that it was given; it
 * opens nothing and holds no key.  It starts to accept once `keys` can be reached: until then clients wait in the kernel.
 */
#include "web/web.h"

#include "wire/certificates.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* ---- certificates ---- */

static struct certificates_shown shown(struct web *room, size_t nth)
{
	const struct conf_web *w = &room->role->conf->webs[nth];

	return (struct certificates_shown){
		.title = w->title,
		.certificates = w->certificates,
		.n = w->certificate_count,
		.policy = (enum tls_policy)w->set.tls_policy,
		.tickets = NULL, /* a sender comes once a day: there is nothing to resume */
		.keys = &room->keys,
	};
}

static void check_certificates(struct web *room)
{
	for (size_t i = 0; i < room->role->conf->web_count; i++) {
		struct certificates_shown s = shown(room, i);

		certificates_check(room->role, &s, room->sections[i].tls, &room->sections[i].broken);
	}
}

/* ---- listeners ---- */

static void on_accepted(void *arg, int fd, const struct address *peer)
{
	struct accepting *a = arg;

	visit_open(a->room, a->section, fd, peer);
}

static void on_refused(void *arg, int err)
{
	struct accepting *a = arg;

	EMIT(a->room->role->events, FAULT, F_STR("where", "accept"), F_STR("reason", strerror(err)));
}

static void start_listeners(struct web *room)
{
	if (room->draining || (!room->role->single && !signer_is_open(&room->keys)))
		return;
	for (struct accepting *a = room->accepting; a; a = a->next) {
		if (a->started)
			continue;
		listen_defer(a->fd, WEB_DEFER_S);
		a->started = listen_start(&a->on, room->role->loop, a->fd, on_accepted, on_refused, a) == 0;
		if (!a->started)
			EMIT(room->role->events, FAULT, F_STR("where", "listen"), F_STR("reason", strerror(errno)));
	}
}

static void stop_listeners(struct web *room)
{
	struct accepting *a;

	while ((a = room->accepting) != NULL) {
		room->accepting = a->next;
		if (a->started)
			listen_stop(&a->on);
		else
			close(a->fd);
		free(a);
	}
}

static void on_frame(struct role *role, uint32_t type, struct view payload, int fd)
{
	struct web *room = role->state;
	struct wire_LISTENER m;
	struct accepting *a;

	if (fd == -1)
		return;
	if (type != WIRE_LISTENER || wire_read_LISTENER(payload, &m) == -1 || m.listener >= role->conf->web_count || room->draining ||
	    !(a = calloc(1, sizeof *a))) {
		close(fd);
		return;
	}
	*a = (struct accepting){ .next = room->accepting, .room = room, .section = m.listener, .fd = fd };
	room->accepting = a;
	start_listeners(room);
}

static void on_channel(struct role *role, enum role_kind peer, uint32_t index, uint32_t generation, struct channel *ch)
{
	struct web *room = role->state;

	(void)generation;
	if (peer != ROLE_KEYS || index != 0 || role->single) {
		channel_free(ch);
		return;
	}
	signer_set_fd(&room->keys, channel_detach_fd(ch));
	check_certificates(room);
	start_listeners(room);
}

/* ---- begin and end ---- */

static unsigned visits_by_descriptors(void)
{
	struct rlimit r;
	rlim_t most = UINT16_MAX * WEB_DESCRIPTORS_EACH;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < most)
		most = r.rlim_cur;
	return most > 2 * WEB_DESCRIPTORS_KEPT ? (unsigned)(most - WEB_DESCRIPTORS_KEPT) / WEB_DESCRIPTORS_EACH : 1;
}

static void cut(void *arg)
{
	struct web *room = arg;

	while (room->visits)
		visit_free(room->visits);
}

static int prepare(struct role *role, struct error *e)
{
	struct web *room = calloc(1, sizeof *room);
	const time_t now = 0;
	struct tm when;

	if (!room)
		return error_set(e, ERROR_AGAIN, "no memory");
	role->state = room;
	room->role = role;
	loop_timer_init(&room->grace, role->loop, cut, room);
	signer_init(&room->keys, role->loop, WIRE_KEY_SIGN, WIRE_KEY_SIGNED);
	room->visit_most = visits_by_descriptors();
	room->peers = peers_new(env_random_u64(role->env));
	room->sections = calloc(role->conf->web_count, sizeof *room->sections);
	if (!room->peers || !room->sections)
		return error_set(e, ERROR_AGAIN, "no memory");
	gmtime_r(&now, &when); /* the time zone's files are read before the walls: libmicrohttpd writes dates */
	if (tls_warm_up(e) == -1 || http_start(room, e) == -1)
		return -1;
	for (size_t i = 0; i < role->conf->web_count; i++) {
		struct certificates_shown s = shown(room, i);

		room->sections[i].tls = certificates_context(role, &s);
	}
	if (role->single)
		check_certificates(room);
	return 0;
}

static int start(struct role *role, struct error *e)
{
	(void)role;
	(void)e;
	return 0;
}

void web_visit_gone(struct web *room)
{
	if (!room->draining || room->visits)
		return;
	loop_timer_stop(&room->grace);
	room->role->drained(room->role);
}

/* grace 0: a new generation serves, and this one ends with its last visit, each of which has a deadline. */
static void drain(struct role *role, uint32_t grace_ms)
{
	struct web *room = role->state;

	room->draining = true;
	stop_listeners(room);
	if (grace_ms)
		loop_timer_set(&room->grace, loop_now(role->loop) + grace_ms);
	for (struct visit *v = room->visits; v; v = v->next)
		visit_shutdown(v);
	web_visit_gone(room);
}

static void stop(struct role *role)
{
	struct web *room = role->state;

	if (!room)
		return;
	room->draining = false; /* nobody is told any more */
	stop_listeners(room);
	cut(room);
	http_stop(room);
	signer_free(&room->keys);
	for (size_t i = 0; room->sections && i < role->conf->web_count; i++)
		tls_context_free(room->sections[i].tls);
	free(room->sections);
	peers_free(room->peers);
	loop_timer_stop(&room->grace);
	free(room);
	role->state = NULL;
}

const struct role_ops web_role = {
	.kind = ROLE_WEB, .prepare = prepare, .start = start, .channel = on_channel, .frame = on_frame, .drain = drain, .stop = stop,
};
