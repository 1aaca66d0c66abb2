/* sink.c - the sink: takes mail, keeps nothing, counts exactly; can defer, reject, refuse and be slow as real servers are.
 *
 *   sink [--port N] [options]        see usage()
 *
 * Says "LISTENING PORT" when it does.  Ends when --expect messages came, after --idle seconds without one, after --max
 * seconds, or at SIGTERM, and prints one JSON object: what came, how often (by the loader's id), when.
 * Times are CLOCK_MONOTONIC in seconds, comparable with the loader's on the same machine.
 * Exit status: 0; 1 when fewer than --expect came.
 */
#include "sink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 4096
#define WAIT_MS 100
#define NUMBERS (1u << 27) /* ids told apart: 16 MiB of bits; a run has fewer */
#define ACCEPTS 64         /* a turn */
#define RUN_MAX 64

struct sink_options sink = { .threads = 1, .max = 600 };
struct sink_count count;

static atomic_uchar *seen; /* a bit for each number of the run */
static atomic_bool stop;
static char run[RUN_MAX];
static pthread_mutex_t run_lock = PTHREAD_MUTEX_INITIALIZER;
static int listener;

/* ---- books ---- */

/* True when the id belongs to this run: that of the command line, or of the first message. */
static bool of_run(const char *id, size_t n)
{
	bool same;

	if (n >= RUN_MAX)
		return false;
	pthread_mutex_lock(&run_lock);
	if (!run[0])
		memcpy(run, id, n);
	same = strlen(run) == n && memcmp(run, id, n) == 0;
	pthread_mutex_unlock(&run_lock);
	return same;
}

/* False: of another run. */
static bool book_id(const char *id)
{
	const char *dash = strrchr(id, '-');
	unsigned long n;

	if (!dash) {
		atomic_fetch_add(&count.no_id, 1);
		return !sink.run;
	}
	n = strtoul(dash + 1, NULL, 10);
	if (n >= NUMBERS || !of_run(id, (size_t)(dash - id))) {
		atomic_fetch_add(&count.other_run, 1);
		return !sink.run;
	}
	if (atomic_fetch_or(&seen[n >> 3], (unsigned char)(1u << (n & 7))) & (1u << (n & 7)))
		atomic_fetch_add(&count.doubled, 1);
	else
		atomic_fetch_add(&count.unique, 1);
	return true;
}

void sink_book(struct sink_session *s, int64_t now)
{
	atomic_fetch_add(&count.rcpts, (long)s->rcpts);
	atomic_fetch_add(&count.octets, (long long)s->octets);
	atomic_fetch_add(&count.messages, 1);
	if (!book_id(s->id))
		return; /* it is counted, but nobody waits for it */
	if (atomic_fetch_add(&count.expected, 1) == 0)
		atomic_store(&count.first_us, now);
	atomic_store(&count.last_us, now);
}

/* ---- workers ---- */

static void accept_some(struct sink_worker *w)
{
	for (int i = 0; i < ACCEPTS; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd == -1) {
			if (!would_block(errno) && errno != ECONNABORTED)
				die("accept: %s", strerror(errno));
			return;
		}
		sink_accept(w, fd);
	}
}

static bool enough(int64_t start)
{
	int64_t now = now_us();
	long n = atomic_load(&count.expected);

	return atomic_load(&stop) || (sink.expect && n >= sink.expect) || (double)(now - start) > sink.max * 1e6 ||
	       (sink.idle > 0 && n && (double)(now - atomic_load(&count.last_us)) > sink.idle * 1e6);
}

static void *work(void *arg)
{
	struct sink_worker *w = arg;
	struct epoll_event e = { .events = EPOLLIN | EPOLLEXCLUSIVE }, events[EVENTS];
	int64_t start = now_us();

	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	w->delayed_end = &w->delayed;
	if (w->epoll == -1 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, listener, &e) == -1)
		die("epoll: %s", strerror(errno));
	while (!enough(start)) {
		int n = epoll_wait(w->epoll, events, EVENTS, w->delayed ? 1 : WAIT_MS);

		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				sink_event(events[i].data.ptr, events[i].events);
			else
				accept_some(w);
		}
		sink_answer_due(w, now_us());
	}
	atomic_store(&stop, true);
	return NULL;
}

/* ---- the report ---- */

static json_int_t get(atomic_long *n)
{
	return atomic_load(n);
}

static void report(void)
{
	double first = (double)atomic_load(&count.first_us) / 1e6, last = (double)atomic_load(&count.last_us) / 1e6;
	json_t *j = json_pack("{sI sI sI sI sI sI sI}", "messages", get(&count.messages), "recipients", get(&count.rcpts), "unique", get(&count.unique),
		"duplicates", get(&count.doubled), "no_id", get(&count.no_id), "other_run", get(&count.other_run), "deferred", get(&count.deferred));

	json_object_update_new(j, json_pack("{sI sI sI sI sI sI}", "rejected", get(&count.rejected), "refused", get(&count.refused), "connections",
		get(&count.connections), "tls_connections", get(&count.tls), "max_open", get(&count.most_open), "bytes",
		(json_int_t)atomic_load(&count.octets)));
	json_object_update_new(j, json_pack("{sf sf sf sf sf}", "t_first", first, "t_last", last, "span_s", last - first, "cpu_user_s",
		cpu_seconds(false), "cpu_sys_s", cpu_seconds(true)));
	json_dumpf(j, stdout, JSON_REAL_PRECISION(16));
	putchar('\n');
	fflush(stdout);
	json_decref(j);
}

