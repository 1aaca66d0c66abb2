/* plans.c - tests of send/plan.c: what the DNS says, and what becomes of the mail.  Nothing is dialled but a dead port. */
#include "peer.h"

struct answer {
	uint8_t status;
	uint32_t ttl;
	struct { uint16_t preference; const char *name; } mx[4];
	const char *addresses[3];
};

static const struct answer *mx_answer;
static const struct answer *(*address_answer)(const char *name);

static void dns(struct world *w, const struct wire_RESOLVE *m)
{
	char name[300];
	const struct answer *a;
	struct buf list;
	struct wire_RESOLVED r = { .stream = m->stream };

	snprintf(name, sizeof name, "%.*s", VIEW_ARGS(m->name));
	a = m->kind == WIRE_RESOLVE_MX ? mx_answer : address_answer(name);
	buf_init(&list, &alloc_libc, 4096);
	for (size_t i = 0; m->kind == WIRE_RESOLVE_MX && i < 4 && a->mx[i].name; i++)
		wire_record_add(&list, &(struct wire_record){ .preference = a->mx[i].preference, .name = view_cstr(a->mx[i].name) });
	for (size_t i = 0; m->kind == WIRE_RESOLVE_ADDRESS && i < 3 && a->addresses[i]; i++) {
		unsigned char octets[4];
		assert_int_equal(inet_pton(AF_INET, a->addresses[i], octets), 1);
		wire_record_add(&list, &(struct wire_record){ .family = AF_INET, .address = view_of((char *)octets, 4) });
	}
	r.status = a->status;
	r.ttl = a->ttl;
	r.reason = VIEW("because");
	r.records = buf_view(&list);
	wire_send_RESOLVED(w->resolve, &r);
	buf_free(&list);
}

static struct world *world_new(const char *listener)
{
	struct world *w = calloc(1, sizeof *w);
	char conf[512];

	snprintf(conf, sizeof conf, "trust = \"/dev/null\"\nconnect_timeout = 1s\nlistener \"mx\" { address = {\"%s\"} tls = none }\n", listener);
	w->rig = rig_new(&send_role, conf, NULL);
	w->answer = dns;
	connect_side(w, ROLE_QUEUE);
	connect_side(w, ROLE_RESOLVE);
	return w;
}

static const struct answer nowhere = { WIRE_DNS_OK, 60, { { 0, NULL } }, { "255.255.255.255" } }, /* no TCP goes there */
                           loopback = { WIRE_DNS_OK, 60, { { 0, NULL } }, { "127.0.0.9" } }, none = { .status = WIRE_DNS_NODATA },
                           nxdomain = { .status = WIRE_DNS_NXDOMAIN }, temporary = { .status = WIRE_DNS_TEMPORARY }, bogus = { .status = WIRE_DNS_BOGUS },
                           ours = { WIRE_DNS_OK, 60, { { 0, NULL } }, { "127.0.0.5" } }, any = { WIRE_DNS_OK, 60, { { 0, NULL } }, { "0.0.0.0" } };

static const struct answer *all_none(const char *name) { (void)name; return &none; }
static const struct answer *all_nowhere(const char *name) { (void)name; return &nowhere; }
static const struct answer *all_loopback(const char *name) { (void)name; return &loopback; }
static const struct answer *all_temporary(const char *name) { (void)name; return &temporary; }
static const struct answer *all_nxdomain(const char *name) { (void)name; return &nxdomain; }
static const struct answer *all_any(const char *name) { (void)name; return &any; }
static const struct answer *b_ours(const char *name) { return *name == 'b' ? &ours : &nowhere; }
static const struct answer *a_away_b_ours(const char *name) { return *name == 'b' ? &ours : &temporary; }
static const struct answer *a_none_b_ours(const char *name) { return *name == 'b' ? &ours : &none; }
static const struct answer *b_ours_c_away(const char *name) { return *name == 'b' ? &ours : *name == 'c' ? &temporary : &none; }

