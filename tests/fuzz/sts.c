/* sts.c - what strangers write in TXT records and policy files (RFC 8461, RFC 8460): taken whole and within bounds, or refused whole.
 *
 * Input: which of them, then the text.
 */
#include "input.h"

#include "route/rpt.h"
#include "route/sts.h"

static bool is_within(struct view v, struct view text)
{
	return v.p >= text.p && v.p + v.n <= text.p + text.n;
}

static void sts_record(struct view text)
{
	struct view id = { 0 };

	if (sts_record_read(text, &id))
		return;
	assert(sts_record_is(text) && id.n >= 1 && id.n <= STS_ID_MAX && is_within(id, text));
}

/* A policy that was taken, written out and read again, is itself. */
static void again(const struct sts_policy *p, struct view mx)
{
	struct sts_policy other;
	struct buf text, list;

	buf_init(&text, &alloc_libc, 4 * STS_POLICY_MAX);
	buf_init(&list, &alloc_libc, STS_POLICY_MAX);
	assert(buf_addf(&text, "version: STSv1\r\nmode: %s\r\nmax_age: %u\r\n", sts_mode_name(p->mode), p->max_age));
	for (struct view rest = mx; rest.n;) {
		size_t end = view_find(rest, '\n');
		assert(end && end < rest.n);
		assert(buf_add(&text, VIEW("mx:")) && buf_add(&text, view_slice(rest, 0, end + 1)));
		rest = view_slice(rest, end + 1, rest.n);
	}
	if (buf_len(&text) <= STS_POLICY_MAX) {
		assert(!sts_policy_read(buf_view(&text), &other, &list));
		assert(other.mode == p->mode && other.max_age == p->max_age && view_eq(buf_view(&list), mx));
	}
	buf_free(&text);
	buf_free(&list);
}

static void sts_policy(struct view text)
{
	struct sts_policy p = { 0 };
	struct buf mx;

	buf_init(&mx, &alloc_libc, STS_POLICY_MAX);
	if (sts_policy_read(text, &p, &mx))
		assert(buf_len(&mx) == 0);
	else {
		assert(p.mode >= STS_NONE && p.mode <= STS_ENFORCE && p.max_age <= STS_AGE_MAX && (p.mode == STS_NONE || buf_len(&mx)));
		again(&p, buf_view(&mx));
	}
	buf_free(&mx);
}

static void rpt_record(struct view text)
{
	struct rpt_uri uris[RPT_URIS_MAX];
	char address[RPT_ADDRESS_SIZE];
	size_t n = 99;

	if (rpt_record_read(text, uris, &n)) {
		assert(n == 0);
		return;
	}
	assert(rpt_record_is(text) && n <= RPT_URIS_MAX);
	for (size_t i = 0; i < n; i++) {
		assert(is_within(uris[i].text, text));
		assert(uris[i].scheme == RPT_HTTPS || rpt_mailto_address(uris[i].text, address));
	}
}

static void matched(struct view text)
{
	size_t bar = view_find(text, '|');
	struct view host = view_slice(text, 0, bar), patterns = view_slice(text, bar + 1, text.n);

	if (sts_mx_match(patterns, host))
		assert(host.n && patterns.n >= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static void (*const targets[])(struct view) = { sts_record, sts_policy, rpt_record, matched };
	struct input in = { data, n };
	unsigned which = input_byte(&in) % 4;
	struct view text = view_of((const char *)in.p, in.n);
	char *exact = input_copy(text);

	targets[which](view_of(exact, text.n));
	free(exact);
	return 0;
}
