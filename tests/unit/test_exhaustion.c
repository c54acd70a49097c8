/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Want of memory and of descriptors: a program that makes two devices with all objects,
 * moves data and takes all down again is run with the first allocation failing, then with
 * the second, and so on until one run meets none that fails. Each run either works or is
 * refused with the right errno, and leaves nothing behind (what is left of memory,
 * LeakSanitizer tells). Then the same with one descriptor to be had, with two, and so on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib/util.h"
#include "rdma/include/vrdma.h"
#include "tests/rc_to_rts.h"

#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define MSG 4096u
#define ACCESS                                                                       \
	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | \
		IBV_ACCESS_REMOTE_ATOMIC)

/* Allocations of our code to go until one fails; negative: none does. */
static _Atomic int n_left = -1;

static bool fails(void)
{
	return atomic_load(&n_left) >= 0 && atomic_fetch_sub(&n_left, 1) == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);

static void *no_memory(void)
{
	errno = ENOMEM;
	return NULL;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? no_memory() : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? no_memory() : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return fails() ? no_memory() : __real_realloc(p, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
	return fails() ? no_memory() : __real_aligned_alloc(align, size);
}

struct side {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_cq_ex *cq_ex;
	struct ibv_srq *srq;
	struct ibv_mr *mr;
	struct ibv_mw *mw;
	struct ibv_ah *ah;
	struct ibv_qp *qp, *ud;
	union ibv_gid gid;
	uint64_t buf[MSG / 8];
};

/* Make @object or end the step with what errno says. */
#define MAKE(object, how)             \
	do {                          \
		errno = 0;            \
		(object) = how;       \
		if (!(object))        \
			return errno; \
	} while (0)

static int make_objects(struct side *s, const char *addr)
{
	struct vrdma_attr attr = {.addr = addr};
	struct ibv_cq_init_attr_ex cq_ex = {
		.cqe = 4, .wc_flags = IBV_CREATE_CQ_SUP_WC_FLAGS & IBV_WC_STANDARD_FLAGS};
	struct ibv_srq_init_attr srq = {.attr = {.max_wr = 4, .max_sge = 1}};

	MAKE(s->ctx, vrdma_open_device(&attr));
	MAKE(s->pd, ibv_alloc_pd(s->ctx));
	MAKE(s->channel, vrdma_create_comp_channel(s->ctx));
	MAKE(s->cq, ibv_create_cq(s->ctx, 32, NULL, s->channel, 0));
	MAKE(s->cq_ex, ibv_create_cq_ex(s->ctx, &cq_ex));
	MAKE(s->srq, ibv_create_srq(s->pd, &srq));
	MAKE(s->mr, ibv_reg_mr(s->pd, s->buf, sizeof(s->buf), ACCESS));
	MAKE(s->mw, ibv_alloc_mw(s->pd, IBV_MW_TYPE_1));
	return ibv_query_gid(s->ctx, 1, 0, &s->gid) ? errno : 0;
}

static int make_qps(struct side *s)
{
	struct ibv_ah_attr ah = {.is_global = 1, .port_num = 1, .grh = {.dgid = s->gid}};
	struct ibv_qp_init_attr_ex ex = {.send_cq = s->cq,
		.recv_cq = s->cq,
		.qp_type = IBV_QPT_RC,
		.pd = s->pd,
		.cap = {.max_send_wr = 32,
			.max_recv_wr = 4,
			.max_send_sge = 1,
			.max_recv_sge = 1},
		.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.send_ops_flags = IBV_QP_EX_WITH_SEND};
	struct ibv_qp_init_attr ud = {
		.send_cq = s->cq, .recv_cq = s->cq, .srq = s->srq, .qp_type = IBV_QPT_UD};

	MAKE(s->ah, ibv_create_ah(s->pd, &ah));
	MAKE(s->qp, ibv_create_qp_ex(s->ctx, &ex));
	MAKE(s->ud, ibv_create_qp(s->pd, &ud));
	return 0;
}

static int connect_qp(struct side *s, const struct side *peer)
{
	struct ibv_qp_attr attr = {
		.port_num = 1,
		.qp_access_flags = ACCESS,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = peer->qp->qp_num,
		.max_rd_atomic = 2,
		.max_dest_rd_atomic = 2,
		.min_rnr_timer = 1,
		.timeout = 12, /* 8 tries: longer than others may have the processor */
		.retry_cnt = 7,
		.rnr_retry = 7,
		.ah_attr = {.is_global = 1, .port_num = 1, .grh = {.dgid = peer->gid}},
	};

	return rc_to_rts(s->qp, &attr);
}

static struct side sides[2];

/* What the devices did, for who looks for what went wrong. */
static void tell(const struct side *s)
{
	struct vrdma_counter counters[200];
	int n = vrdma_query_counters(s->ctx, counters, 200);

	print_error("side %d:", (int)(s - sides));
	for (int i = 0; i < MIN(n, 200); i++) {
		if (counters[i].value)
			print_error(" %s %llu", counters[i].name,
				(unsigned long long)counters[i].value);
	}
	print_error("\n");
}

/* Want of memory may end the queue pair; it may not make it hang. */
static int await(struct side *s)
{
	uint64_t end = now_ns() + 10 * NSEC_PER_SEC;
	struct ibv_wc wc;

	while (!ibv_poll_cq(s->cq, 1, &wc)) {
		if (now_ns() < end)
			continue;
		tell(&sides[0]);
		tell(&sides[1]);
		fail_msg("side %d waits in vain", (int)(s - sides));
	}
	return wc.status ? ENOMEM : 0;
}

static int send_many(struct side *s)
{
	struct ibv_qp_ex *qpx = ibv_qp_to_qp_ex(s->qp);
	int rc;

	ibv_wr_start(qpx);
	for (int i = 0; i < 12; i++) { /* more than are staged at first */
		qpx->wr_flags = i == 11 ? IBV_SEND_SIGNALED : 0;
		ibv_wr_send(qpx);
		ibv_wr_set_sge(qpx, s->mr->lkey, (uintptr_t)s->buf, 0);
	}
	rc = ibv_wr_complete(qpx);
	return rc;
}

static int post_recvs(struct side *s, int n)
{
	struct ibv_recv_wr wr = {0}, *bad;
	int rc = 0;

	while (n-- && !rc)
		rc = ibv_post_recv(s->qp, &wr, &bad);
	return rc;
}

static int fetch(struct side *s, const struct side *peer, enum ibv_wr_opcode opcode)
{
	struct ibv_sge sge = {(uintptr_t)s->buf, 8, s->mr->lkey};
	struct ibv_send_wr wr = {.opcode = opcode,
				   .sg_list = &sge,
				   .num_sge = 1,
				   .send_flags = IBV_SEND_SIGNALED},
			   *bad;
	int rc;

	if (opcode == IBV_WR_RDMA_READ) {
		wr.wr.rdma.remote_addr = (uintptr_t)peer->buf;
		wr.wr.rdma.rkey = peer->mr->rkey;
	} else {
		wr.wr.atomic.remote_addr = (uintptr_t)peer->buf;
		wr.wr.atomic.rkey = peer->mr->rkey;
	}
	rc = ibv_post_send(s->qp, &wr, &bad);
	return rc ? rc : await(s);
}

static int move_data(struct side *a, struct side *b)
{
	int rc = post_recvs(b, 4);

	if (!rc)
		rc = fetch(a, b, IBV_WR_RDMA_READ);
	if (!rc)
		rc = fetch(a, b, IBV_WR_ATOMIC_FETCH_AND_ADD);
	if (!rc)
		rc = send_many(a);
	for (int i = 0; i < 12 && !rc; i++) {
		rc = await(b);
		if (!rc)
			rc = post_recvs(b, 1);
	}
	return rc ? rc : await(a);
}

static void destroy(struct side *s)
{
	if (s->ud)
		assert_int_equal(ibv_destroy_qp(s->ud), 0);
	if (s->qp)
		assert_int_equal(ibv_destroy_qp(s->qp), 0);
	if (s->ah)
		assert_int_equal(ibv_destroy_ah(s->ah), 0);
	if (s->mw)
		assert_int_equal(ibv_dealloc_mw(s->mw), 0);
	if (s->mr)
		assert_int_equal(ibv_dereg_mr(s->mr), 0);
	if (s->srq)
		assert_int_equal(ibv_destroy_srq(s->srq), 0);
	if (s->cq_ex)
		assert_int_equal(ibv_destroy_cq(ibv_cq_ex_to_cq(s->cq_ex)), 0);
	if (s->cq)
		assert_int_equal(ibv_destroy_cq(s->cq), 0);
	if (s->channel)
		assert_int_equal(ibv_destroy_comp_channel(s->channel), 0);
	if (s->pd)
		assert_int_equal(ibv_dealloc_pd(s->pd), 0);
	if (s->ctx)
		assert_int_equal(ibv_close_device(s->ctx), 0);
}

/* Return: 0, or the errno of what was refused first */
static int run(void)
{
	struct side *a = &sides[0], *b = &sides[1];
	int rc;

	memset(sides, 0, sizeof(sides));
	rc = make_objects(a, "127.0.0.61");
	if (!rc)
		rc = make_objects(b, "127.0.0.62");
	if (!rc)
		rc = make_qps(a);
	if (!rc)
		rc = make_qps(b);
	if (!rc)
		rc = connect_qp(a, b);
	if (!rc)
		rc = connect_qp(b, a);
	if (!rc)
		rc = move_data(a, b);
	destroy(b);
	destroy(a);
	return rc;
}

static int n_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void no_memory_at(void **state)
{
	int fds = n_descriptors(), n = 0, refused = 0, left;

	do {
		int rc;

		atomic_store(&n_left, n++);
		rc = run();
		left = atomic_exchange(&n_left, -1);
		if (rc) {
			assert_int_equal(rc, ENOMEM);
			refused++;
		}
		assert_int_equal(n_descriptors(), fds);
	} while (left < 0);
	assert_true(refused > 30);
	print_message("%d allocations, %d of them needed\n", n - 1, refused);
}

static void no_descriptor_at(void **state)
{
	struct rlimit old, limit;
	int fds = n_descriptors(), refused = 0, rc;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	limit = old;
	for (limit.rlim_cur = 3;; limit.rlim_cur++) {
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		rc = run();
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
		assert_int_equal(n_descriptors(), fds);
		if (!rc)
			break;
		assert_int_equal(rc, EMFILE);
		refused++;
	}
	assert_true(refused > 5);
	print_message("%d descriptors needed\n", refused);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_memory_at),
		cmocka_unit_test(no_descriptor_at),
	};

	/* What is made but once, by libraries as well. */
	if (run())
		return 1;
	return cmocka_run_group_tests_name("exhaustion", tests, NULL, NULL);
}
