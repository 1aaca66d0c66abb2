/* handoff.c - see handoff.h.
 *
 * The packed form: magic, number of blobs, then for each blob the lengths of kind, title and content and these three.
 * It never leaves the machine and both ends are the same binary, so integers are as the machine has them; still every
 * length is checked, because a role may be handed anything.
 */
#include "conf/handoff.h"

#include "base/buf.h"
#include "conf/inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A list of a million local parts, or a large trust bundle. */
#define BLOB_MAX (32u << 20)
/* All that a role may get. */
#define HANDOFF_MAX (128u << 20)
/* More than any number of sections that fits into CONF_TEXT_MAX. */
#define BLOBS_MAX (1u << 20)
#define TITLE_MAX 4096 /* as CONF_VALUE_MAX: a section's title */
#define KIND_MAX 32

static const char magic[8] = "PRHAND1\n";

struct entry_head {
	uint32_t kind, title, size;
};

struct blob {
	const char *kind, *title; /* terminated */
	unsigned char *bytes;
	size_t n;
};

struct handoff {
	struct blob *blobs; /* sorted by kind and title once complete */
	size_t count, room;
	char **problems;
	size_t problem_count, problem_room;
};

/* ---- the set ---- */

static int no_memory(struct error *e)
{
	return error_set(e, ERROR_AGAIN, "out of memory for the files of a role");
}

static void *grow(void *old, size_t *room, size_t count, size_t size)
{
	if (count < *room)
		return old;
	const size_t more = *room ? *room * 2 : 8;
	void *p = reallocarray(old, more, size);
	if (p)
		*room = more;
	return p;
}

static char *text_copy(struct view v)
{
	char *p = malloc(v.n + 1);
	if (!p)
		return NULL;
	if (v.n)
		memcpy(p, v.p, v.n);
	p[v.n] = '\0';
	return p;
}

static int add(struct handoff *h, struct view kind, struct view title, struct view content, struct error *e)
{
	struct blob *all = grow(h->blobs, &h->room, h->count, sizeof *all);
	if (!all)
		return no_memory(e);
	h->blobs = all;
	struct blob b = { text_copy(kind), text_copy(title), malloc(content.n + 1), content.n };
	all[h->count++] = b; /* freed with the rest whatever comes */
	if (!b.kind || !b.title || !b.bytes)
		return no_memory(e);
	if (content.n)
		memcpy(b.bytes, content.p, content.n);
	b.bytes[content.n] = '\0'; /* a path may be used as it stands */
	return 0;
}

static int problem(struct handoff *h, struct error *e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int problem(struct handoff *h, struct error *e, const char *fmt, ...)
{
	char **all = grow(h->problems, &h->problem_room, h->problem_count, sizeof *all);
	char *text;
	va_list ap;
	if (!all)
		return no_memory(e);
	h->problems = all;
	va_start(ap, fmt);
	const int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n == -1)
		return no_memory(e);
	h->problems[h->problem_count++] = text;
	return 0;
}

void handoff_free(struct handoff *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < h->count; i++) {
		if (h->blobs[i].bytes)
			alloc_put_secret(&alloc_libc, h->blobs[i].bytes, h->blobs[i].n + 1);
		free((void *)(uintptr_t)h->blobs[i].kind);
		free((void *)(uintptr_t)h->blobs[i].title);
	}
	for (size_t i = 0; i < h->problem_count; i++)
		free(h->problems[i]);
	free(h->blobs);
	free(h->problems);
	free(h);
}

size_t handoff_problems(const struct handoff *h, const char **texts, size_t max)
{
	for (size_t i = 0; i < h->problem_count && i < max; i++)
		texts[i] = h->problems[i];
	return h->problem_count;
}

static int order(const char *kind, const char *title, const struct blob *b)
{
	const int by_kind = strcmp(kind, b->kind);
	return by_kind ? by_kind : strcmp(title, b->title);
}

static int by_name(const void *a, const void *b)
{
	const struct blob *x = a;
	return order(x->kind, x->title, b);
}

static void complete(struct handoff *h)
{
	if (h->count)
		qsort(h->blobs, h->count, sizeof *h->blobs, by_name);
}

