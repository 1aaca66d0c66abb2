/* channel.c - framed channels: malformed frames first, then order, descriptors, full and dying peers, in memory too. */
#include "net/channel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct side {
	struct channel *channel;
	unsigned frames, turns, closed, broken, fds;
	uint32_t last_type;
	size_t octets, last_n;
	uint64_t next;   /* the number that the next frame should carry */
	bool numbered, echo, free_in_frame;
	int fd;
};

static void on_frame(void *arg, struct channel *c, uint32_t type, struct view v, int fd)
{
	struct side *s = arg;

	s->frames++;
	s->last_type = type;
	s->last_n = v.n;
	s->octets += v.n;
	if (s->numbered) {
		uint64_t n;

		assert_true(v.n >= sizeof n);
		memcpy(&n, v.p, sizeof n);
		assert_true(n == s->next);
		s->next++;
	}
	if (fd != -1) {
		s->fds++;
		if (s->fd != -1)
			close(s->fd);
		s->fd = fd;
	}
	if (s->echo)
		channel_send(c, type, v);
	if (s->free_in_frame) {
		s->channel = NULL;
		channel_free(c);
	}
}

static void on_closed(void *arg, struct channel *c)
{
	struct side *s = arg;

	s->closed++;
	s->broken += channel_was_broken(c);
	s->channel = NULL;
	channel_free(c);
}

static void on_turn(void *arg, struct channel *c)
{
	(void)c;
	((struct side *)arg)->turns++;
}

static const struct channel_handler handler = { on_frame, on_closed, on_turn };

struct world {
	struct loop *loop;
	struct side side[2];
	int raw; /* with one side only: the other end of its socket */
};

static struct world open_world(bool memory)
{
	struct world w = { .loop = loop_new(&env_real), .raw = -1 };
	struct channel *ends[2];
	int fd[2];

	assert_non_null(w.loop);
	if (memory) {
		assert_int_equal(channel_pair(w.loop, ends), 0);
	} else {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
		ends[0] = channel_new(w.loop, fd[0]);
		ends[1] = channel_new(w.loop, fd[1]);
	}
	w.side[0] = (struct side){ .channel = ends[0], .fd = -1 };
	w.side[1] = (struct side){ .channel = ends[1], .fd = -1 };
	return w;
}

static struct world open_half(void)
{
	struct world w = { .loop = loop_new(&env_real), .raw = -1 };
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	w.raw = fd[1];
	w.side[0] = (struct side){ .channel = channel_new(w.loop, fd[0]), .fd = -1 };
	w.side[1] = (struct side){ .fd = -1 };
	return w;
}

static void listen_to(struct world *w)
{
	unsigned i;

	for (i = 0; i < 2; i++)
		if (w->side[i].channel)
			channel_set_handler(w->side[i].channel, &handler, &w->side[i]);
}

static void close_world(struct world *w)
{
	unsigned i;

	for (i = 0; i < 2; i++) {
		channel_free(w->side[i].channel);
		if (w->side[i].fd != -1)
			close(w->side[i].fd);
	}
	if (w->raw != -1)
		close(w->raw);
	loop_free(w->loop);
}

static void turns(struct world *w, unsigned n)
{
	while (n--)
		loop_turn(w->loop, false);
}

/* ---- errors ---- */

static void write_raw(int fd, const void *p, size_t n)
{
	assert_int_equal(write(fd, p, n), (ssize_t)n);
}

static void a_length_over_the_limit_closes(void **state)
{
	struct world w = open_half();
	const unsigned char bad[8] = { 1, 0, 16, 0, 1, 0, 0, 0 }; /* 1 MiB + 1 */

	(void)state;
	listen_to(&w);
	write_raw(w.raw, bad, sizeof bad);
	turns(&w, 3);
	assert_int_equal(w.side[0].frames, 0);
	assert_int_equal(w.side[0].closed, 1);
	assert_int_equal(w.side[0].broken, 1);
	close_world(&w);
}

