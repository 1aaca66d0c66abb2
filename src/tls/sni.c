/* sni.c - which certificates a server shows, by the name that the client asks for.
 *
 * The names of all certificates are classes: a name that is listed belongs to its own, another to that of its wildcard, the rest
 * to the default.  A class has at most one certificate of each kind, and an SSL_CTX for both together, among which
 * OpenSSL chooses by what the client can; so that a broken one can be left out, each has an SSL_CTX of its own too.
 *
 * The choice is made in the callback for the ClientHello, not in that for server names: sessions are resumed between the
 * two, and the session context that is set here, made of listener, certificates and name, is what keeps tickets of one
 * name from being good for another (RFC 6066 section 3).
 */
#include "tls/openssl.h"

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#define NAME_OCTETS 255   /* a domain name (RFC 1035 2.3.4) */
#define SNI_NAMES_MAX 8192 /* of all certificates of a listener: 64 with the 100 that public CAs allow, and some */

/* ---- names ---- */

/* Lower case, without the final dot; false: it is none that a certificate could have. */
static bool normal(struct view v, char to[NAME_OCTETS + 1])
{
	if (v.n && v.p[v.n - 1] == '.')
		v.n--;
	if (v.n == 0 || v.n > NAME_OCTETS || memchr(v.p, 0, v.n))
		return false;
	for (size_t i = 0; i < v.n; i++)
		to[i] = v.p[i] >= 'A' && v.p[i] <= 'Z' ? (char)(v.p[i] + 32) : v.p[i];
	to[v.n] = 0;
	return true;
}

/* False: no memory, or too many. */
static bool add_name(struct ossl_certificate *x, struct view v)
{
	char name[NAME_OCTETS + 1];
	char **more;

	if (!normal(v, name))
		return true;
	more = reallocarray(x->names, x->name_count + 1, sizeof *more);
	if (!more)
		return false;
	x->names = more;
	more[x->name_count] = strdup(name);
	return more[x->name_count] && ++x->name_count <= SNI_NAMES_MAX;
}

/* The subjectAltNames; without one the common name, which decides nothing but what is shown to whom. */
bool ossl_sni_names(struct ossl_certificate *x)
{
	GENERAL_NAMES *all = X509_get_ext_d2i(x->leaf, NID_subject_alt_name, NULL, NULL);
	const X509_NAME *subject = X509_get_subject_name(x->leaf);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	const ASN1_STRING *s;
	bool ok = true;

	for (int i = 0; ok && i < sk_GENERAL_NAME_num(all); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(all, i);

		if (g->type == GEN_DNS)
			ok = add_name(x, view_of((const char *)ASN1_STRING_get0_data(g->d.dNSName), (size_t)ASN1_STRING_length(g->d.dNSName)));
	}
	GENERAL_NAMES_free(all);
	if (x->name_count == 0 && at >= 0 && (s = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at))) != NULL)
		ok = ok && add_name(x, view_of((const char *)ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s)));
	return ok;
}

static bool has(const struct ossl_certificate *x, const char *name)
{
	for (size_t i = 0; i < x->name_count; i++)
		if (strcmp(x->names[i], name) == 0)
			return true;
	return false;
}

/* "*.example.org" for "mx.example.org"; false: there is none. */
static bool wildcard(const char *name, char to[NAME_OCTETS + 2])
{
	const char *dot = strchr(name, '.');

	if (!dot || name[0] == '*')
		return false;
	to[0] = '*';
	memcpy(to + 1, dot, strlen(dot) + 1);
	return true;
}

/* The first certificate of that kind that has the name itself, else by a wildcard; -1: none. */
static int best(const struct ossl_context *c, const char *name, bool rsa)
{
	char star[NAME_OCTETS + 2];
	bool wild = wildcard(name, star);
	int found = -1;

	for (unsigned i = 0; i < c->certificate_count; i++) {
		const struct ossl_certificate *x = &c->certificates[i];

		if (!x->leaf || x->rsa != rsa)
			continue;
		if (has(x, name))
			return (int)i;
		if (found == -1 && wild && has(x, star))
			found = (int)i;
	}
	return found;
}

/* ---- classes ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct ossl_class *)a)->name, ((const struct ossl_class *)b)->name);
}

static struct ossl_class *class_of(const struct ossl_context *c, const char *name)
{
	return bsearch(&(struct ossl_class){ .name = name }, c->classes, c->class_count, sizeof *c->classes, by_name);
}

/* The SSL_CTX of two certificates: another class may have it already. */
static bool join(struct ossl_context *c, struct ossl_class *k)
{
	int two[2] = { k->ec, k->rsa };

	if (k->ec == -1 || k->rsa == -1)
		return true;
	for (size_t i = 0; i < c->class_count && !k->both; i++)
		if (c->classes[i].both && c->classes[i].ec == k->ec && c->classes[i].rsa == k->rsa)
			SSL_CTX_up_ref(k->both = c->classes[i].both);
	if (!k->both)
		k->both = ossl_server_ssl(c, two, 2);
	return k->both != NULL;
}

