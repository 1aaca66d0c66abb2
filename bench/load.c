/* load.c - the loader: sends mail to one server as fast as it is told, measures, prints one JSON object.
 *
 *   load --port N [options]        see usage() for the options
 *
 * Closed loop: --concurrency sessions are open at any time.  Open loop: --rate sessions start a second whatever the server
 * does, and their time counts from when they were due.  Held: --hold keeps sessions open after EHLO (and TLS), says
 * "READY N" and ends after so many seconds, or at SIGTERM.
 * Exit status: 0, 1 when a session failed or a message was lost, 2 when the command line makes no sense.
 */
#include "load.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define SWEEP_US 500000  /* between looks at who makes no progress */
#define WAIT_MS 100      /* at most in epoll_wait: --duration and signals are looked at so often */
#define READY_S 180      /* for all held sessions to be up */
#define HEAD_ABOUT 300   /* octets of a message's own header, so that --size is the whole message's */
#define LINE 76

struct load_options load = { .tls = LOAD_CLEAR, .name = "mx.sink.test", .hello = "load.test", .sender = "load@src.test", .local = "u",
	.domain = "sink.test", .sessions = 1000, .concurrency = 50, .per_session = 1, .size = 4096, .rcpts = 1, .threads = 1, .sources = 1,
	.ramp = 64, .timeout_ms = 60000 };

static atomic_long next_number, held, failed;
static atomic_bool stop;
static int64_t start;

/* ---- workers ---- */

void session_settled(struct session *s)
{
	struct load_count *c = &s->w->count;

	if (s->failed) {
		c->sessions_failed++;
		atomic_fetch_add(&failed, 1);
	} else {
		c->sessions_ok++;
		samples_add(&c->session, now_us() - s->began);
	}
	if (s->step == SESSION_HOLDING)
		atomic_fetch_sub(&held, 1);
	else
		s->w->pending--;
	s->w->open--;
	s->w->free[s->w->free_n++] = s;
}

void session_holds(struct session *s)
{
	s->w->pending--;
	atomic_fetch_add(&held, 1);
}

static int keep_ticket(SSL *ssl, SSL_SESSION *ticket)
{
	struct worker *w = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	SSL_SESSION_free(w->ticket);
	w->ticket = ticket;
	return 1;
}

static void worker_init(struct worker *w, long id, long sessions)
{
	struct load_room *rooms = calloc((size_t)sessions, sizeof *rooms);

	*w = (struct worker){ .id = id, .sessions_n = sessions, .epoll = epoll_create1(EPOLL_CLOEXEC) };
	w->sessions = calloc((size_t)sessions, sizeof *w->sessions);
	w->free = calloc((size_t)sessions, sizeof(struct session *));
	if (!rooms || !w->sessions || !w->free || w->epoll == -1)
		die("out of memory");
	while (w->free_n < sessions) {
		w->sessions[w->free_n].room = &rooms[w->free_n];
		w->free[w->free_n] = &w->sessions[w->free_n];
		w->free_n++;
	}
	if (load.tls == LOAD_CLEAR)
		return;
	w->tls = client_context(load.tls_min, load.tls_max, load.groups, load.resume);
	SSL_CTX_set_app_data(w->tls, w);
	if (load.resume)
		SSL_CTX_sess_set_new_cb(w->tls, keep_ticket);
}

static bool stopping(int64_t now)
{
	return atomic_load(&stop) || (load.duration > 0 && (double)(now - start) > load.duration * 1e6);
}

/* As many as there is room for, or as are due. */
static void start_sessions(struct worker *w, int64_t now)
{
	while (w->free_n > 0 && !w->ramped && !(load.hold > 0 && w->pending >= load.ramp)) {
		int64_t due = now_us();
		long number;

		if (load.rate > 0) {
			due = start + (int64_t)((double)(w->started * load.threads + w->id) * 1e6 / load.rate);
			if (due > now)
				return;
		}
		number = atomic_fetch_add(&next_number, 1);
		if (number >= load.sessions) {
			w->ramped = true;
			return;
		}
		w->started++;
		session_start(w, number, due);
	}
}

