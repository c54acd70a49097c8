/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Events through the public libibverbs API: completion channels and asynchronous events,
 * as ibv_req_notify_cq(3), ibv_get_cq_event(3) and ibv_get_async_event(3) say.
 */
#include "verbs_end.h"

#include "lib/util.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define ADDR_A "127.0.7.1"
#define ADDR_B "127.0.7.2"

static const struct end_config with_channel = {.with_channel = true};

static void pair_open(struct end e[2], const struct end_config *config)
{
	end_open(&e[0], ADDR_A, config);
	end_open(&e[1], ADDR_B, config);
	end_connect(&e[0], &e[1]);
	end_connect(&e[1], &e[0]);
}

static void pair_close(struct end e[2])
{
	end_close(&e[0]);
	end_close(&e[1]);
}

/* Is there an event to be read right now? */
static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static struct ibv_cq *get_cq_event(struct end *e)
{
	struct pollfd p = {.fd = e->channel->fd, .events = POLLIN};
	struct ibv_cq *cq;
	void *context;

	assert_int_equal(poll(&p, 1, 10000), 1);
	assert_int_equal(ibv_get_cq_event(e->channel, &cq, &context), 0);
	assert_ptr_equal(*(struct ibv_cq **)context, cq);
	return cq;
}

static void get_async_event(struct end *e, struct ibv_async_event *event)
{
	struct pollfd p = {.fd = e->ctx->async_fd, .events = POLLIN};

	assert_int_equal(poll(&p, 1, 10000), 1);
	assert_int_equal(ibv_get_async_event(e->ctx, event), 0);
}

/* Send from @e[0] until both ends have their completion; none is taken off @e[1]. */
static void send_one(struct end e[2], unsigned int flags)
{
	struct ibv_wc wc;

	end_post_recv(&e[1]);
	end_post_send_flags(&e[0], 100, flags | IBV_SEND_SIGNALED);
	end_wait_wc(e[0].scq, &wc);
}

static void one_event_for_each_request(void **state)
{
	struct end e[2];
	struct ibv_wc wc;

	pair_open(e, &with_channel);
	send_one(e, 0); /* not asked for */
	assert_false(readable(e[1].channel->fd));
	assert_int_equal(ibv_req_notify_cq(e[1].rcq, 0), 0);
	assert_int_equal(ibv_req_notify_cq(e[1].rcq, 0), 0);
	assert_false(readable(e[1].channel->fd)); /* what was there does not count */
	send_one(e, 0);
	send_one(e, 0);
	assert_ptr_equal(get_cq_event(&e[1]), e[1].rcq);
	assert_false(readable(e[1].channel->fd));
	ibv_ack_cq_events(e[1].rcq, 1);
	for (int i = 0; i < 3; i++)
		end_wait_wc(e[1].rcq, &wc);
	pair_close(e);
}

static void solicited_only(void **state)
{
	struct end e[2];

	pair_open(e, &with_channel);
	assert_int_equal(ibv_req_notify_cq(e[1].rcq, 1), 0);
	send_one(e, 0);
	assert_false(readable(e[1].channel->fd));
	send_one(e, IBV_SEND_SOLICITED);
	assert_ptr_equal(get_cq_event(&e[1]), e[1].rcq);
	ibv_ack_cq_events(e[1].rcq, 1);

	/* any completion, if that was asked for as well */
	assert_int_equal(ibv_req_notify_cq(e[1].rcq, 0), 0);
	assert_int_equal(ibv_req_notify_cq(e[1].rcq, 1), 0);
	send_one(e, 0);
	assert_ptr_equal(get_cq_event(&e[1]), e[1].rcq);
	ibv_ack_cq_events(e[1].rcq, 1);
	pair_close(e);
}

/* An error counts as solicited. */
static void error_is_solicited(void **state)
{
	struct end e[2];
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
	struct ibv_wc wc;

	pair_open(e, &with_channel);
	assert_int_equal(ibv_req_notify_cq(e[0].scq, 1), 0);
	end_post_send(&e[0], 1); /* finds no buffer, so it waits */
	assert_int_equal(ibv_modify_qp(e[0].qp, &attr, IBV_QP_STATE), 0);
	assert_ptr_equal(get_cq_event(&e[0]), e[0].scq);
	ibv_ack_cq_events(e[0].scq, 1);
	assert_int_equal(ibv_poll_cq(e[0].scq, 1, &wc), 1);
	assert_int_equal(wc.status, IBV_WC_WR_FLUSH_ERR);
	pair_close(e);
}

