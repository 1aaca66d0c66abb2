/* domain_contact.c - connects to every address of every mail host: once to see what is shown, once as `send` would shake hands.
 *
 * The first connection checks nothing, so that the certificates are seen whatever they are.  The second one uses the TLS engine of
 * delivery with what is owed to the host, so its word is the one that decides there.  It is not made where mail may not go anyhow.
 */
#include "probe/domain_inside.h"

#include <openssl/evp.h>
#include <stdio.h>

#define CIPHER_MAX (64u * 1024) /* octets of a handshake that wait to be sent */

const char *domain_place(const struct domain_probe *d, size_t host, unsigned contact, char to[DOMAIN_WORDS])
{
	char where[ADDRESS_TEXT];

	snprintf(to, DOMAIN_WORDS, "%.200s [%s]", d->hosts[host].name,
	         address_host((const struct sockaddr *)&d->about[host].contacts[contact].address.sa, where));
	return to;
}

/* ---- certificates and records ---- */

static bool matches_one(const struct route_tlsa *r, X509 *x)
{
	unsigned char *der = NULL, digest[EVP_MAX_MD_SIZE];
	int n = r->selector == 1 ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der) : i2d_X509(x, &der);
	unsigned digest_n = 0;
	bool same = false;

	if (n > 0 && r->matching == 0)
		same = view_eq(r->data, view_of((char *)der, (size_t)n));
	else if (n > 0 && EVP_Digest(der, (size_t)n, digest, &digest_n, r->matching == 1 ? EVP_sha256() : EVP_sha512(), NULL) == 1)
		same = view_eq(r->data, view_of((char *)digest, digest_n));
	OPENSSL_free(der);
	return same;
}

bool domain_tlsa_matches(const struct route_tlsa *r, STACK_OF(X509) *chain)
{
	/* DANE-EE is the server's own certificate, DANE-TA any in its chain (RFC 7672 3.1) */
	int most = chain ? r->usage == 3 ? 1 : sk_X509_num(chain) : 0;

	for (int i = 0; r->usable && i < most && i < sk_X509_num(chain); i++)
		if (matches_one(r, sk_X509_value(chain, i)))
			return true;
	return false;
}

/* ---- the first connection ---- */

static void look(struct domain_probe *d, struct domain_contact *c)
{
	struct probe_link l;

	if (!probe_open(&d->p, &l)) {
		c->reach = strstr(l.why, "unreachable") ? DOMAIN_NO_ROUTE : DOMAIN_SILENT;
	} else if (!probe_ehlo(&l)) {
		c->reach = DOMAIN_NO_STARTTLS;
	} else if (!probe_has_word(&l.reply, "STARTTLS", NULL)) {
		c->reach = DOMAIN_NO_STARTTLS;
		snprintf(c->why, sizeof c->why, "STARTTLS is not offered");
	} else if (probe_ask(&l, "STARTTLS") != 220) {
		c->reach = DOMAIN_NO_STARTTLS;
	} else if (!probe_shake(&l, NULL)) {
		c->reach = DOMAIN_TLS_BROKE;
	} else {
		STACK_OF(X509) *chain = SSL_get_peer_cert_chain(l.ssl);

		c->reach = DOMAIN_TLS_UP;
		c->chain = chain ? X509_chain_up_ref(chain) : NULL;
		probe_ehlo(&l);
	}
	if (c->reach != DOMAIN_TLS_UP && !c->why[0])
		snprintf(c->why, sizeof c->why, "%s", probe_stuck(&l));
	probe_leave(&l);
}

/* ---- the second ---- */

static bool flush(struct probe_link *l, struct buf *out)
{
	bool ok = true;

	if (buf_len(out)) {
		l->shown = "(octets of TLS)";
		ok = probe_write_clear(l, buf_view(out));
		l->shown = NULL;
	}
	buf_clear(out);
	return ok;
}

static void shake(struct domain_probe *d, struct probe_link *l, struct tls_session *s, struct domain_contact *c)
{
	int64_t until = probe_now() + d->o->timeout_ms;
	enum tls_status status = TLS_WANT;
	const struct tls_facts *facts;
	struct buf out;

	buf_init(&out, &alloc_libc, CIPHER_MAX);
	for (;;) {
		struct view in = buf_view(&l->in);

		status = tls_handshake(s, &in, &out);
		buf_take(&l->in, buf_len(&l->in) - in.n);
		if (!flush(l, &out) || status != TLS_WANT || probe_fill(l, until) != 1)
			break;
	}
	facts = status == TLS_OK || status == TLS_FAILED ? tls_get_facts(s) : NULL;
	c->up = status == TLS_OK;
	c->verified = c->up && facts->verified;
	c->fault = facts ? facts->fault : TLS_FAULT_OTHER;
	if (c->up)
		snprintf(c->words, sizeof c->words, "%.*s", VIEW_ARGS(view_slice(facts->verify, 0, 200)));
	else
		snprintf(c->words, sizeof c->words, "%s", status == TLS_FAILED ? tls_why(s) : probe_stuck(l));
	probe_event(l, "as our sender: %s, %s", c->up ? "TLS is up" : "the handshake fails", c->words);
	if (c->up && tls_write(s, VIEW("QUIT\r\n"), &out) == TLS_OK) {
		tls_close(s, &out);
		flush(l, &out);
	}
	buf_free(&out);
}

static void try_as_sender(struct domain_probe *d, size_t host, struct domain_contact *c)
{
	struct tls_peer_check check;
	struct tls_session *s;
	struct probe_link l;

	c->tried = true;
	send_facts_check(&d->facts->hosts[host], &check);
	s = d->tls ? tls_session_new(d->tls, false, &check) : NULL;
	if (!s) {
		snprintf(c->words, sizeof c->words, "what is owed cannot be checked: there is no trust bundle");
		c->fault = TLS_FAULT_OTHER;
		return;
	}
	if (probe_open_to_220(&d->p, &l))
		shake(d, &l, s, c);
	else
		snprintf(c->words, sizeof c->words, "%s", probe_stuck(&l));
	probe_close(&l);
	tls_session_free(s);
}

/* ---- all ---- */

void domain_contact_all(struct domain_probe *d)
{
	struct error e;
	unsigned total = 0, done = 0;

	d->tls = tls_client_new(d->o->trust, &e);
	domain_turn_to(d, 104);
	for (size_t h = 0; h < d->host_count; h++)
		total += d->about[h].contact_count;
	for (size_t h = 0; h < d->host_count; h++)
		for (unsigned i = 0; i < d->about[h].contact_count; i++) {
			struct domain_contact *c = &d->about[h].contacts[i];

			if (d->o->progress)
				d->o->progress(d->o->arg, done++, total, d->p.now->check);
			d->p.addresses[0] = c->address;
			d->p.name = d->hosts[h].name;
			d->p.refused = 0; /* another address is another server */
			look(d, c);
			if (c->reach == DOMAIN_TLS_UP && d->facts->hosts[h].choice.verdict == ROUTE_SEND && d->facts->hosts[h].choice.level != ROUTE_LEVEL_NONE)
				try_as_sender(d, h, c);
		}
	if (d->o->progress)
		d->o->progress(d->o->arg, done, total, NULL);
}

void domain_contacts_free(struct domain_probe *d)
{
	for (size_t h = 0; h < d->host_count; h++)
		for (unsigned i = 0; i < d->about[h].contact_count; i++)
			sk_X509_pop_free(d->about[h].contacts[i].chain, X509_free);
	tls_context_free(d->tls);
}
