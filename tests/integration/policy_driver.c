/* policy_driver.c - the role `policy`, with `resolve` beside it, in one process: told what to do on standard input, by lines; answers
 * are JSON, one a line, on standard output.  tests/integration/test_policy.py talks to it.
 *
 *   policy_driver CONF
 *     ask DOMAIN            STS_ASK; the answer is printed when it comes
 *     result JSON           TLS_RESULT with the fields named in it
 *     time SECONDS          the clocks go ahead
 *     now                   reports go now; what the role says of it is printed
 *     done STATUS           how the queue answers the next mails: the number of a wire_done_status
 *     end                   stops; so does the end of the input
 * What the role submits to the queue is printed as {"mail": text, "sender": ..., "rcpts": [...], "flags": n}.
 */
#include "base/buf.h"
#include "wire/role.h"
#include "wire/wire.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
	struct role policy, resolve, keys;
	struct channel *send, *queue;
	struct loop *loop;
	struct buf in, mail;
	struct loop_watch stdin_watch;
	struct loop_timer pause;
	int64_t offset;
	uint64_t stream;
	unsigned done;
} d = { .done = WIRE_DONE_OK };

static int64_t wall(void *arg)
{
	return env_real.wall_ms(arg) + d.offset;
}

static int64_t mono(void *arg)
{
	return env_real.mono_ms(arg) + d.offset;
}

static void say(json_t *j)
{
	char *text = json_dumps(j, JSON_COMPACT);

	printf("%s\n", text ? text : "{\"unsayable\":true}");
	fflush(stdout);
	free(text);
	json_decref(j);
}

static json_t *text(struct view v)
{
	return json_stringn_nocheck(v.p ? v.p : "", v.n);
}

/* ---- send ---- */

static void send_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct wire_STS_POLICY m;

	(void)arg;
	(void)ch;
	(void)fd;
	if (type != WIRE_STS_POLICY || wire_read_STS_POLICY(payload, &m) == -1)
		abort();
	say(json_pack("{s:I, s:i, s:i, s:I, s:o, s:o, s:o}", "stream", (json_int_t)m.stream, "status", m.status, "mode", m.mode, "ttl", (json_int_t)m.ttl_s, "id",
	              text(m.id), "mx", text(m.mx), "reason", text(m.reason)));
}

static void closed(void *arg, struct channel *ch)
{
	(void)ch;
	say(json_pack("{s:s}", "closed", (const char *)arg));
}

/* ---- queue ---- */

static void submitted(const struct wire_BODY_SUBMIT *m)
{
	json_t *rcpts = json_array();
	struct view list = m->rcpts;
	struct wire_rcpt r;
	struct buf all;
	struct wire_BODY_DONE done = { .stream = m->stream, .status = (uint8_t)d.done, .id = 1 };

	buf_init(&all, &alloc_libc, 8 << 20);
	buf_add(&all, m->prefix);
	buf_add(&all, buf_view(&d.mail));
	while (wire_rcpt_next(&list, &r) == 1)
		json_array_append_new(rcpts, text(r.address));
	say(json_pack("{s:o, s:o, s:o, s:i}", "mail", text(buf_view(&all)), "sender", text(m->sender), "rcpts", rcpts, "flags", (int)m->flags));
	buf_free(&all);
	buf_clear(&d.mail);
	wire_send_BODY_DONE(d.queue, &done);
}

static void queue_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct wire_BODY_BYTES bytes;
	struct wire_BODY_SUBMIT submit;
	struct wire_BODY_CREDIT credit;
	struct wire_REPORT_GOING going;

	(void)arg;
	(void)fd;
	if (type == WIRE_BODY_BYTES && wire_read_BODY_BYTES(payload, &bytes) == 0) {
		if (bytes.bytes.n > WIRE_BODY_FRAME)
			abort();
		buf_add(&d.mail, bytes.bytes);
		credit = (struct wire_BODY_CREDIT){ .stream = bytes.stream, .bytes = (uint32_t)bytes.bytes.n };
		wire_send_BODY_CREDIT(ch, &credit);
	} else if (type == WIRE_BODY_SUBMIT && wire_read_BODY_SUBMIT(payload, &submit) == 0)
		submitted(&submit);
	else if (type == WIRE_REPORT_GOING && wire_read_REPORT_GOING(payload, &going) == 0)
		say(json_pack("{s:b, s:i, s:i}", "on", going.on, "domains", (int)going.domains, "reports", (int)going.reports));
	else if (type != WIRE_BODY_BEGIN)
		abort();
}

/* ---- orders ---- */

static struct view field(const json_t *j, const char *name)
{
	return view_cstr(json_is_string(json_object_get(j, name)) ? json_string_value(json_object_get(j, name)) : "");
}

static void result(const char *words)
{
	json_t *j = json_loads(words, 0, NULL);
	struct wire_TLS_RESULT m = { .domain = field(j, "domain"), .policy_text = field(j, "policy_text"), .mx = field(j, "mx"), .address = field(j, "address"),
		.local_address = field(j, "local_address"), .reason = field(j, "reason") };

	if (!j)
		abort();
	m.policy_type = (uint8_t)json_integer_value(json_object_get(j, "policy_type"));
	m.result = (uint8_t)json_integer_value(json_object_get(j, "result"));
	m.count = (uint32_t)json_integer_value(json_object_get(j, "count"));
	wire_send_TLS_RESULT(d.send, &m);
	json_decref(j);
}

