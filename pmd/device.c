/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See device.h.
 */
#include "pmd/device.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/log.h"
#include "lib/util.h"
#include "rdma/include/vrdma.h"

#define MODULE "device"

static void gid_of_address(const char *address, uint8_t gid[16])
{
	if (inet_pton(AF_INET6, address, gid) == 1)
		return;
	memset(gid, 0, 10);
	gid[10] = 0xff;
	gid[11] = 0xff;
	inet_pton(AF_INET, address, gid + 12);
}

static bool gid_at(
	struct ibv_context *ctx, uint8_t port_num, int index, const uint8_t gid[16])
{
	struct ibv_gid_entry entry;

	return ibv_query_gid_ex(ctx, port_num, (uint32_t)index, &entry, 0) == 0 &&
	       entry.gid_type == IBV_GID_TYPE_ROCE_V2 &&
	       memcmp(entry.gid.raw, gid, 16) == 0;
}

/* find_gid() - the port of a device that has the local address, as RoCEv2 */
static int find_gid(struct ibv_context *ctx, struct device *dev)
{
	struct ibv_device_attr attr;

	if (ibv_query_device(ctx, &attr))
		return -EIO;
	for (uint8_t port = 1; port <= attr.phys_port_cnt; port++) {
		struct ibv_port_attr port_attr;

		if (ibv_query_port(ctx, port, &port_attr))
			continue;
		for (int i = 0; i < port_attr.gid_tbl_len && i <= UINT8_MAX; i++)
			if (gid_at(ctx, port, i, dev->gid)) {
				dev->port_num = port;
				dev->gid_index = (uint8_t)i;
				return 0;
			}
	}
	return -EADDRNOTAVAIL;
}

/* open_ibv() - @name: NULL for the first device that has the local address */
static int open_ibv(const char *name, struct device *dev)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	int ret = -ENODEV, err;

	if (!list)
		return -ENODEV;
	for (int i = 0; list[i] && !dev->ctx; i++) {
		struct ibv_context *ctx;

		if (name && strcmp(ibv_get_device_name(list[i]), name) != 0)
			continue;
		ctx = ibv_open_device(list[i]);
		err = ctx ? find_gid(ctx, dev) : -EIO;
		/* What failed tells more than what has another address. */
		if (!err || ret != -EIO)
			ret = err;
		if (ctx && err)
			ibv_close_device(ctx);
		else
			dev->ctx = ctx;
	}
	ibv_free_device_list(list);
	return ret;
}

static int open_userspace(const char *local, struct device *dev)
{
	struct vrdma_attr attr = {.addr = local};

	dev->ctx = vrdma_open_device(&attr);
	if (!dev->ctx)
		return -errno;
	/* One port with one GID: the local address. */
	dev->userspace = true;
	dev->port_num = 1;
	dev->gid_index = 0;
	return 0;
}

static const char *why_not(int err)
{
	switch (err) {
	case -ENODEV:
		return "there is no such device";
	case -EADDRNOTAVAIL:
		return "the device or this host does not have the address";
	case -EADDRINUSE:
		return "UDP port 4791 of the address is taken: another vRDMA device?";
	default:
		return strerror(-err);
	}
}

/* open_auto() - says what was chosen and why: the two differ much in speed */
static int open_auto(const char *local, struct device *dev)
{
	int why = open_ibv(NULL, dev), ret;

	if (!why) {
		log_write(LOG_LEVEL_INFO, MODULE, "device=auto: %s has %s",
			ibv_get_device_name(dev->ctx->device), local);
		return 0;
	}
	ret = open_userspace(local, dev);
	if (!ret)
		log_write(why == -EIO ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, MODULE,
			"device=auto: the userspace device on %s, as of the others: %s",
			local, why_not(why));
	return ret;
}

static int open_context(const char *name, const char *local, struct device *dev)
{
	if (strcmp(name, "udp") == 0)
		return open_userspace(local, dev);
	if (strcmp(name, "auto") != 0)
		return open_ibv(name, dev);
	return open_auto(local, dev);
}

static int query(struct device *dev)
{
	struct ibv_port_attr port_attr;

	if (ibv_query_device(dev->ctx, &dev->attr) ||
		ibv_query_port(dev->ctx, dev->port_num, &port_attr))
		return -EIO;
	dev->mtu = port_attr.active_mtu;
	dev->pd = ibv_alloc_pd(dev->ctx);
	return dev->pd ? 0 : -errno;
}

int device_open(const char *name, const char *local, struct device *dev, char *err,
	size_t err_size)
{
	int ret;

	memset(dev, 0, sizeof(*dev));
	gid_of_address(local, dev->gid);
	ret = open_context(name, local, dev);
	if (!ret) {
		ret = query(dev);
		if (ret) {
			ibv_close_device(dev->ctx);
			dev->ctx = NULL;
		}
	}
	if (ret)
		snprintf(err, err_size, "device=%s on local=%s cannot be opened: %s",
			name, local, why_not(ret));
	return ret;
}

void device_close(struct device *dev)
{
	ibv_dealloc_pd(dev->pd);
	ibv_close_device(dev->ctx);
}

int device_numa_node(const struct device *dev)
{
	char path[IBV_SYSFS_PATH_MAX + 32];
	int node = -1;
	FILE *file;

	snprintf(path, sizeof(path), "%s/device/numa_node", dev->ctx->device->ibdev_path);
	file = fopen(path, "r");
	if (!file)
		return -1;
	if (fscanf(file, "%d", &node) != 1)
		node = -1;
	fclose(file);
	return node;
}

bool device_link(const struct device *dev, uint32_t *mbps)
{
	/* By the codes of ibv_query_port(3), each per lane. */
	static const struct {
		uint32_t code, mbps;
	} speeds[] = {{1, 2500}, {2, 5000}, {4, 10000}, {8, 10000}, {16, 14000},
		{32, 25000}, {64, 50000}, {128, 100000}};
	static const struct {
		uint32_t code, lanes;
	} widths[] = {{1, 1}, {2, 4}, {4, 8}, {8, 12}, {16, 2}};
	struct ibv_port_attr attr;
	uint32_t lanes = 0;

	*mbps = 0;
	if (ibv_query_port(dev->ctx, dev->port_num, &attr))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(widths); i++)
		if (widths[i].code == attr.active_width)
			lanes = widths[i].lanes;
	for (size_t i = 0; i < ARRAY_SIZE(speeds); i++)
		if (speeds[i].code == attr.active_speed)
			*mbps = speeds[i].mbps * lanes;
	return attr.state == IBV_PORT_ACTIVE;
}
