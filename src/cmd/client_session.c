/* client_session.c - one connection after the other until the message is settled; see client.h.
 *
 * Addresses are tried in the order of getaddrinfo until one is connected.  Under `may` a handshake that fails is
 * followed by one more connection in clear, to the same address; under `encrypt` and `verify` never (design.md 1.3).
 * Once the server was told of the message nothing is tried again: what came of it is reported.
 */
#include "cmd/client.h"
#include "cmd/cmd.h"
#include "send/send.h"

#include <stdarg.h>
#include <unistd.h>

static void dial(struct client_run *r);
static void run(struct client_run *r);

static uint64_t now_of(const struct client_run *r)
{
	return loop_now(r->loop);
}

/* ---- ends ---- */

/* conn_free may be called within any of its callbacks. */
static void hang_up(struct client_run *r)
{
	loop_timer_stop(&r->timer);
	dial_cancel(&r->dial);
	if (r->conn_made)
		conn_free(&r->conn);
	r->conn_made = false;
	psmtp_client_free(r->smtp);
	r->smtp = NULL;
	send_auth_free(r->auth);
	r->auth = NULL;
	r->running = false;
}

static void finish(struct client_run *r)
{
	r->over = true;
	hang_up(r);
	loop_timer_stop(&r->whole);
	loop_stop(r->loop);
}