/* More events than a socket holds, and none read meanwhile. */
static void no_event_is_lost(void **state)
{
	enum { N = 3000 };
	struct end e[2];
	struct ibv_wc wc;

	pair_open(e, &with_channel);
	for (int i = 0; i < N; i++) {
		assert_int_equal(ibv_req_notify_cq(e[1].rcq, 0), 0);
		send_one(e, 0);
		end_wait_wc(e[1].rcq, &wc);
	}
	for (int i = 0; i < N; i++)
		assert_ptr_equal(get_cq_event(&e[1]), e[1].rcq);
	assert_false(readable(e[1].channel->fd));
	ibv_ack_cq_events(e[1].rcq, N);
	pair_close(e);
}

/* A queue that goes takes its unread events along, and no other's. */
static void unread_events_go_with_their_queue(void **state)
{
	struct end e[2];
	struct ibv_cq *extra;
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC,
		.cap = {.max_send_wr = 1, .max_send_sge = 1, .max_recv_wr = 1},
	};
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = 1};
	struct ibv_recv_wr wr = {.wr_id = 1}, *bad;
	struct ibv_qp *qp;

	pair_open(e, &with_channel);
	extra = ibv_create_cq(e[1].ctx, 1, &extra, e[1].channel, 0);
	init.send_cq = init.recv_cq = extra;
	qp = ibv_create_qp(e[1].pd, &init);
	assert_non_null(qp);
	assert_int_equal(ibv_modify_qp(qp, &attr,
				 IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
					 IBV_QP_ACCESS_FLAGS),
		0);
	assert_int_equal(ibv_post_recv(qp, &wr, &bad), 0);
	assert_int_equal(ibv_req_notify_cq(extra, 0), 0);
	attr.qp_state = IBV_QPS_ERR;
	assert_int_equal(ibv_modify_qp(qp, &attr, IBV_QP_STATE), 0); /* flushes */
	assert_int_equal(ibv_req_notify_cq(e[1].rcq, 0), 0);
	send_one(e, 0);
	assert_int_equal(ibv_destroy_qp(qp), 0);
	assert_int_equal(ibv_destroy_cq(extra), 0);
	assert_ptr_equal(get_cq_event(&e[1]), e[1].rcq);
	assert_false(readable(e[1].channel->fd));
	ibv_ack_cq_events(e[1].rcq, 1);
	pair_close(e);
}

struct destroyer {
	struct ibv_qp *qp;
	_Atomic bool done;
};

static void *destroy_qp(void *arg)
{
	struct destroyer *d = arg;

	assert_int_equal(ibv_destroy_qp(d->qp), 0);
	d->done = true;
	return NULL;
}

static struct ibv_qp *extra_srq_qp(struct end *e)
{
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC,
		.send_cq = e->scq,
		.recv_cq = e->rcq,
		.srq = e->srq,
		.cap = {.max_send_wr = 1, .max_send_sge = 1},
	};
	struct ibv_qp *qp = ibv_create_qp(e->pd, &init);

	assert_non_null(qp);
	return qp;
}

static void destroy_waits_for_ack(void **state)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
	struct ibv_async_event event;
	struct destroyer d = {0};
	struct end e[2];
	pthread_t thread;

	pair_open(e, NULL);
	d.qp = extra_srq_qp(&e[0]);
	assert_int_equal(ibv_modify_qp(d.qp, &attr, IBV_QP_STATE), 0);
	get_async_event(&e[0], &event);
	assert_int_equal(event.event_type, IBV_EVENT_QP_LAST_WQE_REACHED);
	assert_ptr_equal(event.element.qp, d.qp);
	assert_int_equal(pthread_create(&thread, NULL, destroy_qp, &d), 0);
	/* Can't prove that it never ends, but a bug would be seen most of the time. */
	usleep(20000);
	assert_false(d.done);
	ibv_ack_async_event(&event);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(d.done);
	pair_close(e);
}