static void test_mx(void **state)
{
	static const struct answer two = { WIRE_DNS_OK, 60, { { 10, "a.test" }, { 20, "b.test" } }, { NULL } },
	                           three = { WIRE_DNS_OK, 60, { { 10, "a.test" }, { 20, "b.test" }, { 30, "c.test" } }, { NULL } },
	                           null = { WIRE_DNS_OK, 60, { { 0, "" } }, { NULL } }, self = { WIRE_DNS_OK, 60, { { 10, "mx.ours.test" }, { 20, "b.test" } }, { NULL } };
	static const struct {
		const char *what;
		const struct answer *mx, *(*address)(const char *);
		uint8_t kind;
		uint16_t code;
		bool host_failed;
		unsigned asked;
		const char *words;
	} cases[] = {
		{ "no such domain", &nxdomain, all_none, WIRE_FAILED, 550, false, 1, "no such domain" },
		{ "server failure", &temporary, all_none, WIRE_DEFERRED, 451, true, 1, "because" },
		{ "bogus", &bogus, all_none, WIRE_DEFERRED, 451, true, 1, "because" },
		{ "null MX", &null, all_none, WIRE_FAILED, 556, false, 1, "takes no mail" },
		{ "ourselves by name", &self, all_none, WIRE_FAILED, 554, false, 1, "loop" },
		{ "no MX, no address", &none, all_none, WIRE_FAILED, 550, false, 2, "no mail host" },
		{ "no MX, address away", &none, all_temporary, WIRE_DEFERRED, 451, true, 2, "no answer now" },
		{ "no MX, address", &none, all_nowhere, WIRE_DEFERRED, 451, true, 2, "255.255.255.255" },
		{ "hosts without address", &two, all_none, WIRE_FAILED, 550, false, 3, "no mail host" },
		{ "hosts away", &two, all_temporary, WIRE_DEFERRED, 451, true, 3, "no answer now" },
		{ "second host is ours", &two, b_ours, WIRE_DEFERRED, 451, true, 3, "a.test[255.255.255.255]:25" },
		{ "primary away, second ours", &two, a_away_b_ours, WIRE_DEFERRED, 451, true, 3, "no answer now" },
		{ "primary is none, second ours", &two, a_none_b_ours, WIRE_FAILED, 554, false, 3, "loop" },
		{ "what is away is behind us", &three, b_ours_c_away, WIRE_FAILED, 554, false, 4, "loop" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct world *w = world_new("127.0.0.5:25");
		struct outcome *o = &w->outcomes[1];
		mx_answer = cases[i].mx;
		address_answer = cases[i].address;
		deliver(w, 1, "mx:d.test");
		OUTCOME(w, 1);
		if (o->r[0].kind != cases[i].kind || o->r[0].code != cases[i].code || o->host_failed != cases[i].host_failed || w->asked != cases[i].asked ||
		    !strstr(o->r[0].text, cases[i].words))
			fail_msg("%s: kind %u code %u host_failed %u asked %u: %s", cases[i].what, o->r[0].kind, o->r[0].code, o->host_failed, w->asked, o->r[0].text);
		/* failures are kept for a moment, so that a pile of mail asks once */
		unsigned asked = w->asked;
		deliver(w, 2, "mx:d.test");
		OUTCOME(w, 2);
		assert_int_equal(w->asked, asked);
		world_stop(w);
	}
}

/* A listener on all addresses is found again behind loopback and 0.0.0.0. */
static void test_any_is_ours(void **state)
{
	struct world *w = world_new("0.0.0.0:25");

	(void)state;
	mx_answer = &none;
	address_answer = all_loopback;
	deliver(w, 1, "mx:d.test");
	OUTCOME(w, 1);
	assert_int_equal(w->outcomes[1].r[0].code, 554);
	address_answer = all_any;
	deliver(w, 2, "mx:e.test");
	OUTCOME(w, 2);
	assert_int_equal(w->outcomes[2].r[0].code, 554);
	world_stop(w);
}

/* And behind each address that an interface of this machine has. */
static void test_any_is_every_interface(void **state)
{
	struct world *w = world_new("0.0.0.0:25");
	struct send_room *room = sender_of(w)->room;
	struct sockaddr_in lo = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };

	(void)state;
	assert_true(send_own_has(room, (struct sockaddr *)&lo)); /* read at prepare */
	room->own[room->own_count] = (struct address){ .len = sizeof lo };
	((struct sockaddr_in *)&room->own[room->own_count].sa)->sin_family = AF_INET;
	((struct sockaddr_in *)&room->own[room->own_count++].sa)->sin_addr.s_addr = htonl(INADDR_BROADCAST);
	mx_answer = &none;
	address_answer = all_nowhere;
	deliver(w, 1, "mx:d.test");
	OUTCOME(w, 1);
	assert_int_equal(w->outcomes[1].r[0].code, 554);
	assert_non_null(strstr(w->outcomes[1].r[0].text, "loop"));
	world_stop(w);
}

/* A next hop that the operator named and the DNS does not know: all its mail would bounce for a slip of the pen. */
static void test_a_next_hop_without_address_defers(void **state)
{
	struct world *w = world_new("127.0.0.5:25");

	(void)state;
	address_answer = all_nxdomain;
	deliver(w, 1, "smtp:host.test:2525");
	OUTCOME(w, 1);
	assert_int_equal(w->outcomes[1].r[0].kind, WIRE_DEFERRED);
	assert_int_equal(w->outcomes[1].r[0].code, 451);
	assert_non_null(strstr(w->outcomes[1].r[0].text, "has no address"));
	assert_true(w->outcomes[1].host_failed);
	world_stop(w);
}

