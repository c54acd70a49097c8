/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packet port's sockets.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <unistd.h>

#include "port_priv.h"

#define ETH_P_EVERY 0x0003 /* ETH_P_ALL, of a header that clashes with eth.h */
/* A burst at 4 KiB path MTU is 256 KiB; some tens of them may wait to be sent. */
#define SEND_BUFFER (16 << 20)

void port_buffer_grow(int fd, int force, int plain, int size)
{
	if (setsockopt(fd, SOL_SOCKET, force, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, plain, &size, sizeof(size));
}

int port_socket_open(const struct link_port *port)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), err;
	int one = 1;

	if (fd < 0)
		return -errno;
	port_buffer_grow(fd, SO_SNDBUFFORCE, SO_SNDBUF, SEND_BUFFER);
	if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) < 0)
		err = -errno;
	else
		err = port_filter_set(port, fd);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

static int bind_to(const struct link_port *port, int fd, uint16_t protocol)
{
	struct sockaddr_ll where = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(protocol),
		.sll_ifindex = port->ifindex,
	};

	return bind(fd, (struct sockaddr *)&where, sizeof(where)) < 0 ? -errno : 0;
}

int port_socket_bind(const struct link_port *port, int fd)
{
	return bind_to(port, fd, ETH_P_EVERY);
}

int port_socket_open_mute(const struct link_port *port)
{
	int fd = port_socket_open(port), err;

	if (fd < 0)
		return fd;
	err = bind_to(port, fd, 0);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}
