/* tlsrpt.c - `postrider tlsrpt`: what somebody reports about TLS in mail to us (RFC 8460), and our own reports sent now. */
#include "cmd/cmd.h"
#include "cmd/control_client.h"
#include "cmd/queue_show.h"
#include "cmd/screen.h"
#include "cmd/tlsrpt_read.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Words of the reporter: nothing of them reaches the terminal as a command. */
static void say(const char *before, const json_t *j, const char *name, const char *behind)
{
	const json_t *v = name ? json_object_get(j, name) : j;

	if (!json_is_string(v) || json_string_length(v) == 0)
		return;
	fputs(before, stdout);
	screen_peer(json_string_value(v), json_string_length(v), false, stdout);
	fputs(behind, stdout);
}

static long long number(const json_t *j, const char *name)
{
	return (long long)json_integer_value(json_object_get(j, name)); /* 0 when it is none */
}

static void show_detail(const json_t *d)
{
	printf("  %8lld ", number(d, "failed-session-count"));
	say("", d, "result-type", "");
	say("  mx ", d, "receiving-mx-hostname", "");
	say("  [", d, "receiving-ip", "]");
	say("  from ", d, "sending-mta-ip", "");
	say("  ", d, "failure-reason-code", "");
	say("  see ", d, "additional-information", "");
	putchar('\n');
}

static void show_policy(const json_t *p)
{
	const json_t *policy = json_object_get(p, "policy"), *summary = json_object_get(p, "summary");
	const json_t *lines = json_object_get(policy, "policy-string"), *details = json_object_get(p, "failure-details"), *one;
	size_t i;

	putchar('\n');
	say("", policy, "policy-domain", "");
	say("  ", policy, "policy-type", "");
	printf("  %lld successful, %lld failed\n", number(summary, "total-successful-session-count"), number(summary, "total-failure-session-count"));
	json_array_foreach(lines, i, one)
		say("           ", one, NULL, "\n");
	json_array_foreach(details, i, one)
		show_detail(one);
}

static void show(const json_t *report)
{
	const json_t *range = json_object_get(report, "date-range"), *policies = json_object_get(report, "policies"), *one;
	size_t i;

	say("report     ", report, "report-id", "\n");
	say("by         ", report, "organization-name", "\n");
	say("contact    ", report, "contact-info", "\n");
	say("from       ", range, "start-datetime", "\n");
	say("until      ", range, "end-datetime", "\n");
	json_array_foreach(policies, i, one)
		show_policy(one);
}

/* NULL to->mem and a word on standard error when it cannot be read. */
static int slurp(const char *path, struct buf *to)
{
	int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t n = -1;

	while (fd != -1 && buf_reserve(to, 65536)) {
		n = read(fd, buf_tail(to), buf_room(to));
		if (n <= 0)
			break;
		buf_commit(to, (size_t)n);
	}
	if (n != 0)
		fprintf(stderr, "postrider tlsrpt: %s: %s\n", path, n == -1 ? strerror(errno) : "larger than 16 MiB; this is no report");
	if (fd != -1)
		close(fd);
	return n == 0 ? 0 : EX_NOINPUT;
}

static int send_now(int argc, char **argv)
{
	struct control_where where = { 0 };
	struct control_client c;
	json_t *answer = NULL;
	bool now = false;
	int status;

	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], "--now") == 0)
			now = true;
		else if (!control_where_option(&where, argc, argv, &i))
			return cmd_usage("tlsrpt", "what is %s?", argv[i]);
	if (!now)
		return cmd_usage("tlsrpt", "they go by themselves when their day is over; say --now not to wait");
	status = control_client_open(&c, "tlsrpt", &where);
	if (status)
		return status;
	status = control_client_ask(&c, json_pack("{s:s}", "cmd", "reports"), NULL, NULL, &answer);
	control_client_close(&c);
	if (status == 0 && json_number(answer, "domains") + json_number(answer, "reports") == 0)
		printf("nothing to report of days that are over (UTC)\n");
	else if (status == 0)
		printf("%" PRId64 " reports that waited go now; results of %" PRId64 " domains are made into reports where they ask for them: see the log\n",
		       json_number(answer, "reports"), json_number(answer, "domains"));
	json_decref(answer);
	return status;
}

static int show_file(int argc, char **argv)
{
	const char *path = NULL, *why = "";
	bool as_json = false;
	struct buf file;
	json_t *report;
	int status;

	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], "--json") == 0)
			as_json = true;
		else if ((argv[i][0] == '-' && argv[i][1]) || path)
			return cmd_usage("tlsrpt", "what is %s?", argv[i]);
		else
			path = argv[i];
	if (!path)
		return cmd_usage("tlsrpt", "which file?  - is standard input");
	buf_init(&file, &alloc_libc, TLSRPT_FILE_MAX + 65536);
	status = slurp(path, &file);
	report = status == 0 ? tlsrpt_read(buf_view(&file), &why) : NULL;
	if (status == 0 && !report) {
		fprintf(stderr, "postrider tlsrpt: %s: %s\n", path, why);
		status = EX_DATAERR;
	} else if (report && as_json) {
		json_dumpf(report, stdout, JSON_INDENT(1) | JSON_ENSURE_ASCII); /* ASCII: no octet of theirs moves a cursor */
		putchar('\n');
	} else if (report)
		show(report);
	json_decref(report);
	buf_free(&file);
	return status;
}

int cmd_tlsrpt(int argc, char **argv)
{
	if (argc >= 2 && strcmp(argv[1], "send") == 0)
		return send_now(argc, argv);
	if (argc < 2 || strcmp(argv[1], "show") != 0)
		return cmd_usage("tlsrpt", "say `show` and a file, or `send --now`");
	return show_file(argc, argv);
}
