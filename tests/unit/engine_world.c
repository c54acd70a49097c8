/* SPDX-License-Identifier: BSD-3-Clause */
#include "engine_world.h"

#include "lib/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

const struct world_config world_default = {
	.type = IBV_QPT_RC,
	.mtu = IBV_MTU_1024,
	.sq_depth = 64,
	.rq_depth = 64,
	.cq_depth = 128,
	.max_sge = 8,
	.timeout = 14,
	.retry_cnt = 7,
	.rnr_retry = 7,
	.psn = 0xfffff0, /* soon wraps */
};

bool world_direct;

void world_main_args(int argc, char **argv)
{
	world_direct = argc == 2 && !strcmp(argv[1], "direct");
}

static void count_event(void *arg, enum ibv_event_type event)
{
	struct world_end *end = arg;

	end->n_events++;
	end->last_event = event;
}

static void open_qp(
	struct world_end *end, const struct world_config *config, struct rq *srq)
{
	struct qp_config qpc = {
		.pd = WORLD_PD,
		.type = config->type,
		.port_mtu = 128u << config->mtu,
		.srq = srq,
		.cap = {.max_send_wr = config->sq_depth,
			.max_recv_wr = config->rq_depth,
			.max_send_sge = config->max_sge,
			.max_recv_sge = config->max_sge,
			.max_inline_data = 64},
	};

	qpc.notify = count_event;
	qpc.notify_arg = end;
	qpc.send_cq = end->scq;
	qpc.recv_cq = end->rcq;
	assert_int_equal(qp_create(end->engine, &qpc, &end->qp), 0);
}

static void open_end(
	struct world_end *end, const struct world_config *config, struct rq *srq)
{
	assert_int_equal(cq_create(config->cq_depth, &end->scq), 0);
	assert_int_equal(cq_create(config->cq_depth, &end->rcq), 0);
	open_qp(end, config, srq);
}

/* The address that queue pair @i is reached at. */
static const uint8_t *gid_of(const struct world *w, int i)
{
	return w->end[w->is_direct ? 0 : i].link->gid;
}

void world_step_state(
	struct world *w, int i, const struct world_config *config, enum ibv_qp_state next)
{
	struct world_end *end = &w->end[i], *peer = &w->end[!i];
	struct ibv_qp_attr attr = {
		.qp_state = next,
		.qkey = WORLD_QKEY,
		.port_num = 1,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
				   IBV_ACCESS_REMOTE_ATOMIC,
		.path_mtu = config->mtu,
		.dest_qp_num = qp_number(peer->qp),
		.rq_psn = config->psn,
		.sq_psn = config->psn,
		.min_rnr_timer = 1,
		.timeout = config->timeout,
		.retry_cnt = config->retry_cnt,
		.rnr_retry = config->rnr_retry,
		.max_rd_atomic = 4,
		.max_dest_rd_atomic = 4,
		.ah_attr = {.is_global = 1, .port_num = 1},
	};
	static const int masks[][3] = {
		[IBV_QPT_RC] = {IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS,
			IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
				IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER,
			IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
				IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC},
		[IBV_QPT_UC] = {IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS,
			IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN,
			IBV_QP_SQ_PSN},
		[IBV_QPT_UD] = {IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY, 0,
			IBV_QP_SQ_PSN},
	};

	memcpy(attr.ah_attr.grh.dgid.raw, gid_of(w, !i), 16);
	assert_int_equal(qp_modify(end->qp, &attr,
				 IBV_QP_STATE | masks[config->type][next - IBV_QPS_INIT]),
		0);
}

void world_connect(struct world *w, int i, const struct world_config *config)
{
	for (int s = IBV_QPS_INIT; s <= IBV_QPS_RTS; s++)
		world_step_state(w, i, config, (enum ibv_qp_state)s);
}

struct qp *world_new_qp(struct world *w, int i, const struct world_config *config)
{
	struct qp *old = w->end[i].qp;

	open_qp(&w->end[i], config, config->srq[i]);
	world_connect(w, i, config);
	return old;
}

void world_open(struct world *w, const struct world_config *config)
{
	struct link *link[2];

	memset(w, 0, sizeof(*w));
	w->now = 1000000;
	assert_int_equal(link_mem_pair(&config->script, 9000, link), 0);
	w->is_direct = world_direct;
	for (int i = 0; i < 2; i++) {
		w->end[i].link = link[i];
		if (i && w->is_direct)
			w->end[1].engine = w->end[0].engine;
		else
			assert_int_equal(engine_create(&w->end[i].engine), 0);
		if (w->is_direct)
			engine_set_gid(w->end[i].engine, 0, gid_of(w, i));
		open_end(&w->end[i], config, config->srq[i]);
	}
	for (int i = 0; i < 2; i++)
		world_connect(w, i, config);
}

