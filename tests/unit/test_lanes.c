/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages between queue pairs of one device, which pass without the device's lock
 * (engine/lane.c), while other threads take away what they need: regions, rights, queue
 * pairs. Nothing may be lost or overtake, and nothing may be written to memory whose
 * region is deregistered. For the thread and address sanitizers as well.
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
#include <sys/mman.h>

#define ADDR	 "127.0.0.79"
#define DEPTH	 16
#define N_MSGS	 30000u /* each way */
#define N_ROUNDS 300u	/* regions that are taken away */
#define N_LIVES	 150u	/* of a peer */
#define AREA	 4096u
#define PATIENCE (60 * NSEC_PER_SEC)
#define ACCESS	 (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE)

struct end {
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	uint32_t slot[DEPTH + 1]; /* the last is sent, the others receive */
};

static struct ibv_context *ctx;
static struct ibv_pd *pd;
static union ibv_gid gid;
static struct end ends[2];
static _Atomic bool stop;

static void make_end(struct end *e)
{
	struct ibv_qp_init_attr init = {.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
		.cap = {.max_send_wr = DEPTH,
			.max_recv_wr = DEPTH,
			.max_send_sge = 1,
			.max_recv_sge = 1}};

	e->cq = ibv_create_cq(ctx, 4 * DEPTH, NULL, NULL, 0);
	assert_non_null(e->cq);
	init.send_cq = init.recv_cq = e->cq;
	e->qp = ibv_create_qp(pd, &init);
	/* All that there are will be posted: a lane may need one more for a moment. */
	assert_int_equal(init.cap.max_recv_wr, DEPTH);
	e->mr = ibv_reg_mr(pd, e->slot, sizeof(e->slot), ACCESS);
	assert_true(e->qp && e->mr);
}

static void end_end(struct end *e)
{
	assert_int_equal(ibv_destroy_qp(e->qp), 0);
	assert_int_equal(ibv_destroy_cq(e->cq), 0);
	assert_int_equal(ibv_dereg_mr(e->mr), 0);
}

static void connect_qp(struct ibv_qp *qp, const struct ibv_qp *peer)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RESET,
		.port_num = 1,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = peer->qp_num,
		.min_rnr_timer = 1,
		.timeout = 8,
		.retry_cnt = 7,
		.rnr_retry = 7,
		.ah_attr = {.is_global = 1, .port_num = 1, .grh = {.dgid = gid}},
	};

	assert_int_equal(ibv_modify_qp(qp, &attr, IBV_QP_STATE), 0);
	assert_int_equal(rc_to_rts(qp, &attr), 0);
}

static void connect_ends(void)
{
	connect_qp(ends[0].qp, ends[1].qp);
	connect_qp(ends[1].qp, ends[0].qp);
}

static void post_recv(struct end *e, uint64_t slot)
{
	struct ibv_sge sge = {(uintptr_t)&e->slot[slot], sizeof(*e->slot), e->mr->lkey};
	struct ibv_recv_wr wr = {.wr_id = slot, .sg_list = &sge, .num_sge = 1}, *bad;

	assert_int_equal(ibv_post_recv(e->qp, &wr, &bad), 0);
}

static void post_send(struct end *e)
{
	struct ibv_sge sge = {(uintptr_t)&e->slot[DEPTH], sizeof(*e->slot), e->mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND},
			   *bad;

	assert_int_equal(ibv_post_send(e->qp, &wr, &bad), 0);
}

static struct ibv_wc next_wc(struct ibv_cq *cq)
{
	uint64_t end = now_ns() + PATIENCE;
	struct ibv_wc wc;

	while (!ibv_poll_cq(cq, 1, &wc)) {
		assert_true(now_ns() < end);
		sched_yield();
	}
	return wc;
}

static uint64_t counter(const char *name)
{
	struct vrdma_counter counters[200];
	int n = vrdma_query_counters(ctx, counters, 200);

	for (int i = 0; i < n; i++)
		if (!strcmp(counters[i].name, name))
			return counters[i].value;
	fail_msg("no counter %s", name);
	return 0;
}

