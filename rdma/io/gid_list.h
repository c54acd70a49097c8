/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The addresses of an interface, as GIDs: what a device that has all of them has in its
 * table, by their order in it when it is opened.
 */
#ifndef RDMA_IO_GID_LIST_H
#define RDMA_IO_GID_LIST_H

#include <stdint.h>

/** gid_list() - IPv4 addresses, then global ones of IPv6, then link-local ones; each once
 * @ifname: an interface
 * @gids:   filled, at most @max
 * Return: how many there are, which may be more than @max; -ENODEV (no such interface),
 *         or what getifaddrs(3) says
 */
int gid_list(const char *ifname, uint8_t gids[][16], int max);

#endif
