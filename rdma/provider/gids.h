/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device's GID table, and the links below it. Each address has a link of its own.
 *
 * A device is either on addresses that were named, which are its table for ever, or on
 * an interface, whatever addresses that has: one that comes takes the first free entry,
 * one that goes leaves an empty one. Either way the entry of an address that went reads
 * as zeros and nothing new can be sent from it. What is connected from it, or has an
 * address handle that names it, keeps the entry and goes on when the address is back;
 * only when there is nothing of that kind may another address have the entry.
 *
 * Locking: device.lock for all of struct gids. Only the device's thread writes it (or who
 * opens the device, before there is one), the counts of users apart; links come and go
 * while neither rx_lock nor lock is another's.
 */
#ifndef RDMA_PROVIDER_GIDS_H
#define RDMA_PROVIDER_GIDS_H

#include <infiniband/verbs.h>

#include <stdbool.h>
#include <stdint.h>

#include "device_dir.h"

struct device;

struct gid_entry {
	uint8_t gid[16];
	bool is_taken;	 /* it has an address, and a link */
	bool is_present; /* which the interface has */
	uint32_t n_users;
};

struct gids {
	bool follows; /* the interface: no address was named */
	uint8_t size; /* entries, empty ones too */
	struct gid_entry entry[DEVICE_GID_MAX];
	/* addresses of the interface that it could not take when it last looked */
	int n_left_out;
	uint8_t left_out[DEVICE_GID_MAX][16];
	/* see docs/counters.md */
	uint64_t n_changes;
	uint64_t n_omissions;
};

/** gids_open() - open links on what @where says, and make the table
 * Return: 0, -EINVAL (also: addresses of several interfaces), -ENODEV, -EADDRNOTAVAIL
 * (the interface has no address), or as link_udp_open() and link_port_open(); of an
 *         interface only if it can't have any of its addresses
 */
int gids_open(struct device *dev, const struct device_where *where);
void gids_close(struct device *dev);

/** gids_look_again() - let the device's thread call gids_refresh() */
void gids_look_again(struct device *dev);

/** gids_refresh() - interfaces or addresses have changed, or nobody uses an entry any
 * more. By the device's thread, without locks.
 */
void gids_refresh(struct device *dev);

/** gids_read() - the table as programs see it: zeros where there is no address
 * @gids: room for DEVICE_GID_MAX
 */
void gids_read(const struct device *dev, uint8_t gids[][16]);

/** gids_check() - can packets be sent the way that @route says?
 * Return: 0, or -EINVAL: no GRH, an empty entry, or one of the other IP version
 */
int gids_check(const struct device *dev, const struct ibv_ah_attr *route);

/** gids_use(), gids_unuse() - something that names entry @index begins or ends */
void gids_use(struct device *dev, uint8_t index);
void gids_unuse(struct device *dev, uint8_t index);

#endif