static void sweep(struct worker *w, int64_t now)
{
	for (long i = 0; i < w->sessions_n; i++)
		session_sweep(&w->sessions[i], (uint64_t)now / 1000);
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	struct epoll_event events[EVENTS];
	int64_t swept = now_us(), hold_end = 0;

	for (;;) {
		int64_t now = now_us();
		bool enough = stopping(now);
		int n;

		if (!enough)
			start_sessions(w, now);
		if (load.hold > 0 && !hold_end && w->pending == 0 && (w->ramped || w->free_n == 0))
			hold_end = now + (int64_t)(load.hold * 1e6);
		if (load.hold > 0 && (enough || (hold_end && now > hold_end))) {
			for (long i = 0; i < w->sessions_n; i++)
				session_release(&w->sessions[i]);
			return NULL;
		}
		if (w->open == 0 && (enough || w->ramped))
			return NULL;
		n = epoll_wait(w->epoll, events, EVENTS, load.rate > 0 ? 1 : WAIT_MS);
		for (int i = 0; i < n; i++)
			session_event(events[i].data.ptr, events[i].events);
		if (now - swept > SWEEP_US) {
			swept = now;
			sweep(w, now_us());
		}
	}
}

static void count_merge(struct load_count *to, struct load_count *from)
{
	to->sessions_ok += from->sessions_ok;
	to->sessions_failed += from->sessions_failed;
	to->messages_ok += from->messages_ok;
	to->deferred += from->deferred;
	to->refused += from->refused;
	to->lost += from->lost;
	to->resumed += from->resumed;
	to->bytes_out += from->bytes_out;
	samples_move(&to->session, &from->session);
	samples_move(&to->message, &from->message);
	samples_move(&to->handshake, &from->handshake);
	for (size_t i = 0; i < ERRORS_MAX && from->errors[i].n; i++) {
		size_t j = 0;

		while (j < ERRORS_MAX - 1 && to->errors[j].n && strcmp(to->errors[j].reason, from->errors[i].reason) != 0)
			j++;
		to->errors[j].reason = from->errors[i].reason;
		to->errors[j].n += from->errors[i].n;
	}
	if (!to->first_error[0])
		memcpy(to->first_error, from->first_error, sizeof to->first_error);
	if (!to->protocol[0]) {
		memcpy(to->protocol, from->protocol, sizeof to->protocol);
		memcpy(to->cipher, from->cipher, sizeof to->cipher);
		memcpy(to->group, from->group, sizeof to->group);
	}
}

/* ---- the report ---- */

static json_t *tls_json(const struct load_count *c)
{
	if (load.tls == LOAD_CLEAR)
		return json_null();
	return json_pack("{ss ss ss sI}", "protocol", c->protocol, "cipher", c->cipher, "group", c->group, "resumed", (json_int_t)c->resumed);
}

static void clean(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || (unsigned char)*text > '~')
			*text = '?';
}

