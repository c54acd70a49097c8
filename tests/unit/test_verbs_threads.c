/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Threads on shared objects, as the verbs manual allows them: all post to all queue
 * pairs, poll the same completion queues and refill the same receive queue; others wait
 * for events, make and destroy objects, ask for attributes. Nothing may be lost. It is
 * meant for the thread sanitizer (suite "threads").
 *
 * Pairs of queue pairs are connected over the wire (two devices) and directly (one).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib/util.h"
#include "rdma/include/vrdma.h"
#include "tests/rc_to_rts.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define N_DEVICES 2
#define N_QPS	  4 /* of a device: 0 and 1 with the other's, 2 and 3 with each other */
#define N_WORKERS 4
#define N_SENDS	  2000 /* of a worker */
#define DEPTH	  64
#define MSG	  64u
#define PATIENCE  (60 * NSEC_PER_SEC)

struct dev {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *scq, *rcq;
	struct ibv_srq *srq;
	struct ibv_mr *mr;
	struct ibv_qp *qp[N_QPS];
	union ibv_gid gid;
	uint8_t buf[(DEPTH + 1) * MSG]; /* the last is sent, the others receive */
};

static struct dev devs[N_DEVICES];
static _Atomic int n_sent, n_received, n_events;
static _Atomic bool stop;

static void post_recv(struct dev *d, uint64_t slot)
{
	struct ibv_sge sge = {(uintptr_t)d->buf + slot * MSG, MSG, d->mr->lkey};
	struct ibv_recv_wr wr = {.wr_id = slot, .sg_list = &sge, .num_sge = 1}, *bad;

	assert_int_equal(ibv_post_srq_recv(d->srq, &wr, &bad), 0);
}

static void open_dev(struct dev *d, const char *addr)
{
	struct vrdma_attr attr = {.addr = addr};
	struct ibv_srq_init_attr srq = {.attr = {.max_wr = DEPTH, .max_sge = 1}};
	struct ibv_qp_init_attr qp = {.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
		.cap = {.max_send_wr = 8, .max_send_sge = 1}};

	d->ctx = vrdma_open_device(&attr);
	assert_non_null(d->ctx);
	d->pd = ibv_alloc_pd(d->ctx);
	d->channel = vrdma_create_comp_channel(d->ctx);
	assert_non_null(d->pd);
	assert_non_null(d->channel);
	d->scq = ibv_create_cq(d->ctx, 256, NULL, NULL, 0);
	d->rcq = ibv_create_cq(d->ctx, 256, NULL, d->channel, 0);
	d->srq = ibv_create_srq(d->pd, &srq);
	d->mr = ibv_reg_mr(d->pd, d->buf, sizeof(d->buf), IBV_ACCESS_LOCAL_WRITE);
	assert_true(d->scq && d->rcq && d->srq && d->mr);
	assert_int_equal(ibv_query_gid(d->ctx, 1, 0, &d->gid), 0);
	qp.send_cq = d->scq;
	qp.recv_cq = d->rcq;
	qp.srq = d->srq;
	for (int i = 0; i < N_QPS; i++) {
		d->qp[i] = ibv_create_qp(d->pd, &qp);
		assert_non_null(d->qp[i]);
	}
	for (uint64_t slot = 0; slot < DEPTH; slot++)
		post_recv(d, slot);
}

static void connect_qp(struct ibv_qp *qp, const struct dev *peer, uint32_t qpn)
{
	struct ibv_qp_attr attr = {
		.port_num = 1,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = qpn,
		.min_rnr_timer = 1,
		.timeout = 14,
		.retry_cnt = 7,
		.rnr_retry = 7,
		.ah_attr = {.is_global = 1, .port_num = 1, .grh = {.dgid = peer->gid}},
	};

	assert_int_equal(rc_to_rts(qp, &attr), 0);
}

static void close_dev(struct dev *d)
{
	for (int i = 0; i < N_QPS; i++)
		assert_int_equal(ibv_destroy_qp(d->qp[i]), 0);
	assert_int_equal(ibv_destroy_srq(d->srq), 0);
	assert_int_equal(ibv_destroy_cq(d->scq), 0);
	assert_int_equal(ibv_destroy_cq(d->rcq), 0);
	assert_int_equal(ibv_dereg_mr(d->mr), 0);
	assert_int_equal(ibv_destroy_comp_channel(d->channel), 0);
	assert_int_equal(ibv_dealloc_pd(d->pd), 0);
	assert_int_equal(ibv_close_device(d->ctx), 0);
}

static void poll_all(void)
{
	struct ibv_wc wc[4];

	for (int i = 0; i < N_DEVICES; i++) {
		struct dev *d = &devs[i];
		int n = ibv_poll_cq(d->scq, 4, wc);

		for (int k = 0; k < n; k++)
			assert_int_equal(wc[k].status, IBV_WC_SUCCESS);
		atomic_fetch_add(&n_sent, n);
		n = ibv_poll_cq(d->rcq, 4, wc);
		for (int k = 0; k < n; k++) {
			assert_int_equal(wc[k].status, IBV_WC_SUCCESS);
			post_recv(d, wc[k].wr_id);
		}
		atomic_fetch_add(&n_received, n);
	}
}

