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

/* ---- what all kinds of probe take: 0, or an exit status and the error was said ---- */

#define PROBE_LIST_MAX 64u /* numbers of --check and --cases */

struct buf;
int probe_read_file(const char *path, struct buf *to);
int probe_set_name(const char **to, const char *option, const char *text); /* a domain name; for --helo also a literal */
int probe_set_number(uint32_t *to, const char *option, const char *text, uint64_t least, uint64_t most, uint32_t factor);
int probe_set_checks(unsigned list[PROBE_LIST_MAX], unsigned *count, const char *option, const char *text,
                     const struct probe_check *(*find)(unsigned number));

const char *probe_our_name(char *to, size_t room); /* for EHLO, when none was said: the machine's, if that is a domain name */

/* ---- the kinds: argv from behind their word on ---- */

int probe_client_command(int argc, char **argv); /* probe_client.c */
int probe_domain_command(int argc, char **argv); /* probe_domain.c */

/* ---- probe_screen.c ---- */

void probe_screen_report(const struct probe_report *, const struct probe_diff *, bool verbose, FILE *);
/* One line on standard error, written over again, when that is a terminal; check NULL: it is wiped. */
void probe_screen_progress(unsigned done, unsigned total, const struct probe_check *);

#endif
