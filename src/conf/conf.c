/* conf.c - from text to struct conf; see conf.h and inside.h for the steps. */
#include "conf/conf.h"

#include "base/buf.h"
#include "conf/inside.h"
#include "conf/parts.h"

#include <confuse.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* libconfuse's lexer is one for the whole process, and so is the place where its complaint is caught. */
static pthread_mutex_t confuse_lock = PTHREAD_MUTEX_INITIALIZER;
static char complaint[200];
static int complaint_line;

static void complain(cfg_t *cfg, const char *fmt, va_list ap)
{
	if (complaint[0] == '\0') {
		vsnprintf(complaint, sizeof complaint, fmt, ap);
		complaint_line = cfg->line;
	}
}

/* ---- the sections as arrays ---- */

size_t conf_section_count(const struct conf *c, enum conf_tag tag)
{
	switch (tag) {
	case CONF_TAG_CERTIFICATE:
		return c->certificate_count;
	case CONF_TAG_LISTENER:
		return c->listener_count;
	case CONF_TAG_DOMAIN:
		return c->domain_count;
	case CONF_TAG_STS_POLICY:
		return c->sts_policy_count;
	case CONF_TAG_DKIM:
		return c->dkim_count;
	case CONF_TAG_WEB:
		return c->web_count;
	default:
		return 1;
	}
}

const void *conf_set(const struct conf *c, enum conf_tag tag, size_t nth)
{
	switch (tag) {
	case CONF_TAG_CERTIFICATE:
		return &c->certificates[nth].set;
	case CONF_TAG_LISTENER:
		return &c->listeners[nth].set;
	case CONF_TAG_DOMAIN:
		return &c->domains[nth].set;
	case CONF_TAG_STS_POLICY:
		return &c->sts_policies[nth].set;
	case CONF_TAG_DKIM:
		return &c->dkim[nth].set;
	case CONF_TAG_WEB:
		return &c->webs[nth].set;
	case CONF_TAG_ROUTE:
		return &c->route;
	case CONF_TAG_RELAY:
		return &c->relay;
	case CONF_TAG_TLS_REPORT:
		return &c->tls_report;
	default:
		return &c->global;
	}
}

const char *conf_title(const struct conf *c, enum conf_tag tag, size_t nth)
{
	switch (tag) {
	case CONF_TAG_CERTIFICATE:
		return c->certificates[nth].title;
	case CONF_TAG_LISTENER:
		return c->listeners[nth].title;
	case CONF_TAG_DOMAIN:
		return c->domains[nth].title;
	case CONF_TAG_STS_POLICY:
		return c->sts_policies[nth].title;
	case CONF_TAG_DKIM:
		return c->dkim[nth].title;
	case CONF_TAG_WEB:
		return c->webs[nth].title;
	default:
		return NULL;
	}
}

const struct outline_section *conf_lines(const struct conf *c, enum conf_tag tag, size_t nth)
{
	return nth < c->memory->count[tag] ? c->memory->by_tag[tag][nth] : NULL;
}

unsigned conf_line(const struct conf *c, size_t nth, unsigned row_number)
{
	const struct conf_row *row = &conf_rows[row_number];
	return outline_line(conf_lines(c, row->tag, nth), row);
}

bool conf_given(const struct conf *c, size_t nth, unsigned row_number)
{
	const struct conf_row *row = &conf_rows[row_number];
	const struct outline_section *in = conf_lines(c, row->tag, nth);
	return in && in->settings[row_number - conf_kinds[row->tag].first].line != 0;
}

/* ---- memory ---- */

static struct conf *conf_new(void)
{
	struct conf *c = calloc(1, sizeof *c);
	struct conf_memory *m = calloc(1, sizeof *m);
	if (!c || !m) {
		free(c);
		free(m);
		return NULL;
	}
	arena_init(&m->arena, &alloc_libc, CONF_MEMORY_MAX);
	c->memory = m;
	return c;
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	outline_free(&c->memory->outline);
	free(c->memory->text);
	arena_free(&c->memory->arena);
	free(c->memory);
	free(c);
}

