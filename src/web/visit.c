/* visit.c - one connection of a client: TLS outside, libmicrohttpd inside, and octets carried between; see web.h.
 *
 * Octets wait in `in` and `out`, each WEB_PIPE_MAX at most: who is ahead is not read until the other has taken.
 * Time is a deadline and not a pause: the handshake with the first request and its answer have request_timeout, and each further
 * request with its answer as much, however many octets trickle.
 * The client's end is the end; libmicrohttpd's end is one after what it has said has left.
 */
#include "web/web.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct events *log_of(const struct visit *v)
{
	return v->room->role->events;
}

static void set_deadline(struct visit *v)
{
	struct loop *l = v->room->role->loop;

	loop_timer_set(&v->deadline, loop_now(l) + v->set->set.request_timeout);
}

static void tell_failed(const struct visit *v, const char *reason)
{
	EMIT(log_of(v), WEB_FAILED, F_ID("session", v->id), F_STR("client", v->client), F_STR("web", v->set->title), F_STR("reason", reason));
}

/* Writes out what is left, says goodbye, and ends. */
static void close_visit(struct visit *v)
{
	v->closing = true;
	conn_close(&v->outer);
}

/* ---- between the two ---- */

/* Takes what there is room for. */
static size_t carry(struct buf *to, const void *bytes, size_t n)
{
	size_t room = WEB_PIPE_MAX - buf_len(to);

	n = n < room ? n : room;
	return buf_add(to, view_of(bytes, n)) ? n : 0; /* without memory nothing moves, and the deadline ends it */
}

static size_t outer_input(void *arg, unsigned epoch, const void *bytes, size_t n)
{
	struct visit *v = arg;

	if (epoch != CONN_TLS || v->closing)
		return n; /* nothing in clear is heard: conn shows none, since TLS begins before the first read */
	v->early = true;
	n = carry(&v->in, bytes, n);
	conn_pump(&v->inner);
	return n;
}

static struct view outer_output(void *arg)
{
	return buf_view(&((struct visit *)arg)->out);
}

static void outer_sent(void *arg, size_t n)
{
	struct visit *v = arg;

	buf_take(&v->out, n);
	buf_release(&v->out);
	conn_resume(&v->inner);
}

static size_t inner_input(void *arg, unsigned epoch, const void *bytes, size_t n)
{
	struct visit *v = arg;

	(void)epoch;
	n = carry(&v->out, bytes, n);
	conn_pump(&v->outer);
	return n;
}

static struct view inner_output(void *arg)
{
	return buf_view(&((struct visit *)arg)->in);
}

static void inner_sent(void *arg, size_t n)
{
	struct visit *v = arg;

	buf_take(&v->in, n);
	buf_release(&v->in);
	conn_resume(&v->outer);
}

/* ---- ends ---- */

static void outer_closed(void *arg)
{
	visit_free(arg);
}

static void outer_failed(void *arg, const struct error *e)
{
	struct visit *v = arg;

	if (!v->closing)
		tell_failed(v, e->text);
	visit_free(v);
}

static void outer_tls_failed(void *arg, const char *why)
{
	struct visit *v = arg;

	tell_failed(v, why);
	close_visit(v);
}

/* libmicrohttpd has closed its end: all that it said is in `out` or has left.  What it refused by itself, because it was no
 * HTTP, too long or of a version that it does not know, pages.c never saw. */
static void inner_ended(struct visit *v)
{
	if (v->closing)
		return;
	if (v->asked > v->answered || (v->asked == 0 && v->early))
		tell_failed(v, "no request that HTTP knows");
	close_visit(v);
}

static void inner_peer_closed(void *arg)
{
	inner_ended(arg);
}

static void inner_failed(void *arg, const struct error *e)
{
	(void)e;
	inner_ended(arg);
}

static void on_deadline(void *arg)
{
	struct visit *v = arg;

	if (!v->closing && (!v->up || v->early || v->answered == 0))
		tell_failed(v, v->up ? "no request in time" : "no handshake in time");
	visit_free(v);
}

/* ---- begin ---- */

static void outer_tls_up(void *arg, const struct tls_facts *facts);

static const struct conn_ops outer_ops = {
	.input = outer_input, .output = outer_output, .sent = outer_sent, .peer_closed = outer_closed, .tls_up = outer_tls_up,
	.tls_failed = outer_tls_failed, .failed = outer_failed, .closed = outer_closed,
};
static const struct conn_ops inner_ops = {
	.input = inner_input, .output = inner_output, .sent = inner_sent, .peer_closed = inner_peer_closed, .failed = inner_failed,
};

