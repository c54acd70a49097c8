/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening and closing a UDP link: which interface the address is on, the receive socket
 * and the transmit sockets with their options. Nothing here is on the fast path.
 */
#include "udp.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/filter.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/util.h"
#include "udp_priv.h"

/* A burst at 4 KiB path MTU is 256 KiB; some tens of them may wait for a poll. */
#define SOCKET_BUFFER (16 << 20)
/* RoCEv2 source ports: 0xC000 + 14 bits of entropy (annex A17). */
#define SPORT_BASE     0xc000
#define SPORT_MASK     0x3fff
#define SPORT_ATTEMPTS 64

/* Is @gid the address of @ifa, or one of a loopback network, which is local as a whole?
 */
static bool ifaddr_matches(const struct ifaddrs *ifa, const uint8_t gid[16])
{
	struct sockaddr_in own, mask;
	uint8_t ifa_gid[16];
	uint32_t addr;

	if (!ifa->ifa_addr || gid_from_sockaddr(ifa->ifa_addr, ifa_gid) < 0)
		return false;
	if (!memcmp(ifa_gid, gid, sizeof(ifa_gid)))
		return true;
	if (!(ifa->ifa_flags & IFF_LOOPBACK) || !ifa->ifa_netmask || !gid_is_ipv4(gid) ||
		ifa->ifa_addr->sa_family != AF_INET)
		return false;
	memcpy(&own, ifa->ifa_addr, sizeof(own));
	memcpy(&mask, ifa->ifa_netmask, sizeof(mask));
	memcpy(&addr, gid + 12, sizeof(addr));
	return ((own.sin_addr.s_addr ^ addr) & mask.sin_addr.s_addr) == 0;
}

/* Find the interface that has @gid, or see whether the one with index *@scope has it.
 * Return: 0 and its index and name, or -EADDRNOTAVAIL, or another errno: can't tell
 */
static int interface_find(const uint8_t gid[16], uint32_t *scope, char ifname[16])
{
	struct ifaddrs *all, *ifa;
	int err = -EADDRNOTAVAIL;

	if (getifaddrs(&all) < 0)
		return -errno;
	for (ifa = all; ifa && err; ifa = ifa->ifa_next) {
		uint32_t index = if_nametoindex(ifa->ifa_name);

		if (!ifaddr_matches(ifa, gid) || (*scope && index != *scope))
			continue;
		*scope = index;
		snprintf(ifname, IF_NAMESIZE, "%s", ifa->ifa_name);
		ifname[strcspn(ifname, ":")] = '\0'; /* an address' label: "eth0:1" */
		err = 0;
	}
	freeifaddrs(all);
	return err;
}

static int interface_mtu(struct link_udp *udp, int fd)
{
	struct ifreq req = {0};

	memcpy(req.ifr_name, udp->link.ifname, sizeof(req.ifr_name));
	if (ioctl(fd, SIOCGIFMTU, &req) < 0)
		return -errno;
	atomic_store(&udp->link.ip_mtu, (uint32_t)req.ifr_mtu);
	return 0;
}

int udp_option_set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* As much as the caller's privileges allow: beyond the limit, or up to it. */
static void buffer_grow(int fd, int force, int plain)
{
	if (udp_option_set(fd, SOL_SOCKET, force, SOCKET_BUFFER) < 0)
		udp_option_set(fd, SOL_SOCKET, plain, SOCKET_BUFFER);
}

int udp_socket_open(const struct link_udp *udp)
{
	int fd = socket(udp->is_ipv4 ? AF_INET : AF_INET6,
		SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);

	return fd < 0 ? -errno : fd;
}

int udp_socket_bind(
	const struct link_udp *udp, int fd, const uint8_t gid[16], uint16_t port)
{
	union gid_sockaddr addr;
	socklen_t size = gid_to_sockaddr(gid, udp->scope, port, &addr);

	return bind(fd, &addr.sa, size) < 0 ? -errno : 0;
}

int udp_rx_options(const struct link_udp *udp, int fd)
{
	int err;

	buffer_grow(fd, SO_RCVBUFFORCE, SO_RCVBUF);
	err = udp_option_set(fd, SOL_UDP, UDP_GRO, 1);
	if (!err)
		err = udp_option_set(fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
	if (err)
		return err;
	if (udp->is_ipv4)
		return udp_option_set(fd, IPPROTO_IP, IP_RECVTOS, 1);
	/* RoCE NICs leave the UDP checksum out, as the ICRC covers more; over IPv6 the
	 * kernel drops such packets unless told not to.
	 */
	err = udp_option_set(fd, SOL_UDP, UDP_NO_CHECK6_RX, 1);
	return err ? err : udp_option_set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
}

static int rx_open(struct link_udp *udp)
{
	int fd = udp_socket_open(udp), err;

	if (fd < 0)
		return fd;
	udp->rx.own.fd = fd;
	memcpy(udp->rx.own.gid, udp->link.gid, sizeof(udp->rx.own.gid));
	udp->link.fd = fd;
	err = udp_rx_options(udp, fd);
	if (!err)
		err = interface_mtu(udp, fd);
	if (!err)
		err = udp_socket_bind(udp, fd, udp->link.gid, WIRE_UDP_PORT);
	if (err)
		return err;

	udp->rx.data = aligned_alloc(4096, UDP_RX_BUFFERS * UDP_BUFFER_SIZE);
	if (!udp->rx.data)
		return -ENOMEM;
	udp_rx_init(&udp->rx);
	return 0;
}

/* Packets to groups leave by the link's interface, whatever the routes say. */
static int tx_group_options(const struct link_udp *udp, int fd)
{
	struct ip_mreqn via = {.imr_ifindex = (int)udp->scope};

	if (!udp->is_ipv4)
		return udp_option_set(
			fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, (int)udp->scope);
	if (setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &via, sizeof(via)) < 0)
		return -errno;
	return 0;
}

