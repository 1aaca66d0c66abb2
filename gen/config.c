/* config.c - prints man/postrider.conf.5 and docs/postrider.conf.sample, or checks that they are what it would print.
 *
 * Use       config write SOURCE_ROOT   after a change of spec/config.def or of the printers
 *           config check SOURCE_ROOT   in the tests: fails when a page is stale, or when the sample, as it is or with all its
 *                                      commented settings made active, is not a configuration
 */
#include "config.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#define PAGE_MAX (1u << 20)

static const struct page {
	const char *path;
	bool (*print)(struct buf *);
} pages[] = {
	{ "man/postrider.conf.5", config_print_man },
	{ "docs/postrider.conf.sample", config_print_sample },
};

static const struct {
	unsigned row;
	const char *text;
} examples[] = {
	{ CONF_ROW_GLOBAL_hostname, "\"mx.example.org\"" },
	{ CONF_ROW_GLOBAL_spool, "\"/var/spool/postrider\"" },
	{ CONF_ROW_GLOBAL_control, "\"/run/postrider/control.sock\"" },
	{ CONF_ROW_CERTIFICATE_chain, "\"/etc/postrider/cert.pem\"" },
	{ CONF_ROW_CERTIFICATE_key, "\"/etc/postrider/key.pem\"" },
	{ CONF_ROW_LISTENER_address, "{\"0.0.0.0:25\", \"[::]:25\"}" },
	{ CONF_ROW_WEB_address, "{\"0.0.0.0:443\", \"[::]:443\"}" },
	{ CONF_ROW_DOMAIN_deliver, "\"maildir:/var/mail/postrider/%{user}\"" },
	{ CONF_ROW_DKIM_domain, "\"example.org\"" },
	{ CONF_ROW_DKIM_key, "\"/etc/postrider/dkim.pem\"" },
	{ CONF_ROW_STS_POLICY_mx, "{\"mx.example.org\"}" }, /* as the next one */
	{ CONF_ROW_RELAY_from, "{\"127.0.0.0/8\", \"::1/128\"}" }, /* not required, but empty it says nothing */
};

static bool bare(const char *text)
{
	return text[0] &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:%") == strlen(text);
}

const char *config_example(const struct conf_row *row)
{
	static char quoted[200];
	for (size_t i = 0; i < sizeof examples / sizeof *examples; i++)
		if (&conf_rows[examples[i].row] == row)
			return examples[i].text;
	if (!row->fallback)
		return NULL;
	if (row->type == CONF_TYPE_LIST)
		return row->fallback[0] ? (snprintf(quoted, sizeof quoted, "{\"%s\"}", row->fallback), quoted) : "{}";
	if (row->type != CONF_TYPE_STR && row->type != CONF_TYPE_PATH && bare(row->fallback))
		return row->fallback;
	snprintf(quoted, sizeof quoted, "\"%s\"", row->fallback);
	return quoted;
}

const char *config_title(enum conf_tag tag)
{
	if (!conf_kinds[tag].titled)
		return "";
	return tag == CONF_TAG_CERTIFICATE ? "default" : tag == CONF_TAG_LISTENER ? "mx" : tag == CONF_TAG_WEB ? "policies"
	       : tag == CONF_TAG_DKIM ? "s2026" : "example.org";
}

