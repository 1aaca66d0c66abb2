/* spool_bench.c - how many messages a second the spool takes, hands out, reads and settles, each made durable.
 *
 *   spool_bench [-s senders] [-b octets] [-t seconds] [-q queued beforehand] [-k kept] [-i strict|lagging] [-x] DIRECTORY
 *
 * Every sender keeps one message under way: accept (leased from the start), read, settle, the next.  Prints messages/s,
 * syncs per message, p50 and p99 of the time to the accept's answer, CPU per message, memory, and the time to open.
 * -k: a second phase, in which two of five messages stay, until so many do; then the oldest is settled in its place.  So every
 *     segment is soon less than half live, and compaction never ends.
 * -x: ends without closing, so that the next start has something to recover.
 */
#include "spool/spool.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SENDERS_MAX 10000
#define SAMPLES 2000000
#define FILL_TURN 500 /* accepted in one batch while filling */

struct sender { struct bench *b; int64_t began; spool_id id; };
struct bench {
	struct spool *spool;
	int wake;
	size_t size, under_way, filling;
	uint64_t messages, failed;
	bool stop;
	char *text;
	float *samples;
	size_t samples_n;
	spool_id *kept; /* a ring */
	size_t kept_n, kept_at, kept_max;
	uint64_t turn_of;
	struct sender senders[SENDERS_MAX];
};

