/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine's operations and their errors, on a link that loses nothing (but where a
 * test says so). What a bad wire does is in test_engine_wire.c, states and hostile
 * packets are in test_engine_states.c.
 */
#include "engine_world.h"

#include "lib/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#define BUF (1u << 20)

static void check_stat_zero(const struct world *w)
{
	for (int i = 0; i < 2; i++) {
		const struct engine_stats *s = engine_stats(w->end[i].engine);

		assert_int_equal(s->rx_drop_malformed, 0);
		assert_int_equal(s->rx_drop_no_qp, 0);
		assert_int_equal(s->rx_drop_source, 0);
		assert_int_equal(s->qp_errors, 0);
	}
}

/* One message of @size bytes arrives whole, for sizes around every boundary. */
static void send_sizes(void **state)
{
	static const uint32_t sizes[] = {
		0, 1, 3, 4, 1023, 1024, 1025, 2047, 2048, 2049, 65536, 65552, 1000003};
	struct world w;
	uint8_t *src = world_buf(BUF, 7), *dst = world_buf(BUF, 0);
	uint32_t sk, rk;

	world_open(&w, &world_default);
	sk = world_reg(&w.end[0], src, BUF, 0);
	rk = world_reg(&w.end[1], dst, BUF, IBV_ACCESS_LOCAL_WRITE);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct ibv_wc wc;

		memset(dst, 0, BUF);
		assert_int_equal(world_recv(&w.end[1], i, dst, BUF, rk), 0);
		assert_int_equal(world_send(&w.end[0], i + 100, src, sizes[i], sk,
					 IBV_SEND_SIGNALED),
			0);
		world_run(&w, WORLD_FOREVER);
		wc = world_wc(w.end[1].rcq);
		assert_int_equal(wc.status, IBV_WC_SUCCESS);
		assert_int_equal(wc.opcode, IBV_WC_RECV);
		assert_int_equal(wc.wr_id, i);
		assert_int_equal(wc.byte_len, sizes[i]);
		assert_int_equal(wc.qp_num, qp_number(w.end[1].qp));
		assert_memory_equal(dst, src, sizes[i]);
		assert_int_equal(dst[sizes[i]], 0);
		wc = world_wc(w.end[0].scq);
		assert_int_equal(wc.status, IBV_WC_SUCCESS);
		assert_int_equal(wc.opcode, IBV_WC_SEND);
		assert_int_equal(wc.wr_id, i + 100);
	}
	check_stat_zero(&w);
	assert_int_equal(engine_stats(w.end[0].engine)->tx_retransmitted, 0);
	world_close(&w);
	free(src);
	free(dst);
}

/* Pieces on both sides cut differently, empty pieces among them. */
static void scatter_gather(void **state)
{
	struct world w;
	uint8_t *src = world_buf(8192, 3), *dst = world_buf(8192, 0),
		*expect = world_buf(8192, 0);
	uint32_t sk, rk;
	struct ibv_sge s[5], r[4];
	struct ibv_send_wr swr = {
		.wr_id = 1, .sg_list = s, .num_sge = 5, .opcode = IBV_WR_SEND};
	struct ibv_recv_wr rwr = {.wr_id = 2, .sg_list = r, .num_sge = 4};
	static const uint32_t slen[] = {1, 0, 1500, 7, 3000},
			      rlen[] = {13, 0, 2000, 4096};
	uint32_t off = 0, total = 0;

	world_open(&w, &world_default);
	sk = world_reg(&w.end[0], src, 8192, 0);
	rk = world_reg(&w.end[1], dst, 8192, IBV_ACCESS_LOCAL_WRITE);
	for (int i = 0; i < 5; i++) {
		s[i] = (struct ibv_sge){(uintptr_t)src + off, slen[i], sk};
		memcpy(expect + total, src + off, slen[i]);
		off += slen[i] + 5;
		total += slen[i];
	}
	off = 0;
	for (int i = 0; i < 4; i++) {
		r[i] = (struct ibv_sge){(uintptr_t)dst + off, rlen[i], rk};
		off += rlen[i];
	}
	assert_int_equal(rq_post(qp_rq(w.end[1].qp), &rwr), 0);
	assert_int_equal(qp_post_send(w.end[0].qp, &swr, NULL), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[1].rcq).byte_len, total);
	assert_memory_equal(dst, expect, total);
	/* not signaled, so no completion */
	assert_true(cq_is_empty(w.end[0].scq));
	world_close(&w);
	free(src);
	free(dst);
	free(expect);
}

