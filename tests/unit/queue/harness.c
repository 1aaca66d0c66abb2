/* harness.c - see harness.h. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static const char config[] = "hostname = \"mx.sink.test\"\nspool = \"/nowhere\"\ncontrol = \"/nowhere/c\"\n"
			     "listener \"mx\" { address = {\"127.0.0.1:2620\"} tls = none }\n"
			     "domain \"sink.test\" { deliver = \"discard\" }\n"
			     "domain \"local.test\" { deliver = \"maildir:/m/%{user}\" }\n"
			     "domain \"lmtp.test\" { deliver = \"lmtp://127.0.0.1:24\" }\n"
			     "domain \"relay.test\" { deliver = \"smtp://127.0.0.1:2650\" tls = may }\n"
			     "domain \"dead.test\" { deliver = \"smtp://127.0.0.1:2651\" tls = may }\n";

int harness_busy;

static int64_t clock_now(void *arg)
{
	return ((struct harness *)arg)->now;
}

static void fill_random(void *arg, void *to, size_t n)
{
	struct harness *h = arg;
	unsigned char *p = to;

	while (n--) {
		h->seed ^= h->seed << 13;
		h->seed ^= h->seed >> 7;
		h->seed ^= h->seed << 17;
		*p++ = (unsigned char)(h->seed >> 24);
	}
}

/* ---- the fake receive ---- */

static void receive_frame(void *arg, struct channel *c, uint32_t type, struct view payload, int fd)
{
	struct harness *h = arg;
	struct wire_BODY_DONE done;
	struct wire_BODY_CREDIT credit;

	(void)c;
	(void)fd;
	if (type == WIRE_BODY_DONE && !wire_read_BODY_DONE(payload, &done)) {
		if (h->done_n < GOT_MAX)
			h->done[h->done_n] = (struct done){ done.stream, done.id, done.status };
		h->done_n++;
	} else if (type == WIRE_BODY_CREDIT && !wire_read_BODY_CREDIT(payload, &credit))
		h->credit += credit.bytes;
	else
		assert_int_equal(type, WIRE_PRESSURE);
}

static void receive_closed(void *arg, struct channel *c)
{
	struct harness *h = arg;

	h->receive_closed = true;
	channel_free(c);
	h->receive = NULL;
}

/* ---- the fake send ---- */

static struct got *find_got(struct fake *f, uint64_t stream)
{
	unsigned i;

	for (i = 0; i < f->h->got_n && i < GOT_MAX; i++)
		if (f->h->got[i].peer == f && f->h->got[i].stream == stream)
			return &f->h->got[i];
	return NULL;
}

static void copy(char *to, size_t max, struct view v)
{
	assert_true(v.n < max);
	memcpy(to, v.p, v.n);
	to[v.n] = '\0';
}

static void begin_got(struct fake *f, const struct wire_DELIVER *m)
{
	struct harness *h = f->h;
	struct got *g = NULL;
	struct view list = m->rcpts;
	struct wire_rcpt r;
	unsigned i;

	if (h->got_n < GOT_MAX)
		g = &h->got[h->got_n];
	for (i = 0; !g && i < GOT_MAX; i++) /* the table is full: the oldest answered one is forgotten */
		if (h->got[i].answered) {
			buf_free(&h->got[i].body);
			g = &h->got[i];
		}
	assert_non_null(g);
	h->got_n++;
	memset(g, 0, sizeof *g);
	g->h = h;
	g->peer = f;
	g->stream = m->stream;
	g->id = m->id;
	g->size = m->size;
	g->attempts = m->attempts;
	g->flags = m->flags;
	g->ret = m->ret;
	copy(g->dest, sizeof g->dest, m->dest);
	copy(g->sender, sizeof g->sender, m->sender);
	copy(g->envid, sizeof g->envid, m->envid);
	while (wire_rcpt_next(&list, &r) == 1) {
		assert_true(g->n < 100);
		g->notify[g->n] = r.notify;
		copy(g->rcpts[g->n++], sizeof g->rcpts[0], r.address);
	}
	buf_init(&g->body, &alloc_libc, 8 << 20);
	f->deliveries++;
	if (++f->open > f->open_most)
		f->open_most = f->open;
}

