/* route.c - `postrider route explain ADDRESS`: where mail for an address goes now, what TLS is owed there, and why.
 *
 * Asked of the running daemon, so that it is its DNS, its policies and its configuration that speak; nothing is sent.
 * Exit status: 0; 75 when the plan waits for something, 69 when no host may have the mail (EX_UNAVAILABLE).
 */
#include "cmd/cmd.h"
#include "cmd/control_client.h"
#include "cmd/queue_show.h"

#include <stdio.h>
#include <string.h>

struct question {
	const char *address;
	bool json, require, relaxed;
};

static bool is_send(const json_t *host)
{
	return strcmp(json_text(host, "verdict"), "send") == 0;
}

static void put_host(const json_t *h)
{
	printf("\n%s (preference %s): %s\n", json_text(h, "host"), json_text(h, "preference"),
	       is_send(h) ? "mail may go there" : strcmp(json_text(h, "verdict"), "defer") == 0 ? "not now" : "no mail goes there");
	if (json_text(h, "addresses")[0])
		printf("  addresses    %s\n", json_text(h, "addresses"));
	printf("  level owed   %s\n", json_text(h, "level"));
	printf("  certificate  %s%s%s\n", strcmp(json_text(h, "check"), "dane") == 0    ? "must match a TLSA record"
	                                 : strcmp(json_text(h, "check"), "chain") == 0 ? "must have a chain to the trust bundle"
	                                 : strcmp(json_text(h, "check"), "watch") == 0 ? "is checked and reported on, and decides nothing"
	                                                                               : "decides nothing",
	       json_text(h, "names")[0] ? "; a name of: " : "", json_text(h, "names"));
	printf("  reported as  %s\n  why          %s\n", json_text(h, "policy"), json_text(h, "why"));
}

/* The exit status that the answer means. */
static int status_of(const json_t *answer)
{
	const json_t *host;
	size_t i;
	bool waits = false;

	if (strcmp(json_text(answer, "by"), "send") != 0)
		return 0;
	json_array_foreach(json_object_get(answer, "hosts"), i, host)
	{
		if (is_send(host))
			return 0;
		waits = waits || strcmp(json_text(host, "verdict"), "defer") == 0;
	}
	return waits ? EX_TEMPFAIL : EX_UNAVAILABLE;
}

static void put(const struct question *q, json_t *answer)
{
	const json_t *host;
	size_t i;

	if (q->json) {
		json_dumpf(answer, stdout, JSON_COMPACT);
		printf("\n");
		return;
	}
	printf("%s goes to %s, by %s\n", q->address, json_text(answer, "dest"), json_text(answer, "by"));
	if (json_text(answer, "failure")[0])
		printf("%s\n", json_text(answer, "failure"));
	json_array_foreach(json_object_get(answer, "hosts"), i, host) put_host(host);
}

static int explain(const struct question *q, const struct control_where *where)
{
	struct control_client c;
	json_t *answer = NULL, *request = json_pack("{s:s, s:s, s:b, s:b}", "cmd", "explain", "address", q->address, "require", q->require,
	                                            "relaxed", q->relaxed);
	int status = request ? control_client_open(&c, "route", where) : cmd_usage("route", "the address is no UTF-8");

	if (status) {
		json_decref(request);
		return status;
	}
	status = control_client_ask(&c, request, NULL, NULL, &answer);
	control_client_close(&c);
	if (status == 0) {
		put(q, answer);
		status = status_of(answer);
	}
	json_decref(answer);
	return status;
}

int cmd_route(int argc, char **argv)
{
	struct control_where where = { 0 };
	struct question q = { 0 };
	bool verb = false;

	if (cmd_wants_help("route", argc, argv))
		return 0;
	for (int i = 1; i < argc; i++) {
		if (control_where_option(&where, argc, argv, &i))
			continue;
		if (strcmp(argv[i], "--json") == 0)
			q.json = true;
		else if (strcmp(argv[i], "--require") == 0)
			q.require = true;
		else if (strcmp(argv[i], "--relaxed") == 0)
			q.relaxed = true;
		else if (!verb && strcmp(argv[i], "explain") == 0)
			verb = true;
		else if (verb && !q.address && argv[i][0] != '-')
			q.address = argv[i];
		else
			return cmd_usage("route", "what is %s?", argv[i]);
	}
	if (!verb || !q.address)
		return cmd_usage("route", "explain which address?");
	return explain(&q, &where);
}
