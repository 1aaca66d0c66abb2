/* refused.c - the spool refuses outcomes (a full disk) for so long that what was deferred has expired when it takes them: the log
 * says both, for each recipient. */
#include "harness.h"
#include "spool/spool.h"

#include <psmtp.h>

static bool full;
static unsigned refusals;

void __real_spool_settle(struct spool *, spool_id, uint32_t slot, const struct spool_envelope *remains, const struct spool_new *news,
                         size_t news_n, spool_done *, void *arg);
void __wrap_spool_settle(struct spool *, spool_id, uint32_t slot, const struct spool_envelope *remains, const struct spool_new *news,
                         size_t news_n, spool_done *, void *arg);
void __wrap_spool_settle(struct spool *s, spool_id id, uint32_t slot, const struct spool_envelope *remains, const struct spool_new *news,
                         size_t news_n, spool_done *done, void *arg)
{
	if (!full) {
		__real_spool_settle(s, id, slot, remains, news, news_n, done, arg);
		return;
	}
	refusals++;
	for (size_t i = 0; i < news_n; i++)
		spool_body_abort(news[i].body);
	done(arg, SPOOL_FULL, 0);
}

static void expired_meanwhile(void **state)
{
	struct harness *h = harness_new("lifetime = \"1h\"\ndelay_warning = \"0s\"\n");

	(void)state;
	harness_connect(h, &h->send, ROLE_SEND, 1, say_temporary);
	full = true;
	submit_done(h, &(struct submit){ .sender = "a@b.test", .notify = PSMTP_NOTIFY_NEVER, .rcpts = { "x@relay.test" } }, WIRE_DONE_OK);
	assert_int_equal(logged(h, "deferred", "x@relay.test"), 1);
	harness_pass(h, 2 * 3600 * 1000);
	assert_true(refusals > 1);
	full = false;
	harness_pass(h, 60 * 1000);
	assert_int_equal(stats(h).messages, 0);
	assert_int_equal(logged(h, "deferred", "x@relay.test"), 1); /* once, however often it was tried */
	assert_int_equal(logged(h, "expired", "x@relay.test"), 1);
	assert_int_equal(logged(h, "discarded", "reason=notify"), 1);
	harness_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(expired_meanwhile) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
