/* local.c - the role: channels of `queue` and `receive`, and (as root) of workers; see local.h. */
#include "local/local.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void local_check_drained(struct local *l)
{
	if (l->drained || l->deliveries || !(l->draining || (l->role->kind == ROLE_WORKER && !l->peers)))
		return;
	l->drained = true;
	l->role->drained(l->role);
}

/* ---- receive asks ---- */

static enum wire_rcpt_verdict judge(struct local *l, const struct wire_RCPT_CHECK *m)
{
	const struct conf_domain *domain = conf_find_domain(l->role->conf, m->domain);
	struct mailbox box;

	if (!domain || domain->hop.delivery.kind != CONF_DELIVER_MAILDIR)
		return WIRE_RCPT_AGAIN; /* configurations differ for a moment during a reload */
	switch (local_mailbox_find(domain->hop.delivery.path, m->user, false, &box)) {
	case MAILBOX_KNOWN: return WIRE_RCPT_YES;
	case MAILBOX_UNKNOWN: return WIRE_RCPT_NO;
	case MAILBOX_UNREADABLE: break;
	}
	return WIRE_RCPT_AGAIN;
}

static bool receive_frame(struct local_peer *peer, uint32_t type, struct view payload)
{
	struct wire_RCPT_CHECK m;
	struct wire_RCPT_VERDICT v;

	if (type != WIRE_RCPT_CHECK || wire_read_RCPT_CHECK(payload, &m) == -1)
		return false;
	v = (struct wire_RCPT_VERDICT){ .stream = m.stream, .verdict = (uint8_t)judge(peer->local, &m) };
	wire_send_RCPT_VERDICT(peer->channel, &v); /* one that has gone meanwhile, as roles do, did nothing wrong */
	return true;
}

/* ---- queue delivers ---- */

static bool start_delivery(struct local_peer *peer, struct view payload)
{
	struct local *l = peer->local;
	struct wire_DELIVER m;
	struct delivery *d;

	if (wire_read_DELIVER(payload, &m) == -1 || local_delivery_find(l, peer->channel, m.stream))
		return false;
	d = local_delivery_new(l, peer->channel, &m);
	if (!d)
		return false;
	if (l->broker)
		local_broker_start(d, &m);
	return true;
}

static bool more_bytes(struct local_peer *peer, struct view payload)
{
	struct local *l = peer->local;
	struct wire_DELIVER_BYTES m;
	struct wire_DELIVER_CREDIT credit;
	struct delivery *d;

	if (wire_read_DELIVER_BYTES(payload, &m) == -1)
		return false;
	d = local_delivery_find(l, peer->channel, m.stream);
	if (!d || d->complete)
		return d == NULL; /* answered already: the rest of it is of no interest */
	if (l->broker) {
		local_broker_bytes(d, &m);
		return true;
	}
	local_delivery_bytes(d, m.bytes);
	credit = (struct wire_DELIVER_CREDIT){ .stream = m.stream, .bytes = (uint32_t)m.bytes.n };
	if (!m.last && m.bytes.n)
		wire_send_DELIVER_CREDIT(peer->channel, &credit);
	if (m.last) {
		d->complete = true;
		local_delivery_complete(d);
	}
	return true;
}

static bool abort_delivery(struct local_peer *peer, struct view payload)
{
	struct wire_DELIVER_ABORT m;
	struct delivery *d;

	if (wire_read_DELIVER_ABORT(payload, &m) == -1)
		return false;
	d = local_delivery_find(peer->local, peer->channel, m.stream);
	if (d && peer->local->broker)
		local_broker_abort(d);
	else if (d && !d->complete)
		local_delivery_free(d);
	local_check_drained(peer->local);
	return true;
}

static bool queue_frame(struct local_peer *peer, uint32_t type, struct view payload)
{
	switch (type) {
	case WIRE_DELIVER: return start_delivery(peer, payload);
	case WIRE_DELIVER_BYTES: return more_bytes(peer, payload);
	case WIRE_DELIVER_ABORT: return abort_delivery(peer, payload);
	default: return false;
	}
}

/* ---- channels ---- */

static void drop_peer(struct local_peer *peer)
{
	struct local *l = peer->local;
	struct local_peer **at = &l->peers;
	struct delivery *d, *next;

	for (d = l->deliveries; d; d = next) {
		next = d->next;
		if (d->from != peer->channel)
			continue;
		d->from = NULL;
		if (!d->complete && l->broker)
			local_broker_abort(d);
		else if (!d->complete)
			local_delivery_free(d); /* the queue has it still; nothing was delivered */
	}
	while (*at != peer)
		at = &(*at)->next;
	*at = peer->next;
	channel_free(peer->channel);
	free(peer);
	local_check_drained(l);
}

static void accuse(struct local_peer *peer)
{
	wire_accuse(peer->local->role, peer->kind, peer->generation);
}

