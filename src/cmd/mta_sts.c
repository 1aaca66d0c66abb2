/* mta_sts.c - `postrider mta-sts records|policy`: what to publish so that others must use TLS to us (RFC 8461). */
#include "base/buf.h"
#include "cmd/cmd.h"
#include "conf/conf.h"
#include "route/sts.h"

#include <stdio.h>
#include <string.h>

/* Where others look for the policy file: at us, or at a web server that gets it from here. */
static void say_where(const struct conf *conf, const char *domain)
{
	if (conf->web_count)
		printf("mta-sts.%s. CNAME %s.\n", domain, conf->global.hostname);
	else
		printf("; and https://mta-sts.%s/.well-known/mta-sts.txt is what `postrider mta-sts policy %s` prints\n", domain, domain);
}

static int records(const struct conf *conf)
{
	char id[STS_OUR_ID_SIZE];
	struct buf text;

	buf_init(&text, &alloc_libc, STS_POLICY_MAX);
	for (size_t i = 0; i < conf->sts_policy_count; i++) {
		const struct conf_sts_policy *p = &conf->sts_policies[i];
		buf_clear(&text);
		if (!sts_policy_ours(p, &text))
			return fprintf(stderr, "postrider mta-sts: the policy of %s is larger than 64 KiB\n", p->title), EX_CONFIG;
		printf("_mta-sts.%s. TXT \"v=STSv1; id=%s;\"\n", p->title, sts_policy_id(buf_view(&text), id));
		say_where(conf, p->title);
	}
	buf_free(&text);
	if (conf->sts_policy_count == 0)
		fprintf(stderr, "postrider mta-sts: the configuration has no sts_policy section\n");
	return conf->sts_policy_count ? EX_OK : EX_CONFIG;
}

static int policy(const struct conf *conf, const char *domain)
{
	const struct conf_sts_policy *p = conf_find_sts_policy(conf, view_cstr(domain));
	struct buf text;
	int status = EX_CONFIG;

	buf_init(&text, &alloc_libc, STS_POLICY_MAX);
	if (!p)
		fprintf(stderr, "postrider mta-sts: the configuration has no sts_policy \"%s\"\n", domain);
	else if (!sts_policy_ours(p, &text))
		fprintf(stderr, "postrider mta-sts: the policy of %s is larger than 64 KiB\n", p->title);
	else
		status = fwrite(buf_view(&text).p, 1, buf_len(&text), stdout) == buf_len(&text) ? EX_OK : EX_IOERR;
	buf_free(&text);
	return status;
}

int cmd_mta_sts(int argc, char **argv)
{
	const char *path = CMD_CONFIG, *what = argc > 1 ? argv[1] : "", *domain = NULL;
	bool one = strcmp(what, "policy") == 0;
	struct error e = { 0 };
	struct conf *conf;
	int status;

	if (!one && strcmp(what, "records") != 0)
		return cmd_usage("mta-sts", "say `records` or `policy` and a domain");
	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], "-c") == 0 && i + 1 < argc)
			path = argv[++i];
		else if (argv[i][0] == '-' || domain || !one)
			return cmd_usage("mta-sts", "what is %s?", argv[i]);
		else
			domain = argv[i];
	if (one && !domain)
		return cmd_usage("mta-sts", "the policy of which domain?");
	if (conf_load(&conf, path, &e) == -1) {
		fprintf(stderr, "postrider mta-sts: %s\n", e.text);
		return EX_CONFIG;
	}
	status = one ? policy(conf, domain) : records(conf);
	conf_free(conf);
	return status;
}
