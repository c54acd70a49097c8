/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets from a hostile peer, to a device with a queue pair in every state.
 *
 * Input: records of {kind, length, bytes}. kind picks the queue pair (lower 3 bits, one
 * for each state; 7 leaves the packet's own number) and whether the PSN is made to be
 * the expected one (bit 3) or that of the oldest unacknowledged packet (bit 4), so that
 * the fuzzer need not guess 24 bits. Between packets, answers are drained and time goes
 * on, so that timers run as well.
 */
#include "lib/util.h"
#include "rdma/engine/engine_priv.h"

#include <stdlib.h>
#include <string.h>

#define N_QPS	 (IBV_QPS_ERR + 1)
#define PD	 1
#define SQ_DEPTH 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t peer_gid[16] = {[10] = 0xff, [11] = 0xff, 192, 0, 2, 2};

struct device_under_test {
	struct engine *engine;
	struct cq *cq;
	struct rq *srq;
	struct qp *qp[N_QPS];
	uint8_t buf[4096];
	uint32_t lkey;
	struct link_burst burst;
};

static void must(int rc)
{
	if (rc)
		abort();
}

static void connect_qp(struct qp *qp, enum ibv_qp_state to)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE,
		.path_mtu = IBV_MTU_256,
		.dest_qp_num = 5,
		.min_rnr_timer = 1,
		.timeout = 8,
		.retry_cnt = 2,
		.rnr_retry = 2,
		.ah_attr = {.is_global = 1},
	};

	memcpy(attr.ah_attr.grh.dgid.raw, peer_gid, 16);
	if (to >= IBV_QPS_INIT)
		must(qp_modify(qp, &attr,
			IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				IBV_QP_ACCESS_FLAGS));
	attr.qp_state = IBV_QPS_RTR;
	if (to >= IBV_QPS_RTR)
		must(qp_modify(qp, &attr,
			IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
				IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
				IBV_QP_MIN_RNR_TIMER));
	attr.qp_state = IBV_QPS_RTS;
	if (to >= IBV_QPS_RTS)
		must(qp_modify(qp, &attr,
			IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
				IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
				IBV_QP_MAX_QP_RD_ATOMIC));
	attr.qp_state = to;
	if (to == IBV_QPS_SQD || to == IBV_QPS_ERR)
		must(qp_modify(qp, &attr, IBV_QP_STATE));
}

static void post_some(struct device_under_test *d, struct qp *qp)
{
	struct ibv_sge sge = {(uintptr_t)d->buf, 600, d->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND};

	if (qp_state(qp) == IBV_QPS_RTS)
		qp_post_send(qp, &wr, NULL);
}

static void open_device(struct device_under_test *d)
{
	struct mr mr = {.pd = PD,
		.length = sizeof(d->buf),
		.addr = d->buf,
		.iova = (uintptr_t)d->buf,
		.access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE};

	must(engine_create(&d->engine));
	must(cq_create(64, &d->cq));
	must(rq_create(PD, 16, 1, &d->srq));
	must(mr_register(engine_mrs(d->engine), &mr, &d->lkey));
	for (int i = 0; i < N_QPS; i++) {
		struct qp_config config = {.pd = PD,
			.type = IBV_QPT_RC,
			.port_mtu = 4096,
			.send_cq = d->cq,
			.recv_cq = d->cq,
			.srq = i & 1 ? d->srq : NULL,
			.cap = {.max_send_wr = SQ_DEPTH,
				.max_send_sge = 1,
				.max_recv_wr = 4,
				.max_recv_sge = 1}};

		must(qp_create(d->engine, &config, &d->qp[i]));
		/* SQE is not for RC; another one in RTS instead */
		connect_qp(
			d->qp[i], i == IBV_QPS_SQE ? IBV_QPS_RTS : (enum ibv_qp_state)i);
	}
}

static void close_device(struct device_under_test *d)
{
	for (int i = 0; i < N_QPS; i++)
		qp_destroy(d->qp[i]);
	rq_destroy(d->srq);
	cq_destroy(d->cq);
	engine_destroy(d->engine);
}

static void put_24(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 16);
	p[1] = (uint8_t)(v >> 8);
	p[2] = (uint8_t)v;
}

static void aim(struct device_under_test *d, uint8_t kind, uint8_t *pkt)
{
	struct qp *qp;

	if ((kind & 7) >= N_QPS)
		return;
	qp = d->qp[kind & 7];
	put_24(pkt + 5, qp->qpn);
	pkt[2] = pkt[3] = 0xff;
	if (kind & 8)
		put_24(pkt + 9, qp->resp.epsn);
	if (kind & 16)
		put_24(pkt + 9, qp->req.una_psn);
	if (kind & 32)
		post_some(d, qp);
}

static void refill(struct device_under_test *d)
{
	struct ibv_sge sge = {(uintptr_t)d->buf, sizeof(d->buf), d->lkey};
	struct ibv_recv_wr wr = {.sg_list = &sge, .num_sge = 1};
	struct ibv_wc wc[16];

	rq_post(d->srq, &wr);
	while (cq_poll(d->cq, 16, wc)) {
		/* all are welcome */
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct device_under_test d;
	uint64_t now = NSEC_PER_SEC;

	open_device(&d);
	while (size >= 2) {
		uint8_t kind = data[0];
		size_t len = MIN((size_t)data[1] * 2, size - 2);
		/* exactly as large as the packet, so that sanitizers see one byte too far
		 */
		uint8_t *pkt = malloc(len ? len : 1);
		struct link_rx rx = {.data = pkt, .len = (uint32_t)len};

		memcpy(pkt, data + 2, len);
		memcpy(rx.sgid, peer_gid, 16);
		if (len >= WIRE_BTH_SIZE)
			aim(&d, kind, pkt);
		engine_input(d.engine, &rx, 1, now);
		free(pkt);
		while (engine_output(d.engine, &d.burst, now)) {
			/* to nowhere */
		}
		now += (uint64_t)(kind >> 6) * NSEC_PER_MSEC;
		engine_expire(d.engine, now);
		refill(&d);
		data += 2 + len;
		size -= 2 + len;
	}
	close_device(&d);
	return 0;
}
