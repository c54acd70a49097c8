/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Addresses as the directory compares them: 16 bytes and a port (dirproto.h).
 */
#ifndef IVSHMEM_SOCKADDR_H
#define IVSHMEM_SOCKADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "ivshmem/dirproto.h"

static inline void dir_addr_set4(struct dir_addr *out, const struct in_addr *in)
{
	memset(out->ip, 0, 10);
	out->ip[10] = out->ip[11] = 0xff;
	memcpy(out->ip + 12, in, 4);
}

/** dir_addr_from() - Return: is it an IPv4 or IPv6 address, all of it? */
static inline bool dir_addr_from(
	struct dir_addr *out, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (len >= sizeof(in) && sa->sa_family == AF_INET) {
		memcpy(&in, sa, sizeof(in));
		dir_addr_set4(out, &in.sin_addr);
		out->port = ntohs(in.sin_port);
		return true;
	}
	if (len >= sizeof(in6) && sa->sa_family == AF_INET6) {
		memcpy(&in6, sa, sizeof(in6));
		memcpy(out->ip, &in6.sin6_addr, sizeof(out->ip));
		out->port = ntohs(in6.sin6_port);
		return true;
	}
	return false;
}

static inline bool dir_addr_is_v4(const struct dir_addr *a)
{
	static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};

	return !memcmp(a->ip, prefix, sizeof(prefix));
}

static inline bool dir_addr_is_any(const struct dir_addr *a)
{
	static const uint8_t zero[16];

	return dir_addr_is_v4(a) ? !memcmp(a->ip + 12, zero, 4)
				 : !memcmp(a->ip, zero, sizeof(zero));
}

static inline bool dir_addr_is_loopback(const struct dir_addr *a)
{
	static const uint8_t one[16] = {[15] = 1};

	return dir_addr_is_v4(a) ? a->ip[12] == 127 : !memcmp(a->ip, one, sizeof(one));
}

static inline bool dir_addr_same_ip(const struct dir_addr *a, const struct dir_addr *b)
{
	return !memcmp(a->ip, b->ip, sizeof(a->ip));
}

static inline bool dir_addr_same(const struct dir_addr *a, const struct dir_addr *b)
{
	return a->port == b->port && dir_addr_same_ip(a, b);
}

#endif
