/* delivery.c - one delivery to the mailboxes of a domain: body collected, then each recipient's Maildir on the pool.
 *
 * A recipient is delivered, failed for good (no such mailbox, a loop) or deferred (everything else: 4xx, since a full
 * or broken disk is never the sender's fault).  Mailboxes are independent: one that is full defers only itself.
 */
#include "local/local.h"

#include "conf/users.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <psmtp.h>

void local_delivery_decide(struct delivery_rcpt *r, enum wire_result_kind kind, unsigned code, unsigned subject, unsigned detail,
                     const char *text)
{
	if (r->decided)
		return;
	snprintf(r->text, sizeof r->text, "%s", text);
	r->result = (struct wire_result){
		.kind = (uint8_t)kind,
		.code = (uint16_t)code,
		.enhanced = { (uint16_t)(code / 100), (uint16_t)subject, (uint16_t)detail },
		.text = view_cstr(r->text),
		.local = 1,
	};
	r->decided = true;
	r->valid = false;
}

/* Local part without quotes: what the mailbox is called.  Empty when the address is none. */
static struct view user_of(struct view address, char to[64])
{
	struct psmtp_address a;
	struct psmtp_view v = { address.p, address.n };

	if (psmtp_address_parse(v, PSMTP_ADDRESS_BARE | PSMTP_ADDRESS_UTF8 | PSMTP_ADDRESS_POSTMASTER, &a) == -1 || a.local.n > 64)
		return VIEW("");
	return view_of(to, psmtp_local_unquote(a.local, to));
}

static void find_mailbox(struct delivery *d, struct delivery_rcpt *r, const char *template, const char *domain)
{
	const struct role *role = d->local->role;
	char user_text[64];
	struct view user = user_of(r->address, user_text);
	bool make = view_eq_nocase(user, VIEW("postmaster")) ||
	            (domain && conf_users_has(handoff_get(role->files, "users", domain), user));

	switch (local_mailbox_find(template, user, make, &r->mailbox)) {
	case MAILBOX_KNOWN: r->valid = true; break;
	case MAILBOX_UNKNOWN: local_delivery_decide(r, WIRE_FAILED, 550, 1, 1, "no such mailbox"); break;
	case MAILBOX_UNREADABLE: local_delivery_decide(r, WIRE_DEFERRED, 451, 2, 0, "the mailbox cannot be reached now"); break;
	}
}

static bool copy_recipients(struct delivery *d, const struct wire_DELIVER *m)
{
	struct view list;
	struct wire_rcpt r;
	int more;
	size_t i = 0;

	d->memory = malloc(m->sender.n + m->rcpts.n + 1);
	if (!d->memory)
		return false;
	memcpy(d->memory, m->sender.p, m->sender.n);
	memcpy(d->memory + m->sender.n, m->rcpts.p, m->rcpts.n);
	d->sender = view_of(d->memory, m->sender.n);
	for (list = view_of(d->memory + m->sender.n, m->rcpts.n); (more = wire_rcpt_next(&list, &r)) == 1;)
		d->count++;
	if (more == -1 || d->count == 0)
		return false;
	d->rcpts = calloc(d->count, sizeof *d->rcpts);
	if (!d->rcpts)
		return false;
	for (list = view_of(d->memory + m->sender.n, m->rcpts.n); wire_rcpt_next(&list, &r) == 1; i++) {
		d->rcpts[i].delivery = d;
		d->rcpts[i].address = r.address;
	}
	return true;
}

static const char *template_of(const struct conf *conf, const struct route_dest *dest, const char **domain)
{
	const struct conf_domain *section;

	*domain = dest->domain;
	if (dest->hop.delivery.kind != CONF_DELIVER_MAILDIR)
		return NULL;
	if (!dest->domain)
		return dest->hop.delivery.path;
	section = conf_find_domain(conf, view_cstr(dest->domain));
	return section && section->hop.delivery.kind == CONF_DELIVER_MAILDIR ? section->hop.delivery.path : NULL;
}

struct delivery *local_delivery_new(struct local *l, struct channel *from, const struct wire_DELIVER *m)
{
	struct delivery *d = calloc(1, sizeof *d);
	struct route_dest *dest = malloc(sizeof *dest);
	const char *template = NULL, *domain = NULL;

