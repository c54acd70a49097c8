/* SPDX-License-Identifier: BSD-3-Clause */
#include "gid_list.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdbool.h>
#include <string.h>

#include "gid.h"
#include "lib/util.h"

enum rank { RANK_IPV4, RANK_GLOBAL, RANK_LINK_LOCAL, N_RANKS };

static enum rank rank_of(const uint8_t gid[16])
{
	if (gid_is_ipv4(gid))
		return RANK_IPV4;
	return gid_is_link_local(gid) ? RANK_LINK_LOCAL : RANK_GLOBAL;
}

/* An IPv4 address may have a label, by which it is then listed: "eth0:1". */
static bool is_of(const struct ifaddrs *ifa, const char *ifname)
{
	size_t len = strcspn(ifa->ifa_name, ":");

	return ifa->ifa_addr && len == strlen(ifname) &&
	       !memcmp(ifa->ifa_name, ifname, len);
}

static bool is_listed(uint8_t gids[][16], int n, const uint8_t gid[16])
{
	for (int i = 0; i < n; i++) {
		if (!memcmp(gids[i], gid, 16))
			return true;
	}
	return false;
}

/* Add those of one rank. Return: how many there are now */
static int add_rank(const struct ifaddrs *all, const char *ifname, enum rank rank,
	uint8_t gids[][16], int n, int max)
{
	for (const struct ifaddrs *ifa = all; ifa; ifa = ifa->ifa_next) {
		uint8_t gid[16];

		if (!is_of(ifa, ifname) || gid_from_sockaddr(ifa->ifa_addr, gid) ||
			rank_of(gid) != rank || is_listed(gids, MIN(n, max), gid))
			continue;
		if (n < max)
			memcpy(gids[n], gid, 16);
		n++;
	}
	return n;
}

int gid_list(const char *ifname, uint8_t gids[][16], int max)
{
	struct ifaddrs *all;
	int n = 0;

	if (!if_nametoindex(ifname))
		return -ENODEV;
	if (getifaddrs(&all) < 0)
		return -errno;
	for (int rank = 0; rank < N_RANKS; rank++)
		n = add_rank(all, ifname, (enum rank)rank, gids, n, max);
	freeifaddrs(all);
	return n;
}
