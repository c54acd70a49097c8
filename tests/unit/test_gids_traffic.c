/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages of devices with several addresses: by each of them, to the right one, and
 * while others come and go.
 */
#include "gids_end.h"
#include "own_net.h"

#include "lib/util.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define QKEY 0x1234

/* By packets, through every entry; between two devices of one interface. */
static void messages_by_each(void **state)
{
	static const char *const addrs[] = {
		FIRST "," SECOND "," THIRD, "10.88.0.2,10.88.1.2,fd88::2"};
	struct ibv_wc wc;

	run(IP_ADD "10.88.0.2/24 dev v0");
	run(IP_ADD "10.88.1.2/24 dev v0");
	run(IP_ADD "fd88::2/64 dev v0 nodad");
	for (uint8_t index = 0; index < 3; index++) {
		struct end e[2];

		for (int i = 0; i < 2; i++) {
			end_open(&e[i], addrs[i], NULL);
			end_set_gid(&e[i], index);
		}
		end_connect(&e[0], &e[1]);
		end_connect(&e[1], &e[0]);
		end_post_recv(&e[1]);
		end_post_send(&e[0], 100000);
		end_wait_wc(e[1].rcq, &wc);
		end_wait_wc(e[0].scq, &wc);
		assert_true(gids_counter(e[1].ctx, "link_rx_packets") >= 25);
		assert_int_equal(gids_counter(e[1].ctx, "rx_drop_destination"), 0);
		end_close(&e[0]);
		end_close(&e[1]);
	}
	run(IP_DEL "10.88.0.2/24 dev v0");
	run(IP_DEL "10.88.1.2/24 dev v0");
	run(IP_DEL "fd88::2/64 dev v0");
}

static struct ibv_qp *make_ud(struct end *e)
{
	struct ibv_qp_init_attr init = {.qp_type = IBV_QPT_UD,
		.send_cq = e->scq,
		.recv_cq = e->rcq,
		.srq = e->srq,
		.cap = {.max_send_wr = 4, .max_send_sge = 1}};
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = 1, .qkey = QKEY};
	struct ibv_qp *qp = ibv_create_qp(e->pd, &init);

	assert_non_null(qp);
	assert_int_equal(
		ibv_modify_qp(qp, &attr,
			IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY),
		0);
	attr.qp_state = IBV_QPS_RTR;
	assert_int_equal(ibv_modify_qp(qp, &attr, IBV_QP_STATE), 0);
	attr.qp_state = IBV_QPS_RTS;
	assert_int_equal(ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN), 0);
	return qp;
}

/* A datagram, and what stands in front of it. */
static void datagram(struct end *e, struct ibv_qp *qp, uint8_t from,
	const char *from_addr, const char *to_addr)
{
	struct ibv_ah *ah = gids_make_ah(e->pd, from, to_addr);
	struct ibv_sge sge = {(uintptr_t)e->buf + 1000, 100, e->mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge,
				   .num_sge = 1,
				   .opcode = IBV_WR_SEND,
				   .send_flags = IBV_SEND_SIGNALED,
				   .wr.ud = {.ah = ah,
					   .remote_qpn = qp->qp_num,
					   .remote_qkey = QKEY}},
			   *bad;
	union ibv_gid src = gids_of(from_addr), dst = gids_of(to_addr);
	bool is_ipv4 = !strchr(to_addr, ':');
	struct ibv_wc wc;

	assert_non_null(ah);
	end_post_recv(e);
	assert_int_equal(ibv_post_send(qp, &wr, &bad), 0);
	end_wait_wc(e->scq, &wc);
	end_wait_wc(e->rcq, &wc);
	assert_int_equal(wc.wc_flags, IBV_WC_GRH);
	assert_int_equal(wc.byte_len, 140);
	assert_int_equal(e->buf[is_ipv4 ? 20 : 0] >> 4, is_ipv4 ? 4 : 6);
	if (is_ipv4) {
		assert_memory_equal(e->buf + 32, src.raw + 12, 4);
		assert_memory_equal(e->buf + 36, dst.raw + 12, 4);
	} else {
		assert_memory_equal(e->buf + 8, src.raw, 16);
		assert_memory_equal(e->buf + 24, dst.raw, 16);
	}
	assert_int_equal(ibv_destroy_ah(ah), 0);
}

/* A datagram tells from which address to which it went; all of the device's are good. */
static void datagrams_by_each(void **state)
{
	static const struct end_config all = {.interface = "v0"};
	struct ibv_qp *qp;
	struct end e;

	end_open(&e, NULL, &all);
	qp = make_ud(&e);
	datagram(&e, qp, 0, FIRST, SECOND);
	datagram(&e, qp, 1, SECOND, FIRST);
	datagram(&e, qp, 1, SECOND, SECOND);
	datagram(&e, qp, 2, THIRD, THIRD);
	datagram(&e, qp, 3, LOCAL, LOCAL);
	datagram(&e, qp, 2, THIRD, LOCAL);
	assert_int_equal(ibv_destroy_qp(qp), 0);
	end_close(&e);
}

