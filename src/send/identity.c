/* identity.c - the certificates that `send` shows to servers that ask for one, and the line to `keys` that signs for them.
 *
 * Each has a TLS context of its own a loop, so that what one has resumed is never used under another's name.  One whose key is not
 * there, or does not answer, is not shown: the server then decides whether it wants us without, which is better than a
 * handshake that breaks on our side.
 */
#include "send/send.h"

#include <stdlib.h>

static void tell_broken(const struct sender *s, size_t nth, const char *why)
{
	const struct role *role = send_role_of(s);

	if (s->index == 0) /* the others see the same */
		EMIT(role->events, CERTIFICATE_BROKEN, F_STR("title", role->conf->certificates[nth].title), F_STR("listener", ""), F_STR("reason", why));
}

int send_identity_init(struct sender *s, struct error *e)
{
	const struct role *role = send_role_of(s);
	struct tls_signer signer;
	struct error why;

	signer_init(&s->keys, s->loop, WIRE_KEY_SIGN, WIRE_KEY_SIGNED);
	signer = sign_client_signer(&s->keys.client);
	if (role->single)
		signer = (struct tls_signer){ .sign = role->sign, .arg = role->sign_arg };
	s->identities = calloc(role->conf->certificate_count + 1, sizeof *s->identities);
	if (!s->identities)
		return error_set(e, ERROR_AGAIN, "no memory");
	for (size_t i = 0; i < role->conf->certificate_count; i++) {
		if (!conf_client_shows(role->conf, i))
			continue;
		s->identities[i].tls = tls_client_with(s->tls, handoff_get(role->files, "chain", role->conf->certificates[i].title), (uint32_t)i,
		                                       &signer, &why);
		if (s->identities[i].tls)
			s->has_identities = true;
		else
			tell_broken(s, i, why.text);
	}
	if (role->single) {
		send_identity_keys(s, -1);
		s->keys_known = true;
	}
	return 0;
}

void send_identity_keys(struct sender *s, int fd)
{
	struct error why;

	if (fd != -1)
		signer_set_fd(&s->keys, fd);
	for (size_t i = 0; i < send_role_of(s)->conf->certificate_count; i++) {
		struct identity *id = &s->identities[i];

		id->works = id->tls && tls_server_check(id->tls, 0, &why) == 0;
		if (id->tls && !id->works)
			tell_broken(s, i, why.text);
	}
}

struct tls_context *send_identity_context(const struct sender *s, const char *title)
{
	long at = title ? conf_find_certificate(send_role_of(s)->conf, title) : -1;

	if (at == -1 || !s->identities[at].works || (!send_role_of(s)->single && !signer_is_open(&s->keys)))
		return s->tls;
	return s->identities[at].tls;
}

void send_identity_free(struct sender *s)
{
	signer_free(&s->keys);
	for (size_t i = 0; s->identities && i < send_role_of(s)->conf->certificate_count; i++)
		tls_context_free(s->identities[i].tls);
	free(s->identities);
}
