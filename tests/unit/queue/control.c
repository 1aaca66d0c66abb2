/* The control socket: broken requests, then every command, over a real unix socket. */
#include "harness.h"
#include "queue/control.h"
#include "queue/counters.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char answer[1 << 20];

static struct harness *start(struct sockaddr_un *at)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	static unsigned serial;

	*at = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(at->sun_path + 1, sizeof at->sun_path - 1, "postrider-test-%d-%u", (int)getpid(),
		 serial++); /* abstract: leaves no file */
	assert_int_not_equal(bind(fd, (struct sockaddr *)at, sizeof *at), -1);
	assert_int_not_equal(listen(fd, 8), -1);
	return harness_new_with(NULL, fd);
}

static int dial(struct harness *h, struct sockaddr_un *at)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_not_equal(connect(fd, (struct sockaddr *)at, sizeof *at), -1);
	harness_run(h);
	return fd;
}

/* Everything that comes until the last line has "ok", or the end. */
static const char *talk(struct harness *h, int fd, const char *request)
{
	size_t n = 0;
	unsigned i;

	if (request)
		assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
	answer[0] = '\0';
	for (i = 0; i < 3000; i++) {
		ssize_t got = recv(fd, answer + n, sizeof answer - 1 - n, MSG_DONTWAIT);

		if (got == 0)
			break;
		if (got > 0) {
			n += (size_t)got;
			answer[n] = '\0';
			if (strstr(answer, "\"ok\":") && answer[n - 1] == '\n')
				break;
		}
		loop_turn(h->loop, false);
	}
	return answer;
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)); text++)
		n++;
	return n;
}

static void expect(const char *text, const char *what)
{
	if (!strstr(text, what))
		fprintf(stderr, "no %s in: %.2000s\n", what, text);
	assert_non_null(strstr(text, what));
}

static void broken_requests(void **state)
{
	static const char *bad[] = { "\n",
				     "{}\n",
				     "[]\n",
				     "nonsense\n",
				     "{\"cmd\": 5}\n",
				     "{\"cmd\": \"nonsense\"}\n",
				     "{\"cmd\":\"list\",\"cmd\":\"list\"}\n",
				     "{\"cmd\":\"show\"}\n",
				     "{\"cmd\":\"show\",\"id\":\"xyz\"}\n",
				     "{\"cmd\":\"show\",\"id\":\"11112222333344445\"}\n",
				     "{\"cmd\":\"show\",\"id\":7}\n",
				     "{\"cmd\":\"show\",\"id\":\"\"}\n",
				     "{\"cmd\":\"show\",\"id\":\"00000000000000ff\"}\n",
				     "{\"cmd\":\"why\",\"id\":\"00000000000000ff\"}\n",
				     "{\"cmd\":\"delete\"}\n",
				     "{\"cmd\":\"hold\"}\n",
				     "{\"cmd\":\"release\"}\n",
				     "{\"cmd\":\"delete\",\"all\":true}\n",
				     "{\"cmd\":\"hold\",\"everything\":true}\n",
				     "{\"cmd\":\"delete\",\"everything\":1}\n",
				     "{\"cmd\":\"list\",\"dest\":5}\n",
				     "\xff\xfe\n",
				     "{\"cmd\":\"list\\u0000\"}\n" };
	struct sockaddr_un at;
	struct harness *h = start(&at);
	int fd = dial(h, &at);
	unsigned i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		const char *a = talk(h, fd, bad[i]);

		expect(a, "\"ok\":false");
		expect(a, "\"error\":");
	}
	expect(talk(h, fd, "{\"cmd\":\"list\"}\n"), "\"ok\":true"); /* and the connection still serves */
	close(fd);
	harness_run(h);
	harness_free(h);
}

static void endless_line(void **state)
{
	static char block[CONTROL_LINE_MAX + 100000];
	struct sockaddr_un at;
	struct harness *h = start(&at);
	int fd = dial(h, &at);
	unsigned i;
	ssize_t n = 0;

	(void)state;
	memset(block, 'x', sizeof block);
	for (i = 0; i < 100 && n != -1; i++) {
		n = send(fd, block, 8192, MSG_NOSIGNAL | MSG_DONTWAIT);
		harness_run(h);
	}
	assert_true(n == -1 && errno == EPIPE);
	close(fd);
	harness_free(h);
}

static void too_many_clients(void **state)
{
	struct sockaddr_un at;
	struct harness *h = start(&at);
	int fds[CONTROL_CLIENTS_MAX + 3];
	unsigned i;
	char c;

	(void)state;
	for (i = 0; i < CONTROL_CLIENTS_MAX + 3; i++)
		fds[i] = dial(h, &at);
	assert_int_equal(recv(fds[CONTROL_CLIENTS_MAX + 2], &c, 1, MSG_DONTWAIT), 0);
	expect(talk(h, fds[3], "{\"cmd\":\"list\"}\n"), "\"ok\":true");
	for (i = 0; i < CONTROL_CLIENTS_MAX + 3; i++)
		close(fds[i]);
	harness_free(h); /* with clients */
}