static void open_all(void)
{
	struct vrdma_attr attr = {.addr = ADDR};

	ctx = vrdma_open_device(&attr);
	assert_non_null(ctx);
	pd = ibv_alloc_pd(ctx);
	assert_non_null(pd);
	assert_int_equal(ibv_query_gid(ctx, 1, 0, &gid), 0);
	for (int i = 0; i < 2; i++)
		make_end(&ends[i]);
	connect_ends();
	atomic_store(&stop, false);
}

static void close_all(void)
{
	for (int i = 0; i < 2; i++)
		end_end(&ends[i]);
	assert_int_equal(ibv_dealloc_pd(pd), 0);
	assert_int_equal(ibv_close_device(ctx), 0);
}

/* ---- both send, while all else is done to the device and to them ---- */

/* Send N_MSGS numbers, as many ahead as the peer has buffers for, and get them. */
static void *talk(void *arg)
{
	struct end *e = arg;
	uint32_t sent = 0, done = 0, got = 0;

	while (got < N_MSGS || done < N_MSGS) {
		struct ibv_wc wc;

		if (sent < N_MSGS && sent == done) {
			e->slot[DEPTH] = sent++;
			post_send(e);
		}
		wc = next_wc(e->cq);
		assert_int_equal(wc.status, IBV_WC_SUCCESS);
		if (wc.opcode == IBV_WC_SEND) {
			done++;
			continue;
		}
		assert_int_equal(e->slot[wc.wr_id], got++);
		post_recv(e, wc.wr_id);
	}
	return NULL;
}

static void *disturb(void *arg)
{
	static uint8_t area[AREA];
	struct ibv_qp_attr attr = {.qp_access_flags = IBV_ACCESS_REMOTE_WRITE};
	struct ibv_qp_init_attr init;

	for (unsigned int i = 0; !atomic_load(&stop); i++) {
		struct ibv_qp *qp = ends[i % 2].qp;
		struct end other;

		switch (i / 2 % 5) {
		case 0:
			assert_int_equal(
				ibv_dereg_mr(ibv_reg_mr(pd, area, AREA, ACCESS)), 0);
			break;
		case 1:
			assert_int_equal(
				ibv_resize_cq(ends[i % 2].cq, DEPTH * (4 + (int)i % 8)),
				0);
			break;
		case 2:
			assert_int_equal(
				ibv_query_qp(qp, &attr, IBV_QP_SQ_PSN, &init), 0);
			break;
		case 3:
			assert_int_equal(
				ibv_modify_qp(qp, &attr, IBV_QP_ACCESS_FLAGS), 0);
			break;
		default:
			make_end(&other);
			end_end(&other);
		}
		for (int k = 0; k < 50; k++) /* let lanes open in between */
			sched_yield();
	}
	return NULL;
}

