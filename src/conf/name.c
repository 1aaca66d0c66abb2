/* name.c - domain names as they are compared; see parts.h. */
#include "conf/parts.h"

#include <idn2.h>
#include <stdlib.h>

/* Four octets of UTF-8 for each character of a longest name, with room for the composing ones. */
#define NAME_INPUT_MAX 1020

/* RFC 5321 4.1.2: sub-domain = Let-dig [Ldh-str]; RFC 1035 2.3.4: labels of 63 octets. */
static bool label(struct view v)
{
	if (v.n == 0 || v.n > 63 || v.p[0] == '-' || v.p[v.n - 1] == '-')
		return false;
	for (size_t i = 0; i < v.n; i++) {
		const char c = v.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
			return false;
	}
	return true;
}

/* A last label of digits alone makes it an address or a slip, never a domain (RFC 3696 section 2). */
static bool valid(struct view name)
{
	struct view last = name, rest = name;
	if (name.n == 0 || name.n > CONF_DOMAIN_SIZE - 1)
		return false;
	for (bool more = true; more;) {
		const size_t n = view_find(rest, '.');
		last = view_slice(rest, 0, n);
		if (!label(last))
			return false;
		more = n < rest.n;
		rest = view_slice(rest, n + 1, rest.n);
	}
	for (size_t i = 0; i < last.n; i++)
		if (last.p[i] < '0' || last.p[i] > '9')
			return true;
	return false;
}

static bool ascii(struct view v)
{
	for (size_t i = 0; i < v.n; i++)
		if ((unsigned char)v.p[i] >= 0x80)
			return false;
	return true;
}

const char *conf_domain_ascii(struct view text, char to[CONF_DOMAIN_SIZE])
{
	if (ascii(text)) {
		if (text.n >= CONF_DOMAIN_SIZE)
			return NULL;
		for (size_t i = 0; i < text.n; i++)
			to[i] = view_lower(text.p[i]);
		to[text.n] = '\0';
		return valid(view_of(to, text.n)) ? to : NULL;
	}
	char input[NAME_INPUT_MAX + 1];
	char *alabels = NULL;
	if (text.n > NAME_INPUT_MAX || memchr(text.p, '\0', text.n))
		return NULL;
	memcpy(input, text.p, text.n);
	input[text.n] = '\0';
	/* non-transitional UTS 46: maps upper case and width, keeps sharp s (RFC 5895, RFC 6531 3.2) */
	const int rc =
		idn2_lookup_u8((const uint8_t *)input, (uint8_t **)&alabels, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
	const char *result = NULL;
	if (rc == IDN2_OK && alabels && strlen(alabels) < CONF_DOMAIN_SIZE && valid(view_cstr(alabels))) {
		memcpy(to, alabels, strlen(alabels) + 1);
		result = to;
	}
	idn2_free(alabels);
	return result;
}
