/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One queue pair of a userspace device, for a test in another language that plays its
 * peer. Opens the device on the address that is its first argument; the second is the
 * queue pair's type: rc, uc or ud. Answers
 * "ready QPN VA RKEY" (memory of MEMORY bytes, all that the test may name), and then,
 * line by line:
 *
 *   connect DGID DQPN RQ_PSN SQ_PSN TIMEOUT RETRY RNR_RETRY
 *       to RTS; path MTU 1024. A ud queue pair sends to DGID and DQPN with QKEY.
 *   join GID, leave GID
 *       attach the queue pair to a multicast group, or detach it
 *   window TYPE OFFSET LEN ACCESS
 *       make a memory window and bind it; answers "window RKEY"
 *   recv WR_ID OFFSET LEN
 *       post a receive buffer
 *   post OPCODE WR_ID OFFSET LEN FLAGS IMM VA RKEY ADD SWAP
 *       opcode as enum ibv_wr_opcode; ADD and SWAP are an atomic's; RKEY also what a
 *       SEND or a local operation invalidates
 *   poll N TIMEOUT_MS
 *       answers "WR_ID STATUS OPCODE LEN FLAGS IMM SRC_QP" for each completion, and
 *       "end" after N, or when there were not N in that time
 *   set OFFSET HEX
 *       write to the memory
 *   get OFFSET LEN
 *       answers memory in hex
 *   state
 *       answers the queue pair's state as enum ibv_qp_state
 *   counters
 *       JSON: the device's counters
 *
 * Commands that do something answer "ok" or "error ERRNO".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hex.h"
#include "lib/util.h"
#include "rdma/include/vrdma.h"

#define MEMORY	      (256 << 10)
#define DEPTH	      64
#define QKEY	      0x11223344
#define MIN_RNR_TIMER 14 /* 0.96 ms */
#define WINDOWS	      8
#define FETCHES	      4 /* READs and atomics under way */
#define ACCESS                                                                       \
	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | \
		IBV_ACCESS_REMOTE_ATOMIC)

static _Alignas(uint64_t) uint8_t memory[MEMORY];

struct tool {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_mr *mr;
	struct ibv_qp *qp;
	struct ibv_mw *mw[WINDOWS];
	int n_mws;
	/* a ud queue pair's peer */
	struct ibv_ah *ah;
	uint32_t peer_qpn;
};

static void must(const void *object, const char *what)
{
	if (!object) {
		printf("error %d %s\n", errno, what);
		exit(1);
	}
}

static void answer(int err)
{
	if (err)
		printf("error %d\n", err);
	else
		printf("ok\n");
}

static enum ibv_qp_type type_of(const char *name)
{
	if (!strcmp(name, "uc"))
		return IBV_QPT_UC;
	if (!strcmp(name, "ud"))
		return IBV_QPT_UD;
	return IBV_QPT_RC;
}

static void tool_open(struct tool *t, const char *addr, enum ibv_qp_type type)
{
	struct vrdma_attr attr = {.addr = addr};
	struct ibv_qp_init_attr init = {
		.qp_type = type,
		.cap = {.max_send_wr = DEPTH,
			.max_recv_wr = DEPTH,
			.max_send_sge = 1,
			.max_recv_sge = 1},
	};

	t->ctx = vrdma_open_device(&attr);
	must(t->ctx, "vrdma_open_device");
	t->pd = ibv_alloc_pd(t->ctx);
	must(t->pd, "ibv_alloc_pd");
	t->cq = ibv_create_cq(t->ctx, 4 * DEPTH, NULL, NULL, 0);
	must(t->cq, "ibv_create_cq");
	t->mr = ibv_reg_mr(t->pd, memory, sizeof(memory), ACCESS | IBV_ACCESS_MW_BIND);
	must(t->mr, "ibv_reg_mr");
	init.send_cq = t->cq;
	init.recv_cq = t->cq;
	t->qp = ibv_create_qp(t->pd, &init);
	must(t->qp, "ibv_create_qp");
	printf("ready %u %" PRIuPTR " %u\n", t->qp->qp_num, (uintptr_t)memory,
		t->mr->rkey);
}

static void tool_close(struct tool *t)
{
	ibv_destroy_qp(t->qp);
	if (t->ah)
		ibv_destroy_ah(t->ah);
	while (t->n_mws)
		ibv_dealloc_mw(t->mw[--t->n_mws]);
	ibv_dereg_mr(t->mr);
	ibv_destroy_cq(t->cq);
	ibv_dealloc_pd(t->pd);
	ibv_close_device(t->ctx);
}

/* What each step to RTS takes, by type. */
static const int step_masks[][3] = {
	[IBV_QPT_RC] = {IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS,
		IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
			IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER,
		IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
			IBV_QP_MAX_QP_RD_ATOMIC},
	[IBV_QPT_UC] = {IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS,
		IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN,
		IBV_QP_SQ_PSN},
	[IBV_QPT_UD] = {IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY, 0, IBV_QP_SQ_PSN},
};

