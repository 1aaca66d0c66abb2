/* seal.c - see seal.h.  One section after the other: each signature is over the mail as it was, and its field goes on top. */
#include "policy/seal.h"

#include "mail/dkim.h"
#include "tls/tls.h"

#include <openssl/evp.h>
#include <unistd.h>

#define SEAL_OCTETS_MAX (1u << 20) /* of a mail and its canonical form: ours are reports that fit one window of a body */

static void sign_next(struct seal *s);

static bool base64(struct view octets, struct buf *to)
{
	size_t n = (octets.n + 2) / 3 * 4;

	if (!buf_reserve(to, n + 1)) /* EVP_EncodeBlock ends with a NUL */
		return false;
	EVP_EncodeBlock(buf_tail(to), (const unsigned char *)octets.p, (int)octets.n);
	buf_commit(to, n);
	return true;
}

static bool hash(struct view octets, unsigned char to[32])
{
	return EVP_Digest(octets.p ? octets.p : "", octets.n, to, NULL, EVP_sha256(), NULL) == 1;
}

/* The header without the empty line; the body. */
static void split(struct view mail, struct view *header, struct view *body)
{
	const char *at = memmem(mail.p, mail.n, "\r\n\r\n", 4);
	size_t n = at ? (size_t)(at - mail.p) + 2 : mail.n;

	*header = view_slice(mail, 0, n);
	*body = view_slice(mail, n + 2, mail.n);
}

static void unlink_seal(struct seal *s)
{
	struct seal **at = &s->room->seals;

	while (*at && *at != s)
		at = &(*at)->next;
	if (*at)
		*at = s->next;
	s->room = NULL;
}

static void end(struct seal *s, enum seal_end how, const char *why)
{
	unlink_seal(s);
	s->done(s->arg, how, why);
}

/* ---- one signature ---- */

static bool prepare(struct seal *s, const struct conf_dkim *section, unsigned char digest[32])
{
	struct view header, body;
	struct mail_dkim d = { .algorithm = section->set.algorithm == CONF_DKIM_ED25519 ? VIEW("ed25519-sha256") : VIEW("rsa-sha256"),
		.domain = view_cstr(section->set.domain), .selector = view_cstr(section->title), .time_s = policy_now(s->room) };
	struct buf text;
	bool ok;

	split(buf_view(&s->mail), &header, &body);
	buf_clear(&s->field);
	buf_clear(&s->octets);
	buf_init(&text, &alloc_libc, 64);
	ok = mail_dkim_body(body, &s->octets) && hash(buf_view(&s->octets), digest) && base64(view_of((const char *)digest, 32), &text);
	d.body_hash = buf_view(&text);
	buf_clear(&s->octets);
	ok = ok && mail_dkim_begin(&d, header, &s->field) && mail_dkim_octets(header, buf_view(&s->field), &s->octets) &&
	     hash(buf_view(&s->octets), digest);
	buf_free(&text);
	return ok;
}

static void ask(struct seal *s)
{
	const struct conf *conf = s->room->role->conf;
	const struct conf_dkim *section = &conf->dkim[s->section];
	unsigned char digest[32];
	struct wire_KEY_SIGN m = { .stream = s->stream = ++s->room->seal_stream, .key = (uint32_t)(conf->certificate_count + s->section),
		.digest = TLS_DIGEST_SHA256, .padding = section->set.algorithm == CONF_DKIM_ED25519 ? TLS_PADDING_NONE : TLS_PADDING_PKCS1,
		.hash = view_of((const char *)digest, sizeof digest) };

	if (!prepare(s, section, digest))
		end(s, SEAL_FAILED, "no memory for its signature");
	else if (!s->room->keys || !wire_send_KEY_SIGN(s->room->keys, &m))
		end(s, SEAL_FAILED, "the role keys is not there to sign it");
}

static void take_signature(struct seal *s, const struct wire_KEY_SIGNED *m)
{
	struct buf text;
	bool ok = m->ok && m->signature.n > 0;

	buf_init(&text, &alloc_libc, 2 * TLS_SIGNATURE_MAX);
	ok = ok && base64(m->signature, &text) && mail_dkim_finish(buf_view(&text), &s->field) && buf_add(&s->fields, buf_view(&s->field));
	buf_free(&text);
	if (!ok) {
		end(s, SEAL_FAILED, "it could not be signed: is the key of its dkim section in order?");
		return;
	}
	s->section++;
	sign_next(s);
}

/* All that sign for the author have: the fields go on top. */
static void sign_next(struct seal *s)
{
	const struct conf *conf = s->room->role->conf;

	while (s->section < conf->dkim_count && !conf_dkim_signs(&conf->dkim[s->section], s->author))
		s->section++;
	if (s->section < conf->dkim_count) {
		ask(s);
		return;
	}
	if (buf_add(&s->fields, buf_view(&s->mail)))
		end(s, SEAL_OK, "");
	else
		end(s, SEAL_FAILED, "no memory for its signature");
}

/* ---- the calls ---- */

void seal_start(struct seal *s, struct policy *room, const char *author, struct view mail, void (*done)(void *arg, enum seal_end, const char *why), void *arg)
{
	*s = (struct seal){ .next = room->seals, .room = room, .author = author, .done = done, .arg = arg };
	room->seals = s;
	buf_init(&s->mail, &alloc_libc, SEAL_OCTETS_MAX);
	buf_init(&s->fields, &alloc_libc, SEAL_OCTETS_MAX);
	buf_init(&s->field, &alloc_libc, SEAL_OCTETS_MAX);
	buf_init(&s->octets, &alloc_libc, SEAL_OCTETS_MAX);
	if (buf_add(&s->mail, mail))
		sign_next(s);
	else
		end(s, SEAL_FAILED, "no memory for its signature");
}

struct view seal_mail(const struct seal *s)
{
	return buf_view(&s->fields);
}

void seal_cancel(struct seal *s)
{
	if (s->room)
		unlink_seal(s);
	if (!s->done)
		return;
	buf_free(&s->mail);
	buf_free(&s->fields);
	buf_free(&s->field);
	buf_free(&s->octets);
	s->done = NULL;
}

/* ---- keys ---- */

static void on_frame(void *arg, struct channel *ch, uint32_t type, struct view payload, int fd)
{
	struct policy *room = arg;
	struct wire_KEY_SIGNED m;

	(void)ch;
	if (fd != -1)
		close(fd);
	if (type != WIRE_KEY_SIGNED || wire_read_KEY_SIGNED(payload, &m) == -1)
		return;
	for (struct seal *s = room->seals; s; s = s->next)
		if (s->stream == m.stream) {
			take_signature(s, &m);
			return;
		}
}

static void on_closed(void *arg, struct channel *ch)
{
	struct policy *room = arg;

	channel_free(ch);
	room->keys = NULL;
	while (room->seals)
		end(room->seals, SEAL_FAILED, "the role keys went away");
}

void seal_forget(struct policy *room)
{
	while (room->seals)
		end(room->seals, SEAL_FAILED, "the configuration changed while it was signed");
}

void seal_channel(struct policy *room, struct channel *ch)
{
	static const struct channel_handler handler = { on_frame, on_closed, NULL };

	if (room->keys)
		on_closed(room, room->keys);
	room->keys = ch;
	channel_set_handler(ch, &handler, room);
}

void seal_stop(struct policy *room)
{
	if (room->keys)
		channel_free(room->keys);
	room->keys = NULL;
}
