/* queue.c - `postrider queue`: what an operator asks of the queue and does to it, over the control socket.
 *
 * hold, release and delete want to be told of what: an id, --dest KEY, or --all, so that a forgotten argument never
 * means everything; a bare flush means everything, because it does no harm.
 */
#include "cmd/cmd.h"
#include "cmd/control_client.h"
#include "cmd/queue_show.h"
#include "cmd/rebuild.h"
#include "cmd/screen.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct request {
	struct control_where where;
	const char *action, *id, *dest;
	uint64_t max; /* 0: no limit */
	bool all, json;
};

/* What each action takes. */
enum takes { TAKES_FILTER = 1, TAKES_ID, TAKES_TARGET, TAKES_TARGET_OR_ALL, TAKES_NOTHING };

static const struct action {
	const char *name;
	enum takes takes;
	int (*item)(void *arg, json_t *item);
	const char *done; /* "3 envelopes held" */
} actions[] = {
	{ "list", TAKES_FILTER, queue_show_list, NULL }, { "show", TAKES_ID, queue_show_message, NULL },
	{ "why", TAKES_ID, queue_show_why, NULL },       { "flush", TAKES_TARGET_OR_ALL, NULL, "due now" },
	{ "hold", TAKES_TARGET, NULL, "on hold" },       { "release", TAKES_TARGET, NULL, "released" },
	{ "delete", TAKES_TARGET, NULL, "deleted" },     { "rebuild", TAKES_NOTHING, NULL, NULL },
};

static const struct action *find(const char *name)
{
	for (size_t i = 0; name && i < sizeof actions / sizeof *actions; i++)
		if (strcmp(actions[i].name, name) == 0)
			return &actions[i];
	return NULL;
}

/* ---- arguments ---- */

/* As the log prints it: 16 hex digits. */
static bool is_id(const char *s)
{
	return strlen(s) == 16 && strspn(s, "0123456789abcdefABCDEF") == 16;
}

static int read_arguments(struct request *r, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (control_where_option(&r->where, argc, argv, &i))
			continue;
		if (strcmp(argv[i], "--dest") == 0 && i + 1 < argc)
			r->dest = argv[++i];
		else if (strcmp(argv[i], "--max") == 0 && i + 1 < argc &&
			 view_to_u64(view_cstr(argv[i + 1]), &r->max) && r->max)
			i++;
		else if (strcmp(argv[i], "--all") == 0)
			r->all = true;
		else if (strcmp(argv[i], "--json") == 0)
			r->json = true;
		else if (argv[i][0] == '-')
			return cmd_usage("queue", "what is %s?", argv[i]);
		else if (!r->action)
			r->action = argv[i];
		else if (!r->id && is_id(argv[i]))
			r->id = argv[i];
		else
			return cmd_usage("queue",
					 "%s is no message id: 16 hex digits, as in the log and in `queue list`",
					 argv[i]);
	}
	return 0;
}

static int check_arguments(const struct request *r, const struct action *a)
{
	int targets = (r->id != NULL) + (r->dest != NULL) + r->all;

	if (!a)
		return cmd_usage("queue", r->action ? "there is no %s" : "do what?", r->action);
	if (r->max && a->takes != TAKES_FILTER)
		return cmd_usage("queue", "--max is for list");
	if (r->dest && !r->dest[0])
		return cmd_usage("queue", "--dest wants a destination, as `queue list` shows it");
	switch (a->takes) {
	case TAKES_FILTER: return r->id || r->all ? cmd_usage("queue", "%s takes --dest and --max only", a->name) : 0;
	case TAKES_ID: return !r->id || targets > 1 ? cmd_usage("queue", "%s wants one message id", a->name) : 0;
	case TAKES_TARGET:
		return targets != 1 ? cmd_usage("queue", "%s what? one of: a message id, --dest KEY, --all", a->name)
				    : 0;
	case TAKES_TARGET_OR_ALL:
		return targets > 1 ? cmd_usage("queue", "%s one of: a message id, --dest KEY, --all", a->name) : 0;
	case TAKES_NOTHING: return targets || r->json ? cmd_usage("queue", "%s takes -c FILE only", a->name) : 0;
	}
	return EX_SOFTWARE;
}

