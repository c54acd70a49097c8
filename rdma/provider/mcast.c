/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Multicast: the device is in a group as long as any of its queue pairs is. There is no
 * subnet manager to be asked; joining the IP group does all (annex A17.7.1), so the LID
 * of a group is not looked at.
 */
#include "provider_priv.h"

#include "lib/util.h"

static int attach(struct device *dev, struct qp *qp, const uint8_t gid[16])
{
	bool is_first = !mcast_has_group(dev->engine, gid);
	int rc = mcast_attach(dev->engine, qp, gid);

	if (rc || !is_first)
		return rc;
	rc = link_set_join(dev->links, gid);
	if (rc)
		mcast_detach(dev->engine, qp, gid);
	return rc;
}

static int attach_mcast(struct ibv_qp *ibqp, const union ibv_gid *gid, uint16_t lid)
{
	struct device *dev = to_device(ibqp->context);
	int rc;

	device_pause(dev);
	rc = attach(dev, container_of(ibqp, struct device_qp, vqp.qp)->qp, gid->raw);
	device_resume(dev);
	return -rc;
}

static int detach_mcast(struct ibv_qp *ibqp, const union ibv_gid *gid, uint16_t lid)
{
	struct device *dev = to_device(ibqp->context);
	int rc;

	device_pause(dev);
	rc = mcast_detach(
		dev->engine, container_of(ibqp, struct device_qp, vqp.qp)->qp, gid->raw);
	if (!rc && !mcast_has_group(dev->engine, gid->raw))
		link_set_leave(dev->links, gid->raw);
	device_resume(dev);
	return -rc;
}

const struct verbs_context_ops mcast_ops = {
	.attach_mcast = attach_mcast,
	.detach_mcast = detach_mcast,
};