static void *worker(void *arg)
{
	int number = (int)(intptr_t)arg;

	for (int i = 0; i < N_SENDS;) {
		struct dev *d = &devs[(i + number) % N_DEVICES];
		struct ibv_sge sge = {
			(uintptr_t)d->buf + (uint64_t)DEPTH * MSG, MSG, d->mr->lkey};
		struct ibv_send_wr wr = {.sg_list = &sge,
					   .num_sge = 1,
					   .opcode = IBV_WR_SEND},
				   *bad;
		int rc = ibv_post_send(d->qp[i / 2 % N_QPS], &wr, &bad);

		if (rc)
			assert_int_equal(rc, ENOMEM);
		i += !rc;
		poll_all();
	}
	return NULL;
}

/* Made and gone while the others work. */
static void *maker(void *arg)
{
	struct dev *d = arg;

	while (!atomic_load(&stop)) {
		struct ibv_qp_init_attr init = {.qp_type = IBV_QPT_RC};
		struct ibv_pd *pd = ibv_alloc_pd(d->ctx);
		struct ibv_cq *cq = ibv_create_cq(d->ctx, 4, NULL, NULL, 0);
		struct ibv_mr *mr = ibv_reg_mr(pd, d->buf, sizeof(d->buf), 0);
		struct ibv_qp_attr attr;
		struct ibv_qp *qp;

		init.send_cq = init.recv_cq = cq;
		qp = ibv_create_qp(pd, &init);
		assert_true(pd && cq && mr && qp);
		assert_int_equal(ibv_query_qp(d->qp[0], &attr, 0, &init), 0);
		assert_int_equal(ibv_resize_cq(cq, 8), 0);
		assert_int_equal(ibv_destroy_qp(qp), 0);
		assert_int_equal(ibv_dereg_mr(mr), 0);
		assert_int_equal(ibv_destroy_cq(cq), 0);
		assert_int_equal(ibv_dealloc_pd(pd), 0);
		sched_yield();
	}
	return NULL;
}

/* Ends when the last event is sent, by main(). */
static void *listener(void *arg)
{
	struct dev *d = arg;
	struct ibv_cq *cq;
	void *context;

	do {
		assert_int_equal(ibv_get_cq_event(d->channel, &cq, &context), 0);
		ibv_ack_cq_events(cq, 1);
		atomic_fetch_add(&n_events, 1);
		assert_int_equal(ibv_req_notify_cq(cq, 0), 0);
		poll_all();
	} while (!atomic_load(&stop));
	return NULL;
}

static void await(const _Atomic int *count, int n)
{
	uint64_t end = now_ns() + PATIENCE;

	while (atomic_load(count) < n) {
		poll_all();
		assert_true(now_ns() < end);
	}
}

/* One more message for each device, for its listener's last event. */
static void wake_listener(struct dev *d)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_SEND}, *bad;

	assert_int_equal(ibv_post_send(d->qp[2], &wr, &bad), 0);
}

static void all_at_once(void **state)
{
	pthread_t workers[N_WORKERS], makers[N_DEVICES], listeners[N_DEVICES];

	for (int i = 0; i < N_DEVICES; i++) {
		assert_int_equal(ibv_req_notify_cq(devs[i].rcq, 0), 0);
		assert_int_equal(
			pthread_create(&listeners[i], NULL, listener, &devs[i]), 0);
		assert_int_equal(pthread_create(&makers[i], NULL, maker, &devs[i]), 0);
	}
	for (int i = 0; i < N_WORKERS; i++)
		assert_int_equal(
			pthread_create(&workers[i], NULL, worker, (void *)(intptr_t)i),
			0);
	for (int i = 0; i < N_WORKERS; i++)
		pthread_join(workers[i], NULL);
	await(&n_sent, N_WORKERS * N_SENDS);
	await(&n_received, N_WORKERS * N_SENDS);
	atomic_store(&stop, true);
	for (int i = 0; i < N_DEVICES; i++) {
		wake_listener(&devs[i]);
		pthread_join(listeners[i], NULL);
		pthread_join(makers[i], NULL);
	}
	await(&n_received, N_WORKERS * N_SENDS + N_DEVICES);
	assert_int_equal(atomic_load(&n_received), N_WORKERS * N_SENDS + N_DEVICES);
	assert_true(atomic_load(&n_events) >= N_DEVICES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(all_at_once)};
	int rc;

	open_dev(&devs[0], "127.0.0.65");
	open_dev(&devs[1], "127.0.0.66");
	for (int i = 0; i < N_DEVICES; i++) {
		struct dev *d = &devs[i], *other = &devs[!i];

		for (int k = 0; k < 2; k++) {
			connect_qp(d->qp[k], other, other->qp[k]->qp_num);
			connect_qp(d->qp[2 + k], d, d->qp[3 - k]->qp_num);
		}
	}
	rc = cmocka_run_group_tests_name("threads", tests, NULL, NULL);
	for (int i = 0; i < N_DEVICES; i++)
		close_dev(&devs[i]);
	return rc;
}