/* It goes away while the spool works for it. */
static void client_dies(void **state)
{
	static const char *cmds[] = { "{\"cmd\":\"list\"}\n", "{\"cmd\":\"flush\"}\n", "{\"cmd\":\"status\"}\n",
				      "{\"cmd\":\"hold\",\"all\":true}\n", "{\"cm" };
	struct sockaddr_un at;
	struct harness *h = start(&at);
	unsigned i, turns;

	(void)state;
	submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test" } }, WIRE_DONE_OK);
	for (i = 0; i < 5; i++)
		for (turns = 0; turns < 5; turns++) {
			int fd = dial(h, &at);
			unsigned k;

			assert_true(send(fd, cmds[i], strlen(cmds[i]), MSG_NOSIGNAL) > 0);
			for (k = 0; k < turns; k++)
				loop_turn(h->loop, false);
			close(fd);
			harness_run(h);
		}
	harness_pass(h, 10000);
	harness_free(h);
}

static void lists_and_shows(void **state)
{
	struct sockaddr_un at;
	struct harness *h = start(&at);
	char request[200], id[EVENT_ID_SIZE];
	const char *a;
	uint64_t first = 0;
	unsigned i;
	int fd;

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_temporary);
	for (i = 0; i < 200; i++)
		submit_done(h,
			    &(struct submit){ .sender = "a@b.test",
					      .rcpts = { "x@relay.test", i % 2 ? "y@other.example" : NULL } },
			    WIRE_DONE_OK);
	first = h->done[0].id;
	fd = dial(h, &at);
	a = talk(h, fd, "{\"cmd\":\"list\"}\n");
	assert_int_equal(count(a, "{\"item\":"), 300);
	expect(a, "\"ok\":true,\"n\":300,\"more\":false");
	a = talk(h, fd, "{\"cmd\":\"list\",\"max\":10}\n");
	assert_int_equal(count(a, "{\"item\":"), 10);
	expect(a, "\"more\":true");
	a = talk(h, fd, "{\"cmd\":\"list\",\"dest\":\"mx:other.example\"}\n");
	assert_int_equal(count(a, "{\"item\":"), 100);
	assert_int_equal(count(a, "relay.test"), 0);
	event_id_text(first, id);
	snprintf(request, sizeof request, "{\"cmd\":\"show\",\"id\":\"%s\"}\n", id);
	a = talk(h, fd, request);
	expect(a, "\"state\":\"deferred\"");
	expect(a, "\"text\":\"come back later\"");
	expect(a, "\"header\":\"Received: by us\\r\\nSubject: x\\r\\n\"");
	snprintf(request, sizeof request, "{\"cmd\":\"why\",\"id\":\"%s\"}\n", id);
	a = talk(h, fd, request);
	expect(a, "It was tried 1 time; the next attempt is in ");
	expect(a, "next.test[192.0.2.1]:25 said: 451 come back later (for x@relay.test)");
	close(fd);
	harness_free(h);
}

static void why_of(struct harness *h, int fd, uint64_t id, const char *what)
{
	char request[100], text[EVENT_ID_SIZE];

	snprintf(request, sizeof request, "{\"cmd\":\"why\",\"id\":\"%s\"}\n", event_id_text(id, text));
	expect(talk(h, fd, request), what);
}

static void whys(void **state)
{
	struct sockaddr_un at;
	struct harness *h = start(&at);
	int fd = dial(h, &at);
	uint64_t id, second;

	(void)state;
	id = submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test" } }, WIRE_DONE_OK);
	why_of(h, fd, id, "It is due, but the role send is not running");
	talk(h, fd, "{\"cmd\":\"hold\",\"all\":true}\n");
	why_of(h, fd, id, "It is on hold until the operator releases it");
	harness_connect(h, &h->send, ROLE_SEND, 1, NULL);
	harness_pass(h, 1000);
	assert_int_equal(h->got_n, 0);
	expect(talk(h, fd, "{\"cmd\":\"release\",\"all\":true}\n"), "\"n\":1");
	harness_pass(h, 1000);
	why_of(h, fd, id, "It is being delivered right now");
	say_host_failed(&h->got[0]);
	harness_run(h);
	second = submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "y@relay.test" } }, WIRE_DONE_OK);
	why_of(h, fd, id, "Its destination failed 1 time in a row and is tried again in");
	why_of(h, fd, id, "connection refused");
	why_of(h, fd, second, "Its destination failed 1 time in a row");
	close(fd);
	harness_free(h);
}

