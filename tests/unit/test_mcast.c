/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Multicast in the engine: who gets a copy of what is sent to a group. End 0 sends, and
 * is a member itself; end 1 has several queue pairs.
 */
#include "engine_world.h"

#include "lib/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define N_QPS 3
#define GRH   40
#define SIZE  256

static const uint8_t group_a[16] = {[10] = 0xff, 0xff, 239, 1, 2, 3};
static const uint8_t group_b[16] = {[10] = 0xff, 0xff, 224, 9, 9, 9};

struct members {
	struct world w;
	struct qp *qp[N_QPS]; /* end 1's; the world has the last */
	uint8_t buf[2][SIZE];
	uint32_t key[2];
};

static struct world_config ud_config(void)
{
	struct world_config config = world_default;

	config.type = IBV_QPT_UD;
	return config;
}

static void setup(struct members *m)
{
	struct world_config config = ud_config();

	memset(m, 0, sizeof(*m));
	world_open(&m->w, &config);
	for (int i = 0; i < N_QPS - 1; i++)
		m->qp[i] = world_new_qp(&m->w, 1, &config);
	m->qp[N_QPS - 1] = m->w.end[1].qp;
	for (int i = 0; i < 2; i++)
		m->key[i] =
			world_reg(&m->w.end[i], m->buf[i], SIZE, IBV_ACCESS_LOCAL_WRITE);
}

static void teardown(struct members *m)
{
	for (int i = 0; i < N_QPS - 1; i++)
		qp_destroy(m->qp[i]);
	world_close(&m->w);
}

static void attach(struct members *m, int end, struct qp *qp, const uint8_t gid[16])
{
	struct world_end *e = &m->w.end[end];

	if (!mcast_has_group(e->engine, gid))
		assert_int_equal(e->link->ops->join(e->link, gid), 0);
	assert_int_equal(mcast_attach(e->engine, qp, gid), 0);
}

static void detach(struct members *m, int end, struct qp *qp, const uint8_t gid[16])
{
	assert_int_equal(mcast_detach(m->w.end[end].engine, qp, gid), 0);
}

static void post_buffer(struct members *m, int end, struct qp *qp)
{
	struct ibv_sge sge = {(uintptr_t)m->buf[end], SIZE, m->key[end]};
	struct ibv_recv_wr wr = {.wr_id = qp_number(qp), .sg_list = &sge, .num_sge = 1};

	assert_int_equal(rq_post(qp_rq(qp), &wr), 0);
}

/* End 0 sends "group" to one. */
static void send_to(struct members *m, const uint8_t gid[16], uint32_t qkey)
{
	static char text[] = "group";
	struct ibv_sge sge = {(uintptr_t)text, 5, 0};
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_SEND,
		.sg_list = &sge,
		.num_sge = 1,
		.send_flags = IBV_SEND_INLINE,
		.wr.ud = {.remote_qpn = 0xffffff, .remote_qkey = qkey},
	};
	struct ibv_ah_attr ah = {.is_global = 1, .port_num = 1};

	memcpy(ah.grh.dgid.raw, gid, 16);
	assert_int_equal(qp_post_send(m->w.end[0].qp, &wr, &ah), 0);
	world_run(&m->w, WORLD_FOREVER);
}

/* @n copies came to @end, in any order: @mask has a bit for each of end 1's. */
static void assert_copies(struct members *m, int end, int mask)
{
	struct ibv_wc wc;

	while (cq_poll(m->w.end[end].rcq, 1, &wc)) {
		int i = 0;

		assert_int_equal(wc.status, IBV_WC_SUCCESS);
		assert_int_equal(wc.byte_len, GRH + 5);
		assert_int_equal(wc.wc_flags, IBV_WC_GRH);
		assert_int_equal(wc.src_qp, qp_number(m->w.end[0].qp));
		assert_int_equal(wc.wr_id, wc.qp_num);
		assert_memory_equal(m->buf[end] + GRH, "group", 5);
		if (end == 0) {
			assert_int_equal(wc.qp_num, qp_number(m->w.end[0].qp));
		} else {
			while (qp_number(m->qp[i]) != wc.qp_num)
				assert_true(++i < N_QPS);
		}
		assert_true(mask & 1 << i);
		mask &= ~(1 << i);
	}
	assert_int_equal(mask, 0);
}