/* A peer that sends to another address of ours than the one it is connected to. */
static void to_another_address(void **state)
{
	static const struct end_config both = {.interface = "v0"};
	uint64_t end = now_ns() + WAIT_MS * NSEC_PER_MSEC;
	struct end e[2];
	struct ibv_wc wc;

	run(IP_ADD "10.88.0.2/24 dev v1");
	end_open(&e[0], "10.88.0.2", NULL);
	end_open(&e[1], NULL, &both);
	end_set_gid(&e[1], 1);
	end_connect(&e[0], &e[1]);
	end_set_gid(&e[1], 0);
	end_connect(&e[1], &e[0]);
	end_post_recv(&e[1]);
	end_post_send(&e[0], 100);
	while (!gids_counter(e[1].ctx, "rx_drop_destination"))
		assert_true(now_ns() < end);
	assert_int_equal(ibv_poll_cq(e[1].rcq, 1, &wc), 0);
	end_close(&e[0]);
	end_close(&e[1]);
	run(IP_DEL "10.88.0.2/24 dev v1");
}

/* Without packets, between two addresses of one device. */
static void direct(void **state)
{
	static const struct end_config both = {.interface = "v0"};
	struct end e[2];
	struct ibv_wc wc;

	for (int i = 0; i < 2; i++) {
		end_open(&e[i], NULL, &both);
		end_set_gid(&e[i], (uint8_t)i);
	}
	end_connect(&e[0], &e[1]);
	end_connect(&e[1], &e[0]);
	end_post_recv(&e[1]);
	end_post_send(&e[0], 1000);
	end_wait_wc(e[1].rcq, &wc);
	end_wait_wc(e[0].scq, &wc);
	assert_int_equal(gids_counter(e[0].ctx, "direct_messages"), 1);
	assert_int_equal(gids_counter(e[0].ctx, "link_tx_packets"), 0);
	end_close(&e[0]);
	end_close(&e[1]);
}

/* A connection goes on when its address is back, in its old place. */
static void connection_outlives_it(void **state)
{
	static const struct end_config both = {.interface = "v0"};
	struct end e[2];
	struct ibv_wc wc;

	run(IP_ADD "10.88.0.2/24 dev v1");
	end_open(&e[0], "10.88.0.2", NULL);
	end_open(&e[1], NULL, &both);
	end_set_gid(&e[1], 1);
	end_connect(&e[0], &e[1]);
	end_connect(&e[1], &e[0]);
	run(IP_DEL SECOND "/24 dev v0");
	gids_expect_change(e[1].ctx);
	end_post_recv(&e[1]);
	end_post_send(&e[0], 1000);
	run(IP_ADD SECOND "/24 dev v0");
	gids_expect_change(e[1].ctx);
	gids_expect(e[1].ctx, 1, SECOND);
	end_wait_wc(e[1].rcq, &wc);
	end_wait_wc(e[0].scq, &wc);
	end_close(&e[0]);
	end_close(&e[1]);
	run(IP_DEL "10.88.0.2/24 dev v1");
}

static void *changes(void *arg)
{
	for (int i = 0; i < 10; i++) {
		run(IP_ADD COMES "/24 dev v0");
		run(IP_DEL COMES "/24 dev v0");
	}
	atomic_store((atomic_bool *)arg, true);
	return NULL;
}

/* Links come and go beside one that is in use. */
static void traffic_meanwhile(void **state)
{
	static const struct end_config both = {.interface = "v0"};
	atomic_bool done = false;
	struct end e[2];
	struct ibv_wc wc;
	pthread_t thread;

	run(IP_ADD "10.88.0.2/24 dev v1");
	end_open(&e[0], "10.88.0.2", NULL);
	end_open(&e[1], NULL, &both);
	end_set_gid(&e[1], 1);
	end_connect(&e[0], &e[1]);
	end_connect(&e[1], &e[0]);
	assert_int_equal(pthread_create(&thread, NULL, changes, &done), 0);
	while (!atomic_load(&done)) {
		end_post_recv(&e[1]);
		end_post_send(&e[0], 20000);
		end_wait_wc(e[1].rcq, &wc);
		end_wait_wc(e[0].scq, &wc);
	}
	pthread_join(thread, NULL);
	end_close(&e[0]);
	end_close(&e[1]);
	run(IP_DEL "10.88.0.2/24 dev v1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_by_each),
		cmocka_unit_test(datagrams_by_each),
		cmocka_unit_test(to_another_address),
		cmocka_unit_test(direct),
		cmocka_unit_test(connection_outlives_it),
		cmocka_unit_test(traffic_meanwhile),
	};
	int rc = own_net(GIDS_NET);

	return rc ? rc : cmocka_run_group_tests_name("gids_traffic", tests, NULL, NULL);
}
