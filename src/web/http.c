/* http.c - libmicrohttpd on our loop: it gets ends of socket pairs, and asks pages.c what to answer; see web.h.
 *
 * It runs without a thread and without a listening socket, by its epoll descriptor, which the loop watches; its time-outs are off,
 * because they count silence alone: a visit has a deadline.
 * A connection of its is known by its descriptor, which is libmicrohttpd's until it has closed it: a visit that has gone leaves
 * no entry, and what still comes of its connection is refused.
 */
#include "web/pages.h"
#include "web/web.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

struct http {
	struct web *room;
	struct MHD_Daemon *daemon;
	struct loop_watch watch;
	struct loop_timer timer;
	struct loop_later turn;
	struct visit **by_fd;
	size_t fds;
};

/* ---- whose connection is it? ---- */

static struct visit *visit_of(struct http *h, struct MHD_Connection *c)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
	int fd = info ? info->connect_fd : -1;

	return fd >= 0 && (size_t)fd < h->fds ? h->by_fd[fd] : NULL;
}

static bool remember(struct http *h, struct visit *v, int fd)
{
	size_t most = (size_t)fd + 64;
	struct visit **more;

	if ((size_t)fd >= h->fds) {
		more = realloc(h->by_fd, most * sizeof *more);
		if (!more)
			return false;
		memset(more + h->fds, 0, (most - h->fds) * sizeof *more);
		h->by_fd = more;
		h->fds = most;
	}
	h->by_fd[fd] = v;
	v->http_fd = fd;
	return true;
}

void http_forget(struct web *room, struct visit *v)
{
	/* libmicrohttpd may have closed it before we saw that, and the number be another visit's */
	if (v->http_fd != -1 && room->http->by_fd[v->http_fd] == v)
		room->http->by_fd[v->http_fd] = NULL;
	v->http_fd = -1;
}

/* ---- requests ---- */

/* The first line was read.  The target is kept as it came: what libmicrohttpd hands out later is decoded and cut. */
static void *on_target(void *arg, const char *target, struct MHD_Connection *c)
{
	struct visit *v = visit_of(arg, c);
	size_t n = strlen(target);

	if (v) {
		v->asked++;
		v->target_long = n > WEB_TARGET_MAX;
		memcpy(v->target, target, v->target_long ? WEB_TARGET_MAX : n);
		v->target[v->target_long ? WEB_TARGET_MAX : n] = 0;
	}
	return NULL;
}

struct hosts { struct view first; unsigned n; };

static enum MHD_Result on_field(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct hosts *h = arg;

	(void)kind;
	if (view_eq_nocase(view_cstr(name), VIEW("Host")) && h->n++ == 0)
		h->first = view_cstr(value ? value : "");
	return MHD_YES;
}

static bool has_body(struct MHD_Connection *c)
{
	const char *length = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Content-Length");

	return (length && strcmp(length, "0") != 0) || MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Transfer-Encoding");
}

static void log_answer(const struct visit *v, const struct page_ask *ask, const struct page_answer *a)
{
	struct events *log = v->room->role->events;

	if (a->status == 200)
		EMIT(log, WEB_SERVED, F_ID("session", v->id), F_STR("client", v->client), F_STR("web", v->set->title), F_VIEW("method", ask->method),
		     F_VIEW("host", view_slice(a->host, 0, WEB_SNI_SIZE)), F_VIEW("path", a->path));
	else
		EMIT(log, WEB_REFUSED, F_ID("session", v->id), F_STR("client", v->client), F_STR("web", v->set->title),
		     F_VIEW("method", view_slice(ask->method, 0, 20)), F_VIEW("host", view_slice(a->host, 0, WEB_SNI_SIZE)),
		     F_VIEW("path", view_slice(a->path, 0, 200)), F_U64("code", a->status), F_STR("reason", a->reason));
}

static enum MHD_Result send_answer(struct visit *v, struct MHD_Connection *c, const struct page_answer *a)
{
	struct view text = buf_view(&a->text);
	struct MHD_Response *r = MHD_create_response_from_buffer(text.n, (void *)(uintptr_t)text.p, MHD_RESPMEM_MUST_COPY);
	bool last = v->answered >= WEB_REQUESTS_MAX || v->room->draining || a->status == 400; /* who does not speak HTTP is not spoken with */
	enum MHD_Result done = MHD_NO;

	if (r && MHD_add_response_header(r, "Content-Type", a->type) == MHD_YES &&
	    (!last || MHD_add_response_header(r, "Connection", "close") == MHD_YES) &&
	    (a->status != 405 || MHD_add_response_header(r, "Allow", "GET, HEAD") == MHD_YES)) /* RFC 9110 15.5.6 */
		done = MHD_queue_response(c, a->status, r);
	if (r)
		MHD_destroy_response(r);
	return done; /* MHD_NO: memory; the connection ends */
}

