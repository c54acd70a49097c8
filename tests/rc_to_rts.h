/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How tests that use libibverbs connect a queue pair of type RC.
 */
#ifndef TESTS_RC_TO_RTS_H
#define TESTS_RC_TO_RTS_H

#include <infiniband/verbs.h>

/** rc_to_rts() - take a queue pair from RESET to RTS
 * @attr: all that it takes, but the state
 * Return: 0 or a positive errno, as ibv_modify_qp()
 */
static inline int rc_to_rts(struct ibv_qp *qp, struct ibv_qp_attr *attr)
{
	int rc;

	attr->qp_state = IBV_QPS_INIT;
	rc = ibv_modify_qp(qp, attr,
		IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
	if (rc)
		return rc;
	attr->qp_state = IBV_QPS_RTR;
	rc = ibv_modify_qp(qp, attr,
		IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
			IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
	if (rc)
		return rc;
	attr->qp_state = IBV_QPS_RTS;
	return ibv_modify_qp(qp, attr,
		IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
			IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
}

#endif
