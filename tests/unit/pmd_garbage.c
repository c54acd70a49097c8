/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A peer that speaks the hello protocol well and then sends anything: every truncation of
 * a message, every value of every header byte, offload that cannot be, messages of no
 * byte and of too many. The port counts each of them by name, goes on receiving what is
 * good, and starts over when the queue pair breaks.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <rte_ethdev.h>

#include "lib/util.h"
#include "pmd/control.h"
#include "rdma/include/vrdma.h"
#include "tests/proto/frame_walk.h"
#include "tests/unit/pmd_rig.h"

#define ADDRESS	 "127.0.0.9"
#define BUF_SIZE (4 * FRAME_MSG_MAX)
#define CAPS	 (HELLO_CAP_CSUM | HELLO_CAP_TSO | HELLO_CAP_COALESCE)

/* The peer. */
static struct {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	struct control *control;
	uint8_t *buf;
	uint32_t caps;
	_Atomic bool up;
} fake;

static uint16_t port;

static int modify(enum ibv_qp_state state, const struct hello_endpoint *remote)
{
	struct ibv_qp_attr attr = {
		.qp_state = state,
		.port_num = 1,
		.path_mtu = IBV_MTU_1024,
		.min_rnr_timer = 1,
		.timeout = 14,
		.retry_cnt = 7,
		.rnr_retry = 7,
		.ah_attr = {.is_global = 1, .port_num = 1, .grh = {.hop_limit = 64}},
	};
	int mask = IBV_QP_STATE;

	if (state == IBV_QPS_INIT)
		mask |= IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
	if (state == IBV_QPS_RTR) {
		attr.dest_qp_num = remote->qp[0].qpn;
		attr.rq_psn = remote->qp[0].psn;
		memcpy(attr.ah_attr.grh.dgid.raw, remote->gid, 16);
		mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
			IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	}
	if (state == IBV_QPS_RTS)
		mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
			IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC;
	return -ibv_modify_qp(fake.qp, &attr, mask);
}

static int on_open(void *arg, unsigned peer, struct hello_endpoint *local)
{
	struct ibv_qp_init_attr init = {
		.send_cq = fake.cq,
		.recv_cq = fake.cq,
		.cap = {.max_send_wr = 8,
			.max_recv_wr = 8,
			.max_send_sge = 1,
			.max_recv_sge = 1},
		.qp_type = IBV_QPT_RC,
	};

	fake.qp = ibv_create_qp(fake.pd, &init);
	if (!fake.qp)
		return -errno;
	local->gid[10] = local->gid[11] = 0xff;
	memcpy(local->gid + 12, (const uint8_t[]){127, 0, 0, 9}, 4);
	local->caps = fake.caps;
	local->max_message = FRAME_MSG_MAX;
	local->rx_depth = 8;
	local->path_mtu = 1024;
	local->n_qps = 1;
	local->qp[0] = (struct hello_qp){fake.qp->qp_num, 0};
	strcpy(local->name, "fake");
	return modify(IBV_QPS_INIT, NULL);
}

static int on_connect(void *arg, unsigned peer, const struct hello_endpoint *remote)
{
	int ret = modify(IBV_QPS_RTR, remote);

	return ret ? ret : modify(IBV_QPS_RTS, NULL);
}

static void on_up(void *arg, unsigned peer)
{
	atomic_store(&fake.up, true);
}

static void on_down(void *arg, unsigned peer, const char *reason)
{
	atomic_store(&fake.up, false);
	ibv_destroy_qp(fake.qp);
}

static const struct control_ops ops = {on_open, on_connect, on_up, on_down, NULL};

static void fake_open(uint32_t caps)
{
	struct vrdma_attr attr = {.addr = ADDRESS};
	struct control_peer peer = {.address = "127.0.0.1"};
	struct control_config config = {
		.local_address = ADDRESS, .peers = &peer, .n_peers = 1, .ops = &ops};

	fake.caps = caps;
	fake.ctx = vrdma_open_device(&attr);
	assert_non_null(fake.ctx);
	fake.pd = ibv_alloc_pd(fake.ctx);
	fake.cq = ibv_create_cq(fake.ctx, 64, NULL, NULL, 0);
	fake.buf = calloc(1, BUF_SIZE);
	fake.mr = ibv_reg_mr(fake.pd, fake.buf, BUF_SIZE, 0);
	assert_non_null(fake.mr);
	assert_int_equal(control_start(&config, &fake.control), 0);
}