static void inline_data_is_copied(void **state)
{
	struct world w;
	uint8_t src[64], dst[64] = {0}, orig[64];
	uint32_t rk;

	memset(src, 0x5a, sizeof(src));
	memcpy(orig, src, sizeof(src));
	world_open(&w, &world_default);
	rk = world_reg(&w.end[1], dst, sizeof(dst), IBV_ACCESS_LOCAL_WRITE);
	assert_int_equal(world_recv(&w.end[1], 1, dst, sizeof(dst), rk), 0);
	assert_int_equal(world_send(&w.end[0], 1, src, 64, 0, IBV_SEND_INLINE), 0);
	memset(src, 0, sizeof(src));
	world_run(&w, WORLD_FOREVER);
	assert_memory_equal(dst, orig, sizeof(dst));
	assert_int_equal(world_send(&w.end[0], 1, src, 65, 0, IBV_SEND_INLINE), -EINVAL);
	world_close(&w);
}

static void immediate(void **state)
{
	struct world w;
	uint8_t src[16] = "0123456789abcde", dst[16] = {0};
	struct ibv_sge sge = {.addr = (uintptr_t)src, .length = 16};
	struct ibv_send_wr wr = {.sg_list = &sge,
		.num_sge = 1,
		.imm_data = 0x11223344,
		.opcode = IBV_WR_SEND_WITH_IMM};
	struct ibv_wc wc;
	uint32_t rk;

	world_open(&w, &world_default);
	sge.lkey = world_reg(&w.end[0], src, 16, 0);
	rk = world_reg(&w.end[1], dst, 16, IBV_ACCESS_LOCAL_WRITE);
	world_recv(&w.end[1], 1, dst, 16, rk);
	assert_int_equal(qp_post_send(w.end[0].qp, &wr, NULL), 0);
	world_run(&w, WORLD_FOREVER);
	wc = world_wc(w.end[1].rcq);
	assert_int_equal(wc.wc_flags, IBV_WC_WITH_IMM);
	assert_int_equal(wc.imm_data, 0x11223344);
	assert_memory_equal(src, dst, 16);
	world_close(&w);
}

static void rdma_write(void **state)
{
	struct world w;
	uint8_t *src = world_buf(10000, 9), *dst = world_buf(10000, 0);
	struct ibv_sge sge = {.addr = (uintptr_t)src, .length = 5000};
	struct ibv_send_wr wr = {.sg_list = &sge,
		.num_sge = 1,
		.opcode = IBV_WR_RDMA_WRITE,
		.send_flags = IBV_SEND_SIGNALED};
	struct ibv_wc wc;

	world_open(&w, &world_default);
	sge.lkey = world_reg(&w.end[0], src, 10000, 0);
	wr.wr.rdma.rkey = world_reg(
		&w.end[1], dst, 10000, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	wr.wr.rdma.remote_addr = (uintptr_t)dst + 100;
	assert_int_equal(qp_post_send(w.end[0].qp, &wr, NULL), 0);
	world_run(&w, WORLD_FOREVER);
	wc = world_wc(w.end[0].scq);
	assert_int_equal(wc.status, IBV_WC_SUCCESS);
	assert_int_equal(wc.opcode, IBV_WC_RDMA_WRITE);
	assert_memory_equal(dst + 100, src, 5000);
	assert_int_equal(dst[99], 0);
	assert_int_equal(dst[5100], 0);

	/* with immediate: takes a buffer, which stays untouched */
	assert_int_equal(world_recv(&w.end[1], 77, NULL, 0, 0), 0);
	wr.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
	wr.imm_data = 5;
	assert_int_equal(qp_post_send(w.end[0].qp, &wr, NULL), 0);
	world_run(&w, WORLD_FOREVER);
	wc = world_wc(w.end[1].rcq);
	assert_int_equal(wc.opcode, IBV_WC_RECV_RDMA_WITH_IMM);
	assert_int_equal(wc.wr_id, 77);
	assert_int_equal(wc.byte_len, 5000);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_SUCCESS);

	/* out of bounds by a byte: both ends see it, and both queue pairs end */
	wr.opcode = IBV_WR_RDMA_WRITE;
	wr.wr.rdma.remote_addr = (uintptr_t)dst + 5001;
	assert_int_equal(qp_post_send(w.end[0].qp, &wr, NULL), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_REM_ACCESS_ERR);
	assert_int_equal(qp_state(w.end[0].qp), IBV_QPS_ERR);
	assert_int_equal(qp_state(w.end[1].qp), IBV_QPS_ERR);
	world_close(&w);
	free(src);
	free(dst);
}

