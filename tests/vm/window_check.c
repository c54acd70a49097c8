/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory windows and SEND with invalidate between two devices: the server binds windows
 * and tells their keys, the client writes and reads through them and invalidates them.
 *
 * Usage: window_check -g GID_INDEX [-e] [SERVER]
 * -e: uses of keys that must be refused, as with verbs_check
 */
#include "check_end.h"

#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>

#define WINDOW	 4096  /* where it begins */
#define LENGTH	 20001 /* its */
#define MESSAGES (BUF_SIZE / 2)
#define ROUNDS	 3

static bool errors;
static int gid;

static struct ibv_mw_bind_info shown(uint64_t length)
{
	return (struct ibv_mw_bind_info){
		.mr = mr,
		.addr = (uintptr_t)buf + WINDOW,
		.length = length,
		.mw_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ,
	};
}

static void again(void)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};

	barrier('e');
	CHECK(!ibv_modify_qp(qp, &attr, IBV_QP_STATE));
	connect_end(gid);
	barrier('E');
}

/* The server. */

static void bind_type_2(struct ibv_mw *mw, uint32_t key)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_BIND_MW}, *bad;

	wr.bind_mw.mw = mw;
	wr.bind_mw.rkey = key;
	wr.bind_mw.bind_info = shown(LENGTH);
	CHECK(!ibv_post_send(qp, &wr, &bad));
	/* rxe's library leaves that to its user */
	mw->rkey = key;
	CHECK(expect(IBV_WC_SUCCESS).opcode == IBV_WC_BIND_MW);
}

/* The client has written through the window. */
static void check_written(uint32_t seed)
{
	barrier('w');
	check_filled(buf + WINDOW, LENGTH, seed);
	CHECK(!buf[WINDOW - 1] && !buf[WINDOW + LENGTH]);
	barrier('W');
}

static void invalidated_by_peer(uint32_t key, uint32_t seed)
{
	struct ibv_wc wc;

	post_recv(MESSAGES, 5000);
	barrier('r');
	wc = expect(IBV_WC_SUCCESS);
	CHECK(wc.opcode == IBV_WC_RECV && wc.byte_len == 3001);
	/* rxe says it with another flag: docs/interop.md */
	CHECK(wc.wc_flags & (own.is_rxe ? IBV_WC_IP_CSUM_OK : IBV_WC_WITH_INV));
	CHECK(wc.invalidated_rkey == key);
	check_filled(buf + MESSAGES, 3001, seed);
}

static void invalidate(uint32_t key)
{
	struct ibv_send_wr wr = {.opcode = IBV_WR_LOCAL_INV}, *bad;

	wr.invalidate_rkey = key;
	CHECK(!ibv_post_send(qp, &wr, &bad));
	CHECK(expect(IBV_WC_SUCCESS).opcode == IBV_WC_LOCAL_INV);
}

static void server_type_2(void)
{
	struct ibv_mw *mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);

	CHECK(mw);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		bind_type_2(mw, ibv_inc_rkey(mw->rkey));
		tell(mw->rkey);
		check_written(i);
		invalidated_by_peer(mw->rkey, i);
		bind_type_2(mw, ibv_inc_rkey(mw->rkey));
		invalidate(mw->rkey);
		if (errors) {
			tell(mw->rkey);
			again();
		}
	}
	CHECK(!ibv_dealloc_mw(mw));
}

static void bind_type_1(struct ibv_mw *mw, uint64_t length)
{
	struct ibv_mw_bind bind = {.send_flags = IBV_SEND_SIGNALED};
	uint32_t before = mw->rkey;

	bind.bind_info = shown(length);
	CHECK(!ibv_bind_mw(qp, mw, &bind));
	CHECK(mw->rkey != before);
	CHECK(expect(IBV_WC_SUCCESS).opcode == IBV_WC_BIND_MW);
}

static void server_type_1(void)
{
	struct ibv_mw *mw = ibv_alloc_mw(pd, IBV_MW_TYPE_1);

	CHECK(mw);
	bind_type_1(mw, 8);
	bind_type_1(mw, LENGTH);
	tell(mw->rkey);
	check_written(7);
	bind_type_1(mw, 0);
	if (errors) {
		tell(mw->rkey);
		again();
	}
	CHECK(!ibv_dealloc_mw(mw));
}

/* The client. */

static void write_and_read(uint32_t key, uint32_t seed)
{
	fill(buf + WINDOW, LENGTH, seed);
	memset(buf + MESSAGES, 0, LENGTH);
	post(IBV_WR_RDMA_WRITE, WINDOW, WINDOW, LENGTH, key);
	post(IBV_WR_RDMA_READ, MESSAGES, WINDOW, LENGTH, key);
	CHECK(expect(IBV_WC_SUCCESS).opcode == IBV_WC_RDMA_WRITE);
	CHECK(expect(IBV_WC_SUCCESS).opcode == IBV_WC_RDMA_READ);
	check_filled(buf + MESSAGES, LENGTH, seed);
	barrier('w');
	barrier('W');
}

static void send_invalidate(uint32_t key, uint32_t seed)
{
	struct ibv_sge sge = {(uintptr_t)buf + MESSAGES, 3001, mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge,
				   .num_sge = 1,
				   .opcode = IBV_WR_SEND_WITH_INV},
			   *bad;

	wr.invalidate_rkey = key;
	fill(buf + MESSAGES, 3001, seed);
	barrier('r');
	CHECK(!ibv_post_send(qp, &wr, &bad));
	CHECK(expect(IBV_WC_SUCCESS).opcode == IBV_WC_SEND);
}

static void refused(uint32_t key)
{
	post(IBV_WR_RDMA_WRITE, WINDOW, WINDOW, 8, key);
	expect(IBV_WC_REM_ACCESS_ERR);
	again();
}

static void client_type_2(void)
{
	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t key = hear();

		write_and_read(key, i);
		send_invalidate(key, i);
		if (errors)
			refused(hear());
	}
}

static void client_type_1(void)
{
	write_and_read(hear(), 7);
	if (errors)
		refused(hear());
}

int main(int argc, char **argv)
{
	int opt;

	while ((opt = getopt(argc, argv, "g:e")) > 0) {
		if (opt == 'g')
			gid = atoi(optarg);
		else if (opt == 'e')
			errors = true;
		else
			return 2;
	}
	open_all(IBV_QPT_RC, gid, !argv[optind]);
	meet(argv[optind]);
	swap_ends();
	connect_end(gid);
	barrier('c');
	own.is_server ? server_type_2() : client_type_2();
	barrier('1');
	own.is_server ? server_type_1() : client_type_1();
	barrier('q');
	close_all();
	return 0;
}