static void do_connect(struct tool *t, const char *args)
{
	struct ibv_qp_attr attr = {
		.qkey = QKEY,
		.port_num = 1,
		.qp_access_flags = ACCESS,
		.path_mtu = IBV_MTU_1024,
		.min_rnr_timer = MIN_RNR_TIMER,
		.max_rd_atomic = FETCHES,
		.max_dest_rd_atomic = FETCHES,
		.ah_attr = {.is_global = 1, .port_num = 1, .grh = {.hop_limit = 64}},
	};
	char dgid[64];
	int rc = 0;

	if (sscanf(args, "%63s %u %u %u %hhu %hhu %hhu", dgid, &attr.dest_qp_num,
		    &attr.rq_psn, &attr.sq_psn, &attr.timeout, &attr.retry_cnt,
		    &attr.rnr_retry) != 7 ||
		inet_pton(AF_INET6, dgid, attr.ah_attr.grh.dgid.raw) != 1)
		exit(2);
	for (int step = 0; step < 3 && !rc; step++) {
		attr.qp_state = (enum ibv_qp_state)(IBV_QPS_INIT + step);
		rc = ibv_modify_qp(
			t->qp, &attr, IBV_QP_STATE | step_masks[t->qp->qp_type][step]);
	}
	if (!rc && t->qp->qp_type == IBV_QPT_UD) {
		t->peer_qpn = attr.dest_qp_num;
		t->ah = ibv_create_ah(t->pd, &attr.ah_attr);
		must(t->ah, "ibv_create_ah");
	}
	answer(rc);
}

static void do_group(struct tool *t, const char *args,
	int (*change)(struct ibv_qp *qp, const union ibv_gid *gid, uint16_t lid))
{
	union ibv_gid gid;
	char text[64];

	if (sscanf(args, "%63s", text) != 1 || inet_pton(AF_INET6, text, gid.raw) != 1)
		exit(2);
	answer(change(t->qp, &gid, 0));
}

static int bind_window(struct tool *t, struct ibv_mw *mw, struct ibv_mw_bind_info *info)
{
	struct ibv_mw_bind bind = {.bind_info = *info, .send_flags = IBV_SEND_SIGNALED};
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_BIND_MW, .send_flags = IBV_SEND_SIGNALED};
	struct ibv_send_wr *bad;

	if (mw->type == IBV_MW_TYPE_1)
		return ibv_bind_mw(t->qp, mw, &bind);
	wr.bind_mw.mw = mw;
	wr.bind_mw.rkey = ibv_inc_rkey(mw->rkey);
	wr.bind_mw.bind_info = *info;
	return ibv_post_send(t->qp, &wr, &bad);
}

static void do_window(struct tool *t, const char *args)
{
	struct ibv_mw_bind_info info = {.mr = t->mr};
	struct ibv_mw *mw;
	struct ibv_wc wc;
	int type, rc;

	if (sscanf(args, "%d %" SCNu64 " %" SCNu64 " %u", &type, &info.addr, &info.length,
		    &info.mw_access_flags) != 4 ||
		t->n_mws == WINDOWS)
		exit(2);
	info.addr += (uintptr_t)memory;
	mw = ibv_alloc_mw(t->pd, (enum ibv_mw_type)type);
	must(mw, "ibv_alloc_mw");
	t->mw[t->n_mws++] = mw;
	rc = bind_window(t, mw, &info);
	while (!rc && !ibv_poll_cq(t->cq, 1, &wc)) {
		/* nothing else is under way */
	}
	if (rc || wc.status)
		printf("error %d %d\n", rc, rc ? 0 : wc.status);
	else
		printf("window %u\n", mw->rkey);
}

static void do_recv(struct tool *t, const char *args)
{
	struct ibv_sge sge = {.lkey = t->mr->lkey};
	struct ibv_recv_wr wr = {.sg_list = &sge, .num_sge = 1}, *bad;

	if (sscanf(args, "%" SCNu64 " %" SCNu64 " %u", &wr.wr_id, &sge.addr,
		    &sge.length) != 3)
		exit(2);
	sge.addr += (uintptr_t)memory;
	answer(ibv_post_recv(t->qp, &wr, &bad));
}

