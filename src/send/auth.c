/* auth.c - SASL for smart hosts: the mechanisms are gsasl's, the exchange is libpsmtp's, the credentials come from super. */
#include "send/send.h"

#include <gsasl.h>
#include <stdlib.h>

struct auth {
	Gsasl *library;
	Gsasl_session *session;
	char *answer;
	size_t length;
};

static struct view first_line(struct view text)
{
	text = view_slice(text, 0, view_find(text, '\n'));
	if (text.n && text.p[text.n - 1] == '\r')
		text.n--;
	return text;
}

static void set_property(struct auth *a, Gsasl_property what, struct view v)
{
	gsasl_property_set_raw(a->session, what, v.p, v.n);
}

struct auth *send_auth_new(const char *mechanism, struct view credentials, struct error *e)
{
	struct auth *a = calloc(1, sizeof *a);
	struct view line = first_line(credentials);
	size_t colon = view_find(line, ':');

	if (!a) {
		error_set(e, ERROR_AGAIN, "no memory");
		return NULL;
	}
	if (colon == line.n) {
		error_set(e, ERROR_INPUT, "the credentials are not of the form user:password");
		send_auth_free(a);
		return NULL;
	}
	if (gsasl_init(&a->library) != GSASL_OK || gsasl_client_start(a->library, mechanism, &a->session) != GSASL_OK) {
		error_set(e, ERROR_OURS, "gsasl has no mechanism %s", mechanism);
		send_auth_free(a);
		return NULL;
	}
	set_property(a, GSASL_AUTHID, view_slice(line, 0, colon));
	set_property(a, GSASL_PASSWORD, view_slice(line, colon + 1, line.n));
	return a;
}

static void forget_answer(struct auth *a)
{
	if (a->answer) {
		explicit_bzero(a->answer, a->length);
		gsasl_free(a->answer);
	}
	a->answer = NULL;
	a->length = 0;
}

int send_auth_step(struct auth *a, struct view challenge, struct view *answer)
{
	int r;

	forget_answer(a);
	r = gsasl_step(a->session, challenge.p, challenge.n, &a->answer, &a->length);
	if (r != GSASL_OK && r != GSASL_NEEDS_MORE)
		return -1;
	*answer = view_of(a->answer ? a->answer : "", a->length);
	return 0;
}

void send_auth_free(struct auth *a)
{
	if (!a)
		return;
	forget_answer(a);
	if (a->session)
		gsasl_finish(a->session);
	if (a->library)
		gsasl_done(a->library);
	free(a);
}
