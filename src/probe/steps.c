/* steps.c - what many checks begin with: EHLO and its words, STARTTLS and the handshake. */
#include "probe/inside.h"

bool probe_ehlo(struct probe_link *l)
{
	return probe_ask(l, "EHLO %s", l->p->o->hello) == 250;
}

/* The nth line of a reply's text; .p NULL: there is none. */
static struct view text_line(const struct probe_reply *r, unsigned nth)
{
	struct view rest = view_cstr(r->text);

	for (; nth; nth--) {
		size_t lf = view_find(rest, '\n');

		if (lf == rest.n)
			return view_of(NULL, 0);
		rest = view_slice(rest, lf + 1, rest.n);
	}
	return view_slice(rest, 0, view_find(rest, '\n'));
}

bool probe_has_word(const struct probe_reply *ehlo, const char *word, struct view *arguments)
{
	/* the first line greets (RFC 5321 4.1.1.1) */
	for (unsigned i = 1; i < ehlo->lines && i < PROBE_WORDS_MAX; i++) {
		struct view line = text_line(ehlo, i), first = view_slice(line, 0, view_find(line, ' '));

		if (line.p && view_eq_nocase(first, view_cstr(word))) {
			if (arguments)
				*arguments = view_slice(line, first.n + 1, line.n);
			return true;
		}
	}
	return false;
}

void probe_words(const struct probe_reply *ehlo, char *to, size_t room)
{
	size_t n = 0;

	to[0] = 0;
	for (unsigned i = 1; i < ehlo->lines && i < PROBE_WORDS_MAX; i++) {
		struct view line = text_line(ehlo, i);

		for (size_t at = 0; line.p && at < line.n && n + 2 < room; at++)
			to[n++] = line.p[at] >= 'a' && line.p[at] <= 'z' ? (char)(line.p[at] - 32) : line.p[at];
		if (line.p && n + 2 < room)
			to[n++] = '\n';
	}
	to[n] = 0;
}

bool probe_word_in(const char *words, const char *word)
{
	struct view rest = view_cstr(words);

	while (rest.n) {
		struct view line = view_slice(rest, 0, view_find(rest, '\n'));

		if (view_eq_nocase(view_slice(line, 0, view_find(line, ' ')), view_cstr(word)))
			return true;
		rest = view_slice(rest, line.n + 1, rest.n);
	}
	return false;
}

bool probe_starttls(struct probe_link *l, const struct probe_hello *hello)
{
	return probe_ask(l, "STARTTLS") == 220 && probe_shake(l, hello);
}

bool probe_open_to_220(struct probe *p, struct probe_link *l)
{
	if (p->o->implicit)
		return probe_connect(p, l);
	return probe_open(p, l) && probe_ehlo(l) && probe_ask(l, "STARTTLS") == 220;
}

bool probe_open_tls(struct probe *p, struct probe_link *l, const struct probe_hello *hello)
{
	if (!probe_open_to_220(p, l) || !probe_shake(l, hello))
		return false;
	if (!p->o->implicit)
		return true;
	if (probe_hear(l) == 220)
		p->refused = 0;
	return l->reply.code == 220;
}

void probe_untested(struct probe_link *l, const char *wanted)
{
	probe_say(l->p, PROBE_UNTESTED, "%s: %s", wanted, probe_stuck(l));
}
