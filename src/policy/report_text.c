/* report_text.c - see report_text.h. */
#include "policy/report_text.h"

#include "mail/date.h"
#include "wire/wire.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <zlib.h>

#define LINE_OCTETS 57 /* 76 characters of base64 (RFC 2045 6.8) */

/* ---- words ---- */

const char *report_result_name(unsigned result)
{
	switch ((enum wire_rpt_result)result) {
	case WIRE_RPT_SUCCESS: return "success";
	case WIRE_RPT_STARTTLS_NOT_SUPPORTED: return "starttls-not-supported";
	case WIRE_RPT_CERTIFICATE_HOST_MISMATCH: return "certificate-host-mismatch";
	case WIRE_RPT_CERTIFICATE_EXPIRED: return "certificate-expired";
	case WIRE_RPT_CERTIFICATE_NOT_TRUSTED: return "certificate-not-trusted";
	case WIRE_RPT_VALIDATION_FAILURE: return "validation-failure";
	case WIRE_RPT_TLSA_INVALID: return "tlsa-invalid";
	case WIRE_RPT_DNSSEC_INVALID: return "dnssec-invalid";
	case WIRE_RPT_DANE_REQUIRED: return "dane-required";
	case WIRE_RPT_STS_POLICY_FETCH_ERROR: return "sts-policy-fetch-error";
	case WIRE_RPT_STS_POLICY_INVALID: return "sts-policy-invalid";
	case WIRE_RPT_STS_WEBPKI_INVALID: return "sts-webpki-invalid";
	}
	return NULL;
}

static const char *policy_name(unsigned type)
{
	return type == WIRE_RPT_TLSA ? "tlsa" : type == WIRE_RPT_STS ? "sts" : "no-policy-found";
}

/* A string that any reader takes: what is not printable ASCII or good UTF-8 becomes "?". */
static json_t *words(struct view v)
{
	json_t *j;
	char *copy = calloc(1, v.n + 1);

	if (!copy)
		return NULL;
	for (size_t i = 0; i < v.n; i++)
		copy[i] = (unsigned char)v.p[i] < 0x20 || v.p[i] == 0x7f ? '?' : v.p[i];
	j = json_stringn(copy, v.n);
	for (size_t i = 0; !j && i < v.n; i++)
		copy[i] = (unsigned char)copy[i] >= 0x80 ? '?' : copy[i];
	j = j ? j : json_stringn(copy, v.n);
	free(copy);
	return j;
}

static void stamp(int64_t s, char to[32])
{
	time_t t = (time_t)s;
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(to, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* ---- JSON ---- */

void report_begin(struct report *r)
{
	*r = (struct report){ .policies = json_array() };
	buf_init(&r->text, &alloc_libc, STS_POLICY_MAX);
	r->broken = !r->policies;
}

static void put(struct report *r, json_t *object, const char *name, json_t *value)
{
	if (json_object_set_new(object, name, value) == -1)
		r->broken = true;
}

static void close_policy(struct report *r)
{
	if (!r->policy)
		return;
	put(r, r->policy, "summary",
	    json_pack("{s:I, s:I}", "total-successful-session-count", (json_int_t)r->ok, "total-failure-session-count", (json_int_t)r->failed));
	if (json_array_size(json_object_get(r->policy, "failure-details")) == 0)
		json_object_del(r->policy, "failure-details");
	if (json_array_append_new(r->policies, r->policy) == -1)
		r->broken = true;
	r->all_ok += r->ok;
	r->all_failed += r->failed;
	r->policy = NULL;
	r->ok = r->failed = 0;
}

/* policy-string: a line each; mx-host: the patterns of an MTA-STS policy (RFC 8460 4.4). */
static void put_lines(struct report *r, json_t *policy, struct view text, bool sts)
{
	json_t *lines = json_array(), *hosts = json_array();

	while (text.n) {
		size_t end = view_find(text, '\n');
		struct view line = view_slice(text, 0, end);
		text = view_slice(text, end + 1, text.n);
		if (line.n && line.p[line.n - 1] == '\r')
			line.n--;
		if (line.n == 0)
			continue;
		json_array_append_new(lines, words(line));
		if (sts && view_starts_nocase(line, VIEW("mx:")))
			json_array_append_new(hosts, words(view_trim(view_slice(line, 3, line.n))));
	}
	if (json_array_size(lines))
		put(r, policy, "policy-string", lines);
	else
		json_decref(lines);
	if (json_array_size(hosts))
		put(r, policy, "mx-host", hosts);
	else
		json_decref(hosts);
}

static void open_policy(struct report *r, const char *domain, const struct store_result *s)
{
	json_t *policy = json_object();

	r->type = s->policy_type;
	buf_clear(&r->text);
	r->broken = r->broken || !buf_add(&r->text, s->policy_text);
	put(r, policy, "policy-type", json_string(policy_name(s->policy_type)));
	put_lines(r, policy, s->policy_text, s->policy_type == WIRE_RPT_STS);
	put(r, policy, "policy-domain", json_string(domain));
	r->policy = json_object();
	put(r, r->policy, "policy", policy);
	put(r, r->policy, "failure-details", json_array());
}

void report_add(struct report *r, const char *domain, const struct store_result *s)
{
	const char *name = report_result_name(s->result);
	json_t *detail;

	if (!name)
		return;
	if (r->policy && (r->type != s->policy_type || !view_eq(buf_view(&r->text), s->policy_text)))
		close_policy(r);
	if (!r->policy)
		open_policy(r, domain, s);
	if (s->result == WIRE_RPT_SUCCESS) {
		r->ok += s->n;
		return;
	}
	r->failed += s->n;
	detail = json_object();
	put(r, detail, "result-type", json_string(name));
	if (s->local.n)
		put(r, detail, "sending-mta-ip", words(s->local));
	if (s->mx.n)
		put(r, detail, "receiving-mx-hostname", words(s->mx));
	if (s->address.n)
		put(r, detail, "receiving-ip", words(s->address));
	put(r, detail, "failed-session-count", json_integer((json_int_t)s->n));
	if (s->reason.n)
		put(r, detail, "failure-reason-code", words(s->reason));
	if (json_array_append_new(json_object_get(r->policy, "failure-details"), detail) == -1)
		r->broken = true;
}

static bool zip(const char *text, struct buf *to)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)text, .avail_in = (uInt)strlen(text) };
	bool ok = deflateInit2(&z, Z_BEST_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK; /* 16: gzip (RFC 1952) */
	size_t bound = ok ? deflateBound(&z, z.avail_in) : 0;

	char *out = ok ? malloc(bound) : NULL;

	z.next_out = (Bytef *)out;
	z.avail_out = (uInt)bound;
	ok = out && deflate(&z, Z_FINISH) == Z_STREAM_END && buf_add(to, view_of(out, bound - z.avail_out));
	free(out);
	deflateEnd(&z);
	return ok;
}

