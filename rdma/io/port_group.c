/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Multicast groups of the packet port: the interface is told to let their MAC addresses
 * in, and the network hears of them: on joining and leaving, and when a router or switch
 * asks.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <string.h>

#include "group_msg.h"
#include "lib/util.h"
#include "port_priv.h"

/* Queries are answered for all groups at once, at most this often. */
#define REPORT_NS (1 * NSEC_PER_SEC)

static const uint8_t all_ipv4[16] = {[10] = 0xff, 0xff, 224, 0, 0, 1};
static const uint8_t all_ipv6[16] = {0xff, 0x02, [15] = 1};

/* @option: PACKET_ADD_MEMBERSHIP or PACKET_DROP_MEMBERSHIP. The kernel counts them. */
static int filter_change(const struct link_port *port, int option, const uint8_t gid[16])
{
	struct packet_mreq req = {
		.mr_ifindex = port->ifindex,
		.mr_type = PACKET_MR_MULTICAST,
		.mr_alen = ETH_MAC_SIZE,
	};

	eth_group_mac(gid, req.mr_address);
	if (setsockopt(port->fd, SOL_PACKET, option, &req, sizeof(req)) < 0)
		return -errno;
	return 0;
}

static void report(struct link_port *port, const uint8_t gid[16], enum group_event event)
{
	uint8_t frame[GROUP_MSG_MAX];

	for (int version = 0; version < 2; version++) {
		port->link.stats.group_reports++;
		port_frame_send(port, frame,
			group_report_put(&port->self, gid, event, version, frame));
	}
}

static uint8_t *group_find(struct link_port *port, const uint8_t gid[16])
{
	for (int i = 0; i < port->n_groups; i++) {
		if (!memcmp(port->group[i], gid, 16))
			return port->group[i];
	}
	return NULL;
}

bool port_is_member(const struct link_port *port, const uint8_t gid[16])
{
	return group_find((struct link_port *)port, gid) != NULL;
}

int link_port_join(struct link *link, const uint8_t gid[16])
{
	struct link_port *port = link_port(link);
	int err;

	if (!gid_is_multicast(gid) || gid_is_ipv4(gid) != port->is_ipv4)
		return -EINVAL;
	if (port->n_groups == PORT_GROUPS_MAX)
		return -ENOMEM;
	err = filter_change(port, PACKET_ADD_MEMBERSHIP, gid);
	if (err)
		return err;
	memcpy(port->group[port->n_groups++], gid, 16);
	report(port, gid, GROUP_JOIN);
	return 0;
}

void link_port_leave(struct link *link, const uint8_t gid[16])
{
	struct link_port *port = link_port(link);
	uint8_t *group = group_find(port, gid);

	if (!group)
		return;
	report(port, gid, GROUP_LEAVE);
	filter_change(port, PACKET_DROP_MEMBERSHIP, gid);
	memmove(group, port->group[--port->n_groups], 16);
}

void port_group_input(struct link_port *port, const uint8_t *frame, size_t size)
{
	uint64_t now = now_ns();

	if (!group_is_query(frame, size))
		return;
	port->link.stats.group_queries++;
	if (now - port->reported_ns < REPORT_NS)
		return;
	port->reported_ns = now;
	for (int i = 0; i < port->n_groups; i++)
		report(port, port->group[i], GROUP_STAY);
}

int port_groups_open(struct link_port *port)
{
	uint8_t group[16];
	int err = filter_change(
		port, PACKET_ADD_MEMBERSHIP, port->is_ipv4 ? all_ipv4 : all_ipv6);

	if (err || port->is_ipv4)
		return err;
	neigh_solicited_group(port->self.gid, group);
	return link_port_join(&port->link, group);
}

void port_groups_close(struct link_port *port)
{
	while (port->n_groups)
		link_port_leave(&port->link, port->group[0]);
}
