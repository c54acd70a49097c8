/* SPDX-License-Identifier: BSD-3-Clause */
#include "gid.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <string.h>

void gid_from_ipv4(const void *addr, uint8_t gid[16])
{
	memset(gid, 0, 10);
	memset(gid + 10, 0xff, 2);
	memcpy(gid + 12, addr, 4);
}

int gid_parse(const char *text, uint8_t gid[16], uint32_t *scope)
{
	char host[INET6_ADDRSTRLEN];
	const char *percent = strchr(text, '%');
	size_t len = percent ? (size_t)(percent - text) : strlen(text);
	uint8_t ipv4[4];

	*scope = 0;
	if (len >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';

	if (!percent && inet_pton(AF_INET, host, ipv4) == 1) {
		gid_from_ipv4(ipv4, gid);
		return 0;
	}
	if (inet_pton(AF_INET6, host, gid) != 1)
		return -EINVAL;
	if (percent) {
		*scope = if_nametoindex(percent + 1);
		if (!*scope)
			return -EINVAL;
	}
	return 0;
}

void gid_print(const uint8_t gid[16], char *text)
{
	if (gid_is_ipv4(gid))
		inet_ntop(AF_INET, gid + 12, text, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, gid, text, INET6_ADDRSTRLEN);
}

int gid_from_sockaddr(const struct sockaddr *sa, uint8_t gid[16])
{
	/* memcpy: callers' buffers need not be aligned for these */
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof(in));
		gid_from_ipv4(&in.sin_addr, gid);
		return 0;
	}
	if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, sa, sizeof(in6));
		memcpy(gid, &in6.sin6_addr, 16);
		return 0;
	}
	return -EAFNOSUPPORT;
}

socklen_t gid_to_sockaddr(
	const uint8_t gid[16], uint32_t scope, uint16_t port, union gid_sockaddr *out)
{
	memset(out, 0, sizeof(*out));
	if (gid_is_ipv4(gid)) {
		out->in.sin_family = AF_INET;
		out->in.sin_port = htons(port);
		memcpy(&out->in.sin_addr, gid + 12, 4);
		return sizeof(out->in);
	}
	out->in6.sin6_family = AF_INET6;
	out->in6.sin6_port = htons(port);
	memcpy(&out->in6.sin6_addr, gid, 16);
	if (IN6_IS_ADDR_LINKLOCAL(&out->in6.sin6_addr) ||
		IN6_IS_ADDR_MC_LINKLOCAL(&out->in6.sin6_addr))
		out->in6.sin6_scope_id = scope;
	return sizeof(out->in6);
}
