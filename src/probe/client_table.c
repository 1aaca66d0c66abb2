/* client_table.c - the table of the cases, from spec/probe_client.def, for the engine and for the pages. */
#include "probe/client.h"

#define REQUIRE CLIENT_NEEDS_REQUIRE

static const char *const groups[] = {
#define GROUP(hundred, title) [hundred] = title,
#define CASE(number, name, severity, needs, reference, title, plays)
#include "spec/probe_client.def"
};

const struct probe_check client_cases[] = {
#define GROUP(hundred, title)
#define CASE(number, name, severity, needs, reference, title, plays) \
	{ number, #name, title, &groups[number / 100], reference, plays, PROBE_##severity, needs },
#include "spec/probe_client.def"
};
const unsigned client_case_count = sizeof client_cases / sizeof *client_cases;

const struct probe_check *client_case_find(unsigned number)
{
	for (unsigned i = 0; i < client_case_count; i++)
		if (client_cases[i].number == number)
			return &client_cases[i];
	return NULL;
}
