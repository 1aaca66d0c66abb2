/* broker.c - tests of local/broker.c: mailboxes of several owners, workers at the other end of channels in memory.
 *
 * The test needs no root: deliveries are made by hand with the owners it wants, and handed to the broker. */
#include "../receive/rig.h"
#include "local/local.h"

#define WORKERS 3

struct worker_end {
	struct world *w;
	uint32_t uid;
	struct channel *channel;
	uint64_t stream, got;
	unsigned delivers, rcpts, aborts;
	bool last, closed;
};

struct world {
	struct rig *rig;
	struct local *local;
	struct channel *queue, *role_end;
	struct worker_end ends[WORKERS];
	unsigned asked[WORKERS], outcomes, result_n;
	struct wire_result results[8];
	uint64_t credit;
};

static struct world *the; /* to_super has no other way to us */

static void asks_super(struct role *role, uint32_t type, struct view payload)
{
	struct wire_NEED_WORKER m;

	(void)role;
	assert_int_equal(type, WIRE_NEED_WORKER);
	assert_int_equal(wire_read_NEED_WORKER(payload, &m), 0);
	the->asked[m.uid - 1000]++;
}

static void queue_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct world *w = arg;
	struct wire_OUTCOME o;
	struct wire_DELIVER_CREDIT c;
	struct view list;

	(void)ch;
	(void)fd;
	if (type == WIRE_OUTCOME) {
		assert_int_equal(wire_read_OUTCOME(payload, &o), 0);
		w->outcomes++;
		w->result_n = 0;
		for (list = o.results; wire_result_next(&list, &w->results[w->result_n]) == 1;)
			w->result_n++;
	} else {
		assert_int_equal(wire_read_DELIVER_CREDIT(payload, &c), 0);
		w->credit += c.bytes;
	}
}

static void queue_closed(void *arg, struct channel *ch)
{
	((struct world *)arg)->queue = NULL;
	channel_free(ch);
}

static const struct channel_handler queue_handler = { queue_frame, queue_closed, NULL };
static const struct channel_handler no_handler = { queue_frame, queue_closed, NULL };

static void worker_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct worker_end *e = arg;
	struct wire_DELIVER m;
	struct wire_DELIVER_BYTES b;
	struct wire_rcpt r;

	(void)ch;
	(void)fd;
	if (type == WIRE_DELIVER) {
		assert_int_equal(wire_read_DELIVER(payload, &m), 0);
		e->delivers++;
		e->stream = m.stream;
		e->got = e->rcpts = e->last = 0;
		while (wire_rcpt_next(&m.rcpts, &r) == 1)
			e->rcpts++;
	} else if (type == WIRE_DELIVER_BYTES) {
		assert_int_equal(wire_read_DELIVER_BYTES(payload, &b), 0);
		assert_int_equal(b.stream, e->stream);
		e->got += b.bytes.n;
		e->last = b.last;
	} else {
		assert_int_equal(type, WIRE_DELIVER_ABORT);
		e->aborts++;
	}
}

static void worker_closed(void *arg, struct channel *ch)
{
	struct worker_end *e = arg;

	e->closed = true;
	e->channel = NULL;
	channel_free(ch);
}

static const struct channel_handler worker_handler = { worker_frame, worker_closed, NULL };

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof *w);
	struct channel *ends[2];

	the = w;
	w->rig = rig_new(&local_role, "listener \"mx\" { address = {\"127.0.0.1:2525\"} tls = none }\n"
	                              "domain \"l.test\" { deliver = \"maildir:/tmp/%{user}\" }\n", NULL);
	w->rig->role.to_super = asks_super;
	w->local = w->rig->role.state;
	w->local->broker = true;
	assert_int_equal(channel_pair(w->rig->loop, ends), 0);
	w->queue = ends[1];
	w->role_end = ends[0];
	channel_set_handler(ends[1], &queue_handler, w);
	channel_set_handler(ends[0], &no_handler, w);
	return w;
}

static void world_free(struct world *w)
{
	rig_turns(w->rig, 3);
	local_role.stop(&w->rig->role);
	w->rig->role.ops = NULL;
	rig_turns(w->rig, 3);
	for (int i = 0; i < WORKERS; i++)
		if (w->ends[i].channel)
			channel_free(w->ends[i].channel);
	if (w->queue) {
		channel_free(w->role_end);
		channel_free(w->queue);
	}
	rig_free(w->rig);
	free(w);
}

static void up(struct world *w, unsigned n)
{
	struct channel *ends[2];

	assert_int_equal(channel_pair(w->rig->loop, ends), 0);
	w->ends[n] = (struct worker_end){ .w = w, .uid = 1000 + n, .channel = ends[1] };
	channel_set_handler(ends[1], &worker_handler, &w->ends[n]);
	local_broker_worker_up(w->local, 1000 + n, ends[0]);
}

