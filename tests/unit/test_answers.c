/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The responder's one answer to several packets that came in together: what it must say
 * when they would be answered differently one by one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "engine_world.h"
#include "rdma/wire/psn.h"

/* The peer's packets to end 1, which are kept until answer() puts them in together. */
struct packets {
	struct world w;
	uint8_t data[8][WIRE_HDR_MAX + 4];
	struct link_rx rx[8];
	int n;
	uint8_t memory[64];
	uint32_t rkey;
};

static void setup_with(struct packets *p, const struct world_config *config)
{
	memset(p, 0, sizeof(*p));
	world_open(&p->w, config);
	p->rkey = world_reg(&p->w.end[1], p->memory, sizeof(p->memory),
		IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
			IBV_ACCESS_REMOTE_READ);
}

static void setup(struct packets *p)
{
	setup_with(p, &world_default);
}

static uint32_t psn(int i)
{
	return psn_add(world_default.psn, (uint32_t)i);
}

/* Packet @i: @len bytes of memory are written (four) or read with @rkey. */
static void add_long(
	struct packets *p, uint8_t opcode, int i, uint32_t rkey, uint32_t len)
{
	struct wire_packet pkt = {.opcode = opcode,
		.pkey = WIRE_PKEY_DEFAULT,
		.dest_qpn = qp_number(p->w.end[1].qp),
		.psn = psn(i),
		.ack_req = true,
		.va = (uintptr_t)p->memory,
		.rkey = rkey,
		.dma_len = len};
	struct link_rx *rx = &p->rx[p->n];

	rx->data = p->data[p->n];
	rx->len = (uint32_t)wire_build(&pkt, p->data[p->n]);
	if (wire_opcodes[opcode].flags & WIRE_HAS_PAYLOAD)
		rx->len += 4;
	memcpy(rx->sgid, p->w.end[0].link->gid, sizeof(rx->sgid));
	p->n++;
}

static void add(struct packets *p, uint8_t opcode, int i, uint32_t rkey)
{
	add_long(p, opcode, i, rkey, 4);
}

static void take_in(struct packets *p)
{
	engine_input(p->w.end[1].engine, p->rx, p->n, p->w.now);
	p->n = 0;
}

/* Packet @k of the burst is an answer about packet @i. */
static void assert_answer(
	struct packets *p, int k, uint8_t opcode, uint8_t syndrome, int i)
{
	const struct link_tx *tx = &p->w.burst.pkt[k];
	struct wire_packet pkt;

	assert_int_equal(wire_parse(tx->hdr, tx->hdr_len, &pkt), 0);
	assert_int_equal(pkt.opcode, opcode);
	assert_int_equal(pkt.syndrome, syndrome);
	assert_int_equal(pkt.psn, psn(i));
}

/* The device says one thing, and then nothing more. */
static void assert_says(struct packets *p, uint8_t syndrome, int i)
{
	struct engine *engine = p->w.end[1].engine;

	assert_int_equal(engine_output(engine, &p->w.burst, p->w.now), 1);
	assert_answer(p, 0, WIRE_ACK, syndrome, i);
	assert_int_equal(engine_output(engine, &p->w.burst, p->w.now), 0);
}

static void one_ack_for_all(void **state)
{
	struct packets p;

	setup(&p);
	for (int i = 0; i < 4; i++)
		add(&p, WIRE_WRITE_ONLY, i, p.rkey);
	take_in(&p);
	assert_says(&p, WIRE_SYN_ACK_NO_CREDIT_LIMIT, 3);
	world_close(&p.w);
}

/* An ACK with the PSN of a READ passes with rdma_rxe for the READ's answer, and that may
 * have been lost: an ACK goes no further than to the SEND or WRITE before.
 */
static void no_ack_for_read(void **state)
{
	const uint8_t ack = WIRE_SYN_ACK_NO_CREDIT_LIMIT;
	struct packets p;

	setup(&p);
	add(&p, WIRE_WRITE_ONLY, 0, p.rkey);
	add(&p, WIRE_READ_REQUEST, 1, p.rkey);
	take_in(&p);
	assert_int_equal(engine_output(p.w.end[1].engine, &p.w.burst, p.w.now), 2);
	assert_answer(&p, 0, WIRE_READ_RESP_ONLY, ack, 1);
	assert_answer(&p, 1, WIRE_ACK, ack, 0);
	add(&p, WIRE_WRITE_ONLY, 0, p.rkey); /* again */
	take_in(&p);
	assert_says(&p, ack, 0);
	world_close(&p.w);
}