const char *config_facts(const struct conf_row *row, char to[CONFIG_FACTS_SIZE])
{
	const char *least, *most;
	size_t n = 0;
	to[0] = '\0';
	if (row->type == CONF_TYPE_CHOICE) {
		for (unsigned i = 1; conf_choice_word(row, i).p && n < CONFIG_FACTS_SIZE; i++)
			n += (size_t)snprintf(to + n, CONFIG_FACTS_SIZE - n, "%s%.*s", i > 1 ? ", " : "",
			                      VIEW_ARGS(conf_choice_word(row, i)));
	} else if (row->type == CONF_TYPE_FLAG) {
		n += (size_t)snprintf(to, CONFIG_FACTS_SIZE, "true, false");
	} else {
		const char *kind = row->type == CONF_TYPE_LIST       ? "a list"
		                   : row->type == CONF_TYPE_PATH     ? "a path"
		                   : row->type == CONF_TYPE_SIZE     ? "a size"
		                   : row->type == CONF_TYPE_COUNT    ? "a number"
		                   : row->type == CONF_TYPE_DURATION ? "a duration"
		                                                     : "a string";
		n += (size_t)snprintf(to, CONFIG_FACTS_SIZE, "%s", kind);
		if (row->unit[0])
			n += (size_t)snprintf(to + n, CONFIG_FACTS_SIZE - n, " (%s)", row->unit);
	}
	if (conf_row_range(row, &least, &most))
		n += (size_t)snprintf(to + n, CONFIG_FACTS_SIZE - n, ", %s to %s", least, most);
	if (!row->fallback)
		snprintf(to + n, CONFIG_FACTS_SIZE - n, "; required");
	else if (row->fallback[0])
		snprintf(to + n, CONFIG_FACTS_SIZE - n, "; default %s", row->fallback);
	else
		snprintf(to + n, CONFIG_FACTS_SIZE - n, "; default: none");
	return to;
}

/* ---- write and check ---- */

static int write_page(const char *path, struct view text)
{
	FILE *f = fopen(path, "w");
	if (!f || fwrite(text.p, 1, text.n, f) != text.n) {
		perror(path);
		if (f)
			fclose(f);
		return -1;
	}
	return fclose(f) == 0 ? 0 : -1;
}

static int check_page(const char *path, struct view text)
{
	struct buf there;
	buf_init(&there, &alloc_libc, PAGE_MAX);
	FILE *f = fopen(path, "r");
	bool same = f && buf_reserve(&there, PAGE_MAX);
	if (same) {
		buf_commit(&there, fread(buf_tail(&there), 1, buf_room(&there), f));
		same = view_eq(buf_view(&there), text);
	}
	if (f)
		fclose(f);
	buf_free(&there);
	if (!same)
		fprintf(stderr, "%s is stale: run `ninja config-pages` and commit what it writes\n", path);
	return same ? 0 : -1;
}

static int parses(struct view text, const char *what)
{
	struct conf *c;
	struct error e;
	if (conf_parse(&c, text, what, &e) == -1) {
		fprintf(stderr, "%s\n", e.text);
		return -1;
	}
	conf_free(c);
	return 0;
}

/* The sample as it is, and with every "#name = " made active. */
static int check_sample(struct view text)
{
	struct buf active;
	buf_init(&active, &alloc_libc, PAGE_MAX);
	bool ok = true;
	for (size_t i = 0; i < text.n; i++)
		if (text.p[i] != '#' || i + 1 == text.n || text.p[i + 1] == ' ' || text.p[i + 1] == '\n')
			ok = ok && buf_add(&active, view_slice(text, i, i + 1));
	if (!ok || parses(text, "postrider.conf.sample") == -1 ||
	    parses(buf_view(&active), "postrider.conf.sample, all active") == -1)
		ok = false;
	buf_free(&active);
	return ok ? 0 : -1;
}

int main(int argc, char **argv)
{
	if (argc != 3 || (strcmp(argv[1], "write") != 0 && strcmp(argv[1], "check") != 0)) {
		fputs("usage: config write|check SOURCE_ROOT\n", stderr);
		return 64;
	}
	int failed = 0;
	for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
		char path[PATH_MAX];
		struct buf page;
		buf_init(&page, &alloc_libc, PAGE_MAX);
		snprintf(path, sizeof path, "%s/%s", argv[2], pages[i].path);
		if (!pages[i].print(&page)) {
			fprintf(stderr,
			        "%s: cannot be printed; has every required setting its example in gen/config.c?\n",
			        path);
			failed = 1;
		} else if ((argv[1][0] == 'w' ? write_page(path, buf_view(&page))
		                              : check_page(path, buf_view(&page))) == -1) {
			failed = 1;
		}
		if (!failed && pages[i].print == config_print_sample && check_sample(buf_view(&page)) == -1)
			failed = 1;
		buf_free(&page);
	}
	return failed;
}
