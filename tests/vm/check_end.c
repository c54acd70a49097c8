/* SPDX-License-Identifier: BSD-3-Clause */
#include "check_end.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define TCP_PORT 18515 /* as the other programs of the interop test */

struct ibv_context *ctx;
struct ibv_pd *pd;
struct ibv_cq *cq;
struct ibv_qp *qp;
struct ibv_mr *mr;
uint8_t *buf;
struct end own, peer;
static int tcp;
static enum ibv_qp_type qp_type;

static uint8_t pattern(uint32_t seed, uint32_t i)
{
	return (uint8_t)((i * 2654435761u) >> 24) ^ (uint8_t)(seed * 37 + 1);
}

void fill(uint8_t *p, uint32_t size, uint32_t seed)
{
	for (uint32_t i = 0; i < size; i++)
		p[i] = pattern(seed, i);
}

void check_filled(const uint8_t *p, uint32_t size, uint32_t seed)
{
	for (uint32_t i = 0; i < size; i++) {
		if (p[i] != pattern(seed, i)) {
			fprintf(stderr, "wrong byte %u of %u, seed %u\n", i, size, seed);
			exit(1);
		}
	}
}

/* TCP. */

void meet(const char *server)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(TCP_PORT)};
	int on = 1, s = socket(AF_INET, SOCK_STREAM, 0);

	if (server) {
		CHECK(inet_pton(AF_INET, server, &sa.sin_addr) == 1);
		CHECK(!connect(s, (struct sockaddr *)&sa, sizeof(sa)));
		tcp = s;
		return;
	}
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	CHECK(!bind(s, (struct sockaddr *)&sa, sizeof(sa)));
	CHECK(!listen(s, 1));
	tcp = accept(s, NULL, NULL);
	CHECK(tcp >= 0);
}

void swap_ends(void)
{
	CHECK(write(tcp, &own, sizeof(own)) == sizeof(own));
	CHECK(recv(tcp, &peer, sizeof(peer), MSG_WAITALL) == sizeof(peer));
}

/* Wait until the other end is here as well. */
void barrier(char where)
{
	char there;

	CHECK(write(tcp, &where, 1) == 1);
	CHECK(read(tcp, &there, 1) == 1);
	CHECK(there == where);
}

void tell(uint32_t value)
{
	CHECK(write(tcp, &value, sizeof(value)) == sizeof(value));
}

uint32_t hear(void)
{
	uint32_t value;

	CHECK(recv(tcp, &value, sizeof(value), MSG_WAITALL) == sizeof(value));
	return value;
}

void open_all(enum ibv_qp_type type, int gid_index, bool is_server)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	bool is_rxe;
	struct ibv_qp_init_attr init = {
		.qp_type = type,
		.cap = {.max_send_wr = DEPTH,
			.max_recv_wr = DEPTH,
			.max_send_sge = 2,
			.max_recv_sge = 2},
		.sq_sig_all = 1,
	};

	qp_type = type;
	CHECK(list && list[0]);
	ctx = ibv_open_device(list[0]);
	CHECK(ctx);
	is_rxe = !strncmp(ibv_get_device_name(list[0]), "rxe", 3);
	ibv_free_device_list(list);
	pd = ibv_alloc_pd(ctx);
	CHECK(pd);
	cq = ibv_create_cq(ctx, 2 * DEPTH, NULL, NULL, 0);
	CHECK(cq);
	init.send_cq = init.recv_cq = cq;
	qp = ibv_create_qp(pd, &init);
	CHECK(qp);
	CHECK(!posix_memalign((void **)&buf, 4096, BUF_SIZE));
	memset(buf, 0, BUF_SIZE);
	mr = ibv_reg_mr(pd, buf, BUF_SIZE,
		IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
			IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC |
			IBV_ACCESS_MW_BIND);
	CHECK(mr);
	/* The PSN wraps around soon. */
	own = (struct end){.qpn = qp->qp_num,
		.psn = 0xffffff - 100,
		.rkey = mr->rkey,
		.is_server = is_server,
		.is_rxe = is_rxe,
		.addr = (uintptr_t)buf};
	CHECK(!ibv_query_gid(ctx, 1, gid_index, &own.gid));
}

