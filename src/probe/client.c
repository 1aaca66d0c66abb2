/* client.c - plays the table's cases to one client, one after the other. */
#include "probe/client_inside.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define MISSED_MOST 3u /* cases in a row to which nobody came, before the rest is left undone: the sender has gone */
#define BACKLOG 16

static void (*const functions[])(struct client_probe *) = {
#define GROUP(hundred, title)
#define CASE(number, name, severity, needs, reference, title, plays) client_case_##name,
#include "spec/probe_client.def"
};

static int open_port(struct client_probe *c, struct error *e)
{
	const struct sockaddr *sa = (const struct sockaddr *)&c->o->listen.sa;
	char where[ADDRESS_TEXT];
	int on = 1;

	c->fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	c->bound.len = sizeof c->bound.sa;
	if (c->fd == -1 || setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == -1 || bind(c->fd, sa, c->o->listen.len) == -1 ||
	    listen(c->fd, BACKLOG) == -1 || getsockname(c->fd, (struct sockaddr *)&c->bound.sa, &c->bound.len) == -1)
		return error_set(e, ERROR_AGAIN, "%s: %s", address_text(sa, where), strerror(errno));
	return 0;
}

static bool is_wanted(const struct probe_client_options *o, unsigned number)
{
	for (unsigned i = 0; i < o->only_count; i++)
		if (o->only[i] == number)
			return true;
	return o->only_count == 0;
}

/* One case.  False: nobody ever came, or memory ran out. */
static bool play_case(struct client_probe *c, unsigned i)
{
	const struct probe_check *check = &client_cases[i];

	c->p.now = probe_report_add(c->p.report, check);
	if (!c->p.now)
		return false;
	c->script = (struct client_script){ 0 };
	if (check->needs & CLIENT_NEEDS_REQUIRE && !c->o->requiretls)
		client_say(c, PROBE_UNTESTED, "it needs a message that asks for REQUIRETLS: --requiretls was not given");
	else if (c->missed >= MISSED_MOST)
		client_say(c, PROBE_UNTESTED, "nobody came to the cases before");
	else
		functions[i](c);
	return c->came || !c->missed;
}

static int play_all(struct client_probe *c, struct error *e)
{
	const struct probe_client_options *o = c->o;
	unsigned total = 0, done = 0;
	int status = 0;

	for (unsigned i = 0; i < client_case_count; i++)
		total += is_wanted(o, client_cases[i].number);
	for (unsigned i = 0; i < client_case_count && status == 0; i++) {
		if (!is_wanted(o, client_cases[i].number))
			continue;
		if (o->progress)
			o->progress(o->arg, done, total, &client_cases[i]);
		done++;
		if (!play_case(c, i)) {
			const struct probe_finding *f = c->p.now;

			status = error_set(e, ERROR_AGAIN, "%s%s%s", f ? f->text : "out of memory", f && f->line_count ? "; " : "",
			                   f && f->line_count ? f->lines[f->line_count - 1].text : "");
		}
	}
	if (o->progress)
		o->progress(o->arg, done, total, NULL);
	return status;
}

int probe_client(const struct probe_client_options *o, struct probe_report *r, struct error *e)
{
	static const char *const expects[] = { "?", "may", "encrypt", "verify" };
	struct client_probe c = { .o = o, .fd = -1, .timing = { .timeout_ms = o->timeout_ms, .window_ms = o->window_ms, .host = "" } };
	int status;

	c.p = (struct probe){ .o = &c.timing, .report = r, .began_ms = probe_now(), .peer = "the client" };
	status = client_certificates_make(&c.certificates, o, e);
	if (status == 0)
		status = open_port(&c, e);
	if (status == 0) {
		probe_report_fact(r, "expected", "%s", expects[o->expect]);
		probe_report_fact(r, "certificate", "%s, %s", o->chain.n ? "given" : "of our own authority", o->name);
		if (o->command)
			probe_report_fact(r, "command", "%s", o->command[0]);
		if (o->listening)
			o->listening(o->arg, (const struct sockaddr *)&c.bound.sa);
		status = play_all(&c, e);
	}
	r->took_ms = (uint32_t)(probe_now() - c.p.began_ms);
	if (c.fd != -1)
		close(c.fd);
	client_certificates_free(&c.certificates);
	return status;
}
