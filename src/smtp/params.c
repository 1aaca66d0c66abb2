/* params.c - see params.h.
 *
 * One table holds every parameter: its keyword, the command it belongs to, whether it takes a value, the bit that
 * offers it, and the function that judges its value.  Values are decoded inside the copy in the arena, which is ours
 * to write.
 */
#include "smtp/params.h"

#include "smtp/internal.h"

enum owner { OF_MAIL = 1, OF_RCPT };
enum value { BARE = 1, VALUED };

struct target {
	struct psmtp_mail *mail;
	struct psmtp_rcpt *rcpt;
	bool utf8; /* RCPT: the transaction may carry UTF-8 */
	bool wide; /* RCPT: ORCPT holds raw UTF-8 */
};

/* Octets that may stand in a delivery report or a log: printable ASCII and the blank (RFC 3461 4.2, 4.4). */
static bool printable(struct view v)
{
	for (size_t i = 0; i < v.n; i++)
		if (smtp_is_control(v.p[i]) || smtp_is_8bit(v.p[i]))
			return false;
	return true;
}

/* Undoes xtext in place; false when it is none. */
static bool decode(struct view *v)
{
	long n = psmtp_xtext_decode(smtp_public(*v), (char *)v->p); /* our own copy, handed around as a view */

	if (n == -1)
		return false;
	v->n = (size_t)n;
	return true;
}

/* RFC 1870 section 3: 1*20DIGIT.  Twenty digits may say more than 64 bits hold: well-formed, and larger than any limit. */
static bool take_size(struct target *t, struct view v)
{
	if (!v.n || v.n > SMTP_SIZE_DIGITS)
		return false;
	for (size_t i = 0; i < v.n; i++)
		if (!smtp_is_digit(v.p[i]))
			return false;
	if (!view_to_u64(v, &t->mail->size))
		t->mail->size = UINT64_MAX;
	return true;
}

/* RFC 6152 section 2, RFC 3030 section 3. */
static bool take_body(struct target *t, struct view v)
{
	if (view_eq_nocase(v, VIEW("7BIT")))
		t->mail->body = PSMTP_BODY_7BIT;
	else if (view_eq_nocase(v, VIEW("8BITMIME")))
		t->mail->body = PSMTP_BODY_8BITMIME;
	else if (view_eq_nocase(v, VIEW("BINARYMIME")))
		t->mail->body = PSMTP_BODY_BINARYMIME;
	else
		return false;
	return true;
}

/* RFC 6531 3.4: no value. */
static bool take_utf8(struct target *t, struct view v)
{
	(void)v;
	return t->mail->smtputf8 = true;
}

/* RFC 8689 section 2: no value. */
static bool take_requiretls(struct target *t, struct view v)
{
	(void)v;
	return t->mail->requiretls = true;
}

/* RFC 3461 4.3. */
static bool take_ret(struct target *t, struct view v)
{
	if (view_eq_nocase(v, VIEW("FULL")))
		t->mail->ret = PSMTP_RET_FULL;
	else if (view_eq_nocase(v, VIEW("HDRS")))
		t->mail->ret = PSMTP_RET_HDRS;
	else
		return false;
	return true;
}

/* RFC 3461 4.4. */
static bool take_envid(struct target *t, struct view v)
{
	if (!decode(&v) || v.n > SMTP_ENVID_MAX || !printable(v))
		return false;
	t->mail->envid = smtp_public(v);
	return true;
}

/* RFC 4954 section 5: <> or a mailbox in xtext.  Whom to believe is the caller's; a line end or a NUL is nobody. */
static bool take_auth(struct target *t, struct view v)
{
	if (v.n > SMTP_MAIL_AUTH_MAX || !decode(&v) || !smtp_utf8_valid(v))
		return false;
	for (size_t i = 0; i < v.n; i++)
		if (smtp_is_control(v.p[i]))
			return false;
	t->mail->auth = smtp_public(v);
	return true;
}