static void type_zero_and_a_missing_descriptor_close(void **state)
{
	const unsigned char zero[8] = { 0, 0, 0, 0, 0, 0, 0, 0 }, no_fd[8] = { 0, 0, 0, 0, 1, 0, 0, 0x80 },
			    fine[9] = { 1, 0, 0, 0, 7, 0, 0, 0, 'x' };
	struct world w = open_half();

	(void)state;
	listen_to(&w);
	write_raw(w.raw, fine, sizeof fine); /* what is right before it is still told */
	write_raw(w.raw, zero, sizeof zero);
	write_raw(w.raw, fine, sizeof fine);
	turns(&w, 3);
	assert_int_equal(w.side[0].frames, 1);
	assert_int_equal(w.side[0].last_type, 7);
	assert_int_equal(w.side[0].closed, 1);
	assert_int_equal(w.side[0].broken, 1);
	close_world(&w);
	w = open_half();
	listen_to(&w);
	write_raw(w.raw, no_fd, sizeof no_fd);
	turns(&w, 3);
	assert_int_equal(w.side[0].closed, 1);
	assert_int_equal(w.side[0].broken, 1);
	close_world(&w);
}

static void half_a_frame_at_the_end_is_dropped(void **state)
{
	const unsigned char half[10] = { 5, 0, 0, 0, 7, 0, 0, 0, 'x', 'y' };
	struct world w = open_half();

	(void)state;
	listen_to(&w);
	write_raw(w.raw, half, sizeof half);
	turns(&w, 2);
	assert_int_equal(w.side[0].closed, 0);
	close(w.raw);
	w.raw = -1;
	turns(&w, 3);
	assert_int_equal(w.side[0].frames, 0);
	assert_int_equal(w.side[0].closed, 1);
	assert_int_equal(w.side[0].broken, 0); /* it died in the middle: no rule is broken by that */
	close_world(&w);
}

static void frames_arrive_at_every_split(void **state)
{
	const unsigned char two[20] = { 3, 0, 0, 0, 7, 0, 0, 0, 'a', 'b', 'c', 1, 0, 0, 0, 8, 0, 0, 0, 'd' };
	size_t i;

	(void)state;
	for (i = 1; i < sizeof two; i++) {
		struct world w = open_half();

		listen_to(&w);
		write_raw(w.raw, two, i);
		turns(&w, 2);
		write_raw(w.raw, two + i, sizeof two - i);
		turns(&w, 2);
		assert_int_equal(w.side[0].frames, 2);
		assert_int_equal(w.side[0].last_type, 8);
		assert_int_equal(w.side[0].octets, 4);
		close_world(&w);
	}
}

static void a_peer_that_takes_nothing_is_closed(void **state)
{
	struct world w = open_half();
	char *big = calloc(1, CHANNEL_FRAME_MAX);
	unsigned n = 0;

	(void)state;
	listen_to(&w);
	assert_false(channel_send(w.side[0].channel, 1, view_of(big, CHANNEL_FRAME_MAX + 1)));
	assert_true(channel_is_open(w.side[0].channel)); /* our own mistake is refused, not fatal */
	while (n < 1000 && channel_send(w.side[0].channel, 1, view_of(big, CHANNEL_FRAME_MAX)))
		n++;
	assert_in_range(n, CHANNEL_OUT_MAX / CHANNEL_FRAME_MAX - 1, CHANNEL_OUT_MAX / CHANNEL_FRAME_MAX + 1);
	assert_false(channel_is_open(w.side[0].channel));
	assert_int_equal(w.side[0].closed, 0); /* told at the end of the turn, not within the call */
	turns(&w, 1);
	assert_int_equal(w.side[0].closed, 1);
	free(big);
	close_world(&w);
}

static void what_a_dying_peer_wrote_is_read(void **state)
{
	const unsigned char fine[9] = { 1, 0, 0, 0, 7, 0, 0, 0, 'x' };
	struct world w = open_half();

	(void)state;
	listen_to(&w);
	write_raw(w.raw, fine, sizeof fine);
	close(w.raw);
	w.raw = -1;
	assert_true(channel_send(w.side[0].channel, 1, VIEW("too late")));
	channel_flush(w.side[0].channel); /* EPIPE */
	assert_false(channel_send(w.side[0].channel, 1, VIEW("x")));
	turns(&w, 3);
	assert_int_equal(w.side[0].frames, 1);
	assert_int_equal(w.side[0].closed, 1);
	close_world(&w);
}