/* The first certificate that works, with one of the other kind that shares a name. */
static void set_default(struct ossl_context *c)
{
	struct ossl_class *k = &c->fallback;
	unsigned first = 0;
	int other = -1;

	while (!c->certificates[first].leaf)
		first++;
	for (size_t i = 0; i < c->certificates[first].name_count && other == -1; i++)
		other = best(c, c->certificates[first].names[i], !c->certificates[first].rsa);
	k->ec = c->certificates[first].rsa ? other : (int)first;
	k->rsa = c->certificates[first].rsa ? (int)first : other;
}

bool ossl_sni_sort(struct ossl_context *c)
{
	size_t all = 0, n = 0;

	for (unsigned i = 0; i < c->certificate_count; i++)
		all += c->certificates[i].name_count;
	c->classes = calloc(all + 1, sizeof *c->classes);
	if (!c->classes)
		return false;
	for (unsigned i = 0; i < c->certificate_count; i++)
		for (size_t k = 0; k < c->certificates[i].name_count; k++)
			c->classes[n++].name = c->certificates[i].names[k];
	qsort(c->classes, n, sizeof *c->classes, by_name);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || strcmp(c->classes[i].name, c->classes[c->class_count - 1].name) != 0)
			c->classes[c->class_count++].name = c->classes[i].name;
	set_default(c);
	for (size_t i = 0; i < c->class_count; i++) {
		struct ossl_class *k = &c->classes[i];

		*k = (struct ossl_class){ .name = k->name, .ec = best(c, k->name, false), .rsa = best(c, k->name, true) };
	}
	for (size_t i = 0; i < c->class_count; i++)
		if (!join(c, &c->classes[i]))
			return false;
	return join(c, &c->fallback);
}

void ossl_sni_free(struct ossl_context *c)
{
	for (size_t i = 0; i < c->class_count; i++)
		SSL_CTX_free(c->classes[i].both);
	SSL_CTX_free(c->fallback.both);
	free(c->classes);
}

/* ---- the choice ---- */

static bool works(const struct ossl_context *c, int at)
{
	return at != -1 && !c->certificates[at].broken;
}

/* What works of a class. */
static SSL_CTX *pick(struct ossl_context *c, const struct ossl_class *k, const struct ossl_certificate *shown[2])
{
	shown[0] = works(c, k->ec) ? &c->certificates[k->ec] : NULL;
	shown[1] = works(c, k->rsa) ? &c->certificates[k->rsa] : NULL;
	return shown[0] && shown[1] ? k->both : shown[0] ? shown[0]->alone : shown[1] ? shown[1]->alone : NULL;
}

/* Any that works, when those that would fit are broken: a wrong name is better than no TLS (RFC 7435). */
static SSL_CTX *pick_any(struct ossl_context *c, const struct ossl_certificate *shown[2])
{
	SSL_CTX *found = pick(c, &c->fallback, shown);

	for (unsigned i = 0; i < c->certificate_count && !found; i++)
		if (!c->certificates[i].broken) {
			shown[0] = &c->certificates[i];
			found = c->certificates[i].alone;
		}
	return found;
}

/* The extension, RFC 6066 3: a list with one host_name.  What is malformed, OpenSSL refuses later. */
static bool asked(SSL *ssl, char name[NAME_OCTETS + 1])
{
	const unsigned char *p;
	size_t n, length;

	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) != 1 || n < 5 || p[2] != TLSEXT_NAMETYPE_host_name)
		return false;
	length = (size_t)p[3] << 8 | p[4];
	return length <= n - 5 && normal(view_of((const char *)p + 5, length), name);
}

int ossl_sni_hello(SSL *ssl, int *alert, void *arg)
{
	struct ossl_context *c = arg;
	const struct ossl_certificate *shown[2] = { NULL, NULL };
	struct ossl_class *k = NULL;
	char name[NAME_OCTETS + 1] = "", star[NAME_OCTETS + 2];
	unsigned char id[3 * 32 + NAME_OCTETS], sum[32];
	SSL_CTX *found;
	size_t n;

	if (asked(ssl, name)) {
		k = class_of(c, name);
		if (!k && wildcard(name, star))
			k = class_of(c, star);
	}
	found = k ? pick(c, k, shown) : NULL;
	if (!found)
		found = pick_any(c, shown);
	*alert = SSL_AD_INTERNAL_ERROR;
	if (!found || !SSL_set_SSL_CTX(ssl, found))
		return SSL_CLIENT_HELLO_ERROR;
	n = strlen(name);
	memset(id, 0, sizeof id);
	memcpy(id, c->session_context, 32);
	for (unsigned i = 0; i < 2; i++)
		if (shown[i])
			memcpy(id + 32 * (i + 1), shown[i]->id, 32);
	memcpy(id + 3 * 32, name, n);
	if (EVP_Digest(id, 3 * 32 + n, sum, NULL, c->sha256, NULL) != 1 || SSL_set_session_id_context(ssl, sum, sizeof sum) != 1)
		return SSL_CLIENT_HELLO_ERROR;
	return SSL_CLIENT_HELLO_SUCCESS;
}