/* Arrays of the sections that the text has, with titles and lines. */
static bool arrays(struct conf *c)
{
	struct conf_memory *m = c->memory;
	const struct outline *o = &m->outline;
	for (size_t i = 0; i < o->section_count; i++)
		m->count[o->sections[i].tag]++;
	for (enum conf_tag tag = CONF_TAG_GLOBAL; tag < CONF_TAG_END; tag++) {
		m->by_tag[tag] = arena_take(&m->arena, m->count[tag] * sizeof(void *));
		if (!m->by_tag[tag])
			return false;
		m->count[tag] = 0;
	}
	for (size_t i = 0; i < o->section_count; i++) {
		const enum conf_tag tag = o->sections[i].tag;
		m->by_tag[tag][m->count[tag]++] = &o->sections[i];
	}
	c->certificate_count = m->count[CONF_TAG_CERTIFICATE];
	c->listener_count = m->count[CONF_TAG_LISTENER];
	c->domain_count = m->count[CONF_TAG_DOMAIN];
	c->sts_policy_count = m->count[CONF_TAG_STS_POLICY];
	c->dkim_count = m->count[CONF_TAG_DKIM];
	c->web_count = m->count[CONF_TAG_WEB];
	c->certificates = arena_take(&m->arena, c->certificate_count * sizeof *c->certificates);
	c->listeners = arena_take(&m->arena, c->listener_count * sizeof *c->listeners);
	c->domains = arena_take(&m->arena, c->domain_count * sizeof *c->domains);
	c->sts_policies = arena_take(&m->arena, c->sts_policy_count * sizeof *c->sts_policies);
	c->dkim = arena_take(&m->arena, c->dkim_count * sizeof *c->dkim);
	c->webs = arena_take(&m->arena, c->web_count * sizeof *c->webs);
	if (!c->certificates || !c->listeners || !c->domains || !c->sts_policies || !c->dkim || !c->webs)
		return false;
	for (size_t i = 0; i < c->certificate_count; i++) {
		c->certificates[i].title = m->by_tag[CONF_TAG_CERTIFICATE][i]->title;
		c->certificates[i].line = m->by_tag[CONF_TAG_CERTIFICATE][i]->line;
	}
	for (size_t i = 0; i < c->listener_count; i++) {
		c->listeners[i].title = m->by_tag[CONF_TAG_LISTENER][i]->title;
		c->listeners[i].line = m->by_tag[CONF_TAG_LISTENER][i]->line;
	}
	for (size_t i = 0; i < c->domain_count; i++) {
		c->domains[i].title = m->by_tag[CONF_TAG_DOMAIN][i]->title;
		c->domains[i].line = m->by_tag[CONF_TAG_DOMAIN][i]->line;
	}
	for (size_t i = 0; i < c->sts_policy_count; i++) {
		c->sts_policies[i].title = m->by_tag[CONF_TAG_STS_POLICY][i]->title;
		c->sts_policies[i].line = m->by_tag[CONF_TAG_STS_POLICY][i]->line;
	}
	for (size_t i = 0; i < c->dkim_count; i++) {
		c->dkim[i].title = m->by_tag[CONF_TAG_DKIM][i]->title;
		c->dkim[i].line = m->by_tag[CONF_TAG_DKIM][i]->line;
	}
	for (size_t i = 0; i < c->web_count; i++) {
		c->webs[i].title = m->by_tag[CONF_TAG_WEB][i]->title;
		c->webs[i].line = m->by_tag[CONF_TAG_WEB][i]->line;
	}
	return true;
}

/* ---- libconfuse ---- */

/* All options of one section; every value is a string to libconfuse, because we know the types better. */
static void options(cfg_opt_t *to, enum conf_tag tag)
{
	size_t n = 0;
	for (unsigned i = conf_kinds[tag].first; i < conf_kinds[tag + 1].first; i++) {
		const struct conf_row *row = &conf_rows[i];
		if (row->type == CONF_TYPE_LIST)
			to[n++] = (cfg_opt_t)CFG_STR_LIST(row->name, NULL, CFGF_NODEFAULT);
		else
			to[n++] = (cfg_opt_t)CFG_STR(row->name, NULL, CFGF_NODEFAULT);
	}
	to[n] = (cfg_opt_t)CFG_END();
}

/* Room for all rows, an end for each kind, and an option for each section. */
#define OPTIONS_MAX (CONF_ROW_END + 2 * CONF_TAG_END)