/* ---- start ---- */

static void usage(void)
{
	fputs("usage: sink [options]\n"
	      "  --host A --port N      IPv4 address and port (127.0.0.1, a free one)\n"
	      "  --cert F --key F       offer STARTTLS; --implicit: TLS before the greeting; --tickets N (2)\n"
	      "  --threads T            event loops (1)\n"
	      "  --expect N --idle S --max S   when to end (never, never, 600)\n"
	      "  --run ID               the run whose messages --expect and the times are about (any; ids: that of the first message)\n"
	      "  --defer P --reject P --refuse P   percent of messages 451, of recipients 550, of sessions 421\n"
	      "  --delay MS             before the answer to each message\n"
	      "  --no-chunking\n", stderr);
	exit(2);
}

static void listen_on(const char *host, long port)
{
	struct sockaddr_in a = address_of(host, port);
	socklen_t n = sizeof a;
	int on = 1;

	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (listener == -1 || bind(listener, (struct sockaddr *)&a, sizeof a) == -1 || listen(listener, BACKLOG) == -1 ||
		getsockname(listener, (struct sockaddr *)&a, &n) == -1)
		die("cannot listen on %s:%ld: %s", host, port, strerror(errno));
	printf("LISTENING %u\n", ntohs(a.sin_port));
	fflush(stdout);
}

enum option_id { O_HOST = 1, O_PORT, O_CERT, O_KEY, O_IMPLICIT, O_TICKETS, O_THREADS, O_EXPECT, O_IDLE, O_MAX, O_RUN, O_DEFER, O_REJECT, O_REFUSE,
	O_DELAY, O_NO_CHUNKING };

static const struct option options[] = { { "host", 1, NULL, O_HOST }, { "port", 1, NULL, O_PORT }, { "cert", 1, NULL, O_CERT }, { "key", 1, NULL, O_KEY },
	{ "implicit", 0, NULL, O_IMPLICIT }, { "tickets", 1, NULL, O_TICKETS }, { "threads", 1, NULL, O_THREADS }, { "expect", 1, NULL, O_EXPECT },
	{ "idle", 1, NULL, O_IDLE }, { "max", 1, NULL, O_MAX }, { "run", 1, NULL, O_RUN }, { "defer", 1, NULL, O_DEFER }, { "reject", 1, NULL, O_REJECT },
	{ "refuse", 1, NULL, O_REFUSE }, { "delay", 1, NULL, O_DELAY }, { "no-chunking", 0, NULL, O_NO_CHUNKING }, { NULL, 0, NULL, 0 } };

struct where {
	const char *host, *cert, *key;
	long port, tickets;
};

static void parse(int argc, char **argv, struct where *at)
{
	for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (o) {
		case O_HOST: at->host = optarg; break;
		case O_PORT: at->port = number(optarg, 0, 65535, "--port"); break;
		case O_CERT: at->cert = optarg; break;
		case O_KEY: at->key = optarg; break;
		case O_IMPLICIT: sink.implicit = true; break;
		case O_TICKETS: at->tickets = number(optarg, 0, 10, "--tickets"); break;
		case O_THREADS: sink.threads = number(optarg, 1, 64, "--threads"); break;
		case O_EXPECT: sink.expect = number(optarg, 0, NUMBERS, "--expect"); break;
		case O_IDLE: sink.idle = (double)number(optarg, 0, 86400, "--idle"); break;
		case O_MAX: sink.max = (double)number(optarg, 1, 86400, "--max"); break;
		case O_RUN: sink.run = optarg; break;
		case O_DEFER: sink.defer = number(optarg, 0, 100, "--defer"); break;
		case O_REJECT: sink.reject = number(optarg, 0, 100, "--reject"); break;
		case O_REFUSE: sink.refuse = number(optarg, 0, 100, "--refuse"); break;
		case O_DELAY: sink.delay_ms = number(optarg, 0, 600000, "--delay"); break;
		case O_NO_CHUNKING: sink.smtp.no_chunking = true; break;
		default: usage();
		}
	}
	if (optind != argc || (sink.implicit && !at->cert))
		usage();
}

static void on_signal(int signum)
{
	(void)signum;
	atomic_store(&stop, true);
}

int main(int argc, char **argv)
{
	struct where at = { .host = "127.0.0.1", .tickets = 2 };
	struct sink_worker *workers;

	parse(argc, argv, &at);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	limits_raise();
	if (at.cert)
		sink.tls = server_context(at.cert, at.key ? at.key : at.cert, at.tickets);
	sink.smtp.hostname = text_view("sink.test");
	sink.smtp.tls = !sink.tls ? PSMTP_TLS_NONE : sink.implicit ? PSMTP_TLS_IMPLICIT : PSMTP_TLS_STARTTLS;
	if (sink.run)
		snprintf(run, sizeof run, "%s", sink.run);
	seen = calloc(NUMBERS / 8, 1);
	workers = calloc((size_t)sink.threads, sizeof *workers);
	if (!seen || !workers)
		die("out of memory");
	listen_on(at.host, at.port);
	for (long i = 0; i < sink.threads; i++) {
		workers[i].random = (uint64_t)i + 1;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
			die("no thread");
	}
	for (long i = 0; i < sink.threads; i++)
		pthread_join(workers[i].thread, NULL);
	report();
	return sink.expect && atomic_load(&count.expected) < sink.expect;
}
