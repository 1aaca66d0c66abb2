/* status.c - `postrider status`: roles and their walls, the queue's disk, counters, busy destinations; for people, as
 * JSON, or in Prometheus' text format.
 *
 * Exit status 75 when `super` did not answer: what the queue says is printed all the same.
 */
#include "cmd/cmd.h"
#include "cmd/control_client.h"
#include "cmd/queue_show.h"
#include "cmd/screen.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void put_role(const json_t *r, unsigned width)
{
	struct screen_line l = { .n = 0 };
	char up[SCREEN_UNIT], pid[SCREEN_UNIT];

	if (json_number(r, "pid"))
		snprintf(pid, sizeof pid, "%" PRId64, json_number(r, "pid"));
	else
		snprintf(pid, sizeof pid, "-");
	screen_add(&l, "%-9s %7s  %4" PRId64 "  %8" PRId64 "  %-7s  %-7s  %s", json_text(r, "role"), pid,
		   json_number(r, "generation"), json_number(r, "restarts"),
		   json_is_true(json_object_get(r, "sandboxed")) ? "yes" : "NO",
		   json_number(r, "uptime_ms") ? screen_span(json_number(r, "uptime_ms"), up) : "-",
		   json_text(r, "state"));
	screen_end(&l, width, stdout);
}

/* False: super did not answer. */
static bool put_super(const json_t *super, unsigned width)
{
	const json_t *roles = json_object_get(super, "roles"), *role;
	char up[SCREEN_UNIT];
	size_t i;

	if (!json_is_object(super)) {
		printf("super does not answer: nothing is known of the roles\n");
		return false;
	}
	printf("Postrider: pid %" PRId64, json_number(super, "pid"));
	if (json_is_true(json_object_get(super, "single")) || json_number(super, "single"))
		printf(", all roles in one process, unconfined");
	else
		printf(", generation %" PRId64 ", up %s", json_number(super, "generation"),
		       screen_span(json_number(super, "uptime_ms"), up));
	printf("\n");
	if (json_array_size(roles))
		printf("\nROLE          PID   GEN  RESTARTS  SANDBOX  UP       STATE\n");
	json_array_foreach(roles, i, role) put_role(role, width);
	json_array_foreach(roles, i, role) if (json_text(role, "notice")[0])
		printf("%s: %s\n", json_text(role, "role"), json_text(role, "notice"));
	return true;
}

static void put_certificates(const json_t *list)
{
	const json_t *c;
	char left[SCREEN_UNIT];
	size_t i;

	json_array_foreach(list, i, c)
	{
		int64_t ms = json_number(c, "expires") * 1000 - screen_now();

		printf("certificate %s: %s%s%s\n", json_text(c, "title"), !json_number(c, "expires") ? "cannot be read" : ms < 0 ? "HAS ENDED" : "ends in ",
		       json_number(c, "expires") && ms >= 0 ? screen_span(ms, left) : "",
		       json_is_true(json_object_get(c, "works")) ? "" : "; CANNOT BE USED with its key");
	}
}

