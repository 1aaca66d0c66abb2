/* client_hello.c - what the reply to EHLO says (RFC 5321 4.1.1.1): the server's name, then a keyword a line.
 *
 * Unknown keywords are passed over.  A keyword whose parameters make no sense offers what can be told without them: a
 * SIZE that is no number is a SIZE without limit.  Views live in the hello's arena and end with it.
 */
#include "smtp/client_state.h"

static struct view word_next(struct view *rest)
{
	struct view word;
	size_t end;

	*rest = view_trim(*rest);
	for (end = 0; end < rest->n && rest->p[end] != ' ' && rest->p[end] != '\t';)
		end++;
	word = view_slice(*rest, 0, end);
	*rest = view_slice(*rest, end, rest->n);
	return word;
}

/* LIMITS (RFC 9422 section 3): name=value, blank-separated; names unknown to us are passed over. */
static void learn_limits(struct psmtp_client_facts *offer, struct view rest)
{
	while (view_trim(rest).n) {
		struct view word = word_next(&rest);
		size_t eq = view_find(word, '=');
		struct view name = view_slice(word, 0, eq);
		uint64_t value;

		/* RFC 9422 section 3: at most six digits, and zero makes no sense */
		if (!view_to_u64(view_slice(word, eq + 1, word.n), &value) || value == 0 || value > 999999)
			continue;
		if (view_eq_nocase(name, VIEW("MAILMAX")))
			offer->mail_limit = (uint32_t)value;
		else if (view_eq_nocase(name, VIEW("RCPTMAX")))
			offer->rcpt_limit = (uint32_t)value;
	}
}

static void learn_size(struct psmtp_client_facts *offer, struct view rest)
{
	uint64_t limit;

	offer->size = true;
	if (view_to_u64(word_next(&rest), &limit))
		offer->size_limit = limit; /* RFC 1870 section 4: 0 is no limit */
}

static bool learn_auth(struct client_hello *hello, struct view rest)
{
	struct view words = arena_copy(&hello->arena, view_trim(rest));

	if (!words.p)
		return false;
	hello->offer.auth = smtp_public(words);
	return true;
}

static bool learn_line(struct client_hello *hello, struct view line)
{
	struct psmtp_client_facts *offer = &hello->offer;
	const struct {
		const char *word;
		bool *flag;
	} flags[] = { { "PIPELINING", &offer->pipelining }, { "CHUNKING", &offer->chunking },
		{ "BINARYMIME", &offer->binarymime }, { "8BITMIME", &offer->eightbit }, { "SMTPUTF8", &offer->smtputf8 },
		{ "DSN", &offer->dsn }, { "STARTTLS", &offer->starttls }, { "REQUIRETLS", &offer->requiretls } };
	struct view word = word_next(&line);

	for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
		if (view_eq_nocase(word, view_cstr(flags[i].word)))
			*flags[i].flag = true;
	if (view_eq_nocase(word, VIEW("SIZE")))
		learn_size(offer, line);
	else if (view_eq_nocase(word, VIEW("LIMITS")))
		learn_limits(offer, line);
	else if (view_eq_nocase(word, VIEW("AUTH")) && !offer->auth.n)
		return learn_auth(hello, line);
	return true;
}

bool client_learn(struct psmtp_client *c, bool ehlo)
{
	struct client_hello *hello = client_hello(c);
	struct psmtp_reply reply = client_reply(c);
	struct view rest = smtp_view(reply.text);
	size_t end = view_find(rest, '\n');
	struct view first = view_slice(rest, 0, end), name = arena_copy(&hello->arena, word_next(&first));

	if (!name.p)
		return false;
	hello->offer.hello = smtp_public(name);
	hello->offer.ehlo = ehlo;
	for (rest = view_slice(rest, end + 1, rest.n); ehlo && rest.n; rest = view_slice(rest, end + 1, rest.n)) {
		end = view_find(rest, '\n');
		if (!learn_line(hello, view_slice(rest, 0, end)))
			return false;
	}
	return true;
}