static void fake_close(void)
{
	control_stop(fake.control);
	ibv_dereg_mr(fake.mr);
	free(fake.buf);
	ibv_destroy_cq(fake.cq);
	ibv_dealloc_pd(fake.pd);
	ibv_close_device(fake.ctx);
}

static int setup(void **state)
{
	int ret = rig_attach(0, ",peer=" ADDRESS);

	assert_in_range(ret, 0, RTE_MAX_ETHPORTS - 1);
	port = (uint16_t)ret;
	rig_start(port, false, RIG_MTU);
	fake_open(CAPS);
	rig_wait(port, "peers_up", 1);
	while (!atomic_load(&fake.up))
		usleep(1000);
	return 0;
}

static int teardown(void **state)
{
	fake_close();
	rig_check_sums(port);
	rig_detach(0);
	assert_int_equal(rig_mbufs_in_use(), 0);
	return 0;
}

/* fake_send() - send and wait for the end; returns the completion's status */
static enum ibv_wc_status fake_send(const uint8_t *msg, uint32_t size)
{
	struct ibv_sge sge = {(uintptr_t)fake.buf, size, fake.mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge,
		.num_sge = size ? 1 : 0,
		.opcode = IBV_WR_SEND,
		.send_flags = IBV_SEND_SIGNALED};
	struct ibv_send_wr *bad;
	struct ibv_wc wc;

	if (msg && size)
		memcpy(fake.buf, msg, size);
	assert_int_equal(ibv_post_send(fake.qp, &wr, &bad), 0);
	while (ibv_poll_cq(fake.cq, 1, &wc) == 0) {
	}
	return wc.status;
}

/* What frame_walk() expects, and what the port gave. */
static struct {
	uint64_t frames, bytes, record, offload, oversize;
} want;

static void expect_drop(const char *counter)
{
	if (strcmp(counter, "rx_drop_record") == 0)
		want.record++;
	else if (strcmp(counter, "rx_drop_offload") == 0)
		want.offload++;
	else
		want.oversize++;
}

static void expect_frame(const uint8_t *frame, uint32_t len)
{
	want.frames++;
	want.bytes += len;
}

static void expect_unfinished(const uint8_t *frame, const struct frame_layout *layout)
{
}

static void send_and_expect(const uint8_t *msg, uint32_t size)
{
	struct frame_walk walk = {RIG_MTU, expect_drop, expect_frame, expect_unfinished};
	struct rte_mbuf *pkts[64];

	frame_walk(&walk, msg, size);
	assert_int_equal(fake_send(msg, size), IBV_WC_SUCCESS);
	rte_pktmbuf_free_bulk(pkts, rte_eth_rx_burst(port, 0, pkts, 64));
}

static void check_counters(void)
{
	rig_wait(port, "rx_frames", want.frames);
	rig_wait(port, "rx_drop_record", want.record);
	rig_wait(port, "rx_drop_offload", want.offload);
	rig_wait(port, "rx_drop_oversize", want.oversize);
	assert_int_equal(rig_stat(port, "rx_bytes"), want.bytes);
	rig_check_sums(port);
	assert_int_equal(rig_stat(port, "peers_up"), 1);
	assert_int_equal(rig_stat(port, "hello_ups"), 1); /* never had to start over */
	memset(&want, 0, sizeof(want));
}

/* put_record() - a record of @len bytes of frame; returns where the next begins */
static uint32_t put_record(
	uint8_t *msg, uint32_t at, uint32_t len, uint8_t flags, uint16_t mss)
{
	struct frame_record record = {len, mss, flags};

	frame_record_encode(msg + at, &record);
	memset(msg + at + FRAME_HDR_SIZE, 0x22, len);
	return at + FRAME_HDR_SIZE + len;
}