static void rdma_read_sizes(void **state)
{
	static const uint32_t sizes[] = {0, 1, 1023, 1024, 1025, 5000, 65536, 1000003};
	uint8_t *src = world_buf(BUF, 13), *dst = world_buf(BUF, 0);
	struct ibv_sge sge = {.addr = (uintptr_t)dst};
	struct ibv_send_wr wr = {.sg_list = &sge,
		.num_sge = 1,
		.opcode = IBV_WR_RDMA_READ,
		.send_flags = IBV_SEND_SIGNALED};
	struct ibv_wc wc;
	struct world w;

	world_open(&w, &world_default);
	sge.lkey = world_reg(&w.end[0], dst, BUF, IBV_ACCESS_LOCAL_WRITE);
	wr.wr.rdma.rkey = world_reg(&w.end[1], src, BUF, IBV_ACCESS_REMOTE_READ);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		memset(dst, 0, BUF);
		sge.length = sizes[i];
		wr.wr.rdma.remote_addr = (uintptr_t)src + i;
		assert_int_equal(qp_post_send(w.end[0].qp, &wr, NULL), 0);
		world_run(&w, WORLD_FOREVER);
		wc = world_wc(w.end[0].scq);
		assert_int_equal(wc.status, IBV_WC_SUCCESS);
		assert_int_equal(wc.opcode, IBV_WC_RDMA_READ);
		assert_int_equal(wc.byte_len, sizes[i]);
		assert_memory_equal(dst, src + i, sizes[i]);
		assert_int_equal(dst[sizes[i]], 0);
	}
	assert_int_equal(engine_stats(w.end[0].engine)->tx_retransmitted, 0);
	assert_int_equal(engine_stats(w.end[0].engine)->rx_answers_lost, 0);

	/* memory that may not be read */
	wr.wr.rdma.remote_addr = (uintptr_t)src + BUF - 5;
	sge.length = 6;
	assert_int_equal(qp_post_send(w.end[0].qp, &wr, NULL), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_REM_ACCESS_ERR);
	world_close(&w);
	free(src);
	free(dst);
}

static void atomics(void **state)
{
	struct world w;
	uint64_t remote[2] = {100, 0}, old = 0;
	struct ibv_sge sge = {.addr = (uintptr_t)&old, .length = 8};
	struct ibv_send_wr wr = {.sg_list = &sge,
		.num_sge = 1,
		.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD,
		.send_flags = IBV_SEND_SIGNALED};

	world_open(&w, &world_default);
	sge.lkey = world_reg(&w.end[0], &old, sizeof(old), IBV_ACCESS_LOCAL_WRITE);
	wr.wr.atomic.rkey =
		world_reg(&w.end[1], remote, sizeof(remote), WORLD_ALL_ACCESS);
	wr.wr.atomic.remote_addr = (uintptr_t)remote;
	wr.wr.atomic.compare_add = 23;
	assert_int_equal(qp_post_send(w.end[0].qp, &wr, NULL), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[0].scq).opcode, IBV_WC_FETCH_ADD);
	assert_int_equal(old, 100);
	assert_int_equal(remote[0], 123);

	wr.opcode = IBV_WR_ATOMIC_CMP_AND_SWP;
	wr.wr.atomic.swap = 7;
	for (uint64_t compare = 122; compare <= 123; compare++) {
		wr.wr.atomic.compare_add = compare;
		assert_int_equal(qp_post_send(w.end[0].qp, &wr, NULL), 0);
		world_run(&w, WORLD_FOREVER);
		assert_int_equal(world_wc(w.end[0].scq).opcode, IBV_WC_COMP_SWAP);
		assert_int_equal(old, 123);
		assert_int_equal(remote[0], compare == 123 ? 7 : 123);
	}
	/* not aligned */
	wr.wr.atomic.remote_addr += 4;
	assert_int_equal(qp_post_send(w.end[0].qp, &wr, NULL), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_REM_INV_REQ_ERR);
	world_close(&w);
}