static int64_t now_us(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void wake(void *arg)
{
	struct bench *b = arg;
	uint64_t one = 1;

	if (write(b->wake, &one, sizeof one) == -1)
		perror("wake");
}

static void begin(struct sender *s);

static void settled(void *arg, enum spool_status status, spool_id id)
{
	struct sender *s = arg;

	(void)id;
	s->b->under_way--;
	s->b->failed += status != SPOOL_OK;
	s->b->messages++;
	if (!s->b->stop)
		begin(s);
}

/* The id to settle: this one, or an older one in its place; 0: none yet. */
static spool_id keep(struct bench *b, spool_id id)
{
	spool_id oldest;

	if (!b->kept_max || b->turn_of++ % 5 >= 2)
		return id;
	oldest = b->kept[b->kept_at];
	b->kept[b->kept_at] = id;
	b->kept_at = (b->kept_at + 1) % b->kept_max;
	return oldest;
}

static void was_read(void *arg, enum spool_status status, struct view bytes)
{
	struct sender *s = arg;
	spool_id id = keep(s->b, s->id);

	s->b->failed += status != SPOOL_OK || bytes.n != s->b->size;
	if (id) {
		spool_settle(s->b->spool, id, 0, NULL, NULL, 0, settled, s);
		spool_wanted(s->b->spool); /* the sender waits for it */
	} else {
		settled(s, SPOOL_OK, s->id);
	}
}

static void accepted(void *arg, enum spool_status status, spool_id id)
{
	struct sender *s = arg;

	if (status != SPOOL_OK) {
		settled(s, status, id);
		return;
	}
	s->id = id;
	if (s->b->samples_n < SAMPLES)
		s->b->samples[s->b->samples_n++] = (float)(now_us(CLOCK_MONOTONIC) - s->began);
	spool_read(s->b->spool, id, 0, s->b->size, was_read, s);
}

static struct spool_envelope envelope(const char *dest)
{
	static const char data[] = "from=sender@example.org to=one@example.net to=two@example.net envid=xyz trace=0123456789abcdef";

	return (struct spool_envelope){ .dest = view_cstr(dest), .due = 1000, .created = 1000, .expires = 1000000,
		.data = view_cstr(data) };
}

static void begin(struct sender *s)
{
	struct bench *b = s->b;
	struct spool_body *body = spool_body_begin(b->spool, b->size);
	struct spool_envelope e = envelope("smtp:[127.0.0.1]:2650");
	bool lease = true;

	s->began = now_us(CLOCK_MONOTONIC);
	b->under_way++;
	spool_body_write(body, b->text, b->size);
	spool_accept(b->spool, body, &e, &lease, 1, accepted, s);
}

static void filled(void *arg, enum spool_status status, spool_id id)
{
	struct bench *b = arg;

	(void)id;
	b->filling--;
	b->failed += status != SPOOL_OK;
}

static void turn(struct bench *b)
{
	struct pollfd p = { .fd = b->wake, .events = POLLIN };
	uint64_t n;

	spool_kick(b->spool);
	if (poll(&p, 1, 100) == 1 && read(b->wake, &n, sizeof n) == -1)
		perror("wake");
	spool_dispatch(b->spool);
}

static void fill(struct bench *b, size_t count)
{
	while (count) {
		size_t n = count < FILL_TURN ? count : FILL_TURN;
		struct spool_envelope e = envelope("mx:never-answers.example");
		for (size_t i = 0; i < n; i++) {
			struct spool_body *body = spool_body_begin(b->spool, b->size);
			spool_body_write(body, b->text, b->size);
			b->filling++;
			spool_accept(b->spool, body, &e, NULL, 1, filled, b);
		}
		count -= n;
		while (b->filling)
			turn(b);
	}
}

static int by_time(const void *a, const void *b)
{
	const float *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void phase(struct bench *b, const char *what, size_t senders, double seconds)
{
	struct spool_stats before, after;
	int64_t t = now_us(CLOCK_MONOTONIC), cpu = now_us(CLOCK_PROCESS_CPUTIME_ID);
	double took, n;

	b->stop = false;
	b->messages = b->samples_n = 0;
	spool_get_stats(b->spool, &before);
	for (size_t i = 0; i < senders; i++) {
		b->senders[i].b = b;
		begin(&b->senders[i]);
	}
	while (now_us(CLOCK_MONOTONIC) - t < (int64_t)(seconds * 1e6))
		turn(b);
	b->stop = true;
	while (b->under_way)
		turn(b);
	took = (double)(now_us(CLOCK_MONOTONIC) - t);
	cpu = now_us(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	spool_get_stats(b->spool, &after);
	if (!b->samples_n)
		return;
	qsort(b->samples, b->samples_n, sizeof *b->samples, by_time);
	n = (double)b->messages;
	printf("%-10s %.0f/s, %.4f syncs per message, p50 %.2f ms, p99 %.2f ms, longest %.2f ms, CPU %.1f us, failed %llu\n", what, n * 1e6 / took,
	       (double)(after.syncs - before.syncs) / n, b->samples[b->samples_n / 2] / 1000, b->samples[b->samples_n * 99 / 100] / 1000,
	       b->samples[b->samples_n - 1] / 1000, (double)cpu / n, (unsigned long long)b->failed);
}

int main(int argc, char **argv)
{
	static struct bench b = { .size = 4096 };
	struct spool_options o = { .env = &env_real, .threaded = true, .wake = wake, .wake_arg = &b };
	struct error err;
	struct spool_recovery found;
	struct spool_stats stats;
	struct rusage usage;
	size_t senders = 50, queued = 0, kept = 0;
	double seconds = 5;
	bool crash = false;
	int64_t t;

	for (int c; (c = getopt(argc, argv, "s:b:t:q:k:i:x")) != -1;)
		switch (c) {
		case 's': senders = strtoul(optarg, NULL, 10); break;
		case 'b': b.size = strtoul(optarg, NULL, 10); break;
		case 't': seconds = strtod(optarg, NULL); break;
		case 'q': queued = strtoul(optarg, NULL, 10); break;
		case 'k': kept = strtoul(optarg, NULL, 10); break;
		case 'i': o.index = strcmp(optarg, "lagging") == 0 ? SPOOL_INDEX_LAGGING : SPOOL_INDEX_STRICT; break;
		case 'x': crash = true; break;
		default: return 64;
		}
	if (optind + 1 != argc || senders > SENDERS_MAX) {
		fprintf(stderr, "usage: spool_bench [-s senders] [-b octets] [-t seconds] [-q queued] [-k kept] [-i strict|lagging] [-x] DIRECTORY\n");
		return 64;
	}
	b.text = malloc(b.size + 1);
	b.samples = malloc(SAMPLES * sizeof *b.samples);
	b.kept = calloc(kept + 1, sizeof *b.kept);
	b.wake = eventfd(0, EFD_CLOEXEC);
	memset(b.text, 'm', b.size);
	o.path = argv[optind];
	t = now_us(CLOCK_MONOTONIC);
	if (spool_open(&b.spool, &o, &found, &err) == -1) {
		fprintf(stderr, "spool_bench: %s\n", err.text);
		return 1;
	}
	getrusage(RUSAGE_SELF, &usage);
	printf("open       %.3f s, memory %.1f MiB, %llu messages, %llu replayed%s\n", (double)(now_us(CLOCK_MONOTONIC) - t) / 1e6,
	       (double)usage.ru_maxrss / 1024, (unsigned long long)found.messages, (unsigned long long)found.replayed, found.rebuilt ? ", rebuilt" : "");
	t = now_us(CLOCK_MONOTONIC);
	fill(&b, queued);
	if (queued)
		printf("fill       %.0f messages/s\n", (double)queued * 1e6 / (double)(now_us(CLOCK_MONOTONIC) - t));
	phase(&b, "messages", senders, seconds);
	if (kept) {
		b.kept_max = kept;
		phase(&b, "filling", senders, seconds);
		phase(&b, "compacting", senders, seconds);
	}
	spool_get_stats(b.spool, &stats);
	getrusage(RUSAGE_SELF, &usage);
	printf("spool      %llu segments, %.1f MiB live of %.1f MiB, memory %.1f MiB (with %.1f MiB of samples)\n",
	       (unsigned long long)stats.segments, (double)stats.bytes_live / 1048576, (double)stats.bytes_total / 1048576,
	       (double)usage.ru_maxrss / 1024, (double)(b.samples_n * sizeof *b.samples) / 1048576);
	fflush(stdout);
	if (crash)
		_exit(b.failed != 0);
	spool_close(b.spool);
	return b.failed != 0;
}
