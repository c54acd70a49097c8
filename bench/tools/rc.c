/* SPDX-License-Identifier: BSD-3-Clause */
#include "rc.h"

#include <err.h>

#define PORT	  1
#define GID_INDEX 0
#define TIMEOUT \
	17 /* 0.54 s, seven times: what a busy machine may take to run the other side */
#define RETRIES	  7
#define RNR_TIMER 12 /* 0.64 ms */

struct ibv_qp *rc_create(struct ibv_pd *pd, struct ibv_cq *cq, uint32_t depth)
{
	struct ibv_qp_init_attr init = {
		.send_cq = cq,
		.recv_cq = cq,
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
		.cap = {.max_send_wr = depth,
			.max_recv_wr = depth,
			.max_send_sge = 1,
			.max_recv_sge = 1,
			.max_inline_data = BENCH_INLINE_MAX},
	};
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT,
		.port_num = PORT,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE};
	int mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
	struct ibv_qp *qp = ibv_create_qp(pd, &init);

	if (!qp || ibv_modify_qp(qp, &attr, mask))
		err(1, "create a queue pair");
	return qp;
}

void rc_connect(
	struct ibv_qp *qp, const union ibv_gid *gid, uint32_t qpn, enum ibv_mtu mtu)
{
	struct ibv_qp_attr rtr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = mtu,
		.dest_qp_num = qpn,
		.min_rnr_timer = RNR_TIMER,
		.ah_attr = {.is_global = 1,
			.port_num = PORT,
			.grh = {.dgid = *gid, .sgid_index = GID_INDEX, .hop_limit = 64}},
	};
	int rtr_mask = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
		       IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	struct ibv_qp_attr rts = {
		.qp_state = IBV_QPS_RTS,
		.timeout = TIMEOUT,
		.retry_cnt = RETRIES,
		.rnr_retry = RETRIES,
	};
	int rts_mask = IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
		       IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC;

	if (ibv_modify_qp(qp, &rtr, rtr_mask) || ibv_modify_qp(qp, &rts, rts_mask))
		err(1, "connect a queue pair");
}

void rc_own_address(struct ibv_context *ctx, union ibv_gid *gid, enum ibv_mtu *mtu)
{
	struct ibv_port_attr port;

	if (ibv_query_gid(ctx, PORT, GID_INDEX, gid) || ibv_query_port(ctx, PORT, &port))
		err(1, "query the device");
	*mtu = port.active_mtu;
}

int rc_poll(struct ibv_cq *cq, struct ibv_wc *wc, int max)
{
	int n = ibv_poll_cq(cq, max, wc);

	for (int i = 0; i < n; i++)
		if (wc[i].status)
			errx(1, "%s", ibv_wc_status_str(wc[i].status));
	return n;
}