/* UC: whole messages arrive or nothing; a buffer is never spoilt by two. */
static void unreliable_connected(void **state)
{
	struct world_config config = world_default;
	uint8_t *src = world_buf(BUF, 21), *dst = world_buf(64 * 6000, 0);
	struct world w;
	uint32_t sk, rk;
	struct ibv_wc wc;
	int sent = 0, got = 0;

	config.type = IBV_QPT_UC;
	config.script = (struct link_mem_script){.seed = 3, .loss_ppm = 30000};
	world_open(&w, &config);
	sk = world_reg(&w.end[0], src, BUF, 0);
	rk = world_reg(&w.end[1], dst, 64 * 6000, IBV_ACCESS_LOCAL_WRITE);
	for (uint64_t i = 0; i < 64; i++)
		world_recv(&w.end[1], i, dst + i * 6000, 6000, rk);
	for (uint32_t i = 0; i < 500; i++) {
		assert_int_equal(world_send(&w.end[0], i, src + i, 1 + i * 37 % 6000, sk,
					 IBV_SEND_SIGNALED),
			0);
		world_run(&w, WORLD_FOREVER);
		wc = world_wc(w.end[0].scq);
		assert_int_equal(wc.status, IBV_WC_SUCCESS);
		assert_int_equal(wc.wr_id, i);
		sent++;
		if (cq_poll(w.end[1].rcq, 1, &wc)) {
			assert_int_equal(wc.status, IBV_WC_SUCCESS);
			assert_int_equal(wc.byte_len, 1 + i * 37 % 6000);
			assert_memory_equal(dst + wc.wr_id * 6000, src + i, wc.byte_len);
			world_recv(&w.end[1], wc.wr_id, dst + wc.wr_id * 6000, 6000, rk);
			got++;
		}
	}
	/* nothing is lost without a wire */
	assert_in_range(got, sent / 2, world_direct ? sent : sent - 1);
	assert_int_equal(engine_stats(w.end[0].engine)->rx_acks, 0);
	world_close(&w);
	free(src);
	free(dst);
}

