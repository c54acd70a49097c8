/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device, without a kernel driver behind it. There are two ways to one:
 *
 * - libibverbs finds it in the sysfs tree that vrdma-run made, and this provider is its
 *   plug-in: match_device(), alloc_device(), alloc_context();
 * - vrdma_open_device() makes the verbs_device by itself, inside the process.
 *
 * The command descriptor, which libibverbs would talk to the kernel with, is /dev/null in
 * both.
 */
#include "provider_priv.h"
#include "comp_channel.h"
#include "device_dir.h"
#include "rdma/include/vrdma.h"

#include "lib/log.h"
#include "lib/util.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODULE	   "device"
#define FW_VERSION "0.1.0"
/* An ACK may take as long as the thread naps: 4.096 us * 2^this (see progress.c). */
#define ACK_DELAY_EXP 9

static int query_device_ex(struct ibv_context *ctx,
	const struct ibv_query_device_ex_input *in, struct ibv_device_attr_ex *attr,
	size_t attr_size)
{
	struct ibv_device_attr *a = &attr->orig_attr;

	memset(attr, 0, attr_size);
	strcpy(a->fw_ver, FW_VERSION);
	memcpy(&a->node_guid, to_device(ctx)->guid, sizeof(a->node_guid));
	a->sys_image_guid = a->node_guid;
	a->max_mr_size = UINT64_MAX;
	a->page_size_cap = ~0xfffull;
	a->max_qp = ENGINE_QP_MAX;
	a->max_qp_wr = ENGINE_WR_MAX;
	/* "Memory management extensions" are invalidation; what else they have can't be
	 * asked for by programs. */
	a->device_cap_flags = IBV_DEVICE_CURR_QP_STATE_MOD | IBV_DEVICE_RC_RNR_NAK_GEN |
			      IBV_DEVICE_MEM_WINDOW | IBV_DEVICE_MEM_WINDOW_TYPE_2B |
			      IBV_DEVICE_MEM_MGT_EXTENSIONS;
	a->max_sge = ENGINE_SGE_MAX;
	a->max_sge_rd = ENGINE_SGE_MAX;
	a->max_cq = DEVICE_CQ_MAX;
	a->max_cqe = CQ_DEPTH_MAX;
	a->max_mr = MR_MAX;
	a->max_mw = MW_MAX;
	a->max_pd = DEVICE_PD_MAX;
	a->max_qp_rd_atom = ENGINE_RD_MAX;
	a->max_qp_init_rd_atom = ENGINE_RD_MAX;
	a->max_res_rd_atom = ENGINE_RD_MAX * ENGINE_QP_MAX;
	a->atomic_cap = IBV_ATOMIC_GLOB;
	a->max_srq = DEVICE_SRQ_MAX;
	a->max_srq_wr = RQ_DEPTH_MAX;
	a->max_srq_sge = RQ_SGE_MAX;
	a->max_mcast_grp = MCAST_GROUP_MAX;
	a->max_mcast_qp_attach = MCAST_QP_MAX;
	a->max_total_mcast_qp_attach = MCAST_GROUP_MAX * MCAST_QP_MAX;
	a->max_ah = DEVICE_AH_MAX;
	a->max_pkeys = 1;
	a->local_ca_ack_delay = ACK_DELAY_EXP;
	a->phys_port_cnt = 1;
	if (attr_size >= sizeof(*attr))
		attr->phys_port_cnt_ex = 1;
	return 0;
}

static struct context *to_context(struct ibv_context *ctx)
{
	return container_of(ctx, struct context, vctx.context);
}

static void free_context(struct ibv_context *ibctx)
{
	struct context *ctx = to_context(ibctx);

	engine_lock(ctx->dev);
	TAILQ_REMOVE(&ctx->dev->contexts, ctx, entry);
	events_forget_all(ctx->dev, ibctx->async_fd);
	engine_unlock(ctx->dev);
	device_put(ctx->dev);
	gid_dir_remove(ctx->gid_dir);
	verbs_uninit_context(&ctx->vctx);
	free(ctx);
}

static const struct verbs_context_ops device_ops = {
	.query_device_ex = query_device_ex,
	.free_context = free_context,
};

