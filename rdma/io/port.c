/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening and closing a packet port: what it is asked to be, its sockets, and a word to
 * the others on the link. Nothing here is on the fast path.
 */
#include "port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/util.h"
#include "port_priv.h"

/* How long a host that has our address already may take to say so. */
#define PROBE_MS 50

/* What is asked for */

/* "ADDRESS/LENGTH" */
static int addr_parse(const char *text, struct neigh_config *config)
{
	char addr[64], end;
	unsigned int len, bits;
	uint32_t scope;

	if (sscanf(text, "%63[^/]/%3u%c", addr, &len, &end) != 2)
		return -EINVAL;
	if (gid_parse(addr, config->gid, &scope) || scope ||
		!eth_gid_is_host(config->gid))
		return -EINVAL;
	bits = gid_is_ipv4(config->gid) ? 32 : 128;
	if (len == 0 || len > bits)
		return -EINVAL;
	config->prefix_len = (uint8_t)(128 - bits + len);
	return 0;
}

static int gateway_parse(const char *text, struct neigh_config *config)
{
	uint32_t scope;

	if (!text)
		return 0;
	if (gid_parse(text, config->gateway, &scope) || scope ||
		!eth_gid_is_host(config->gateway) ||
		gid_is_ipv4(config->gateway) != gid_is_ipv4(config->gid) ||
		!memcmp(config->gateway, config->gid, 16) ||
		!neigh_in_network(config, config->gateway))
		return -EINVAL;
	config->has_gateway = true;
	return 0;
}

/* The same for the same address each time, so that neighbours need not learn anew; and
 * locally administered.
 */
static void mac_of_address(const uint8_t gid[16], uint8_t mac[ETH_MAC_SIZE])
{
	uint32_t hash = 0;

	for (int i = 0; i < 12; i++)
		hash = hash * 31 + gid[i];
	mac[0] = 0x02;
	mac[1] = gid_is_ipv4(gid) ? 0x76 : (uint8_t)(hash ^ hash >> 8);
	memcpy(mac + 2, gid + 12, 4);
}

static int mac_parse(const char *text, const uint8_t gid[16], uint8_t mac[ETH_MAC_SIZE])
{
	char end;

	if (!text) {
		mac_of_address(gid, mac);
		return 0;
	}
	if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &mac[0], &mac[1],
		    &mac[2], &mac[3], &mac[4], &mac[5], &end) != 6)
		return -EINVAL;
	return eth_mac_is_host(mac) ? 0 : -EINVAL;
}

static int attr_read(struct link_port *port, const struct link_port_attr *attr,
	struct neigh_config *config)
{
	int err = addr_parse(attr->addr, config);

	if (!err)
		err = gateway_parse(attr->gateway, config);
	if (!err)
		err = mac_parse(attr->mac, config->gid, port->self.mac);
	if (err)
		return err;
	memcpy(port->self.gid, config->gid, 16);
	memcpy(port->link.gid, config->gid, 16);
	port->is_ipv4 = gid_is_ipv4(config->gid);
	return 0;
}

/* The interface */

static int interface_ask(
	const struct link_port *port, unsigned long what, struct ifreq *req)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), err = 0;

	if (fd < 0)
		return -errno;
	*req = (struct ifreq){0};
	memcpy(req->ifr_name, port->link.ifname, sizeof(req->ifr_name));
	if (ioctl(fd, what, req) < 0)
		err = -errno;
	close(fd);
	return err;
}

static int mtu_read(struct link_port *port)
{
	struct ifreq req;
	int err = interface_ask(port, SIOCGIFMTU, &req);

	if (!err)
		port->link.ip_mtu = (uint32_t)req.ifr_mtu;
	return err;
}

static int interface_read(struct link_port *port, const char *ifname)
{
	struct ifreq req;
	int err;

	port->ifindex = (int)if_nametoindex(ifname);
	if (!port->ifindex)
		return -ENODEV;
	snprintf(port->link.ifname, sizeof(port->link.ifname), "%s", ifname);
	err = interface_ask(port, SIOCGIFHWADDR, &req);
	if (err)
		return err;
	if (req.ifr_hwaddr.sa_family != ARPHRD_ETHER)
		return -EPROTONOSUPPORT;
	return mtu_read(port);
}

/* The address is ours as long as the interface is there. */
static void link_port_refresh(struct link *link)
{
	link->has_gid = mtu_read(link_port(link)) == 0;
}

/* It would answer for it too, and refuse what comes for us. */
static bool kernel_has(const uint8_t gid[16])
{
	struct ifaddrs *all, *ifa;
	uint8_t other[16];
	bool found = false;

	if (getifaddrs(&all) < 0)
		return false;
	for (ifa = all; ifa && !found; ifa = ifa->ifa_next)
		found = ifa->ifa_addr && !gid_from_sockaddr(ifa->ifa_addr, other) &&
			!memcmp(other, gid, 16);
	freeifaddrs(all);
	return found;
}

