/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What kind of address a GID is. IPv4 addresses stand in them as ::ffff:a.b.c.d, those of
 * groups too (annex A17.4.1).
 */
#ifndef RDMA_WIRE_GID_H
#define RDMA_WIRE_GID_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline bool gid_is_ipv4(const uint8_t gid[16])
{
	static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};

	return !memcmp(gid, prefix, sizeof(prefix));
}

/** gid_is_link_local() - fe80::/10: of one link, so an address only with its interface */
static inline bool gid_is_link_local(const uint8_t gid[16])
{
	return gid[0] == 0xfe && (gid[1] & 0xc0) == 0x80;
}

/** gid_is_multicast() - 224.0.0.0/4 or ff00::/8 */
static inline bool gid_is_multicast(const uint8_t gid[16])
{
	return gid[0] == 0xff || (gid_is_ipv4(gid) && (gid[12] & 0xf0) == 0xe0);
}

#endif
