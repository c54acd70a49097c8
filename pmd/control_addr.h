/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Addresses of drivers: numeric text, socket address and GID of one and the same thing.
 */
#ifndef PMD_CONTROL_ADDR_H
#define PMD_CONTROL_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

/** union control_addr - an IPv4 or IPv6 address with a TCP port */
union control_addr {
	struct sockaddr sa;
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
};

#define CONTROL_ADDR_TEXT 64 /* bytes that control_addr_text() needs at most */

/** control_addr_parse() - numeric text to address
 * @text: "10.0.0.1", "fd00::1" or "fe80::1%eth0"
 * @port: host order
 * Return: 0, or -EINVAL when it is none, or one that no single node can have (any,
 *         broadcast, multicast), or an IPv4-mapped one, whose GID would be that of the
 *         IPv4 address
 */
int control_addr_parse(const char *text, uint16_t port, union control_addr *addr);

socklen_t control_addr_size(const union control_addr *addr);

/** control_addr_port() - host order */
uint16_t control_addr_port(const union control_addr *addr);

/** control_addr_same_host() - the same address, whatever the ports */
bool control_addr_same_host(const union control_addr *a, const union control_addr *b);

/** control_addr_gid() - IPv4 as ::ffff:a.b.c.d */
void control_addr_gid(const union control_addr *addr, uint8_t gid[16]);

/** control_addr_text() - the address without its port; returns @buf */
const char *control_addr_text(
	const union control_addr *addr, char buf[CONTROL_ADDR_TEXT]);

#endif