/* n recipients, owners 1000, 1001, ... in turn; those after `owners` belong to root. */
static struct delivery *begin(struct world *w, uint64_t stream, unsigned n, unsigned owners)
{
	struct buf list;
	struct wire_DELIVER m = { .stream = stream, .dest = VIEW("maildir:l.test"), .sender = VIEW("a@b.test") };
	struct delivery *d;

	buf_init(&list, &alloc_libc, 65536);
	for (unsigned i = 0; i < n; i++)
		wire_rcpt_add(&list, &(struct wire_rcpt){ .address = VIEW("postmaster@l.test") });
	m.rcpts = buf_view(&list);
	d = local_delivery_new(w->local, w->role_end, &m);
	assert_non_null(d);
	for (unsigned i = 0; i < n; i++) {
		assert_true(d->rcpts[i].valid);
		d->rcpts[i].mailbox.uid = i < owners ? 1000 + i : 0;
	}
	local_broker_start(d, &m);
	buf_free(&list);
	return d;
}

static void bytes(struct delivery *d, size_t n, bool last)
{
	static char zeros[WIRE_BODY_FRAME];

	local_broker_bytes(d, &(struct wire_DELIVER_BYTES){ .stream = d->stream, .last = last, .bytes = view_of(zeros, n) });
}

static void says(struct worker_end *e, unsigned n, uint8_t kind)
{
	struct buf list;
	struct wire_OUTCOME o = { .stream = e->stream };

	buf_init(&list, &alloc_libc, 4096);
	while (n--)
		wire_result_add(&list, &(struct wire_result){ .kind = kind, .code = kind == WIRE_DELIVERED ? 250 : 451 });
	o.results = buf_view(&list);
	assert_true(wire_send_OUTCOME(e->channel, &o));
	buf_free(&list);
}

static void grants(struct worker_end *e, uint32_t n)
{
	wire_send_DELIVER_CREDIT(e->channel, &(struct wire_DELIVER_CREDIT){ .stream = e->stream, .bytes = n });
}

static void test_several_owners(void **state)
{
	struct world *w = world_new();
	struct delivery *d = begin(w, 1, 4, 3); /* the fourth is root's */

	(void)state;
	assert_int_equal(w->asked[0] + w->asked[1] + w->asked[2], 3);
	bytes(d, 1000, false); /* waits until the workers come */
	up(w, 0);
	up(w, 1);
	bytes(d, 500, true);
	up(w, 2);
	UNTIL(w->rig, w->ends[0].last && w->ends[1].last && w->ends[2].last);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(w->ends[i].got, 1500);
		assert_int_equal(w->ends[i].rcpts, 1);
		says(&w->ends[i], 1, i == 1 ? WIRE_DEFERRED : WIRE_DELIVERED);
	}
	UNTIL(w->rig, w->outcomes == 1);
	assert_int_equal(w->result_n, 4);
	assert_int_equal(w->results[0].kind, WIRE_DELIVERED);
	assert_int_equal(w->results[1].kind, WIRE_DEFERRED);
	assert_int_equal(w->results[2].kind, WIRE_DELIVERED);
	assert_int_equal(w->results[3].kind, WIRE_DEFERRED); /* nothing is delivered as root */
	/* the workers are kept */
	d = begin(w, 2, 2, 2);
	bytes(d, 1, true);
	UNTIL(w->rig, w->ends[0].delivers == 2 && w->ends[1].delivers == 2);
	assert_int_equal(w->asked[0], 1);
	says(&w->ends[0], 1, WIRE_DELIVERED);
	says(&w->ends[1], 1, WIRE_DELIVERED);
	UNTIL(w->rig, w->outcomes == 2);
	world_free(w);
}

/* The queue is granted what the slowest has taken, and never more than has come. */
static void test_slow_worker(void **state)
{
	struct world *w = world_new();
	struct delivery *d = begin(w, 1, 2, 2);

	(void)state;
	up(w, 0);
	up(w, 1);
	bytes(d, 10000, false);
	UNTIL(w->rig, w->ends[0].got == 10000 && w->ends[1].got == 10000);
	grants(&w->ends[0], 10000);
	rig_turns(w->rig, 4);
	assert_int_equal(w->credit, 0);
	grants(&w->ends[1], 3000);
	UNTIL(w->rig, w->credit == 3000);
	grants(&w->ends[0], 4000000000u); /* a word too big */
	grants(&w->ends[1], 4000000000u);
	UNTIL(w->rig, w->credit == 10000);
	channel_free(w->ends[1].channel); /* the slow one dies: the other goes on alone */
	w->ends[1].channel = NULL;
	rig_turns(w->rig, 4);
	bytes(d, 100, true);
	UNTIL(w->rig, w->ends[0].last);
	says(&w->ends[0], 1, WIRE_DELIVERED);
	UNTIL(w->rig, w->outcomes == 1);
	assert_int_equal(w->results[0].kind, WIRE_DELIVERED);
	assert_int_equal(w->results[1].kind, WIRE_DEFERRED);
	world_free(w);
}

