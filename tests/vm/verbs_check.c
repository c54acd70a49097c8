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
#include "check_end.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define N_ATOMICS   60
#define N_BATCHES   3
#define RNR_WAIT_MS 60

/* Sizes around the path MTU, 1024, and its multiples. */
static const uint32_t sizes[] = {0, 1, 3, 1023, 1024, 1025, 4096, 20001, 65536};
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

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
	connect_end(gid_index);
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
	open_all(IBV_QPT_RC, gid_index, !argv[optind]);
	meet(argv[optind]);
	swap_ends();
	connect_end(gid_index);
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
	close_all();
	return 0;
}
