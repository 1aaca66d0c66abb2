/* server_command.c - the next line of the input becomes one event, with its faults as facts.
 *
 * Nothing is decided here but what the line says; whether that is welcome is a matter of spec/server.def.  Views point
 * into the line, which stays in the input until the command ends, or into the command's or transaction's arena.
 */
#include "smtp/base64.h"
#include "smtp/command.h"
#include "smtp/params.h"
#include "smtp/server_state.h"

static void fault_if(struct server_command *c, bool wrong, uint64_t fact)
{
	if (wrong)
		c->faults |= fact;
}
#define FAULT_IF(c, wrong, id) fault_if(c, wrong, SERVER_FACT(id))

/* For the log: the first word, cut short, with a dot for what cannot be printed. */
static void keep_word(struct psmtp_server *s, struct view text)
{
	struct view word = view_slice(text, 0, view_find(text, ' '));
	size_t n = word.n < sizeof s->word - 1 ? word.n : sizeof s->word - 1;

	for (size_t i = 0; i < n; i++)
		s->word[i] = smtp_is_graph(word.p[i]) ? word.p[i] : '.';
	s->word[n] = '\0';
}

/* Each parameter's own row says whether it is taken now; one refusal is enough. */
static bool params_refused(struct psmtp_server *s, unsigned seen)
{
	static const struct {
		enum smtp_param param;
		enum server_event event;
	} rows[] = {
		{ SMTP_PARAM_SIZE, EVENT_P_SIZE }, { SMTP_PARAM_BODY, EVENT_P_BODY }, { SMTP_PARAM_BINARY, EVENT_P_BINARY },
		{ SMTP_PARAM_UTF8, EVENT_P_UTF8 }, { SMTP_PARAM_DSN, EVENT_P_DSN }, { SMTP_PARAM_AUTH, EVENT_P_AUTH },
		{ SMTP_PARAM_TLS, EVENT_P_TLS },
	};
	uint64_t facts = server_facts(s, NULL);
	bool refused = false;

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (seen & rows[i].param)
			refused |= server_row_ask(s, rows[i].event, facts)->reply != REPLY_NONE;
	return refused;
}

static void note_parse(struct psmtp_server *s, struct smtp_parsed p)
{
	struct server_command *c = server_command_of(s);
	enum smtp_parse_fault f = p.fault;

	FAULT_IF(c, f == SMTP_PARSE_SYNTAX, BAD);
	FAULT_IF(c, f == SMTP_PARSE_SENDER || f == SMTP_PARSE_RECIPIENT, BADADDR);
	FAULT_IF(c, f == SMTP_PARSE_UTF8_SENDER || f == SMTP_PARSE_UTF8_RECIPIENT, NEEDUTF8);
	FAULT_IF(c, f == SMTP_PARSE_VALUE || f == SMTP_PARSE_TWICE, BADVALUE);
	FAULT_IF(c, f == SMTP_PARSE_MEMORY, NOMEM);
	FAULT_IF(c, f == SMTP_PARSE_UNKNOWN || f == SMTP_PARSE_NOT_OFFERED || params_refused(s, p.seen), BADPARAM);
}

static void read_mail(struct psmtp_server *s, struct view argument)
{
	struct server_transaction *tx = server_tx_of(s);
	struct smtp_parsed p;

	if (tx->live)
		return; /* its row refuses it, and the sender of the transaction stays */
	arena_reset(&tx->arena); /* a refused MAIL may have left words */
	p = smtp_mail_parse(argument, SMTP_PARAM_ALL, &tx->arena, &tx->mail);
	note_parse(s, p);
	FAULT_IF(&tx->command, p.fault == SMTP_PARSE_OK && tx->mail.size > s->options.size_limit, OVER);
}

static void read_rcpt(struct psmtp_server *s, struct view argument)
{
	struct server_transaction *tx = server_tx_of(s);
	struct server_command *c = &tx->command;

	if (tx->live)
		note_parse(s, smtp_rcpt_parse(argument, SMTP_PARAM_ALL, tx->mail.smtputf8, &c->arena, &c->rcpt));
}

static void read_hello(struct server_command *c, struct view argument, enum psmtp_hello_kind kind)
{
	c->hello = argument;
	c->hello_kind = kind;
	FAULT_IF(c, !smtp_hello_valid(argument, false), BAD);
}

static bool mechanism_offered(struct view list, struct view name)
{
	while (list.n) {
		size_t end = view_find(list, ' ');

		if (name.n && view_eq_nocase(view_slice(list, 0, end), name))
			return true;
		list = view_slice(list, end + 1, list.n);
	}
	return false;
}

/* Decodes base64 in its own place: the input is ours, and the value is shorter than its code. */
static bool decode(struct psmtp_server *s, struct view code, struct view *value)
{
	unsigned char *place = s->epoch.in.mem + (code.p - (const char *)s->epoch.in.mem);
	long n = code.n ? smtp_base64_decode(code, place) : 0;

	*value = n < 0 ? view_of("", 0) : view_slice(code, 0, (size_t)n);
	return n >= 0;
}