/*
 * The ICRC covers the IPv4 header, so its identification and DF have to be known
 * beforehand. With DF set the kernel leaves the identification of an unconnected socket's
 * packet 0, and counts up from 0 in the segments of a GSO send.
 *
 * PROBE sets DF like DO, but takes the MTU from the interface alone: the path MTU of RoCE
 * is configured, and a forged ICMP message must not stop a queue pair.
 */
static int tx_options(const struct link_udp *udp, int fd)
{
	/* Nobody reads these sockets: let nothing in. */
	struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog prog = {.len = 1, .filter = &drop};
	int err;

	buffer_grow(fd, SO_SNDBUFFORCE, SO_SNDBUF);
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0)
		return -errno;
	if (udp->is_ipv4) {
		err = udp_option_set(fd, IPPROTO_IP, IP_TOS, LINK_ECN_ECT0);
		if (!err)
			err = udp_option_set(
				fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
	} else {
		err = udp_option_set(fd, IPPROTO_IPV6, IPV6_TCLASS, LINK_ECN_ECT0);
		if (!err)
			err = udp_option_set(
				fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
		if (!err)
			err = udp_option_set(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
	}
	return err ? err : tx_group_options(udp, fd);
}

static int tx_socket_open(struct link_udp *udp, struct udp_tx_socket *sock)
{
	int fd = udp_socket_open(udp), err;

	if (fd < 0)
		return fd;
	sock->fd = fd;
	err = tx_options(udp, fd);
	if (err)
		return err;
	for (int i = 0; i < SPORT_ATTEMPTS; i++) {
		sock->port = (uint16_t)(SPORT_BASE | (random_u32() & SPORT_MASK));
		err = udp_socket_bind(udp, fd, udp->link.gid, sock->port);
		if (err != -EADDRINUSE)
			break;
	}
	return err;
}

static void link_udp_close(struct link *link)
{
	struct link_udp *udp = link_udp(link);

	for (int i = 0; i < UDP_TX_SOCKETS; i++) {
		if (udp->tx.socket[i].fd >= 0)
			close(udp->tx.socket[i].fd);
	}
	udp_groups_close(udp);
	if (udp->rx.own.fd >= 0)
		close(udp->rx.own.fd);
	free(udp->rx.data);
	free(udp);
}

/* The sockets stay bound to an address that goes, and serve it again when it is back. */
static void link_udp_refresh(struct link *link)
{
	struct link_udp *udp = link_udp(link);
	uint32_t index = udp->scope;
	char ifname[sizeof(link->ifname)];
	int err;

	interface_mtu(udp, udp->rx.own.fd);
	err = interface_find(link->gid, &index, ifname);
	if (!err || err == -EADDRNOTAVAIL)
		atomic_store(&link->has_gid, !err);
}

static const struct link_ops link_udp_ops = {
	.refresh = link_udp_refresh,
	.send = link_udp_send,
	.recv = link_udp_recv,
	.join = link_udp_join,
	.leave = link_udp_leave,
	.close = link_udp_close,
};

static struct link_udp *link_udp_alloc(void)
{
	struct link_udp *udp = calloc(1, sizeof(*udp));

	if (!udp)
		return NULL;
	udp->link.ops = &link_udp_ops;
	udp->rx.own.fd = -1;
	udp->rx.epoll_fd = -1;
	udp->link.more_fd = -1;
	udp->tx.runs.max_pkts = RUN_MAX_PKTS;
	/* on an interface without checksum offload */
	udp->tx.runs.gso_refusal = EIO;
	for (int i = 0; i < UDP_TX_SOCKETS; i++)
		udp->tx.socket[i].fd = -1;
	return udp;
}

int link_udp_open(const char *addr, struct link **out)
{
	struct link_udp *udp;
	uint8_t gid[16];
	uint32_t scope;
	int err;

	err = gid_parse(addr, gid, &scope);
	if (err)
		return err;
	udp = link_udp_alloc();
	if (!udp)
		return -ENOMEM;
	memcpy(udp->link.gid, gid, sizeof(gid));
	udp->is_ipv4 = gid_is_ipv4(gid);

	udp->scope = scope;
	err = interface_find(gid, &udp->scope, udp->link.ifname);
	udp->link.has_gid = !err;
	if (!err)
		err = rx_open(udp);
	for (int i = 0; i < UDP_TX_SOCKETS && !err; i++)
		err = tx_socket_open(udp, &udp->tx.socket[i]);
	if (err) {
		link_udp_close(&udp->link);
		return err;
	}
	*out = &udp->link;
	return 0;
}