static void nothing_is_lost(void **state)
{
	pthread_t talker[2], disturber;

	open_all();
	for (int i = 0; i < 2; i++)
		for (uint64_t k = 0; k < DEPTH; k++)
			post_recv(&ends[i], k);
	pthread_create(&disturber, NULL, disturb, NULL);
	for (int i = 0; i < 2; i++)
		pthread_create(&talker[i], NULL, talk, &ends[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(talker[i], NULL);
	atomic_store(&stop, true);
	pthread_join(disturber, NULL);
	assert_int_equal(counter("tx_send_messages"), 2 * N_MSGS);
	assert_int_equal(counter("rx_send_messages"), 2 * N_MSGS);
	assert_true(counter("direct_messages") > N_MSGS / 10);
	close_all();
}

/* ---- rights and regions go while they are used ---- */

struct target {
	_Atomic uint64_t addr;
	_Atomic uint32_t rkey;
};

static struct target target;
static _Atomic uint32_t n_written; /* WRITEs that were granted */
static _Atomic bool is_refused;	   /* what is refused stays so for now */

/* As long as nobody stops it: write to what is offered, and begin anew when refused. */
static void *write_on(void *arg)
{
	struct end *e = &ends[0];

	while (!atomic_load(&stop)) {
		struct ibv_sge sge = {(uintptr_t)e->slot, 64, e->mr->lkey};
		struct ibv_send_wr wr = {.sg_list = &sge,
					   .num_sge = 1,
					   .opcode = IBV_WR_RDMA_WRITE,
					   .wr.rdma = {target.addr, target.rkey}},
				   *bad;
		struct ibv_wc wc;

		assert_int_equal(ibv_post_send(e->qp, &wr, &bad), 0);
		wc = next_wc(e->cq);
		if (wc.status == IBV_WC_SUCCESS) {
			n_written++;
		} else {
			assert_int_equal(wc.status, IBV_WC_REM_ACCESS_ERR);
			while (atomic_load(&is_refused))
				sched_yield();
			connect_ends();
		}
	}
	return NULL;
}

static void await_writes(uint32_t n)
{
	uint64_t end = now_ns() + PATIENCE;

	for (n += n_written; (int32_t)(n_written - n) < 0; sched_yield())
		assert_true(now_ns() < end);
}

/* Once the queue pair no longer allows it, @p is not written. */
static void take_rights(uint8_t *p)
{
	struct ibv_qp_attr attr = {.qp_access_flags = 0};

	atomic_store(&is_refused, true);
	/* It may be between two connections, and without them anyway. */
	if (!ibv_modify_qp(ends[1].qp, &attr, IBV_QP_ACCESS_FLAGS)) {
		*p = 'x';
		for (int i = 0; i < 20; i++)
			sched_yield();
		assert_int_equal(*p, 'x');
	}
	atomic_store(&is_refused, false);
}

static void rights_that_go(void **state)
{
	pthread_t writer;

	open_all();
	pthread_create(&writer, NULL, write_on, NULL);
	for (unsigned int i = 0; i < N_ROUNDS; i++) {
		uint8_t *p = mmap(NULL, AREA, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct ibv_mr *mr;

		assert_ptr_not_equal(p, MAP_FAILED);
		mr = ibv_reg_mr(pd, p, AREA, ACCESS);
		assert_non_null(mr);
		target.addr = (uintptr_t)p;
		target.rkey = mr->rkey;
		await_writes(i % 8 + 2);
		if (i % 2) {
			take_rights(p);
			await_writes(2);
		}
		assert_int_equal(ibv_dereg_mr(mr), 0);
		/* A late WRITE would now be the end of the process. */
		assert_int_equal(mprotect(p, AREA, PROT_NONE), 0);
	}
	atomic_store(&stop, true);
	pthread_join(writer, NULL);
	assert_true(counter("direct_messages") > N_ROUNDS);
	close_all();
}

/* ---- the peer goes while it is sent to ---- */

static pthread_barrier_t both;

/* In each of the peer's lives: send until that fails. */
static void *send_on(void *arg)
{
	struct end *e = &ends[0];

	for (unsigned int i = 0; i < N_LIVES; i++) {
		pthread_barrier_wait(&both);
		do
			post_send(e);
		while (next_wc(e->cq).status == IBV_WC_SUCCESS);
		pthread_barrier_wait(&both);
	}
	return NULL;
}

static void peer_that_goes(void **state)
{
	pthread_t sender;

	open_all();
	pthread_barrier_init(&both, NULL, 2);
	pthread_create(&sender, NULL, send_on, NULL);
	for (unsigned int i = 0; i < N_LIVES; i++) {
		for (uint64_t k = 0; k < DEPTH; k++)
			post_recv(&ends[1], k);
		pthread_barrier_wait(&both);
		for (unsigned int k = 0; k < 50 + i; k++) {
			struct ibv_wc wc = next_wc(ends[1].cq);

			assert_int_equal(wc.status, IBV_WC_SUCCESS);
			post_recv(&ends[1], wc.wr_id);
		}
		end_end(&ends[1]);
		/* What still went there would be a use of freed memory. */
		make_end(&ends[1]);
		pthread_barrier_wait(&both);
		connect_ends();
	}
	pthread_join(sender, NULL);
	pthread_barrier_destroy(&both);
	assert_true(counter("direct_messages") > 50 * N_LIVES);
	close_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_lost),
		cmocka_unit_test(rights_that_go),
		cmocka_unit_test(peer_that_goes),
	};

	return cmocka_run_group_tests_name("lanes", tests, NULL, NULL);
}