static const struct engine_stats *stats(struct members *m, int end)
{
	return engine_stats(m->w.end[end].engine);
}

static void copies(void **state)
{
	struct members m;

	setup(&m);
	for (int i = 0; i < N_QPS; i++) {
		for (int k = 0; k < 4; k++)
			post_buffer(&m, 1, m.qp[i]);
	}
	for (int k = 0; k < 4; k++)
		post_buffer(&m, 0, m.w.end[0].qp);
	attach(&m, 0, m.w.end[0].qp, group_a);
	attach(&m, 1, m.qp[0], group_a);
	attach(&m, 1, m.qp[2], group_a);
	attach(&m, 1, m.qp[1], group_b);
	attach(&m, 1, m.qp[2], group_b);
	/* the GRH tells which */
	send_to(&m, group_a, WORLD_QKEY);
	assert_memory_equal(m.buf[1] + GRH - 4, group_a + 12, 4);
	assert_copies(&m, 1, 5);
	assert_copies(&m, 0, 1); /* the sender itself */
	send_to(&m, group_b, WORLD_QKEY);
	assert_memory_equal(m.buf[1] + GRH - 4, group_b + 12, 4);
	assert_copies(&m, 1, 6);
	assert_copies(&m, 0, 0);
	/* once more is no more copies, and goes with one detach */
	attach(&m, 1, m.qp[0], group_a);
	send_to(&m, group_a, WORLD_QKEY);
	assert_copies(&m, 1, 5);
	detach(&m, 1, m.qp[0], group_a);
	assert_false(qp_in_group(m.qp[0]));
	assert_true(qp_in_group(m.qp[2]));
	send_to(&m, group_a, WORLD_QKEY);
	assert_copies(&m, 1, 4);
	assert_int_equal(stats(&m, 1)->rx_group_packets, 4);
	detach(&m, 1, m.qp[2], group_a);
	assert_false(mcast_has_group(m.w.end[1].engine, group_a));
	detach(&m, 1, m.qp[2], group_b);
	detach(&m, 1, m.qp[1], group_b);
	detach(&m, 0, m.w.end[0].qp, group_a);
	teardown(&m);
}

/* Each copy is judged by itself, and counted. */
static void lost_copies(void **state)
{
	struct ibv_qp_attr reset = {.qp_state = IBV_QPS_RESET};
	struct members m;

	setup(&m);
	for (int i = 0; i < N_QPS; i++)
		attach(&m, 1, m.qp[i], group_a);
	post_buffer(&m, 1, m.qp[0]); /* and none for the second */
	assert_int_equal(qp_modify(m.qp[2], &reset, IBV_QP_STATE), 0);
	send_to(&m, group_a, WORLD_QKEY);
	assert_copies(&m, 1, 1);
	assert_int_equal(stats(&m, 1)->rx_drop_no_buffer, 1);
	assert_int_equal(stats(&m, 1)->rx_drop_qp_state, 1);
	post_buffer(&m, 1, m.qp[0]);
	send_to(&m, group_a, WORLD_QKEY + 1);
	assert_copies(&m, 1, 0);
	assert_int_equal(stats(&m, 1)->rx_drop_qkey, 2);
	for (int i = 0; i < N_QPS; i++)
		detach(&m, 1, m.qp[i], group_a);
	/* the link goes on giving what nobody wants */
	send_to(&m, group_a, WORLD_QKEY);
	assert_int_equal(stats(&m, 1)->rx_drop_no_group, 1);
	teardown(&m);
}