/* Nobody reads asynchronous events: they are many, and in nobody's way. */
static void async_events_unread(void **state)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
	struct ibv_async_event event;
	struct ibv_qp *qp[400];
	struct end e[2];

	pair_open(e, &with_channel);
	for (size_t i = 0; i < ARRAY_SIZE(qp); i++) {
		qp[i] = extra_srq_qp(&e[1]);
		assert_int_equal(ibv_modify_qp(qp[i], &attr, IBV_QP_STATE), 0);
	}
	assert_int_equal(ibv_req_notify_cq(e[1].rcq, 0), 0);
	send_one(e, 0);
	assert_ptr_equal(get_cq_event(&e[1]), e[1].rcq);
	ibv_ack_cq_events(e[1].rcq, 1);
	for (size_t i = 0; i + 1 < ARRAY_SIZE(qp); i++)
		assert_int_equal(ibv_destroy_qp(qp[i]), 0);
	get_async_event(&e[1], &event);
	assert_ptr_equal(event.element.qp, qp[ARRAY_SIZE(qp) - 1]);
	ibv_ack_async_event(&event);
	assert_false(readable(e[1].ctx->async_fd));
	assert_int_equal(ibv_destroy_qp(qp[ARRAY_SIZE(qp) - 1]), 0);
	pair_close(e);
}

static void access_error(void **state)
{
	struct ibv_async_event event;
	struct end e[2];
	struct ibv_sge sge;
	struct ibv_send_wr wr = {.sg_list = &sge,
				   .num_sge = 1,
				   .opcode = IBV_WR_RDMA_WRITE,
				   .send_flags = IBV_SEND_SIGNALED},
			   *bad;
	static const enum ibv_event_type expected[] = {
		IBV_EVENT_QP_ACCESS_ERR, IBV_EVENT_QP_LAST_WQE_REACHED};

	pair_open(e, NULL);
	sge = (struct ibv_sge){(uintptr_t)e[0].buf, 8, e[0].mr->lkey};
	wr.wr.rdma.rkey = e[1].mr->rkey;
	wr.wr.rdma.remote_addr = (uintptr_t)e[1].buf + END_MSG - 7;
	assert_int_equal(ibv_post_send(e[0].qp, &wr, &bad), 0);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		get_async_event(&e[1], &event);
		assert_int_equal(event.event_type, expected[i]);
		assert_ptr_equal(event.element.qp, e[1].qp);
		ibv_ack_async_event(&event);
	}
	pair_close(e);
}

static void srq_limit(void **state)
{
	struct ibv_srq_attr attr = {.srq_limit = 2};
	struct ibv_async_event event;
	struct end e[2];

	pair_open(e, NULL);
	for (int i = 0; i < 3; i++)
		end_post_recv(&e[1]);
	assert_int_equal(ibv_modify_srq(e[1].srq, &attr, IBV_SRQ_LIMIT), 0);
	assert_int_equal(ibv_query_srq(e[1].srq, &attr), 0);
	assert_int_equal(attr.srq_limit, 2);
	send_one(e, 0); /* posts one and takes one */
	end_post_send(&e[0], 1);
	assert_false(readable(e[1].ctx->async_fd));
	end_post_send(&e[0], 1);
	get_async_event(&e[1], &event);
	assert_int_equal(event.event_type, IBV_EVENT_SRQ_LIMIT_REACHED);
	assert_ptr_equal(event.element.srq, e[1].srq);
	ibv_ack_async_event(&event);
	assert_int_equal(ibv_query_srq(e[1].srq, &attr), 0);
	assert_int_equal(attr.srq_limit, 0);

	/* already below: at once */
	attr.srq_limit = END_DEPTH;
	assert_int_equal(ibv_modify_srq(e[1].srq, &attr, IBV_SRQ_LIMIT), 0);
	get_async_event(&e[1], &event);
	ibv_ack_async_event(&event);
	attr.srq_limit = END_DEPTH + 1;
	assert_int_equal(ibv_modify_srq(e[1].srq, &attr, IBV_SRQ_LIMIT), EINVAL);
	assert_int_equal(ibv_modify_srq(e[1].srq, &attr, IBV_SRQ_MAX_WR), EOPNOTSUPP);
	pair_close(e);
}

