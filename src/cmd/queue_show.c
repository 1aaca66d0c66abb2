/* queue_show.c - see queue_show.h.
 *
 * A list streams: its columns have fixed widths, so that the first line can be printed before the last is known, and
 * what has no bound (addresses, words) stands on lines of its own below.
 */
#include "cmd/queue_show.h"
#include "cmd/cmd.h"
#include "cmd/screen.h"

#include <inttypes.h>
#include <string.h>

#define HEADINGS "ID               STATE    TRIES  SIZE      AGE      NEXT     DESTINATION"

#define NUMBER_MAX (INT64_MAX / 4)

const char *json_text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

int64_t json_number(const json_t *o, const char *key)
{
	int64_t n = json_integer_value(json_object_get(o, key));

	/* so that the difference of two is a number too, whoever answers */
	return n > NUMBER_MAX ? NUMBER_MAX : n < -NUMBER_MAX ? -NUMBER_MAX : n;
}

/* A full disk or a closed pipe ends the asking. */
static int written(void)
{
	return ferror(stdout) ? EX_IOERR : 0;
}

static const char *next_of(const struct queue_show *s, const json_t *o, char to[SCREEN_UNIT])
{
	const char *state = json_text(o, "state");

	if (strcmp(state, "held") == 0 || strcmp(state, "active") == 0)
		return "-";
	return screen_span(json_number(o, "due") - s->now, to);
}

static void put_row(const struct queue_show *s, const json_t *o)
{
	struct screen_line l = { .n = 0 };
	char size[SCREEN_UNIT], age[SCREEN_UNIT], next[SCREEN_UNIT];

	screen_add(&l, "%-16s %-8s %5" PRId64 "  %-8s  %-7s  %-7s  %s", json_text(o, "id"), json_text(o, "state"),
		   json_number(o, "attempts"), screen_size(json_number(o, "size"), size),
		   screen_span(s->now - json_number(o, "created"), age), next_of(s, o, next), json_text(o, "dest"));
	screen_end(&l, s->width, stdout);
}

static void put_addresses(const struct queue_show *s, const json_t *o)
{
	const json_t *list = json_object_get(o, "recipients");
	size_t n = json_array_size(list);
	struct screen_line l = { .n = 0 };

	screen_add(&l, "    <%s> to", json_text(o, "sender"));
	for (size_t i = 0; i < n; i++)
		screen_add(&l, "%s <%s>", i ? "," : "", json_text(json_array_get(list, i), "address"));
	if (json_number(o, "nrcpt") > (int64_t)n)
		screen_add(&l, " and %" PRId64 " more", json_number(o, "nrcpt") - (int64_t)n);
	screen_end(&l, s->width, stdout);
}

static void put_words(const struct queue_show *s, const json_t *rcpt, const char *before)
{
	struct screen_line l = { .n = 0 };
	const char *remote = json_text(rcpt, "remote");
	char when[SCREEN_TIME];

	if (json_number(rcpt, "last") == 0)
		return;
	screen_add(&l, "%s%s%s", before, remote, remote[0] ? ": " : "");
	if (json_number(rcpt, "code"))
		screen_add(&l, "%" PRId64 " ", json_number(rcpt, "code"));
	screen_add(&l, "%s (%s)", json_text(rcpt, "text"), screen_time(json_number(rcpt, "last"), when));
	screen_end(&l, s->width, stdout);
}

int queue_show_list(void *arg, json_t *o)
{
	struct queue_show *s = arg;
	struct screen_line l = { .n = 0 };

	if (s->n++ == 0) {
		screen_add(&l, "%s", HEADINGS);
		screen_end(&l, s->width, stdout);
	}
	put_row(s, o);
	put_addresses(s, o);
	put_words(s, json_array_get(json_object_get(o, "recipients"), 0), "    ");
	return written();
}

int queue_show_message(void *arg, json_t *o)
{
	struct queue_show *s = arg;
	const json_t *list = json_object_get(o, "recipients"), *rcpt;
	struct screen_line l = { .n = 0 };
	char a[SCREEN_TIME], b[SCREEN_TIME], size[SCREEN_UNIT], next[SCREEN_UNIT];
	size_t i;

	if (s->n++ == 0) {
		screen_add(&l, "message %s from <%s>, %s", json_text(o, "id"), json_text(o, "sender"),
			   screen_size(json_number(o, "size"), size));
		screen_end(&l, s->width, stdout);
		printf("accepted %s, given up %s\n", screen_time(json_number(o, "created"), a),
		       screen_time(json_number(o, "expires"), b));
	}
	screen_add(&l, "envelope %" PRId64 ": %s, attempts %" PRId64 ", next %s, to %s", json_number(o, "slot"),
		   json_text(o, "state"), json_number(o, "attempts"), next_of(s, o, next), json_text(o, "dest"));
	screen_end(&l, s->width, stdout);
	json_array_foreach(list, i, rcpt)
	{
		screen_add(&l, "    <%s>", json_text(rcpt, "address"));
		screen_end(&l, s->width, stdout);
		put_words(s, rcpt, "        ");
	}
	return written();
}

int queue_show_why(void *arg, json_t *o)
{
	struct queue_show *s = arg;
	struct screen_line l = { .n = 0 };

	s->n++;
	screen_add(&l, "%s/%" PRId64 " to %s:", json_text(o, "id"), json_number(o, "slot"), json_text(o, "dest"));
	screen_end(&l, s->width, stdout);
	screen_add(&l, "    %s", json_text(o, "why")); /* the answer itself is never cut */
	screen_end(&l, 0, stdout);
	return written();
}

int queue_show_json(void *arg, json_t *o)
{
	struct queue_show *s = arg;

	s->n++;
	if (json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) == -1 || fputc('\n', stdout) == EOF)
		return EX_IOERR;
	return written();
}