static void order(struct view line)
{
	char words[8192];
	struct wire_STS_ASK ask;
	struct wire_REPORT_NOW now = { 0 };

	snprintf(words, sizeof words, "%.*s", VIEW_ARGS(line));
	if (strncmp(words, "ask ", 4) == 0) {
		ask = (struct wire_STS_ASK){ .stream = ++d.stream, .domain = view_cstr(words + 4) };
		wire_send_STS_ASK(d.send, &ask);
	} else if (strncmp(words, "result ", 7) == 0) {
		result(words + 7);
	} else if (strncmp(words, "time ", 5) == 0) {
		d.offset += strtoll(words + 5, NULL, 10) * 1000;
	} else if (strcmp(words, "now") == 0) {
		now.stream = ++d.stream;
		wire_send_REPORT_NOW(d.queue, &now);
	} else if (strncmp(words, "done ", 5) == 0) {
		d.done = (unsigned)strtoul(words + 5, NULL, 10);
	} else {
		loop_stop(d.loop);
	}
}

/* The clocks do not go ahead before what was told until now has been heard: frames take turns of the loop. */
static void take_orders(void *arg)
{
	bool first = true;

	(void)arg;
	for (;; first = false) {
		struct view v = buf_view(&d.in);
		size_t end = view_find(v, '\n');
		if (end == v.n)
			return;
		if (!first && view_starts_nocase(v, VIEW("time "))) {
			loop_timer_set(&d.pause, loop_now(d.loop) + 50);
			return;
		}
		order(view_slice(v, 0, end));
		buf_take(&d.in, end + 1);
	}
}

static void on_input(void *arg, unsigned io)
{
	ssize_t n;

	(void)arg;
	(void)io;
	buf_reserve(&d.in, 4096);
	n = read(STDIN_FILENO, buf_tail(&d.in), buf_room(&d.in));
	if (n <= 0) {
		loop_stop(d.loop);
		return;
	}
	buf_commit(&d.in, (size_t)n);
	if (!d.pause.place)
		take_orders(NULL);
}

/* ---- the world ---- */

static void to_super(struct role *role, uint32_t type, struct view payload)
{
	(void)role;
	(void)payload;
	say(json_pack("{s:s}", "to_super", wire_name(type)));
}

static void drained(struct role *role)
{
	(void)role;
}

static void begin(struct role *r, const struct role_ops *ops, struct conf *conf, const char *path, const struct env *env)
{
	struct handoff *files;
	struct error e = { 0 };

	*r = (struct role){ .kind = ops->kind, .ops = ops, .conf = conf, .env = env, .loop = d.loop, .generation = 1, .extra_fd = -1, .to_super = to_super,
		.drained = drained };
	r->events = events_new(env, role_name(ops->kind), STDERR_FILENO, EVENT_INFO, NULL);
	if (handoff_read(&files, conf, path, role_name(ops->kind), &e) == -1 || (r->files = files, ops->prepare(r, &e)) == -1 || ops->start(r, &e) == -1) {
		fprintf(stderr, "%s: %s\n", role_name(ops->kind), e.text);
		exit(1);
	}
}

static struct channel *join(struct role *r, enum role_kind as, const struct channel_handler *h, void *arg)
{
	struct channel *ends[2];

	if (channel_pair(d.loop, ends) == -1)
		abort();
	r->ops->channel(r, as, 0, 1, ends[1]);
	if (h)
		channel_set_handler(ends[0], h, arg);
	return ends[0];
}

int main(int argc, char **argv)
{
	static char send_word[] = "send", queue_word[] = "queue";
	static const struct channel_handler send = { send_frame, closed, NULL }, queue = { queue_frame, closed, NULL };
	struct env env = env_real;
	struct conf *conf;
	struct error e = { 0 };
	struct channel *ends[2];

	if (argc != 2 || conf_load(&conf, argv[1], &e) == -1) {
		fprintf(stderr, "driver CONF: %s\n", e.text);
		return 64;
	}
	env.wall_ms = wall;
	env.mono_ms = mono;
	d.loop = loop_new(&env);
	buf_init(&d.in, &alloc_libc, 8 << 20);
	buf_init(&d.mail, &alloc_libc, 8 << 20);
	begin(&d.policy, &policy_role, conf, argv[1], &env);
	begin(&d.resolve, &resolve_role, conf, argv[1], &env);
	begin(&d.keys, &keys_role, conf, argv[1], &env);
	if (channel_pair(d.loop, ends) == -1)
		abort();
	d.keys.ops->channel(&d.keys, ROLE_POLICY, 0, 1, ends[1]);
	d.policy.ops->channel(&d.policy, ROLE_KEYS, 0, 1, ends[0]);
	if (channel_pair(d.loop, ends) == -1)
		abort();
	d.resolve.ops->channel(&d.resolve, ROLE_POLICY, 0, 1, ends[1]);
	d.policy.ops->channel(&d.policy, ROLE_RESOLVE, 0, 1, ends[0]);
	d.send = join(&d.policy, ROLE_SEND, &send, send_word);
	d.queue = join(&d.policy, ROLE_QUEUE, &queue, queue_word);
	loop_timer_init(&d.pause, d.loop, take_orders, NULL);
	loop_watch_start(&d.stdin_watch, d.loop, STDIN_FILENO, LOOP_READ, on_input, NULL);
	loop_run(d.loop);
	loop_watch_stop(&d.stdin_watch);
	d.policy.ops->stop(&d.policy);
	d.resolve.ops->stop(&d.resolve);
	d.keys.ops->stop(&d.keys);
	_exit(0);
}
