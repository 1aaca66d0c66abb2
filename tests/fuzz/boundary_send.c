/* boundary_send.c - one connection of send with one delivery, attacked by its next hop; see boundary.h.
 *
 * Judged: one outcome for the delivery, always; where TLS is owed nothing of the envelope, no AUTH and no body leaves in
 * clear; delivered only when the whole body had left; under TLS the words of the outcome are none that came in clear.
 */
#include "boundary.h"

#include "../unit/receive/rig.h"
#include "send/send.h"

#include <netinet/in.h>

#define BODY     "Subject: x\r\n\r\n.dot\r\nlast line of the body\r\n"
#define LAST     "last line of the body\r\n"
#define HOUR     3600000

static struct {
	struct rig *rig;
	struct sender *sender;
	struct channel *queue;
	int listening, fd;
	uint16_t port;
	struct wire_out out;
	bool owed, come, hung_up;
	uint64_t stream;
	int64_t now;
} t = { .fd = -1 };

static int64_t our_time(void *arg)
{
	(void)arg;
	return t.now;
}

static void judge_outcome(const struct wire_OUTCOME *m)
{
	struct view list = m->results;
	bool tls = m->tls.n && !view_starts_nocase(m->tls, VIEW("clear"));
	struct wire_result r;

	while (wire_result_next(&list, &r) == 1) {
		assert_in_range(r.kind, WIRE_DELIVERED, WIRE_DEFERRED);
		if (r.kind != WIRE_DELIVERED)
			continue;
		assert_false(t.owed && !tls);
		assert_non_null(strstr(tls ? t.out.inside : t.out.clear, LAST));
		assert_false(tls && r.text.n && memchr(r.text.p, 'J', r.text.n));
	}
}

static void on_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct wire_OUTCOME m;

	(void)arg;
	(void)ch;
	(void)fd;
	if (type == WIRE_DELIVER_CREDIT)
		return;
	assert_int_equal(type, WIRE_OUTCOME);
	assert_int_equal(wire_read_OUTCOME(payload, &m), 0);
	assert_true(m.stream == t.stream && !t.come);
	t.come = true;
	judge_outcome(&m);
}

static void on_closed(void *arg, struct channel *ch)
{
	(void)arg;
	(void)ch;
	fail_msg("send closed its channel to queue");
}

static const struct channel_handler queue_end = { on_frame, on_closed, NULL };

static void make(void)
{
	struct channel *ends[2];

	t.rig = rig_new(&send_role, "listener \"mx\" { address = {\"127.0.0.1:2525\"} tls = none }\n", NULL);
	t.now = env_real.mono_ms(NULL) + 1;
	t.rig->env.mono_ms = our_time;
	t.sender = &((struct send_room *)t.rig->role.state)->senders[0];
	tls_context_free(t.sender->tls);
	t.sender->tls = tls_null_new(TLS_NULL_FINE);
	assert_int_equal(channel_pair(t.rig->loop, ends), 0);
	t.queue = ends[1];
	channel_set_handler(ends[1], &queue_end, NULL);
	send_role.channel(&t.rig->role, ROLE_QUEUE, 0, 1, ends[0]);
	t.listening = rig_listen(&t.port);
}

static void hear(void)
{
	char bytes[4096];
	ssize_t n;

	if (t.fd == -1)
		return;
	while ((n = recv(t.fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
		wire_out_add(&t.out, view_of(bytes, (size_t)n));
	if (t.owed)
		assert_true(!strstr(t.out.clear, "MAIL") && !strstr(t.out.clear, "RCPT") && !strstr(t.out.clear, "AUTH") &&
			    !strstr(t.out.clear, "BDAT") && !strstr(t.out.clear, "DATA") && !strstr(t.out.clear, "dot"));
}

/* The connection is made in the kernel; no more than one is served. */
static void take(void)
{
	const struct linger cut = { 1, 0 };

	if (t.fd != -1)
		return;
	t.fd = accept(t.listening, NULL, NULL);
	if (t.fd == -1)
		return;
	fcntl(t.fd, F_SETFL, O_NONBLOCK);
	setsockopt(t.fd, SOL_SOCKET, SO_LINGER, &cut, sizeof cut); /* no TIME_WAIT: there are thousands of inputs */
}

static void turn(void)
{
	for (unsigned i = 0; i < 3; i++)
		loop_turn(t.rig->loop, false);
	take();
	hear();
}

static void begin(unsigned options)
{
	static const char *const levels[] = { ";tls=encrypt", "", ";tls=verify", ";tls=none" };
	struct wire_DELIVER m = { .id = 1, .sender = VIEW("sender@a.test"), .size = strlen(BODY) };
	char dest[100];
	struct buf list;

	if (!t.rig)
		make();
	t.out = (struct wire_out){ 0 };
	t.come = t.hung_up = false;
	t.owed = !(options & 1);
	m.stream = ++t.stream;
	snprintf(dest, sizeof dest, "%s:127.0.0.1:%u%s", options & 4 ? "lmtp" : "smtp", t.port, levels[options & 3]);
	m.dest = view_cstr(dest);
	buf_init(&list, &alloc_libc, 4096);
	for (unsigned i = 0; i < 1 + (options >> 3 & 1); i++)
		assert_true(wire_rcpt_add(&list, &(struct wire_rcpt){ .address = i ? VIEW("two@b.test") : VIEW("one@b.test") }));
	m.rcpts = buf_view(&list);
	assert_true(wire_send_DELIVER(t.queue, &m));
	buf_free(&list);
	assert_true(wire_send_DELIVER_BYTES(t.queue, &(struct wire_DELIVER_BYTES){ .stream = m.stream, .last = true, .bytes = VIEW(BODY) }));
	for (unsigned i = 0; t.fd == -1 && i < 50; i++)
		turn();
	assert_true(t.fd != -1);
}

static void put(struct view v)
{
	if (t.hung_up)
		return;
	if (send(t.fd, v.p, v.n, MSG_NOSIGNAL | MSG_DONTWAIT) == -1) {
		turn();
		(void)!send(t.fd, v.p, v.n, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
}

static void hang_up(void)
{
	shutdown(t.fd, SHUT_WR);
	t.hung_up = true;
}

static void pass(unsigned ms)
{
	t.now += ms;
	turn();
}

/* Nobody serves it any more: what is left must be decided in its time, and nothing of the target stays. */
static void end(void)
{
	turn();
	close(t.fd);
	for (unsigned i = 0; (!t.come || t.sender->link_count) && i < 200; i++) {
		int next = accept(t.listening, NULL, NULL);

		if (next != -1)
			close(next);
		t.now += HOUR / 60;
		loop_turn(t.rig->loop, false);
	}
	t.fd = -1;
	assert_true(t.come);
	assert_int_equal(t.sender->link_count, 0);
	assert_int_equal(t.sender->delivery_count, 0);
	send_target_sweep(t.sender, 0);
	assert_int_equal(t.sender->target_count, 0);
	assert_int_equal(ftruncate(t.rig->log, 0), 0);
	lseek(t.rig->log, 0, SEEK_SET);
}

const struct side side_send = { begin, put, hang_up, pass, turn, end };
