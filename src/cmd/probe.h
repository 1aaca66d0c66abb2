/* probe.h - `postrider probe`: private to cmd/.  probe.c reads the arguments, probe_screen.c prints for people. */
#ifndef CMD_PROBE_H
#define CMD_PROBE_H
#include "probe/report.h"

enum probe_form { PROBE_FORM_SCREEN = 1, PROBE_FORM_JSON, PROBE_FORM_MARKDOWN, PROBE_FORM_HTML, PROBE_FORM_PROMETHEUS };

struct probe_output {
	enum probe_form form;
	bool verbose;         /* on the screen, the evidence of every check */
	const char *old_path; /* --diff; NULL: none */
};

/* Takes an option that says how to print: -1 an error was said, 0 it is none, 1 it was taken, 2 with its value. */
int probe_output_option(struct probe_output *, const char *option, const char *value);
/* Prints a report as wanted; the exit status: 0, 1 when a check failed (with --diff: when something got worse), or of
 * sysexits.h. */
int probe_output(const struct probe_output *, const struct probe_report *);

/* ---- probe_screen.c ---- */

void probe_screen_report(const struct probe_report *, const struct probe_diff *, bool verbose, FILE *);
/* One line on standard error, written over again, when that is a terminal; check NULL: it is wiped. */
void probe_screen_progress(unsigned done, unsigned total, const struct probe_check *);

#endif