static void report(struct load_count *c, int64_t end)
{
	static const char *const tls_name[] = { [LOAD_CLEAR] = "none", [LOAD_STARTTLS] = "starttls", [LOAD_IMPLICIT] = "implicit" };
	double seconds = (double)(end - start) / 1e6;
	json_t *errors = json_object(), *j;

	for (size_t i = 0; i < ERRORS_MAX && c->errors[i].n; i++)
		json_object_set_new(errors, c->errors[i].reason, json_integer(c->errors[i].n));
	clean(c->first_error);
	j = json_pack("{ss ss sI sI sI sI sb sb}", "run", load.run, "tls", tls_name[load.tls], "concurrency", (json_int_t)load.concurrency,
		"messages_per_session", (json_int_t)load.per_session, "size", (json_int_t)load.size, "threads", (json_int_t)load.threads, "resume",
		(int)load.resume, "chunking", (int)load.chunking);
	json_object_update_new(j, json_pack("{sf sf sf}", "t_start", (double)start / 1e6, "t_end", (double)end / 1e6, "elapsed_s", seconds));
	json_object_update_new(j, json_pack("{sI sI sI sI sI sI}", "sessions_ok", (json_int_t)c->sessions_ok, "sessions_failed",
		(json_int_t)c->sessions_failed, "messages_ok", (json_int_t)c->messages_ok, "messages_deferred", (json_int_t)c->deferred,
		"messages_refused", (json_int_t)c->refused, "messages_lost", (json_int_t)c->lost));
	json_object_update_new(j, json_pack("{sf sf sI sf sf}", "sessions_per_s", (double)c->sessions_ok / seconds, "msgs_per_s",
		(double)c->messages_ok / seconds, "bytes_sent", (json_int_t)c->bytes_out, "cpu_user_s", cpu_seconds(false), "cpu_sys_s",
		cpu_seconds(true)));
	json_object_update_new(j, json_pack("{so so so so so ss}", "tls_facts", tls_json(c), "session_ms", samples_json(&c->session),
		"message_ms", samples_json(&c->message), "handshake_ms", samples_json(&c->handshake), "errors", errors, "first_error",
		c->first_error));
	json_dumpf(j, stdout, JSON_REAL_PRECISION(10));
	putchar('\n');
	json_decref(j);
}

/* ---- the command line ---- */

static void usage(void)
{
	fputs("usage: load --port N [options]\n"
	      "  --host A                     IPv4 address (127.0.0.1)\n"
	      "  --tls none|starttls|implicit (none)\n"
	      "  --sessions N                 in all (1000)\n"
	      "  --concurrency C              open at once (50)\n"
	      "  --messages-per-session M     (1); 0: EHLO and QUIT only\n"
	      "  --size B                     of a whole message, about (4096)\n"
	      "  --rcpts R                    recipients of a message (1)\n"
	      "  --threads T                  event loops (1)\n"
	      "  --resume                     resume TLS sessions\n"
	      "  --no-pipelining --chunking   (PIPELINING where offered; DATA, never BDAT)\n"
	      "  --rate R                     open loop: R sessions start a second; their time counts from when they were due\n"
	      "  --duration S                 start no session after S seconds\n"
	      "  --hold S [--ramp K]          open C sessions, K at once, up to READY; print READY N; hold them S seconds\n"
	      "  --sources K                  from 127.0.1.1 and the K-1 addresses above it in turn\n"
	      "  --domains N --domains-from I recipients in dI.DOMAIN to d(I+N-1).DOMAIN in turn\n"
	      "  --timeout S                  of one step (60)\n"
	      "  --groups L --tls-min V --tls-max V --name SNI\n"
	      "  --from A --to-domain D --to-local U --hello H --run ID --number-from N\n", stderr);
	exit(2);
}

enum option_id { O_HOST = 1, O_PORT, O_TLS, O_SESSIONS, O_CONCURRENCY, O_PER_SESSION, O_SIZE, O_RCPTS, O_THREADS, O_RESUME, O_NO_PIPELINING,
	O_CHUNKING, O_RATE, O_DURATION, O_HOLD, O_RAMP, O_SOURCES, O_DOMAINS, O_DOMAINS_FROM, O_TIMEOUT, O_GROUPS, O_TLS_MIN, O_TLS_MAX, O_NAME,
	O_FROM, O_DOMAIN, O_LOCAL, O_HELLO, O_RUN, O_NUMBER_FROM };

