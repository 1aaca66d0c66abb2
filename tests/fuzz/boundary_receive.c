/* boundary_receive.c - one session of receive, attacked; see boundary.h.
 *
 * The fake queue judges what reaches it: under TLS nothing that was said in clear, and nothing at all in clear where the listener demands TLS.  Every stream begun is submitted or aborted.
 */
#include "boundary.h"

#include "../unit/receive/rig.h"
#include "conf/conf.h"
#include "receive/receive.h"

static struct {
	struct rig *rig;
	struct worker *worker;
	struct conf_listener *listener;
	struct channel *queue;
	int fd;
	bool over;
	struct wire_out out;
	unsigned open; /* streams */
	int64_t now;
	struct buf body;
} t;

static int64_t our_time(void *arg)
{
	(void)arg;
	return t.now;
}

static bool holds(struct view v, char c)
{
	return v.n && memchr(v.p, c, v.n);
}

static void hear(void);

static void judge_submit(const struct wire_BODY_SUBMIT *m)
{
	bool tls;

	hear();
	tls = t.out.records;
	assert_false(!tls && t.listener->set.tls != CONF_LISTENER_STARTTLS);
	if (!tls) /* octets meant for TLS may well be said to a session in clear, as clear text */
		return;
	assert_false(holds(m->prefix, 'J') || holds(m->sender, 'J') || holds(m->rcpts, 'J') || holds(m->envid, 'J'));
	assert_false(holds(buf_view(&t.body), 'J'));
}

static void on_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct wire_BODY_BEGIN begin;
	struct wire_BODY_BYTES bytes;
	struct wire_BODY_SUBMIT submit;

	(void)arg;
	(void)fd;
	if (type == WIRE_BODY_BEGIN) {
		assert_int_equal(wire_read_BODY_BEGIN(payload, &begin), 0);
		t.open++;
		buf_clear(&t.body);
	} else if (type == WIRE_BODY_BYTES) {
		assert_int_equal(wire_read_BODY_BYTES(payload, &bytes), 0);
		assert_true(buf_add(&t.body, bytes.bytes));
		wire_send_BODY_CREDIT(ch, &(struct wire_BODY_CREDIT){ .stream = bytes.stream, .bytes = (uint32_t)bytes.bytes.n });
	} else if (type == WIRE_BODY_SUBMIT) {
		assert_int_equal(wire_read_BODY_SUBMIT(payload, &submit), 0);
		judge_submit(&submit);
		t.open--;
		wire_send_BODY_DONE(ch, &(struct wire_BODY_DONE){ .stream = submit.stream, .status = WIRE_DONE_OK, .id = 1 });
	} else {
		assert_int_equal(type, WIRE_BODY_ABORT);
		t.open--;
	}
}

static void on_closed(void *arg, struct channel *ch)
{
	(void)arg;
	(void)ch;
	fail_msg("receive closed its channel to queue");
}

static const struct channel_handler queue_end = { on_frame, on_closed, NULL };

/* Once: the role, its loop, its channel to a queue, and a listener whose TLS is the null engine. */
static void make(void)
{
	struct channel *ends[2];

	t.rig = rig_new(&receive_role,
			"message_size_limit = 2000\n"
			"listener \"mx\" { address = {\"127.0.0.1:2525\"} tls = none recipients = 3 errors = 6 }\n"
			"domain \"sink.test\" { deliver = \"discard\" }\n",
			NULL);
	t.now = env_real.mono_ms(NULL) + 1;
	t.rig->env.mono_ms = our_time;
	t.worker = &((struct receive *)t.rig->role.state)->workers[0];
	t.listener = &t.rig->conf->listeners[0];
	t.listener->certificate_count = 1; /* configuration cannot say the null engine */
	t.worker->tls[0] = tls_null_new(TLS_NULL_FINE);
	buf_init(&t.body, &alloc_libc, 1 << 24);
	assert_int_equal(channel_pair(t.rig->loop, ends), 0);
	t.queue = ends[1];
	channel_set_handler(ends[1], &queue_end, NULL);
	receive_role.channel(&t.rig->role, ROLE_QUEUE, 0, 1, ends[0]);
}

static void hear(void)
{
	char bytes[4096];
	ssize_t n;

	while ((n = recv(t.fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
		wire_out_add(&t.out, view_of(bytes, (size_t)n));
	t.over = t.over || n == 0 || (n == -1 && errno != EAGAIN);
	assert_null(strchr(t.out.clear, 'J')); /* nobody is echoed */
	assert_null(strchr(t.out.inside, 'J'));
}

static void turn(void)
{
	for (unsigned i = 0; i < 3; i++)
		loop_turn(t.rig->loop, false);
	hear();
}

static void begin(unsigned options)
{
	static const unsigned offers[] = { CONF_LISTENER_STARTTLS, CONF_LISTENER_REQUIRED, CONF_LISTENER_IMPLICIT, CONF_LISTENER_STARTTLS };
	struct conf_listener_set *set;
	struct address peer = { 0 };
	int fds[2];

	if (!t.rig)
		make();
	set = &t.listener->set;
	set->tls = offers[options & 3];
	set->lmtp = options & 4;
	set->starttls_pending = options & 8 ? CONF_PENDING_DISCARD : CONF_PENDING_REFUSE;
	set->ehlo_after_tls = options & 16 ? CONF_EHLO_OPTIONAL : CONF_EHLO_REQUIRED;
	set->bare_newlines = options & 32 ? CONF_BARE_NORMALISE : CONF_BARE_REJECT;
	set->binarymime = options & 64;
	t.over = false;
	t.out = (struct wire_out){ 0 };
	t.out.records = set->tls == CONF_LISTENER_IMPLICIT;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	t.fd = fds[0];
	assert_true(address_parse_host(VIEW("192.0.2.7"), 4000, &peer));
	receive_session_open(t.worker, 0, fds[1], &peer);
	turn();
}

static void put(struct view v)
{
	if (send(t.fd, v.p, v.n, MSG_NOSIGNAL | MSG_DONTWAIT) == -1) { /* full, or gone: it is read first */
		turn();
		(void)!send(t.fd, v.p, v.n, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
}

static void hang_up(void)
{
	shutdown(t.fd, SHUT_WR);
}

static void pass(unsigned ms)
{
	t.now += ms;
	turn();
}

static void end(void)
{
	turn();
	close(t.fd);
	for (unsigned i = 0; t.worker->sessions && i < 50; i++) {
		t.now += CONN_LINGER_MS;
		loop_turn(t.rig->loop, false);
	}
	assert_int_equal(t.worker->sessions, 0);
	for (unsigned i = 0; t.open && i < 10; i++)
		loop_turn(t.rig->loop, false);
	assert_int_equal(t.open, 0);
	assert_int_equal(ftruncate(t.rig->log, 0), 0);
	lseek(t.rig->log, 0, SEEK_SET);
}

const struct side side_receive = { begin, put, hang_up, pass, turn, end };
