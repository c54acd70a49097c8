/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * LIDs, for programs that know peers by nothing else, such as qperf: the lower 16 bits of
 * the device's first IPv4 address. An address vector without a GRH leads to the host that
 * has them behind the upper 16 bits of that address.
 */
#include "provider_priv.h"

#include <string.h>

#include "rdma/wire/be.h"
#include "rdma/wire/gid.h"

#define LID_AT	    14 /* in a GID */
#define LID_UNKNOWN 0

/* The first IPv4 address. Return: its index, or -1 */
static int find_ipv4(const struct gids *gids)
{
	for (int i = 0; i < gids->size; i++) {
		if (gids->entry[i].is_present && gid_is_ipv4(gids->entry[i].gid))
			return i;
	}
	return -1;
}

uint16_t lid_of_gids(const struct gids *gids)
{
	int i = find_ipv4(gids);

	return i < 0 ? LID_UNKNOWN : be_get16(gids->entry[i].gid + LID_AT);
}

struct ibv_ah_attr device_route(const struct device *dev, const struct ibv_ah_attr *attr)
{
	struct ibv_ah_attr route = *attr;
	int i = find_ipv4(&dev->gids);

	if (attr->is_global || attr->dlid == LID_UNKNOWN || i < 0)
		return route;
	route.is_global = 1;
	route.grh = (struct ibv_global_route){.hop_limit = 64, .sgid_index = (uint8_t)i};
	memcpy(route.grh.dgid.raw, dev->gids.entry[i].gid, 16);
	be_put16(route.grh.dgid.raw + LID_AT, attr->dlid);
	return route;
}
