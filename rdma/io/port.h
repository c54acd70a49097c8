/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The link over a packet socket: a host of its own on an interface's Ethernet, with a MAC
 * and an IP address that the kernel knows nothing of. So the whole IP header is ours:
 * every packet's ICRC is checked, over IPv4 too. Answers and asks ARP or neighbour
 * discovery. Several links, of one process or many, may share an interface.
 *
 * What the host itself sends on that interface reaches the link, but not the other way
 * round: such frames leave by the wire, as with macvlan.
 */
#ifndef RDMA_IO_PORT_H
#define RDMA_IO_PORT_H

#include "link.h"

struct link_port_attr {
	const char *ifname;
	const char *addr;    /* and prefix length: "10.0.0.5/24", "fd00::5/64" */
	const char *mac;     /* "02:00:00:00:00:05"; NULL: one that follows from addr */
	const char *gateway; /* for what is not in the prefix; NULL: there is none */
};

/** link_port_check() - would link_port_open() understand @attr? Opens nothing.
 * @gid: filled: the address
 * Return: 0, -EINVAL, -ENODEV or -EPROTONOSUPPORT, as that would
 */
int link_port_check(const struct link_port_attr *attr, uint8_t gid[16]);

/** link_port_open() - open a link on an interface
 * @attr: borrowed for the call
 * @out:  the link; freed by link_close()
 * Return: 0; -EINVAL (something in @attr is no such thing), -ENODEV (no such interface),
 *         -EPROTONOSUPPORT (not Ethernet), -EPERM (needs CAP_NET_RAW in the network
 *         namespace), -EADDRINUSE (the kernel has the address, or a host that answers),
 *         or what socket(2) says
 */
int link_port_open(const struct link_port_attr *attr, struct link **out);

#endif