/* Consumes @cmd_fd in any case, @dev and @gid_dir's folder on success. */
static int make_context(struct ibv_device *ibdev, int cmd_fd, struct device *dev,
	const char *gid_dir, struct context **out)
{
	struct context *ctx;
	int rc;

	/*
	 * Takes a reference to ibdev. The macro around it in driver.h computes the offset
	 * by way of a null pointer, which UBSan refuses.
	 */
	ctx = _verbs_init_and_alloc_context(ibdev, cmd_fd, sizeof(*ctx),
		(struct verbs_context *)offsetof(struct context, vctx),
		RDMA_DRIVER_UNKNOWN);
	if (!ctx)
		return -ENOMEM;
	rc = event_fd_open();
	if (rc < 0) {
		verbs_uninit_context(&ctx->vctx);
		free(ctx);
		return rc;
	}
	ctx->vctx.context.async_fd = rc;
	ctx->vctx.context.num_comp_vectors = 1;
	ctx->dev = dev;
	strcpy(ctx->gid_dir, gid_dir);
	verbs_set_ops(&ctx->vctx, &device_ops);
	verbs_set_ops(&ctx->vctx, &port_ops);
	verbs_set_ops(&ctx->vctx, &mcast_ops);
	verbs_set_ops(&ctx->vctx, &memory_ops);
	verbs_set_ops(&ctx->vctx, &object_ops);
	verbs_set_ops(&ctx->vctx, &path_ops);
	verbs_set_ops(&ctx->vctx, &datapath_ops);
	verbs_set_ops(&ctx->vctx, &event_ops);
	verbs_set_ops(&ctx->vctx, &cq_ex_ops);
	verbs_set_ops(&ctx->vctx, &qp_ex_ops);
	ctx->vctx.create_cq_ex = device_create_cq_ex;
	engine_lock(dev);
	TAILQ_INSERT_TAIL(&dev->contexts, ctx, entry);
	gid_dir_update(ctx);
	engine_unlock(dev);
	*out = ctx;
	return 0;
}

/* Found by libibverbs. */

static bool match_device(struct verbs_sysfs_dev *sysfs)
{
	struct device_where where = {0};

	return !device_dir_where_get(sysfs->ibdev_path, &where);
}

static struct verbs_device *alloc_device(struct verbs_sysfs_dev *sysfs)
{
	return calloc(1, sizeof(struct verbs_device));
}

/* Takes @cmd_fd in any case. */
static struct verbs_context *alloc_context(
	struct ibv_device *ibdev, int cmd_fd, void *private_data)
{
	struct device_where where = {0};
	struct context *ctx;
	struct device *dev;
	int rc = device_dir_where_get(ibdev->ibdev_path, &where);

	if (!rc)
		rc = device_get(&where, &dev);
	if (rc) {
		log_write(LOG_LEVEL_ERR, MODULE, "%s: no RoCEv2 on %s%s%s%s: %s%s",
			ibdev->name, where.addr, where.interface,
			where.port[0] ? ", " : "", where.port, strerror(-rc),
			rc == -EPERM && where.port[0] ? " (needs CAP_NET_RAW)" : "");
		close(cmd_fd);
		goto err;
	}
	rc = make_context(ibdev, cmd_fd, dev, "", &ctx);
	if (rc)
		goto err_device;
	return &ctx->vctx;

err_device:
	device_put(dev);
err:
	errno = -rc;
	return NULL;
}

/* libibverbs calls this when the last reference to the verbs_device is gone. */
static void uninit_device(struct verbs_device *vdev)
{
	free(vdev);
}

const struct verbs_device_ops provider_ops = {
	.name = PROVIDER_NAME,
	.match_min_abi_version = DEVICE_ABI,
	.match_max_abi_version = DEVICE_ABI,
	.match_device = match_device,
	.alloc_device = alloc_device,
	.alloc_context = alloc_context,
	.uninit_device = uninit_device,
};

/* Opened inside the process. */

static struct verbs_device *make_verbs_device(const char *name, const char *gid_dir)
{
	struct verbs_device *vdev = calloc(1, sizeof(*vdev));
	/* libibverbs frees it before it calls uninit_device() */
	struct verbs_sysfs_dev *sysfs = calloc(1, sizeof(*sysfs));

