/* flood.c - many connections from many addresses: what tests/attacks/run starts against a listener.
 *
 * Use: flood --port N --count N [--at-once N] [--sources N] [--first A.B.C.D] [--hold] [--keep] [--reset] [--seconds N]
 * Opens `count` connections to 127.0.0.1:port, at most `at-once` in progress at one time, from `sources` addresses in turn
 * (first, first + 1, ...), reads one line from each and closes it: with a FIN, or with a reset (--reset).
 * --hold keeps all that were greeted, prints "held ...", waits for a line on standard input, then says NOOP on each and
 * counts the 250s.  --keep leaves also those open that were held off, though the server has ended its side.  Ends after `seconds` whatever has happened.
 * Prints: opened= greeted= held_off= closed= failed= served= seconds= slowest_ms=  (held_off: 421; closed: no line at all)
 * Exit status 0, or 1 when it could not do its work (descriptors, arguments).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINE 512
#define EVENTS 1024
#define SPARE_FDS 64

enum state { FREE = 1, CONNECTING, GREETING, HELD, SERVED, KEPT };

struct one {
	int fd;
	enum state state;
	uint64_t begun;
	unsigned got;
	char line[LINE];
};

static struct {
	unsigned port, count, at_once, sources, seconds;
	bool hold, keep, reset;
	struct in_addr first;
	struct one *all;
	unsigned *idle, idle_n; /* places of `all` that are free */
	int epoll;
	unsigned opened, under_way, greeted, held_off, closed, failed, served;
	uint64_t slowest;
} f = { .count = 1000, .at_once = 500, .sources = 1, .seconds = 60 };

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void finish(struct one *o)
{
	struct linger cut = { .l_onoff = 1, .l_linger = 0 };

	if (f.reset)
		setsockopt(o->fd, SOL_SOCKET, SO_LINGER, &cut, sizeof cut);
	close(o->fd);
	o->fd = -1;
	o->state = FREE;
	f.idle[f.idle_n++] = (unsigned)(o - f.all);
}

static void judged(struct one *o)
{
	uint64_t took = now_ms() - o->begun;

	if (took > f.slowest)
		f.slowest = took;
	f.under_way--;
}

/* False: the kernel gives no socket or port now. */
static bool open_one(void)
{
	struct one *o = &f.all[f.idle[f.idle_n - 1]];
	struct sockaddr_in from = { .sin_family = AF_INET }, to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)f.port) };
	struct epoll_event e = { .events = EPOLLOUT, .data.ptr = o };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd == -1)
		return false;
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	from.sin_addr.s_addr = htonl(ntohl(f.first.s_addr) + f.opened % f.sources);
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one); /* ports by pair of addresses, not by address */
	if (bind(fd, (struct sockaddr *)&from, sizeof from) == -1 ||
	    (connect(fd, (struct sockaddr *)&to, sizeof to) == -1 && errno != EINPROGRESS) ||
	    epoll_ctl(f.epoll, EPOLL_CTL_ADD, fd, &e) == -1) {
		close(fd);
		return false;
	}
	f.idle_n--;
	f.opened++;
	f.under_way++;
	*o = (struct one){ .fd = fd, .state = CONNECTING, .begun = now_ms() };
	return true;
}

static void line_read(struct one *o)
{
	if (o->state == HELD) {
		f.served += memcmp(o->line, "250", 3) == 0;
		o->state = SERVED;
		return;
	}
	judged(o);
	if (memcmp(o->line, "220", 3) == 0) {
		f.greeted++;
		if (f.hold) {
			o->state = HELD;
			o->got = 0;
			return;
		}
	} else {
		f.held_off += memcmp(o->line, "421", 3) == 0;
		f.failed += memcmp(o->line, "421", 3) != 0;
		if (f.keep) {
			o->state = KEPT;
			epoll_ctl(f.epoll, EPOLL_CTL_DEL, o->fd, NULL);
			return;
		}
	}
	finish(o);
}

static void readable(struct one *o)
{
	ssize_t n = recv(o->fd, o->line + o->got, sizeof o->line - 1 - o->got, 0);

	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		if (o->state == GREETING) {
			judged(o);
			f.closed++;
		}
		finish(o);
		return;
	}
	o->got += (unsigned)n;
	if (o->got >= 4 && (memchr(o->line, '\n', o->got) || o->got == sizeof o->line - 1))
		line_read(o);
}

