/* SPDX-License-Identifier: BSD-3-Clause */
#include "pmd/control_addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

static bool is_one_host(const union control_addr *addr)
{
	const struct in6_addr *a6 = &addr->in6.sin6_addr;
	uint32_t a4 = ntohl(addr->in4.sin_addr.s_addr);

	if (addr->sa.sa_family == AF_INET)
		return a4 != INADDR_ANY && a4 != INADDR_BROADCAST && !IN_MULTICAST(a4);
	return !IN6_IS_ADDR_UNSPECIFIED(a6) && !IN6_IS_ADDR_MULTICAST(a6) &&
	       !IN6_IS_ADDR_V4MAPPED(a6);
}

int control_addr_parse(const char *text, uint16_t port, union control_addr *addr)
{
	/* getaddrinfo() and not inet_pton(), for the interface behind "%" */
	struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *ai;

	memset(addr, 0, sizeof(*addr));
	/* It also takes "1" and "0x7f.1" for IPv4, which nobody means. */
	if (!text || (!strchr(text, ':') &&
			     inet_pton(AF_INET, text, &addr->in4.sin_addr) != 1))
		return -EINVAL;
	if (getaddrinfo(text, NULL, &hints, &ai) != 0)
		return -EINVAL;
	if (ai->ai_family == AF_INET || ai->ai_family == AF_INET6)
		memcpy(addr, ai->ai_addr, ai->ai_addrlen);
	freeaddrinfo(ai);

	if (addr->sa.sa_family == AF_INET)
		addr->in4.sin_port = htons(port);
	else if (addr->sa.sa_family == AF_INET6)
		addr->in6.sin6_port = htons(port);
	else
		return -EINVAL;
	return is_one_host(addr) ? 0 : -EINVAL;
}

socklen_t control_addr_size(const union control_addr *addr)
{
	return addr->sa.sa_family == AF_INET ? sizeof(addr->in4) : sizeof(addr->in6);
}

uint16_t control_addr_port(const union control_addr *addr)
{
	return ntohs(
		addr->sa.sa_family == AF_INET ? addr->in4.sin_port : addr->in6.sin6_port);
}

bool control_addr_same_host(const union control_addr *a, const union control_addr *b)
{
	if (a->sa.sa_family != b->sa.sa_family)
		return false;
	if (a->sa.sa_family == AF_INET)
		return a->in4.sin_addr.s_addr == b->in4.sin_addr.s_addr;
	/* Not the interface: all connections of a driver use its local address's. */
	return IN6_ARE_ADDR_EQUAL(&a->in6.sin6_addr, &b->in6.sin6_addr);
}

void control_addr_gid(const union control_addr *addr, uint8_t gid[16])
{
	if (addr->sa.sa_family == AF_INET6) {
		memcpy(gid, &addr->in6.sin6_addr, 16);
		return;
	}
	memset(gid, 0, 10);
	memset(gid + 10, 0xff, 2);
	memcpy(gid + 12, &addr->in4.sin_addr, 4);
}

const char *control_addr_text(const union control_addr *addr, char buf[CONTROL_ADDR_TEXT])
{
	if (getnameinfo(&addr->sa, control_addr_size(addr), buf, CONTROL_ADDR_TEXT, NULL,
		    0, NI_NUMERICHOST) != 0)
		snprintf(buf, CONTROL_ADDR_TEXT, "?");
	return buf;
}