static void take_frame(void *arg, struct channel *c, uint32_t type, struct view payload)
{
	struct fake *f = arg;
	struct wire_DELIVER deliver;
	struct wire_DELIVER_BYTES bytes;
	struct wire_DELIVER_CREDIT credit;
	struct got *g;

	if (type == WIRE_DELIVER) {
		assert_int_equal(wire_read_DELIVER(payload, &deliver), 0);
		begin_got(f, &deliver);
		return;
	}
	if (type == WIRE_DELIVER_ABORT)
		return;
	assert_int_equal(type, WIRE_DELIVER_BYTES);
	assert_int_equal(wire_read_DELIVER_BYTES(payload, &bytes), 0);
	g = find_got(f, bytes.stream);
	assert_non_null(g);
	if (g->answered)
		return;
	assert_false(g->last);
	assert_true(bytes.bytes.n <= WIRE_BODY_FRAME);
	assert_true(buf_add(&g->body, bytes.bytes));
	if (bytes.last) {
		assert_int_equal(buf_len(&g->body), g->size);
		g->last = true;
		if (f->script)
			f->script(g);
	} else if (!f->no_credit) {
		credit = (struct wire_DELIVER_CREDIT){ .stream = g->stream, .bytes = (uint32_t)bytes.bytes.n };
		wire_send_DELIVER_CREDIT(c, &credit);
	}
}

static void fake_frame(void *arg, struct channel *c, uint32_t type, struct view payload, int fd)
{
	(void)fd;
	harness_busy++;
	take_frame(arg, c, type, payload);
	harness_busy--;
}

static void fake_closed(void *arg, struct channel *c)
{
	struct fake *f = arg;

	f->closed = true;
	f->channel = NULL;
	channel_free(c);
}

struct buf *answer_list(struct buf *b)
{
	buf_init(b, &alloc_libc, 1 << 20);
	return b;
}

void answer_list_send(struct got *g, struct buf *list, bool host_failed, bool maybe, bool dsn)
{
	struct wire_OUTCOME m = { .stream = g->stream,
				  .host_failed = host_failed,
				  .maybe_delivered = maybe,
				  .dsn = dsn,
				  .tls = VIEW("TLSv1.3"),
				  .results = buf_view(list) };

	assert_false(g->answered);
	g->answered = true;
	g->peer->open--;
	if (g->peer->channel)
		wire_send_OUTCOME(g->peer->channel, &m);
	buf_free(list);
}

void answer_all(struct got *g, uint8_t kind, uint16_t code, const char *text, bool host_failed)
{
	struct wire_result r = { .kind = kind,
				 .code = code,
				 .text = view_cstr(text),
				 .remote = VIEW("next.test[192.0.2.1]:25"),
				 .enhanced = { (uint16_t)(kind == WIRE_DELIVERED ? 2
							  : kind == WIRE_FAILED  ? 5
										 : 4),
					       1, 1 },
				 .local = code == 0 };
	struct buf list;
	uint32_t i;

	answer_list(&list);
	for (i = 0; i < g->n; i++)
		assert_true(wire_result_add(&list, &r));
	answer_list_send(g, &list, host_failed, false, false);
}

void say_ok(struct got *g)
{
	answer_all(g, WIRE_DELIVERED, 250, "ok", false);
}
void say_temporary(struct got *g)
{
	answer_all(g, WIRE_DEFERRED, 451, "come back later", false);
}
void say_permanent(struct got *g)
{
	answer_all(g, WIRE_FAILED, 550, "no such user", false);
}
void say_host_failed(struct got *g)
{
	answer_all(g, WIRE_DEFERRED, 0, "connection refused", true);
}

