/* table.c - the table of the checks, from spec/probe.def, for the engine and for gen/probe. */
#include "probe/server.h"

#define CLEAR     PROBE_NEEDS_CLEAR
#define STARTTLS  PROBE_NEEDS_STARTTLS
#define TLS       PROBE_NEEDS_TLS
#define LOGIN     PROBE_NEEDS_LOGIN
#define RECIPIENT PROBE_NEEDS_RECIPIENT
#define INTRUSIVE PROBE_NEEDS_INTRUSIVE

static const char *const groups[] = {
#define GROUP(hundred, title) [hundred] = title,
#define CHECK(number, name, severity, needs, reference, title, sends)
#include "spec/probe.def"
};

const struct probe_check probe_checks[] = {
#define GROUP(hundred, title)
#define CHECK(number, name, severity, needs, reference, title, sends) \
	{ number, #name, title, &groups[number / 100], reference, sends, PROBE_##severity, needs },
#include "spec/probe.def"
};
const unsigned probe_check_count = sizeof probe_checks / sizeof *probe_checks;

const struct probe_check *probe_check_find(unsigned number)
{
	for (unsigned i = 0; i < probe_check_count; i++)
		if (probe_checks[i].number == number)
			return &probe_checks[i];
	return NULL;
}
