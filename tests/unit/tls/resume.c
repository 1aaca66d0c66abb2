/* resume.c - a client session that is resumed: only by who checks the same, once, and with the same facts. */
#include "tls/tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "pair.h"
#include "pki.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct pki ca, leaf;
static struct tls_tickets *tickets;
static struct tls_context *server, *client;

static struct tls_context *server_of(const struct pki *p, struct tls_tickets *with)
{
	struct tls_server_certificate one = { view_cstr(p->cert_pem), 0 };
	struct tls_server_options o = { .certificates = &one, .certificates_n = 1, .signer = { pki_sign, p->key }, .tickets = with,
		.session_context = VIEW("mx") };
	struct error e = { 0 };
	struct tls_context *c = tls_server_new(&o, &e);

	if (!c)
		fail_msg("%s", e.text);
	return c;
}

static int setup(void **state)
{
	struct error e = { 0 };

	(void)state;
	ca = pki_make("P-256", "ca", NULL, NULL, true, 30);
	leaf = pki_make("P-256", "leaf", "DNS:mx.test,DNS:mx2.test,IP:127.0.0.1", &ca, false, 30);
	tickets = tls_tickets_new();
	tls_tickets_change(tickets, (const unsigned char[TLS_TICKET_KEY]){ 7 });
	server = server_of(&leaf, tickets);
	client = tls_client_new(view_cstr(ca.cert_pem), &e);
	return client ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	tls_context_free(client);
	tls_context_free(server);
	tls_tickets_free(tickets);
	pki_free(&leaf);
	pki_free(&ca);
	return 0;
}

/* Shakes hands, talks (a ticket comes behind the handshake), ends; was it resumed?  The facts are the same in both cases. */
static bool resumed(struct tls_context *to, enum tls_check how, const char *name)
{
	struct pair p = shake_with(to, client, &(const struct tls_peer_check){ .how = how, .name = name });
	struct tls_facts f;
	bool was;

	talk(&p);
	f = *tls_get_facts(p.client);
	was = f.resumed;
	assert_int_equal(tls_get_facts(p.server)->resumed, was);
	assert_true(f.verified);
	assert_int_equal(f.by, TLS_BY_CHAIN);
	assert_int_equal(f.fault, TLS_FAULT_NONE);
	assert_true(view_eq(f.verify, VIEW("verified")));
	assert_true(view_eq(f.peer_name, view_cstr(name)));
	end(&p);
	return was;
}

static void a_second_session_is_resumed(void **state)
{
	(void)state;
	assert_false(resumed(server, TLS_CHECK_CHAIN_AND_NAME, "mx.test"));
	for (int i = 0; i < 3; i++) /* each brings a new ticket */
		assert_true(resumed(server, TLS_CHECK_CHAIN_AND_NAME, "mx.test"));
}

static void an_address_too(void **state)
{
	(void)state;
	assert_false(resumed(server, TLS_CHECK_CHAIN_AND_NAME, "127.0.0.1"));
	assert_true(resumed(server, TLS_CHECK_CHAIN_AND_NAME, "127.0.0.1"));
}

static void only_by_who_checks_the_same(void **state)
{
	(void)state;
	assert_false(resumed(server, TLS_CHECK_CHAIN_AND_NAME, "mx.test"));
	assert_false(resumed(server, TLS_CHECK_CHAIN_AND_NAME, "mx2.test"));
	assert_false(resumed(server, TLS_CHECK_NONE, "mx.test"));
	assert_true(resumed(server, TLS_CHECK_NONE, "mx.test"));
	assert_true(resumed(server, TLS_CHECK_CHAIN_AND_NAME, "mx2.test"));
}

static void names_are_part_of_the_check(void **state)
{
	const char *const names[] = { "other.test", "mx.test" };
	struct tls_peer_check wide = { .how = TLS_CHECK_CHAIN_AND_NAME, .name = "mx.test", .names = names, .names_n = 2 };

	(void)state;
	assert_false(resumed(server, TLS_CHECK_CHAIN_AND_NAME, "mx.test"));
	for (int i = 0; i < 2; i++) {
		struct pair p = shake_with(server, client, &wide);
		talk(&p);
		assert_int_equal(tls_get_facts(p.client)->resumed, i);
		end(&p);
	}
}

/* Another certificate, or keys of another start: the server does not know the ticket, and all is checked anew. */
static void a_forgotten_ticket_costs_a_handshake(void **state)
{
	struct tls_tickets *other_keys = tls_tickets_new(), *bad_keys = tls_tickets_new();
	struct tls_context *other = server_of(&leaf, other_keys);
	struct pki bad = pki_make("P-256", "bad", "DNS:mx.test", NULL, false, 30);
	struct tls_context *impostor = server_of(&bad, bad_keys);
	struct pair p;

	(void)state;
	tls_tickets_change(other_keys, (const unsigned char[TLS_TICKET_KEY]){ 8 });
	tls_tickets_change(bad_keys, (const unsigned char[TLS_TICKET_KEY]){ 9 });
	assert_false(resumed(server, TLS_CHECK_CHAIN_AND_NAME, "mx.test"));
	assert_false(resumed(other, TLS_CHECK_CHAIN_AND_NAME, "mx.test"));
	p = shake_strict(impostor, client, "mx.test");
	assert_int_equal(p.c, TLS_FAILED);
	end(&p);
	pki_free(&bad);
	tls_context_free(impostor);
	tls_context_free(other);
	tls_tickets_free(other_keys);
	tls_tickets_free(bad_keys);
}

static void without_tickets_nothing_is_resumed(void **state)
{
	struct tls_context *none = server_of(&leaf, NULL);

	(void)state;
	assert_false(resumed(none, TLS_CHECK_CHAIN_AND_NAME, "mx.test"));
	assert_false(resumed(none, TLS_CHECK_CHAIN_AND_NAME, "mx.test"));
	tls_context_free(none);
}

/* A session that ends before its ticket was read leaves nothing behind, and a used one is used up. */
static void a_ticket_is_used_once(void **state)
{
	struct pair p, q;

	(void)state;
	assert_false(resumed(server, TLS_CHECK_CHAIN_AND_NAME, "mx.test"));
	p = shake_strict(server, client, "mx.test");
	q = shake_strict(server, client, "mx.test");
	assert_true(tls_get_facts(p.client)->resumed);
	assert_false(tls_get_facts(q.client)->resumed);
	end(&p);
	end(&q);
	assert_false(resumed(server, TLS_CHECK_CHAIN_AND_NAME, "mx.test"));
}

/* More names than places: memory stays bounded, and all of them work. */
static void many_names(void **state)
{
	struct pki any = pki_make("P-256", "any", "DNS:*.many.test", &ca, false, 30);
	struct tls_context *to = server_of(&any, tickets);
	unsigned again = 0;

	(void)state;
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 400; i++) {
			char name[32];
			struct pair p;
			snprintf(name, sizeof name, "h%d.many.test", i);
			p = shake_strict(to, client, name);
			talk(&p);
			again += tls_get_facts(p.client)->resumed;
			assert_true(tls_get_facts(p.client)->verified);
			end(&p);
		}
	assert_in_range(again, 1, 256);
	tls_context_free(to);
	pki_free(&any);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(only_by_who_checks_the_same), TEST(names_are_part_of_the_check), TEST(a_forgotten_ticket_costs_a_handshake),
		TEST(without_tickets_nothing_is_resumed), TEST(a_ticket_is_used_once), TEST(a_second_session_is_resumed), TEST(an_address_too),
		TEST(many_names),
	};

	return cmocka_run_group_tests_name("tls resume", tests, NULL, NULL);
}