static void unasked_descriptors_are_bounded(void **state)
{
	struct world w = open_half();
	const unsigned char byte = 0;
	unsigned i;

	(void)state;
	listen_to(&w);
	for (i = 0; i < 100 && !w.side[0].closed; i++) {
		union { struct cmsghdr h; char b[CMSG_SPACE(sizeof(int))]; } control = { .b = { 0 } };
		struct iovec iov = { (void *)(uintptr_t)&byte, 1 };
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);

		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &w.raw, sizeof(int));
		sendmsg(w.raw, &m, MSG_NOSIGNAL);
		turns(&w, 1);
	}
	turns(&w, 2);
	assert_int_equal(w.side[0].closed, 1);
	assert_int_equal(w.side[0].broken, 1);
	close_world(&w);
}

/* ---- what should work, over a socket and in memory ---- */

static void order_and_one_write(bool memory)
{
	struct world w = open_world(memory);
	char *buf = calloc(1, 100000);
	uint64_t i;

	listen_to(&w);
	w.side[1].numbered = true;
	for (i = 0; i < 2000; i++) {
		memcpy(buf, &i, sizeof i);
		assert_true(channel_send(w.side[0].channel, 5, view_of(buf, 8 + (size_t)(i * 37 % 3000))));
		assert_int_equal(w.side[1].frames, 0); /* nothing before the end of the turn */
	}
	for (i = 0; i < 300 && w.side[1].frames < 2000; i++)
		turns(&w, 1);
	assert_int_equal(w.side[1].frames, 2000);
	assert_in_range(w.side[1].turns, 1, 300);
	free(buf);
	close_world(&w);
}

static void order_is_kept(void **state)
{
	(void)state;
	order_and_one_write(false);
	order_and_one_write(true);
}

/* ---- the kernel lacks memory, for a while ---- */

static int lacking; /* calls that still fail, and how */
static int lacks;

ssize_t __real_sendmsg(int, const struct msghdr *, int);
ssize_t __wrap_sendmsg(int, const struct msghdr *, int);
ssize_t __real_recvmsg(int, struct msghdr *, int);
ssize_t __wrap_recvmsg(int, struct msghdr *, int);

static bool is_lacking(void)
{
	if (lacking == 0)
		return false;
	lacking--;
	errno = lacks;
	return true;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags)
{
	return is_lacking() ? -1 : __real_sendmsg(fd, m, flags);
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags)
{
	return is_lacking() ? -1 : __real_recvmsg(fd, m, flags);
}

/* Both roles live on: a channel that ended would never be made again. */
static void memory_that_the_kernel_lacks_ends_nothing(void **state)
{
	static const int numbers[] = { ENOMEM, ENOBUFS, EINTR };

	(void)state;
	for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
		for (int calls = 1; calls < 12; calls++) {
			struct world w = open_world(false);

			listen_to(&w);
			w.side[1].echo = true;
			lacks = numbers[k];
			lacking = calls;
			for (uint32_t i = 0; i < 3; i++)
				assert_true(channel_send(w.side[0].channel, 9 + i, VIEW("frame")));
			for (int i = 0; i < 100 && w.side[0].frames < 3; i++)
				turns(&w, 1);
			assert_int_equal(lacking, 0);
			assert_int_equal(w.side[0].frames, 3);
			assert_int_equal(w.side[0].last_type, 11);
			assert_int_equal(w.side[0].closed + w.side[1].closed, 0);
			close_world(&w);
		}
}

static void echoes_and_largest(bool memory)
{
	struct world w = open_world(memory);
	char *big = calloc(1, CHANNEL_FRAME_MAX);
	unsigned i;
	unsigned char *p;

	listen_to(&w);
	w.side[1].echo = true;
	assert_true(channel_send(w.side[0].channel, 9, view_of(big, CHANNEL_FRAME_MAX)));
	assert_true(channel_send(w.side[0].channel, 10, view_of("", 0)));
	p = channel_reserve(w.side[0].channel, 100);
	assert_non_null(p);
	memset(p, 'r', 100);
	channel_commit(w.side[0].channel, 11, 40); /* fewer than reserved */
	for (i = 0; i < 200 && w.side[0].frames < 3; i++)
		turns(&w, 1);
	assert_int_equal(w.side[0].frames, 3);
	assert_int_equal(w.side[0].last_type, 11);
	assert_int_equal(w.side[0].last_n, 40);
	assert_int_equal(w.side[0].octets, CHANNEL_FRAME_MAX + 40);
	free(big);
	close_world(&w);
}

static void echoes(void **state)
{
	(void)state;
	echoes_and_largest(false);
	echoes_and_largest(true);
}

