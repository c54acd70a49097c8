/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a host says that it is in a multicast group, so that switches and routers let the
 * group's packets pass: IGMPv2 and v3 (RFC 2236, RFC 3376) for IPv4, MLDv1 and v2 (RFC
 * 2710, RFC 3810) for IPv6. A host that does not know which version the network speaks
 * says it in both. Pure.
 */
#ifndef RDMA_IO_GROUP_MSG_H
#define RDMA_IO_GROUP_MSG_H

#include "eth.h"
#include "neigh_msg.h"

/* IPv6, hop-by-hop options, a report of one record */
#define GROUP_MSG_MAX (ETH_SIZE + ETH_IPV6_SIZE + 8 + 28)

enum group_event {
	GROUP_JOIN,
	GROUP_STAY, /* an answer to a query */
	GROUP_LEAVE,
};

/** group_report_put() - write a report on one group
 * @version: 0: the older one, 1: the newer one
 * @group:   of @self's IP version
 * Return: the frame's size, at most GROUP_MSG_MAX
 */
size_t group_report_put(const struct neigh_self *self, const uint8_t group[16],
	enum group_event event, int version, uint8_t *frame);

/** group_is_query() - is a frame of ETH_KIND_GROUP a router's question for groups? */
bool group_is_query(const uint8_t *frame, size_t size);

#endif