/* What an operator reads of a message that waits: for a role, for a place, for its time; in every unit of time. */
static void whys_of_waiting(void **state)
{
	struct sockaddr_un at;
	struct harness *h = start(&at);
	int fd = dial(h, &at);
	uint64_t id, last = 0;
	unsigned i;

	(void)state;
	id = submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@local.test" } }, WIRE_DONE_OK);
	why_of(h, fd, id, "It is due, but the role local is not running");
	harness_connect(h, &h->send, ROLE_SEND, 1, NULL); /* takes all and answers nothing */
	for (i = 0; i < 8; i++)
		last = submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test", "y@relay.test" } }, WIRE_DONE_OK);
	harness_pass(h, 1000);
	assert_true(h->got_n >= 1 && h->got_n < 8);
	why_of(h, fd, h->got[0].id, "It is being delivered right now");
	expect(answer, "right now");
	why_of(h, fd, last, "It waits its turn: ");
	expect(answer, "deliveries to its destination are in flight, the most it gets now");
	expect(talk(h, fd, "{\"cmd\":\"list\"}\n"), "\"state\":\"active\"");
	expect(answer, "\"state\":\"queued\"");
	send(fd, "{\"cmd\":\"status\"}\n", 17, MSG_NOSIGNAL); /* super is silent: the rest is told all the same */
	harness_run(h);
	harness_pass(h, 6000);
	expect(talk(h, fd, NULL), "\"dest\":\"smtp:127.0.0.1:2650\"");
	for (i = 0; i < h->got_n; i++) /* no host spoke: the words are ours */
		answer_all(&h->got[i], WIRE_DEFERRED, 0, "no route to host", true);
	harness_run(h);
	why_of(h, fd, h->got[0].id, "no route to host (for x@relay.test and 1 more)");
	expect(answer, " min;");
	h->send.script = say_host_failed;
	for (i = 0; i < 12; i++) { /* the pause doubles: minutes, then hours */
		harness_pass(h, (int64_t)1 << (17 + i));
		why_of(h, fd, h->got[0].id, "");
		if (strstr(answer, " h;"))
			break;
	}
	expect(answer, " h;");
	expect(answer, " times in a row");
	close(fd);
	harness_free(h);
}

static void flush_and_delete(void **state)
{
	struct sockaddr_un at;
	struct harness *h = start(&at);
	int fd = dial(h, &at);
	char request[100], text[EVENT_ID_SIZE];
	uint64_t id;

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_host_failed);
	submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test" } }, WIRE_DONE_OK);
	harness_pass(h, 1000);
	assert_int_equal(h->send.deliveries, 1);
	expect(talk(h, fd, "{\"cmd\":\"flush\"}\n"), "\"n\":1");
	harness_pass(h, 1000);
	assert_int_equal(h->send.deliveries, 2); /* its back-off ended, too */
	h->send.script = say_ok;
	expect(talk(h, fd, "{\"cmd\":\"flush\",\"dest\":\"smtp:127.0.0.1:2650\"}\n"), "\"ok\":true");
	harness_pass(h, 1000);
	assert_int_equal(stats(h).messages, 0);
	h->send.script = NULL;
	id = submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test" } }, WIRE_DONE_OK);
	snprintf(request, sizeof request, "{\"cmd\":\"delete\",\"id\":\"%s\"}\n", event_id_text(id, text));
	expect(talk(h, fd, request), "being delivered just now");
	say_temporary(&h->got[h->got_n - 1]);
	harness_run(h);
	expect(talk(h, fd, request), "\"n\":1");
	assert_int_equal(stats(h).messages, 0);
	assert_int_equal(logged(h, "deleted", "n=1"), 1);
	assert_int_equal(logged(h, "flushed", NULL), 2);
	close(fd);
	harness_free(h);
}

/* One of two envelopes is under way: the other is deleted, and no mail goes without a line in the log. */
static void delete_a_part(void **state)
{
	struct sockaddr_un at;
	struct harness *h = start(&at);
	int fd = dial(h, &at);
	char request[100], text[EVENT_ID_SIZE];
	uint64_t id;

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, NULL);
	id = submit_done(h, &(struct submit){ .sender = "a@b.test", .rcpts = { "x@relay.test", "y@dead.test" } }, WIRE_DONE_OK);
	assert_int_equal(h->send.deliveries, 2);
	say_temporary(&h->got[0]);
	harness_run(h);
	snprintf(request, sizeof request, "{\"cmd\":\"delete\",\"id\":\"%s\"}\n", event_id_text(id, text));
	expect(talk(h, fd, request), "a part is deleted; the rest is being delivered just now");
	assert_int_equal(logged(h, "deleted", "n=1"), 1);
	say_ok(&h->got[1]);
	harness_run(h);
	assert_int_equal(stats(h).messages, 0);
	close(fd);
	harness_free(h);
}

