/* fetch.c - see fetch.h.  libcurl's multi interface: it says which sockets and when, the loop watches, the loop tells it. */
#include "policy/fetch.h"

#include "net/address.h"
#include "wire/wire.h"

#include <curl/curl.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

#define ADDRESSES_MAX 16 /* of one host that are tried */

struct fetch_room {
	struct loop *loop;
	CURLM *multi;
	struct loop_timer timer; /* libcurl's */
	struct loop_later sweep; /* tell what is done, outside of libcurl's calls */
	struct fetch *all, *waiting;
	unsigned running;
};

struct fetch {
	struct fetch *next;
	struct fetch_room *room;
	CURL *easy;
	struct curl_slist *resolve, *headers;
	struct fetch_ask ask;
	struct buf body;
	bool large, running;
	char host[256], error[CURL_ERROR_SIZE];
};

/* A socket of libcurl, from its first mention to its last. */
struct sock {
	struct fetch_room *room;
	struct loop_watch watch;
};

/* ---- libcurl and the loop ---- */

static void act(struct fetch_room *room, curl_socket_t fd, int bits)
{
	int running;

	curl_multi_socket_action(room->multi, fd, bits, &running);
	loop_later(room->loop, &room->sweep);
}

static void on_ready(void *arg, unsigned io)
{
	struct sock *s = arg;

	act(s->room, s->watch.fd, (io & LOOP_READ ? CURL_CSELECT_IN : 0) | (io & LOOP_WRITE ? CURL_CSELECT_OUT : 0)); /* may free s */
}

static void on_timer(void *arg)
{
	act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *sock)
{
	struct fetch_room *room = arg;
	struct sock *s = sock;
	unsigned want = (what & CURL_POLL_IN ? LOOP_READ : 0) | (what & CURL_POLL_OUT ? LOOP_WRITE : 0);

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (s)
			loop_watch_stop(&s->watch);
		free(s);
		curl_multi_assign(room->multi, fd, NULL);
		return 0;
	}
	if (s) {
		loop_watch_want(&s->watch, want);
		return 0;
	}
	s = calloc(1, sizeof *s);
	if (!s)
		return 0; /* its time runs out */
	s->room = room;
	if (loop_watch_start(&s->watch, room->loop, fd, want, on_ready, s) != 0) {
		free(s);
		return 0;
	}
	curl_multi_assign(room->multi, fd, s);
	return 0;
}

static int on_time_wanted(CURLM *multi, long ms, void *arg)
{
	struct fetch_room *room = arg;

	(void)multi;
	if (ms < 0)
		loop_timer_stop(&room->timer);
	else
		loop_timer_set(&room->timer, loop_now(room->loop) + (uint64_t)ms);
	return 0;
}

/* ---- the end of one ---- */

static void unlink_from(struct fetch **list, struct fetch *f)
{
	while (*list && *list != f)
		list = &(*list)->next;
	if (*list)
		*list = f->next;
}

static void fetch_free(struct fetch *f)
{
	unlink_from(f->running ? &f->room->all : &f->room->waiting, f);
	if (f->running) {
		curl_multi_remove_handle(f->room->multi, f->easy);
		f->room->running--;
	}
	curl_easy_cleanup(f->easy);
	curl_slist_free_all(f->resolve);
	curl_slist_free_all(f->headers);
	buf_free(&f->body);
	free(f);
}

static enum fetch_end end_of(const struct fetch *f, CURLcode code, long status)
{
	if (f->large || code == CURLE_FILESIZE_EXCEEDED)
		return FETCH_LARGE;
	if (code == CURLE_SSL_CONNECT_ERROR || code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CERTPROBLEM ||
	    code == CURLE_SSL_CACERT_BADFILE || code == CURLE_SSL_INVALIDCERTSTATUS || code == CURLE_SSL_ISSUER_ERROR)
		return FETCH_TLS;
	if (code != CURLE_OK)
		return FETCH_NETWORK;
	return status >= 200 && status <= 299 ? FETCH_OK : FETCH_STATUS;
}