/* Plans live as long as the DNS says, between the two limits; then it is asked again. */
static void test_ttl(void **state)
{
	static const struct { uint32_t ttl; uint64_t keeps, ends; } cases[] = { { 0, 4000, 5100 }, { 60, 59000, 60500 }, { 100000, 299000, 300500 } };
	struct answer a = { WIRE_DNS_OK, 0, { { 10, "a.test" } }, { NULL } };

	(void)state;
	address_answer = all_nowhere;
	for (size_t i = 0; i < 3; i++) {
		struct world *w = world_new("127.0.0.5:25");
		uint64_t base;

		a.ttl = cases[i].ttl;
		mx_answer = &a;
		deliver(w, 1, "mx:d.test");
		OUTCOME(w, 1);
		assert_int_equal(w->asked, 2);
		base = (uint64_t)rig_skew;
		if (cases[i].ttl == 100000) { /* the addresses said 60 s */
			rig_skew = (int64_t)(base + 59000);
			rig_turns(w->rig, 2);
			deliver(w, 2, "mx:d.test");
			OUTCOME(w, 2);
			assert_int_equal(w->asked, 2);
			rig_skew = (int64_t)(base + 60500);
		} else {
			rig_skew = (int64_t)(base + cases[i].keeps);
			rig_turns(w->rig, 2);
			deliver(w, 2, "mx:d.test");
			OUTCOME(w, 2);
			assert_int_equal(w->asked, 2);
			rig_skew = (int64_t)(base + cases[i].ends);
		}
		rig_turns(w->rig, 2);
		deliver(w, 3, "mx:d.test");
		OUTCOME(w, 3);
		assert_int_equal(w->asked, 4);
		world_stop(w);
	}
}

static void test_resolver_lost(void **state)
{
	struct world *w = world_new("127.0.0.5:25");

	(void)state;
	mx_answer = &none;
	address_answer = all_nowhere;
	w->mute = true;
	deliver(w, 1, "mx:d.test");
	deliver(w, 2, "smtp:host.test:2525");
	UNTIL(w->rig, w->asked == 2);
	/* answers that were not asked for */
	wire_send_RESOLVED(w->resolve, &(struct wire_RESOLVED){ .stream = 999999, .status = WIRE_DNS_OK });
	channel_send(w->resolve, WIRE_RESOLVED, VIEW("?"));
	rig_turns(w->rig, 3);
	assert_int_equal(w->outcome_n, 0);
	channel_free(w->resolve);
	w->resolve = NULL;
	OUTCOME(w, 1);
	OUTCOME(w, 2);
	assert_int_equal(w->outcomes[1].r[0].kind, WIRE_DEFERRED);
	deliver(w, 3, "mx:other.test"); /* nobody to ask */
	OUTCOME(w, 3);
	assert_int_equal(w->outcomes[3].r[0].kind, WIRE_DEFERRED);
	connect_side(w, ROLE_RESOLVE);
	w->mute = false;
	rig_skew += SEND_PLAN_MIN_MS + 10;
	rig_turns(w->rig, 2);
	deliver(w, 4, "mx:other.test");
	OUTCOME(w, 4);
	assert_non_null(strstr(w->outcomes[4].r[0].text, "255.255.255.255"));
	world_stop(w);
}

/* A busy destination does not keep its first plan for ever. */
static void test_renewed_under_load(void **state)
{
	struct world *w = world_new("127.0.0.5:25");
	struct server *s = &w->servers[w->server_n++];
	char dest[60];

	(void)state;
	server_start(s, w->rig, rig_listen(&s->port));
	snprintf(dest, sizeof dest, "smtp:host.test:%u", s->port);
	w->mute = true;
	begin(w, 1, dest, TO("x@sink.test"), 10);
	more(w, 1, "half\r\n", false);
	UNTIL(w->rig, w->asked == 1);
	struct target *t = send_target_get(sender_of(w), view_cstr(dest));
	struct buf list;
	buf_init(&list, &alloc_libc, 64);
	wire_record_add(&list, &(struct wire_record){ .family = AF_INET, .address = view_of("\x7f\0\0\1", 4) });
	wire_send_RESOLVED(w->resolve, &(struct wire_RESOLVED){ .stream = t->questions->stream, .status = WIRE_DNS_OK, .ttl = 30, .records = buf_view(&list) });
	UNTIL(w->rig, s->conns && s->conns->data);
	rig_skew += 31000;
	rig_turns(w->rig, 2);
	deliver(w, 2, dest);
	UNTIL(w->rig, w->asked == 2);
	wire_send_RESOLVED(w->resolve, &(struct wire_RESOLVED){ .stream = t->questions->stream, .status = WIRE_DNS_OK, .ttl = 30, .records = buf_view(&list) });
	OUTCOME(w, 2);
	assert_int_equal(w->outcomes[2].r[0].kind, WIRE_DELIVERED);
	more(w, 1, "rest\r\n", true);
	OUTCOME(w, 1);
	assert_int_equal(w->outcomes[1].r[0].kind, WIRE_DELIVERED);
	buf_free(&list);
	world_stop(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mx), cmocka_unit_test(test_any_is_ours), cmocka_unit_test(test_resolver_lost), cmocka_unit_test(test_ttl),
		cmocka_unit_test(test_renewed_under_load), cmocka_unit_test(test_any_is_every_interface),
		cmocka_unit_test(test_a_next_hop_without_address_defers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
