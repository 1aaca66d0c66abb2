/* steps.c - what many checks begin with: EHLO and its words, STARTTLS and the handshake. */
#include "probe/inside.h"

#include "smtp/base64.h"

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

int probe_authenticate(struct probe_link *l)
{
	struct view login = l->p->o->login, user = view_slice(login, 0, view_find(login, ':'));
	struct view password = view_slice(login, user.n + 1, login.n);
	struct buf plain, line;
	int code = 0;

	buf_init(&plain, &alloc_libc, 4096);
	buf_init(&line, &alloc_libc, 8192);
	/* RFC 4616: NUL user NUL password */
	if (buf_add(&plain, view_of("", 1)) && buf_add(&plain, user) && buf_add(&plain, view_of("", 1)) &&
	    buf_add(&plain, password) && buf_add(&line, VIEW("AUTH PLAIN ")) &&
	    buf_reserve(&line, SMTP_BASE64_ENCODED(buf_len(&plain)))) {
		buf_commit(&line, smtp_base64_encode(buf_view(&plain), (char *)buf_tail(&line)));
		code = probe_ask_secret(l, buf_view(&line), "AUTH PLAIN (the given credentials)");
	}
	buf_free(&plain);
	buf_free(&line);
	return code;
}

bool probe_is_same_host(const struct probe_link *l)
{
	struct sockaddr_storage here, there;
	socklen_t n = sizeof here, m = sizeof there;

	return l->fd != -1 && getsockname(l->fd, (struct sockaddr *)&here, &n) == 0 &&
	       getpeername(l->fd, (struct sockaddr *)&there, &m) == 0 &&
	       address_equal_host((const struct sockaddr *)&here, (const struct sockaddr *)&there);
}