static const struct option options[] = { { "host", 1, NULL, O_HOST }, { "port", 1, NULL, O_PORT }, { "tls", 1, NULL, O_TLS },
	{ "sessions", 1, NULL, O_SESSIONS }, { "concurrency", 1, NULL, O_CONCURRENCY }, { "messages-per-session", 1, NULL, O_PER_SESSION },
	{ "size", 1, NULL, O_SIZE }, { "rcpts", 1, NULL, O_RCPTS }, { "threads", 1, NULL, O_THREADS }, { "resume", 0, NULL, O_RESUME },
	{ "no-pipelining", 0, NULL, O_NO_PIPELINING }, { "chunking", 0, NULL, O_CHUNKING }, { "rate", 1, NULL, O_RATE },
	{ "duration", 1, NULL, O_DURATION }, { "hold", 1, NULL, O_HOLD }, { "ramp", 1, NULL, O_RAMP }, { "sources", 1, NULL, O_SOURCES },
	{ "domains", 1, NULL, O_DOMAINS }, { "domains-from", 1, NULL, O_DOMAINS_FROM }, { "timeout", 1, NULL, O_TIMEOUT },
	{ "groups", 1, NULL, O_GROUPS }, { "tls-min", 1, NULL, O_TLS_MIN }, { "tls-max", 1, NULL, O_TLS_MAX }, { "name", 1, NULL, O_NAME },
	{ "from", 1, NULL, O_FROM }, { "to-domain", 1, NULL, O_DOMAIN }, { "to-local", 1, NULL, O_LOCAL }, { "hello", 1, NULL, O_HELLO },
	{ "run", 1, NULL, O_RUN }, { "number-from", 1, NULL, O_NUMBER_FROM }, { NULL, 0, NULL, 0 } };

static double decimal(const char *text, const char *what)
{
	char *end;
	double d = strtod(text, &end);

	if (end == text || *end || d < 0 || d > 1e9)
		die("%s: \"%s\" is no number", what, text);
	return d;
}

static enum load_tls tls_of(const char *text)
{
	if (strcmp(text, "none") == 0)
		return LOAD_CLEAR;
	if (strcmp(text, "starttls") == 0)
		return LOAD_STARTTLS;
	if (strcmp(text, "implicit") == 0)
		return LOAD_IMPLICIT;
	die("--tls %s: none, starttls or implicit is wanted", text);
}

static void option_text(int id, const char *v)
{
	switch (id) {
	case O_TLS: load.tls = tls_of(v); break;
	case O_RESUME: load.resume = true; break;
	case O_NO_PIPELINING: load.no_pipelining = true; break;
	case O_CHUNKING: load.chunking = true; break;
	case O_RATE: load.rate = decimal(v, "--rate"); break;
	case O_DURATION: load.duration = decimal(v, "--duration"); break;
	case O_HOLD: load.hold = decimal(v, "--hold"); break;
	case O_GROUPS: load.groups = v; break;
	case O_TLS_MIN: load.tls_min = v; break;
	case O_TLS_MAX: load.tls_max = v; break;
	case O_NAME: load.name = v; break;
	case O_FROM: load.sender = v; break;
	case O_DOMAIN: load.domain = v; break;
	case O_LOCAL: load.local = v; break;
	case O_HELLO: load.hello = v; break;
	case O_RUN: load.run = v; break;
	default: usage();
	}
}

