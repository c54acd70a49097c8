/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * LIDs, for programs that know peers by nothing else, such as qperf: the lower 16 bits of
 * an IPv4 address. An address vector without a GRH leads to the host that has them behind
 * the upper 16 bits of this device's own address.
 */
#include "provider_priv.h"

#include <string.h>

#include "rdma/wire/be.h"
#include "rdma/wire/gid.h"

#define LID_AT	    14 /* in a GID */
#define LID_UNKNOWN 0

uint16_t device_lid(const struct device *dev)
{
	const uint8_t *gid = dev->link->gid;

	return gid_is_ipv4(gid) ? be_get16(gid + LID_AT) : LID_UNKNOWN;
}

struct ibv_ah_attr device_route(const struct device *dev, const struct ibv_ah_attr *attr)
{
	struct ibv_ah_attr route = *attr;

	if (attr->is_global || attr->dlid == LID_UNKNOWN ||
		device_lid(dev) == LID_UNKNOWN)
		return route;
	route.is_global = 1;
	route.grh = (struct ibv_global_route){.hop_limit = 64};
	memcpy(route.grh.dgid.raw, dev->link->gid, 16);
	be_put16(route.grh.dgid.raw + LID_AT, attr->dlid);
	return route;
}
