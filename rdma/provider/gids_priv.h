/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the table (gids.c) and the opening of its links (gids_open.c) need of each other.
 * By the device's thread, or who opens the device; without locks.
 */
#ifndef RDMA_PROVIDER_GIDS_PRIV_H
#define RDMA_PROVIDER_GIDS_PRIV_H

#include <stdint.h>

struct device;
struct link;

/* gids.c */
/* Put a link's address into the first free entry; consumed on success. Return: 0,
 * -ENOSPC, or as link_set_add()
 */
int gids_add(struct device *dev, struct link *link);
/* Take what the interface has. Return: 0, or why it has nothing that can be taken */
int gids_take_all(struct device *dev);

/* gids_open.c */
/* Open a link on an address of dev->ifname and put it into the table. Return: 0 or a
 * negative errno
 */
int gids_open_one(struct device *dev, const uint8_t gid[16]);

#endif
