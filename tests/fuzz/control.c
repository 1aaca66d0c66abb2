/* control.c - request lines on the control socket of a live queue.
 *
 * Input: lines; an octet 0xff lets time pass (super does not answer), 0xfe ends our side.  Over a real unix socket,
 * with three messages in the queue.
 *
 * Judged: every line of an answer is a JSON object; every request line has one line with "ok" at most, and exactly one
 * while the connection stands; the queue serves a good request afterwards.
 */
#include "input.h"

#include "../unit/queue/harness.h"

#include <jansson.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TURNS_MAX 400
#define INPUT_MAX 4096

struct talk {
	struct harness *h;
	int fd;
	struct buf got;
	unsigned oks;
	bool ended;
};

static int listening(struct sockaddr_un *at)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t n = sizeof *at;

	*at = (struct sockaddr_un){ .sun_family = AF_UNIX };
	assert(bind(fd, (struct sockaddr *)at, sizeof at->sun_family) != -1); /* a free abstract name: leaves no file */
	assert(listen(fd, 8) != -1 && getsockname(fd, (struct sockaddr *)at, &n) != -1);
	return fd;
}

static void check_line(struct talk *t, struct view line)
{
	json_error_t e;
	json_t *o = json_loadb(line.p, line.n, 0, &e), *ok;

	assert(o && json_is_object(o));
	ok = json_object_get(o, "ok");
	assert((ok != NULL) != (json_object_get(o, "item") != NULL));
	if (ok) {
		t->oks++;
		assert(json_is_boolean(ok) && (json_is_true(ok) || json_is_string(json_object_get(o, "error"))));
	}
	json_decref(o);
}

static void hear(struct talk *t)
{
	size_t lf;

	for (;;) {
		ssize_t n;

		assert(buf_reserve(&t->got, 65536));
		n = recv(t->fd, buf_tail(&t->got), buf_room(&t->got), MSG_DONTWAIT);
		if (n <= 0) {
			t->ended = t->ended || n == 0;
			break;
		}
		buf_commit(&t->got, (size_t)n);
	}
	while ((lf = view_find(buf_view(&t->got), '\n')) < buf_len(&t->got)) {
		check_line(t, view_slice(buf_view(&t->got), 0, lf));
		buf_take(&t->got, lf + 1);
	}
}

static void turn(struct talk *t, unsigned wanted)
{
	for (unsigned i = 0; i < TURNS_MAX && t->oks < wanted && !t->ended; i++) {
		loop_turn(t->h->loop, false);
		hear(t);
		if (i % 40 == 39)
			t->h->now += 1000; /* super's answer is waited for */
	}
}

static struct talk dial(struct harness *h, const struct sockaddr_un *at, socklen_t n)
{
	struct talk t = { .h = h, .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) };

	assert(connect(t.fd, (const struct sockaddr *)at, n) != -1);
	buf_init(&t.got, &alloc_libc, 16 << 20);
	harness_run(h);
	return t;
}

static void hang_up(struct talk *t)
{
	close(t->fd);
	buf_free(&t->got);
	harness_run(t->h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct submit mail[] = { { .sender = "s@a.test", .rcpts = { "x@relay.test", "y@relay.test" } },
					      { .sender = "", .rcpts = { "\xff\"@dead.test" } },
					      { .sender = "s@a.test", .rcpts = { "z@dead.test" } } };
	struct input in = { data, n < INPUT_MAX ? n : INPUT_MAX };
	struct sockaddr_un at;
	int fd = listening(&at);
	struct harness *h = harness_new_with(NULL, fd);
	struct talk t;
	unsigned lines = 0;
	socklen_t at_n = sizeof at;

	getsockname(fd, (struct sockaddr *)&at, &at_n);
	for (size_t i = 0; i < 3; i++)
		submit(h, &mail[i]);
	harness_run(h);
	t = dial(h, &at, at_n);
	while (in.n && !t.ended) {
		size_t k = 0;

		while (k < in.n && in.p[k] < 0xfe)
			lines += in.p[k++] == '\n';
		if (k && send(t.fd, in.p, k, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)k)
			break;
		input_take(&in, k);
		turn(&t, lines);
		if (in.n && input_byte(&in) == 0xfe)
			shutdown(t.fd, SHUT_WR);
		else
			h->now += 6000;
	}
	turn(&t, lines);
	assert(t.oks <= lines && (t.ended || t.oks == lines));
	hang_up(&t);
	t = dial(h, &at, at_n);
	assert(send(t.fd, "{\"cmd\":\"list\"}\n", 15, MSG_NOSIGNAL) == 15);
	turn(&t, 1);
	assert(t.oks == 1);
	hang_up(&t);
	harness_free(h);
	close(fd);
	return 0;
}
