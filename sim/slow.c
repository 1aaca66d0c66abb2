/* slow.c - the spool of the simulator: small segments, and commits that take their time (the linker's --wrap); see sim.h.
 *
 * A spool that has no thread is stepped by the queue's pump.  Here a step may find the disk busy: it is made later, and its
 * completions ask for the pump again; so a role can die between what is durable and what is told.
 */
#include "sim/sim.h"
#include "spool/spool.h"

#define SEGMENT (128u * 1024)
#define BODY_FILE (24u * 1024)

int __real_spool_open(struct spool **, const struct spool_options *, struct spool_recovery *, struct error *);
int __wrap_spool_open(struct spool **, const struct spool_options *, struct spool_recovery *, struct error *);
int __wrap_spool_open(struct spool **out, const struct spool_options *o, struct spool_recovery *found, struct error *e)
{
	struct spool_options small = *o;
	int r;

	small.segment_size = SEGMENT;
	small.body_file_size = BODY_FILE;
	r = __real_spool_open(out, &small, found, e);
	if (r == 0 && world.running)
		world.running->spool = *out;
	return r;
}

bool __real_spool_step(struct spool *);

static void spool_goes_on(void *arg)
{
	struct node *n = arg;

	n->spool_busy = false;
	if (!n->spool)
		return;
	world.running = n;
	while (__real_spool_step(n->spool)) /* its completions ask for the pump */
		;
	spool_wake_after(n);
}

bool __wrap_spool_step(struct spool *);
bool __wrap_spool_step(struct spool *s)
{
	struct node *n = world.running;

	if (!n || n->spool != s || !n->disk_slow || !world.faults)
		return __real_spool_step(s);
	if (!n->spool_busy && rng_chance(&world.disk, 700)) {
		n->spool_busy = true;
		world_fault(FAULT_DISK_SLOW);
		happen_in(&n->spool_done, rng_span(&world.disk, 1, rng_chance(&world.disk, 50) ? 5000 : 40), spool_goes_on, n);
	}
	return n->spool_busy ? false : __real_spool_step(s);
}

void __real_spool_close(struct spool *);
void __wrap_spool_close(struct spool *);
void __wrap_spool_close(struct spool *s)
{
	for (unsigned i = 0; i < world.nodes_n; i++)
		if (world.nodes[i]->spool == s) {
			world.nodes[i]->spool = NULL;
			world.nodes[i]->spool_busy = false;
			happen_never(&world.nodes[i]->spool_done);
		}
	__real_spool_close(s);
}
