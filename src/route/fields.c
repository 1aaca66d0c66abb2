/* fields.c - see fields.h. */
#include "route/fields.h"

#define FIELD_NAME_MAX 32 /* RFC 8461 3.1, RFC 8460 3 */

static bool alnum(char c)
{
	return (c >= '0' && c <= '9') || (view_lower(c) >= 'a' && view_lower(c) <= 'z');
}

bool fields_name(struct view name)
{
	if (name.n == 0 || name.n > FIELD_NAME_MAX || !alnum(name.p[0]))
		return false;
	for (size_t i = 1; i < name.n; i++)
		if (!alnum(name.p[i]) && name.p[i] != '_' && name.p[i] != '-' && name.p[i] != '.')
			return false;
	return true;
}

bool fields_value(struct view value)
{
	for (size_t i = 0; i < value.n; i++)
		if (value.p[i] < 0x21 || value.p[i] > 0x7e || value.p[i] == ';' || value.p[i] == '=')
			return false;
	return value.n > 0;
}

static struct view skip_blanks(struct view v)
{
	while (v.n && (v.p[0] == ' ' || v.p[0] == '\t'))
		v = view_slice(v, 1, v.n);
	return v;
}

bool fields_begin(struct view record, struct view version)
{
	struct view rest;

	if (record.n < version.n || !view_eq(view_slice(record, 0, version.n), version))
		return false;
	rest = skip_blanks(view_slice(record, version.n, record.n));
	return rest.n && rest.p[0] == ';';
}

int fields_next(struct view *rest, struct view *name, struct view *value)
{
	struct view v = skip_blanks(*rest), field;
	size_t end, equals;

	if (v.n == 0)
		return rest->n == 0 ? 0 : -1; /* blanks without a delimiter */
	if (v.p[0] != ';')
		return -1;
	v = skip_blanks(view_slice(v, 1, v.n));
	if (v.n == 0) { /* [field-delim] at the end */
		*rest = v;
		return 0;
	}
	end = view_find(v, ';');
	field = view_trim(view_slice(v, 0, end));
	equals = view_find(field, '=');
	*name = view_slice(field, 0, equals);
	*value = view_slice(field, equals + 1, field.n);
	*rest = view_slice(v, end, v.n);
	return equals < field.n && fields_name(*name) && value->n ? 1 : -1;
}
