/* own.c - the addresses of this machine, for a listener that is bound to all of them; see send.h.
 *
 * Read once, before the walls: what an interface is given later is known after a reload.  An address that stands before us
 * (translation by a router) cannot be known here: there the name decides, and at last the count of Received lines.
 */
#include "send/send.h"

#include <ifaddrs.h>

static bool listens_on_any(const struct conf *conf)
{
	char text[ADDRESS_TEXT];

	for (size_t i = 0; i < conf->listener_count; i++)
		for (size_t j = 0; j < conf->listeners[i].address_count; j++) {
			const struct sockaddr *sa = (const struct sockaddr *)&conf->listeners[i].addresses[j].sa;
			struct view host = view_cstr(address_host(sa, text));
			if (view_eq(host, VIEW("0.0.0.0")) || view_eq(host, VIEW("::")))
				return true;
		}
	return false;
}

void send_own_read(struct send_room *room)
{
	struct ifaddrs *all = NULL;

	if (!listens_on_any(room->role->conf) || getifaddrs(&all) == -1)
		return; /* nothing to know, or it is found out by the loop count */
	for (struct ifaddrs *i = all; i && room->own_count < SEND_OWN_MAX; i = i->ifa_next) {
		struct address *a = &room->own[room->own_count];
		sa_family_t family = i->ifa_addr ? i->ifa_addr->sa_family : AF_UNSPEC;
		if (family != AF_INET && family != AF_INET6)
			continue;
		*a = (struct address){ .len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6) };
		memcpy(&a->sa, i->ifa_addr, a->len);
		room->own_count++;
	}
	freeifaddrs(all);
}

bool send_own_has(const struct send_room *room, const struct sockaddr *to)
{
	for (size_t i = 0; i < room->own_count; i++)
		if (address_equal_host((const struct sockaddr *)&room->own[i].sa, to))
			return true;
	return false;
}
