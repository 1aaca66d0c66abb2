/* config.c - `postrider config check|show`: what the daemon would say of its configuration, without starting it. */
#include "base/buf.h"
#include "cmd/cmd.h"
#include "conf/conf.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* More warnings than this are no help to a reader. */
#define WARNINGS_MAX 64

static int check(const struct conf *conf, const char *path)
{
	struct conf_warning w[WARNINGS_MAX];
	size_t n = conf_warnings(conf, w, WARNINGS_MAX);

	for (size_t i = 0; i < n && i < WARNINGS_MAX; i++)
		fprintf(stderr, "%s:%u: warning: %s\n", path, w[i].line, w[i].text);
	printf("%s: %zu listener%s, %zu domain%s, %zu warning%s\n", path, conf->listener_count, conf->listener_count == 1 ? "" : "s",
	       conf->domain_count, conf->domain_count == 1 ? "" : "s", n, n == 1 ? "" : "s");
	return 0;
}

static int show(const struct conf *conf, bool json)
{
	struct buf out;
	int r;

	buf_init(&out, &alloc_libc, 64 * 1024 * 1024);
	r = json ? conf_show_json(conf, &out) : conf_show(conf, &out);
	if (r == 0)
		fwrite(buf_view(&out).p, 1, buf_len(&out), stdout);
	buf_free(&out);
	return r == 0 ? 0 : EX_SOFTWARE;
}

int cmd_config(int argc, char **argv)
{
	const char *path = CMD_CONFIG, *what = NULL;
	bool json = false;
	struct conf *conf = NULL;
	struct error e = { 0 };
	int status;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "-c") == 0 && i + 1 < argc)
			path = argv[++i];
		else if (strcmp(argv[i], "--json") == 0)
			json = true;
		else if (!what && argv[i][0] != '-')
			what = argv[i];
		else
			return cmd_usage("config", "what is %s?", argv[i]);
	}
	if (!what || (strcmp(what, "check") != 0 && strcmp(what, "show") != 0))
		return cmd_usage("config", "check or show?");
	if (conf_load(&conf, path, &e) == -1) {
		fprintf(stderr, "%s\n", e.text);
		return EX_CONFIG;
	}
	status = strcmp(what, "check") == 0 ? check(conf, path) : show(conf, json);
	conf_free(conf);
	return status;
}
