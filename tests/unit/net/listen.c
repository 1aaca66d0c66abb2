/* listen.c - accepting and dialling: refusals and shortage first. */
#include "net/dial.h"
#include "net/listen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "descriptors.h"

static int64_t skew;

static int64_t skewed(void *arg)
{
	(void)arg;
	return env_real.mono_ms(NULL) + skew;
}

static struct env env;
static struct loop *loop;

struct seen {
	unsigned accepted, refused;
	int fd[2000], err;
	struct address peer;
	unsigned done;
	int dialled;
	struct error error;
	struct listener *stop;
};

static void on_accepted(void *arg, int fd, const struct address *peer)
{
	struct seen *s = arg;

	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	s->fd[s->accepted++] = fd;
	s->peer = *peer;
	if (s->stop)
		listen_stop(s->stop);
}

static void on_refused(void *arg, int err)
{
	struct seen *s = arg;

	s->refused++;
	s->err = err;
}

static void on_done(void *arg, int fd, const struct error *e)
{
	struct seen *s = arg;

	s->done++;
	s->dialled = fd;
	if (e)
		s->error = *e;
}

static struct address bound(int fd)
{
	struct address a = { .len = sizeof a.sa };

	assert_int_equal(getsockname(fd, (struct sockaddr *)&a.sa, &a.len), 0);
	return a;
}

static int open_loopback(const char *text, struct address *a)
{
	struct error e;
	int fd;

	assert_true(address_parse_host(view_cstr(text), 0, a));
	fd = listen_open((struct sockaddr *)&a->sa, a->len, &e);
	if (fd != -1)
		*a = bound(fd);
	return fd;
}

static void turns(unsigned n)
{
	while (n--)
		loop_turn(loop, false);
}

static void a_taken_address_is_refused_with_its_name(void **state)
{
	struct address a;
	struct error e;
	char text[ADDRESS_TEXT];
	int fd = open_loopback("127.0.0.1", &a);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(listen_open((struct sockaddr *)&a.sa, a.len, &e), -1);
	assert_non_null(strstr(e.text, address_text((struct sockaddr *)&a.sa, text)));
	close(fd);
}

static void silent_clients_are_left_to_the_kernel(void **state)
{
	struct seen s = { .done = 0 };
	struct listener l;
	struct address a;
	int fd = open_loopback("127.0.0.1", &a), c = socket(AF_INET, SOCK_STREAM, 0), d = socket(AF_INET, SOCK_STREAM, 0);

	(void)state;
	listen_defer(fd, 5);
	assert_int_equal(listen_start(&l, loop, fd, on_accepted, on_refused, &s), 0);
	assert_int_equal(connect(c, (struct sockaddr *)&a.sa, a.len), 0);
	turns(3);
	assert_int_equal(s.accepted, 0);
	assert_int_equal(write(c, "x", 1), 1);
	for (unsigned i = 0; i < 1000 && !s.accepted; i++) {
		turns(1);
		usleep(1000);
	}
	assert_int_equal(s.accepted, 1);
	listen_defer(fd, 0); /* a reload made another listener of it */
	assert_int_equal(connect(d, (struct sockaddr *)&a.sa, a.len), 0);
	for (unsigned i = 0; i < 1000 && s.accepted < 2; i++) {
		turns(1);
		usleep(1000);
	}
	assert_int_equal(s.accepted, 2);
	listen_stop(&l);
	for (unsigned i = 0; i < s.accepted; i++)
		close(s.fd[i]);
	close(c);
	close(d);
}