static void finish(struct fetch *f, CURLcode code)
{
	struct fetch_result r = { .type = "", .body = buf_view(&f->body) };
	void (*done)(void *, const struct fetch_result *) = f->ask.done;
	char *type = NULL, words[CURL_ERROR_SIZE + 64];
	void *arg = f->ask.arg;

	curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &r.status);
	curl_easy_getinfo(f->easy, CURLINFO_CONTENT_TYPE, &type);
	if (type && strlen(type) < FETCH_TYPE_MAX)
		r.type = type;
	r.end = end_of(f, code, r.status);
	if (r.end == FETCH_LARGE)
		snprintf(words, sizeof words, "the answer is larger than %zu octets", f->ask.most);
	else if (r.end == FETCH_OK || r.end == FETCH_STATUS)
		snprintf(words, sizeof words, "HTTP status %ld%s", r.status, r.status >= 300 && r.status <= 399 ? ", and redirects are not followed" : "");
	else
		snprintf(words, sizeof words, "%s", f->error[0] ? f->error : curl_easy_strerror(code));
	r.reason = words;
	done(arg, &r);
	fetch_free(f);
}

static void begin(struct fetch *f)
{
	struct fetch_room *room = f->room;

	f->running = true;
	f->next = room->all;
	room->all = f;
	room->running++;
	curl_multi_add_handle(room->multi, f->easy);
}

static void on_sweep(void *arg)
{
	struct fetch_room *room = arg;
	struct fetch *f;
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(room->multi, &left)) != NULL)
		if (m->msg == CURLMSG_DONE) {
			CURLcode code = m->data.result;
			curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&f);
			finish(f, code);
		}
	while (room->waiting && room->running < FETCH_AT_ONCE_MAX) {
		f = room->waiting;
		room->waiting = f->next;
		begin(f);
	}
}

/* ---- the beginning ---- */

static size_t on_octets(char *p, size_t size, size_t n, void *arg)
{
	struct fetch *f = arg;

	n *= size;
	if (buf_len(&f->body) + n > f->ask.most || !buf_add(&f->body, view_of(p, n))) {
		f->large = true;
		return 0; /* libcurl ends it */
	}
	return n;
}

/* libcurl takes a common name when a certificate has no DNS name; OpenSSL is told not to. */
static CURLcode on_context(CURL *easy, void *context, void *arg)
{
	struct fetch *f = arg;
	X509_VERIFY_PARAM *p = SSL_CTX_get0_param(context);

	(void)easy;
	X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return X509_VERIFY_PARAM_set1_host(p, f->host, 0) == 1 ? CURLE_OK : CURLE_OUT_OF_MEMORY;
}

/* "host:port:address,address" */
static struct curl_slist *addresses(const struct fetch_ask *ask)
{
	struct curl_slist *list;
	struct view rest = ask->addresses;
	struct wire_record r;
	struct buf b;
	bool ok;

	buf_init(&b, &alloc_libc, 2048);
	ok = buf_addf(&b, "%s:%u:", ask->host, ask->port);
	for (unsigned n = 0; ok && n < ADDRESSES_MAX && wire_record_next(&rest, &r) == 1; n++) {
		struct address a;
		char text[ADDRESS_TEXT];
		if (!address_from_octets(r.address, 0, &a))
			continue;
		address_host((struct sockaddr *)&a.sa, text);
		ok = a.sa.ss_family == AF_INET6 ? buf_addf(&b, "%s[%s]", n ? "," : "", text) : buf_addf(&b, "%s%s", n ? "," : "", text);
	}
	ok = ok && buf_add(&b, view_of("", 1));
	list = ok ? curl_slist_append(NULL, buf_view(&b).p) : NULL;
	buf_free(&b);
	return list;
}

