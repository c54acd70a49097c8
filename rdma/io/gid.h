/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * GIDs and socket addresses: the one place that knows that ::ffff:a.b.c.d is an IPv4
 * address and belongs into a sockaddr_in.
 */
#ifndef RDMA_IO_GID_H
#define RDMA_IO_GID_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

#include "rdma/wire/gid.h"

union gid_sockaddr {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/** gid_parse() - a GID from an address as text
 * @text:  "10.0.0.1", "fd00::1", "fe80::1%eth0"
 * @gid:   filled
 * @scope: filled: the interface's index if @text names one, else 0
 * Return: 0, or -EINVAL
 */
int gid_parse(const char *text, uint8_t gid[16], uint32_t *scope);

/** gid_print() - an address as text, without its interface
 * @text: room for INET6_ADDRSTRLEN
 */
void gid_print(const uint8_t gid[16], char *text);

/** gid_from_ipv4() - ::ffff:a.b.c.d of the four bytes at @addr */
void gid_from_ipv4(const void *addr, uint8_t gid[16]);

/** gid_from_sockaddr() - 0, or -EAFNOSUPPORT if @sa is neither IPv4 nor IPv6 */
int gid_from_sockaddr(const struct sockaddr *sa, uint8_t gid[16]);

/** gid_to_sockaddr() - the socket address of a GID
 * @scope: interface index for link-local addresses and groups
 * @port:  host order
 * Return: the address's size
 */
socklen_t gid_to_sockaddr(
	const uint8_t gid[16], uint32_t scope, uint16_t port, union gid_sockaddr *out);

#endif
