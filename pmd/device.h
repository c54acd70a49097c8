/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The RDMA device under a port: found and opened as the arguments say. This is the one
 * place that knows of the userspace device; the rest is the public libibverbs API.
 */
#ifndef PMD_DEVICE_H
#define PMD_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <infiniband/verbs.h>

struct device {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_device_attr attr;
	enum ibv_mtu mtu; /* of the port */
	uint8_t port_num;
	uint8_t gid_index;
	uint8_t gid[16]; /* of the local address */
	bool userspace;	 /* ours: vrdma_query_counters() works */
};

/** device_open() - open the device that has the local address
 * @name: of an ibv device, or "udp" (the userspace device), or "auto"
 * @err:  a sentence for people when it failed
 * Return: 0 or a negative errno
 */
int device_open(const char *name, const char *local, struct device *dev, char *err,
	size_t err_size);
void device_close(struct device *dev);

/** device_numa_node() - the NUMA node that the device is attached to, or -1: not known */
int device_numa_node(const struct device *dev);

/** device_link() - is the port active, and its speed in Mb/s (0 when not known) */
bool device_link(const struct device *dev, uint32_t *mbps);

#endif