struct ibv_ah_attr route_to(union ibv_gid gid, int gid_index)
{
	return (struct ibv_ah_attr){.is_global = 1,
		.port_num = 1,
		.grh = {.dgid = gid, .sgid_index = (uint8_t)gid_index, .hop_limit = 64}};
}

void connect_end(int gid_index)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.qkey = CHECK_QKEY,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
				   IBV_ACCESS_REMOTE_ATOMIC,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = peer.qpn,
		.rq_psn = peer.psn,
		.sq_psn = own.psn,
		.max_rd_atomic = 8,
		.max_dest_rd_atomic = 8,
		.min_rnr_timer = 12, /* 0.64 ms */
		.timeout = 14,	     /* 67 ms */
		.retry_cnt = 7,
		.rnr_retry = 7,
		.ah_attr = route_to(peer.gid, gid_index),
	};
	const int connected =
		IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
	const struct {
		int init, rtr, rts;
	} masks[] = {
		[IBV_QPT_RC] = {IBV_QP_ACCESS_FLAGS,
			connected | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER,
			IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
				IBV_QP_MAX_QP_RD_ATOMIC},
		[IBV_QPT_UC] = {IBV_QP_ACCESS_FLAGS, connected, 0},
		[IBV_QPT_UD] = {IBV_QP_QKEY, 0, 0},
	};

	CHECK(!ibv_modify_qp(qp, &attr,
		IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | masks[qp_type].init));
	attr.qp_state = IBV_QPS_RTR;
	CHECK(!ibv_modify_qp(qp, &attr, IBV_QP_STATE | masks[qp_type].rtr));
	attr.qp_state = IBV_QPS_RTS;
	CHECK(!ibv_modify_qp(
		qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN | masks[qp_type].rts));
}

void close_all(void)
{
	CHECK(!ibv_destroy_qp(qp));
	CHECK(!ibv_destroy_cq(cq));
	CHECK(!ibv_dereg_mr(mr));
	CHECK(!ibv_dealloc_pd(pd));
	CHECK(!ibv_close_device(ctx));
}

static struct ibv_wc next_wc(void)
{
	struct ibv_wc wc;
	int n;

	while (!(n = ibv_poll_cq(cq, 1, &wc))) {
		/* the test's harness ends those that wait for ever */
	}
	CHECK(n == 1);
	return wc;
}

struct ibv_wc expect(enum ibv_wc_status status)
{
	struct ibv_wc wc = next_wc();

	if (wc.status != status) {
		fprintf(stderr, "work request %" PRIu64 ": %s instead of %s\n", wc.wr_id,
			ibv_wc_status_str(wc.status), ibv_wc_status_str(status));
		exit(1);
	}
	return wc;
}

void post_recv(uint32_t off, uint32_t size)
{
	struct ibv_sge sge = {(uintptr_t)buf + off, size, mr->lkey};
	struct ibv_recv_wr wr = {.wr_id = off, .sg_list = &sge, .num_sge = 1}, *bad;

	CHECK(!ibv_post_recv(qp, &wr, &bad));
}

void post(enum ibv_wr_opcode opcode, uint32_t off, uint32_t remote_off, uint32_t size,
	uint32_t rkey)
{
	uint32_t half = size / 2;
	struct ibv_sge sge[2] = {{(uintptr_t)buf + off, half, mr->lkey},
		{(uintptr_t)buf + off + half, size - half, mr->lkey}};
	struct ibv_send_wr wr = {.wr_id = off,
				   .sg_list = sge,
				   .num_sge = 2,
				   .opcode = opcode,
				   .imm_data = htonl(size)},
			   *bad;

	if (opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		sge[0].length = size;
		wr.num_sge = 1;
		wr.wr.atomic.remote_addr = peer.addr + remote_off;
		wr.wr.atomic.rkey = rkey;
	} else {
		wr.wr.rdma.remote_addr = peer.addr + remote_off;
		wr.wr.rdma.rkey = rkey;
	}
	CHECK(!ibv_post_send(qp, &wr, &bad));
}
