/* client_trace.c - the dialog of `postrider client -v`; see client.h.
 *
 * What we write is followed as a stream: command lines are shown, the content of the message is only counted, and what
 * answers AUTH is shown as stars.
 */
#include "cmd/client.h"
#include "cmd/screen.h"

#include <inttypes.h>
#include <stdarg.h>

void client_trace_init(struct client_trace *t, FILE *to)
{
	*t = (struct client_trace){ .to = to, .mode = TRACE_LINES };
}

void client_trace_note(struct client_trace *t, const char *fmt, ...)
{
	char text[CLIENT_LINE];
	va_list ap;

	if (!t->to)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	fputs("-- ", t->to);
	screen_peer(text, strlen(text), false, t->to);
	fputc('\n', t->to);
}

static void print(struct client_trace *t, char who, struct view line, bool cut)
{
	fprintf(t->to, "%s%c: ", t->tls ? "TLS " : "", who);
	screen_peer(line.p, line.n, false, t->to);
	fputs(cut ? " ...\n" : "\n", t->to);
}

/* Gathers one line; true when it is whole (without its end), and then next_line begins another. */
static bool gather(struct client_trace_line *l, struct view *v)
{
	size_t n = view_find(*v, '\n'), room = sizeof l->text - l->n;

	l->cut = l->cut || n > room;
	memcpy(l->text + l->n, v->p, n < room ? n : room);
	l->n += n < room ? n : room;
	if (n == v->n) {
		*v = view_slice(*v, n, n);
		return false;
	}
	*v = view_slice(*v, n + 1, v->n);
	if (l->n && !l->cut && l->text[l->n - 1] == '\r')
		l->n--;
	return true;
}

static void next_line(struct client_trace_line *l)
{
	l->n = 0;
	l->cut = false;
}

void client_trace_input(struct client_trace *t, struct view v)
{
	while (t->to && v.n)
		if (gather(&t->in, &v)) {
			print(t, 'S', view_of(t->in.text, t->in.n), t->in.cut);
			next_line(&t->in);
		}
}

static void content_ends(struct client_trace *t)
{
	fprintf(t->to, "%sC: (%" PRIu64 " octets of the message)\n", t->tls ? "TLS " : "", t->octets);
	t->octets = 0;
	t->mode = TRACE_LINES;
}

/* "BDAT 1234 LAST": so many octets follow. */
static void look_for_chunk(struct client_trace *t, struct view line)
{
	uint64_t n;

	if (!view_starts_nocase(line, VIEW("BDAT ")))
		return;
	line = view_slice(line, 5, line.n);
	if (view_to_u64(view_slice(line, 0, view_find(line, ' ')), &n) && n) {
		t->mode = TRACE_OCTETS;
		t->left = n;
	}
}

static void command(struct client_trace *t)
{
	struct view line = view_of(t->out.text, t->out.n);

	if (t->secret && view_starts_nocase(line, VIEW("AUTH ")))
		fprintf(t->to, "%sC: %.*s ********\n", t->tls ? "TLS " : "",
			(int)(5 + view_find(view_slice(line, 5, line.n), ' ')), line.p);
	else if (t->secret && !view_eq(line, VIEW("*")) && !view_eq(line, VIEW("QUIT")))
		fprintf(t->to, "%sC: ********\n", t->tls ? "TLS " : "");
	else
		print(t, 'C', line, t->out.cut);
	t->data = view_eq_nocase(line, VIEW("DATA"));
	look_for_chunk(t, line);
}

void client_trace_output(struct client_trace *t, struct view v)
{
	size_t n;

	while (t->to && v.n) {
		if (t->mode == TRACE_OCTETS) {
			n = v.n < t->left ? v.n : (size_t)t->left;
			t->octets += n;
			t->left -= n;
			v = view_slice(v, n, v.n);
			if (t->left == 0)
				content_ends(t);
			continue;
		}
		n = v.n;
		if (!gather(&t->out, &v)) {
			t->left += n;
			return;
		}
		if (t->mode == TRACE_DOTS && t->out.n == 1 && t->out.text[0] == '.')
			content_ends(t);
		else if (t->mode == TRACE_DOTS)
			t->octets += t->left + n - v.n;
		t->left = 0;
		if (t->mode == TRACE_LINES)
			command(t); /* the final dot too */
		next_line(&t->out);
	}
}

void client_trace_body(struct client_trace *t)
{
	if (t->mode == TRACE_LINES && t->data) /* BDAT says its sizes itself */
		t->mode = TRACE_DOTS;
}
