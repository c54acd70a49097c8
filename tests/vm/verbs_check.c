/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An RC connection between two devices whose results are checked: data, immediates, what
 * atomics return, what completions say. Uses libibverbs alone, on whatever device it
 * finds first, so that each end can be another's.
 *
 * The server is the memory and the receive queue, the client sends. They meet over TCP;
 * a byte there is a barrier. Bytes on both sides come from one formula, pattern(), so
 * that neither has to tell the other what to expect.
 *
 * Usage: verbs_check -g GID_INDEX [-e] [SERVER]
 * -e: in the end, requests that must be refused. Not for a network with losses: who
 * refuses is in the error state then, and does not repeat a lost refusal.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <infiniband/verbs.h>

#define TCP_PORT    18515 /* as the other programs of the interop test */
#define BUF_SIZE    (1u << 19)
#define DEPTH	    32
#define N_ATOMICS   60
#define N_BATCHES   3
#define RNR_WAIT_MS 60

#define CHECK(cond)                                                                \
	do {                                                                       \
		if (!(cond)) {                                                     \
			fprintf(stderr, "%s:%d: failed: %s\n", __func__, __LINE__, \
				#cond);                                            \
			exit(1);                                                   \
		}                                                                  \
	} while (0)

/* Sizes around the path MTU, 1024, and its multiples. */
static const uint32_t sizes[] = {0, 1, 3, 1023, 1024, 1025, 4096, 20001, 65536};
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* What each tells the other; both are x86. */
struct end {
	uint32_t qpn, psn, rkey, is_server, is_rxe;
	uint64_t addr;
	union ibv_gid gid;
};

static struct ibv_context *ctx;
static struct ibv_pd *pd;
static struct ibv_cq *cq;
static struct ibv_qp *qp;
static struct ibv_mr *mr;
static uint8_t *buf;
static struct end own, peer;
static int tcp;

static uint8_t pattern(uint32_t seed, uint32_t i)
{
	return (uint8_t)((i * 2654435761u) >> 24) ^ (uint8_t)(seed * 37 + 1);
}

static void fill(uint8_t *p, uint32_t size, uint32_t seed)
{
	for (uint32_t i = 0; i < size; i++)
		p[i] = pattern(seed, i);
}

static void check_filled(const uint8_t *p, uint32_t size, uint32_t seed)
{
	for (uint32_t i = 0; i < size; i++) {
		if (p[i] != pattern(seed, i)) {
			fprintf(stderr, "wrong byte %u of %u, seed %u\n", i, size, seed);
			exit(1);
		}
	}
}

/* TCP. */

static void meet(const char *server)
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

static void swap_ends(void)
{
	CHECK(write(tcp, &own, sizeof(own)) == sizeof(own));
	CHECK(recv(tcp, &peer, sizeof(peer), MSG_WAITALL) == sizeof(peer));
}

/* Wait until the other end is here as well. */
static void barrier(char where)
{
	char there;

	CHECK(write(tcp, &where, 1) == 1);
	CHECK(read(tcp, &there, 1) == 1);
	CHECK(there == where);
}

/* Verbs. */

static void open_all(int gid_index, bool is_server)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	bool is_rxe;
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC,
		.cap = {.max_send_wr = DEPTH,
			.max_recv_wr = DEPTH,
			.max_send_sge = 2,
			.max_recv_sge = 2},
		.sq_sig_all = 1,
	};

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
			IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC);
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

static void connect_qp(int gid_index)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
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
		.ah_attr = {.is_global = 1,
			.port_num = 1,
			.grh = {.dgid = peer.gid,
				.sgid_index = (uint8_t)gid_index,
				.hop_limit = 64}},
	};

	CHECK(!ibv_modify_qp(qp, &attr,
		IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS));
	attr.qp_state = IBV_QPS_RTR;
	CHECK(!ibv_modify_qp(qp, &attr,
		IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
			IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
			IBV_QP_MIN_RNR_TIMER));
	attr.qp_state = IBV_QPS_RTS;
	CHECK(!ibv_modify_qp(qp, &attr,
		IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
			IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC));
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

static struct ibv_wc expect(enum ibv_wc_status status)
{
	struct ibv_wc wc = next_wc();

	if (wc.status != status) {
		fprintf(stderr, "work request %" PRIu64 ": %s instead of %s\n", wc.wr_id,
			ibv_wc_status_str(wc.status), ibv_wc_status_str(status));
		exit(1);
	}
	return wc;
}

/* @off: where the data is on this side, and also where on the other */
static void post(enum ibv_wr_opcode opcode, uint32_t off, uint32_t remote_off,
	uint32_t size, uint32_t rkey)
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

static void post_atomic(
	enum ibv_wr_opcode opcode, uint32_t off, uint64_t compare_add, uint64_t swap)
{
	struct ibv_sge sge = {(uintptr_t)buf + off, 8, mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge,
				   .num_sge = 1,
				   .opcode = opcode,
				   .wr.atomic = {peer.addr, compare_add, swap,
					   peer.rkey}},
			   *bad;