	if (!vdev || !sysfs) {
		free(vdev);
		free(sysfs);
		return NULL;
	}
	vdev->ops = &provider_ops;
	vdev->sysfs = sysfs;
	vdev->device.node_type = IBV_NODE_CA;
	vdev->device.transport_type = IBV_TRANSPORT_IB;
	strcpy(vdev->device.name, name);
	strcpy(vdev->device.dev_name, name);
	strcpy(vdev->device.ibdev_path, gid_dir);
	strcpy(sysfs->sysfs_name, name);
	strcpy(sysfs->ibdev_name, name);
	strcpy(sysfs->ibdev_path, gid_dir);
	sysfs->node_type = IBV_NODE_CA;
	sysfs->num_ports = 1;
	return vdev;
}

/* Consumes @dev and @gid_dir's folder on success. */
static int open_inside(
	const char *name, struct device *dev, const char *gid_dir, struct context **out)
{
	struct verbs_device *vdev = make_verbs_device(name, gid_dir);
	int cmd_fd, rc;

	if (!vdev)
		return -ENOMEM;
	/* Until the context has its own, so that it goes when that goes. */
	atomic_init(&vdev->refcount, 1);
	/* Not to be written to, so that a command which no provider answers fails. */
	cmd_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	rc = cmd_fd < 0 ? -errno : make_context(&vdev->device, cmd_fd, dev, gid_dir, out);
	if (rc) {
		free(vdev->sysfs);
		free(vdev);
		return rc;
	}
	atomic_fetch_sub(&vdev->refcount, 1);
	return 0;
}

/* Return: 0, or -EINVAL when something is missing, too long or of no use */
static int where_of(const struct vrdma_attr *attr, struct device_where *where)
{
	const char *const from[] = {
		attr->addr, attr->interface, attr->port, attr->mac, attr->gateway};
	char *const to[] = {
		where->addr, where->interface, where->port, where->mac, where->gateway};
	const size_t room[] = {sizeof(where->addr), sizeof(where->interface),
		sizeof(where->port), sizeof(where->mac), sizeof(where->gateway)};

	if (!attr->addr == !attr->interface || (attr->interface && attr->port) ||
		(!attr->port && (attr->mac || attr->gateway)))
		return -EINVAL;
	*where = (struct device_where){0};
	for (size_t i = 0; i < ARRAY_SIZE(from); i++) {
		if (from[i] && strlen(from[i]) >= room[i])
			return -EINVAL;
		strcpy(to[i], from[i] ? from[i] : "");
	}
	return 0;
}

struct ibv_context *vrdma_open_device(const struct vrdma_attr *attr)
{
	const char *name = attr->name ? attr->name : "vrdma0";
	char gid_dir[sizeof(((struct context *)0)->gid_dir)] = "";
	struct device_where where;
	struct context *ctx;
	struct device *dev;
	int rc;

	if (where_of(attr, &where) || strlen(name) >= IBV_SYSFS_NAME_MAX) {
		errno = EINVAL;
		return NULL;
	}
	rc = device_get(&where, &dev);
	if (rc)
		goto err;
	rc = gid_dir_create(dev, gid_dir, sizeof(gid_dir));
	if (rc) {
		log_write(LOG_LEVEL_ERR, MODULE, "no folder for the device's GID: %s",
			strerror(-rc));
		goto err_device;
	}
	rc = open_inside(name, dev, gid_dir, &ctx);
	if (rc)
		goto err_dir;
	return &ctx->vctx.context;

err_dir:
	gid_dir_remove(gid_dir);
err_device:
	device_put(dev);
err:
	errno = -rc;
	return NULL;
}

struct ibv_comp_channel *vrdma_create_comp_channel(struct ibv_context *ctx)
{
	return comp_channel_create(ctx);
}

int vrdma_query_counters(struct ibv_context *ctx, struct vrdma_counter *counters, int max)
{
	if (verbs_get_device(ctx->device)->ops != &provider_ops)
		return -EINVAL;
	return counters_read(to_device(ctx), counters, max);
}