static void datagrams(void **state)
{
	struct world_config config = world_default;
	uint8_t src[1024] = "datagram", dst[1024 + 40];
	struct ibv_sge sge = {.addr = (uintptr_t)src, .length = 1000};
	struct ibv_send_wr wr = {.sg_list = &sge,
		.num_sge = 1,
		.imm_data = 9,
		.opcode = IBV_WR_SEND_WITH_IMM,
		.send_flags = IBV_SEND_SIGNALED};
	struct ibv_ah_attr ah = {.is_global = 1};
	struct world w;
	struct ibv_wc wc;
	uint32_t rk, sum = 0;

	config.type = IBV_QPT_UD;
	world_open(&w, &config);
	sge.lkey = world_reg(&w.end[0], src, sizeof(src), 0);
	rk = world_reg(&w.end[1], dst, sizeof(dst), IBV_ACCESS_LOCAL_WRITE);
	memcpy(ah.grh.dgid.raw, w.end[1].link->gid, 16);
	wr.wr.ud.remote_qpn = qp_number(w.end[1].qp);
	wr.wr.ud.remote_qkey = WORLD_QKEY;
	world_recv(&w.end[1], 5, dst, sizeof(dst), rk);
	assert_int_equal(qp_post_send(w.end[0].qp, &wr, &ah), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_SUCCESS);
	wc = world_wc(w.end[1].rcq);
	assert_int_equal(wc.byte_len, 1040);
	assert_int_equal(wc.wc_flags, IBV_WC_GRH | IBV_WC_WITH_IMM);
	assert_int_equal(wc.src_qp, qp_number(w.end[0].qp));
	assert_int_equal(wc.imm_data, 9);
	assert_memory_equal(dst + 40, src, 1000);
	/* the IPv4 header in the GRH's place: version, addresses, and a checksum that
	 * holds */
	assert_int_equal(dst[20], 0x45);
	assert_memory_equal(dst + 32, w.end[0].link->gid + 12, 4);
	assert_memory_equal(dst + 36, w.end[1].link->gid + 12, 4);
	for (int i = 20; i < 40; i += 2)
		sum += (uint32_t)(dst[i] << 8 | dst[i + 1]);
	assert_int_equal((sum & 0xffff) + (sum >> 16), 0xffff);

	/* a wrong Q_Key, no buffer, too long */
	wr.wr.ud.remote_qkey = 1;
	world_recv(&w.end[1], 5, dst, sizeof(dst), rk);
	assert_int_equal(qp_post_send(w.end[0].qp, &wr, &ah), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(engine_stats(w.end[1].engine)->rx_drop_qkey, 1);
	wr.wr.ud.remote_qkey = WORLD_QKEY;
	for (int i = 0; i < 2; i++)
		assert_int_equal(qp_post_send(w.end[0].qp, &wr, &ah), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(engine_stats(w.end[1].engine)->rx_drop_no_buffer, 1);
	sge.length = 1025;
	assert_int_equal(qp_post_send(w.end[0].qp, &wr, &ah), -EINVAL);
	world_close(&w);
}

/* The sender outruns the receiver: RNR NAKs, and all arrives once buffers are there. */
static void rnr_retry_forever(void **state)
{
	struct world w;
	uint8_t src[4] = "abc", dst[4] = {0};
	uint32_t sk, rk;

	world_open(&w, &world_default);
	sk = world_reg(&w.end[0], src, 4, 0);
	rk = world_reg(&w.end[1], dst, 4, IBV_ACCESS_LOCAL_WRITE);
	assert_int_equal(world_send(&w.end[0], 1, src, 4, sk, IBV_SEND_SIGNALED), 0);
	world_run(&w, w.now + 10 * NSEC_PER_MSEC);
	assert_true(engine_stats(w.end[0].engine)->rx_naks_rnr > 100);
	assert_true(cq_is_empty(w.end[0].scq));
	assert_int_equal(world_recv(&w.end[1], 1, dst, 4, rk), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_SUCCESS);
	assert_memory_equal(src, dst, 4);
	check_stat_zero(&w);
	world_close(&w);
}

/* A receiver that lets its peer wait, on a wire where far more than retry_cnt packets are
 * lost meanwhile, is not gone.
 */
static void rnr_and_losses(void **state)
{
	struct world_config config = world_default;
	uint8_t buf[8] = "waiting", dst[8] = {0};
	struct world w;
	uint32_t sk, rk;

	config.timeout = 8;
	config.script = (struct link_mem_script){.seed = 3, .loss_ppm = 100000};
	world_open(&w, &config);
	sk = world_reg(&w.end[0], buf, sizeof(buf), 0);
	rk = world_reg(&w.end[1], dst, sizeof(dst), IBV_ACCESS_LOCAL_WRITE);
	assert_int_equal(
		world_send(&w.end[0], 1, buf, sizeof(buf), sk, IBV_SEND_SIGNALED), 0);
	world_run(&w, w.now + 200 * NSEC_PER_MSEC);
	assert_int_equal(qp_state(w.end[0].qp), IBV_QPS_RTS);
	assert_int_equal(world_recv(&w.end[1], 2, dst, sizeof(dst), rk), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_SUCCESS);
	assert_memory_equal(dst, buf, sizeof(buf));
	world_close(&w);
}

static void rnr_retry_exceeded(void **state)
{
	struct world_config config = world_default;
	struct world w;
	uint8_t src[4] = "abc";
	uint32_t sk;

	config.rnr_retry = 3;
	world_open(&w, &config);
	sk = world_reg(&w.end[0], src, 4, 0);
	world_send(&w.end[0], 1, src, 4, sk, 0);
	world_send(&w.end[0], 2, src, 4, sk, 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(engine_stats(w.end[0].engine)->rx_naks_rnr, 4);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_RNR_RETRY_EXC_ERR);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_WR_FLUSH_ERR);
	assert_int_equal(qp_state(w.end[0].qp), IBV_QPS_ERR);
	world_close(&w);
}

/* A peer that is gone: the timeout, retry_cnt times, and the work comes back. */
static void peer_gone(void **state)
{
	struct world w;
	uint8_t buf[4096] = {0};
	uint32_t sk, rk;
	uint64_t start;

	world_open(&w, &world_default);
	sk = world_reg(&w.end[0], buf, sizeof(buf), 0);
	rk = world_reg(&w.end[0], buf, sizeof(buf), IBV_ACCESS_LOCAL_WRITE);
	link_mem_set_filter(w.end[0].link, world_drop_all, NULL);
	start = w.now;
	world_recv(&w.end[0], 9, buf, 4, rk);
	world_send(&w.end[0], 1, buf, 4096, sk, 0);
	world_send(&w.end[0], 2, buf, 4, sk, 0);
	world_run(&w, WORLD_FOREVER);
	/* 8 timeouts of 4.096 us * 2^14 */
	assert_in_range(
		w.now - start, 8 * (4096ull << 14), 8 * (4096ull << 14) + NSEC_PER_MSEC);
	assert_int_equal(engine_stats(w.end[0].engine)->ack_timeouts, 8);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_RETRY_EXC_ERR);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_WR_FLUSH_ERR);
	assert_int_equal(world_wc(w.end[0].rcq).status, IBV_WC_WR_FLUSH_ERR);
	/* what is posted now is flushed at once */
	assert_int_equal(world_send(&w.end[0], 3, buf, 4, sk, 0), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_WR_FLUSH_ERR);
	world_close(&w);
}

