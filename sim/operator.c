/* operator.c - an operator's commands to a node, over its control socket; see sim.h. */
#include "sim/ledger.h"

#include <stdio.h>
#include <stdlib.h>

struct order { struct sock *s; struct node *n; char line[300]; };

static void order_opened(void *arg)
{
	struct order *o = arg;

	sock_put(o->s, o->line, strlen(o->line));
}

static void order_data(void *arg)
{
	struct order *o = arg;
	struct view v;
	size_t end;

	for (;;) {
		struct view line;
		v = sock_peek(o->s);
		end = view_find(v, '\n');
		if (end == v.n)
			return;
		line = view_slice(v, 0, end);
		say("%s control: %.*s", o->n->name, VIEW_ARGS(line));
		if (line.n > 6 && memcmp(line.p, "{\"ok\":", 6) == 0) {
			sock_take(o->s, end + 1);
			sock_close(o->s);
			return;
		}
		sock_take(o->s, end + 1);
	}
}

static void order_ended(void *arg, bool reset)
{
	struct order *o = arg;

	(void)reset;
	sock_close(o->s);
	if (strstr(o->line, "delete")) /* the queue died over it: done or not, nobody was told */
		ledger_deleted(strstr(o->line, "\"id\":\"") + 6);
}

void node_control(struct node *n, const char *line)
{
	static const struct sock_ops order_ops = { order_opened, order_data, order_ended };
	struct order *o = calloc(1, sizeof *o);
	char path[64];

	if (!o)
		abort();
	o->n = n;
	snprintf(o->line, sizeof o->line, "%s\n", line);
	snprintf(path, sizeof path, "/sim/%s/control", n->name);
	world_fault(FAULT_OPERATOR);
	say("%s operator: %s", n->name, line);
	o->s = sock_dial("operator", path, &order_ops, o);
}