static void outer_tls_up(void *arg, const struct tls_facts *facts)
{
	struct visit *v = arg;
	struct view sni = view_slice(facts->sni, 0, sizeof v->sni - 1); /* a name has 255 octets at most: TLS refuses a longer one */
	struct error e = { 0 };
	int pair[2];

	memcpy(v->sni, sni.p, sni.n);
	v->sni[sni.n] = 0;
	v->up = true;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == -1) {
		tell_failed(v, "no descriptors");
		close_visit(v);
		return;
	}
	if (!http_add(v->room, v, pair[1])) {
		close(pair[0]);
		tell_failed(v, "no memory");
		close_visit(v);
	} else if (conn_open(&v->inner, pair[0], &e) == -1) {
		tell_failed(v, e.text);
		close_visit(v);
	}
}

static void turn_away(struct web *room, const struct conf_web *set, int fd, const struct address *peer, const char *reason)
{
	char client[ADDRESS_TEXT];

	close(fd);
	EMIT(room->role->events, WEB_TURNED_AWAY, F_STR("client", address_host((const struct sockaddr *)&peer->sa, client)), F_STR("web", set->title),
	     F_STR("reason", reason));
}

static const char *why_not(const struct web *room, uint32_t section)
{
	const struct section *s = &room->sections[section];

	if (!s->tls || !tls_server_works(s->tls))
		return "no certificate works";
	if (s->visits >= room->role->conf->webs[section].set.connections || room->visit_count >= room->visit_most)
		return "connections";
	return NULL;
}

static struct visit *visit_new(struct web *room, uint32_t section, const struct address *peer)
{
	struct visit *v = calloc(1, sizeof *v);
	struct loop *l = room->role->loop;

	if (!v)
		return NULL;
	v->room = room;
	v->section = section;
	v->set = &room->role->conf->webs[section];
	v->peer = *peer;
	v->id = env_random_u64(room->role->env);
	v->http_fd = -1;
	address_host((const struct sockaddr *)&v->peer.sa, v->client);
	buf_init(&v->in, &alloc_libc, WEB_PIPE_MAX);
	buf_init(&v->out, &alloc_libc, WEB_PIPE_MAX);
	conn_init(&v->outer, l, &alloc_libc, &outer_ops, v);
	conn_init(&v->inner, l, &alloc_libc, &inner_ops, v);
	loop_timer_init(&v->deadline, l, on_deadline, v);
	v->next = room->visits;
	v->at = &room->visits;
	if (v->next)
		v->next->at = &v->next;
	room->visits = v;
	room->visit_count++;
	room->sections[section].visits++;
	return v;
}

void visit_open(struct web *room, uint32_t section, int fd, const struct address *peer)
{
	const struct conf_web *set = &room->role->conf->webs[section];
	const char *reason = why_not(room, section);
	struct error e = { 0 };
	struct visit *v;

	if (reason) {
		turn_away(room, set, fd, peer, reason);
		return;
	}
	if (!peers_enter(room->peers, (const struct sockaddr *)&peer->sa, set->set.connections_per_address)) {
		turn_away(room, set, fd, peer, "connections_per_address");
		return;
	}
	v = visit_new(room, section, peer);
	if (!v) {
		peers_leave(room->peers, (const struct sockaddr *)&peer->sa);
		turn_away(room, set, fd, peer, "memory");
		return;
	}
	set_deadline(v);
	if (conn_open(&v->outer, fd, &e) == -1 || conn_start_tls(&v->outer, room->sections[section].tls, true, NULL) == -1)
		visit_free(v);
}

void visit_answered(struct visit *v)
{
	v->early = buf_len(&v->in) > 0; /* what is there already is of the next request */
	set_deadline(v);
}

void visit_shutdown(struct visit *v)
{
	if (!v->closing && v->up && !v->early && v->answered == v->asked)
		close_visit(v);
}

void visit_free(struct visit *v)
{
	struct web *room = v->room;

	loop_timer_stop(&v->deadline);
	http_forget(room, v); /* before the pair is closed, and libmicrohttpd may take the number again */
	conn_free(&v->inner);
	conn_free(&v->outer);
	buf_free(&v->in);
	buf_free(&v->out);
	peers_leave(room->peers, (const struct sockaddr *)&v->peer.sa);
	room->sections[v->section].visits--;
	room->visit_count--;
	*v->at = v->next;
	if (v->next)
		v->next->at = v->at;
	free(v);
	web_visit_gone(room);
}