/* RFC 3461 4.1: NEVER alone, or a list. */
static bool take_notify(struct target *t, struct view v)
{
	static const struct {
		struct view word;
		unsigned bit;
	} words[] = {
		{ { "SUCCESS", 7 }, PSMTP_NOTIFY_SUCCESS },
		{ { "FAILURE", 7 }, PSMTP_NOTIFY_FAILURE },
		{ { "DELAY", 5 }, PSMTP_NOTIFY_DELAY },
	};
	const size_t count = sizeof words / sizeof *words;

	if (view_eq_nocase(v, VIEW("NEVER"))) {
		t->rcpt->notify = PSMTP_NOTIFY_NEVER;
		return true;
	}
	for (;;) {
		size_t comma = view_find(v, ','), i = 0;

		while (i < count && !view_eq_nocase(view_slice(v, 0, comma), words[i].word))
			i++;
		if (i == count)
			return false;
		t->rcpt->notify |= words[i].bit;
		if (comma == v.n)
			return true;
		v = view_slice(v, comma + 1, v.n);
	}
}

/* A code point that may be embedded: no control, no surrogate, within Unicode. */
static bool embeddable(uint32_t point)
{
	bool control = point < 0x20 || (point >= 0x7f && point < 0xa0), surrogate = point >= 0xd800 && point < 0xe000;

	return !control && !surrogate && point <= 0x10ffff;
}

/* \x{HEXPOINT} of RFC 6533 section 3, of two to six digits, at the start of v: its length, or 0. */
static size_t embedded_length(struct view v)
{
	uint32_t point = 0;
	size_t i = 3;

	if (v.n < 3 || v.p[0] != '\\' || v.p[1] != 'x' || v.p[2] != '{')
		return 0;
	for (; i < v.n && v.p[i] != '}'; i++) {
		char c = view_lower(v.p[i]);

		if (i > 8 || !(smtp_is_digit(c) || (c >= 'a' && c <= 'f')))
			return 0;
		point = point * 16 + (uint32_t)(smtp_is_digit(c) ? c - '0' : c - 'a' + 10);
	}
	return i < v.n && i >= 5 && embeddable(point) ? i + 1 : 0;
}

/* utf-8-enc-addr (RFC 6533 section 3): printable ASCII but + = \, \x{...}, and raw UTF-8 where the session allows it.
 * It is no xtext on top of that, and is kept as said. */
static bool utf8_address(struct target *t, struct view v)
{
	for (size_t i = 0, step; i < v.n; i += step) {
		char c = v.p[i];

		step = 1;
		if (smtp_is_8bit(c)) {
			step = smtp_utf8_length(view_slice(v, i, v.n));
			t->wide = true;
		} else if (c == '\\') {
			step = embedded_length(view_slice(v, i, v.n));
		} else if (!smtp_is_graph(c) || c == '+' || c == '=') {
			return false;
		}
		if (!step)
			return false;
	}
	return !t->wide || t->utf8;
}

/* What xtext hid: printable ASCII, and in a session of SMTPUTF8 also UTF-8.  RFC 6533 3 has the type utf-8 for that, but
 * Postfix says ORCPT=rfc822;j+C3+BCrgen@... of every such recipient, whose mail would be refused here for a trace. */
static bool hidden_address(const struct target *t, struct view v)
{
	for (size_t i = 0, step; i < v.n; i += step) {
		step = smtp_is_8bit(v.p[i]) && t->utf8 ? smtp_utf8_length(view_slice(v, i, v.n)) : 1;
		if (!step || smtp_is_control(v.p[i]) || (smtp_is_8bit(v.p[i]) && !t->utf8))
			return false;
	}
	return true;
}

/* RFC 3461 4.2: addr-type ";" xtext, where addr-type is an atom. */
static bool take_orcpt(struct target *t, struct view v)
{
	size_t semicolon = view_find(v, ';');
	struct view type = view_slice(v, 0, semicolon), text = view_slice(v, semicolon + 1, v.n);

	if (v.n > SMTP_ORCPT_MAX || !type.n || !text.n)
		return false;
	for (size_t i = 0; i < type.n; i++)
		if (!smtp_is_atext(type.p[i]))
			return false;
	if (view_eq_nocase(type, VIEW("utf-8"))) {
		if (!utf8_address(t, text))
			return false;
	} else if (!decode(&text) || !hidden_address(t, text)) {
		return false;
	}
	t->rcpt->orcpt_type = smtp_public(type);
	t->rcpt->orcpt = smtp_public(text);
	return true;
}