static bool set_up(struct fetch *f)
{
	struct curl_blob trust = { .data = (void *)(uintptr_t)f->ask.trust.p, .len = f->ask.trust.n, .flags = CURL_BLOB_COPY };
	CURL *c = f->easy;
	char header[FETCH_TYPE_MAX + 20];

#define SET(option, value) (curl_easy_setopt(c, CURLOPT_##option, value) == CURLE_OK)
	bool ok = SET(URL, f->ask.url) && SET(PROTOCOLS_STR, "https") && SET(FOLLOWLOCATION, 0L) && SET(PROXY, "") && SET(NOSIGNAL, 1L) &&
	          SET(SSL_VERIFYPEER, 1L) && SET(SSL_VERIFYHOST, 2L) && SET(SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) && SET(CAINFO_BLOB, &trust) &&
	          SET(SSL_CTX_FUNCTION, on_context) && SET(SSL_CTX_DATA, f) && SET(RESOLVE, f->resolve) && SET(TIMEOUT_MS, (long)FETCH_TIME_MS) &&
	          SET(CONNECTTIMEOUT_MS, (long)FETCH_CONNECT_MS) && SET(MAXFILESIZE, (long)f->ask.most) && SET(WRITEFUNCTION, on_octets) && SET(WRITEDATA, f) &&
	          SET(ERRORBUFFER, f->error) && SET(PRIVATE, f) && SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) && SET(FORBID_REUSE, 1L) &&
	          SET(USERAGENT, "postrider") && SET(CAPATH, NULL);

	if (ok && f->ask.post_type) {
		snprintf(header, sizeof header, "Content-Type: %s", f->ask.post_type);
		f->headers = curl_slist_append(NULL, header);
		ok = f->headers && SET(POSTFIELDSIZE, (long)f->ask.post.n) && SET(POSTFIELDS, f->ask.post.p) && SET(HTTPHEADER, f->headers);
	}
#undef SET
	return ok;
}

struct fetch *fetch_start(struct fetch_room *room, const struct fetch_ask *ask)
{
	struct fetch *f = calloc(1, sizeof *f);

	if (!f)
		return NULL;
	f->room = room;
	f->ask = *ask;
	snprintf(f->host, sizeof f->host, "%s", ask->host);
	buf_init(&f->body, &alloc_libc, ask->most);
	f->easy = curl_easy_init();
	f->resolve = addresses(ask);
	f->next = room->waiting;
	room->waiting = f;
	if (!f->easy || !f->resolve || !set_up(f)) {
		fetch_free(f);
		return NULL;
	}
	loop_later(room->loop, &room->sweep);
	return f;
}

void fetch_cancel(struct fetch *f)
{
	fetch_free(f);
}

bool fetch_url_parts(const char *url, char *host, size_t room, unsigned *port)
{
	CURLU *u = curl_url();
	char *h = NULL, *p = NULL;
	uint64_t number = 0;
	bool ok = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK && curl_url_get(u, CURLUPART_HOST, &h, 0) == CURLUE_OK &&
	          curl_url_get(u, CURLUPART_PORT, &p, CURLU_DEFAULT_PORT) == CURLUE_OK && strlen(h) < room && view_to_u64(view_cstr(p), &number) &&
	          number >= 1 && number <= 65535;

	if (ok) {
		snprintf(host, room, "%s", h);
		*port = (unsigned)number;
	}
	curl_free(h);
	curl_free(p);
	curl_url_cleanup(u);
	return ok;
}

struct fetch_room *fetch_room_new(struct loop *loop, struct error *e)
{
	struct fetch_room *room = calloc(1, sizeof *room);

	if (!room || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(room->multi = curl_multi_init())) {
		free(room);
		error_set(e, ERROR_AGAIN, "libcurl cannot start");
		return NULL;
	}
	room->loop = loop;
	room->sweep.run = on_sweep;
	room->sweep.arg = room;
	loop_timer_init(&room->timer, loop, on_timer, room);
	curl_multi_setopt(room->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(room->multi, CURLMOPT_SOCKETDATA, room);
	curl_multi_setopt(room->multi, CURLMOPT_TIMERFUNCTION, on_time_wanted);
	curl_multi_setopt(room->multi, CURLMOPT_TIMERDATA, room);
	return room;
}

void fetch_room_free(struct fetch_room *room)
{
	if (!room)
		return;
	while (room->all)
		fetch_free(room->all);
	while (room->waiting)
		fetch_free(room->waiting);
	curl_multi_cleanup(room->multi);
	loop_later_cancel(room->loop, &room->sweep);
	loop_timer_stop(&room->timer);
	free(room);
}
