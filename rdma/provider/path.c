/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ways to peers: address handles, and the address vectors of queue pairs. Each begins at
 * an entry of the GID table, which it uses for as long as it is there.
 */
#include "provider_priv.h"

#include "lib/util.h"

#include <errno.h>

/* Under lock: there will be something to send that way. */
static void expect(struct device *dev, const struct ibv_ah_attr *route)
{
	link_set_expect(dev->links, route->grh.sgid_index, route->grh.dgid.raw);
}

/* Address handles. */

/* Under lock: @attr as it is to be taken. Return: 0 or -EINVAL */
static int ah_begin(
	struct device *dev, const struct ibv_ah_attr *attr, struct ibv_ah_attr *route)
{
	*route = device_route(dev, attr);
	if (route->port_num != 1 || gids_check(dev, route))
		return -EINVAL;
	gids_use(dev, route->grh.sgid_index);
	expect(dev, route);
	return 0;
}

static struct ibv_ah *create_ah(struct ibv_pd *ibpd, struct ibv_ah_attr *attr)
{
	struct device *dev = to_device(ibpd->context);
	struct device_ah *ah = device_object_alloc(dev, KIND_AH, sizeof(*ah));
	int rc;

	if (!ah)
		return device_fail(-ENOMEM);
	engine_lock(dev);
	rc = ah_begin(dev, attr, &ah->attr);
	engine_unlock(dev);
	if (rc) {
		device_object_free(dev, KIND_AH, ah);
		return device_fail(rc);
	}
	ah->ibv.context = ibpd->context;
	ah->ibv.pd = ibpd;
	to_device_pd(ibpd)->n_users++;
	return &ah->ibv;
}

static int destroy_ah(struct ibv_ah *ibah)
{
	struct device *dev = to_device(ibah->context);
	struct device_ah *ah = container_of(ibah, struct device_ah, ibv);

	engine_lock(dev);
	gids_unuse(dev, ah->attr.grh.sgid_index);
	engine_unlock(dev);
	to_device_pd(ibah->pd)->n_users--;
	device_object_free(dev, KIND_AH, ah);
	return 0;
}

/* Queue pairs. */

void path_set_gid(struct device *dev, struct device_qp *qp, int index)
{
	if (index >= 0)
		gids_use(dev, (uint8_t)index);
	if (qp->gid_index >= 0)
		gids_unuse(dev, (uint8_t)qp->gid_index);
	qp->gid_index = index;
}

int path_modify(
	struct device *dev, struct device_qp *qp, struct ibv_qp_attr attr, int mask)
{
	uint8_t index;
	int rc;

	attr.ah_attr = device_route(dev, &attr.ah_attr);
	index = attr.ah_attr.grh.sgid_index;
	rc = gids_check(dev, &attr.ah_attr);
	if (!rc && (mask & IBV_QP_PATH_MTU) && attr.path_mtu > port_gid_mtu(dev, index))
		rc = -EINVAL;
	if (!rc)
		rc = qp_modify(qp->qp, &attr, mask);
	if (rc)
		return rc;
	path_set_gid(dev, qp, index);
	expect(dev, &attr.ah_attr);
	return 0;
}

const struct verbs_context_ops path_ops = {
	.create_ah = create_ah,
	.destroy_ah = destroy_ah,
};