/* The NAK says what was taken as well. */
static void nak_behind_ack(void **state)
{
	struct packets p;

	setup(&p);
	add(&p, WIRE_WRITE_ONLY, 0, p.rkey);
	add(&p, WIRE_WRITE_ONLY, 2, p.rkey);
	add(&p, WIRE_WRITE_ONLY, 0, p.rkey);
	take_in(&p);
	assert_says(&p, WIRE_SYN_NAK_PSN, 1);
	world_close(&p.w);
}

/* Packet 1 came before 0 and was dropped: it is missing, 0 no longer is. */
static void hole_filled_behind_nak(void **state)
{
	struct packets p;

	setup(&p);
	add(&p, WIRE_WRITE_ONLY, 1, p.rkey);
	add(&p, WIRE_WRITE_ONLY, 0, p.rkey);
	take_in(&p);
	assert_says(&p, WIRE_SYN_NAK_PSN, 1);
	/* it has been said */
	add(&p, WIRE_WRITE_ONLY, 2, p.rkey);
	take_in(&p);
	assert_int_equal(engine_output(p.w.end[1].engine, &p.w.burst, p.w.now), 0);
	add(&p, WIRE_WRITE_ONLY, 1, p.rkey);
	add(&p, WIRE_WRITE_ONLY, 2, p.rkey);
	take_in(&p);
	assert_says(&p, WIRE_SYN_ACK_NO_CREDIT_LIMIT, 2);
	world_close(&p.w);
}

/* What ends the queue pair must be told, whatever else was due. */
static void fatal_behind_nak(void **state)
{
	struct packets p;

	setup(&p);
	add(&p, WIRE_WRITE_ONLY, 1, p.rkey);
	add(&p, WIRE_WRITE_ONLY, 0, p.rkey ^ 1);
	take_in(&p);
	assert_says(&p, WIRE_SYN_NAK_REMOTE_ACCESS, 0);
	assert_int_equal(qp_state(p.w.end[1].qp), IBV_QPS_ERR);
	world_close(&p.w);
}

/* The memory goes between a READ's request and its answer: the NAK names the READ, as the
 * peer has sent nothing behind it.
 */
static void memory_gone(void **state)
{
	struct packets p;

	setup(&p);
	add(&p, WIRE_WRITE_ONLY, 0, p.rkey);
	add(&p, WIRE_READ_REQUEST, 1, p.rkey);
	take_in(&p);
	mr_deregister(engine_mrs(p.w.end[1].engine), p.rkey);
	assert_says(&p, WIRE_SYN_NAK_REMOTE_ACCESS, 1);
	assert_int_equal(qp_state(p.w.end[1].qp), IBV_QPS_ERR);
	world_close(&p.w);
}

/* A peer asks for memory and gives its key back without waiting for the answer, which it
 * gets nevertheless.
 */
static void answer_before_invalidation(void **state)
{
	struct packets p;
	struct mw_list list = LIST_HEAD_INITIALIZER(list);
	struct mw_user user;
	struct mw_binding b;
	struct engine *engine;

	setup(&p);
	engine = p.w.end[1].engine;
	user = (struct mw_user){WORLD_PD, qp_number(p.w.end[1].qp), &list};
	b = (struct mw_binding){.addr = (uintptr_t)p.memory,
		.length = 64,
		.access = IBV_ACCESS_REMOTE_READ};
	b.lkey = world_reg(&p.w.end[1], p.memory, sizeof(p.memory), IBV_ACCESS_MW_BIND);
	assert_int_equal(
		mw_alloc(engine_mrs(engine), WORLD_PD, IBV_MW_TYPE_2, &b.key), 0);
	assert_int_equal(mw_bind(engine_mrs(engine), &b, &user), 0);
	world_recv(&p.w.end[1], 0, p.memory, 64, p.rkey);

	add(&p, WIRE_READ_REQUEST, 0, b.key);
	add(&p, WIRE_SEND_ONLY_INV, 1, b.key);
	take_in(&p);
	assert_int_equal(engine_output(engine, &p.w.burst, p.w.now), 2);
	assert_answer(&p, 0, WIRE_READ_RESP_ONLY, WIRE_SYN_ACK_NO_CREDIT_LIMIT, 0);
	assert_answer(&p, 1, WIRE_ACK, WIRE_SYN_RNR_NAK | 1, 1);
	assert_false(LIST_EMPTY(&list));
	add(&p, WIRE_SEND_ONLY_INV, 1, b.key);
	take_in(&p);
	assert_says(&p, WIRE_SYN_ACK_NO_CREDIT_LIMIT, 1);
	assert_true(LIST_EMPTY(&list));
	world_close(&p.w);
}