static struct blob *find(const struct handoff *h, const char *kind, const char *title)
{
	size_t low = 0, high = h ? h->count : 0;
	title = title ? title : "";
	while (low < high) {
		const size_t middle = low + (high - low) / 2;
		const int way = order(kind, title, &h->blobs[middle]);
		if (way == 0)
			return &h->blobs[middle];
		if (way < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

struct view handoff_get(const struct handoff *h, const char *kind, const char *title)
{
	const struct blob *b = find(h, kind, title);
	return b ? view_of((const char *)b->bytes, b->n) : view_of(NULL, 0);
}

void handoff_forget(const struct handoff *h, const char *kind, const char *title)
{
	struct blob *b = find(h, kind, title);
	if (!b || !b->bytes)
		return;
	explicit_bzero(b->bytes, b->n);
	free(b->bytes);
	b->bytes = NULL;
	b->n = 0;
}

/* ---- reading what is due ---- */

enum due { DUE_KEYS = 1, DUE_CHAINS = 2, DUE_TRUST = 4, DUE_AUTH = 8, DUE_USERS = 16, DUE_DNS = 32, DUE_CLIENT_TRUST = 64, DUE_CLIENT_CHAINS = 128 };

/* What each role may see of the disk; a role that is not here sees the configuration only. */
static const struct {
	const char *role;
	unsigned due;
} dues[] = {
	{ "keys", DUE_KEYS },
	{ "receive", DUE_CHAINS | DUE_USERS | DUE_CLIENT_TRUST },
	{ "send", DUE_TRUST | DUE_AUTH | DUE_CLIENT_CHAINS },
	{ "policy", DUE_TRUST },
	{ "web", DUE_CHAINS },
	{ "resolve", DUE_DNS },
	{ "local", DUE_USERS },
};

/* The whole file; e says which and why not.  Read through a wiped buffer: it may be a key. */
static int slurp(const char *path, struct buf *to, struct error *e)
{
	struct stat st;
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd == -1)
		return error_sys(e, errno, "%s: cannot be opened", path);
	int rc = 0;
	if (fstat(fd, &st) == -1)
		rc = error_sys(e, errno, "%s: cannot be read", path);
	else if (!S_ISREG(st.st_mode))
		rc = error_set(e, ERROR_INPUT, "%s: is not a regular file", path);
	while (rc == 0) {
		if (!buf_reserve(to, 16384)) {
			rc = error_set(e, ERROR_INPUT, "%s: is larger than %u MiB, or memory is out", path,
			               BLOB_MAX >> 20);
			break;
		}
		const ssize_t n = read(fd, buf_tail(to), buf_room(to));
		if (n == 0)
			break;
		if (n == -1 && errno != EINTR)
			rc = error_sys(e, errno, "%s: cannot be read", path);
		else if (n > 0)
			buf_commit(to, (size_t)n);
	}
	close(fd);
	return rc;
}

/* One file as one blob.  optional: not to be read is a problem, not an error. */
static int take(struct handoff *h, const char *kind, const char *title, const char *path, bool optional,
                struct error *e)
{
	struct buf content;
	struct error why;
	buf_init(&content, &alloc_libc, BLOB_MAX);
	int rc = slurp(path, &content, &why);
	if (rc == 0)
		rc = add(h, view_cstr(kind), view_cstr(title), buf_view(&content), e);
	else if (optional)
		rc = title[0] ? problem(h, e, "%s \"%s\": %s", kind, title, why.text) : problem(h, e, "%s: %s", kind, why.text);
	else
		*e = why;
	buf_free(&content);
	return rc;
}

/* A key that everybody on the machine can read is no secret; it still works. */
static int check_secret(struct handoff *h, const char *path, struct error *e)
{
	struct stat st;
	if (stat(path, &st) == -1 || !(st.st_mode & (S_IROTH | S_IWOTH)))
		return 0;
	return problem(h, e, "%s: can be read or written by every user of this machine; chmod 600 is usual", path);
}

static int take_certificates(struct handoff *h, const struct conf *c, unsigned due, struct error *e)
{
	for (size_t i = 0; i < c->certificate_count; i++) {
		const struct conf_certificate *cert = &c->certificates[i];
		if (due & DUE_KEYS) {
			if (take(h, "key", cert->title, cert->set.key, true, e) == -1 ||
			    check_secret(h, cert->set.key, e) == -1)
				return -1;
			continue;
		}
		if (!(due & DUE_CHAINS) && !conf_client_shows(c, i))
			continue;
		/* TLS that cannot work is not offered: without its key a chain is of no use */
		const int fd = open(cert->set.key, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (fd == -1) {
			if (problem(h, e, "certificate \"%s\" cannot be used: %s: cannot be opened: %s", cert->title,
			            cert->set.key, strerror(errno)) == -1)
				return -1;
			continue;
		}
		close(fd);
		if (take(h, "chain", cert->title, cert->set.chain, true, e) == -1)
			return -1;
	}
	return 0;
}

static int take_dkim(struct handoff *h, const struct conf *c, struct error *e)
{
	for (size_t i = 0; i < c->dkim_count; i++)
		if (take(h, "dkim", c->dkim[i].title, c->dkim[i].set.key, true, e) == -1 || check_secret(h, c->dkim[i].set.key, e) == -1)
			return -1;
	return 0;
}

static int take_auth(struct handoff *h, const char *title, const char *path, struct error *e)
{
	if (path[0] == '\0')
		return 0;
	return take(h, "auth", title, path, false, e) == -1 || check_secret(h, path, e) == -1 ? -1 : 0;
}

static int take_domains(struct handoff *h, const struct conf *c, unsigned due, struct error *e)
{
	for (size_t i = 0; i < c->domain_count; i++) {
		const struct conf_domain *d = &c->domains[i];
		if ((due & DUE_USERS) && d->set.users[0] && take(h, "users", d->title, d->set.users, false, e) == -1)
			return -1;
		if ((due & DUE_AUTH) && take_auth(h, d->title, d->hop.auth_file, e) == -1)
			return -1;
	}
	return (due & DUE_AUTH) ? take_auth(h, "", c->route_hop.auth_file, e) : 0;
}

/* `receive` judges the certificates of clients, where it asks for any. */
static bool asks_clients(const struct conf *c)
{
	for (size_t i = 0; i < c->listener_count; i++)
		if (c->listeners[i].certificate_count && c->listeners[i].set.client_certificates == CONF_CLIENTS_ASK)
			return true;
	return false;
}

static int take_all(struct handoff *h, const struct conf *c, unsigned due, struct error *e)
{
	if (add(h, VIEW("config"), VIEW(""), view_of(c->memory->text, c->memory->text_n), e) == -1 ||
	    add(h, VIEW("config_path"), VIEW(""), view_cstr(c->memory->path), e) == -1)
		return -1;
	if ((due & (DUE_KEYS | DUE_CHAINS | DUE_CLIENT_CHAINS)) && take_certificates(h, c, due, e) == -1)
		return -1;
	if ((due & DUE_KEYS) && take_dkim(h, c, e) == -1)
		return -1;
	const bool trust = (due & DUE_TRUST) || ((due & DUE_CLIENT_TRUST) && asks_clients(c));
	if (trust && take(h, "trust", "", c->global.trust, true, e) == -1)
		return -1;
	if ((due & DUE_DNS) && c->resolver_count == 0 && take(h, "resolv.conf", "", "/etc/resolv.conf", true, e) == -1)
		return -1; /* servers that the configuration names stand in its place */
	if ((due & DUE_DNS) && c->global.dane && take(h, "trust_anchor", "", c->global.trust_anchor, true, e) == -1)
		return -1;
	if ((due & DUE_DNS) && take(h, "hosts", "", "/etc/hosts", true, e) == -1)
		return -1;
	return take_domains(h, c, due, e);
}

int handoff_read(struct handoff **out, const struct conf *c, const char *config_path, const char *role, struct error *e)
{
	struct error ignored;
	unsigned due = 0;
	(void)config_path;
	e = e ? e : &ignored;
	*out = NULL;
	for (size_t i = 0; i < sizeof dues / sizeof *dues; i++)
		if (strcmp(dues[i].role, role) == 0)
			due = dues[i].due;
	struct handoff *h = calloc(1, sizeof *h);
	if (!h)
		return no_memory(e);
	if (take_all(h, c, due, e) == -1) {
		handoff_free(h);
		return -1;
	}
	complete(h);
	*out = h;
	return 0;
}

/* ---- packing ---- */

static int write_all(int fd, const void *from, size_t n, struct error *e)
{
	const char *p = from;
	while (n) {
		const ssize_t done = write(fd, p, n);
		if (done == -1 && errno == EINTR)
			continue;
		if (done == -1)
			return error_sys(e, errno, "cannot write the files of a role to memory");
		p += done;
		n -= (size_t)done;
	}
	return 0;
}

static int pack_into(int fd, const struct handoff *h, struct error *e)
{
	const uint32_t count = (uint32_t)h->count;
	uint64_t total = 0;
	for (size_t i = 0; i < h->count; i++)
		total += h->blobs[i].n;
	if (total > HANDOFF_MAX / 2 || h->count > BLOBS_MAX)
		return error_set(e, ERROR_INPUT, "the files of a role are larger than %u MiB together",
		                 HANDOFF_MAX / 2 >> 20);
	if (write_all(fd, magic, sizeof magic, e) == -1 || write_all(fd, &count, sizeof count, e) == -1)
		return -1;
	for (size_t i = 0; i < h->count; i++) {
		const struct blob *b = &h->blobs[i];
		const struct entry_head head = { (uint32_t)strlen(b->kind), (uint32_t)strlen(b->title),
			                         (uint32_t)b->n };
		if (write_all(fd, &head, sizeof head, e) == -1 || write_all(fd, b->kind, head.kind, e) == -1 ||
		    write_all(fd, b->title, head.title, e) == -1 || write_all(fd, b->bytes, b->n, e) == -1)
			return -1;
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == -1)
		return error_sys(e, errno, "cannot seal the files of a role");
	return 0;
}

int handoff_pack(const struct handoff *h, struct error *e)
{
	struct error ignored;
	e = e ? e : &ignored;
	const int fd = memfd_create("postrider-handoff", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd == -1)
		return error_sys(e, errno, "cannot make a memory file");
	if (pack_into(fd, h, e) == -1) {
		close(fd);
		return -1;
	}
	return fd;
}

/* ---- unpacking ---- */

static int broken(struct error *e)
{
	return error_set(e, ERROR_PEER, "the files handed over are broken");
}

/* The next n octets of v, or false when it has fewer. */
static bool cut(struct view *v, size_t n, struct view *piece)
{
	if (v->n < n)
		return false;
	*piece = view_slice(*v, 0, n);
	*v = view_slice(*v, n, v->n);
	return true;
}

static int unpack_from(struct handoff *h, struct view v, struct error *e)
{
	struct view piece, kind, title, content;
	uint32_t count;
	if (!cut(&v, sizeof magic, &piece) || memcmp(piece.p, magic, sizeof magic) != 0 ||
	    !cut(&v, sizeof count, &piece))
		return broken(e);
	memcpy(&count, piece.p, sizeof count);
	if (count > BLOBS_MAX)
		return broken(e);
	for (uint32_t i = 0; i < count; i++) {
		struct entry_head head;
		if (!cut(&v, sizeof head, &piece))
			return broken(e);
		memcpy(&head, piece.p, sizeof head);
		if (head.kind == 0 || head.kind > KIND_MAX || head.title > TITLE_MAX || head.size > BLOB_MAX ||
		    !cut(&v, head.kind, &kind) || !cut(&v, head.title, &title) || !cut(&v, head.size, &content))
			return broken(e);
		if (memchr(kind.p, '\0', kind.n) || (title.n && memchr(title.p, '\0', title.n)))
			return broken(e);
		if (add(h, kind, title, content, e) == -1)
			return -1;
	}
	if (v.n)
		return broken(e);
	complete(h);
	/* two of one name: it would be chance which of them is found */
	for (size_t i = 1; i < h->count; i++)
		if (by_name(&h->blobs[i - 1], &h->blobs[i]) == 0)
			return broken(e);
	return 0;
}

/* From offset 0: the packer's file offset, which is shared, stands at the end. */
static int read_memory(int fd, struct buf *to, struct error *e)
{
	for (off_t at = 0;;) {
		if (!buf_reserve(to, 65536))
			return error_set(e, ERROR_PEER, "the files handed over are too large, or memory is out");
		const ssize_t n = pread(fd, buf_tail(to), buf_room(to), at);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return error_sys(e, errno, "the files handed over cannot be read");
		if (n == 0)
			return 0;
		buf_commit(to, (size_t)n);
		at += n;
	}
}

int handoff_unpack(struct handoff **out, int fd, struct error *e)
{
	struct error ignored;
	struct buf all;
	e = e ? e : &ignored;
	*out = NULL;
	buf_init(&all, &alloc_libc, HANDOFF_MAX);
	struct handoff *h = calloc(1, sizeof *h);
	int rc = h ? read_memory(fd, &all, e) : no_memory(e);
	close(fd);
	if (rc == 0)
		rc = unpack_from(h, buf_view(&all), e);
	buf_free(&all);
	if (rc == -1) {
		handoff_free(h);
		return -1;
	}
	*out = h;
	return 0;
}
