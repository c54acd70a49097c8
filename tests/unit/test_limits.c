/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * As many objects as ibv_query_device() promises can be made, and not one more: then
 * ENOMEM. What is too deep or too wide for a queue is EINVAL.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "lib/util.h"
#include "rdma/include/vrdma.h"

#include <errno.h>
#include <string.h>

static struct ibv_context *ctx;
static struct ibv_pd *pd;
static struct ibv_cq *cq;
static struct ibv_device_attr limits;
static uint8_t memory[64];

static void *make_pd(void)
{
	return ibv_alloc_pd(ctx);
}

static int end_pd(void *object)
{
	return ibv_dealloc_pd(object);
}

static void *make_mr(void)
{
	return ibv_reg_mr(pd, memory, sizeof(memory), 0);
}

static int end_mr(void *object)
{
	return ibv_dereg_mr(object);
}

static void *make_mw(void)
{
	return ibv_alloc_mw(pd, IBV_MW_TYPE_2);
}

static int end_mw(void *object)
{
	return ibv_dealloc_mw(object);
}

static void *make_cq(void)
{
	return ibv_create_cq(ctx, 1, NULL, NULL, 0);
}

static int end_cq(void *object)
{
	return ibv_destroy_cq(object);
}

static void *make_srq(void)
{
	struct ibv_srq_init_attr init = {.attr = {.max_wr = 1, .max_sge = 1}};

	return ibv_create_srq(pd, &init);
}

static int end_srq(void *object)
{
	return ibv_destroy_srq(object);
}

static void *make_ah(void)
{
	struct ibv_ah_attr attr = {.is_global = 1, .port_num = 1};

	ibv_query_gid(ctx, 1, 0, &attr.grh.dgid);
	return ibv_create_ah(pd, &attr);
}

static int end_ah(void *object)
{
	return ibv_destroy_ah(object);
}

static void *make_qp(void)
{
	struct ibv_qp_init_attr init = {
		.send_cq = cq, .recv_cq = cq, .qp_type = IBV_QPT_RC};

	return ibv_create_qp(pd, &init);
}

static int end_qp(void *object)
{
	return ibv_destroy_qp(object);
}

/* @before: so many of them are there already */
static void as_many_as(int promised, int before, void *(*make)(void), int (*end)(void *))
{
	void **objects = calloc((size_t)promised, sizeof(*objects));
	int n = promised - before;

	assert_true(promised > 0);
	assert_non_null(objects);
	for (int i = 0; i < n; i++) {
		objects[i] = make();
		assert_non_null(objects[i]);
	}
	errno = 0;
	assert_null(make());
	assert_int_equal(errno, ENOMEM);
	/* what goes makes room */
	assert_int_equal(end(objects[0]), 0);
	objects[0] = make();
	assert_non_null(objects[0]);
	for (int i = 0; i < n; i++)
		assert_int_equal(end(objects[i]), 0);
	free(objects);
}

static void numbers(void **state)
{
	as_many_as(limits.max_pd, 1, make_pd, end_pd);
	as_many_as(limits.max_mr, 0, make_mr, end_mr);
	as_many_as(limits.max_mw, 0, make_mw, end_mw);
	as_many_as(limits.max_cq, 1, make_cq, end_cq);
	as_many_as(limits.max_srq, 0, make_srq, end_srq);
	as_many_as(limits.max_ah, 0, make_ah, end_ah);
	as_many_as(limits.max_qp, 0, make_qp, end_qp);
}

static void refuse_qp(struct ibv_qp_cap cap)
{
	struct ibv_qp_init_attr init = {
		.send_cq = cq, .recv_cq = cq, .qp_type = IBV_QPT_RC, .cap = cap};

	errno = 0;
	assert_null(ibv_create_qp(pd, &init));
	assert_int_equal(errno, EINVAL);
}

