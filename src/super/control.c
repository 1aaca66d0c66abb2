/* control.c - what operators ask of super through `queue`: status, reload, stop.  Answers are JSON. */
#include "super/super.h"

#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

static const char *state_name(enum child_state state)
{
	switch (state) {
	case CHILD_STARTING: return "starting";
	case CHILD_RUNNING: return "running";
	case CHILD_DRAINING: return "draining";
	case CHILD_WAITING: return "waiting for its restart";
	}
	return "unknown";
}

/* A child's words are a peer's input: what is no UTF-8 is not told. */
static json_t *notice_of(const struct child *c)
{
	json_t *text = json_string(c->notice);

	return text ? text : json_string("?");
}

static json_t *status(struct super *s)
{
	json_t *roles = json_array();

	for (struct child *c = s->children; c; c = c->next)
		json_array_append_new(roles, json_pack("{s:s, s:I, s:i, s:s, s:i, s:b, s:I, s:o}", "role", role_name(c->kind), "pid", (json_int_t)c->pid,
		                                       "generation", (int)c->generation, "state", state_name(c->state), "restarts",
		                                       (int)c->restarts, "sandboxed", (int)c->sandboxed, "uptime_ms",
		                                       (json_int_t)(loop_now(s->loop) - c->started), "notice", notice_of(c)));
	return json_pack("{s:b, s:I, s:i, s:I, s:o, s:o}", "ok", 1, "pid", (json_int_t)getpid(), "generation", (int)s->generation, "uptime_ms",
	                 (json_int_t)(loop_now(s->loop) - s->born), "roles", roles, "certificates", certificates_json(s));
}

void control_answer(struct super *s, struct child *from, struct view payload)
{
	struct wire_CONTROL m;
	struct wire_CONTROL_DONE done;
	struct error e = { 0 };
	json_t *json = NULL;
	char *text;
	struct buf b;

	if (wire_read_CONTROL(payload, &m) == -1)
		return;
	switch ((enum wire_control_command)m.command) {
	case WIRE_CONTROL_STATUS: json = status(s); break;
	case WIRE_CONTROL_RELOAD:
		reload_begin(s, &e);
		json = e.class ? json_pack("{s:b, s:s}", "ok", 0, "error", e.text) : json_pack("{s:b, s:i}", "ok", 1, "generation", (int)s->generation);
		break;
	case WIRE_CONTROL_STOP: json = json_pack("{s:b}", "ok", 1); break;
	}
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	done = (struct wire_CONTROL_DONE){ .stream = m.stream, .json = text ? view_cstr(text) : VIEW("{\"ok\":false}") };
	buf_init(&b, &alloc_libc, CHANNEL_FRAME_MAX);
	if (wire_put_CONTROL_DONE(&b, &done))
		child_send(from, WIRE_CONTROL_DONE, &b, -1);
	buf_free(&b);
	free(text);
	if (m.command == WIRE_CONTROL_STOP) {
		EMIT(s->events, STOPPING, F_STR("reason", "control socket"));
		stop_begin(s);
	}
}