/* ---- making and breaking ---- */

static void to_super(struct role *r, uint32_t type, struct view payload)
{
	struct harness *h = r->runner;
	struct wire_ACCUSED accused;
	struct wire_CONTROL m;

	if (type == WIRE_ACCUSED) {
		assert_int_equal(wire_read_ACCUSED(payload, &accused), 0);
		h->accused = accused.role;
		return;
	}
	assert_int_equal(type, WIRE_CONTROL);
	assert_int_equal(wire_read_CONTROL(payload, &m), 0);
	h->control_command = m.command;
	h->control_stream = m.stream;
}

static void drained(struct role *r)
{
	((struct harness *)r->runner)->drained = true;
}

void harness_receive(struct harness *h)
{
	static const struct channel_handler handler = { receive_frame, receive_closed, NULL };
	struct channel *ends[2];

	assert_int_equal(channel_pair(h->loop, ends), 0);
	h->receive = ends[0];
	h->receive_closed = false;
	channel_set_handler(ends[0], &handler, h);
	queue_role.channel(&h->role, ROLE_RECEIVE, 0, 1, ends[1]);
}

void harness_connect(struct harness *h, struct fake *f, enum role_kind kind, uint32_t generation, script *s)
{
	static const struct channel_handler handler = { fake_frame, fake_closed, NULL };
	struct channel *ends[2];

	assert_int_equal(channel_pair(h->loop, ends), 0);
	*f = (struct fake){ .h = h, .kind = kind, .channel = ends[0], .script = s };
	channel_set_handler(ends[0], &handler, f);
	queue_role.channel(&h->role, kind, 0, generation, ends[1]);
}

static struct harness *make(const char *more, int extra_fd, const char *path)
{
	struct harness *h = calloc(1, sizeof *h);
	struct spool_recovery found;
	struct spool_options o;
	struct spool *spool;
	struct error e;
	char text[4096];

	assert_non_null(h);
	h->now = NOW0;
	h->seed = 88172645463325252u;
	h->env = env_real;
	if (!path) {
		h->env.wall_ms = h->env.mono_ms = clock_now;
		h->env.random = fill_random;
		h->env.arg = h;
	}
	h->next_stream = 1;
	snprintf(text, sizeof text, "%s%s", config, more ? more : "");
	if (conf_parse(&h->conf, view_cstr(text), "test", &e)) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	h->loop = loop_new(&h->env);
	h->log = memfd_create("log", MFD_CLOEXEC);
	h->events = events_new(&h->env, "queue", h->log, EVENT_DEBUG, h->counters);
	h->role = (struct role){ .kind = ROLE_QUEUE,
				 .ops = &queue_role,
				 .conf = h->conf,
				 .env = &h->env,
				 .events = h->events,
				 .loop = h->loop,
				 .single = !path,
				 .extra_fd = extra_fd,
				 .to_super = to_super,
				 .drained = drained,
				 .runner = h };
	h->q = queue_make(&h->role, &e);
	assert_non_null(h->q);
	queue_spool_options(h->q, &o);
	o.path = path;
	assert_int_equal(path ? spool_open(&spool, &o, &found, &e) : spool_open_mem(&spool, &o, &e), 0);
	assert_int_equal(queue_begin(h->q, spool, &e), 0);
	harness_receive(h);
	return h;
}

struct harness *harness_new_with(const char *more, int extra_fd)
{
	return make(more, extra_fd, NULL);
}

struct harness *harness_new(const char *more)
{
	return make(more, -1, NULL);
}

struct harness *harness_new_disk(const char *more, const char *path)
{
	return make(more, -1, path);
}