	CHECK(!ibv_post_send(qp, &wr, &bad));
}

static void post_recv(uint32_t off, uint32_t size)
{
	struct ibv_sge sge = {(uintptr_t)buf + off, size, mr->lkey};
	struct ibv_recv_wr wr = {.wr_id = off, .sg_list = &sge, .num_sge = 1}, *bad;

	CHECK(!ibv_post_recv(qp, &wr, &bad));
}

/* Where message @i of a batch lies: no two touch. */
static uint32_t place(uint32_t i)
{
	uint32_t off = 0;

	while (i--)
		off += sizes[i] + 5;
	return off;
}

/* The client's half of BUF_SIZE that its READs fill. */
#define SECOND_HALF (BUF_SIZE / 2)

/* What was written is there, and what is read is what was written. */
static void write_and_read(uint32_t seed)
{
	for (uint32_t i = 0; i < N_SIZES; i++) {
		fill(buf + place(i), sizes[i], seed + i);
		post(IBV_WR_RDMA_WRITE, place(i), place(i), sizes[i], peer.rkey);
	}
	memset(buf + SECOND_HALF, 0, BUF_SIZE / 2);
	for (uint32_t i = 0; i < N_SIZES; i++)
		post(IBV_WR_RDMA_READ, SECOND_HALF + place(i), place(i), sizes[i],
			peer.rkey);
	for (uint32_t i = 0; i < N_SIZES; i++)
		CHECK(expect(IBV_WC_SUCCESS).opcode == IBV_WC_RDMA_WRITE);
	for (uint32_t i = 0; i < N_SIZES; i++)
		CHECK(expect(IBV_WC_SUCCESS).opcode == IBV_WC_RDMA_READ);
	for (uint32_t i = 0; i < N_SIZES; i++)
		check_filled(buf + SECOND_HALF + place(i), sizes[i], seed + i);
}

static void client_batch(uint32_t seed)
{
	write_and_read(seed);
	barrier('w');
	barrier('r'); /* the server has looked and posted its buffers */
	for (uint32_t i = 0; i < N_SIZES; i++)
		post(i & 1 ? IBV_WR_SEND_WITH_IMM : IBV_WR_SEND, place(i), 0, sizes[i],
			0);
	for (uint32_t i = 0; i < N_SIZES; i++)
		CHECK(expect(IBV_WC_SUCCESS).opcode == IBV_WC_SEND);
	barrier('s');
	barrier('r');
	for (uint32_t i = 0; i < N_SIZES; i++)
		post(IBV_WR_RDMA_WRITE_WITH_IMM, place(i), place(i), sizes[i], peer.rkey);
	for (uint32_t i = 0; i < N_SIZES; i++)
		CHECK(expect(IBV_WC_SUCCESS).opcode == IBV_WC_RDMA_WRITE);
	barrier('i');
}

static void check_imm(const struct ibv_wc *wc, uint32_t size)
{
	CHECK(wc->wc_flags & IBV_WC_WITH_IMM);
	CHECK(ntohl(wc->imm_data) == size);
}

static void server_batch(uint32_t seed)
{
	barrier('w');
	for (uint32_t i = 0; i < N_SIZES; i++)
		check_filled(buf + place(i), sizes[i], seed + i);
	memset(buf, 0, BUF_SIZE);
	for (uint32_t i = 0; i < N_SIZES; i++)
		post_recv(place(i), sizes[i] + 4);
	barrier('r');
	for (uint32_t i = 0; i < N_SIZES; i++) {
		struct ibv_wc wc = expect(IBV_WC_SUCCESS);

		CHECK(wc.opcode == IBV_WC_RECV);
		CHECK(wc.wr_id == place(i) && wc.byte_len == sizes[i]);
		if (i & 1)
			check_imm(&wc, sizes[i]);
		else
			CHECK(!(wc.wc_flags & IBV_WC_WITH_IMM));
		check_filled(buf + place(i), sizes[i], seed + i);
	}
	barrier('s');
	memset(buf, 0, BUF_SIZE);
	for (uint32_t i = 0; i < N_SIZES; i++)
		post_recv(SECOND_HALF, 4);
	barrier('r');
	for (uint32_t i = 0; i < N_SIZES; i++) {
		struct ibv_wc wc = expect(IBV_WC_SUCCESS);

		CHECK(wc.opcode == IBV_WC_RECV_RDMA_WITH_IMM);
		check_imm(&wc, sizes[i]);
		check_filled(buf + place(i), sizes[i], seed + i);
	}
	barrier('i');
}

