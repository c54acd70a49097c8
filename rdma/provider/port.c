/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The port: what the interface below says of itself, and events when that or the GID
 * table changes.
 */
#include "provider_priv.h"

#include "lib/util.h"
#include "rdma/wire/gid.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Below the IP MTU: UDP 8, BTH 12, RETH 16, immediate 4, ICRC 4, and the IP header. */
#define HEADERS_BYTES_IPV4 (20 + 44)
#define HEADERS_BYTES_IPV6 (40 + 44)

enum { PHYS_DISABLED = 3, PHYS_LINK_UP = 5 };
#define WIDTH_1X 1
#define WIDTH_4X 2

/* An Ethernet speed in InfiniBand's terms: lanes, and a lane's speed (1 is 2.5 Gb/s, 2 is
 * 5, 4 is 10, 32 is 25, 64 is 50, 128 is 100). The first that is at least as fast.
 */
static const struct {
	uint32_t mbps;
	uint8_t width, speed;
} speeds[] = {
	{2500, WIDTH_1X, 1},
	{5000, WIDTH_1X, 2},
	{10000, WIDTH_1X, 4},
	{25000, WIDTH_1X, 32},
	{40000, WIDTH_4X, 4},
	{50000, WIDTH_1X, 64},
	{100000, WIDTH_4X, 32},
	{200000, WIDTH_4X, 64},
	{UINT32_MAX, WIDTH_4X, 128},
};

/* Some interfaces have no speed, such as loopback: 10 Gb/s, as veth and tap say. */
#define MBPS_UNKNOWN 10000

static uint32_t speed_mbps(int fd, struct ifreq *ifr)
{
	struct ethtool_cmd cmd = {.cmd = ETHTOOL_GSET};
	uint32_t mbps;

	ifr->ifr_data = (void *)&cmd;
	if (ioctl(fd, SIOCETHTOOL, ifr))
		return MBPS_UNKNOWN;
	mbps = ethtool_cmd_speed(&cmd);
	return mbps == 0 || mbps == (uint32_t)SPEED_UNKNOWN ? MBPS_UNKNOWN : mbps;
}

static int any_socket(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	/* IPv4 may be absent. */
	return fd >= 0 ? fd : socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

static void set_name(struct ifreq *ifr, const char *ifname)
{
	*ifr = (struct ifreq){0};
	memcpy(ifr->ifr_name, ifname, sizeof(ifr->ifr_name));
}

static bool is_up(int fd, struct ifreq *ifr)
{
	return !ioctl(fd, SIOCGIFFLAGS, ifr) && (ifr->ifr_flags & IFF_RUNNING);
}

static void set_state(struct ibv_port_attr *attr, const char *ifname)
{
	int fd = any_socket();
	struct ifreq ifr;
	uint32_t mbps = MBPS_UNKNOWN;
	bool up = false;
	size_t i = 0;

	set_name(&ifr, ifname);
	if (fd >= 0) {
		up = is_up(fd, &ifr);
		mbps = speed_mbps(fd, &ifr);
		close(fd);
	}
	while (speeds[i].mbps < mbps)
		i++;
	attr->state = up ? IBV_PORT_ACTIVE : IBV_PORT_DOWN;
	attr->phys_state = up ? PHYS_LINK_UP : PHYS_DISABLED;
	attr->active_width = speeds[i].width;
	attr->active_speed = speeds[i].speed;
}

uint32_t port_mbps(const struct device *dev)
{
	int fd = any_socket();
	struct ifreq ifr;
	uint32_t mbps = MBPS_UNKNOWN;

	set_name(&ifr, dev->ifname);
	if (fd >= 0) {
		mbps = speed_mbps(fd, &ifr);
		close(fd);
	}
	return mbps;
}

enum ibv_mtu port_gid_mtu(const struct device *dev, uint8_t index)
{
	const struct link *link = link_set_link(dev->links, index);
	uint32_t headers =
		gid_is_ipv4(link->gid) ? HEADERS_BYTES_IPV4 : HEADERS_BYTES_IPV6;
	enum ibv_mtu mtu = IBV_MTU_256;

	while (mtu < IBV_MTU_4096 && (128u << (mtu + 1)) + headers <= link->ip_mtu)
		mtu++;
	return mtu;
}

void port_recompute(struct device *dev)
{
	enum ibv_mtu mtu = IBV_MTU_4096;
	bool has_any = false;

	for (uint8_t i = 0; i < dev->gids.size; i++) {
		if (!dev->gids.entry[i].is_taken)
			continue;
		mtu = MIN(mtu, port_gid_mtu(dev, i));
		has_any = true;
	}
	if (has_any)
		dev->mtu = mtu;
	dev->lid = lid_of_gids(&dev->gids);
}

enum ibv_mtu device_mtu(const struct device *dev)
{
	return dev->mtu;
}

static int query_port(
	struct ibv_context *ctx, uint8_t port_num, struct ibv_port_attr *attr)
{
	struct device *dev = to_device(ctx);

	if (port_num != 1)
		return EINVAL;
	*attr = (struct ibv_port_attr){
		.max_mtu = IBV_MTU_4096,
		.active_mtu = device_mtu(dev),
		.gid_tbl_len = dev->gids.size,
		.pkey_tbl_len = 1,
		.max_msg_sz = ENGINE_MSG_MAX,
		.lid = dev->lid,
		.link_layer = IBV_LINK_LAYER_ETHERNET,
	};
	set_state(attr, dev->ifname);
	return 0;
}

/* Events. */

static bool port_is_up(const struct device *dev)
{
	int fd = any_socket();
	struct ifreq ifr;
	bool up;

	if (fd < 0)
		return dev->port_up;
	set_name(&ifr, dev->ifname);
	up = is_up(fd, &ifr);
	close(fd);
	return up;
}

void port_watch(struct device *dev)
{
	struct sockaddr_nl groups = {.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};

	/* Without it there are no events, which is no reason to do without the device. */
	dev->port_fd = socket(
		AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (dev->port_fd >= 0 &&
		bind(dev->port_fd, (struct sockaddr *)&groups, sizeof(groups))) {
		close(dev->port_fd);
		dev->port_fd = -1;
	}
	dev->port_up = port_is_up(dev);
}

void port_unwatch(struct device *dev)
{
	if (dev->port_fd >= 0)
		close(dev->port_fd);
}

static void send_to_all(struct device *dev, enum ibv_event_type event)
{
	struct context *ctx;

	TAILQ_FOREACH(ctx, &dev->contexts, entry)
	events_send_async(&ctx->vctx.context, event, (void *)1);
}

/* The folders first: who hears of the change finds them up to date. */
void port_gids_changed(struct device *dev, int n)
{
	struct context *ctx;

	TAILQ_FOREACH(ctx, &dev->contexts, entry)
	gid_dir_update(ctx);
	while (n--)
		send_to_all(dev, IBV_EVENT_GID_CHANGE);
}

void port_changed(struct device *dev)
{
	char msg[4096];
	bool up;

	/* What it says does not matter, nor that it may have been too much for the
	 * socket: the interface is asked. */
	while (recv(dev->port_fd, msg, sizeof(msg), 0) >= 0) {
	}
	gids_refresh(dev);
	up = port_is_up(dev);
	engine_lock(dev);
	if (up != dev->port_up) {
		dev->port_up = up;
		send_to_all(dev, up ? IBV_EVENT_PORT_ACTIVE : IBV_EVENT_PORT_ERR);
	}
	engine_unlock(dev);
}

const struct verbs_context_ops port_ops = {
	.query_port = query_port,
};
