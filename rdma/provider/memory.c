/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Protection domains, memory regions, and windows on them. Errors as in objects.c.
 */
#include "provider_priv.h"

#include "lib/util.h"

#include <errno.h>
#include <stdlib.h>

/* Protection domains. */

static struct ibv_pd *alloc_pd(struct ibv_context *ctx)
{
	struct device *dev = to_device(ctx);
	struct device_pd *pd = device_object_alloc(dev, KIND_PD, sizeof(*pd));

	if (!pd)
		return device_fail(-ENOMEM);
	engine_lock(dev);
	pd->id = ++dev->next_pd;
	engine_unlock(dev);
	pd->ibv.handle = pd->id;
	return &pd->ibv;
}

static int dealloc_pd(struct ibv_pd *ibpd)
{
	if (to_device_pd(ibpd)->n_users)
		return EBUSY;
	device_object_free(to_device(ibpd->context), KIND_PD, to_device_pd(ibpd));
	return 0;
}

/* Memory regions. */

#define ACCESS_SUPPORTED                                                             \
	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | \
		IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_MW_BIND |                      \
		IBV_ACCESS_RELAXED_ORDERING)

static int check_access(int access)
{
	if (access & ~ACCESS_SUPPORTED)
		return -EOPNOTSUPP;
	/* ibv_reg_mr(3): who may be written from afar must be writable here. */
	if ((access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)) &&
		!(access & IBV_ACCESS_LOCAL_WRITE))
		return -EINVAL;
	return 0;
}

static struct ibv_mr *reg_mr(
	struct ibv_pd *ibpd, void *addr, size_t length, uint64_t iova, int access)
{
	struct device *dev = to_device(ibpd->context);
	struct mr region = {
		.pd = to_device_pd(ibpd)->id,
		.access = access,
		.iova = iova,
		.length = length,
		.addr = addr,
	};
	struct device_mr *mr;
	int rc = check_access(access);

	if (rc)
		return device_fail(rc);
	mr = device_object_alloc(dev, KIND_MR, sizeof(*mr));
	if (!mr)
		return device_fail(-ENOMEM);
	engine_lock(dev);
	rc = mr_register(engine_mrs(dev->engine), &region, &mr->vmr.ibv_mr.lkey);
	engine_unlock(dev);
	if (rc) {
		device_object_free(dev, KIND_MR, mr);
		return device_fail(rc);
	}
	to_device_pd(ibpd)->n_users++;
	mr->vmr.ibv_mr.rkey = mr->vmr.ibv_mr.lkey;
	mr->vmr.mr_type = IBV_MR_TYPE_MR;
	mr->vmr.access = access;
	return &mr->vmr.ibv_mr;
}

static int dereg_mr(struct verbs_mr *vmr)
{
	struct device *dev = to_device(vmr->ibv_mr.context);
	int rc;

	engine_lock(dev);
	rc = mr_deregister(engine_mrs(dev->engine), vmr->ibv_mr.lkey);
	engine_unlock(dev);
	if (rc)
		return -rc;
	to_device_pd(vmr->ibv_mr.pd)->n_users--;
	device_object_free(dev, KIND_MR, container_of(vmr, struct device_mr, vmr));
	return 0;
}

/* Memory windows. */

static struct ibv_mw *alloc_mw(struct ibv_pd *ibpd, enum ibv_mw_type type)
{
	struct device *dev = to_device(ibpd->context);
	struct ibv_mw *mw = device_object_alloc(dev, KIND_MW, sizeof(*mw));
	int rc;

	if (!mw)
		return device_fail(-ENOMEM);
	engine_lock(dev);
	rc = mw_alloc(engine_mrs(dev->engine), to_device_pd(ibpd)->id, type, &mw->rkey);
	engine_unlock(dev);
	if (rc) {
		device_object_free(dev, KIND_MW, mw);
		return device_fail(rc);
	}
	to_device_pd(ibpd)->n_users++;
	mw->context = ibpd->context;
	mw->pd = ibpd;
	mw->handle = mw->rkey;
	mw->type = type;
	return mw;
}

static int dealloc_mw(struct ibv_mw *mw)
{
	struct device *dev = to_device(mw->context);

	engine_lock(dev);
	mw_dealloc(engine_mrs(dev->engine), mw->handle);
	engine_unlock(dev);
	to_device_pd(mw->pd)->n_users--;
	device_object_free(dev, KIND_MW, mw);
	return 0;
}

/* Type 1; libibverbs has checked that. The key that the window will have is known here
 * and now, as ibv_bind_mw(3) wants it.
 */
static int bind_mw(struct ibv_qp *ibqp, struct ibv_mw *mw, struct ibv_mw_bind *bind)
{
	struct device *dev = to_device(ibqp->context);
	struct ibv_send_wr wr = {
		.wr_id = bind->wr_id,
		.opcode = IBV_WR_BIND_MW,
		.send_flags = bind->send_flags,
		.bind_mw = {mw, ibv_inc_rkey(mw->rkey), bind->bind_info},
	};
	int rc;

	engine_lock(dev);
	rc = qp_post_send(container_of(ibqp, struct device_qp, vqp.qp)->qp, &wr, NULL);
	if (!rc)
		mw->rkey = wr.bind_mw.rkey;
	engine_unlock(dev);
	return -rc;
}

const struct verbs_context_ops memory_ops = {
	.alloc_pd = alloc_pd,
	.dealloc_pd = dealloc_pd,
	.reg_mr = reg_mr,
	.dereg_mr = dereg_mr,
	.alloc_mw = alloc_mw,
	.dealloc_mw = dealloc_mw,
	.bind_mw = bind_mw,
};
