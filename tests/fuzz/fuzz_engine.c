/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets from a hostile peer, to a device with queue pairs of all services in every
 * state, with memory windows and a multicast group.
 *
 * Input: records of {kind, length, bytes}. kind picks the queue pair of the packet's
 * service (lower 3 bits, one for each state; 7 leaves the packet's own number, and sends
 * datagrams to the group) and whether the PSN is made to be the expected one (bit 3) or
 * that of the oldest unacknowledged packet (bit 4), so that the fuzzer need not guess 24
 * bits. Nor need it guess keys and addresses: small ones stand for those that there are.
 * With bit 5 the queue pair is given work of its own. Between packets, answers are
 * drained and time goes on, so that timers run as well.
 */
#include "lib/util.h"
#include "rdma/engine/engine_priv.h"
#include "rdma/wire/be.h"

#include <stdlib.h>
#include <string.h>

#define N_STATES (IBV_QPS_ERR + 1)
#define N_TYPES	 3
#define N_KEYS	 4
#define PD	 1
#define SQ_DEPTH 16
#define ALL_ACCESS                                                                   \
	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | \
		IBV_ACCESS_REMOTE_ATOMIC)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t peer_gid[16] = {[10] = 0xff, [11] = 0xff, 192, 0, 2, 2};
static const uint8_t group_gid[16] = {[10] = 0xff, [11] = 0xff, 239, 0, 0, 1};
static const enum ibv_qp_type types[N_TYPES] = {IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD};

struct device_under_test {
	struct engine *engine;
	struct cq *cq;
	struct rq *srq;
	struct qp *qp[N_TYPES][N_STATES];
	_Alignas(8) uint8_t buf[4096];
	struct ibv_mr mr;
	struct ibv_mw mw[N_KEYS - 1]; /* type 2, 2 and 1 */
	uint32_t n_posted;
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
		.qp_access_flags = ALL_ACCESS,
		.path_mtu = IBV_MTU_256,
		.dest_qp_num = 5,
		.max_rd_atomic = 4,
		.max_dest_rd_atomic = 4,
		.min_rnr_timer = 1,
		.timeout = 8,
		.retry_cnt = 2,
		.rnr_retry = 2,
		.ah_attr = {.is_global = 1},
	};

	static const int connected =
		IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
	static const struct {
		int init, rtr, rts;
	} masks[] = {
		[IBV_QPT_RC] = {IBV_QP_ACCESS_FLAGS,
			connected | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER,
			IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
				IBV_QP_MAX_QP_RD_ATOMIC},
		[IBV_QPT_UC] = {IBV_QP_ACCESS_FLAGS, connected, 0},
		[IBV_QPT_UD] = {IBV_QP_QKEY, 0, 0},
	};
	int type = qp->config.type;

	memcpy(attr.ah_attr.grh.dgid.raw, peer_gid, 16);
	if (to >= IBV_QPS_INIT)
		must(qp_modify(qp, &attr,
			IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				masks[type].init));
	attr.qp_state = IBV_QPS_RTR;
	if (to >= IBV_QPS_RTR)
		must(qp_modify(qp, &attr, IBV_QP_STATE | masks[type].rtr));
	attr.qp_state = IBV_QPS_RTS;
	if (to >= IBV_QPS_RTS)
		must(qp_modify(
			qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN | masks[type].rts));
	attr.qp_state = to;
	if (to == IBV_QPS_SQD || to == IBV_QPS_ERR)
		must(qp_modify(qp, &attr, IBV_QP_STATE));
}

/* Each time another kind of work; what the queue pair does not do it refuses. */
static void post_some(struct device_under_test *d, struct qp *qp)
{
	static const enum ibv_wr_opcode opcodes[] = {IBV_WR_SEND, IBV_WR_BIND_MW,
		IBV_WR_RDMA_READ, IBV_WR_RDMA_WRITE, IBV_WR_LOCAL_INV,
		IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_WR_SEND_WITH_INV};
	uint32_t n = d->n_posted++;
	struct ibv_mw *mw = &d->mw[n % (N_KEYS - 1)];
	struct ibv_sge sge = {(uintptr_t)d->buf, 600, d->mr.lkey};
	struct ibv_ah_attr ah = {.is_global = 1};
	struct ibv_send_wr wr = {.sg_list = &sge,
		.num_sge = 1,
		.opcode = opcodes[n % ARRAY_SIZE(opcodes)],
		.send_flags = n & 8 ? IBV_SEND_FENCE : 0};

	if (qp_state(qp) != IBV_QPS_RTS)
		return;
	if (wr.opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		sge.length = 8;
	} else if (wr.opcode == IBV_WR_BIND_MW) {
		wr.bind_mw.mw = mw;
		wr.bind_mw.rkey = mw->rkey; /* known to the peer, as is the region's */
		wr.bind_mw.bind_info = (struct ibv_mw_bind_info){
			&d->mr, (uintptr_t)d->buf + 64, 2048, ALL_ACCESS & MW_ACCESS};
	} else {
		wr.invalidate_rkey = mw->rkey;
	}
	qp_post_send(qp, &wr, qp->config.type == IBV_QPT_UD ? &ah : NULL);
}

