/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device's sysfs folder, as far as libibverbs reads it. The kernel makes it for the
 * devices that it drives; for ours vrdma-run makes it (found by search), or the device
 * itself does (gid_dir.c: opened in-process).
 */
#ifndef RDMA_PROVIDER_DEVICE_DIR_H
#define RDMA_PROVIDER_DEVICE_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEVICE_GID_MAX	 32 /* entries of a GID table */
#define DEVICE_ADDR_SIZE 64 /* of one address as text, what goes with it included */

/** struct device_where - what a device is on, as text; "" where there is none
 *
 * With a port it is a host of its own on that interface (rdma/io/port.h), else its
 * addresses are the kernel's (rdma/io/udp.h): those that are named, or all that the
 * interface has, as they come and go.
 */
struct device_where {
	/* with commas between them; interface included (fe80::1%eth0); of a port: prefix
	 * included */
	char addr[DEVICE_GID_MAX * DEVICE_ADDR_SIZE];
	char interface[16]; /* with no addr */
	char port[16];	    /* interface */
	char mac[18];	    /* the rest: of a port only */
	char gateway[2 * DEVICE_ADDR_SIZE];
};

/** device_where_item() - item @i of a list with commas between items
 * @item: filled, cut off if too long; "" if there is none
 * Return: whether there is one
 */
bool device_where_item(const char *list, int i, char item[DEVICE_ADDR_SIZE]);

/** device_dir_write() - make the files that ibv_query_gid(), ibv_query_gid_ex(),
 * ibv_query_pkey() and ibv_get_device_guid() read
 * @dir:  an existing folder
 * @guid: the device's
 * @gids: its table, of @size entries; zeros: that entry is empty
 * @ifname: the interface that has the addresses
 * Return: 0 or a negative errno
 */
int device_dir_write(const char *dir, const uint8_t guid[8], uint8_t gids[][16], int size,
	const char *ifname);

/** device_dir_put() - make one file @name below @dir with @text as its one line
 * Return: 0, -EEXIST, -ENOSPC, -ENAMETOOLONG or what open(2) says
 */
int device_dir_put(const char *dir, const char *name, const char *text);

/** device_dir_set_gid() - another GID at @index, or none (zeros)
 * Return: 0 or a negative errno
 */
int device_dir_set_gid(
	const char *dir, int index, const uint8_t gid[16], const char *ifname);

/** device_dir_where_put() - note in @dir, which then is one of our devices', where it is
 * Return: as device_dir_put()
 */
int device_dir_where_put(const char *dir, const struct device_where *where);

/** device_dir_where_get() - read what device_dir_where_put() noted
 * Return: 0, -ENOENT (it is none of ours), or another negative errno
 */
int device_dir_where_get(const char *dir, struct device_where *where);

#endif
