/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device's sysfs folder, as far as libibverbs reads it. The kernel makes it for the
 * devices that it drives; for ours vrdma-run makes it (found by search), or the device
 * itself does (gid_dir.c: opened in-process).
 */
#ifndef RDMA_PROVIDER_DEVICE_DIR_H
#define RDMA_PROVIDER_DEVICE_DIR_H

#include <stddef.h>
#include <stdint.h>

/** struct device_where - what a device is on, as text; "" where there is none
 *
 * With a port it is a host of its own on that interface (rdma/io/port.h), else the
 * address is the kernel's (rdma/io/udp.h).
 */
struct device_where {
	char addr[64]; /* interface included (fe80::1%eth0); of a port: prefix included */
	char port[16]; /* interface */
	char mac[18];  /* the rest: of a port only */
	char gateway[64];
};

/** device_dir_write() - make the files that ibv_query_gid(), ibv_query_gid_ex(),
 * ibv_query_pkey() and ibv_get_device_guid() read
 * @dir:    an existing folder
 * @gid:    the device's address
 * @ifname: the interface that has it
 * Return: 0 or a negative errno
 */
int device_dir_write(const char *dir, const uint8_t gid[16], const char *ifname);

/** device_dir_put() - make one file @name below @dir with @text as its one line
 * Return: 0, -EEXIST, -ENOSPC, -ENAMETOOLONG or what open(2) says
 */
int device_dir_put(const char *dir, const char *name, const char *text);

/** device_dir_set_gid() - another GID, or none (zeros)
 * Return: 0 or a negative errno
 */
int device_dir_set_gid(const char *dir, const uint8_t gid[16]);

/** device_dir_where_put() - note in @dir, which then is one of our devices', where it is
 * Return: as device_dir_put()
 */
int device_dir_where_put(const char *dir, const struct device_where *where);

/** device_dir_where_get() - read what device_dir_where_put() noted
 * Return: 0, -ENOENT (it is none of ours), or another negative errno
 */
int device_dir_where_get(const char *dir, struct device_where *where);

#endif
