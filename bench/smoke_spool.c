/* smoke_spool.c - scenarios of the spool, without its thread: batches of messages accepted with a lease and settled, as mail that
 * goes out at once; and the same with the body read back, as mail that waited.  Time stands still and chance is a counter.
 */
#include "smoke.h"

#include "spool/spool.h"

#include <stdio.h>

#define BATCH 50 /* as many senders */

static struct spool *spool;
static struct env env;
static char text[SMOKE_SIZE];
static size_t text_n;
static spool_id ids[BATCH];
static unsigned ids_n, settled_n, read_n;

static int64_t clock_ms(void *arg)
{
	(void)arg;
	return 1700000000000;
}

static void bytes(void *arg, void *to, size_t n)
{
	static unsigned char c;

	(void)arg;
	for (size_t i = 0; i < n; i++)
		((unsigned char *)to)[i] = c++;
}

static void crank(void)
{
	spool_kick(spool);
	while (spool_step(spool))
		;
	spool_dispatch(spool);
}

static void accepted(void *arg, enum spool_status status, spool_id id)
{
	(void)arg;
	if (status != SPOOL_OK)
		smoke_die("a message was not accepted");
	ids[ids_n++] = id;
}

static void settled(void *arg, enum spool_status status, spool_id id)
{
	(void)arg, (void)id;
	settled_n += status == SPOOL_OK;
}

static void was_read(void *arg, enum spool_status status, struct view v)
{
	(void)arg;
	read_n += status == SPOOL_OK && v.n == text_n;
}

static void batch(unsigned n, bool read)
{
	const struct spool_envelope e = { .dest = VIEW("smtp:[127.0.0.1]:2650"), .due = 1700000000000, .created = 1700000000000,
		.expires = 1700000000000 + 432000000, .data = VIEW("from=a@src.test to=b@sink.test trace=0123456789abcdef") };
	const bool lease = true;

	ids_n = 0;
	for (unsigned i = 0; i < n; i++) {
		struct spool_body *b = spool_body_begin(spool, text_n);

		if (!b || spool_body_write(b, text, text_n) != SPOOL_OK)
			smoke_die("a body was not taken");
		spool_accept(spool, b, &e, &lease, 1, accepted, NULL);
	}
	crank();
	for (unsigned i = 0; read && i < ids_n; i++)
		spool_read(spool, ids[i], 0, text_n, was_read, NULL);
	if (read)
		crank();
	for (unsigned i = 0; i < ids_n; i++)
		spool_settle(spool, ids[i], 0, NULL, NULL, 0, settled, NULL);
	crank();
}

static void work(unsigned n, bool read)
{
	settled_n = read_n = 0;
	for (unsigned left = n; left; left -= left < BATCH ? left : BATCH)
		batch(left < BATCH ? left : BATCH, read);
	if (settled_n != n || (read && read_n != n))
		smoke_die("not all messages were read and settled");
}

static void prepare(unsigned n, const char *folder)
{
	struct spool_options o = { .env = &env, .path = folder };
	struct spool_recovery found;
	struct error err;

	(void)n;
	env = env_real;
	env.wall_ms = env.mono_ms = clock_ms;
	env.random = bytes;
	text_n = smoke_text(text);
	if (spool_open(&spool, &o, &found, &err) == -1)
		smoke_die(err.text);
	work(BATCH, true); /* what is made once: the first segment, prepared statements */
}

static void run(unsigned n)
{
	work(n, false);
}

static void run_read(unsigned n)
{
	work(n, true);
}

const struct smoke smoke_spool = { "spool", prepare, run };
const struct smoke smoke_spool_read = { "spool-read", prepare, run_read };