static void connections_are_taken_in_batches(void **state)
{
	enum { N = LISTEN_BATCH + 20 };
	struct seen s = { .done = 0 };
	struct listener l;
	struct address a;
	int c[N];
	unsigned i;

	(void)state;
	assert_int_equal(listen_start(&l, loop, open_loopback("127.0.0.1", &a), on_accepted, on_refused, &s), 0);
	for (i = 0; i < N; i++) {
		c[i] = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(connect(c[i], (struct sockaddr *)&a.sa, a.len), 0);
	}
	turns(1);
	assert_int_equal(s.accepted, LISTEN_BATCH);
	listen_pause(&l);
	turns(2);
	assert_int_equal(s.accepted, LISTEN_BATCH);
	listen_resume(&l);
	turns(2);
	assert_int_equal(s.accepted, N);
	assert_true(address_is_loopback((struct sockaddr *)&s.peer.sa));
	s.stop = &l; /* from within the callback */
	i = (unsigned)socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect((int)i, (struct sockaddr *)&a.sa, a.len), 0);
	turns(2);
	assert_int_equal(s.accepted, N + 1);
	close((int)i);
	assert_int_equal(l.fd, -1);
	for (i = 0; i < N; i++) {
		close(c[i]);
		close(s.fd[i]);
	}
	close(s.fd[N]);
	listen_stop(&l);
}

static void shortage_of_descriptors_does_not_spin(void **state)
{
	struct seen s = { .done = 0 };
	struct listener l;
	struct address a;
	struct rlimit old;
	int c[4];
	unsigned i;
	char byte;

	(void)state;
	assert_int_equal(listen_start(&l, loop, open_loopback("127.0.0.1", &a), on_accepted, on_refused, &s), 0);
	for (i = 0; i < 4; i++) {
		c[i] = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(connect(c[i], (struct sockaddr *)&a.sa, a.len), 0);
	}
	descriptors_out(&old);
	turns(5);
	assert_int_equal(s.accepted, 0);
	assert_int_equal(s.refused, 1); /* then it pauses */
	assert_int_equal(s.err, EMFILE);
	assert_int_equal(recv(c[0], &byte, 1, MSG_DONTWAIT), 0); /* that client knows */
	skew += LISTEN_PAUSE_MS + 1;
	turns(3);
	assert_int_equal(s.refused, 2);
	descriptors_back(&old);
	skew += LISTEN_PAUSE_MS + 1;
	turns(3);
	assert_int_equal(s.accepted, 2);
	for (i = 0; i < 4; i++)
		close(c[i]);
	close(s.fd[0]);
	close(s.fd[1]);
	listen_stop(&l);
}

/* ---- dialling ---- */

static void nobody_listens(void **state)
{
	struct seen s = { .done = 0 };
	struct dial d;
	struct address a, source;
	int fd = open_loopback("127.0.0.1", &a);

	(void)state;
	close(fd);
	dial_start(&d, loop, (struct sockaddr *)&a.sa, a.len, NULL, 1000, on_done, &s);
	assert_int_equal(s.done, 0); /* never from within */
	turns(3);
	assert_int_equal(s.done, 1);
	assert_int_equal(s.dialled, -1);
	assert_int_equal(s.error.class, ERROR_AGAIN);
	assert_non_null(strstr(s.error.text, "127.0.0.1"));
	/* a source that is not ours, or of another family */
	address_parse_host(VIEW("192.0.2.77"), 0, &source);
	dial_start(&d, loop, (struct sockaddr *)&a.sa, a.len, &source, 1000, on_done, &s);
	turns(2);
	assert_int_equal(s.done, 2);
	assert_non_null(strstr(s.error.text, "192.0.2.77"));
	address_parse_host(VIEW("::1"), 0, &source);
	dial_start(&d, loop, (struct sockaddr *)&a.sa, a.len, &source, 1000, on_done, &s);
	turns(2);
	assert_int_equal(s.done, 3);
	assert_int_equal(s.error.class, ERROR_INPUT);
	dial_start_unix(&d, loop, VIEW("/nowhere/at/all"), 1000, on_done, &s);
	turns(2);
	assert_int_equal(s.done, 4);
	assert_int_equal(s.dialled, -1);
	dial_start_unix(&d, loop, view_of((char[300]){ "/x" }, 300), 1000, on_done, &s);
	turns(2);
	assert_int_equal(s.done, 5);
	assert_int_equal(s.error.class, ERROR_INPUT);
}