/* Each is done exactly once: each returns what the one before it left. */
static void client_atomics(void)
{
	uint64_t old;

	for (uint64_t i = 0; i < N_ATOMICS; i++) {
		bool add = i & 1;

		post_atomic(add ? IBV_WR_ATOMIC_FETCH_AND_ADD : IBV_WR_ATOMIC_CMP_AND_SWP,
			8 * (uint32_t)(i % DEPTH), add ? 1 : i, i + 1);
		if (i % DEPTH != DEPTH - 1 && i != N_ATOMICS - 1)
			continue;
		for (uint64_t k = i - i % DEPTH; k <= i; k++) {
			CHECK(expect(IBV_WC_SUCCESS).byte_len == 8);
			memcpy(&old, buf + 8 * (k % DEPTH), 8);
			CHECK(old == k);
		}
	}
	/* One that compares unequal changes nothing. */
	post_atomic(IBV_WR_ATOMIC_CMP_AND_SWP, 0, 12345, 1);
	expect(IBV_WC_SUCCESS);
	memcpy(&old, buf, 8);
	CHECK(old == N_ATOMICS);
	barrier('a');
}

static void server_atomics(void)
{
	uint64_t value;

	barrier('a');
	memcpy(&value, buf, 8);
	CHECK(value == N_ATOMICS);
}

/* No buffer is there at first. */
static void not_ready(void)
{
	struct timespec wait = {.tv_nsec = RNR_WAIT_MS * 1000000l};

	if (own.is_server) {
		nanosleep(&wait, NULL);
		post_recv(0, 5000);
		CHECK(expect(IBV_WC_SUCCESS).byte_len == 4999);
		check_filled(buf, 4999, 99);
	} else {
		fill(buf, 4999, 99);
		post(IBV_WR_SEND, 0, 0, 4999, 0);
		expect(IBV_WC_SUCCESS);
	}
	barrier('n');
}

/* The peer refuses; what was posted behind is flushed. */
static void refused(enum ibv_wr_opcode opcode, uint32_t remote_off, uint32_t size,
	uint32_t rkey, enum ibv_wc_status status)
{
	post(opcode, 0, remote_off, size, rkey);
	post(IBV_WR_RDMA_WRITE, 0, 0, 10, peer.rkey);
	expect(status);
	expect(IBV_WC_WR_FLUSH_ERR);
}

/* From RESET to RTS again. */
static void again(int gid_index)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};

	barrier('e');
	CHECK(!ibv_modify_qp(qp, &attr, IBV_QP_STATE));
	connect_qp(gid_index);
	barrier('E');
}

static void client_errors(int gid_index)
{
	refused(IBV_WR_RDMA_WRITE, 0, 5000, peer.rkey ^ 0x55, IBV_WC_REM_ACCESS_ERR);
	again(gid_index);
	refused(IBV_WR_RDMA_READ, 0, 5000, peer.rkey ^ 0x55, IBV_WC_REM_ACCESS_ERR);
	again(gid_index);
	refused(IBV_WR_RDMA_WRITE, BUF_SIZE - 100, 101, peer.rkey, IBV_WC_REM_ACCESS_ERR);
	again(gid_index);
	refused(IBV_WR_ATOMIC_FETCH_AND_ADD, 0, 8, peer.rkey ^ 0x55,
		IBV_WC_REM_ACCESS_ERR);
	again(gid_index);
	/* rxe differs: docs/interop.md */
	refused(IBV_WR_SEND, 0, 5000, 0,
		peer.is_rxe ? IBV_WC_REM_OP_ERR : IBV_WC_REM_INV_REQ_ERR);
	barrier('e');
}

static void server_errors(int gid_index)
{
	for (int i = 0; i < 4; i++)
		again(gid_index);
	post_recv(0, 4999);
	barrier('e');
	expect(own.is_rxe ? IBV_WC_LOC_QP_OP_ERR : IBV_WC_LOC_LEN_ERR);
}

int main(int argc, char **argv)
{
	int opt, gid_index = 0;
	bool errors = false;

	while ((opt = getopt(argc, argv, "g:e")) > 0) {
		if (opt == 'g')
			gid_index = atoi(optarg);
		else if (opt == 'e')
			errors = true;
		else
			return 2;
	}
	open_all(gid_index, !argv[optind]);
	meet(argv[optind]);
	swap_ends();
	connect_qp(gid_index);
	barrier('c');
	for (uint32_t i = 0; i < N_BATCHES; i++)
		own.is_server ? server_batch(i) : client_batch(i);
	memset(buf, 0, BUF_SIZE);
	barrier('z');
	own.is_server ? server_atomics() : client_atomics();
	not_ready();
	if (errors)
		own.is_server ? server_errors(gid_index) : client_errors(gid_index);
	barrier('q');
	CHECK(!ibv_destroy_qp(qp));
	CHECK(!ibv_destroy_cq(cq));
	CHECK(!ibv_dereg_mr(mr));
	CHECK(!ibv_dealloc_pd(pd));
	CHECK(!ibv_close_device(ctx));
	return 0;
}
