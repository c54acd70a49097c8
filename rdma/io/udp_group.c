/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Multicast groups of the UDP link. The link's own socket is bound to its address, so
 * that other links of the host can have theirs, and gets nothing that is sent to a group.
 * Each group has a socket of its own, bound to the group: all links of the host may have
 * one. As there may be many of them, an epoll descriptor tells which has something.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "lib/util.h"
#include "udp_priv.h"

/* Where groups are joined that have no end: the interface of the link's address. */
static int membership(const struct link_udp *udp, int fd, const uint8_t gid[16])
{
	struct ipv6_mreq req6 = {.ipv6mr_interface = udp->scope};
	struct ip_mreqn req = {.imr_ifindex = (int)udp->scope};

	if (udp->is_ipv4) {
		memcpy(&req.imr_multiaddr, gid + 12, sizeof(req.imr_multiaddr));
		return setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &req, sizeof(req));
	}
	memcpy(&req6.ipv6mr_multiaddr, gid, sizeof(req6.ipv6mr_multiaddr));
	return setsockopt(fd, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &req6, sizeof(req6));
}

static int group_options(const struct link_udp *udp, int fd)
{
	int err = udp_option_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);

	/* Not what other sockets of the host joined, on other interfaces. */
	if (!err && udp->is_ipv4)
		err = udp_option_set(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
	else if (!err)
		err = udp_option_set(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
	return err ? err : udp_rx_options(udp, fd);
}

static int watch(int epoll_fd, struct udp_rx_socket *sock)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = sock};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, sock->fd, &ev) < 0 ? -errno : 0;
}

static int group_open(
	struct link_udp *udp, const uint8_t gid[16], struct udp_rx_socket *group)
{
	int fd = udp_socket_open(udp), err;

	group->fd = fd;
	memcpy(group->gid, gid, sizeof(group->gid));
	if (fd < 0)
		return fd;
	err = group_options(udp, fd);
	if (!err)
		err = udp_socket_bind(udp, fd, gid, WIRE_UDP_PORT);
	if (!err && membership(udp, fd, gid) < 0)
		err = -errno;
	return err ? err : watch(udp->rx.epoll_fd, group);
}

/* From the first group on, the link's descriptor is that of all its sockets. */
static int epoll_open(struct link_udp *udp)
{
	int fd, err;

	if (udp->rx.epoll_fd >= 0)
		return 0;
	fd = epoll_create1(EPOLL_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = watch(fd, &udp->rx.own);
	if (err) {
		close(fd);
		return err;
	}
	udp->rx.epoll_fd = fd;
	atomic_store(&udp->link.fd, fd);
	return 0;
}

static void group_free(struct udp_rx_socket *group)
{
	if (group->fd >= 0)
		close(group->fd);
	free(group);
}

int link_udp_join(struct link *link, const uint8_t gid[16])
{
	struct link_udp *udp = link_udp(link);
	struct udp_rx_socket *group;
	int err;

	if (!gid_is_multicast(gid) || gid_is_ipv4(gid) != udp->is_ipv4)
		return -EINVAL;
	group = calloc(1, sizeof(*group));
	if (!group)
		return -ENOMEM;
	err = epoll_open(udp);
	if (!err)
		err = group_open(udp, gid, group);
	if (err) {
		group_free(group);
		return err;
	}
	group->next = udp->rx.groups;
	udp->rx.groups = group;
	return 0;
}

void link_udp_leave(struct link *link, const uint8_t gid[16])
{
	struct udp_rx_socket **at = &link_udp(link)->rx.groups, *group;

	while (*at && memcmp((*at)->gid, gid, sizeof((*at)->gid)) != 0)
		at = &(*at)->next;
	group = *at;
	if (!group)
		return;
	*at = group->next;
	group_free(group);
}

void udp_groups_close(struct link_udp *udp)
{
	while (udp->rx.groups)
		link_udp_leave(&udp->link, udp->rx.groups->gid);
	if (udp->rx.epoll_fd >= 0)
		close(udp->rx.epoll_fd);
}

/* The kernel gives those that have something in turn. */
struct udp_rx_socket *udp_socket_ready(struct link_udp *udp)
{
	struct epoll_event ev;

	if (!udp->rx.groups)
		return &udp->rx.own;
	udp->link.stats.rx_syscalls++;
	return epoll_wait(udp->rx.epoll_fd, &ev, 1, 0) == 1 ? ev.data.ptr : NULL;
}