static void a_full_backlog_times_out_and_cancel_is_silent(void **state)
{
	struct seen s = { .done = 0 };
	struct dial d;
	struct address a;
	int fd, fill[64], n = 0;

	(void)state;
	fd = open_loopback("127.0.0.1", &a);
	listen(fd, 0);
	while (n < 3) { /* the queue of one, and the one over */
		fill[n] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(fill[n], (struct sockaddr *)&a.sa, a.len);
		n++;
	}
	dial_start(&d, loop, (struct sockaddr *)&a.sa, a.len, NULL, 5000, on_done, &s);
	turns(3);
	assert_int_equal(s.done, 0);
	skew += 5001;
	turns(2);
	assert_int_equal(s.done, 1);
	assert_int_equal(s.error.class, ERROR_AGAIN);
	assert_int_equal(s.error.sys, ETIMEDOUT);
	dial_start(&d, loop, (struct sockaddr *)&a.sa, a.len, NULL, 5000, on_done, &s);
	turns(1);
	dial_cancel(&d);
	dial_cancel(&d);
	skew += 5001;
	turns(3);
	assert_int_equal(s.done, 1);
	while (n)
		close(fill[--n]);
	close(fd);
}

static void it_connects_from_the_source_asked_for(void **state)
{
	static const char *const ours[] = { "127.0.0.1", "::1" };
	struct seen s;
	struct listener l;
	struct dial d;
	struct address a, source;
	unsigned i;
	int fd;

	(void)state;
	for (i = 0; i < 2; i++) {
		memset(&s, 0, sizeof s);
		fd = open_loopback(ours[i], &a);
		if (fd == -1)
			continue; /* a machine without IPv6 */
		assert_int_equal(listen_start(&l, loop, fd, on_accepted, on_refused, &s), 0);
		address_parse_host(view_cstr(i ? "::1" : "127.0.0.9"), 4711, &source);
		dial_start(&d, loop, (struct sockaddr *)&a.sa, a.len, &source, 1000, on_done, &s);
		turns(5);
		assert_int_equal(s.done, 1);
		assert_true(s.dialled >= 0);
		assert_int_equal(s.accepted, 1);
		assert_true(address_equal_host((struct sockaddr *)&s.peer.sa, (struct sockaddr *)&source.sa));
		assert_int_not_equal(address_port((struct sockaddr *)&s.peer.sa), 4711);
		close(s.dialled);
		close(s.fd[0]);
		listen_stop(&l);
	}
}

static void unix_sockets_are_dialled(void **state)
{
	struct seen s = { .done = 0 };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct dial d;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	snprintf(un.sun_path, sizeof un.sun_path, "/tmp/dial-test-%d", (int)getpid());
	unlink(un.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
	listen(fd, 1);
	dial_start_unix(&d, loop, view_cstr(un.sun_path), 1000, on_done, &s);
	turns(2);
	assert_int_equal(s.done, 1);
	assert_true(s.dialled >= 0);
	close(s.dialled);
	close(fd);
	unlink(un.sun_path);
}

static int set_up(void **state)
{
	(void)state;
	env = env_real;
	env.mono_ms = skewed;
	loop = loop_new(&env);
	return loop ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	loop_free(loop);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_taken_address_is_refused_with_its_name),
		cmocka_unit_test(silent_clients_are_left_to_the_kernel),
		cmocka_unit_test(connections_are_taken_in_batches),
		cmocka_unit_test(shortage_of_descriptors_does_not_spin),
		cmocka_unit_test(nobody_listens),
		cmocka_unit_test(a_full_backlog_times_out_and_cancel_is_silent),
		cmocka_unit_test(it_connects_from_the_source_asked_for),
		cmocka_unit_test(unix_sockets_are_dialled),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