/* Packets to a group that are not for it. */
static void strange_packets(void **state)
{
	struct wire_packet pkt = {.opcode = WIRE_OPCODE(WIRE_UD, WIRE_SEND_ONLY),
		.pkey = WIRE_PKEY_DEFAULT,
		.qkey = WORLD_QKEY};
	uint8_t data[WIRE_HDR_MAX + 16];
	struct link_rx rx = {.data = data};
	struct members m;

	setup(&m);
	attach(&m, 1, m.qp[0], group_a);
	post_buffer(&m, 1, m.qp[0]);
	memcpy(rx.sgid, m.w.end[0].link->gid, 16);

	memcpy(rx.dgid, group_a, 16);
	pkt.dest_qpn = qp_number(m.qp[0]);
	rx.len = (uint32_t)wire_build(&pkt, data);
	engine_input(m.w.end[1].engine, &rx, 1, m.w.now);
	assert_int_equal(stats(&m, 1)->rx_drop_no_qp, 1);

	pkt.dest_qpn = 0xffffff;
	wire_build(&pkt, data);
	memcpy(rx.dgid, m.w.end[1].link->gid, 16);
	engine_input(m.w.end[1].engine, &rx, 1, m.w.now);
	assert_int_equal(stats(&m, 1)->rx_drop_no_qp, 2);

	memcpy(rx.dgid, group_a, 16);
	pkt.opcode = WIRE_SEND_ONLY;
	rx.len = (uint32_t)wire_build(&pkt, data);
	engine_input(m.w.end[1].engine, &rx, 1, m.w.now);
	pkt.opcode = WIRE_OPCODE_CNP;
	rx.len = (uint32_t)wire_build(&pkt, data);
	engine_input(m.w.end[1].engine, &rx, 1, m.w.now);
	assert_int_equal(stats(&m, 1)->rx_drop_unsupported, 2);
	assert_copies(&m, 1, 0);
	assert_int_equal(stats(&m, 1)->rx_group_packets, 0);
	detach(&m, 1, m.qp[0], group_a);
	teardown(&m);
}

static void limits(void **state)
{
	struct world_config config = ud_config();
	struct qp *qp[MCAST_QP_MAX];
	uint8_t gid[16];
	struct engine *e;
	struct world w;

	world_open(&w, &config);
	e = w.end[1].engine;
	memcpy(gid, group_a, 16);
	for (int i = 0; i < MCAST_GROUP_MAX; i++) {
		gid[13] = (uint8_t)i; /* all in one chain */
		assert_int_equal(mcast_attach(e, w.end[1].qp, gid), 0);
	}
	assert_int_equal(mcast_attach(e, w.end[1].qp, group_b), -ENOMEM);
	for (int i = 0; i < MCAST_QP_MAX; i++) {
		qp[i] = world_new_qp(&w, 1, &config);
		assert_int_equal(mcast_attach(e, w.end[1].qp, gid),
			i < MCAST_QP_MAX - 1 ? 0 : -ENOMEM);
	}
	for (int i = 0; i < MCAST_QP_MAX; i++) {
		assert_int_equal(mcast_detach(e, qp[i], gid), 0);
		assert_int_equal(mcast_detach(e, qp[i], gid), -EINVAL);
	}
	for (int i = 0; i < MCAST_GROUP_MAX - 1; i++) {
		gid[13] = (uint8_t)i;
		assert_int_equal(mcast_detach(e, qp[0], gid), 0);
		assert_false(mcast_has_group(e, gid));
	}
	for (int i = 0; i < MCAST_QP_MAX; i++)
		qp_destroy(qp[i]);
	world_close(&w);
}

static void datagrams_only(void **state)
{
	struct world_config config = world_default;
	struct world w;

	for (int uc = 0; uc < 2; uc++) {
		config.type = uc ? IBV_QPT_UC : IBV_QPT_RC;
		world_open(&w, &config);
		assert_int_equal(
			mcast_attach(w.end[1].engine, w.end[1].qp, group_a), -EINVAL);
		assert_int_equal(
			mcast_detach(w.end[1].engine, w.end[1].qp, group_a), -EINVAL);
		world_close(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies),
		cmocka_unit_test(lost_copies),
		cmocka_unit_test(strange_packets),
		cmocka_unit_test(limits),
		cmocka_unit_test(datagrams_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
