/* reports.c - the request "reports" of control.h: TLS-RPT reports of days that are over go now.  `policy` has them, and answers what goes. */
#include "queue/client.h"
#include "queue/intake.h"
#include "wire/wire.h"

static void end(struct client *c, json_t *o)
{
	client_put(c, o);
	client_finish(c);
}

static void fail(struct client *c, const char *why)
{
	end(c, json_pack("{s:b, s:s}", "ok", 0, "error", why));
}

void client_begin_reports(struct client *c)
{
	struct channel *policy = intake_channel_of(c->q, ROLE_POLICY);
	struct wire_REPORT_NOW m = { .stream = c->serial };

	c->task = CLIENT_REPORTS;
	if (policy && wire_send_REPORT_NOW(policy, &m))
		loop_timer_set(&c->timer, loop_now(c->q->loop) + CLIENT_SUPER_WAIT);
	else
		fail(c, "the role policy is not running");
}

void client_reported(struct client *c, const struct wire_REPORT_GOING *m)
{
	if (!m)
		fail(c, "the role policy has no answer in time");
	else if (!m->on)
		fail(c, "tls_report { send = true } is not set: nothing is counted, nothing is sent");
	else
		end(c, json_pack("{s:b, s:I, s:I}", "ok", 1, "domains", (json_int_t)m->domains, "reports", (json_int_t)m->reports));
}