static void parse(int argc, char **argv)
{
	static const struct { enum option_id id; long *to, min, max; } numbers[] = {
		{ O_SESSIONS, &load.sessions, 1, 1000000000 }, { O_CONCURRENCY, &load.concurrency, 1, 1000000 },
		{ O_PER_SESSION, &load.per_session, 0, 1000000 }, { O_SIZE, &load.size, 1, 1000000000 }, { O_RCPTS, &load.rcpts, 1, RCPTS_MAX },
		{ O_THREADS, &load.threads, 1, 64 }, { O_RAMP, &load.ramp, 1, 100000 }, { O_SOURCES, &load.sources, 1, 250 },
		{ O_DOMAINS, &load.domains, 1, 1000000 }, { O_DOMAINS_FROM, &load.domains_from, 0, 1000000 },
		{ O_NUMBER_FROM, &load.number_from, 0, 1000000000 } };
	const char *host = "127.0.0.1";
	long port = 0;

	for (int o, index = 0; (o = getopt_long(argc, argv, "", options, &index)) != -1;) {
		size_t i = 0;

		while (i < sizeof numbers / sizeof *numbers && (int)numbers[i].id != o)
			i++;
		if (o == O_HOST)
			host = optarg;
		else if (o == O_PORT)
			port = number(optarg, 1, 65535, "--port");
		else if (o == O_TIMEOUT)
			load.timeout_ms = number(optarg, 1, 3600, "--timeout") * 1000;
		else if (i < sizeof numbers / sizeof *numbers)
			*numbers[i].to = number(optarg, numbers[i].min, numbers[i].max, options[index].name);
		else
			option_text(o, optarg);
	}
	if (optind != argc || !port || load.concurrency < load.threads)
		usage();
	load.to = address_of(host, port);
	if (load.hold > 0)
		load.sessions = load.concurrency;
}

/* Lines of printable text, the first with a leading dot, so that dots are stuffed as in real mail now and then. */
static void text_make(void)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t want = load.size > HEAD_ABOUT + 16 ? (size_t)load.size - HEAD_ABOUT : 16;
	uint32_t x = 1;
	size_t n;

	if (!(load.text = malloc(want + LINE + 32)))
		die("out of memory");
	n = (size_t)snprintf(load.text, want + 32, ".dot\r\n");
	while (n + 3 < want) {
		size_t line = want - n - 2 < LINE ? want - n - 2 : LINE;

		for (size_t i = 0; i < line; i++) {
			x = x * 1664525 + 1013904223;
			load.text[n++] = alphabet[x >> 26];
		}
		load.text[n++] = '\r';
		load.text[n++] = '\n';
	}
	load.text_n = n;
}

static void smtp_options(void)
{
	static const enum psmtp_client_tls tls[] = { [LOAD_CLEAR] = PSMTP_CLIENT_TLS_NONE, [LOAD_STARTTLS] = PSMTP_CLIENT_TLS_MUST,
		[LOAD_IMPLICIT] = PSMTP_CLIENT_TLS_IMPLICIT };
	uint32_t ms = (uint32_t)load.timeout_ms;

	load.smtp = (struct psmtp_client_options){ .hello = text_view(load.hello), .tls = tls[load.tls], .no_pipelining = load.no_pipelining,
		.no_chunking = !load.chunking, .greeting_ms = ms, .command_ms = ms, .data_start_ms = ms, .data_block_ms = ms, .data_end_ms = ms,
		.handshake_ms = ms, .quit_ms = ms };
}

static void on_signal(int signum)
{
	(void)signum;
	atomic_store(&stop, true);
}

static void say_ready(void)
{
	int64_t give_up = now_us() + READY_S * (int64_t)1000000;

	while (!atomic_load(&stop) && atomic_load(&held) + atomic_load(&failed) < load.concurrency && now_us() < give_up)
		usleep(20000);
	printf("READY %ld\n", atomic_load(&held));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct load_count total = { 0 };
	char run[32];
	struct worker *workers;

	snprintf(run, sizeof run, "r%llx%x", (unsigned long long)time(NULL), (unsigned)getpid());
	load.run = run;
	parse(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	limits_raise();
	text_make();
	smtp_options();
	if (!(workers = calloc((size_t)load.threads, sizeof *workers)))
		die("out of memory");
	for (long i = 0; i < load.threads; i++)
		worker_init(&workers[i], i, load.concurrency / load.threads + (i < load.concurrency % load.threads));
	start = now_us();
	for (long i = 0; i < load.threads; i++)
		if (pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]) != 0)
			die("no thread");
	if (load.hold > 0)
		say_ready();
	for (long i = 0; i < load.threads; i++) {
		pthread_join(workers[i].thread, NULL);
		count_merge(&total, &workers[i].count);
	}
	report(&total, now_us());
	return total.sessions_failed || total.lost;
}