static void two_requests_in_one_write(void **state)
{
	struct sockaddr_un at;
	struct harness *h = start(&at);
	int fd = dial(h, &at);

	(void)state;
	send(fd, "{\"cmd\":\"list\"}\n{\"cmd\":\"prometheus\"}\n{\"cmd\":\"list\"}", 50, MSG_NOSIGNAL);
	shutdown(fd, SHUT_WR); /* an unfinished third line is none */
	harness_run(h);
	harness_run(h);
	memset(answer, 0, sizeof answer);
	assert_true(recv(fd, answer, sizeof answer, MSG_DONTWAIT) > 100);
	assert_int_equal(count(answer, "\"ok\":true"), 2);
	assert_int_equal(recv(fd, answer, 10, MSG_DONTWAIT), 0);
	close(fd);
	harness_free(h);
}

static void super_is_asked(void **state)
{
	struct wire_CONTROL_DONE done = { .json = VIEW("{\"roles\": []}") };
	struct sockaddr_un at;
	struct harness *h = start(&at);
	int fd = dial(h, &at);
	struct buf b;
	const char *a;

	(void)state;
	send(fd, "{\"cmd\":\"status\"}\n", 17, MSG_NOSIGNAL);
	harness_run(h);
	assert_int_equal(h->control_command, WIRE_CONTROL_STATUS);
	done.stream = h->control_stream;
	buf_init(&b, &alloc_libc, 4096);
	assert_true(wire_put_CONTROL_DONE(&b, &done));
	queue_role.frame(&h->role, WIRE_CONTROL_DONE, buf_view(&b), -1);
	queue_role.frame(&h->role, WIRE_CONTROL_DONE, buf_view(&b), -1); /* nobody waits any more */
	queue_role.frame(&h->role, WIRE_CONTROL_DONE, VIEW("x"), -1);
	a = talk(h, fd, NULL);
	expect(a, "\"super\":{\"roles\":[]}");
	expect(a, "\"spool\":{\"messages\":0");
	expect(a, "\"destinations\":[]");
	send(fd, "{\"cmd\":\"reload\"}\n", 17, MSG_NOSIGNAL); /* super is silent */
	harness_run(h);
	assert_int_equal(h->control_command, WIRE_CONTROL_RELOAD);
	harness_pass(h, 6000);
	expect(talk(h, fd, NULL), "super does not answer");
	send(fd, "{\"cmd\":\"stop\"}\n", 15, MSG_NOSIGNAL);
	harness_run(h);
	assert_int_equal(h->control_command, WIRE_CONTROL_STOP);
	buf_free(&b);
	close(fd);
	harness_free(h);
}

static int counters_fd(uint64_t accepted, size_t size)
{
	int fd = memfd_create("counters", MFD_CLOEXEC);

	assert_int_not_equal(ftruncate(fd, (off_t)size), -1);
	assert_int_not_equal(pwrite(fd, &accepted, sizeof accepted, EVENT_ACCEPTED * sizeof accepted), -1);
	return fd;
}

static void counters(void **state)
{
	struct wire_COUNTERS m = { .role = ROLE_RECEIVE, .generation = 1 };
	struct sockaddr_un at;
	struct harness *h = start(&at);
	int fd = dial(h, &at);
	struct buf b;
	unsigned i;

	(void)state;
	buf_init(&b, &alloc_libc, 4096);
	assert_true(wire_put_COUNTERS(&b, &m));
	queue_role.frame(&h->role, WIRE_COUNTERS, buf_view(&b), counters_fd(7, 200)); /* too small */
	assert_int_equal(logged(h, "frame_refused", "peer=super"), 1);
	for (i = 0; i < COUNTERS_MAX * 2; i++) /* restarts: sums never go back */
		queue_role.frame(&h->role, WIRE_COUNTERS, buf_view(&b), counters_fd(1, 65536));
	assert_int_equal(counters_sum(&h->q->counters, EVENT_ACCEPTED), COUNTERS_MAX * 2);
	expect(talk(h, fd, "{\"cmd\":\"prometheus\"}\n"),
	       "postrider_events_total{event=\\\"accepted\\\",role=\\\"receive\\\"} 64");
	expect(answer, "postrider_queue_messages 0");
	buf_free(&b);
	close(fd);
	harness_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(broken_requests),  cmocka_unit_test(endless_line),
		cmocka_unit_test(too_many_clients), cmocka_unit_test(client_dies),
		cmocka_unit_test(lists_and_shows),  cmocka_unit_test(whys),
		cmocka_unit_test(whys_of_waiting),
		cmocka_unit_test(flush_and_delete), cmocka_unit_test(delete_a_part), cmocka_unit_test(two_requests_in_one_write),
		cmocka_unit_test(super_is_asked),   cmocka_unit_test(counters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