static void every_truncation(void **state)
{
	uint8_t msg[256];
	uint32_t size = put_record(msg, 0, 14, 0, 0);

	size = put_record(msg, size, 60, 0, 0);
	size = put_record(msg, size, 33, 0, 0);
	for (uint32_t i = 0; i <= size; i++)
		send_and_expect(msg, i);
	check_counters();
}

static void every_header_byte(void **state)
{
	uint8_t msg[256];
	uint32_t size;

	for (int at = 0; at < FRAME_HDR_SIZE; at++)
		for (int value = 0; value < 256; value++) {
			size = put_record(msg, 0, 20, 0, 0);
			size = put_record(msg, size, 64, 0, 0);
			msg[at] = (uint8_t)value;
			send_and_expect(msg, size);
		}
	check_counters();
}

/* A good TSO message with each byte of its headers changed. */
static void offload_garbage(void **state)
{
	struct rte_mbuf *mbuf = rig_tcp(1, 2, 3000, 0);
	struct frame_record record = {mbuf->pkt_len, 1000, FRAME_TSO};
	uint8_t msg[4096];
	uint32_t size = FRAME_HDR_SIZE + mbuf->pkt_len;

	frame_record_encode(msg, &record);
	memcpy(msg + FRAME_HDR_SIZE, rte_pktmbuf_mtod(mbuf, void *), mbuf->pkt_len);
	rte_pktmbuf_free(mbuf);
	for (uint32_t at = 0; at < FRAME_HDR_SIZE + 66; at++) {
		uint8_t good = msg[at];

		for (int bit = 0; bit < 8; bit++) {
			msg[at] = (uint8_t)(good ^ 1 << bit);
			send_and_expect(msg, size);
		}
		msg[at] = good;
	}
	send_and_expect(msg, size);
	check_counters();
}

static void longest_and_longer(void **state)
{
	struct rte_mbuf *mbuf;
	uint8_t msg[FRAME_HDR_SIZE + 60];

	put_record(fake.buf, 0, FRAME_LEN_MAX, 0, 0);
	assert_int_equal(fake_send(NULL, FRAME_MSG_MAX), IBV_WC_SUCCESS);
	rig_wait(port, "rx_drop_oversize", 1);
	/* More than a receive buffer takes: the device refuses, the connection ends. */
	assert_int_not_equal(fake_send(NULL, FRAME_MSG_MAX + 1), IBV_WC_SUCCESS);
	control_conn_failed(fake.control, 0);
	rig_wait(port, "hello_ups", 2);
	rig_wait(port, "peers_up", 1);
	while (!atomic_load(&fake.up))
		usleep(1000);
	put_record(msg, 0, 60, 0, 0);
	assert_int_equal(fake_send(msg, sizeof(msg)), IBV_WC_SUCCESS);
	rig_expect(port, &mbuf, 1);
	rte_pktmbuf_free(mbuf);
	assert_true(rig_stat(port, "rx_buffers_posted") >= 64 - 31);
}

/* Only good frames tell where a station is: docs/frame-protocol.md, section 6. */
static void bad_frames_teach_nothing(void **state)
{
	uint8_t msg[FRAME_HDR_SIZE + 60];
	uint64_t learned = rig_stat(port, "mac_learned");

	put_record(msg, 0, 60, FRAME_CSUM, 0); /* not IP */
	send_and_expect(msg, sizeof(msg));
	check_counters();
	assert_int_equal(rig_stat(port, "mac_learned"), learned);
	put_record(msg, 0, 60, 0, 0);
	assert_int_equal(fake_send(msg, sizeof(msg)), IBV_WC_SUCCESS);
	rig_wait(port, "mac_learned", learned + 1);
}

static void lacks_capabilities(void **state)
{
	fake_close();
	rig_wait(port, "peers_up", 0);
	fake_open(HELLO_CAP_COALESCE);
	while (rig_stat(port, "hello_end_resources") == 0)
		usleep(1000);
	assert_int_equal(rig_stat(port, "peers_up"), 0);
	assert_int_equal(rig_stat(port, "hello_ups"), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST(every_truncation),
		TEST(every_header_byte),
		TEST(offload_garbage),
		TEST(longest_and_longer),
		TEST(bad_frames_teach_nothing),
		TEST(lacks_capabilities),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]); /* a name or pattern */
	rig_init(argv[0]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
