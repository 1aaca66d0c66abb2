/* memory.c - deliveries with the n-th allocation of `send` failing, for every n: no crash, no leak, and an outcome for every
 * delivery whose channel stays, "delivered" only when the server said so. */
#include "peer.h"

static bool armed;
static long calls, fail_at;

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__wrap_malloc(size_t);
void *__wrap_calloc(size_t, size_t);
void *__wrap_realloc(void *, size_t);

static bool fails(void)
{
	return armed && !peer_busy && ++calls == fail_at;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t m)
{
	return fails() ? NULL : __real_calloc(n, m);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

static void calm_queue(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	peer_busy++;
	on_queue_side(arg, ch, type, payload, fd);
	peer_busy--;
}

static void calm_resolve(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	peer_busy++;
	on_resolve_side(arg, ch, type, payload, fd);
	peer_busy--;
}

static const struct channel_handler calm_queue_side = { calm_queue, on_side_closed, NULL };
static const struct channel_handler calm_resolve_side = { calm_resolve, on_side_closed, NULL };

static void nothing(void *arg)
{
	(void)arg;
}

static void dns(struct world *w, const struct wire_RESOLVE *m)
{
	struct buf list;

	buf_init(&list, &alloc_libc, 4096);
	wire_record_add(&list, &(struct wire_record){ .family = AF_INET, .address = view_of("\x7f\0\0\1", 4) });
	wire_send_RESOLVED(w->resolve, &(struct wire_RESOLVED){ .stream = m->stream, .status = WIRE_DNS_OK, .ttl = 60, .records = buf_view(&list) });
	buf_free(&list);
}

/* True when all were delivered. */
static bool try_once(long n)
{
	struct world *w = calloc(1, sizeof *w);
	struct server *s = &w->servers[0];
	struct loop_timer timers[60];
	char dest[60];
	bool all = true;

	w->rig = rig_new(&send_role, "trust = \"/dev/null\"\nlistener \"mx\" { address = {\"127.0.0.1:2525\"} tls = none }\n", NULL);
	w->answer = dns;
	connect_side(w, ROLE_QUEUE);
	connect_side(w, ROLE_RESOLVE);
	channel_set_handler(w->queue, &calm_queue_side, w);
	channel_set_handler(w->resolve, &calm_resolve_side, w);
	w->server_n = 1;
	server_start(s, w->rig, rig_listen(&s->port));
	s->rcpt_no = "550 5.1.1 no\r\n";
	/* without a place for a deadline the loop ends the process, on purpose: not what is tested here */
	for (size_t i = 0; i < 60; i++) {
		loop_timer_init(&timers[i], w->rig->loop, nothing, NULL);
		loop_timer_set(&timers[i], loop_now(w->rig->loop) + 1000000);
	}
	for (size_t i = 0; i < 60; i++)
		loop_timer_stop(&timers[i]);
	snprintf(dest, sizeof dest, "smtp:host.test:%u", s->port);
	begin(w, 1, dest, TO("x@sink.test", "no@sink.test"), strlen(BODY));
	more(w, 1, BODY, true);
	begin(w, 2, dest, TO("x@sink.test"), strlen(BODY));
	more(w, 2, BODY, true);
	calls = 0;
	fail_at = n;
	for (int quiet = 0; quiet < 300 && w->queue && !(w->outcomes[1].come && w->outcomes[2].come); quiet++) {
		armed = true;
		loop_turn(w->rig->loop, false);
		armed = false;
		usleep(50);
	}
	fail_at = 0;
	if (w->queue)
		rig_skew += 700000; /* who waits for a word that was lost */
	for (int i = 0; i < 20; i++)
		rig_turns(w->rig, 2);
	for (unsigned i = 1; i <= 2; i++) {
		all = all && w->outcomes[i].come && w->outcomes[i].r[0].kind == WIRE_DELIVERED;
		/* no outcome: the channel ended, or the frame that was to tell it had no memory, which ends it too */
		assert_true(w->outcomes[i].come || !w->queue);
	}
	if (all)
		assert_int_equal(s->messages, 2);
	world_stop(w);
	return all;
}

static void test_every_allocation(void **state)
{
	long failed = 0, n = 1;

	(void)state;
	while (n < 3000) {
		failed += !try_once(n);
		if (calls < n)
			break;
		n++;
	}
	assert_true(failed > 5);
	assert_true(n > 20 && n < 3000);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_allocation) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