void world_close(struct world *w)
{
	for (int i = 0; i < 2; i++)
		qp_destroy(w->end[i].qp);
	for (int i = 0; i < 2; i++) {
		struct world_end *end = &w->end[i];

		cq_destroy(end->scq);
		cq_destroy(end->rcq);
		if (!i || !w->is_direct)
			engine_destroy(end->engine);
		link_close(end->link);
	}
}

/* Return: whether anything moved */
static bool move_packets(struct world *w, struct world_end *end)
{
	/* What the one engine sends it gets on the other link. */
	struct link *out = w->is_direct ? w->end[0].link : end->link;
	struct link_rx rx[LINK_BURST];
	bool moved = false;
	int n;

	while ((n = end->link->ops->recv(end->link, rx, LINK_BURST))) {
		engine_input(end->engine, rx, n, w->now);
		moved = true;
	}
	while (engine_output(end->engine, &w->burst, w->now)) {
		out->ops->send(out, &w->burst);
		moved = true;
	}
	return moved;
}

void world_run(struct world *w, uint64_t until_ns)
{
	while (w->now < until_ns) {
		uint64_t next = link_mem_next_ns(w->end[0].link);
		bool moved = false;

		link_mem_set_time(w->end[0].link, w->now);
		for (int i = 0; i < 2; i++)
			moved |= move_packets(w, &w->end[i]);
		if (moved) {
			w->now += 1000;
			continue;
		}
		for (int i = 0; i < 2; i++) {
			if (engine_deadline(w->end[i].engine) < next)
				next = engine_deadline(w->end[i].engine);
		}
		if (next == ENGINE_NO_DEADLINE)
			return;
		if (next > w->now)
			w->now = next;
		for (int i = 0; i < 2; i++)
			engine_expire(w->end[i].engine, w->now);
	}
}

uint32_t world_reg(struct world_end *end, void *addr, size_t size, int access)
{
	struct mr mr = {
		.pd = WORLD_PD,
		.access = access,
		.iova = (uintptr_t)addr,
		.length = size,
		.addr = addr,
	};
	uint32_t key;

	assert_int_equal(mr_register(engine_mrs(end->engine), &mr, &key), 0);
	return key;
}

int world_send(struct world_end *end, uint64_t id, void *addr, uint32_t size,
	uint32_t lkey, unsigned int flags)
{
	struct ibv_sge sge = {.addr = (uintptr_t)addr, .length = size, .lkey = lkey};
	struct ibv_send_wr wr = {
		.wr_id = id,
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = IBV_WR_SEND,
		.send_flags = flags,
	};

	return qp_post_send(end->qp, &wr, NULL);
}

int world_recv(
	struct world_end *end, uint64_t id, void *addr, uint32_t size, uint32_t lkey)
{
	struct ibv_sge sge = {.addr = (uintptr_t)addr, .length = size, .lkey = lkey};
	struct ibv_recv_wr wr = {.wr_id = id, .sg_list = &sge, .num_sge = 1};

	return rq_post(qp_rq(end->qp), &wr);
}

struct ibv_wc world_wc(struct cq *cq)
{
	struct ibv_wc wc;

	assert_int_equal(cq_poll(cq, 1, &wc), 1);
	return wc;
}

uint8_t *world_buf(size_t size, unsigned int seed)
{
	uint8_t *buf = malloc(size);

	assert_non_null(buf);
	for (size_t i = 0; i < size; i++)
		buf[i] = (uint8_t)(seed ? (i * 2654435761u + seed) >> 13 : 0);
	return buf;
}

bool world_drop_all(void *arg, int from_end, uint8_t *data, uint32_t len)
{
	return false;
}

uint64_t world_transfer(struct world *w, enum ibv_wr_opcode opcode, uint32_t size)
{
	uint8_t *src = world_buf(size, 3), *dst = world_buf(size, 0);
	bool reads = opcode == IBV_WR_RDMA_READ;
	uint8_t *local = reads ? dst : src, *remote = reads ? src : dst;
	struct ibv_sge sge = {.addr = (uintptr_t)local,
		.length = size,
		.lkey = world_reg(&w->end[0], local, size, IBV_ACCESS_LOCAL_WRITE)};
	struct ibv_send_wr wr = {.sg_list = &sge,
		.num_sge = 1,
		.opcode = opcode,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = {(uintptr_t)remote,
			world_reg(&w->end[1], remote, size, WORLD_ALL_ACCESS)}};
	uint64_t begin = w->now;

	assert_int_equal(qp_post_send(w->end[0].qp, &wr, NULL), 0);
	while (cq_is_empty(w->end[0].scq)) {
		world_run(w, w->now + NSEC_PER_MSEC);
		assert_true(w->now < WORLD_FOREVER);
	}
	assert_int_equal(world_wc(w->end[0].scq).status, IBV_WC_SUCCESS);
	assert_memory_equal(src, dst, size);
	free(src);
	free(dst);
	return w->now - begin;
}