static void test_refused(void **state)
{
	struct world *w = world_new();
	struct delivery *d = begin(w, 1, 2, 2), *e = begin(w, 2, 1, 1);

	(void)state;
	bytes(d, 10, true);
	bytes(e, 10, false);
	local_broker_worker_refused(w->local, 1000, VIEW("no such user"));
	local_broker_worker_refused(w->local, 1000, VIEW("again"));
	local_broker_worker_refused(w->local, 1, VIEW("never asked for"));
	rig_turns(w->rig, 3);
	assert_int_equal(w->outcomes, 0); /* one waits for its other worker, one for its body */
	assert_true(w->credit >= 10);
	bytes(e, 10, true);
	UNTIL(w->rig, w->outcomes == 1);
	assert_int_equal(w->results[0].kind, WIRE_DEFERRED);
	up(w, 1);
	UNTIL(w->rig, w->ends[1].last);
	says(&w->ends[1], 1, WIRE_DELIVERED);
	UNTIL(w->rig, w->outcomes == 2);
	assert_int_equal(w->results[0].kind, WIRE_DEFERRED);
	assert_int_equal(w->results[1].kind, WIRE_DELIVERED);
	begin(w, 3, 1, 1); /* asks for the refused one once more */
	assert_int_equal(w->asked[0], 2);
	world_free(w);
}

/* A dying worker ends what it had, all of it, and nothing is walked after it is gone. */
static void test_dies(void **state)
{
	struct world *w = world_new();

	(void)state;
	for (uint64_t i = 1; i <= 20; i++) {
		struct delivery *d = begin(w, i, i % 2 ? 1 : 3, i % 2 ? 1 : 3);
		bytes(d, 100, i % 3 != 0);
	}
	up(w, 0);
	up(w, 1);
	up(w, 2);
	rig_turns(w->rig, 3);
	channel_free(w->ends[0].channel);
	w->ends[0].channel = NULL;
	rig_turns(w->rig, 3);
	assert_true(w->outcomes > 0);
	channel_free(w->ends[1].channel);
	w->ends[1].channel = NULL;
	channel_free(w->ends[2].channel);
	w->ends[2].channel = NULL;
	rig_turns(w->rig, 3);
	while (w->local->deliveries) { /* those whose bodies were still coming */
		unsigned before = w->outcomes;
		bytes(w->local->deliveries, 1, true);
		UNTIL(w->rig, w->outcomes == before + 1);
	}
	assert_int_equal(w->outcomes, 20);
	world_free(w);
}

static void test_mad_worker(void **state)
{
	(void)state;
	for (int kind = 0; kind < 4; kind++) {
		struct world *w = world_new();
		struct delivery *d = begin(w, 1, 1, 1);

		up(w, 0);
		bytes(d, 10, true);
		UNTIL(w->rig, w->ends[0].last);
		if (kind == 0)
			channel_send(w->ends[0].channel, WIRE_OUTCOME, VIEW("?"));
		else if (kind == 1)
			channel_send(w->ends[0].channel, WIRE_NEED_WORKER, VIEW("\1\0\0\0"));
		else if (kind == 2)
			says(&w->ends[0], 0, 0); /* too few */
		else
			says(&w->ends[0], 1, 9); /* no such kind */
		UNTIL(w->rig, w->outcomes == 1);
		assert_int_equal(w->results[0].kind, WIRE_DEFERRED);
		UNTIL(w->rig, kind >= 2 || w->ends[0].closed);
		world_free(w);
	}
}

static void test_abort(void **state)
{
	struct world *w = world_new();
	struct delivery *d = begin(w, 1, 2, 2);

	(void)state;
	up(w, 0); /* the other one never comes */
	bytes(d, 10, false);
	rig_turns(w->rig, 3);
	local_broker_abort(d);
	UNTIL(w->rig, w->ends[0].aborts == 1);
	assert_null(w->local->deliveries);
	up(w, 1);
	rig_turns(w->rig, 3);
	assert_int_equal(w->ends[1].delivers, 0);
	says(&w->ends[0], 1, WIRE_DELIVERED); /* late: of no delivery */
	rig_turns(w->rig, 3);
	assert_int_equal(w->outcomes, 0);
	begin(w, 2, 3, 3); /* left open: the end frees it */
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused), cmocka_unit_test(test_dies), cmocka_unit_test(test_mad_worker), cmocka_unit_test(test_abort),
		cmocka_unit_test(test_slow_worker), cmocka_unit_test(test_several_owners),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