int link_port_check(const struct link_port_attr *attr, uint8_t gid[16])
{
	struct neigh_config config = {0};
	struct link_port port = {0};
	int err = attr_read(&port, attr, &config);

	memcpy(gid, config.gid, 16);
	return err ? err : interface_read(&port, attr->ifname);
}

/* The link */

/* No other process of this network namespace has the address on this interface: a name
 * that goes with its owner, in the namespace's own list of names (unix(7), "abstract").
 */
static int name_take(struct link_port *port)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	char addr[INET6_ADDRSTRLEN];
	int len;

	port->name_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (port->name_fd < 0)
		return -errno;
	inet_ntop(AF_INET6, port->self.gid, addr, sizeof(addr));
	len = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "vrdma-port/%s/%s",
		port->link.ifname, addr);
	if (bind(port->name_fd, (struct sockaddr *)&name,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
				(size_t)len)))
		return -errno;
	return 0;
}

/* Our MAC into the interface's filter. */
static int mac_add(const struct link_port *port)
{
	struct packet_mreq req = {
		.mr_ifindex = port->ifindex,
		.mr_type = PACKET_MR_UNICAST,
		.mr_alen = ETH_MAC_SIZE,
	};

	memcpy(req.mr_address, port->self.mac, ETH_MAC_SIZE);
	if (setsockopt(port->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &req, sizeof(req)) <
		0)
		return -errno;
	return 0;
}

static int sockets_open(struct link_port *port)
{
	int err = port_rings_open(port);

	port->rx.has_rings = !err;
	if (err) {
		log_write(LOG_LEVEL_INFO, "port", "%s: no rings (%s), a slower port",
			port->link.ifname, strerror(-err));
		err = port_queue_open(port);
	}
	if (err)
		return err;
	port->tapped_fd = port_socket_open_mute(port);
	return port->tapped_fd < 0 ? port->tapped_fd : mac_add(port);
}

/* Is there another host with our address? Then neither would work. One that is slow to
 * answer is noticed later, and told of.
 */
static int address_probe(struct link_port *port)
{
	struct link_rx ignored[LINK_BURST];
	uint64_t end = now_ns() + PROBE_MS * NSEC_PER_MSEC, now;
	uint8_t frame[NEIGH_MSG_MAX];

	port_frame_send(port, frame, neigh_probe_put(&port->self, frame));
	while ((now = now_ns()) < end) {
		link_wait(&port->link, (int)((end - now) / NSEC_PER_MSEC) + 1);
		link_port_recv(&port->link, ignored, LINK_BURST);
		if (port->link.stats.neigh_conflicts)
			return -EADDRINUSE;
	}
	port->defends = true;
	port_frame_send(port, frame, neigh_announce_put(&port->self, frame));
	return 0;
}

static void link_port_close(struct link *link)
{
	struct link_port *port = link_port(link);

	port_groups_close(port);
	if (port->rx.has_rings)
		port_rings_close(port);
	else
		port_queue_close(port);
	if (port->tapped_fd >= 0)
		close(port->tapped_fd);
	if (port->name_fd >= 0)
		close(port->name_fd);
	neigh_destroy(port->neigh);
	pthread_mutex_destroy(&port->neigh_lock);
	free(port);
}

static const struct link_ops link_port_ops = {
	.send = link_port_send,
	.expect = link_port_expect,
	.recv = link_port_recv,
	.join = link_port_join,
	.leave = link_port_leave,
	.refresh = link_port_refresh,
	.close = link_port_close,
};

static struct link_port *link_port_alloc(void)
{
	struct link_port *port = calloc(1, sizeof(*port));

	if (!port)
		return NULL;
	port->link.ops = &link_port_ops;
	port->link.has_gid = true;
	port->link.fd = -1;
	port->link.more_fd = -1;
	port->fd = -1;
	port->tapped_fd = -1;
	port->name_fd = -1;
	port->tx.max_pkts = RUN_MAX_PKTS;
	port->tx.gso_refusal = EINVAL; /* Linux before 6.2 */
	pthread_mutex_init(&port->neigh_lock, NULL);
	return port;
}

int link_port_open(const struct link_port_attr *attr, struct link **out)
{
	struct link_port *port = link_port_alloc();
	struct neigh_config config = {0};
	int err;

	if (!port)
		return -ENOMEM;
	err = attr_read(port, attr, &config);
	if (!err)
		err = interface_read(port, attr->ifname);
	if (!err && kernel_has(config.gid))
		err = -EADDRINUSE;
	if (!err)
		err = neigh_create(&config, &port->neigh);
	if (!err)
		err = sockets_open(port);
	if (!err)
		err = name_take(port);
	if (!err)
		err = port_groups_open(port);
	if (!err)
		err = address_probe(port);
	if (err) {
		link_port_close(&port->link);
		return err;
	}
	*out = &port->link;
	return 0;
}
