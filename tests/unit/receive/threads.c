/* threads.c - tests of receive with one loop a core: channels and listeners as descriptors, sessions spread over threads. */
#include "world.h"

#define WORKERS 3
#define CLIENTS 60

struct many {
	struct world side[WORKERS]; /* one queue and one local a worker; side[0].rig and .room are everybody's */
};

static struct channel *real_pair(struct rig *r, enum role_kind kind, uint32_t index)
{
	int fd[2];
	struct channel *theirs;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	theirs = channel_new(r->loop, fd[0]);
	assert_non_null(theirs);
	receive_role.channel(&r->role, kind, index, 1, theirs);
	return channel_new(r->loop, fd[1]);
}

static struct many *many_new(void)
{
	struct many *m = calloc(1, sizeof *m);
	struct rig *r;
	struct wire_LISTENER listen_ = { 0 };
	struct buf b;
	int fd;

	rig_threads = true;
	r = rig_new(&receive_role, "workers = 3\nlistener \"mx\" { address = {\"127.0.0.1:2525\"} tls = none sessions_per_address = 1000 }\n"
	                           "domain \"sink.test\" { deliver = \"discard\" }\ndomain \"local.test\" { deliver = \"maildir:/nowhere/%{user}\" }\n", NULL);
	rig_threads = false;
	assert_int_equal(receive_role.loops(r->conf), WORKERS);
	fd = rig_listen(&m->side[0].port);
	buf_init(&b, &alloc_libc, 64);
	wire_put_LISTENER(&b, &listen_);
	receive_role.frame(&r->role, WIRE_LISTENER, buf_view(&b), fd); /* before the channels: it waits for them */
	buf_free(&b);
	for (uint32_t i = 0; i < WORKERS; i++) {
		struct world *w = &m->side[i];
		w->rig = r;
		w->room = r->role.state;
		w->status = WIRE_DONE_OK;
		w->verdict = WIRE_RCPT_YES;
		w->queue = real_pair(r, ROLE_QUEUE, i);
		w->local = real_pair(r, ROLE_LOCAL, i);
		channel_set_handler(w->queue, &queue_handler, w);
		channel_set_handler(w->local, &local_handler, w);
	}
	/* what is none of its business is closed */
	struct channel *odd = real_pair(r, ROLE_SEND, 0), *far = real_pair(r, ROLE_QUEUE, 17);
	channel_free(odd);
	channel_free(far);
	return m;
}

static void many_free(struct many *m)
{
	struct rig *r = m->side[0].rig;

	receive_role.stop(&r->role);
	r->role.ops = NULL;
	rig_turns(r, 5);
	for (int i = 0; i < WORKERS; i++) {
		if (m->side[i].queue)
			channel_free(m->side[i].queue);
		if (m->side[i].local)
			channel_free(m->side[i].local);
		forget_streams(&m->side[i]);
	}
	rig_free(r);
	free(m);
}

static void test_messages(void **state)
{
	struct many *m = many_new();
	struct world *w = &m->side[0];
	static struct client c[CLIENTS];
	unsigned submits = 0;

	(void)state;
	for (unsigned i = 0; i < CLIENTS; i++) {
		c[i] = call(w);
		say(&c[i], "EHLO x\r\n");
	}
	for (unsigned i = 0; i < CLIENTS; i++) {
		UNTIL(w->rig, replies(&c[i]) == 2);
		c[i].n = 0;
		say(&c[i], "MAIL FROM:<a@b.test>\r\nRCPT TO:<x@sink.test>\r\nRCPT TO:<y@local.test>\r\nDATA\r\n");
	}
	for (unsigned i = 0; i < CLIENTS; i++) {
		UNTIL(w->rig, replies(&c[i]) == 4);
		c[i].n = 0;
		say(&c[i], "x\r\n.\r\nQUIT\r\n");
	}
	for (unsigned i = 0; i < CLIENTS; i++) {
		UNTIL(w->rig, replies(&c[i]) == 2);
		assert_int_equal(strncmp(c[i].got, "250", 3), 0);
		ENDS(&c[i]);
		hang_up(&c[i]);
	}
	for (int i = 0; i < WORKERS; i++)
		submits += m->side[i].submits;
	assert_int_equal(submits, CLIENTS);
	UNTIL(w->rig, atomic_load(&w->room->sessions[0]) == 0);
	receive_role.drain(&w->rig->role, 1000);
	UNTIL(w->rig, w->rig->drained == 1);
	many_free(m);
}

/* A worker's queue goes: its sessions get 451, the others do not notice.  Then all is stopped in the middle. */
static void test_one_queue_lost(void **state)
{
	struct many *m = many_new();
	struct world *w = &m->side[0];
	static struct client c[CLIENTS];
	unsigned good = 0, later = 0;

	(void)state;
	for (unsigned i = 0; i < CLIENTS; i++) {
		c[i] = call(w);
		say(&c[i], "EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<x@sink.test>\r\nDATA\r\n");
	}
	for (unsigned i = 0; i < CLIENTS; i++) {
		UNTIL(w->rig, replies(&c[i]) == 5);
		c[i].n = 0;
	}
	channel_free(m->side[1].queue);
	m->side[1].queue = NULL;
	rig_turns(w->rig, 5);
	for (unsigned i = 0; i < CLIENTS; i++)
		say(&c[i], "x\r\n.\r\n");
	for (unsigned i = 0; i < CLIENTS; i++) {
		UNTIL(w->rig, replies(&c[i]) == 1);
		good += strncmp(c[i].got, "250", 3) == 0;
		later += strncmp(c[i].got, "451", 3) == 0;
	}
	assert_int_equal(good + later, CLIENTS);
	assert_int_equal(good, m->side[0].submits + m->side[2].submits);
	receive_role.drain(&w->rig->role, 60000); /* and no time to wait for it */
	many_free(m);
	for (unsigned i = 0; i < CLIENTS; i++)
		hang_up(&c[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_one_queue_lost), cmocka_unit_test(test_messages) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