/* What only super knows, as a gauge; without super the counters are printed all the same. */
static void put_gauges(const json_t *answer)
{
	const json_t *list = json_object_get(json_object_get(answer, "super"), "certificates"), *c;
	size_t i;

	if (json_array_size(list))
		printf("# HELP postrider_certificate_expires_seconds When a certificate ends, in seconds since 1970\n"
		       "# TYPE postrider_certificate_expires_seconds gauge\n");
	json_array_foreach(list, i, c)
	{
		printf("postrider_certificate_expires_seconds{title=\"");
		for (const char *p = json_text(c, "title"); *p; p++)
			printf(*p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
		printf("\"} %" PRId64 "\n", json_number(c, "expires"));
	}
}

static void put_spool(const json_t *s)
{
	char live[SCREEN_UNIT], total[SCREEN_UNIT], age[SCREEN_UNIT], full[32];
	int64_t oldest = json_number(s, "oldest");

	printf("\nqueue: %" PRId64 " messages, %" PRId64 " envelopes, %" PRId64 " on hold, %" PRId64
	       " in flight, oldest %s\n",
	       json_number(s, "messages"), json_number(s, "envelopes"), json_number(s, "held"),
	       json_number(s, "in_flight"), oldest > 0 ? screen_span(screen_now() - oldest, age) : "-");
	snprintf(full, sizeof full, "%" PRId64 " %% full", json_number(s, "pressure"));
	printf("disk:  %" PRId64 " segments, %s of %s live, %s; %" PRId64 " commits, %" PRId64 " syncs\n",
	       json_number(s, "segments"), screen_size(json_number(s, "bytes_live"), live),
	       screen_size(json_number(s, "bytes_total"), total), json_is_true(json_object_get(s, "sick")) ? "FAILED" : full,
	       json_number(s, "commits"), json_number(s, "syncs"));
	if (json_is_true(json_object_get(s, "sick")))
		printf("       a write or sync failed: nothing is accepted until Postrider is started anew, on a disk that works\n");
}

static void put_counters(json_t *counters)
{
	const char *name;
	json_t *n;

	if (json_object_size(counters))
		printf("\nEVENTS\n");
	json_object_foreach(counters, name, n)
		printf("%-20s %12" JSON_INTEGER_FORMAT "\n", name, json_integer_value(n));
}

static void put_destinations(const json_t *list, unsigned width)
{
	const json_t *d;
	struct screen_line l = { .n = 0 };
	char next[SCREEN_UNIT];
	size_t i;

	if (json_array_size(list))
		printf("\nIN FLIGHT  WINDOW  FAILURES  RETRY    DESTINATION\n");
	json_array_foreach(list, i, d)
	{
		int64_t retry = json_number(d, "retry");

		screen_add(&l, "%9" PRId64 "  %6" PRId64 "  %8" PRId64 "  %-7s  %s", json_number(d, "in_flight"),
			   json_number(d, "window"), json_number(d, "failures"),
			   retry > 0 ? screen_span(retry - screen_now(), next) : "-", json_text(d, "dest"));
		screen_end(&l, width, stdout);
	}
}

static int put_status(const json_t *answer)
{
	unsigned width = screen_width();
	bool whole = put_super(json_object_get(answer, "super"), width);

	put_certificates(json_object_get(json_object_get(answer, "super"), "certificates"));
	put_spool(json_object_get(answer, "spool"));
	put_counters(json_object_get(answer, "counters"));
	put_destinations(json_object_get(answer, "destinations"), width);
	return whole ? 0 : EX_TEMPFAIL;
}

static int put_json(json_t *answer)
{
	json_object_del(answer, "ok");
	json_dumpf(answer, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
	fputc('\n', stdout);
	return json_is_object(json_object_get(answer, "super")) ? 0 : EX_TEMPFAIL;
}

int cmd_status(int argc, char **argv)
{
	struct control_where where = { 0 };
	struct control_client c;
	bool json = false, prometheus = false;
	json_t *answer = NULL;
	int status;

	for (int i = 1; i < argc; i++) {
		if (control_where_option(&where, argc, argv, &i))
			continue;
		if (strcmp(argv[i], "--json") == 0)
			json = true;
		else if (strcmp(argv[i], "--prometheus") == 0)
			prometheus = true;
		else
			return cmd_usage("status", "what is %s?", argv[i]);
	}
	if (json && prometheus)
		return cmd_usage("status", "--json or --prometheus, not both");
	status = control_client_open(&c, "status", &where);
	if (status)
		return status;
	status = control_client_ask(&c, json_pack("{s:s}", "cmd", prometheus ? "prometheus" : "status"), NULL, NULL,
				    &answer);
	if (status == 0 && prometheus) {
		fputs(json_text(answer, "text"), stdout);
		json_decref(answer);
		answer = NULL;
		if (control_client_ask(&c, json_pack("{s:s}", "cmd", "status"), NULL, NULL, &answer) == 0)
			put_gauges(answer);
	} else if (status == 0)
		status = json ? put_json(answer) : put_status(answer);
	json_decref(answer);
	control_client_close(&c);
	return fflush(stdout) == EOF && status == 0 ? EX_IOERR : status;
}
