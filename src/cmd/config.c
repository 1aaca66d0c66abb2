/* config.c - `postrider config check|show`: what the daemon would say of its configuration, without starting it. */
#include "base/buf.h"
#include "cmd/cmd.h"
#include "conf/conf.h"
#include "conf/handoff.h"
#include "tls/tls.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* More warnings than this are no help to a reader. */
#define WARNINGS_MAX 64
/* Problems with files that one role can have: as many as the daemon logs. */
#define PROBLEMS_MAX 16

/* Roles whose files differ (conf/handoff.h). */
static const char *const roles[] = { "keys", "receive", "send", "resolve", "local", "web" };

struct report {
	json_t *warnings; /* of {line, text}; line 0: of a file that the configuration names */
	bool lost;        /* memory */
};

static void warn(struct report *r, unsigned line, const char *text)
{
	json_t *known, *one;
	size_t i;

	json_array_foreach(r->warnings, i, known)
		if (strcmp(json_string_value(json_object_get(known, "text")), text) == 0)
			return; /* two roles read the same file */
	one = json_pack("{s:i, s:s}", "line", (int)line, "text", text);
	if (!one || json_array_append_new(r->warnings, one) == -1)
		r->lost = true;
}

/* Senders fetch the policy of a domain from a host of its own, and ask for a certificate with that name (RFC 8461 3.3). */
static void check_web(struct report *r, const struct conf *conf, const struct handoff *h)
{
	char host[CONF_STS_HOST_SIZE], text[400];

	for (size_t i = 0; i < conf->sts_policy_count && conf->web_count; i++) {
		const char *name = conf_sts_host(&conf->sts_policies[i], host);
		bool found = false;

		for (size_t k = 0; k < conf->web_count; k++)
			for (size_t n = 0; n < conf->webs[k].certificate_count; n++) {
				const char *title = conf->certificates[conf->webs[k].certificates[n]].title;
				found = found || tls_chain_has_name(handoff_get(h, "chain", title), view_cstr(name));
			}
		if (found)
			continue;
		snprintf(text, sizeof text, "no certificate of a web section has the name %s: nobody can fetch the policy of %s", name,
		         conf->sts_policies[i].title);
		warn(r, conf->sts_policies[i].line, text);
	}
}

/* Opens what the daemon would open.  -1: without this file it does not start. */
static int check_files(struct report *r, const struct conf *conf, const char *path, struct error *e)
{
	const char *problems[PROBLEMS_MAX];

	for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
		struct handoff *h;
		size_t n;

		if (handoff_read(&h, conf, path, roles[i], e) == -1)
			return -1;
		n = handoff_problems(h, problems, PROBLEMS_MAX);
		for (size_t j = 0; j < n && j < PROBLEMS_MAX; j++)
			warn(r, 0, problems[j]);
		if (strcmp(roles[i], "web") == 0)
			check_web(r, conf, h);
		handoff_free(h);
	}
	return 0;
}

static int say_error(const char *path, const struct error *e, bool json)
{
	json_t *o = json ? json_pack("{s:b, s:s, s:s}", "ok", 0, "file", path, "error", e->text) : NULL;

	if (o) {
		json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
		putchar('\n');
		json_decref(o);
	}
	fprintf(stderr, "%s\n", e->text);
	return EX_CONFIG;
}

static void say_words(const struct report *r, const struct conf *conf, const char *path)
{
	size_t i, n = json_array_size(r->warnings);
	json_t *one;

	json_array_foreach(r->warnings, i, one) {
		int line = (int)json_integer_value(json_object_get(one, "line"));
		const char *text = json_string_value(json_object_get(one, "text"));
		if (line)
			fprintf(stderr, "%s:%d: warning: %s\n", path, line, text);
		else
			fprintf(stderr, "%s: warning: %s\n", path, text);
	}
	printf("%s: %zu listener%s, %zu domain%s, %zu warning%s\n", path, conf->listener_count, conf->listener_count == 1 ? "" : "s",
	       conf->domain_count, conf->domain_count == 1 ? "" : "s", n, n == 1 ? "" : "s");
}

static int say_json(const struct report *r, const struct conf *conf, const char *path)
{
	json_t *o = json_pack("{s:b, s:s, s:I, s:I, s:O}", "ok", 1, "file", path, "listeners", (json_int_t)conf->listener_count, "domains",
	                      (json_int_t)conf->domain_count, "warnings", r->warnings);

	if (!o)
		return EX_OSERR;
	json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(o);
	return 0;
}

static int check(const struct conf *conf, const char *path, bool json)
{
	struct report r = { .warnings = json_array() };
	struct conf_warning w[WARNINGS_MAX];
	size_t n = conf_warnings(conf, w, WARNINGS_MAX);
	struct error e = { 0 };
	int status = 0;

	for (size_t i = 0; i < n && i < WARNINGS_MAX; i++)
		warn(&r, w[i].line, w[i].text);
	if (check_files(&r, conf, path, &e) == -1)
		status = say_error(path, &e, json);
	else if (!r.warnings || r.lost)
		status = EX_OSERR;
	else if (json)
		status = say_json(&r, conf, path);
	else
		say_words(&r, conf, path);
	json_decref(r.warnings);
	return status;
}

static int show(const struct conf *conf, bool json)
{
	struct buf out;
	int r;

	buf_init(&out, &alloc_libc, 64 * 1024 * 1024);
	r = json ? conf_show_json(conf, &out) : conf_show(conf, &out);
	if (r == 0)
		fwrite(buf_view(&out).p, 1, buf_len(&out), stdout);
	buf_free(&out);
	return r == 0 ? 0 : EX_SOFTWARE;
}

int cmd_config(int argc, char **argv)
{
	const char *path = CMD_CONFIG, *what = NULL;
	bool json = false;
	struct conf *conf = NULL;
	struct error e = { 0 };
	int status;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "-c") == 0 && i + 1 < argc)
			path = argv[++i];
		else if (strcmp(argv[i], "--json") == 0)
			json = true;
		else if (!what && argv[i][0] != '-')
			what = argv[i];
		else
			return cmd_usage("config", "what is %s?", argv[i]);
	}
	if (!what || (strcmp(what, "check") != 0 && strcmp(what, "show") != 0))
		return cmd_usage("config", "check or show?");
	if (conf_load(&conf, path, &e) == -1)
		return say_error(path, &e, json);
	status = strcmp(what, "check") == 0 ? check(conf, path, json) : show(conf, json);
	conf_free(conf);
	return status;
}