static void descriptors(bool memory)
{
	struct world w = open_world(memory);
	int p[2];
	char c = 0;
	unsigned i;

	assert_int_equal(pipe(p), 0);
	listen_to(&w);
	for (i = 0; i < 40; i++) {
		channel_send(w.side[0].channel, 1, VIEW("before"));
		assert_true(channel_send_fd(w.side[0].channel, 2, VIEW("with"), p[1]));
		channel_send(w.side[0].channel, 3, VIEW("after"));
	}
	turns(&w, 60);
	assert_int_equal(w.side[1].frames, 120);
	assert_int_equal(w.side[1].fds, 40);
	assert_int_equal(w.side[1].last_type, 3);
	close(p[1]);
	assert_int_equal(write(w.side[1].fd, "!", 1), 1);
	assert_int_equal(read(p[0], &c, 1), 1);
	assert_int_equal(c, '!');
	assert_true(fcntl(w.side[1].fd, F_GETFD) & FD_CLOEXEC);
	/* not delivered: closed with the channel */
	assert_true(channel_send_fd(w.side[0].channel, 2, VIEW("lost"), p[0]));
	close(p[0]);
	close_world(&w);
}

static void descriptors_travel(void **state)
{
	(void)state;
	descriptors(false);
	descriptors(true);
}

static void freed_in_its_own_handler(bool memory)
{
	struct world w = open_world(memory);
	unsigned i;

	listen_to(&w);
	w.side[1].free_in_frame = true;
	for (i = 0; i < 5; i++)
		channel_send(w.side[0].channel, 1, VIEW("x"));
	turns(&w, 3);
	assert_int_equal(w.side[1].frames, 1);
	assert_int_equal(w.side[0].closed, 1);
	assert_int_equal(w.side[1].closed, 0); /* who frees is not told */
	close_world(&w);
}

static void a_handler_may_free(void **state)
{
	(void)state;
	freed_in_its_own_handler(false);
	freed_in_its_own_handler(true);
}

static void last_words(bool memory)
{
	struct world w = open_world(memory);

	listen_to(&w);
	channel_send(w.side[0].channel, 4, VIEW("last"));
	channel_free(w.side[0].channel);
	w.side[0].channel = NULL;
	turns(&w, 3);
	assert_int_equal(w.side[1].frames, 1);
	assert_int_equal(w.side[1].closed, 1);
	close_world(&w);
}

static void frames_before_the_end_arrive(void **state)
{
	(void)state;
	last_words(false);
	last_words(true);
}

static void held(bool memory)
{
	struct world w = open_world(memory);

	channel_send(w.side[0].channel, 4, VIEW("early"));
	turns(&w, 3);
	channel_free(w.side[0].channel);
	w.side[0].channel = NULL;
	turns(&w, 1);
	listen_to(&w);
	turns(&w, 3);
	assert_int_equal(w.side[1].frames, 1);
	assert_int_equal(w.side[1].closed, 1);
	close_world(&w);
}

static void frames_wait_for_a_handler(void **state)
{
	(void)state;
	held(false);
	held(true);
}

static void the_descriptor_can_be_taken_back(void **state)
{
	struct world w = open_half();
	struct channel *ends[2];
	int fd;

	(void)state;
	fd = channel_detach_fd(w.side[0].channel);
	w.side[0].channel = NULL;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
	assert_int_equal(channel_pair(w.loop, ends), 0);
	assert_int_equal(channel_detach_fd(ends[0]), -1);
	channel_free(ends[1]);
	close_world(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_length_over_the_limit_closes),
		cmocka_unit_test(type_zero_and_a_missing_descriptor_close),
		cmocka_unit_test(half_a_frame_at_the_end_is_dropped),
		cmocka_unit_test(frames_arrive_at_every_split),
		cmocka_unit_test(a_peer_that_takes_nothing_is_closed),
		cmocka_unit_test(what_a_dying_peer_wrote_is_read),
		cmocka_unit_test(unasked_descriptors_are_bounded),
		cmocka_unit_test(order_is_kept),
		cmocka_unit_test(memory_that_the_kernel_lacks_ends_nothing),
		cmocka_unit_test(echoes),
		cmocka_unit_test(descriptors_travel),
		cmocka_unit_test(a_handler_may_free),
		cmocka_unit_test(frames_before_the_end_arrive),
		cmocka_unit_test(frames_wait_for_a_handler),
		cmocka_unit_test(the_descriptor_can_be_taken_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