/* Made when it is first aimed at: most of a run would be opening and closing. */
static struct qp *get_qp(struct device_under_test *d, int t, int state)
{
	struct qp_config config = {.pd = PD,
		.type = types[t],
		.port_mtu = 4096,
		.send_cq = d->cq,
		.recv_cq = d->cq,
		.srq = state & 1 ? d->srq : NULL,
		.cap = {.max_send_wr = SQ_DEPTH,
			.max_send_sge = 1,
			.max_recv_wr = 4,
			.max_recv_sge = 1}};
	struct qp **qp = &d->qp[t][state];

	if (*qp)
		return *qp;
	must(qp_create(d->engine, &config, qp));
	/* SQE comes of an error only; another one in RTS instead */
	connect_qp(*qp, state == IBV_QPS_SQE ? IBV_QPS_RTS : (enum ibv_qp_state)state);
	if (types[t] == IBV_QPT_UD)
		must(mcast_attach(d->engine, *qp, group_gid));
	return *qp;
}

static void open_device(struct device_under_test *d)
{
	struct mr mr = {.pd = PD,
		.length = sizeof(d->buf),
		.addr = d->buf,
		.iova = (uintptr_t)d->buf,
		.access = ALL_ACCESS | IBV_ACCESS_MW_BIND};

	must(engine_create(&d->engine));
	must(cq_create(64, &d->cq));
	must(rq_create(PD, 16, 1, &d->srq));
	must(mr_register(engine_mrs(d->engine), &mr, &d->mr.lkey));
	for (int i = 0; i < N_KEYS - 1; i++)
		must(mw_alloc(engine_mrs(d->engine), PD,
			i == 2 ? IBV_MW_TYPE_1 : IBV_MW_TYPE_2, &d->mw[i].rkey));
	d->n_posted = 0;
}

static void close_qp(struct device_under_test *d, struct qp **qp)
{
	if (!*qp)
		return;
	if ((*qp)->config.type == IBV_QPT_UD)
		must(mcast_detach(d->engine, *qp, group_gid));
	qp_destroy(*qp);
	*qp = NULL;
}

static void close_device(struct device_under_test *d)
{
	for (int t = 0; t < N_TYPES; t++) {
		for (int state = 0; state < (int)N_STATES; state++)
			close_qp(d, &d->qp[t][state]);
	}
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

/* Keys 0 to 3 stand for those of the region and the windows, addresses in the first
 * pages for places in the region.
 */
static void set_key(struct device_under_test *d, uint8_t *key)
{
	uint32_t n = be_get32(key);

	if (n < N_KEYS)
		be_put32(key, n ? d->mw[n - 1].rkey : d->mr.lkey);
}

static void set_memory(struct device_under_test *d, uint8_t *pkt, size_t len)
{
	uint32_t flags = wire_opcodes[pkt[0]].flags;
	uint8_t *eth = pkt + WIRE_BTH_SIZE;

	if ((flags & WIRE_HAS_IETH) && len >= WIRE_BTH_SIZE + WIRE_IETH_SIZE) {
		set_key(d, eth);
	} else if ((flags & (WIRE_HAS_RETH | WIRE_HAS_ATOMIC_ETH)) &&
		   len >= WIRE_BTH_SIZE + WIRE_RETH_SIZE) {
		if (be_get64(eth) < 2 * sizeof(d->buf))
			be_put64(eth, be_get64(eth) + (uintptr_t)d->buf);
		set_key(d, eth + 8);
	}
}

static int type_for(uint8_t opcode)
{
	switch (opcode >> 5) {
	case WIRE_UC:
		return 1;
	case WIRE_UD:
		return 2;
	default:
		return 0;
	}
}

/* Make the packet one that a queue pair takes to be for itself. */
static void aim(struct device_under_test *d, uint8_t kind, uint8_t *pkt, size_t len)
{
	struct qp *qp;

	pkt[2] = pkt[3] = 0xff;
	set_memory(d, pkt, len);
	if ((kind & 7) >= N_STATES)
		return;
	qp = get_qp(d, type_for(pkt[0]), kind & 7);
	put_24(pkt + 5, qp->qpn);
	if (kind & 8)
		put_24(pkt + 9, qp->resp.epsn);
	if (kind & 16)
		put_24(pkt + 9, qp->req.una_psn);
	if (kind & 32)
		post_some(d, qp);
}

/* A datagram to the group, unless it is for one queue pair. */
static void aim_at_group(
	struct device_under_test *d, uint8_t kind, uint8_t *pkt, struct link_rx *rx)
{
	if ((kind & 7) < N_STATES || pkt[0] >> 5 != WIRE_UD)
		return;
	if (!(kind & 8))
		put_24(pkt + 5, WIRE_QPN_MULTICAST);
	get_qp(d, 2, IBV_QPS_RTS);
	get_qp(d, 2, IBV_QPS_RTR);
	memcpy(rx->dgid, group_gid, sizeof(rx->dgid));
}

static void refill(struct device_under_test *d)
{
	struct ibv_sge sge = {(uintptr_t)d->buf, sizeof(d->buf), d->mr.lkey};
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
		struct link_rx rx = {.data = pkt, .len = (uint32_t)len, .ecn = kind >> 6};

		memcpy(pkt, data + 2, len);
		memcpy(rx.sgid, peer_gid, 16);
		if (len >= WIRE_BTH_SIZE) {
			aim(&d, kind, pkt, len);
			aim_at_group(&d, kind, pkt, &rx);
		}
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