static const struct param {
	struct view keyword;
	enum owner of;
	enum value value;
	unsigned offer; /* enum smtp_param; BODY=BINARYMIME has its own */
	bool (*take)(struct target *, struct view);
} params[] = {
	{ { "SIZE", 4 }, OF_MAIL, VALUED, SMTP_PARAM_SIZE, take_size },
	{ { "BODY", 4 }, OF_MAIL, VALUED, SMTP_PARAM_BODY, take_body },
	{ { "SMTPUTF8", 8 }, OF_MAIL, BARE, SMTP_PARAM_UTF8, take_utf8 },
	{ { "RET", 3 }, OF_MAIL, VALUED, SMTP_PARAM_DSN, take_ret },
	{ { "ENVID", 5 }, OF_MAIL, VALUED, SMTP_PARAM_DSN, take_envid },
	{ { "AUTH", 4 }, OF_MAIL, VALUED, SMTP_PARAM_AUTH, take_auth },
	{ { "REQUIRETLS", 10 }, OF_MAIL, BARE, SMTP_PARAM_TLS, take_requiretls },
	{ { "NOTIFY", 6 }, OF_RCPT, VALUED, SMTP_PARAM_DSN, take_notify },
	{ { "ORCPT", 5 }, OF_RCPT, VALUED, SMTP_PARAM_DSN, take_orcpt },
};
#define PARAM_COUNT (sizeof params / sizeof *params)

static const struct param *find_param(enum owner of, struct view keyword)
{
	for (size_t i = 0; i < PARAM_COUNT; i++)
		if (params[i].of == of && view_eq_nocase(params[i].keyword, keyword))
			return &params[i];
	return NULL;
}

/* esmtp-keyword of RFC 5321 4.1.2. */
static bool keyword_valid(struct view v)
{
	if (!v.n || v.p[0] == '-')
		return false;
	for (size_t i = 0; i < v.n; i++)
		if (!smtp_is_alnum(v.p[i]) && v.p[i] != '-')
			return false;
	return true;
}

static unsigned offer_of(const struct param *p, struct view value)
{
	return p->take == take_body && view_eq_nocase(value, VIEW("BINARYMIME")) ? SMTP_PARAM_BINARY : p->offer;
}

/* One word: KEYWORD or KEYWORD=value.  twice: bits of params already said. */
static enum smtp_parse_fault take_word(struct target *t, struct view word, unsigned allowed, unsigned *twice,
	unsigned *seen)
{
	enum owner of = t->mail ? OF_MAIL : OF_RCPT;
	size_t equals = view_find(word, '=');
	struct view keyword = view_slice(word, 0, equals), value = view_slice(word, equals + 1, word.n);
	const struct param *p;
	unsigned offer, bit;

	if (!keyword_valid(keyword))
		return SMTP_PARSE_SYNTAX;
	p = find_param(of, keyword);
	if (!p)
		return SMTP_PARSE_UNKNOWN;
	offer = offer_of(p, value);
	if (!(allowed & offer))
		return SMTP_PARSE_NOT_OFFERED;
	bit = 1u << (p - params);
	if (*twice & bit)
		return SMTP_PARSE_TWICE;
	*twice |= bit;
	if ((p->value == BARE) != (equals == word.n)) /* "SMTPUTF8=" has a value, if an empty one */
		return SMTP_PARSE_VALUE;
	if ((p->value == VALUED && !value.n) || !p->take(t, value))
		return SMTP_PARSE_VALUE;
	*seen |= offer;
	return SMTP_PARSE_OK;
}

static struct smtp_parsed take_params(struct target *t, struct view v, unsigned allowed)
{
	struct smtp_parsed r = { .fault = SMTP_PARSE_OK };
	unsigned twice = 0;

	while (r.fault == SMTP_PARSE_OK) {
		size_t blank;

		while (v.n && v.p[0] == ' ')
			v = view_slice(v, 1, v.n);
		if (!v.n)
			break;
		blank = view_find(v, ' ');
		r.fault = take_word(t, view_slice(v, 0, blank), allowed, &twice, &r.seen);
		v = view_slice(v, blank, v.n);
	}
	return r;
}

