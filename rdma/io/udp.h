/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The link over UDP sockets: GSO on transmit, GRO on receive, IPv4 and IPv6, no
 * privilege needed.
 *
 * Receives on one socket bound to the address and port 4791. Sends from a few sockets
 * bound to ports 0xC000 + 14 bits, as RoCEv2 puts flow entropy into the source port.
 */
#ifndef RDMA_IO_UDP_H
#define RDMA_IO_UDP_H

#include "link.h"

/** link_udp_open() - open a link on a local address
 * @addr: IPv4 or IPv6 address as text ("10.0.0.1", "fd00::1", "fe80::1%eth0")
 * @out:  the link; freed by link_close()
 * Return: 0, -EINVAL (no address), -EADDRNOTAVAIL (not ours), -EADDRINUSE (another
 *         device has the port), or what socket(2) and bind(2) say
 */
int link_udp_open(const char *addr, struct link **out);

#endif
