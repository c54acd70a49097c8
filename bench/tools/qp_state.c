/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qp_state - what a connected queue pair that does nothing takes of memory
 *
 * Makes so many with queues of one depth, then with queues of twice that, and asks the
 * allocator each time. What grows with the depth are the rings; the rest is the queue
 * pair, be it in libibverbs' structures, the device's or the allocator's own.
 */
#include "rdma/include/vrdma.h"

#include <arpa/inet.h>
#include <err.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define N     10000
#define DEPTH 16

struct queues {
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_srq *srq; /* or NULL: each has a receive queue of its own */
};

static struct ibv_qp *create_qp(const struct queues *q, uint32_t depth)
{
	struct ibv_qp_init_attr init = {
		.send_cq = q->cq,
		.recv_cq = q->cq,
		.srq = q->srq,
		.qp_type = IBV_QPT_RC,
		.cap = {.max_send_wr = depth,
			.max_recv_wr = q->srq ? 0 : depth,
			.max_send_sge = 1,
			.max_recv_sge = q->srq ? 0 : 1},
	};
	struct ibv_qp *qp = ibv_create_qp(q->pd, &init);

	if (!qp)
		err(1, "create a queue pair");
	return qp;
}

/* To a peer that nobody is: it takes no peer to be connected. */
static void connect_qp(struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = 2,
		.max_rd_atomic = 16,
		.max_dest_rd_atomic = 16,
		.timeout = 14,
		.retry_cnt = 7,
		.ah_attr = {.is_global = 1, .port_num = 1},
	};

	inet_pton(AF_INET6, "::ffff:127.0.0.9", attr.ah_attr.grh.dgid.raw);
	if (ibv_modify_qp(qp, &attr,
		    IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS))
		errx(1, "initialize a queue pair");
	attr.qp_state = IBV_QPS_RTR;
	if (ibv_modify_qp(qp, &attr,
		    IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
			    IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
			    IBV_QP_MIN_RNR_TIMER))
		errx(1, "let a queue pair receive");
	attr.qp_state = IBV_QPS_RTS;
	if (ibv_modify_qp(qp, &attr,
		    IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
			    IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC))
		errx(1, "let a queue pair send");
}

static double in_use(void)
{
	struct mallinfo2 m = mallinfo2();

	return (double)(m.uordblks + m.hblkhd);
}

/* Bytes for each queue pair. @before: in use when there was none yet, nor a table of them
 */
static double measure(const struct queues *q, uint32_t depth, double before)
{
	static struct ibv_qp *qp[N];
	double after;

	for (int i = 0; i < N; i++) {
		qp[i] = create_qp(q, depth);
		connect_qp(qp[i]);
	}
	after = in_use();
	for (int i = 0; i < N; i++)
		ibv_destroy_qp(qp[i]);
	return (after - before) / N;
}

static double without_rings(const struct queues *q, double before)
{
	return 2 * measure(q, DEPTH, before) - measure(q, 2 * DEPTH, before);
}

int main(int argc, char **argv)
{
	struct ibv_srq_init_attr srq = {.attr = {.max_wr = DEPTH, .max_sge = 1}};
	struct vrdma_attr attr = {.addr = argc == 2 ? argv[1] : "127.0.0.1"};
	struct ibv_context *ctx = vrdma_open_device(&attr);
	struct queues q = {0};
	double before;

	if (!ctx)
		err(1, "open the device on %s", attr.addr);
	q.pd = ibv_alloc_pd(ctx);
	q.cq = ibv_create_cq(ctx, DEPTH, NULL, NULL, 0);
	if (!q.pd || !q.cq)
		err(1, "set up the device");
	before = in_use();
	printf("{\"own_queue_bytes\": %.0f, ", without_rings(&q, before));
	q.srq = ibv_create_srq(q.pd, &srq);
	if (!q.srq)
		err(1, "create a shared receive queue");
	printf("\"shared_queue_bytes\": %.0f}\n", without_rings(&q, before));
	return 0;
}