static cfg_t *confuse(const char *text, const char *path, struct error *e)
{
	static cfg_opt_t all[OPTIONS_MAX]; /* cfg_init copies it */
	cfg_opt_t *global = all, *sub[CONF_TAG_END];
	size_t n = 0;
	for (enum conf_tag tag = CONF_TAG_GLOBAL + 1; tag < CONF_TAG_END; tag++) {
		sub[tag] = all + n;
		options(sub[tag], tag);
		n += conf_row_count(tag) + 1;
	}
	global += n;
	options(global, CONF_TAG_GLOBAL);
	n = conf_row_count(CONF_TAG_GLOBAL);
	for (enum conf_tag tag = CONF_TAG_GLOBAL + 1; tag < CONF_TAG_END; tag++) {
		const struct conf_kind *kind = &conf_kinds[tag];
		const cfg_flag_t flags =
			(kind->many ? CFGF_MULTI : 0) | (kind->titled ? CFGF_TITLE : 0) | CFGF_NODEFAULT;
		global[n++] = (cfg_opt_t)CFG_SEC(kind->word, sub[tag], flags);
	}
	global[n] = (cfg_opt_t)CFG_END();
	cfg_t *cfg = cfg_init(global, CFGF_NONE);
	if (!cfg) {
		error_set(e, ERROR_AGAIN, "%s: out of memory", path);
		return NULL;
	}
	complaint[0] = '\0';
	cfg_set_error_function(cfg, complain);
	if (cfg_parse_buf(cfg, text) != CFG_SUCCESS) {
		conf_refuse(&(struct conf_spot){ path, complaint_line > 0 ? (unsigned)complaint_line : 1, e },
		            "%s; see postrider.conf(5)", complaint[0] ? complaint : "not understood");
		cfg_free(cfg);
		return NULL;
	}
	return cfg;
}

/* ---- values ---- */

static int put_list(void *set, const struct conf_row *row, cfg_t *sec, struct arena *a, const struct conf_spot *spot)
{
	const size_t n = cfg_size(sec, row->name);
	const char **items = calloc(n + 1, sizeof *items);
	if (!items)
		return error_set(spot->e, ERROR_AGAIN, "%s: out of memory", spot->path);
	for (size_t i = 0; i < n; i++)
		items[i] = cfg_getnstr(sec, row->name, (unsigned)i);
	const int rc = conf_value_put_list(set, row, items, n, a, spot);
	free(items);
	return rc;
}

/* One section's fields: given values first, the table's otherwise.  sec NULL: nothing was given. */
static int fill(struct conf *c, enum conf_tag tag, size_t nth, cfg_t *sec, const char *folder, const char *path,
                struct error *e)
{
	void *set = (void *)(uintptr_t)conf_set(c, tag, nth);
	for (unsigned i = conf_kinds[tag].first; i < conf_kinds[tag + 1].first; i++) {
		const struct conf_row *row = &conf_rows[i];
		const struct conf_spot spot = { path, conf_line(c, nth, i), e };
		const bool given = sec && conf_given(c, nth, i);
		if (!given && !row->fallback && tag == CONF_TAG_GLOBAL)
			return conf_refuse(&spot, "%s is missing; write %s = \"...\" (%s)", row->name, row->name,
			                   row->help);
		if (!given && !row->fallback)
			return conf_refuse(&spot, "%s \"%.100s\" has no %s; write %s = %s inside it",
			                   conf_kinds[tag].word, conf_title(c, tag, nth), row->name, row->name,
			                   row->type == CONF_TYPE_LIST ? "{\"...\"}" : "\"...\"");
		int rc = 0;
		const char *text = row->fallback;
		if (row->type == CONF_TYPE_LIST) {
			if (given)
				rc = put_list(set, row, sec, &c->memory->arena, &spot);
			else if (text && text[0])
				rc = conf_value_put_list(set, row, &text, 1, &c->memory->arena, &spot);
		} else {
			if (given && (text = cfg_getstr(sec, row->name)) == NULL)
				return error_set(e, ERROR_OURS, "%s:%u: %s was read differently twice", path, spot.line,
				                 row->name);
			rc = conf_value_put(set, row, text, folder, &c->memory->arena, &spot);
		}
		if (rc == -1)
			return -1;
	}
	return 0;
}

/* libconfuse and the outline must have seen the same text; if they ever differ, the safe answer is to refuse it. */
static int same(const struct conf *c, cfg_t *cfg, const char *path, struct error *e)
{
	for (enum conf_tag tag = CONF_TAG_GLOBAL + 1; tag < CONF_TAG_END; tag++) {
		const size_t n = cfg_size(cfg, conf_kinds[tag].word);
		if (n != c->memory->count[tag])
			return error_set(e, ERROR_OURS, "%s: sections %s were read differently twice", path,
			                 conf_kinds[tag].word);
		for (size_t i = 0; i < n && conf_kinds[tag].titled; i++)
			if (strcmp(cfg_title(cfg_getnsec(cfg, conf_kinds[tag].word, (unsigned)i)),
			           conf_title(c, tag, i)) != 0)
				return error_set(e, ERROR_OURS, "%s: section titles were read differently twice", path);
	}
	return 0;
}

