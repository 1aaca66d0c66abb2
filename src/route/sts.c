/* sts.c - see sts.h. */
#include "route/sts.h"

#include "conf/conf.h"
#include "route/fields.h"

#include <psmtp.h>

/* ---- the record ---- */

static const struct view version = { "v=STSv1", 7 };

bool sts_record_is(struct view record)
{
	return fields_begin(record, version);
}

static bool id_ok(struct view id)
{
	for (size_t i = 0; i < id.n; i++) {
		char c = view_lower(id.p[i]);
		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z')))
			return false;
	}
	return id.n >= 1 && id.n <= STS_ID_MAX;
}

const char *sts_record_read(struct view record, struct view *id)
{
	struct view rest, name, value;
	bool found = false;
	int next;

	if (!sts_record_is(record))
		return "it does not begin with v=STSv1";
	rest = view_slice(record, version.n, record.n);
	while ((next = fields_next(&rest, &name, &value)) == 1) {
		if (!view_eq(name, VIEW("id"))) {
			if (!fields_value(value))
				return "a field has a value that cannot be";
		} else if (!found) {
			if (!id_ok(value))
				return "the id is not 1 to 32 letters and digits";
			*id = value;
			found = true;
		}
	}
	if (next == -1)
		return "it is not a list of name=value";
	return found ? NULL : "it has no id";
}

/* ---- the policy ---- */

struct reading {
	struct sts_policy *policy;
	struct buf *mx;
	bool version, mode, max_age, any_mx;
};

const char *sts_mode_name(enum sts_mode mode)
{
	switch (mode) {
	case STS_NONE: return "none";
	case STS_TESTING: return "testing";
	case STS_ENFORCE: return "enforce";
	}
	return "unknown";
}

static const char *read_mode(struct reading *r, struct view value)
{
	for (enum sts_mode m = STS_NONE; m <= STS_ENFORCE; m++)
		if (view_eq(value, view_cstr(sts_mode_name(m)))) {
			r->policy->mode = m;
			r->mode = true;
			return NULL;
		}
	return "the mode is not enforce, testing or none";
}

static const char *read_age(struct reading *r, struct view value)
{
	uint64_t age;

	if (value.n > 10 || !view_to_u64(value, &age)) /* 1*10(DIGIT) */
		return "max_age is no number of seconds";
	r->policy->max_age = age < STS_AGE_MAX ? (uint32_t)age : STS_AGE_MAX;
	r->max_age = true;
	return NULL;
}

/* ["*."] Domain, and Domain is RFC 5321's: A-labels. */
static const char *read_mx(struct reading *r, struct view value)
{
	struct view domain = value.n > 2 && value.p[0] == '*' && value.p[1] == '.' ? view_slice(value, 2, value.n) : value;
	size_t before;

	if (!psmtp_domain_valid((struct psmtp_view){ domain.p, domain.n }, false))
		return "an mx is no host name, nor one with *. before it";
	before = buf_len(r->mx);
	if (!buf_add(r->mx, value) || !buf_add(r->mx, VIEW("\n")))
		return "it has more patterns than there is room for";
	for (unsigned char *p = r->mx->mem + r->mx->rd + before, *end = r->mx->mem + r->mx->wr; p < end; p++)
		*p = (unsigned char)view_lower((char)*p);
	r->any_mx = true;
	return NULL;
}

/* Unknown fields: no control characters; UTF-8 is let through unjudged, as nobody reads it. */
static const char *read_unknown(struct view name, struct view value)
{
	if (!fields_name(name) || value.n == 0)
		return "a field has a name that cannot be, or no value";
	for (size_t i = 0; i < value.n; i++)
		if ((unsigned char)value.p[i] < 0x20 || value.p[i] == 0x7f)
			return "a field has a control character";
	return NULL;
}