static void accept_qp(struct ibv_qp_cap cap)
{
	struct ibv_qp_init_attr init = {
		.send_cq = cq, .recv_cq = cq, .qp_type = IBV_QPT_RC, .cap = cap};
	struct ibv_qp *qp = ibv_create_qp(pd, &init);

	assert_non_null(qp);
	assert_true(init.cap.max_send_wr >= cap.max_send_wr &&
		    init.cap.max_recv_wr >= cap.max_recv_wr &&
		    init.cap.max_send_sge >= cap.max_send_sge &&
		    init.cap.max_recv_sge >= cap.max_recv_sge);
	assert_int_equal(ibv_destroy_qp(qp), 0);
}

static void queue_pairs(void **state)
{
	uint32_t wr = (uint32_t)limits.max_qp_wr, sge = (uint32_t)limits.max_sge;

	accept_qp((struct ibv_qp_cap){.max_send_wr = wr, .max_recv_wr = wr});
	accept_qp((struct ibv_qp_cap){.max_send_sge = sge, .max_recv_sge = sge});
	refuse_qp((struct ibv_qp_cap){.max_send_wr = wr + 1});
	refuse_qp((struct ibv_qp_cap){.max_recv_wr = wr + 1});
	refuse_qp((struct ibv_qp_cap){.max_send_sge = sge + 1});
	refuse_qp((struct ibv_qp_cap){.max_recv_sge = sge + 1});
	refuse_qp((struct ibv_qp_cap){.max_inline_data = UINT32_MAX});
}

static void completion_queues(void **state)
{
	static const int refused[] = {0, -1};
	struct ibv_cq *big = ibv_create_cq(ctx, limits.max_cqe, NULL, NULL, 0);

	assert_non_null(big);
	assert_true(big->cqe >= limits.max_cqe);
	assert_int_equal(ibv_resize_cq(big, limits.max_cqe + 1), EINVAL);
	assert_int_equal(ibv_resize_cq(big, 0), EINVAL);
	assert_int_equal(ibv_destroy_cq(big), 0);
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		errno = 0;
		assert_null(ibv_create_cq(ctx, refused[i], NULL, NULL, 0));
		assert_int_equal(errno, EINVAL);
	}
	errno = 0;
	assert_null(ibv_create_cq(ctx, limits.max_cqe + 1, NULL, NULL, 0));
	assert_int_equal(errno, EINVAL);
	/* no such vector */
	errno = 0;
	assert_null(ibv_create_cq(ctx, 1, NULL, NULL, ctx->num_comp_vectors));
	assert_int_equal(errno, EINVAL);
}

static void shared_receive_queues(void **state)
{
	uint32_t wr = (uint32_t)limits.max_srq_wr, sge = (uint32_t)limits.max_srq_sge;
	struct ibv_srq_init_attr good = {.attr = {.max_wr = wr, .max_sge = sge}};
	struct ibv_srq_init_attr bad[] = {{.attr = {.max_wr = wr + 1, .max_sge = 1}},
		{.attr = {.max_wr = 1, .max_sge = sge + 1}}, {.attr = {.max_wr = 0}}};
	struct ibv_srq *srq = ibv_create_srq(pd, &good);

	assert_non_null(srq);
	assert_int_equal(ibv_destroy_srq(srq), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		errno = 0;
		assert_null(ibv_create_srq(pd, &bad[i]));
		assert_int_equal(errno, EINVAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers),
		cmocka_unit_test(queue_pairs),
		cmocka_unit_test(completion_queues),
		cmocka_unit_test(shared_receive_queues),
	};
	struct vrdma_attr attr = {.addr = "127.0.0.63"};

	ctx = vrdma_open_device(&attr);
	if (!ctx || ibv_query_device(ctx, &limits))
		return 1;
	pd = ibv_alloc_pd(ctx);
	cq = ibv_create_cq(ctx, 16, NULL, NULL, 0);
	if (!pd || !cq)
		return 1;
	if (cmocka_run_group_tests_name("limits", tests, NULL, NULL))
		return 1;
	return ibv_destroy_cq(cq) || ibv_dealloc_pd(pd) || ibv_close_device(ctx);
}