/* AUTH mechanism [initial-response]; the response "=" is the empty one (RFC 4954 section 4). */
static void read_auth(struct psmtp_server *s, struct view argument)
{
	struct server_command *c = server_command_of(s);
	size_t end = view_find(argument, ' ');
	struct view code = view_slice(argument, end + 1, argument.n);

	c->mechanism = view_slice(argument, 0, end);
	c->has_data = code.n > 0;
	FAULT_IF(c, c->mechanism.n == 0 || view_find(code, ' ') < code.n, BAD);
	FAULT_IF(c, !mechanism_offered(smtp_view(s->options.auth), c->mechanism), NOMECH);
	if (c->has_data && !view_eq(code, VIEW("=")))
		FAULT_IF(c, !decode(s, code, &c->data), BAD64);
}

static void read_bdat(struct psmtp_server *s, struct view argument)
{
	struct server_transaction *tx = server_tx_of(s);
	struct server_command *c = &tx->command;
	uint64_t limit = s->options.size_limit;

	c->chunk = smtp_bdat_parse(argument);
	FAULT_IF(c, c->chunk.fault == SMTP_BDAT_SIZE, BADSIZE);
	FAULT_IF(c, c->chunk.fault == SMTP_BDAT_WORDS, BAD);
	FAULT_IF(c, tx->body.size > limit || c->chunk.size > limit - tx->body.size, OVER);
}

/* The event of each verb. */
static enum server_event event_of(enum smtp_verb verb)
{
	static const enum server_event events[SMTP_VERB_END_] = {
		[SMTP_VERB_UNKNOWN] = EVENT_UNKNOWN,
		[SMTP_VERB_HTTP] = EVENT_HTTP,
#define X(verb_, limit) [SMTP_VERB_##verb_] = EVENT_##verb_,
		SMTP_VERBS(X)
#undef X
	};

	return events[verb];
}

static enum server_event read_command(struct psmtp_server *s, struct view text)
{
	struct server_command *c = server_command_of(s);
	struct smtp_command said = smtp_command_parse(text);

	FAULT_IF(c, said.has_argument, ARG);
	switch (said.verb) {
	case SMTP_VERB_EHLO:
		read_hello(c, said.argument, PSMTP_EHLO);
		break;
	case SMTP_VERB_HELO:
		read_hello(c, said.argument, PSMTP_HELO);
		break;
	case SMTP_VERB_LHLO:
		read_hello(c, said.argument, PSMTP_LHLO);
		break;
	case SMTP_VERB_AUTH:
		read_auth(s, said.argument);
		break;
	case SMTP_VERB_MAIL:
		read_mail(s, said.argument);
		break;
	case SMTP_VERB_RCPT:
		read_rcpt(s, said.argument);
		break;
	case SMTP_VERB_BDAT:
		read_bdat(s, said.argument);
		break;
	default:
		break;
	}
	return event_of(said.verb);
}

/* Is this one command too many?  A client that never sends a message must not hold a session for ever, however politely. */
static bool one_too_many(struct psmtp_server *s, enum server_event event)
{
	switch (event) {
	case EVENT_QUIT:
	case EVENT_BDAT: /* the message's clock runs */
		return false;
	case EVENT_RCPT:
		return server_tx_of(s)->live && server_tx_of(s)->tries++ >= (uint64_t)s->options.rcpt_limit + SERVER_RCPT_TRIES;
	default:
		return s->idle++ >= s->options.idle_limit;
	}
}

bool server_command_read(struct psmtp_server *s, uint64_t now)
{
	struct server_epoch *e = &s->epoch;
	struct view input = buf_view(&e->in);
	struct smtp_line line = smtp_line_read(&e->lines, input, smtp_command_limit(input));
	enum server_event event;

	if (line.kind == SMTP_LINE_NONE) {
		buf_take(&e->in, line.take);
		return false;
	}
	server_command_of(s)->line = line.take;
	keep_word(s, line.text);
	if (s->errors >= s->options.error_limit)
		event = EVENT_BUDGET;
	else if (line.kind == SMTP_LINE_TOO_LONG)
		event = EVENT_TOO_LONG;
	else if (line.kind == SMTP_LINE_BAD)
		event = EVENT_BAD_LINE;
	else
		event = read_command(s, line.text);
	if (event != EVENT_BUDGET && one_too_many(s, event))
		event = EVENT_IDLE;
	server_event(s, event, now);
	return true;
}

bool server_auth_read(struct psmtp_server *s, uint64_t now)
{
	struct server_epoch *e = &s->epoch;
	struct server_command *c = server_command_of(s);
	struct smtp_line line = smtp_line_read(&e->lines, buf_view(&e->in), SMTP_AUTH_LINE_MAX);
	enum server_event event = EVENT_RESPONSE;

	if (line.kind == SMTP_LINE_NONE) {
		buf_take(&e->in, line.take);
		return false;
	}
	c->line = line.take;
	if (line.kind == SMTP_LINE_TOO_LONG)
		event = EVENT_TOO_LONG;
	else if (line.kind == SMTP_LINE_BAD)
		event = EVENT_BAD_BASE64;
	else if (view_eq(line.text, VIEW("*")))
		event = EVENT_CANCEL;
	else if (!decode(s, line.text, &c->data))
		event = EVENT_BAD_BASE64;
	server_event(s, event, now);
	return true;
}