static int fill_all(struct conf *c, cfg_t *cfg, const char *folder, const char *path, struct error *e)
{
	if (same(c, cfg, path, e) == -1 || fill(c, CONF_TAG_GLOBAL, 0, cfg, folder, path, e) == -1)
		return -1;
	for (enum conf_tag tag = CONF_TAG_GLOBAL + 1; tag < CONF_TAG_END; tag++) {
		cfg_opt_t *opt = cfg_getopt(cfg, conf_kinds[tag].word);
		const size_t n = cfg_opt_size(opt);
		for (size_t i = 0; i < conf_section_count(c, tag); i++)
			if (fill(c, tag, i, i < n ? cfg_opt_getnsec(opt, (unsigned)i) : NULL, folder, path, e) == -1)
				return -1;
	}
	return 0;
}

/* The folder of a path with its slash, or "" when it names none. */
static int folder_of(const char *path, char to[PATH_MAX], struct error *e)
{
	const char *slash = strrchr(path, '/');
	const size_t n = slash ? (size_t)(slash - path) + 1 : 0;
	if (n >= PATH_MAX)
		return error_set(e, ERROR_INPUT, "%.100s...: the path is too long", path);
	memcpy(to, path, n);
	to[n] = '\0';
	return 0;
}

int conf_parse(struct conf **out, struct view text, const char *path, struct error *e)
{
	char folder[PATH_MAX];
	struct error ignored;
	e = e ? e : &ignored;
	*out = NULL;
	struct conf *c = conf_new();
	if (!c)
		return error_set(e, ERROR_AGAIN, "%s: out of memory", path);
	if (folder_of(path, folder, e) == -1 || outline_read(&c->memory->outline, text, path, e) == -1) {
		conf_free(c);
		return -1;
	}
	c->memory->path = arena_cstr(&c->memory->arena, view_cstr(path));
	c->memory->text = strndup(text.n ? text.p : "", text.n); /* the outline has refused NULs */
	c->memory->text_n = text.n;
	if (!c->memory->path || !c->memory->text) {
		conf_free(c);
		return error_set(e, ERROR_AGAIN, "%s: out of memory", path);
	}
	int rc = -1;
	pthread_mutex_lock(&confuse_lock);
	cfg_t *cfg = confuse(c->memory->text, path, e);
	if (cfg && arrays(c))
		rc = fill_all(c, cfg, folder, path, e);
	else if (cfg)
		error_set(e, ERROR_AGAIN, "%s: out of memory", path);
	if (cfg)
		cfg_free(cfg);
	pthread_mutex_unlock(&confuse_lock);
	if (rc == -1 || conf_check(c, path, e) == -1) {
		conf_free(c);
		return -1;
	}
	*out = c;
	return 0;
}

/* ---- the file ---- */

static int read_all(int fd, const char *path, struct buf *text, struct error *e)
{
	for (;;) {
		if (!buf_reserve(text, 65536))
			return error_set(e, ERROR_INPUT, "%s: larger than %u MiB; this is no configuration", path,
			                 CONF_TEXT_MAX >> 20);
		const ssize_t n = read(fd, buf_tail(text), buf_room(text));
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return error_sys(e, errno, "%s: cannot be read", path);
		if (n == 0)
			return 0;
		buf_commit(text, (size_t)n);
	}
}

/* Its folder resolved, its name kept: a file that is a symbolic link belongs to the folder where the operator sees it.
 */
static int absolute_path(const char *path, char **absolute, struct error *e)
{
	char folder[PATH_MAX], real[PATH_MAX];
	if (folder_of(path, folder, e) == -1)
		return -1;
	const char *name = path + strlen(folder);
	if (!realpath(folder[0] ? folder : ".", real))
		return error_sys(e, errno, "%s: has no absolute path", path);
	if (asprintf(absolute, "%s/%s", strcmp(real, "/") == 0 ? "" : real, name) == -1) {
		*absolute = NULL;
		return error_set(e, ERROR_AGAIN, "%s: out of memory", path);
	}
	return 0;
}

int conf_read(const char *path, struct buf *text, char **absolute, struct error *e)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	buf_init(text, &alloc_libc, CONF_TEXT_MAX + 65536);
	*absolute = NULL;
	if (fd == -1)
		return error_sys(e, errno, "%s: cannot be opened", path);
	int rc = read_all(fd, path, text, e);
	close(fd);
	if (rc == 0)
		rc = absolute_path(path, absolute, e);
	if (rc == -1)
		buf_free(text);
	return rc;
}

int conf_load(struct conf **out, const char *path, struct error *e)
{
	struct buf text;
	char *absolute;
	*out = NULL;
	if (conf_read(path, &text, &absolute, e) == -1)
		return -1;
	const int rc = conf_parse(out, buf_view(&text), absolute, e);
	buf_free(&text);
	free(absolute);
	return rc;
}
