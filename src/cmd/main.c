/* main.c - `postrider`: finds the subcommand and runs it. */
#include "cmd/cmd.h"

#include <psmtp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	int hidden;
	const char *usage, *help;
} commands[] = {
#define COMMAND(name, function, hidden, usage, help) { name, function, hidden, usage, help },
#include "cmd/commands.def"
};

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static void print_help(FILE *to)
{
	fprintf(to, "usage: postrider COMMAND [ARGUMENT ...]\n\n");
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (!commands[i].hidden)
			fprintf(to, "  %s\n      %s\n", commands[i].usage, commands[i].help);
	fprintf(to, "\nEach command: --help.  Manual pages: postrider(8), postrider.conf(5), psmtp(3).\n");
}

int cmd_usage(const char *command, const char *message, ...)
{
	const struct command *c = find(command);
	va_list ap;

	fprintf(stderr, "postrider %s: ", command);
	va_start(ap, message);
	vfprintf(stderr, message, ap);
	va_end(ap);
	fprintf(stderr, "\nusage: postrider %s\n", c ? c->usage : command);
	return EX_USAGE;
}

int cmd_wants_help(const char *command, int argc, char **argv)
{
	const struct command *c = find(command);

	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
			printf("usage: postrider %s\n%s\n", c->usage, c->help);
			return 1;
		}
	return 0;
}

int main(int argc, char **argv)
{
	const struct command *c;

	if (argc < 2) {
		print_help(stderr);
		return EX_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		print_help(stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("postrider %s\n", PSMTP_VERSION);
		return 0;
	}
	c = find(argv[1]);
	if (!c) {
		fprintf(stderr, "postrider: no such command: %s\n", argv[1]);
		print_help(stderr);
		return EX_USAGE;
	}
	if (cmd_wants_help(c->name, argc - 1, argv + 1))
		return 0;
	return c->run(argc - 1, argv + 1);
}
