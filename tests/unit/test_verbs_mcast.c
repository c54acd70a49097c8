/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Multicast through the public libibverbs API, as ibv_attach_mcast(3) says, over real
 * sockets: two devices of this host. Who gets copies is the engine's matter
 * (test_mcast.c).
 */
#include "verbs_end.h"

#include "lib/util.h"
#include "rdma/io/gid.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define ADDR_A "127.0.8.5"
#define ADDR_B "127.0.8.6"
#define QKEY   0x1234
#define GRH    40

static struct ibv_qp *create_ud(struct end *e, struct ibv_qp_init_attr *init)
{
	init->qp_type = IBV_QPT_UD;
	return ibv_create_qp(e->pd, init);
}

static void ready(struct end *e)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = 1, .qkey = QKEY};

	assert_int_equal(
		ibv_modify_qp(e->qp, &attr,
			IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY),
		0);
	attr.qp_state = IBV_QPS_RTR;
	assert_int_equal(ibv_modify_qp(e->qp, &attr, IBV_QP_STATE), 0);
	attr.qp_state = IBV_QPS_RTS;
	assert_int_equal(ibv_modify_qp(e->qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN), 0);
}

static void open_both(struct end e[2], bool with_channel)
{
	const struct end_config config = {
		.create_qp = create_ud, .with_channel = with_channel};

	end_open(&e[0], ADDR_A, &config);
	end_open(&e[1], ADDR_B, &config);
	ready(&e[0]);
	ready(&e[1]);
}

static union ibv_gid group(const char *text)
{
	union ibv_gid gid;
	uint32_t scope;

	assert_int_equal(gid_parse(text, gid.raw, &scope), 0);
	return gid;
}

static void send_to(struct end *e, const union ibv_gid *gid, uint32_t qpn, uint8_t value)
{
	struct ibv_ah_attr attr = {
		.is_global = 1, .port_num = 1, .grh = {.dgid = *gid, .hop_limit = 1}};
	struct ibv_ah *ah = ibv_create_ah(e->pd, &attr);
	struct ibv_sge sge = {(uintptr_t)&value, 1, 0};
	struct ibv_send_wr wr = {.sg_list = &sge,
				   .num_sge = 1,
				   .opcode = IBV_WR_SEND,
				   .send_flags = IBV_SEND_SIGNALED | IBV_SEND_INLINE,
				   .wr.ud = {ah, qpn, QKEY}},
			   *bad;
	struct ibv_wc wc;

	assert_non_null(ah);
	assert_int_equal(ibv_post_send(e->qp, &wr, &bad), 0);
	end_wait_wc(e->scq, &wc);
	assert_int_equal(ibv_destroy_ah(ah), 0);
}

static void assert_got(struct end *e, const struct end *from, uint8_t value)
{
	struct ibv_wc wc;

	end_wait_wc(e->rcq, &wc);
	assert_int_equal(wc.byte_len, GRH + 1);
	assert_int_equal(wc.src_qp, from->qp->qp_num);
	assert_int_equal(e->buf[GRH], value);
}

static void members(void **state)
{
	union ibv_gid a = group("239.1.2.3");
	struct end e[2];

	open_both(e, false);
	for (int i = 0; i < 4; i++) {
		end_post_recv(&e[0]);
		end_post_recv(&e[1]);
	}
	assert_int_equal(ibv_attach_mcast(e[1].qp, &a, 0), 0);
	send_to(&e[0], &a, 0xffffff, 1);
	assert_got(&e[1], &e[0], 1);
	/* the sender too, once it is a member */
	assert_int_equal(ibv_attach_mcast(e[0].qp, &a, 0xc000), 0);
	send_to(&e[0], &a, 0xffffff, 2);
	assert_got(&e[0], &e[0], 2);
	assert_got(&e[1], &e[0], 2);
	assert_int_equal(ibv_destroy_qp(e[1].qp), EBUSY);
	assert_int_equal(ibv_detach_mcast(e[1].qp, &a, 0), 0);
	send_to(&e[0], &a, 0xffffff, 3);
	assert_got(&e[0], &e[0], 3);
	/* what comes next is not of the group */
	send_to(&e[0], &e[1].gid, e[1].qp->qp_num, 4);
	assert_got(&e[1], &e[0], 4);
	assert_int_equal(ibv_detach_mcast(e[0].qp, &a, 0), 0);
	end_close(&e[0]);
	end_close(&e[1]);
}

/* The device's thread listens to groups that are joined while it sleeps. */
static void with_events(void **state)
{
	union ibv_gid a = group("224.77.1.1");
	struct ibv_cq *cq;
	struct pollfd pfd = {.events = POLLIN};
	struct end e[2];
	void *ctx;

	open_both(e, true);
	end_post_recv(&e[1]);
	pfd.fd = e[1].channel->fd;
	assert_int_equal(ibv_req_notify_cq(e[1].rcq, 0), 0);
	poll(NULL, 0, 50); /* it has nothing to do */
	assert_int_equal(ibv_attach_mcast(e[1].qp, &a, 0), 0);
	send_to(&e[0], &a, 0xffffff, 9);
	assert_int_equal(poll(&pfd, 1, 10000), 1);
	assert_int_equal(ibv_get_cq_event(e[1].channel, &cq, &ctx), 0);
	ibv_ack_cq_events(cq, 1);
	assert_got(&e[1], &e[0], 9);
	assert_int_equal(ibv_detach_mcast(e[1].qp, &a, 0), 0);
	end_close(&e[0]);
	end_close(&e[1]);
}

static void refused(void **state)
{
	union ibv_gid a = group("239.1.2.4"), v6 = group("ff02::1:1"),
		      one = group(ADDR_B);
	struct ibv_device_attr attr;
	struct end e[2], rc;

	open_both(e, false);
	end_open(&rc, "127.0.8.7", NULL);
	assert_int_equal(ibv_attach_mcast(e[0].qp, &one, 0), EINVAL);
	assert_int_equal(ibv_attach_mcast(e[0].qp, &v6, 0), EINVAL);
	assert_int_equal(ibv_attach_mcast(rc.qp, &a, 0), EINVAL);
	assert_int_equal(ibv_detach_mcast(e[0].qp, &a, 0), EINVAL);

	assert_int_equal(ibv_query_device(e[0].ctx, &attr), 0);
	assert_true(attr.max_mcast_grp > 0 && attr.max_mcast_qp_attach > 0);
	assert_int_equal(attr.max_total_mcast_qp_attach,
		attr.max_mcast_grp * attr.max_mcast_qp_attach);
	for (int i = 0; i < attr.max_mcast_grp; i++) {
		a.raw[14] = (uint8_t)(i >> 8);
		a.raw[15] = (uint8_t)i;
		assert_int_equal(ibv_attach_mcast(e[0].qp, &a, 0), 0);
	}
	a.raw[13] ^= 1;
	assert_int_equal(ibv_attach_mcast(e[0].qp, &a, 0), ENOMEM);
	a.raw[13] ^= 1;
	for (int i = 0; i < attr.max_mcast_grp; i++) {
		a.raw[14] = (uint8_t)(i >> 8);
		a.raw[15] = (uint8_t)i;
		assert_int_equal(ibv_detach_mcast(e[0].qp, &a, 0), 0);
	}
	end_close(&rc);
	end_close(&e[0]);
	end_close(&e[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(members),
		cmocka_unit_test(with_events),
		cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
