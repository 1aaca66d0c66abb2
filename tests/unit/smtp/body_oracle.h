/* body_oracle.h - the second framer: slow, obvious, over the whole octet string at once; it shares nothing with body.c.
 *
 * It writes down what RFC 5321 4.1.1.4, 4.5.2 and the policies say, in the order in which they say it:
 *   1. with the CR LF of the command line in front, the message ends at the first CR LF . CR LF that no CR stands before
 *      (CR CR LF is not the end of a line that a dot could follow);
 *   2. a dot behind such a CR LF is taken out;
 *   3. a CR with no LF behind, an LF with no CR before, a NUL are faults; made canonical, the first two are CR LF and
 *      the third is nothing.
 */
#ifndef BODY_ORACLE_H
#define BODY_ORACLE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct oracle {
	bool ended;
	size_t consumed;     /* octets of the wire up to the end of the final line; all of it when not ended */
	char *plain;         /* the message with its dots undone; free */
	size_t plain_n;
	char *canonical;     /* and made canonical; free */
	size_t canonical_n;
	const char *fault;   /* of plain: the first, or NULL */
};

static size_t oracle_find_end(const char *s, size_t n)
{
	for (size_t i = 0; i + 5 <= n; i++)
		if (memcmp(s + i, "\r\n.\r\n", 5) == 0 && (i == 0 || s[i - 1] != '\r'))
			return i;
	return n;
}

static void oracle_judge(struct oracle *o)
{
	for (size_t i = 0; i < o->plain_n; i++) {
		char c = o->plain[i];
		bool cr_before = i > 0 && o->plain[i - 1] == '\r', lf_behind = i + 1 < o->plain_n && o->plain[i + 1] == '\n';
		const char *fault = NULL;

		if (c == '\r' && !lf_behind)
			fault = "bare_cr";
		if (c == '\n' && !cr_before)
			fault = "bare_lf";
		if (c == '\0')
			fault = "nul";
		if (fault && !o->fault)
			o->fault = fault;
		if (c == '\0' || (c == '\n' && cr_before))
			continue; /* the LF was written with its CR */
		if (c == '\r' || c == '\n') {
			memcpy(o->canonical + o->canonical_n, "\r\n", 2);
			o->canonical_n += 2;
		} else {
			o->canonical[o->canonical_n++] = c;
		}
	}
}

/* chunked: no dots, no end on the wire; all of it is the message. */
static struct oracle oracle_frame(const char *wire, size_t n, bool chunked)
{
	struct oracle o = { 0 };
	char *s = malloc(n + 2);
	size_t end;

	memcpy(s, "\r\n", 2);
	if (n)
		memcpy(s + 2, wire, n);
	end = chunked ? n + 2 : oracle_find_end(s, n + 2);
	o.ended = !chunked && end < n + 2;
	o.consumed = o.ended ? end + 5 - 2 : n;
	o.plain = malloc(n + 1);
	o.canonical = malloc(2 * n + 1);
	for (size_t i = 2; i < (o.ended ? end + 2 : n + 2); i++)
		if (chunked || s[i] != '.' || s[i - 2] != '\r' || s[i - 1] != '\n' || (i > 2 && s[i - 3] == '\r'))
			o.plain[o.plain_n++] = s[i];
	oracle_judge(&o);
	free(s);
	return o;
}

static void oracle_free(struct oracle *o)
{
	free(o->plain);
	free(o->canonical);
}

#endif