bool report_end(struct report *r, const struct report_about *a, struct buf *to)
{
	char from[32], until[32], *text = NULL;
	json_t *all;
	bool ok;

	close_policy(r);
	ok = !r->broken && json_array_size(r->policies) > 0;
	stamp(a->day * REPORT_DAY_S, from);
	stamp(a->day * REPORT_DAY_S + REPORT_DAY_S - 1, until);
	all = ok ? json_pack("{s:s, s:{s:s, s:s}, s:s, s:s, s:O}", "organization-name", a->organization, "date-range",
	                     "start-datetime", from, "end-datetime", until, "contact-info", a->contact, "report-id", a->id, "policies", r->policies)
	         : NULL;
	text = all ? json_dumps(all, JSON_COMPACT) : NULL;
	ok = text && zip(text, to);
	free(text);
	json_decref(all);
	json_decref(r->policies);
	buf_free(&r->text);
	r->policies = NULL;
	return ok;
}

/* ---- mail ---- */

void report_file_name(const struct report_about *a, char *to, size_t room)
{
	snprintf(to, room, "%s!%s!%lld!%lld", a->submitter, a->domain, (long long)(a->day * REPORT_DAY_S),
	         (long long)(a->day * REPORT_DAY_S + REPORT_DAY_S - 1));
}

static bool base64_lines(struct view gz, struct buf *to)
{
	char line[(LINE_OCTETS + 2) / 3 * 4 + 1];

	for (size_t at = 0; at < gz.n; at += LINE_OCTETS) {
		int n = (int)(gz.n - at < LINE_OCTETS ? gz.n - at : LINE_OCTETS);
		int made = EVP_EncodeBlock((unsigned char *)line, (const unsigned char *)gz.p + at, n);
		if (!buf_add(to, view_of(line, (size_t)made)) || !buf_add(to, VIEW("\r\n")))
			return false;
	}
	return true;
}

/* TLS-Required: No (RFC 8689 3): RFC 8460 3 wants reports delivered despite the very failures that they tell of. */
bool report_mail(const struct report_about *a, const char *from, const char *to, const char *file_name, struct view gz, int64_t now_ms, struct buf *mail)
{
	char date[MAIL_DATE_SIZE];

	return buf_addf(mail,
	                "From: %s\r\nTo: %s\r\nDate: %s\r\nMessage-ID: <%s>\r\n"
	                "Subject: Report Domain: %s\r\n Submitter: %s\r\n Report-ID: <%s>\r\n"
	                "TLS-Report-Domain: %s\r\nTLS-Report-Submitter: %s\r\nTLS-Required: No\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
	                "Content-Type: multipart/report; report-type=\"tlsrpt\"; boundary=\"%s\"\r\n\r\n",
	                from, to, mail_date_text(now_ms, date), a->id, a->domain, a->submitter, a->id, a->domain, a->submitter, "=_tlsrpt") &&
	       buf_addf(mail,
	                "--=_tlsrpt\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
	                "This is a report of %s about TLS in mail that it sent to %s.\r\n\r\n"
	                "--=_tlsrpt\r\nContent-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n"
	                "Content-Disposition: attachment;\r\n filename=\"%s.json.gz\"\r\n\r\n",
	                a->submitter, a->domain, file_name) &&
	       base64_lines(gz, mail) && buf_add(mail, VIEW("\r\n--=_tlsrpt--\r\n"));
}