static void do_post(struct tool *t, const char *args)
{
	struct ibv_sge sge = {.lkey = t->mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1}, *bad;
	uint64_t va, add, swap;
	uint32_t rkey;
	int opcode;

	if (sscanf(args,
		    "%d %" SCNu64 " %" SCNu64 " %u %u %u %" SCNu64 " %u %" SCNu64
		    " %" SCNu64,
		    &opcode, &wr.wr_id, &sge.addr, &sge.length, &wr.send_flags,
		    &wr.imm_data, &va, &rkey, &add, &swap) != 10)
		exit(2);
	if (opcode == IBV_WR_ATOMIC_CMP_AND_SWP ||
		opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = va;
		wr.wr.atomic.rkey = rkey;
		wr.wr.atomic.compare_add = add;
		wr.wr.atomic.swap = swap;
	} else if (t->qp->qp_type == IBV_QPT_UD) {
		wr.wr.ud.ah = t->ah;
		wr.wr.ud.remote_qpn = t->peer_qpn;
		wr.wr.ud.remote_qkey = QKEY;
	} else if (opcode == IBV_WR_SEND_WITH_INV || opcode == IBV_WR_LOCAL_INV) {
		wr.invalidate_rkey = rkey;
	} else {
		wr.wr.rdma.remote_addr = va;
		wr.wr.rdma.rkey = rkey;
	}
	wr.opcode = (enum ibv_wr_opcode)opcode;
	sge.addr += (uintptr_t)memory;
	answer(ibv_post_send(t->qp, &wr, &bad));
}

static void wc_print(const struct ibv_wc *wc)
{
	printf("%" PRIu64 " %d %d %u %u %u %u\n", wc->wr_id, wc->status, wc->opcode,
		wc->byte_len, wc->wc_flags, wc->imm_data, wc->src_qp);
}

/* Sleeps between looks, so that the device's own thread makes the progress. */
static void do_poll(struct tool *t, const char *args)
{
	const struct timespec nap = {.tv_nsec = NSEC_PER_MSEC};
	unsigned int left, timeout_ms;
	uint64_t deadline;
	struct ibv_wc wc;

	if (sscanf(args, "%u %u", &left, &timeout_ms) != 2)
		exit(2);
	deadline = now_ns() + timeout_ms * NSEC_PER_MSEC;
	while (left) {
		int n = ibv_poll_cq(t->cq, 1, &wc);

		if (n < 0)
			exit(2);
		if (n) {
			wc_print(&wc);
			left--;
		} else if (now_ns() >= deadline) {
			break;
		} else {
			nanosleep(&nap, NULL);
		}
	}
	printf("end\n");
}

static void do_set(const char *args)
{
	static char hex[2 * MEMORY + 1];
	uint32_t offset;

	if (sscanf(args, "%u %524288s", &offset, hex) != 2 || offset > MEMORY ||
		hex_read(hex, memory + offset, (int)(MEMORY - offset)) < 0)
		exit(2);
	answer(0);
}

static void do_get(const char *args)
{
	uint32_t offset, size;

	if (sscanf(args, "%u %u", &offset, &size) != 2 || offset > MEMORY ||
		size > MEMORY - offset)
		exit(2);
	hex_print(memory + offset, size);
	printf("\n");
}

static void do_state(struct tool *t)
{
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;

	if (ibv_query_qp(t->qp, &attr, IBV_QP_STATE, &init))
		exit(2);
	printf("%d\n", attr.qp_state);
}

static void do_counters(struct tool *t)
{
	struct vrdma_counter counters[128];
	int n = vrdma_query_counters(t->ctx, counters, ARRAY_SIZE(counters));
	const char *separator = "{";

	for (int i = 0; i < n; i++) {
		printf("%s\"%s\": %" PRIu64, separator, counters[i].name,
			counters[i].value);
		separator = ", ";
	}
	printf("}\n");
}

static bool dispatch(struct tool *t, const char *command, const char *args)
{
	if (!strcmp(command, "connect"))
		do_connect(t, args);
	else if (!strcmp(command, "join"))
		do_group(t, args, ibv_attach_mcast);
	else if (!strcmp(command, "leave"))
		do_group(t, args, ibv_detach_mcast);
	else if (!strcmp(command, "window"))
		do_window(t, args);
	else if (!strcmp(command, "recv"))
		do_recv(t, args);
	else if (!strcmp(command, "post"))
		do_post(t, args);
	else if (!strcmp(command, "poll"))
		do_poll(t, args);
	else if (!strcmp(command, "set"))
		do_set(args);
	else if (!strcmp(command, "get"))
		do_get(args);
	else if (!strcmp(command, "state"))
		do_state(t);
	else if (!strcmp(command, "counters"))
		do_counters(t);
	else
		return false;
	return true;
}

int main(int argc, char **argv)
{
	struct tool t = {0};
	char *line = NULL;
	size_t room = 0;

	if (argc != 3)
		return 2;
	tool_open(&t, argv[1], type_of(argv[2]));
	fflush(stdout);
	while (getline(&line, &room, stdin) > 0) {
		char *args = line + strcspn(line, " \n");

		if (*args)
			*args++ = '\0';
		if (!dispatch(&t, line, args))
			return 2;
		fflush(stdout);
	}
	free(line);
	tool_close(&t);
	return 0;
}