static void message_too_long(void **state)
{
	struct world w;
	uint8_t src[2000] = {1}, dst[1500];
	uint32_t sk, rk;

	world_open(&w, &world_default);
	sk = world_reg(&w.end[0], src, sizeof(src), 0);
	rk = world_reg(&w.end[1], dst, sizeof(dst), IBV_ACCESS_LOCAL_WRITE);
	world_recv(&w.end[1], 1, dst, sizeof(dst), rk);
	world_send(&w.end[0], 1, src, sizeof(src), sk, 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[1].rcq).status, IBV_WC_LOC_LEN_ERR);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_REM_INV_REQ_ERR);
	world_close(&w);
}

static void bad_local_keys(void **state)
{
	struct world w;
	uint8_t src[64] = {1}, dst[64];
	uint32_t sk, rk;

	/* the sender's */
	world_open(&w, &world_default);
	sk = world_reg(&w.end[0], src, sizeof(src), 0);
	world_send(&w.end[0], 1, src, sizeof(src) + 1, sk, 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_LOC_PROT_ERR);
	world_close(&w);

	/* the receiver's: a region that may not be written */
	world_open(&w, &world_default);
	sk = world_reg(&w.end[0], src, sizeof(src), 0);
	rk = world_reg(&w.end[1], dst, sizeof(dst), 0);
	world_recv(&w.end[1], 1, dst, sizeof(dst), rk);
	world_send(&w.end[0], 1, src, sizeof(src), sk, 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[1].rcq).status, IBV_WC_LOC_PROT_ERR);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_REM_OP_ERR);
	world_close(&w);
}

static void completion_queue_overrun(void **state)
{
	struct world_config config = world_default;
	struct world w;
	uint8_t buf[4] = {0};
	uint32_t sk, rk;

	config.cq_depth = 4;
	world_open(&w, &config);
	sk = world_reg(&w.end[0], buf, 4, 0);
	rk = world_reg(&w.end[1], buf, 4, IBV_ACCESS_LOCAL_WRITE);
	for (int i = 0; i < 8; i++)
		world_recv(&w.end[1], 1, buf, 4, rk);
	for (int i = 0; i < 8; i++)
		world_send(&w.end[0], 1, buf, 4, sk, 0);
	world_run(&w, WORLD_FOREVER);
	assert_true(engine_stats(w.end[1].engine)->cq_overruns > 0);
	assert_int_equal(qp_state(w.end[1].qp), IBV_QPS_ERR);
	world_close(&w);
}

static void queue_full(void **state)
{
	struct world w;
	uint8_t buf[4] = {0};
	uint32_t sk;

	world_open(&w, &world_default);
	sk = world_reg(&w.end[0], buf, 4, 0);
	for (int i = 0; i < 64; i++)
		assert_int_equal(world_send(&w.end[0], 1, buf, 4, sk, 0), 0);
	assert_int_equal(world_send(&w.end[0], 1, buf, 4, sk, 0), -ENOMEM);
	world_close(&w);
}