	if (!d || !dest || !copy_recipients(d, m)) {
		if (d)
			free(d->memory);
		free(d);
		free(dest);
		return NULL;
	}
	d->local = l;
	d->from = from;
	d->stream = m->stream;
	d->flags = m->flags;
	d->source = (struct maildir_source){ .fd = -1, .binary = m->flags & WIRE_BINARY };
	buf_init(&d->body, &alloc_libc, LOCAL_MEMORY_BODY + WIRE_BODY_FRAME);
	d->next = l->deliveries;
	l->deliveries = d;
	if (route_dest_parse(m->dest, dest) == 0)
		template = template_of(l->role->conf, dest, &domain);
	for (size_t i = 0; i < d->count; i++)
		if (template)
			find_mailbox(d, &d->rcpts[i], template, domain);
		else /* the configuration changed since it was queued: the queue routes it anew */
			local_delivery_decide(&d->rcpts[i], WIRE_DEFERRED, 451, 3, 5, "this destination is not a mailbox any more");
	free(dest);
	return d;
}

struct delivery *local_delivery_find(struct local *l, struct channel *from, uint64_t stream)
{
	for (struct delivery *d = l->deliveries; d; d = d->next)
		if (d->from == from && d->stream == stream)
			return d;
	return NULL;
}

void local_delivery_free(struct delivery *d)
{
	const struct env_disk *disk = &d->local->role->env->disk;
	struct delivery **at = &d->local->deliveries;

	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	if (d->source.fd != -1)
		disk->close(disk->arg, d->source.fd);
	for (size_t i = 0; i < d->count; i++)
		free(d->rcpts[i].header);
	buf_free(&d->body);
	free(d->rcpts);
	free(d->memory);
	free(d);
}

void local_delivery_answer(struct delivery *d)
{
	struct wire_OUTCOME m = { .stream = d->stream };
	struct buf list;
	struct local *l = d->local;
	bool ok = true;

	buf_init(&list, &alloc_libc, CHANNEL_FRAME_MAX);
	for (size_t i = 0; i < d->count; i++)
		ok = ok && wire_result_add(&list, &d->rcpts[i].result);
	/* Without memory for the results an answer without them makes the queue end the channel and take all as undecided: better
	 * than a delivery that never ends. */
	m.results = ok ? buf_view(&list) : VIEW("");
	if (d->from && (!wire_send_OUTCOME(d->from, &m) || !ok) && channel_is_open(d->from))
		EMIT(l->role->events, FAULT, F_STR("where", "local"), F_STR("reason", "an outcome could not be told"));
	buf_free(&list);
	local_delivery_free(d);
	local_check_drained(l);
}

/* ---- the body ---- */

static void fail_body(struct delivery *d, const struct error *e)
{
	d->failed = true;
	snprintf(d->failure, sizeof d->failure, "%s", e->text);
}

/* The same on a file system without O_TMPFILE: a name that lives for a moment. */
static int open_unlinked(const struct env *env, const char *mailbox)
{
	const struct env_disk *disk = &env->disk;
	char path[MAILBOX_PATH + 64];
	int fd;

	snprintf(path, sizeof path, "%s/tmp/body_%016llx", mailbox, (unsigned long long)env_random_u64(env));
	fd = disk->open(disk->arg, path, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd != -1)
		disk->unlink(disk->arg, path);
	return fd;
}

/* A file without a name in the first mailbox's file system, so that nothing is left behind by a crash. */
static int spill(struct delivery *d, struct error *e)
{
	const struct env_disk *disk = &d->local->role->env->disk;
	struct view small = buf_view(&d->body);
	size_t i = 0;

	while (i < d->count && !d->rcpts[i].valid)
		i++;
	if (i == d->count)
		return error_set(e, ERROR_INPUT, "no mailbox");
	if (local_maildir_make(d->local->role->env, d->rcpts[i].mailbox.path, e) == -1)
		return -1;
	d->source.fd = disk->open(disk->arg, d->rcpts[i].mailbox.path, O_TMPFILE | O_RDWR, 0600);
	if (d->source.fd == -1 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))
		d->source.fd = open_unlinked(d->local->role->env, d->rcpts[i].mailbox.path);
	if (d->source.fd == -1)
		return error_sys(e, errno, "make a file in %s", d->rcpts[i].mailbox.path);
	if (small.n && disk->pwrite(disk->arg, d->source.fd, small.p, small.n, 0) != (ssize_t)small.n)
		return error_set(e, ERROR_FULL, "write the body: no space");
	if (small.n > LOCAL_HEADER)
		d->body.wr = d->body.rd + LOCAL_HEADER; /* what the loop check needs */
	return 0;
}