static const char *read_line(struct reading *r, struct view line)
{
	size_t colon = view_find(line, ':');
	struct view name = view_slice(line, 0, colon), value = view_trim(view_slice(line, colon + 1, line.n));

	if (colon == line.n)
		return "a line has no colon";
	if (view_eq(name, VIEW("version"))) {
		if (r->version)
			return NULL; /* of a field said twice the first counts */
		r->version = true;
		return view_eq(value, VIEW("STSv1")) ? NULL : "the version is not STSv1";
	}
	if (view_eq(name, VIEW("mode")))
		return r->mode ? NULL : read_mode(r, value);
	if (view_eq(name, VIEW("max_age")))
		return r->max_age ? NULL : read_age(r, value);
	if (view_eq(name, VIEW("mx")))
		return read_mx(r, value);
	return read_unknown(name, value);
}

static const char *complete(const struct reading *r)
{
	if (!r->version)
		return "it has no version";
	if (!r->mode)
		return "it has no mode";
	if (!r->max_age)
		return "it has no max_age";
	return r->any_mx || r->policy->mode == STS_NONE ? NULL : "it has no mx"; /* RFC 8461 3.2: none needs none */
}

const char *sts_policy_read(struct view text, struct sts_policy *policy, struct buf *mx)
{
	struct reading r = { .policy = policy, .mx = mx };
	size_t before = buf_len(mx);
	const char *wrong = text.n > STS_POLICY_MAX ? "it is larger than 64 KiB" : NULL;

	while (text.n && !wrong) {
		size_t end = view_find(text, '\n');
		struct view line = view_slice(text, 0, end);
		if (end < text.n && line.n && line.p[line.n - 1] == '\r') /* sts-policy-term = LF / CRLF */
			line.n--;
		text = view_slice(text, end + 1, text.n);
		while (line.n && (line.p[line.n - 1] == ' ' || line.p[line.n - 1] == '\t'))
			line.n--;
		if (line.n)
			wrong = read_line(&r, line);
	}
	if (!wrong)
		wrong = complete(&r);
	if (wrong)
		mx->wr = mx->rd + before;
	return wrong;
}

/* ---- our own ---- */

bool sts_policy_write(const struct sts_policy *p, const char *const *mx, size_t n, struct buf *to)
{
	bool ok = buf_addf(to, "version: STSv1\r\nmode: %s\r\n", sts_mode_name(p->mode));

	for (size_t i = 0; ok && i < n; i++)
		ok = buf_addf(to, "mx: %s\r\n", mx[i]);
	return ok && buf_addf(to, "max_age: %u\r\n", p->max_age);
}

bool sts_policy_ours(const struct conf_sts_policy *p, struct buf *to)
{
	const struct sts_policy policy = { (enum sts_mode)p->set.mode, (uint32_t)(p->set.max_age / 1000) };

	return sts_policy_write(&policy, p->set.mx.items, p->set.mx.n, to) && buf_len(to) <= STS_POLICY_MAX;
}

const char *sts_policy_id(struct view text, char to[STS_OUR_ID_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	uint64_t hash = view_hash(text);

	for (unsigned i = 0; i < STS_OUR_ID_SIZE - 1; i++)
		to[i] = digits[hash >> (60 - 4 * i) & 15];
	to[STS_OUR_ID_SIZE - 1] = 0;
	return to;
}

/* ---- matching ---- */

static bool matches(struct view pattern, struct view host)
{
	size_t dot;

	if (pattern.n < 2 || pattern.p[0] != '*' || pattern.p[1] != '.')
		return view_eq_nocase(pattern, host);
	dot = view_find(host, '.');
	return dot > 0 && dot < host.n && view_eq_nocase(view_slice(pattern, 1, pattern.n), view_slice(host, dot, host.n));
}

bool sts_mx_match(struct view patterns, struct view host)
{
	if (host.n && host.p[host.n - 1] == '.')
		host.n--;
	while (host.n && patterns.n) {
		size_t end = view_find(patterns, '\n');
		if (end && matches(view_slice(patterns, 0, end), host))
			return true;
		patterns = view_slice(patterns, end + 1, patterns.n);
	}
	return false;
}
