/* certificates.c - see certificates.h. */
#include "wire/certificates.h"

_Static_assert(CONF_CERTIFICATES_MAX <= TLS_CERTIFICATES_MAX && CONF_CERTIFICATES_MAX <= 64, "all fit, and into the bits");

static const char *title_of(const struct role *role, const struct certificates_shown *s, size_t nth)
{
	return role->conf->certificates[s->certificates[nth]].title;
}

static void tell_broken(const struct role *role, const struct certificates_shown *s, size_t nth, const char *why)
{
	if (!s->silent)
		EMIT(role->events, CERTIFICATE_BROKEN, F_STR("title", title_of(role, s, nth)), F_STR("listener", s->title), F_STR("reason", why));
}

void certificates_check(const struct role *role, const struct certificates_shown *s, struct tls_context *context, uint64_t *broken)
{
	struct error e = { 0 };

	for (unsigned n = 0; context && n < s->n; n++) {
		bool is = tls_server_check(context, n, &e) == -1, was = *broken >> n & 1;

		if (is && !was)
			tell_broken(role, s, n, e.text);
		*broken = (*broken & ~(UINT64_C(1) << n)) | (uint64_t)is << n;
	}
}

struct tls_context *certificates_context(const struct role *role, const struct certificates_shown *s)
{
	struct tls_server_certificate certificates[CONF_CERTIFICATES_MAX];
	struct tls_server_options o = {
		.certificates = certificates,
		.certificates_n = (unsigned)s->n,
		.signer = sign_client_signer(&s->keys->client),
		.tickets = s->tickets,
		.session_context = view_cstr(s->title),
		.policy = s->policy,
		.clients = s->clients,
	};
	struct error e = { 0 };
	struct tls_context *c;

	for (size_t i = 0; i < s->n; i++)
		certificates[i] = (struct tls_server_certificate){ .chain = handoff_get(role->files, "chain", title_of(role, s, i)),
			                                           .key = s->certificates[i] };
	if (role->single)
		o.signer = (struct tls_signer){ .sign = role->sign, .arg = role->sign_arg };
	c = tls_server_new(&o, &e);
	if (!c)
		tell_broken(role, s, 0, e.text);
	return c;
}