/* With the smallest packets the answers to a READ of 4 GiB would take as many PSNs as
 * there are, so that the last has the number of the first. None is given.
 */
static void endless_read_again(void **state)
{
	struct world_config config = world_default;
	struct packets p;
	struct mr vast = {
		.pd = WORLD_PD, .access = IBV_ACCESS_REMOTE_READ, .length = 1ull << 33};
	uint32_t key;

	config.mtu = IBV_MTU_256;
	setup_with(&p, &config);
	vast.addr = p.memory; /* never read: a burst only points at it */
	vast.iova = (uintptr_t)p.memory;
	assert_int_equal(mr_register(engine_mrs(p.w.end[1].engine), &vast, &key), 0);
	add(&p, WIRE_READ_REQUEST, 0, p.rkey);
	take_in(&p);
	assert_int_equal(engine_output(p.w.end[1].engine, &p.w.burst, p.w.now), 1);
	add_long(&p, WIRE_READ_REQUEST, 0, key, UINT32_MAX);
	take_in(&p);
	assert_int_equal(engine_output(p.w.end[1].engine, &p.w.burst, p.w.now), 0);
	world_close(&p.w);
}

/* Atomics that were answered are asked for again, as answers and repetitions crossed, and
 * a new one follows: it is no more than the peer may have under way, for it has the
 * answers.
 */
static void new_behind_repeated(void **state)
{
	uint64_t counter = 0;
	struct world w;
	struct wire_packet pkt = {
		.opcode = WIRE_OPCODE(WIRE_RC, WIRE_FETCH_ADD),
		.pkey = WIRE_PKEY_DEFAULT,
		.swap_add = 1,
	};
	uint8_t bytes[WIRE_HDR_MAX];

	world_open(&w, &world_default);
	pkt.rkey = world_reg(&w.end[1], &counter, sizeof(counter), WORLD_ALL_ACCESS);
	pkt.va = (uintptr_t)&counter;
	pkt.dest_qpn = qp_number(w.end[1].qp);
	/* all 4 that may be under way; again; and one more, which come together */
	for (uint32_t i = 0; i < 9; i++) {
		pkt.psn = psn_add(world_default.psn, i < 4 ? i : i - 4);
		link_mem_inject(w.end[1].link, bytes, (uint32_t)wire_build(&pkt, bytes));
		if (i == 3)
			world_run(&w, WORLD_FOREVER);
	}
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(qp_state(w.end[1].qp), IBV_QPS_RTS);
	assert_int_equal(counter, 5);
	assert_int_equal(engine_stats(w.end[1].engine)->tx_naks_fatal, 0);

	/* five new ones are one too many */
	for (uint32_t i = 5; i < 10; i++) {
		pkt.psn = psn_add(world_default.psn, i);
		link_mem_inject(w.end[1].link, bytes, (uint32_t)wire_build(&pkt, bytes));
	}
	world_run(&w, WORLD_FOREVER);
	assert_int_equal(qp_state(w.end[1].qp), IBV_QPS_ERR);
	world_close(&w);
}

/* As many READs as max_dest_rd_atomic says (4) are kept; one more ends the queue pair.
 * What was answered makes room.
 */
static void too_many_reads(void **state)
{
	struct packets p;

	setup(&p);
	for (int i = 0; i < 4; i++)
		add(&p, WIRE_READ_REQUEST, i, p.rkey);
	take_in(&p);
	assert_int_equal(engine_output(p.w.end[1].engine, &p.w.burst, p.w.now), 4);
	for (int i = 4; i < 8; i++)
		add(&p, WIRE_READ_REQUEST, i, p.rkey);
	take_in(&p);
	assert_int_equal(qp_state(p.w.end[1].qp), IBV_QPS_RTS);
	add(&p, WIRE_READ_REQUEST, 8, p.rkey);
	take_in(&p);
	assert_int_equal(qp_state(p.w.end[1].qp), IBV_QPS_ERR);
	assert_int_equal(p.w.end[1].last_event, IBV_EVENT_QP_REQ_ERR);
	world_close(&p.w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_ack_for_all),
		cmocka_unit_test(no_ack_for_read),
		cmocka_unit_test(nak_behind_ack),
		cmocka_unit_test(hole_filled_behind_nak),
		cmocka_unit_test(fatal_behind_nak),
		cmocka_unit_test(memory_gone),
		cmocka_unit_test(answer_before_invalidation),
		cmocka_unit_test(endless_read_again),
		cmocka_unit_test(new_behind_repeated),
		cmocka_unit_test(too_many_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
