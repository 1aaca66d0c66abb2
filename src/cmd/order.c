/* order.c - `postrider reload` and `postrider stop`: as SIGHUP and SIGTERM, but with an answer. */
#include "cmd/cmd.h"
#include "cmd/control_client.h"
#include "cmd/queue_show.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int order(const char *command, int argc, char **argv, json_t **super)
{
	struct control_where where = { 0 };
	struct control_client c;
	json_t *answer = NULL;
	int status;

	for (int i = 1; i < argc; i++)
		if (!control_where_option(&where, argc, argv, &i))
			return cmd_usage(command, "what is %s?", argv[i]);
	status = control_client_open(&c, command, &where);
	if (status)
		return status;
	status = control_client_ask(&c, json_pack("{s:s}", "cmd", command), NULL, NULL, &answer);
	control_client_close(&c);
	if (status == 0)
		*super = json_incref(json_object_get(answer, "super"));
	json_decref(answer);
	return status;
}

int cmd_reload(int argc, char **argv)
{
	json_t *super = NULL;
	int status = order("reload", argc, argv, &super);

	if (status == 0 && !json_is_true(json_object_get(super, "ok"))) {
		const char *why = json_text(super, "error");

		fprintf(stderr, "postrider reload: %s\n", why[0] ? why : "refused");
		status = strstr(why, "under way") ? EX_TEMPFAIL : EX_CONFIG; /* the old configuration goes on */
	} else if (status == 0) {
		printf("generation %" PRId64 " starts\n", json_number(super, "generation"));
	}
	json_decref(super);
	return status;
}

int cmd_stop(int argc, char **argv)
{
	json_t *super = NULL;
	int status = order("stop", argc, argv, &super);

	if (status == 0)
		printf("stopping\n");
	json_decref(super);
	return status;
}
