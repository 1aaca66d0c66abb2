/* scan.c - see scan.h.  A machine over single octets while inside a name; the rest of a line is skipped by memchr. */
#include "mail/scan.h"

#include <string.h>

enum state {
	AT_START = 0, /* of a line; zero, so that a zeroed struct starts here */
	AT_CR,        /* CR at the start of a line */
	IN_NAME,
	IN_BLANKS, /* between name and colon */
	IN_VALUE,  /* up to the line's end */
	IN_TLS     /* the same, of TLS-Required: its value counts */
};

static const struct {
	const char *name;
	enum mail_field field;
} known[] = {
	{ "received", MAIL_FIELD_RECEIVED },
	{ "return-path", MAIL_FIELD_RETURN_PATH },
	{ "delivered-to", MAIL_FIELD_DELIVERED_TO },
	{ "date", MAIL_FIELD_DATE },
	{ "message-id", MAIL_FIELD_MESSAGE_ID },
	{ "subject", MAIL_FIELD_SUBJECT },
	{ "from", MAIL_FIELD_FROM },
};

/* The field before is complete, with its folded lines. */
static void judge_field(struct mail_scan *s)
{
	if (s->in_tls && view_eq_nocase(view_of(s->value, s->value_n), VIEW("no")))
		s->fields |= MAIL_FIELD_TLS_NO;
	s->in_tls = false;
}

static void end_header(struct mail_scan *s, uint64_t body_start)
{
	judge_field(s);
	s->header_done = true;
	s->header_end = s->line;
	s->body_start = body_start;
}

static void field_found(struct mail_scan *s)
{
	struct view name = view_of(s->name, s->length);
	size_t i;

	if (s->length >= MAIL_SCAN_NAME)
		return;
	s->in_tls = view_eq_nocase(name, VIEW("tls-required"));
	s->value_n = 0;
	for (i = 0; i < sizeof known / sizeof known[0]; i++) {
		if (!view_eq_nocase(name, view_cstr(known[i].name)))
			continue;
		s->fields |= known[i].field;
		if (known[i].field == MAIL_FIELD_RECEIVED && s->received < UINT32_MAX)
			s->received++;
		return;
	}
}

/* RFC 5322 3.6.8: printable US-ASCII but the colon; RFC 6532 leaves names alone. */
static bool is_name(unsigned char c)
{
	return c > 32 && c < 127 && c != ':';
}

/* One octet while not in a value. */
static void step(struct mail_scan *s, unsigned char c)
{
	switch ((enum state)s->state) {
	case AT_START:
		s->line = s->at;
		s->length = 0;
		if (c != ' ' && c != '\t')
			judge_field(s);
		if (c == '\r')
			s->state = AT_CR;
		else if (c == '\n')
			end_header(s, s->at + 1);
		else if ((c == ' ' || c == '\t') && s->at)
			s->state = s->in_tls ? IN_TLS : IN_VALUE; /* a folded line goes on with the field before */
		else if (is_name(c)) {
			s->name[s->length++] = (char)c;
			s->state = IN_NAME;
		} else
			end_header(s, s->at);
		return;
	case AT_CR:
		if (c == '\n')
			end_header(s, s->at + 1);
		else
			end_header(s, s->line); /* a bare CR begins no field */
		return;
	case IN_NAME:
	case IN_BLANKS:
		if (c == ':') {
			field_found(s);
			s->state = s->in_tls ? IN_TLS : IN_VALUE;
		} else if (c == ' ' || c == '\t')
			s->state = IN_BLANKS;
		else if (s->state == IN_NAME && is_name(c)) {
			if (s->length < MAIL_SCAN_NAME)
				s->name[s->length++] = (char)c;
		} else
			end_header(s, s->line); /* no field: the body has begun without an empty line */
		return;
	case IN_TLS:
		if (c == '\n')
			s->state = AT_START;
		else if (c != ' ' && c != '\t' && c != '\r' && s->value_n < sizeof s->value)
			s->value[s->value_n++] = (char)c;
		return;
	case IN_VALUE: return;
	}
}

void mail_scan_bytes(struct mail_scan *s, struct view v)
{
	size_t i = 0, run;

	while (!s->header_done && i < v.n) {
		if (s->state == IN_VALUE) {
			run = view_find(view_slice(v, i, v.n), '\n');
			i += run;
			s->at += run;
			if (i == v.n)
				return;
			s->state = AT_START;
			i++;
			s->at++;
			continue;
		}
		step(s, (unsigned char)v.p[i]);
		i++;
		s->at++;
	}
}

void mail_scan_end(struct mail_scan *s)
{
	if (s->header_done)
		return;
	if (s->state == AT_CR || s->state == IN_NAME || s->state == IN_BLANKS) {
		end_header(s, s->line);
		return;
	}
	s->line = s->at;
	end_header(s, s->at);
}
