/* client_report.c - what came of `postrider client`: words, JSON, exit status; see client.h.
 *
 * 0 only when every recipient was accepted and the message acknowledged.  Else 69 when something was refused for good,
 * 75 when everything that failed may succeed later; a session that ended early has its own status.
 */
#include "cmd/client.h"
#include "cmd/cmd.h"
#include "cmd/screen.h"

#include <jansson.h>

static void say_one(const struct client_run *r, uint32_t i)
{
	const struct client_result *x = &r->results[i];
	struct view to = view_of(r->a->rcpts[i].address.p, r->a->rcpts[i].address.n);

	if (x->code / 100 == 2)
		return;
	fputs("postrider client: <", stderr);
	screen_peer(to.p, to.n, false, stderr);
	fputs(">: ", stderr);
	if (x->code)
		fprintf(stderr, "%d ", x->code);
	screen_peer(x->code ? x->text : r->why, strlen(x->code ? x->text : r->why), false, stderr);
	fputs(x->local ? " (judged here)\n" : "\n", stderr);
}

static json_t *words(const char *text)
{
	json_t *s = json_string(text);

	return s ? s : json_string("(not UTF-8)");
}

static void say_json(const struct client_run *r, int status)
{
	json_t *list = json_array(), *o;

	for (uint32_t i = 0; i < r->a->rcpt_count; i++) {
		const struct client_result *x = &r->results[i];
		json_t *to = json_stringn(r->a->rcpts[i].address.p, r->a->rcpts[i].address.n);

		json_array_append_new(list,
				      json_pack("{s:o, s:b, s:i, s:o, s:b}", "address", to ? to : json_string("?"),
						"accepted", x->code / 100 == 2, "code", x->code, "text",
						words(x->code ? x->text : r->why), "local", x->local));
	}
	o = json_pack("{s:b, s:i, s:b, s:o, s:o}", "ok", status == 0, "status", status, "maybe_delivered", r->maybe,
		      "tls", words(r->tls), "recipients", list);
	if (o && r->why[0] && !r->settled)
		json_object_set_new(o, "error", words(r->why));
	json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
	fputc('\n', stdout);
	json_decref(o);
}

static int judge(const struct client_run *r)
{
	bool temporary = false, permanent = false;

	if (!r->settled && r->status)
		return r->status;
	for (uint32_t i = 0; i < r->a->rcpt_count; i++) {
		permanent = permanent || r->results[i].code / 100 == 5;
		temporary = temporary || (r->results[i].code / 100 != 2 && r->results[i].code / 100 != 5);
	}
	return permanent ? EX_UNAVAILABLE : temporary ? EX_TEMPFAIL : 0;
}

int client_report(const struct client_run *r)
{
	int status = judge(r);

	if (!r->settled && r->status) {
		fputs("postrider client: ", stderr);
		screen_peer(r->why, strlen(r->why), false, stderr);
		fputs(r->maybe ? "; the message may have been delivered all the same\n" : "\n", stderr);
	}
	for (uint32_t i = 0; i < r->a->rcpt_count; i++)
		if (r->settled || r->results[i].code)
			say_one(r, i);
	if (r->a->json)
		say_json(r, status);
	return fflush(stdout) == EOF && status == 0 ? EX_IOERR : status;
}