static void give_up(struct client_run *r, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void give_up(struct client_run *r, int status, const char *fmt, ...)
{
	va_list ap;

	if (!r->settled) {
		r->status = status;
		va_start(ap, fmt);
		vsnprintf(r->why, sizeof r->why, fmt, ap);
		va_end(ap);
	}
	finish(r);
}

/* The same address once more: in clear, or with another mechanism. */
static void again(struct client_run *r)
{
	hang_up(r);
	dial(r);
}

/* ---- the message ---- */

static void fill(struct client_run *r)
{
	size_t n;

	while (r->smtp && r->body_wanted) {
		struct view v = view_slice(r->content, r->given, r->content.n);

		n = psmtp_client_body(r->smtp, v.p, v.n, true, now_of(r));
		r->given += n;
		if (n == v.n)
			r->body_wanted = false;
		if (n == 0)
			return;
	}
}

static void keep_result(struct client_run *r, const struct psmtp_client_event *ev)
{
	struct client_result *to = &r->results[ev->rcpt_index];
	const uint16_t *e = ev->reply.enhanced;
	char enhanced[24] = "";

	if (e[0])
		snprintf(enhanced, sizeof enhanced, "%u.%u.%u ", e[0], e[1], e[2]);
	to->code = ev->reply.code;
	to->local = ev->local;
	snprintf(to->text, sizeof to->text, "%s%.*s", enhanced, (int)(ev->reply.text.n < 512 ? ev->reply.text.n : 512),
		 ev->reply.text.n ? ev->reply.text.p : "");
}

/* ---- faults ---- */

static bool offers(struct view list, const char *word)
{
	while (list.n) {
		size_t end = view_find(list, ' ');
		if (view_eq_nocase(view_slice(list, 0, end), view_cstr(word)))
			return true;
		list = view_slice(list, end + 1, list.n);
	}
	return false;
}

static int status_of(const struct psmtp_client_event *ev)
{
	bool auth = ev->reason && strncmp(ev->reason, "auth", 4) == 0;

	switch (ev->fault) {
	case PSMTP_FAULT_TEMPORARY: return auth && ev->reply.code / 100 == 5 ? EX_NOPERM : EX_TEMPFAIL;
	case PSMTP_FAULT_PERMANENT: return EX_UNAVAILABLE;
	case PSMTP_FAULT_PROTOCOL: return EX_PROTOCOL;
	case PSMTP_FAULT_TLS:
	case PSMTP_FAULT_POLICY: break;
	}
	return EX_NOPERM; /* what was asked for forbids to go on */
}

static void on_fault(struct client_run *r, const struct psmtp_client_event *ev)
{
	struct psmtp_client_facts f;
	const char *why;

	if (ev->fault == PSMTP_FAULT_TLS && r->a->tls == CONF_TLS_MAY && !r->a->implicit && !r->in_clear) {
		client_trace_note(&r->trace, "TLS failed (%s): once more, in clear, as --tls may allows", r->tls);
		r->in_clear = true;
		again(r);
		return;
	}
	psmtp_client_get_facts(r->smtp, &f);
	if (r->credentials.p && !r->login && f.tls && !offers(send_view(f.auth), "PLAIN") &&
	    offers(send_view(f.auth), "LOGIN")) {
		client_trace_note(&r->trace, "AUTH PLAIN is not offered: once more, with LOGIN");
		r->login = true;
		again(r);
		return;
	}
	r->maybe = ev->maybe_delivered;
	why = ev->fault == PSMTP_FAULT_TLS && r->tls[0] ? r->tls : ev->reason ? ev->reason : "failed";
	give_up(r, status_of(ev), "%s%s%.*s", why, ev->reply.text.n ? ": " : "",
		(int)(ev->reply.text.n < 400 ? ev->reply.text.n : 400), ev->reply.text.n ? ev->reply.text.p : "");
}

/* ---- events of the protocol ---- */

static void start_tls(struct client_run *r)
{
	r->check = (struct tls_peer_check){
		.how = r->a->tls == CONF_TLS_VERIFY ? TLS_CHECK_CHAIN_AND_NAME : TLS_CHECK_NONE, .name = r->a->host
	};
	r->tls_broke = true; /* until it is up */
	if (conn_start_tls(&r->conn, r->tls_context, false, &r->check) == -1)
		psmtp_client_tls_failed(r->smtp, now_of(r));
}

static void answer_auth(struct client_run *r, struct view challenge)
{
	struct view answer = VIEW("");
	struct error e = { .text = "the exchange went wrong" };

	r->trace.secret = true;
	if (!r->auth) {
		r->auth = send_auth_new(r->login ? "LOGIN" : "PLAIN", r->credentials, &e);
		if (r->auth && r->login) { /* not every server takes LOGIN's name before it has asked for it */
			psmtp_client_auth_answer(r->smtp, (struct psmtp_view){ "", 0 }, false, now_of(r));
			return;
		}
	}
	if (!r->auth || send_auth_step(r->auth, challenge, &answer) == -1) {
		client_trace_note(&r->trace, "AUTH: %s", e.text);
		psmtp_client_auth_answer(r->smtp, (struct psmtp_view){ "", 0 }, true, now_of(r));
		return;
	}
	psmtp_client_auth_answer(r->smtp, (struct psmtp_view){ answer.p, answer.n }, false, now_of(r));
}

static void on_ready(struct client_run *r)
{
	r->trace.secret = false;
	if (!r->trace.tls)
		snprintf(r->tls, sizeof r->tls, "clear");
	if (r->settled)
		psmtp_client_quit(r->smtp, now_of(r));
	else if (r->message.rcpts == NULL || psmtp_client_send(r->smtp, &r->message, now_of(r)) == -1)
		give_up(r, EX_SOFTWARE, "the message cannot be given to the protocol");
}

static void handle(struct client_run *r, const struct psmtp_client_event *ev)
{
	switch (ev->type) {
	case PSMTP_CLIENT_READY: on_ready(r); break;
	case PSMTP_CLIENT_TLS_START: start_tls(r); break;
	case PSMTP_CLIENT_TLS_REFUSED:
		client_trace_note(&r->trace, "going on in clear, as --tls may allows: %s",
				  ev->reason ? ev->reason : "STARTTLS was refused");
		break;
	case PSMTP_CLIENT_AUTH: answer_auth(r, send_view(ev->data)); break;
	case PSMTP_CLIENT_RCPT: break; /* a refusal has its RESULT, an acceptance means nothing yet */
	case PSMTP_CLIENT_BODY:
		client_trace_body(&r->trace);
		r->body_wanted = true;
		break;
	case PSMTP_CLIENT_RESULT: keep_result(r, ev); break;
	case PSMTP_CLIENT_DONE:
		r->settled = true;
		r->body_wanted = false;
		break;
	case PSMTP_CLIENT_FAILED: on_fault(r, ev); break;
	case PSMTP_CLIENT_CLOSE:
		r->left = true;
		loop_timer_stop(&r->timer);
		conn_close(&r->conn);
		break;
	}
}

static void set_timer(struct client_run *r)
{
	uint64_t at = psmtp_client_deadline(r->smtp);

	if (at == UINT64_MAX)
		loop_timer_stop(&r->timer);
	else
		loop_timer_set(&r->timer, at);
}

static void run(struct client_run *r)
{
	struct psmtp_client_event ev;
	const struct psmtp_client *mine = r->smtp;

	if (r->running || r->left || r->over || !r->smtp)
		return;
	r->running = true;
	while (!r->over && !r->left && r->smtp == mine) {
		if (!psmtp_client_next(r->smtp, &ev, now_of(r))) {
			fill(r);
			if (!psmtp_client_next(r->smtp, &ev, now_of(r)))
				break;
		}
		handle(r, &ev);
	}
	if (r->over || r->smtp != mine)
		return; /* hang_up has set running */
	r->running = false;
	if (r->left)
		return;
	set_timer(r);
	conn_resume(&r->conn);
	conn_pump(&r->conn);
}

/* ---- the connection's callbacks ---- */

static size_t on_input(void *arg, unsigned epoch, const void *bytes, size_t n)
{
	struct client_run *r = arg;
	size_t took = psmtp_client_feed(r->smtp, epoch, bytes, n, now_of(r));

	client_trace_input(&r->trace, view_of(bytes, took));
	return took;
}

static void on_input_done(void *arg)
{
	run(arg);
}

static struct view on_output(void *arg)
{
	struct client_run *r = arg;

	fill(r);
	return send_view(psmtp_client_output(r->smtp));
}

static void on_sent(void *arg, size_t n)
{
	struct client_run *r = arg;

	client_trace_output(&r->trace, view_slice(send_view(psmtp_client_output(r->smtp)), 0, n));
	psmtp_client_sent(r->smtp, n, now_of(r));
	if (!r->left)
		set_timer(r);
}

static void on_peer_closed(void *arg)
{
	struct client_run *r = arg;

	client_trace_note(&r->trace, "the server ended the connection");
	if (r->left) {
		finish(r);
		return;
	}
	if (r->tls_broke) {
		r->tls_broke = false;
		snprintf(r->tls, sizeof r->tls, "the server ended the connection within the handshake");
		psmtp_client_tls_failed(r->smtp, now_of(r));
	} else {
		psmtp_client_peer_closed(r->smtp, now_of(r));
	}
	run(r);
}

static void on_tls_up(void *arg, const struct tls_facts *f)
{
	struct client_run *r = arg;
	struct psmtp_tls_facts facts = { { f->protocol.p, f->protocol.n }, { f->cipher.p, f->cipher.n } };

	r->tls_broke = false;
	r->trace.tls = true;
	snprintf(r->tls, sizeof r->tls, "%.*s %.*s, certificate %s%.*s", VIEW_ARGS(f->protocol), VIEW_ARGS(f->cipher),
		 f->verified ? "" : "not verified: ", VIEW_ARGS(f->verify));
	client_trace_note(&r->trace, "TLS is up: %s; peer %.*s", r->tls, VIEW_ARGS(f->peer_name));
	psmtp_client_tls_up(r->smtp, &facts, now_of(r));
	run(r);
}

static void on_tls_failed(void *arg, const char *why)
{
	struct client_run *r = arg;

	r->tls_broke = false;
	snprintf(r->tls, sizeof r->tls, "%s", why);
	client_trace_note(&r->trace, "TLS failed: %s", why);
	psmtp_client_tls_failed(r->smtp, now_of(r));
	run(r);
}

static void on_failed(void *arg, const struct error *e)
{
	struct client_run *r = arg;

	client_trace_note(&r->trace, "%s", e->text);
	on_peer_closed(r);
}

static void on_closed(void *arg)
{
	finish(arg);
}

static const struct conn_ops conn_ops = {
	.input = on_input,
	.input_done = on_input_done,
	.output = on_output,
	.sent = on_sent,
	.peer_closed = on_peer_closed,
	.tls_up = on_tls_up,
	.tls_failed = on_tls_failed,
	.failed = on_failed,
	.closed = on_closed,
};

/* ---- time ---- */

static void on_timer(void *arg)
{
	struct client_run *r = arg;

	psmtp_client_timeout(r->smtp, now_of(r));
	run(r);
}

static void on_whole(void *arg)
{
	struct client_run *r = arg;

	r->maybe = r->smtp && r->given == r->content.n && r->content.n && !r->body_wanted;
	give_up(r, EX_TEMPFAIL, "not through within the %llu s of --timeout",
		(unsigned long long)r->a->timeout_ms / 1000);
}

/* ---- dialling ---- */

static enum psmtp_client_tls mode_of(const struct client_run *r)
{
	if (r->a->implicit)
		return PSMTP_CLIENT_TLS_IMPLICIT;
	switch (r->a->tls) {
	case CONF_TLS_NONE: return PSMTP_CLIENT_TLS_NONE;
	case CONF_TLS_MAY: return r->in_clear ? PSMTP_CLIENT_TLS_NONE : PSMTP_CLIENT_TLS_MAY;
	case CONF_TLS_ENCRYPT:
	case CONF_TLS_VERIFY: break;
	}
	return PSMTP_CLIENT_TLS_MUST;
}

/* RFC 5321 4.1.4: a host without a proper name says its address. */
static struct psmtp_view name_of(const struct client_run *r, int fd, char host[CLIENT_HOST_MAX],
				 char literal[ADDRESS_TEXT])
{
	struct sockaddr_storage sa;
	socklen_t n = sizeof sa;
	struct psmtp_view name;

	if (r->a->helo)
		return (struct psmtp_view){ r->a->helo, strlen(r->a->helo) };
	if (gethostname(host, CLIENT_HOST_MAX) == 0) {
		host[CLIENT_HOST_MAX - 1] = 0;
		name = (struct psmtp_view){ host, strlen(host) };
		if (strchr(host, '.') && psmtp_domain_valid(name, false))
			return name;
	}
	if (getsockname(fd, (struct sockaddr *)&sa, &n) == -1 || sa.ss_family == AF_UNIX)
		return (struct psmtp_view){ "localhost", 9 };
	address_literal((struct sockaddr *)&sa, literal);
	return (struct psmtp_view){ literal, strlen(literal) };
}

static bool make_client(struct client_run *r, int fd)
{
	char host[CLIENT_HOST_MAX], literal[ADDRESS_TEXT];
	const struct psmtp_allocator memory = { alloc_libc.resize, alloc_libc.arg };
	struct psmtp_client_options o = { .hello = name_of(r, fd, host, literal),
					  .lmtp = r->a->lmtp,
					  .tls = mode_of(r) };

	if (r->credentials.p)
		o.auth_mechanism = r->login ? (struct psmtp_view){ "LOGIN", 5 } : (struct psmtp_view){ "PLAIN", 5 };
	r->smtp = psmtp_client_new(&o, &memory, now_of(r));
	return r->smtp != NULL;
}

static void on_dialled(void *arg, int fd, const struct error *e)
{
	struct client_run *r = arg;
	struct error opened = { .text = "no memory" };

	if (fd == -1 && r->at && r->at->ai_next) {
		client_trace_note(&r->trace, "%s", e->text);
		r->at = r->at->ai_next;
		dial(r);
		return;
	}
	if (fd == -1) {
		give_up(r, EX_TEMPFAIL, "%s", e->text);
		return;
	}
	client_trace_init(&r->trace, r->trace.to);
	client_trace_note(&r->trace, "connected to %s", r->a->host);
	conn_init(&r->conn, r->loop, &alloc_libc, &conn_ops, r);
	r->conn_made = true;
	if (!make_client(r, fd)) {
		close(fd);
		give_up(r, EX_OSERR, "no memory");
	} else if (conn_open(&r->conn, fd, &opened) == -1) {
		give_up(r, EX_OSERR, "%s", opened.text);
	} else {
		if (r->a->implicit)
			start_tls(r); /* RFC 8314 section 3.3: the greeting comes inside */
		run(r);
	}
}

static void dial(struct client_run *r)
{
	if (!r->at)
		dial_start_unix(&r->dial, r->loop, view_cstr(r->a->host), CLIENT_CONNECT_MS, on_dialled, r);
	else
		dial_start(&r->dial, r->loop, r->at->ai_addr, r->at->ai_addrlen, NULL, CLIENT_CONNECT_MS, on_dialled,
			   r);
}

/* ---- the whole ---- */

/* 0, or an exit status. */
static int look_up(struct client_run *r)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
	const struct addrinfo literal = { .ai_family = AF_UNSPEC,
					  .ai_socktype = SOCK_STREAM,
					  .ai_flags = AI_NUMERICHOST };
	char port[8];
	int e;

	if (r->a->host[0] == '/')
		return 0;
	snprintf(port, sizeof port, "%u", r->a->port);
	e = getaddrinfo(r->a->host, port, &literal,
			&r->addresses); /* AI_ADDRCONFIG would hide ::1 where only loopback is up */
	if (e == EAI_NONAME)
		e = getaddrinfo(r->a->host, port, &hints, &r->addresses);
	if (e == 0) {
		r->at = r->addresses;
		return 0;
	}
	snprintf(r->why, sizeof r->why, "%s: %s", r->a->host, gai_strerror(e));
	r->status = e == EAI_AGAIN || e == EAI_MEMORY || e == EAI_SYSTEM ? EX_TEMPFAIL : EX_NOHOST;
	return r->status;
}

void client_session(struct client_run *r)
{
	r->loop = loop_new(&env_real);
	if (!r->loop) {
		r->status = EX_OSERR;
		snprintf(r->why, sizeof r->why, "no event loop: out of memory or descriptors");
		return;
	}
	loop_timer_init(&r->timer, r->loop, on_timer, r);
	loop_timer_init(&r->whole, r->loop, on_whole, r);
	client_trace_init(&r->trace, r->a->verbose ? stderr : NULL);
	if (r->a->timeout_ms)
		loop_timer_set(&r->whole, loop_now(r->loop) + r->a->timeout_ms);
	if (look_up(r) == 0) {
		dial(r);
		loop_run(r->loop);
	}
	hang_up(r);
	loop_timer_stop(&r->whole);
	if (r->addresses)
		freeaddrinfo(r->addresses);
	loop_free(r->loop);
}