static enum MHD_Result answer(struct visit *v, struct MHD_Connection *c, const char *method)
{
	struct hosts hosts = { { "", 0 }, 0 };
	struct page_ask ask = { .method = view_cstr(method), .target = view_cstr(v->target), .sni = view_cstr(v->sni) };
	struct page_answer a;
	enum MHD_Result done;

	MHD_get_connection_values(c, MHD_HEADER_KIND, on_field, &hosts);
	ask.host = hosts.first;
	ask.hosts = hosts.n;
	if (v->target_long)
		ask.target = VIEW("/..."); /* too long for any page of ours; so is this */
	pages_answer(v->room->role->conf, &ask, &a);
	v->answered++;
	log_answer(v, &ask, &a);
	done = send_answer(v, c, &a);
	buf_free(&a.text);
	return done;
}

/* Called when the header is there, and again when the whole request is.  One with a body is answered at once, which makes
 * libmicrohttpd close behind the answer: no page of ours takes one. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method, const char *version,
                                  const char *upload, size_t *upload_n, void **context)
{
	struct visit *v = visit_of(arg, c);

	(void)url;
	(void)version;
	(void)upload;
	(void)context;
	if (!v)
		return MHD_NO;
	if (!v->begun) {
		v->begun = true;
		return has_body(c) ? answer(v, c, method) : MHD_YES;
	}
	if (*upload_n)
		return MHD_NO; /* a body after all: of what has_body does not know */
	return answer(v, c, method);
}

static void on_completed(void *arg, struct MHD_Connection *c, void **context, enum MHD_RequestTerminationCode how)
{
	struct visit *v = visit_of(arg, c);

	(void)context;
	(void)how;
	if (!v)
		return;
	v->begun = false;
	visit_answered(v);
}

/* ---- the loop ---- */

static void run(void *arg)
{
	struct http *h = arg;
	MHD_UNSIGNED_LONG_LONG ms;

	MHD_run(h->daemon);
	if (MHD_get_timeout(h->daemon, &ms) == MHD_YES)
		loop_timer_set(&h->timer, loop_now(h->room->role->loop) + ms);
	else
		loop_timer_stop(&h->timer);
}

static void soon(struct http *h)
{
	loop_later(h->room->role->loop, &h->turn);
}

static void on_ready(void *arg, unsigned io)
{
	(void)io;
	soon(arg);
}

static void on_time(void *arg)
{
	soon(arg);
}

bool http_add(struct web *room, struct visit *v, int fd)
{
	/* not an address of the Internet, so that nothing is tried on it that only TCP has */
	const struct sockaddr_un nowhere = { .sun_family = AF_UNIX };
	struct http *h = room->http;

	if (!remember(h, v, fd)) {
		close(fd);
		return false;
	}
	if (MHD_add_connection(h->daemon, fd, (const struct sockaddr *)&nowhere, sizeof nowhere) != MHD_YES) {
		http_forget(room, v); /* it has closed the descriptor */
		return false;
	}
	soon(h);
	return true;
}

int http_start(struct web *room, struct error *e)
{
	struct http *h = calloc(1, sizeof *h);
	const union MHD_DaemonInfo *info;

	if (!h)
		return error_set(e, ERROR_AGAIN, "no memory");
	room->http = h;
	h->room = room;
	h->turn.run = run;
	h->turn.arg = h;
	loop_timer_init(&h->timer, room->role->loop, on_time, h);
	h->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, on_request, h,
	                             MHD_OPTION_CONNECTION_LIMIT, room->visit_most + LISTEN_BATCH, /* those of visits that have gone end in its next turn */
	                             MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)WEB_REQUEST_MAX, MHD_OPTION_CONNECTION_TIMEOUT, 0u,
	                             MHD_OPTION_URI_LOG_CALLBACK, on_target, (void *)h, MHD_OPTION_NOTIFY_COMPLETED, on_completed, (void *)h,
	                             MHD_OPTION_END); /* not strict for clients: 0.9.75 then writes the header twice; pages.c asks for Host */
	info = h->daemon ? MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	if (!info || info->epoll_fd == -1 || loop_watch_start(&h->watch, room->role->loop, info->epoll_fd, LOOP_READ, on_ready, h) == -1)
		return error_set(e, ERROR_AGAIN, "libmicrohttpd cannot be started: no memory or descriptor");
	return 0;
}

void http_stop(struct web *room)
{
	struct http *h = room->http;

	if (!h)
		return;
	loop_later_cancel(room->role->loop, &h->turn);
	loop_timer_stop(&h->timer);
	if (h->watch.loop)
		loop_watch_stop(&h->watch);
	if (h->daemon)
		MHD_stop_daemon(h->daemon);
	free(h->by_fd);
	free(h);
	room->http = NULL;
}
