/* domain_table.c - the table of the checks, from spec/probe_domain.def, for the engine and for the pages. */
#include "probe/domain.h"

#define HOSTS   DOMAIN_NEEDS_HOSTS
#define CONNECT DOMAIN_NEEDS_CONNECT

static const char *const groups[] = {
#define GROUP(hundred, title) [hundred] = title,
#define CHECK(number, name, severity, needs, reference, title, asks)
#include "spec/probe_domain.def"
};

const struct probe_check domain_checks[] = {
#define GROUP(hundred, title)
#define CHECK(number, name, severity, needs, reference, title, asks) \
	{ number, #name, title, &groups[number / 100], reference, asks, PROBE_##severity, needs },
#include "spec/probe_domain.def"
};
const unsigned domain_check_count = sizeof domain_checks / sizeof *domain_checks;

const struct probe_check *domain_check_find(unsigned number)
{
	for (unsigned i = 0; i < domain_check_count; i++)
		if (domain_checks[i].number == number)
			return &domain_checks[i];
	return NULL;
}
