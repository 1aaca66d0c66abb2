/* quantity.c - sizes and durations; see parts.h. */
#include "conf/parts.h"

#include <stdio.h>

struct unit {
	const char *word;
	uint64_t factor;
};

/* Digits and one of the units behind them. */
static bool parse(struct view text, const struct unit *units, size_t n, uint64_t *out)
{
	size_t digits = 0;
	uint64_t number;
	while (digits < text.n && text.p[digits] >= '0' && text.p[digits] <= '9')
		digits++;
	if (!view_to_u64(view_slice(text, 0, digits), &number))
		return false;
	const struct view word = view_slice(text, digits, text.n);
	for (size_t i = 0; i < n; i++)
		if (view_eq(word, view_cstr(units[i].word))) {
			if (__builtin_mul_overflow(number, units[i].factor, &number))
				return false;
			*out = number;
			return true;
		}
	return false;
}

bool conf_size_parse(struct view text, uint64_t *octets)
{
	static const struct unit units[] = {
		{ "", 1 },
		{ "K", UINT64_C(1) << 10 },
		{ "M", UINT64_C(1) << 20 },
		{ "G", UINT64_C(1) << 30 },
		{ "T", UINT64_C(1) << 40 },
	};
	return parse(text, units, sizeof units / sizeof *units, octets);
}

static const struct unit times[] = {
	{ "ms", 1 }, { "s", 1000 }, { "m", 60 * 1000 }, { "h", 3600 * 1000 }, { "d", 24 * 3600 * 1000 },
};
#define TIMES (sizeof times / sizeof *times)

bool conf_duration_parse(struct view text, uint64_t *ms)
{
	if (view_eq(text, VIEW("0"))) { /* no unit is needed to say none */
		*ms = 0;
		return true;
	}
	return parse(text, times, TIMES, ms);
}

const char *conf_duration_text(uint64_t ms, char to[CONF_QUANTITY_TEXT])
{
	size_t i = TIMES - 1;
	if (ms == 0)
		i = 1;
	else
		while (ms % times[i].factor)
			i--;
	snprintf(to, CONF_QUANTITY_TEXT, "%llu%s", (unsigned long long)(ms / times[i].factor), times[i].word);
	return to;
}
