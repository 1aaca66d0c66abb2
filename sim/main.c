/* main.c - simulate: runs worlds by seed, each in a process of its own.
 *
 *   simulate --seeds N --from S [--broken NAME]   N seeds; a line for each that fails, then the sums
 *   simulate --seed S [--trace] [--broken NAME]   one; --trace prints what happened
 *   simulate --seed S --here                      the same in this process: for a debugger
 *   simulate --breakages                          names of the negative controls, each with its law
 * A seed passes when no law was broken and the process ended by itself in time.
 */
#include "sim/sim.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sqlite3.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEED_SECONDS 60 /* of one world: the usual takes hundredths */

static void begin_world(uint64_t seed, enum breakage broken, bool trace)
{
	struct rng r = { seed * 0x2545f4914f6cdd1du + 1 };

	world = (struct world){ .seed = seed, .broken = broken, .trace = trace, .hash = 0xcbf29ce484222325u };
	world.plan.s = rng_next(&r);
	world.net.s = rng_next(&r);
	world.disk.s = rng_next(&r);
	world.peers.s = rng_next(&r);
}

/* In a child: the world lives and dies with it.  What it has to tell is in shared memory. */
static bool run_seed(uint64_t seed, enum breakage broken, bool trace, struct world *out)
{
	pid_t pid;
	int status;

	memset(out, 0, sizeof *out);
	fflush(stdout);
	pid = fork();
	if (pid == -1) {
		perror("fork");
		exit(71);
	}
	if (pid == 0) {
		alarm(SEED_SECONDS);
		begin_world(seed, broken, trace);
		plan_run();
		fflush(stdout);
		*out = world;
		_exit(world.failure[0] ? 1 : 0);
	}
	if (waitpid(pid, &status, 0) == -1)
		exit(71);
	if (WIFSIGNALED(status))
		snprintf(out->failure, sizeof out->failure, WTERMSIG(status) == SIGALRM ? "it did not end in time" : "it died of signal %d",
			 WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0 && !out->failure[0])
		snprintf(out->failure, sizeof out->failure, "it ended with status %d", WEXITSTATUS(status));
	return !out->failure[0];
}

static int run_here(uint64_t seed, enum breakage broken, bool trace)
{
	begin_world(seed, broken, trace);
	plan_run();
	printf("%s\nseed %llu hash %016llx\n", world.failure, (unsigned long long)seed, (unsigned long long)world.hash);
	return world.failure[0] ? 1 : 0;
}

static void usage(void)
{
	fprintf(stderr, "usage: simulate --seed S [--trace] | --seeds N --from S  [--broken NAME] | --breakages\n");
	exit(64);
}

int main(int argc, char **argv)
{
	struct world *out = mmap(NULL, sizeof *out, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t seed = 0, count = 0, failed = 0, sums[FAULT_END] = { 0 }, mails = 0, deliveries = 0, reports = 0;
	enum breakage broken = BREAK_NOTHING;
	bool one = false, trace = false, here = false;

	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";
		if (strcmp(argv[i], "--breakages") == 0) {
			for (int k = BREAK_NOTHING + 1; k < BREAK_END; k++)
				printf("%s\t%s\n", breakages[k].name, breakages[k].law);
			return 0;
		}
		if (strcmp(argv[i], "--trace") == 0 || strcmp(argv[i], "--here") == 0) {
			trace = trace || argv[i][2] == 't';
			here = here || argv[i][2] == 'h';
			continue;
		}
		i++;
		if (strcmp(argv[i - 1], "--seed") == 0)
			one = view_to_u64(view_cstr(value), &seed), count = 1;
		else if (strcmp(argv[i - 1], "--seeds") == 0)
			view_to_u64(view_cstr(value), &count);
		else if (strcmp(argv[i - 1], "--from") == 0)
			view_to_u64(view_cstr(value), &seed);
		else if (strcmp(argv[i - 1], "--broken") == 0) {
			for (int k = BREAK_NOTHING + 1; k < BREAK_END; k++)
				if (strcmp(breakages[k].name, value) == 0)
					broken = (enum breakage)k;
			if (!broken)
				usage();
		} else
			usage();
	}
	if (count == 0 || out == MAP_FAILED)
		usage();
	sqlite3_initialize();
	vfs_register();
	if (here)
		return run_here(seed, broken, trace);
	for (uint64_t i = 0; i < count; i++) {
		if (!run_seed(seed + i, broken, trace, out)) {
			failed++;
			printf("FAIL seed %llu: %s\n", (unsigned long long)(seed + i), out->failure);
		}
		if (one)
			printf("seed %llu hash %016llx\n", (unsigned long long)seed, (unsigned long long)out->hash);
		for (int k = 0; k < FAULT_END; k++)
			sums[k] += out->faults_n[k];
		mails += out->mails;
		deliveries += out->deliveries;
		reports += out->reports;
	}
	printf("sum seeds %llu failed %llu mails %llu deliveries %llu reports %llu\n", (unsigned long long)count, (unsigned long long)failed,
	       (unsigned long long)mails, (unsigned long long)deliveries, (unsigned long long)reports);
	for (int k = 0; k < FAULT_END; k++)
		printf("fault %llu %s\n", (unsigned long long)sums[k], fault_words[k]);
	return failed ? 1 : 0;
}
