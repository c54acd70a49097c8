/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Objects are made and destroyed, 10^5 times each kind, with data moved now and then:
 * neither memory nor descriptors may be missing afterwards.
 *
 * Usage: object_cycles [CYCLES]
 */
#include "lib/util.h"
#include "rdma/include/vrdma.h"
#include "tests/rc_to_rts.h"

#include <dirent.h>
#include <err.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CYCLES	 100000
#define WARM_UP	 2000	/* until allocator and tables have their size */
#define LEAK_MAX 65536u /* bytes; one byte a cycle is more */
#define ADDR	 "127.0.0.64"
#define ACCESS	 (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_MW_BIND)

struct objects {
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_srq *srq;
	struct ibv_mr *mr;
	struct ibv_mw *mw;
	struct ibv_ah *ah;
	struct ibv_qp *qp;
};

static uint64_t buffer[8];

/* Ends the program unless @object is there. */
static void *made(void *object)
{
	if (!object)
		err(1, "make an object");
	return object;
}

static void done(int rc)
{
	if (rc)
		errx(1, "%s", strerror(rc));
}

static void make(struct ibv_context *ctx, const union ibv_gid *gid, struct objects *o)
{
	struct ibv_srq_init_attr srq = {.attr = {.max_wr = 4, .max_sge = 1}};
	struct ibv_ah_attr ah = {.is_global = 1, .port_num = 1, .grh = {.dgid = *gid}};
	struct ibv_qp_init_attr qp = {
		.qp_type = IBV_QPT_RC, .cap = {.max_send_wr = 4, .max_send_sge = 1}};

	o->pd = made(ibv_alloc_pd(ctx));
	o->channel = made(vrdma_create_comp_channel(ctx));
	o->cq = made(ibv_create_cq(ctx, 16, NULL, o->channel, 0));
	o->srq = made(ibv_create_srq(o->pd, &srq));
	o->mr = made(ibv_reg_mr(o->pd, buffer, sizeof(buffer), ACCESS));
	o->mw = made(ibv_alloc_mw(o->pd, IBV_MW_TYPE_1));
	o->ah = made(ibv_create_ah(o->pd, &ah));
	qp.send_cq = qp.recv_cq = o->cq;
	qp.srq = o->srq;
	o->qp = made(ibv_create_qp(o->pd, &qp));
}

static void destroy(const struct objects *o)
{
	done(ibv_destroy_qp(o->qp));
	done(ibv_destroy_ah(o->ah));
	done(ibv_dealloc_mw(o->mw));
	done(ibv_dereg_mr(o->mr));
	done(ibv_destroy_srq(o->srq));
	done(ibv_destroy_cq(o->cq));
	done(ibv_destroy_comp_channel(o->channel));
	done(ibv_dealloc_pd(o->pd));
}

static void connect_qp(struct ibv_qp *qp, const union ibv_gid *gid, uint32_t peer)
{
	struct ibv_qp_attr attr = {
		.port_num = 1,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = peer,
		.max_rd_atomic = 1,
		.max_dest_rd_atomic = 1,
		.timeout = 14,
		.ah_attr = {.is_global = 1, .port_num = 1, .grh = {.dgid = *gid}},
	};

	done(rc_to_rts(qp, &attr));
}

/* @from sends to @to; what both are told is left for those who destroy them. */
static void leave_work(
	const struct objects *from, const struct objects *to, const union ibv_gid *gid)
{
	struct ibv_sge sge = {(uintptr_t)buffer, sizeof(buffer), to->mr->lkey};
	struct ibv_recv_wr recv = {.sg_list = &sge, .num_sge = 1}, *bad_recv;
	struct ibv_send_wr send = {.opcode = IBV_WR_SEND,
				   .send_flags = IBV_SEND_SIGNALED},
			   *bad_send;

	connect_qp(from->qp, gid, to->qp->qp_num);
	connect_qp(to->qp, gid, from->qp->qp_num);
	done(ibv_req_notify_cq(to->cq, 0));
	for (int i = 0; i < 2; i++)
		done(ibv_post_srq_recv(to->srq, &recv, &bad_recv));
	done(ibv_post_send(from->qp, &send, &bad_send));
}

static int n_descriptors(void)
{
	DIR *dir = made(opendir("/proc/self/fd"));
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static size_t in_use(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

static void cycle(struct ibv_context *ctx, const union ibv_gid *gid, int number)
{
	struct objects a, b;

	make(ctx, gid, &a);
	if (number % 10 == 0) {
		make(ctx, gid, &b);
		leave_work(&a, &b, gid);
		destroy(&b);
	}
	destroy(&a);
}

int main(int argc, char **argv)
{
	int n = argc == 2 ? atoi(argv[1]) : CYCLES, fds;
	struct vrdma_attr attr = {.addr = ADDR};
	struct ibv_context *ctx = made(vrdma_open_device(&attr));
	union ibv_gid gid;
	size_t before, after;

	done(ibv_query_gid(ctx, 1, 0, &gid));
	for (int i = 0; i < WARM_UP; i++)
		cycle(ctx, &gid, i);
	fds = n_descriptors();
	before = in_use();
	for (int i = 0; i < n; i++)
		cycle(ctx, &gid, i);
	after = in_use();
	printf("%d cycles, %zd bytes more in use\n", n, (ssize_t)(after - before));
	if (after > before + LEAK_MAX)
		errx(1, "memory is missing");
	if (n_descriptors() != fds)
		errx(1, "%d descriptors, %d before", n_descriptors(), fds);
	done(ibv_close_device(ctx));
	return 0;
}