void harness_free(struct harness *h)
{
	unsigned i;

	queue_role.stop(&h->role);
	channel_free(h->receive);
	if (h->send.channel)
		channel_free(h->send.channel);
	if (h->send2.channel)
		channel_free(h->send2.channel);
	if (h->local.channel)
		channel_free(h->local.channel);
	for (i = 0; i < GOT_MAX; i++)
		buf_free(&h->got[i].body);
	events_free(h->events);
	close(h->log);
	loop_free(h->loop);
	conf_free(h->conf);
	free(h);
}

void harness_run(struct harness *h)
{
	int i;

	for (i = 0; i < 40; i++)
		loop_turn(h->loop, false);
}

void harness_pass(struct harness *h, int64_t ms)
{
	harness_run(h);
	while (ms > 0) {
		int64_t step = ms < 60000 ? ms : 60000;

		h->now += step;
		ms -= step;
		harness_run(h);
	}
}

/* ---- submitting ---- */

void send_begin(struct harness *h, uint64_t stream)
{
	struct wire_BODY_BEGIN m = { .stream = stream };

	assert_true(wire_send_BODY_BEGIN(h->receive, &m));
}

void send_bytes(struct harness *h, uint64_t stream, const char *p, size_t n)
{
	struct wire_BODY_BYTES m = { .stream = stream, .bytes = view_of(p, n) };

	assert_true(wire_send_BODY_BYTES(h->receive, &m));
}

void send_submit(struct harness *h, uint64_t stream, const struct submit *s)
{
	struct wire_BODY_SUBMIT m = { .stream = stream,
				      .prefix = view_cstr(s->prefix ? s->prefix : "Received: by us\r\n"),
				      .sender = view_cstr(s->sender),
				      .ret = s->ret ? s->ret : 1,
				      .envid = view_cstr(s->envid),
				      .flags = s->flags,
				      .session = 77,
				      .client = VIEW("c.test[192.0.2.7]") };
	struct buf list;
	unsigned i;

	buf_init(&list, &alloc_libc, 1 << 20);
	for (i = 0; s->rcpts[i]; i++) {
		struct wire_rcpt r = { .address = view_cstr(s->rcpts[i]),
				       .notify = s->notify,
				       .orcpt_type = view_cstr(s->orcpt ? "rfc822" : ""),
				       .orcpt = view_cstr(s->orcpt) };

		assert_true(wire_rcpt_add(&list, &r));
	}
	m.rcpts = buf_view(&list);
	wire_send_BODY_SUBMIT(h->receive, &m);
	buf_free(&list);
}

uint64_t submit(struct harness *h, const struct submit *s)
{
	const char *body = s->body ? s->body : "Subject: x\r\n\r\nhello\r\n";
	uint64_t stream = h->next_stream++;

	send_begin(h, stream);
	send_bytes(h, stream, body, strlen(body));
	send_submit(h, stream, s);
	return stream;
}

uint64_t submit_done(struct harness *h, const struct submit *s, uint8_t status)
{
	uint64_t stream = submit(h, s);
	unsigned before = h->done_n;

	harness_run(h);
	assert_int_equal(h->done_n, before + 1);
	assert_int_equal(h->done[before].stream, stream);
	assert_int_equal(h->done[before].status, status);
	return h->done[before].id;
}

/* ---- judging ---- */

unsigned logged(struct harness *h, const char *event, const char *text)
{
	ssize_t n = pread(h->log, h->log_text, sizeof h->log_text - 1, 0);
	char *line, *save = NULL, key[100];
	unsigned count = 0;

	h->log_text[n > 0 ? n : 0] = '\0';
	snprintf(key, sizeof key, "event=%s ", event);
	for (line = strtok_r(h->log_text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		count += strstr(line, key) && (!text || strstr(line, text));
	return count;
}

struct spool_stats stats(struct harness *h)
{
	struct spool_stats s;

	spool_get_stats(h->q->spool, &s);
	return s;
}

struct view got_body(const struct got *g)
{
	return buf_view(&g->body);
}
