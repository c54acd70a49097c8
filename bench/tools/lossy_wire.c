/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lossy_wire - what a wire that loses, reorders or duplicates packets leaves of the
 * throughput of an RC queue pair
 *
 * Two engines on the link in memory, on a virtual clock: processors cost nothing, the
 * wire has a rate and a round trip. The same arguments give the same run. Messages of 64
 * KiB, 16 under way, path MTU 4096, local ACK timeout 67 ms (14).
 *
 * lossy_wire write|read SEED MIB RTT_US GBIT LOSS_PPM REORDER_PPM DUPLICATE_PPM
 */
#include "rdma/engine/engine.h"
#include "rdma/engine/qp.h"
#include "rdma/io/mem.h"

#include "lib/util.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PD	    1
#define SIZE	    (64u << 10)
#define DEPTH	    16
#define QUEUE_BYTES (1u << 20) /* in front of the wire */
#define ACCESS	    (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ)

struct end {
	struct link *link;
	struct engine *engine;
	struct cq *cq;
	struct qp *qp;
	uint32_t key;
	uint8_t memory[SIZE];
};

static struct end ends[2];

static void must(int rc, const char *what)
{
	if (rc)
		errx(1, "%s: %s", what, strerror(-rc));
}

static void end_open(struct end *end)
{
	struct qp_config config = {
		.pd = PD,
		.type = IBV_QPT_RC,
		.port_mtu = 4096,
		.cap = {.max_send_wr = DEPTH, .max_send_sge = 1},
	};
	struct mr mr = {.pd = PD,
		.access = ACCESS,
		.iova = (uintptr_t)end->memory,
		.length = SIZE,
		.addr = end->memory};

	must(engine_create(&end->engine), "engine");
	must(cq_create(DEPTH, &end->cq), "completion queue");
	config.send_cq = config.recv_cq = end->cq;
	must(qp_create(end->engine, &config, &end->qp), "queue pair");
	must(mr_register(engine_mrs(end->engine), &mr, &end->key), "memory region");
}

static void connect_to(struct end *end, const struct end *peer)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.qp_access_flags = ACCESS,
		.path_mtu = IBV_MTU_4096,
		.dest_qp_num = qp_number(peer->qp),
		.timeout = 14,
		.retry_cnt = 7,
		.rnr_retry = 7,
		.max_rd_atomic = 16,
		.max_dest_rd_atomic = 16,
		.ah_attr = {.is_global = 1, .port_num = 1},
	};

	memcpy(attr.ah_attr.grh.dgid.raw, peer->link->gid, 16);
	must(qp_modify(end->qp, &attr,
		     IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
			     IBV_QP_ACCESS_FLAGS),
		"INIT");
	attr.qp_state = IBV_QPS_RTR;
	must(qp_modify(end->qp, &attr,
		     IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
			     IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
			     IBV_QP_MIN_RNR_TIMER),
		"RTR");
	attr.qp_state = IBV_QPS_RTS;
	must(qp_modify(end->qp, &attr,
		     IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
			     IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC),
		"RTS");
}

/* Return: whether anything moved */
static bool move_packets(struct end *end, uint64_t now)
{
	static struct link_burst burst;
	struct link_rx rx[LINK_BURST];
	bool moved = false;
	int n;

	engine_expire(end->engine, now);
	while ((n = end->link->ops->recv(end->link, rx, LINK_BURST))) {
		engine_input(end->engine, rx, n, now);
		moved = true;
	}
	while (engine_output(end->engine, &burst, now)) {
		end->link->ops->send(end->link, &burst);
		moved = true;
	}
	return moved;
}

static void post(enum ibv_wr_opcode opcode)
{
	struct ibv_sge sge = {(uintptr_t)ends[0].memory, SIZE, ends[0].key};
	struct ibv_send_wr wr = {.sg_list = &sge,
		.num_sge = 1,
		.opcode = opcode,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = {(uintptr_t)ends[1].memory, ends[1].key}};

	must(qp_post_send(ends[0].qp, &wr, NULL), "post");
}

/* Return: when all @n messages were done */
static uint64_t transfer(enum ibv_wr_opcode opcode, uint64_t n)
{
	uint64_t posted = 0, done = 0, now = NSEC_PER_SEC;

	while (done < n) {
		struct ibv_wc wc;
		bool moved;

		for (; posted < n && posted - done < DEPTH; posted++)
			post(opcode);
		link_mem_set_time(ends[0].link, now);
		moved = move_packets(&ends[0], now);
		moved |= move_packets(&ends[1], now);
		while (cq_poll(ends[0].cq, 1, &wc)) {
			if (wc.status != IBV_WC_SUCCESS)
				errx(1, "status %d", wc.status);
			done++;
		}
		if (moved || done == n)
			continue;
		now = link_mem_next_ns(ends[0].link);
		for (int i = 0; i < 2; i++)
			now = MIN(now, engine_deadline(ends[i].engine));
	}
	return now - NSEC_PER_SEC;
}

int main(int argc, char **argv)
{
	struct link_mem_script script = {.queue_bytes = QUEUE_BYTES};
	const struct engine_stats *stats;
	struct link *link[2];
	uint64_t n, took;

	if (argc != 9)
		errx(2, "see the top of lossy_wire.c");
	script.seed = strtoull(argv[2], NULL, 10);
	n = (strtoull(argv[3], NULL, 10) << 20) / SIZE;
	script.delay_ns = strtoull(argv[4], NULL, 10) * NSEC_PER_USEC / 2;
	script.rate = (uint64_t)(strtod(argv[5], NULL) * 1e9 / 8);
	script.loss_ppm = (uint32_t)strtoul(argv[6], NULL, 10);
	script.reorder_ppm = (uint32_t)strtoul(argv[7], NULL, 10);
	script.duplicate_ppm = (uint32_t)strtoul(argv[8], NULL, 10);
	must(link_mem_pair(&script, 9000, link), "link");
	for (int i = 0; i < 2; i++) {
		ends[i].link = link[i];
		end_open(&ends[i]);
	}
	connect_to(&ends[0], &ends[1]);
	connect_to(&ends[1], &ends[0]);
	took = transfer(
		strcmp(argv[1], "read") ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ, n);
	stats = engine_stats(ends[0].engine);
	printf("{\"gbits\": %.3f, \"sent_again\": %.4f, \"timeouts\": %llu, \"hasty\": "
	       "%llu}\n",
		(double)(n * SIZE * 8) / (double)took,
		(double)stats->tx_retransmitted / (double)stats->tx_request_packets,
		(unsigned long long)stats->ack_timeouts,
		(unsigned long long)stats->hasty_retries);
	for (int i = 0; i < 2; i++) {
		qp_destroy(ends[i].qp);
		cq_destroy(ends[i].cq);
		engine_destroy(ends[i].engine);
		link_close(ends[i].link);
	}
	return 0;
}