static void ready(struct one *o, unsigned events)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = o };
	int err = 0;
	socklen_t n = sizeof err;

	if (o->state == CONNECTING) {
		getsockopt(o->fd, SOL_SOCKET, SO_ERROR, &err, &n);
		if (err) {
			judged(o);
			f.failed++;
			finish(o);
			return;
		}
		o->state = GREETING;
		epoll_ctl(f.epoll, EPOLL_CTL_MOD, o->fd, &e);
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		readable(o);
}

/* One turn: whatever is ready within `ms`. */
static void turn(int ms)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(f.epoll, events, EVENTS, ms);

	for (int i = 0; i < n; i++)
		ready(events[i].data.ptr, events[i].events);
}

static void hold(uint64_t end)
{
	unsigned said = 0;
	char c;

	printf("held=%u held_off=%u closed=%u failed=%u slowest_ms=%llu\n", f.greeted, f.held_off, f.closed, f.failed, (unsigned long long)f.slowest);
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) == 1 && c != '\n')
		;
	for (unsigned i = 0; i < f.at_once; i++)
		if (f.all[i].state == HELD)
			said += send(f.all[i].fd, "NOOP\r\n", 6, MSG_NOSIGNAL) == 6;
	while (f.served < said && now_ms() < end)
		turn(50);
}

static int parse(int argc, char **argv)
{
	static const struct { const char *name; unsigned *to; } numbers[] = {
		{ "--port", &f.port }, { "--count", &f.count }, { "--at-once", &f.at_once }, { "--sources", &f.sources }, { "--seconds", &f.seconds },
	};

	inet_aton("127.1.0.1", &f.first);
	for (int i = 1; i < argc; i++) {
		size_t k = 0;

		while (k < sizeof numbers / sizeof *numbers && strcmp(argv[i], numbers[k].name) != 0)
			k++;
		if (strcmp(argv[i], "--hold") == 0)
			f.hold = true;
		else if (strcmp(argv[i], "--keep") == 0)
			f.keep = true;
		else if (strcmp(argv[i], "--reset") == 0)
			f.reset = true;
		else if (i + 1 == argc)
			return -1;
		else if (strcmp(argv[i], "--first") == 0 && inet_aton(argv[i + 1], &f.first))
			i++;
		else if (k < sizeof numbers / sizeof *numbers)
			*numbers[k].to = (unsigned)strtoul(argv[++i], NULL, 10);
		else
			return -1;
	}
	if (f.hold)
		f.at_once = f.count;
	return f.port && f.count && f.at_once && f.sources && f.seconds ? 0 : -1;
}

static int prepare(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == -1)
		return -1;
	r.rlim_cur = r.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &r) == -1 || r.rlim_cur < f.at_once + SPARE_FDS) {
		fprintf(stderr, "flood: %u connections at once need more descriptors than %llu\n", f.at_once, (unsigned long long)r.rlim_cur);
		return -1;
	}
	f.all = calloc(f.at_once, sizeof *f.all);
	f.idle = calloc(f.at_once, sizeof *f.idle);
	f.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!f.all || !f.idle || f.epoll == -1)
		return -1;
	while (f.idle_n < f.at_once) {
		f.all[f.idle_n].state = FREE;
		f.idle[f.idle_n] = f.at_once - 1 - f.idle_n;
		f.idle_n++;
	}
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t begun = now_ms(), end;
	double seconds;

	if (parse(argc, argv) == -1) {
		fprintf(stderr, "usage: flood --port N --count N [--at-once N] [--sources N] [--first A.B.C.D] [--hold] [--keep] [--reset] [--seconds N]\n");
		return 1;
	}
	if (prepare() == -1)
		return 1;
	end = begun + f.seconds * 1000ull;
	while ((f.opened < f.count || f.under_way) && now_ms() < end) {
		/* some at a time, so that what is ready is read in between */
		for (unsigned i = 0; i < 64 && f.opened < f.count && f.idle_n && f.under_way < f.at_once; i++)
			if (!open_one())
				break;
		turn(f.opened < f.count && f.idle_n ? 0 : 20);
	}
	seconds = (double)(now_ms() - begun) / 1000;
	if (f.hold)
		hold(end);
	printf("opened=%u greeted=%u held_off=%u closed=%u failed=%u unanswered=%u served=%u seconds=%.2f slowest_ms=%llu\n", f.opened, f.greeted,
	       f.held_off, f.closed, f.failed, f.under_way, f.served, seconds, (unsigned long long)f.slowest);
	return 0;
}