static void on_peer_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct local_peer *peer = arg;

	(void)ch;
	if (fd != -1)
		close(fd);
	if (peer->kind == ROLE_RECEIVE ? receive_frame(peer, type, payload) : queue_frame(peer, type, payload))
		return;
	EMIT(peer->local->role->events, FRAME_REFUSED, F_STR("peer", role_name(peer->kind)), F_STR("frame", wire_name(type)),
	     F_STR("reason", "unexpected or malformed"));
	accuse(peer);
	drop_peer(peer);
}

static void on_peer_closed(void *arg, struct channel *ch)
{
	if (channel_was_broken(ch))
		accuse(arg);
	drop_peer(arg);
}

static const struct channel_handler peer_handler = { on_peer_frame, on_peer_closed, NULL };

static void on_channel(struct role *role, enum role_kind kind, uint32_t index, uint32_t generation, struct channel *ch)
{
	struct local *l = role->state;
	struct local_peer *peer = calloc(1, sizeof *peer);

	(void)index;
	if (!peer) {
		channel_free(ch);
		return;
	}
	*peer = (struct local_peer){ .next = l->peers, .local = l, .channel = ch, .kind = kind, .generation = generation };
	l->peers = peer;
	channel_set_handler(ch, &peer_handler, peer);
}

static void on_frame(struct role *role, uint32_t type, struct view payload, int fd)
{
	struct local *l = role->state;
	struct wire_WORKER up;
	struct wire_NO_WORKER no;
	struct channel *ch;

	if (type == WIRE_WORKER && fd != -1 && wire_read_WORKER(payload, &up) == 0) {
		ch = channel_new(role->loop, fd);
		if (ch) {
			local_broker_worker_up(l, up.uid, ch);
			return;
		}
		close(fd);
		local_broker_worker_refused(l, up.uid, VIEW("no memory for a channel"));
		return;
	}
	if (fd != -1)
		close(fd);
	if (type == WIRE_NO_WORKER && wire_read_NO_WORKER(payload, &no) == 0)
		local_broker_worker_refused(l, no.uid, no.reason);
}

/* ---- life ---- */

/* The fixed part of a template's path is made when missing, while that is still allowed: confinement can only permit
 * what exists. */
static void make_root(struct role *role, const char *template)
{
	char path[MAILBOX_PATH];
	const char *mark = strstr(template, "%{");
	size_t n = mark ? (size_t)(mark - template) : strlen(template);

	if (n >= sizeof path)
		return;
	memcpy(path, template, n);
	path[n] = 0;
	for (char *p = path + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = 0;
		if (mkdir(path, 0755) == -1 && errno != EEXIST)
			EMIT(role->events, FAULT, F_STR("where", path), F_STR("reason", strerror(errno)));
		*p = '/';
	}
}

static int prepare(struct role *role, struct error *e)
{
	struct local *l = calloc(1, sizeof *l);

	if (!l)
		return error_set(e, ERROR_AGAIN, "no memory");
	l->role = role;
	role->state = l;
	l->broker = role->kind == ROLE_LOCAL && geteuid() == 0 && !role->single;
	for (size_t i = 0; i < role->conf->domain_count; i++)
		if (role->kind == ROLE_LOCAL && role->conf->domains[i].hop.delivery.kind == CONF_DELIVER_MAILDIR)
			make_root(role, role->conf->domains[i].hop.delivery.path);
	return 0;
}

static int start(struct role *role, struct error *e)
{
	struct local *l = role->state;

	l->pool = local_pool_new(role->loop, role->single || l->broker ? 0 : LOCAL_THREADS);
	return l->pool ? 0 : error_set(e, ERROR_AGAIN, "no memory for threads");
}

static int reload(struct role *role, const struct conf *conf, const struct handoff *files, struct error *e)
{
	(void)e;
	role->conf = conf;
	role->files = files;
	return 0;
}

static void drain(struct role *role, uint32_t grace_ms)
{
	struct local *l = role->state;

	(void)grace_ms; /* a delivery in flight takes as long as the disk does; super's patience is the limit */
	l->draining = true;
	local_check_drained(l);
}

static void stop(struct role *role)
{
	struct local *l = role->state;

	if (!l)
		return;
	local_pool_free(l->pool);
	while (l->deliveries && !l->broker)
		local_delivery_free(l->deliveries);
	while (l->deliveries)
		local_broker_abort(l->deliveries);
	while (l->peers) {
		struct local_peer *peer = l->peers;
		l->peers = peer->next;
		channel_free(peer->channel);
		free(peer);
	}
	local_broker_stop(l);
	free(l);
	role->state = NULL;
}

const struct role_ops local_role = {
	.kind = ROLE_LOCAL, .prepare = prepare, .start = start, .channel = on_channel, .frame = on_frame, .reload = reload,
	.drain = drain, .stop = stop,
};