/* The longest message at the smallest path MTU takes half of all PSNs. Its memory is a
 * few pages, mapped again and again.
 */
static void longest_message(void **state)
{
	struct world_config config = world_default;
	const size_t size = 1ul << 31, piece = 8ul << 20;
	int fd = memfd_create("longest", MFD_CLOEXEC);
	struct world w;
	uint8_t *buf;
	uint32_t key[2];

	assert_int_equal(ftruncate(fd, (off_t)piece), 0);
	buf = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		0);
	assert_ptr_not_equal(buf, MAP_FAILED);
	for (size_t off = 0; off < size; off += piece)
		assert_ptr_equal(mmap(buf + off, piece, PROT_READ | PROT_WRITE,
					 MAP_SHARED | MAP_FIXED, fd, 0),
			buf + off);

	config.mtu = IBV_MTU_256;
	world_open(&w, &config);
	for (int i = 0; i < 2; i++)
		key[i] = world_reg(&w.end[i], buf, size, IBV_ACCESS_LOCAL_WRITE);
	world_recv(&w.end[1], 1, buf, 1u << 31, key[1]);
	assert_int_equal(
		world_send(&w.end[0], 1, buf, 1u << 31, key[0], IBV_SEND_SIGNALED), 0);
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(world_wc(w.end[1].rcq).byte_len, 1u << 31);
	assert_int_equal(world_wc(w.end[0].scq).status, IBV_WC_SUCCESS);
	if (!world_direct)
		assert_int_equal(
			engine_stats(w.end[0].engine)->tx_request_packets, 1 << 23);
	world_close(&w);
	munmap(buf, size);
	close(fd);
}

/* Several queue pairs share one receive queue; a long message in the middle of its
 * buffer does not disturb the others.
 */
static void shared_receive_queue(void **state)
{
	struct world_config config = world_default;
	struct world w;
	uint8_t *src = world_buf(4096, 5), *dst = world_buf(8 * 4096, 0);
	struct ibv_sge sge = {.length = 4096};
	struct ibv_recv_wr wr = {.sg_list = &sge, .num_sge = 1};
	uint32_t sk;

	assert_int_equal(rq_create(WORLD_PD, 8, 1, &config.srq[1]), 0);
	world_open(&w, &config);
	sk = world_reg(&w.end[0], src, 4096, 0);
	sge.lkey = world_reg(&w.end[1], dst, 8 * 4096, IBV_ACCESS_LOCAL_WRITE);
	for (uint64_t i = 0; i < 8; i++) {
		wr.wr_id = i;
		sge.addr = (uintptr_t)dst + i * 4096;
		assert_int_equal(rq_post(config.srq[1], &wr), 0);
	}
	assert_int_equal(rq_post(config.srq[1], &wr), -ENOMEM);
	for (uint64_t i = 0; i < 8; i++)
		world_send(&w.end[0], i, src, 4096, sk, 0);
	world_run(&w, WORLD_FOREVER);
	for (uint64_t i = 0; i < 8; i++) {
		assert_int_equal(world_wc(w.end[1].rcq).wr_id, i);
		assert_memory_equal(dst + i * 4096, src, 4096);
	}
	world_close(&w);
	rq_destroy(config.srq[1]);
	free(src);
	free(dst);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(send_sizes),
		cmocka_unit_test(scatter_gather),
		cmocka_unit_test(inline_data_is_copied),
		cmocka_unit_test(immediate),
		cmocka_unit_test(rdma_write),
		cmocka_unit_test(rdma_read_sizes),
		cmocka_unit_test(unreliable_connected),
		cmocka_unit_test(datagrams),
		cmocka_unit_test(atomics),
		cmocka_unit_test(rnr_retry_forever),
		cmocka_unit_test(rnr_and_losses),
		cmocka_unit_test(rnr_retry_exceeded),
		cmocka_unit_test(peer_gone),
		cmocka_unit_test(message_too_long),
		cmocka_unit_test(bad_local_keys),
		cmocka_unit_test(completion_queue_overrun),
		cmocka_unit_test(queue_full),
		cmocka_unit_test(shared_receive_queue),
		cmocka_unit_test(longest_message),
	};

	world_main_args(argc, argv);
	return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
