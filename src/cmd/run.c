/* run.c - `postrider run` and `postrider role`: hand over to super/. */
#include "cmd/cmd.h"
#include "super/super.h"

#include <stdbool.h>
#include <string.h>

int cmd_run(int argc, char **argv)
{
	const char *path = CMD_CONFIG;
	bool single = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "-c") == 0 && i + 1 < argc)
			path = argv[++i];
		else if (strcmp(argv[i], "--single") == 0)
			single = true;
		else
			return cmd_usage("run", "what is %s?", argv[i]);
	}
	return single ? super_run_single(path) : super_run(path);
}

int cmd_role(int argc, char **argv)
{
	return super_child(argc, argv);
}
