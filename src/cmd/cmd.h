/* cmd.h - the subcommands of the binary `postrider`: each one file, thin over the rooms.
 *
 * A subcommand gets argv from its own name on and returns an exit status of sysexits.h.  To add one: its file, a row in
 * commands.def, a page in man/.
 */
#ifndef CMD_CMD_H
#define CMD_CMD_H
#include <sysexits.h>

#define COMMAND(name, function, hidden, usage, help) int function(int argc, char **argv);
#include "cmd/commands.def"

/* Prints the usage line of a subcommand to standard error, after a message; returns EX_USAGE. */
int cmd_usage(const char *command, const char *message, ...) __attribute__((format(printf, 2, 3)));
/* True for -h and --help: the help was printed, exit with 0. */
int cmd_wants_help(const char *command, int argc, char **argv);
/* The configuration that commands use when -c is not given. */
#define CMD_CONFIG "/etc/postrider/postrider.conf"

#endif