/* "FROM:" or "TO:" and the path.  *v becomes what stands behind it. */
static enum smtp_parse_fault take_path(struct view *v, struct view label, unsigned flags, struct psmtp_address *a)
{
	enum smtp_parse_fault bad = flags & PSMTP_ADDRESS_NULL ? SMTP_PARSE_SENDER : SMTP_PARSE_RECIPIENT;
	struct view rest = *v;
	size_t n;

	if (!view_starts_nocase(rest, label))
		return SMTP_PARSE_SYNTAX;
	rest = view_slice(rest, label.n, rest.n);
	while (rest.n && rest.p[0] == ' ') /* RFC 5321 3.3 has none there; many clients do */
		rest = view_slice(rest, 1, rest.n);
	if (!rest.n)
		return SMTP_PARSE_SYNTAX;
	n = smtp_path_length(rest);
	if (!n || psmtp_address_parse(smtp_public(view_slice(rest, 0, n)), flags | PSMTP_ADDRESS_UTF8, a) == -1)
		return bad;
	if (n < rest.n && rest.p[n] != ' ')
		return SMTP_PARSE_SYNTAX;
	*v = view_slice(rest, n, rest.n);
	return SMTP_PARSE_OK;
}

static bool copy_into(struct arena *arena, struct view *v)
{
	if (v->n)
		*v = arena_copy(arena, *v);
	return v->p != NULL;
}

struct smtp_parsed smtp_mail_parse(struct view v, unsigned allowed, struct arena *arena, struct psmtp_mail *mail)
{
	struct smtp_parsed r = { .fault = SMTP_PARSE_MEMORY };
	struct target t = { .mail = mail };

	*mail = (struct psmtp_mail){ .body = PSMTP_BODY_7BIT, .ret = PSMTP_RET_UNSAID };
	if (!copy_into(arena, &v))
		return r;
	r.fault = take_path(&v, VIEW("FROM:"), PSMTP_ADDRESS_NULL, &mail->sender);
	if (r.fault != SMTP_PARSE_OK)
		return r;
	r = take_params(&t, v, allowed);
	if (r.fault == SMTP_PARSE_OK && mail->sender.utf8 && !mail->smtputf8) /* RFC 6531 3.5 */
		r.fault = SMTP_PARSE_UTF8_SENDER;
	return r;
}

struct smtp_parsed smtp_rcpt_parse(struct view v, unsigned allowed, bool rcpt_utf8, struct arena *arena,
	struct psmtp_rcpt *rcpt)
{
	struct smtp_parsed r = { .fault = SMTP_PARSE_MEMORY };
	struct target t = { .rcpt = rcpt, .utf8 = rcpt_utf8 };

	*rcpt = (struct psmtp_rcpt){ .notify = PSMTP_NOTIFY_UNSAID };
	if (!copy_into(arena, &v))
		return r;
	r.fault = take_path(&v, VIEW("TO:"), PSMTP_ADDRESS_POSTMASTER, &rcpt->recipient);
	if (r.fault != SMTP_PARSE_OK)
		return r;
	r = take_params(&t, v, allowed);
	if (r.fault == SMTP_PARSE_OK && rcpt->recipient.utf8 && !rcpt_utf8)
		r.fault = SMTP_PARSE_UTF8_RECIPIENT;
	return r;
}

static const struct {
	int code;
	uint16_t enhanced[3];
	const char *reason, *text;
} faults[SMTP_PARSE_END_] = {
#define X(id, code, a, b, c, reason, text) [SMTP_PARSE_##id] = { code, { a, b, c }, reason, text },
	SMTP_PARSE_FAULTS(X)
#undef X
};

struct psmtp_reply smtp_parse_reply(enum smtp_parse_fault f)
{
	struct psmtp_reply r = { .code = faults[f].code, .text = smtp_public(view_cstr(faults[f].text)) };

	memcpy(r.enhanced, faults[f].enhanced, sizeof r.enhanced);
	return r;
}

const char *smtp_parse_reason(enum smtp_parse_fault f)
{
	return faults[f].reason;
}