void local_delivery_bytes(struct delivery *d, struct view bytes)
{
	const struct env_disk *disk = &d->local->role->env->disk;
	struct error e = { 0 };

	if (d->failed)
		return;
	if (d->source.fd == -1 && d->size + bytes.n > LOCAL_MEMORY_BODY && spill(d, &e) == -1) {
		fail_body(d, &e);
		return;
	}
	if (d->source.fd == -1) {
		if (!buf_add(&d->body, bytes))
			fail_body(d, &(struct error){ .text = "no memory" });
	} else if (buf_len(&d->body) < LOCAL_HEADER && !buf_add(&d->body, view_slice(bytes, 0, LOCAL_HEADER - buf_len(&d->body)))) {
		fail_body(d, &(struct error){ .text = "no memory" });
	} else if (disk->pwrite(disk->arg, d->source.fd, bytes.p, bytes.n, (off_t)d->size) != (ssize_t)bytes.n) {
		fail_body(d, &(struct error){ .text = "write the body: no space" });
	}
	d->size += bytes.n;
}

/* ---- Delivered-To: a message that was here before (forwarding loops end with 5.4.6) ---- */

static struct view take_line(struct view *from)
{
	size_t end = view_find(*from, '\n');
	struct view line = view_slice(*from, 0, end);

	*from = view_slice(*from, end + 1, from->n);
	if (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	return line;
}

static bool was_here(struct view header, struct view address)
{
	static const char name[] = "delivered-to:";

	while (header.n) {
		struct view line = take_line(&header), value;
		if (line.n == 0)
			return false; /* the header ends */
		if (!view_starts_nocase(line, view_of(name, sizeof name - 1)))
			continue;
		value = view_trim(view_slice(line, sizeof name - 1, line.n));
		if (value.n == 0 && header.n && (header.p[0] == ' ' || header.p[0] == '\t'))
			value = view_trim(take_line(&header)); /* folded on its way (RFC 5322 2.2.3) */
		if (view_eq_nocase(value, address))
			return true;
	}
	return false;
}

/* ---- deliver ---- */

static void run_job(struct pool_job *job)
{
	struct delivery_rcpt *r = (struct delivery_rcpt *)job; /* the job is its first member */
	struct error e = { 0 };

	if (local_maildir_deliver(r->delivery->local->role->env, &r->maildir, &e) == 0)
		local_delivery_decide(r, WIRE_DELIVERED, 250, 0, 0, "delivered to the mailbox");
	else if (e.class == ERROR_FULL)
		local_delivery_decide(r, WIRE_DEFERRED, 452, 2, 2, e.text);
	else
		local_delivery_decide(r, WIRE_DEFERRED, 451, 2, 0, e.text);
}

static void job_done(struct pool_job *job)
{
	struct delivery *d = ((struct delivery_rcpt *)job)->delivery;

	if (--d->open == 0)
		local_delivery_answer(d);
}

static bool make_header(struct delivery *d, struct delivery_rcpt *r)
{
	size_t room = d->sender.n + r->address.n + 64;

	r->header = malloc(room);
	if (!r->header)
		return false;
	/* RFC 5321 4.4: the final delivery says the reverse-path; addresses were parsed, so they hold no line end */
	snprintf(r->header, room, "Return-Path: <%.*s>\nDelivered-To: %.*s\n", VIEW_ARGS(d->sender), VIEW_ARGS(r->address));
	r->maildir = (struct maildir_job){
		.path = r->mailbox.path,
		.header = view_cstr(r->header),
		.source = &d->source,
		.host = d->local->role->conf->global.hostname,
	};
	r->job.run = run_job;
	r->job.done = job_done;
	return true;
}

void local_delivery_complete(struct delivery *d)
{
	d->source.size = d->size;
	d->source.memory = buf_view(&d->body);
	d->open = 1; /* ours, until all jobs are queued */
	for (size_t i = 0; i < d->count; i++) {
		struct delivery_rcpt *r = &d->rcpts[i];
		if (!r->valid)
			continue;
		if (d->failed)
			local_delivery_decide(r, WIRE_DEFERRED, 452, 3, 1, d->failure);
		else if (was_here(d->source.memory, r->address))
			local_delivery_decide(r, WIRE_FAILED, 554, 4, 6, "mail loop: it was delivered to this mailbox before");
		else if (!make_header(d, r))
			local_delivery_decide(r, WIRE_DEFERRED, 451, 3, 0, "no memory");
		else {
			d->open++;
			local_pool_add(d->local->pool, &r->job);
		}
	}
	if (--d->open == 0)
		local_delivery_answer(d);
}