static void cq_overrun(void **state)
{
	static const struct end_config small = {.cq_depth = 2};
	static const enum ibv_event_type expected[] = {
		IBV_EVENT_CQ_ERR, IBV_EVENT_QP_FATAL, IBV_EVENT_QP_LAST_WQE_REACHED};
	struct ibv_async_event event;
	struct end e[2];

	pair_open(e, &small);
	for (int i = 0; i < 3; i++) {
		end_post_recv(&e[1]);
		end_post_send_flags(&e[0], 1, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		get_async_event(&e[1], &event);
		assert_int_equal(event.event_type, expected[i]);
		ibv_ack_async_event(&event);
	}
	pair_close(e);
}

static void cq_resize(void **state)
{
	static const struct end_config small = {.cq_depth = 2};
	struct ibv_wc wc;
	struct end e[2];

	pair_open(e, &small);
	send_one(e, 0);
	send_one(e, 0);
	assert_int_equal(ibv_resize_cq(e[1].rcq, 1), EINVAL);
	assert_int_equal(ibv_resize_cq(e[1].rcq, 8), 0);
	assert_int_equal(e[1].rcq->cqe, 8);
	for (int i = 0; i < 6; i++)
		send_one(e, 0);
	for (int i = 0; i < 8; i++)
		end_wait_wc(e[1].rcq, &wc);
	assert_int_equal(ibv_resize_cq(e[1].rcq, 0), EINVAL);
	assert_int_equal(ibv_resize_cq(e[1].rcq, 1), 0);
	send_one(e, 0);
	end_wait_wc(e[1].rcq, &wc);
	pair_close(e);
}

/* Two threads that sleep on their channels: no wake-up is lost. */
static void *sleeping_receiver(void *arg)
{
	struct end *e = arg;
	struct ibv_wc wc;
	int got = 0, n;

	for (;;) {
		/* first ask, then look again, then wait */
		assert_int_equal(ibv_req_notify_cq(e->rcq, 0), 0);
		while ((n = ibv_poll_cq(e->rcq, 1, &wc)) > 0) {
			assert_int_equal(wc.status, IBV_WC_SUCCESS);
			got++;
			end_post_recv(e);
			end_post_send_flags(e, 1, 0);
		}
		if (got >= 2000)
			break;
		ibv_ack_cq_events(get_cq_event(e), 1);
	}
	return NULL;
}

static void blocking_ping_pong(void **state)
{
	struct end e[2];
	pthread_t thread[2];

	pair_open(e, &with_channel);
	for (int i = 0; i < 2; i++) {
		for (int k = 0; k < END_DEPTH / 2; k++)
			end_post_recv(&e[i]);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(
			pthread_create(&thread[i], NULL, sleeping_receiver, &e[i]), 0);
	end_post_send_flags(&e[0], 1, 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	pair_close(e);
}

/* A channel that libibverbs made by asking the device's command descriptor. */
static void kernel_channel_is_refused(void **state)
{
	struct vrdma_attr attr = {.addr = ADDR_A};
	struct ibv_context *ctx = vrdma_open_device(&attr);
	struct ibv_comp_channel fake = {.context = ctx, .fd = ctx->cmd_fd};

	assert_null(ibv_create_comp_channel(ctx));
	assert_null(ibv_create_cq(ctx, 1, NULL, &fake, 0));
	assert_int_equal(errno, EOPNOTSUPP);
	assert_int_equal(ibv_close_device(ctx), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_event_for_each_request),
		cmocka_unit_test(solicited_only),
		cmocka_unit_test(error_is_solicited),
		cmocka_unit_test(no_event_is_lost),
		cmocka_unit_test(unread_events_go_with_their_queue),
		cmocka_unit_test(destroy_waits_for_ack),
		cmocka_unit_test(async_events_unread),
		cmocka_unit_test(access_error),
		cmocka_unit_test(srq_limit),
		cmocka_unit_test(cq_overrun),
		cmocka_unit_test(cq_resize),
		cmocka_unit_test(blocking_ping_pong),
		cmocka_unit_test(kernel_channel_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