static json_t *make_request(const struct request *r)
{
	json_t *o = json_pack("{s:s}", "cmd", r->action);

	if (o && r->id)
		json_object_set_new(o, "id", json_string(r->id));
	if (o && r->dest)
		json_object_set_new(o, "dest",
				    json_string(r->dest)); /* NULL when it is no UTF-8: then nothing is asked, below */
	if (o && r->max)
		json_object_set_new(o, "max", json_integer((json_int_t)r->max));
	if (o && r->all)
		json_object_set_new(o, strcmp(r->action, "delete") == 0 ? "everything" : "all", json_true());
	if (o && r->dest && !json_object_get(o, "dest")) {
		json_decref(o); /* without it the request would mean everything */
		return NULL;
	}
	return o;
}

static int ask(struct control_client *c, const struct request *r, int (*item)(void *, json_t *), void *arg, json_t **answer)
{
	json_t *o = make_request(r);

	if (!o)
		return cmd_usage("queue", "a destination is text in UTF-8");
	return control_client_ask(c, o, item, arg, answer);
}

/* ---- list, show, why ---- */

static void end_list(const struct request *r, const struct action *a, const struct queue_show *s, json_t *answer)
{
	const char *header = json_text(answer, "header");

	if (a->item == queue_show_message && r->json) {
		json_t *o = json_pack("{s:O?}", "header", json_object_get(answer, "header"));
		json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
		fputc('\n', stdout);
		json_decref(o);
	} else if (a->item == queue_show_message) {
		fputc('\n', stdout);
		screen_peer(header, strlen(header), true, stdout);
	} else if (a->item == queue_show_list && !r->json) {
		if (s->n == 0)
			puts("The queue is empty.");
		else
			printf("%" PRIu64 " envelope%s%s\n", s->n, s->n == 1 ? "" : "s",
			       json_is_true(json_object_get(answer, "more")) ? ", and more" : "");
	}
}

static int show_items(struct control_client *c, const struct request *r, const struct action *a)
{
	struct queue_show s = { .width = screen_width(), .now = screen_now() };
	json_t *answer = NULL;
	int status = ask(c, r, r->json ? queue_show_json : a->item, &s, &answer);

	if (status == 0)
		end_list(r, a, &s, answer);
	json_decref(answer);
	return status;
}

/* ---- flush, hold, release, delete ---- */

static int change(struct control_client *c, const struct request *r, const struct action *a)
{
	json_t *answer = NULL;
	int64_t n = 0;
	int status;

	status = ask(c, r, NULL, NULL, &answer);
	n = json_number(answer, "n");
	json_decref(answer);
	if (status && n == 0)
		return status;
	if (r->json)
		printf("{\"n\":%" PRId64 "}\n", n);
	else
		printf("%" PRId64 " envelope%s %s\n", n, n == 1 ? "" : "s", a->done);
	return status;
}

/* ---- the command ---- */

int cmd_queue(int argc, char **argv)
{
	struct request r = { 0 };
	const struct action *a;
	struct control_client c;
	int status = read_arguments(&r, argc, argv);

	if (status)
		return status;
	a = find(r.action);
	status = check_arguments(&r, a);
	if (status)
		return status;
	if (a->takes == TAKES_NOTHING)
		return rebuild_queue(&r.where);
	status = control_client_open(&c, "queue", &r.where);
	if (status)
		return status;
	status = a->item ? show_items(&c, &r, a) : change(&c, &r, a);
	control_client_close(&c);
	if (fflush(stdout) == EOF && status == 0)
		status = EX_IOERR;
	return status;
}
