/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A peer that means harm, or dies: what it does costs its own queue pair at worst, while
 * another one between the same two devices goes on; and a counter tells the cause.
 */
#include "engine_world.h"

#include "lib/util.h"
#include "rdma/engine/dcqcn.h"
#include "rdma/wire/psn.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define BUF	 (1u << 20)
#define N_TAPPED 512
#define SMALL	 64u

/* Two pairs of queue pairs on one pair of devices: the victim of each test, and the
 * bystander, which is a world of its own on the same engines.
 */
struct scene {
	struct world victim, bystander;
	uint8_t *buf[2];
	uint32_t key[2];
	/* what went over the wire, ICRC cut off */
	uint8_t tapped[N_TAPPED][WIRE_HDR_MAX + 1100];
	uint32_t size[N_TAPPED];
	int to_end[N_TAPPED];
	int n_tapped;
};

static void open_bystander(struct scene *s)
{
	s->bystander = s->victim;
	for (int i = 0; i < 2; i++) {
		struct world_end *end = &s->bystander.end[i];
		struct qp_config config = {.pd = WORLD_PD,
			.type = IBV_QPT_RC,
			.port_mtu = 1024,
			.cap = {.max_send_wr = 64,
				.max_recv_wr = 64,
				.max_send_sge = 1,
				.max_recv_sge = 1,
				.max_inline_data = SMALL}};

		assert_int_equal(cq_create(128, &end->scq), 0);
		assert_int_equal(cq_create(128, &end->rcq), 0);
		config.send_cq = end->scq;
		config.recv_cq = end->rcq;
		assert_int_equal(qp_create(end->engine, &config, &end->qp), 0);
	}
	for (int i = 0; i < 2; i++)
		world_connect(&s->bystander, i, &world_default);
}

static struct scene *open_scene(void)
{
	struct scene *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	world_open(&s->victim, &world_default);
	for (int i = 0; i < 2; i++) {
		struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};

		/* 10 Gb/s, from the next connection on */
		engine_set_line_rate(s->victim.end[i].engine, 1250000000);
		assert_int_equal(qp_modify(s->victim.end[i].qp, &attr, IBV_QP_STATE), 0);
		world_connect(&s->victim, i, &world_default);
	}
	open_bystander(s);
	for (int i = 0; i < 2; i++) {
		s->buf[i] = world_buf(BUF, (unsigned int)i + 1);
		s->key[i] =
			world_reg(&s->victim.end[i], s->buf[i], BUF, WORLD_ALL_ACCESS);
	}
	return s;
}

static void close_scene(struct scene *s)
{
	for (int i = 0; i < 2; i++) {
		qp_destroy(s->bystander.end[i].qp);
		cq_destroy(s->bystander.end[i].scq);
		cq_destroy(s->bystander.end[i].rcq);
	}
	world_close(&s->victim);
	free(s->buf[0]);
	free(s->buf[1]);
	free(s);
}

/* A message from end 0 to end 1; both see it complete. */
static void exchange(struct scene *s, struct world *w, uint64_t id)
{
	assert_int_equal(world_recv(&w->end[1], id, s->buf[1], SMALL, s->key[1]), 0);
	assert_int_equal(world_send(&w->end[0], id, s->buf[0], SMALL, s->key[0],
				 IBV_SEND_SIGNALED),
		0);
	/* one clock for both */
	world_run(w, w->now + NSEC_PER_MSEC);
	s->victim.now = s->bystander.now = w->now;
	assert_int_equal(world_wc(w->end[0].scq).status, IBV_WC_SUCCESS);
	assert_int_equal(world_wc(w->end[1].rcq).wr_id, id);
}

static const struct engine_stats *stats(const struct scene *s, int i)
{
	return engine_stats(s->victim.end[i].engine);
}

static bool tap(void *arg, int from_end, uint8_t *data, uint32_t len)
{
	struct scene *s = arg;

	len -= WIRE_ICRC_SIZE;
	if (s->n_tapped < N_TAPPED && len <= sizeof(s->tapped[0])) {
		memcpy(s->tapped[s->n_tapped], data, len);
		s->size[s->n_tapped] = len;
		s->to_end[s->n_tapped++] = !from_end;
	}
	return true;
}

static int post(struct scene *s, enum ibv_wr_opcode opcode, uint32_t size, uint64_t add)
{
	struct ibv_sge sge = {(uintptr_t)s->buf[0], size, s->key[0]};
	struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1, .opcode = opcode};

	if (opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = (uintptr_t)s->buf[1];
		wr.wr.atomic.rkey = s->key[1];
		wr.wr.atomic.compare_add = add;
	} else {
		wr.wr.rdma.remote_addr = (uintptr_t)s->buf[1];
		wr.wr.rdma.rkey = s->key[1];
	}
	return qp_post_send(s->victim.end[0].qp, &wr, NULL);
}

/* All that went over the wire comes again, to both: nothing is done twice. */
static void replay(void **state)
{
	struct scene *s = open_scene();
	struct world *w = &s->victim;
	uint64_t drops[2];
	uint8_t *copy;
	int n_to[2] = {0};

	link_mem_set_filter(w->end[0].link, tap, s);
	world_recv(&w->end[1], 1, s->buf[1], 4000, s->key[1]);
	assert_int_equal(post(s, IBV_WR_SEND, 4000, 0), 0);
	assert_int_equal(post(s, IBV_WR_RDMA_WRITE, 5000, 0), 0);
	assert_int_equal(post(s, IBV_WR_ATOMIC_FETCH_AND_ADD, 8, 5), 0);
	assert_int_equal(post(s, IBV_WR_RDMA_READ, 6000, 0), 0);
	world_run(w, WORLD_FOREVER);
	assert_int_equal(world_wc(w->end[1].rcq).status, IBV_WC_SUCCESS);
	link_mem_set_filter(w->end[0].link, NULL, NULL);

	memset(s->buf[1], 0x55, 8192);
	copy = malloc(BUF);
	assert_non_null(copy);
	memcpy(copy, s->buf[0], BUF);
	world_recv(&w->end[1], 2, s->buf[1], 4000, s->key[1]);
	for (int i = 0; i < 2; i++)
		drops[i] = stats(s, i)->rx_drop_stale_ack + stats(s, i)->rx_duplicate;
	for (int k = 0; k < s->n_tapped; k++) {
		struct world_end *to = &w->end[s->to_end[k]];

		n_to[s->to_end[k]]++;
		assert_int_equal(link_mem_inject(to->link, s->tapped[k], s->size[k]), 0);
	}
	world_run(w, WORLD_FOREVER);

	for (int i = 0; i < 8192; i++)
		assert_int_equal(s->buf[1][i], 0x55);
	assert_memory_equal(s->buf[0], copy, BUF);
	for (int i = 0; i < 2; i++) {
		assert_true(n_to[i] > 0);
		assert_true(cq_is_empty(w->end[i].scq) && cq_is_empty(w->end[i].rcq));
		/* the answers to what came again are stale as well */
		assert_true(stats(s, i)->rx_drop_stale_ack + stats(s, i)->rx_duplicate >=
			    drops[i] + (uint64_t)n_to[i]);
		assert_int_equal(stats(s, i)->qp_errors, 0);
	}
	/* the posted buffer is still there */
	assert_int_equal(world_send(&w->end[0], 3, s->buf[0], 5, s->key[0], 0), 0);
	world_run(w, WORLD_FOREVER);
	assert_int_equal(world_wc(w->end[1].rcq).wr_id, 2);
	exchange(s, &s->bystander, 9);
	free(copy);
	close_scene(s);
}

static uint32_t qpn_in(const uint8_t *bth)
{
	return (uint32_t)bth[5] << 16 | (uint32_t)bth[6] << 8 | bth[7];
}

static void inject(struct scene *s, int to, const struct wire_packet *pkt)
{
	uint8_t data[WIRE_HDR_MAX + WIRE_CNP_RESERVED];
	uint32_t len = (uint32_t)wire_build(pkt, data);

	assert_int_equal(link_mem_inject(s->victim.end[to].link, data, len), 0);
}

/* Answers of every kind to PSNs that are not in flight: whoever does not see the packets
 * has to guess among 2^24.
 */
static void guessed_answers(void **state)
{
	static const int32_t off[] = {-1, -2, -1000, -(1 << 22), 4, 5, 1000, 1 << 22};
	static const uint8_t opcodes[] = {WIRE_ACK, WIRE_ATOMIC_ACK, WIRE_READ_RESP_FIRST,
		WIRE_READ_RESP_MIDDLE, WIRE_READ_RESP_LAST, WIRE_READ_RESP_ONLY};
	struct scene *s = open_scene();
	struct world *w = &s->victim;
	uint64_t n = 0;

	/* four packets in flight, which the peer has not seen yet */
	link_mem_set_filter(w->end[0].link, world_drop_all, NULL);
	world_send(&w->end[0], 1, s->buf[0], 4000, s->key[0], IBV_SEND_SIGNALED);
	world_run(w, w->now + NSEC_PER_USEC);
	link_mem_set_filter(w->end[0].link, NULL, NULL);
	for (size_t k = 0; k < ARRAY_SIZE(off); k++) {
		for (size_t o = 0; o < ARRAY_SIZE(opcodes); o++) {
			for (int syndrome = 0; syndrome < 256; syndrome++) {
				struct wire_packet pkt = {.opcode = opcodes[o],
					.pkey = WIRE_PKEY_DEFAULT,
					.dest_qpn = qp_number(w->end[0].qp),
					.psn = psn_add(
						world_default.psn, (uint32_t)off[k]),
					.syndrome = (uint8_t)syndrome};

				inject(s, 0, &pkt);
				n++;
			}
		}
		world_run(w, w->now + NSEC_PER_USEC);
	}
	assert_int_equal(stats(s, 0)->rx_drop_stale_ack, n);
	assert_true(cq_is_empty(w->end[0].scq));
	assert_int_equal(qp_state(w->end[0].qp), IBV_QPS_RTS);
	/* the timer repairs what was lost, and all is well */
	world_recv(&w->end[1], 1, s->buf[1], 4000, s->key[1]);
	world_run(w, WORLD_FOREVER);
	assert_int_equal(world_wc(w->end[0].scq).status, IBV_WC_SUCCESS);
	assert_memory_equal(s->buf[0], s->buf[1], 4000);
	close_scene(s);
}

/* How long a message takes. */
static uint64_t transfer(struct scene *s, struct world *w, uint32_t size)
{
	uint64_t before = w->now;

	assert_int_equal(world_recv(&w->end[1], 1, s->buf[1], size, s->key[1]), 0);
	assert_int_equal(
		world_send(&w->end[0], 1, s->buf[0], size, s->key[0], IBV_SEND_SIGNALED),
		0);
	while (cq_is_empty(w->end[0].scq))
		world_run(w, w->now + 1); /* one step */
	assert_int_equal(world_wc(w->end[0].scq).status, IBV_WC_SUCCESS);
	return w->now - before;
}

/* Congestion notifications that nobody meant: at worst the lowest rate, of that queue
 * pair alone.
 */
static void forged_notifications(void **state)
{
	const uint32_t size = 64 << 10;
	const uint64_t slowest_ns = NSEC_PER_SEC / DCQCN_RATE_MIN * size;
	struct scene *s = open_scene();
	struct world *w = &s->victim;
	struct wire_packet cnp = {.opcode = WIRE_OPCODE_CNP,
		.pkey = WIRE_PKEY_DEFAULT,
		.dest_qpn = qp_number(w->end[0].qp)};
	uint64_t victim_ns, bystander_ns;

	for (int i = 0; i < 5000; i++) {
		inject(s, 0, &cnp);
		w->now += 60 * NSEC_PER_USEC;
		world_run(w, w->now + 1);
	}
	assert_int_equal(stats(s, 0)->rx_cnps, 5000);
	assert_true(stats(s, 0)->rate_cuts > 0);
	s->bystander.now = w->now;
	bystander_ns = transfer(s, &s->bystander, size);
	w->now = s->bystander.now;
	victim_ns = transfer(s, w, size);
	assert_true(victim_ns > 10 * bystander_ns); /* they had an effect */
	/* the rate recovers meanwhile */
	assert_true(victim_ns < slowest_ns);
	close_scene(s);
}

/* A flood of repeated READs, each of which asks for a thousand packets: the answers of
 * one queue pair leave the others their turn.
 */
static void flood_of_reads(void **state)
{
	struct scene *s = open_scene();
	struct world *w = &s->victim;
	struct wire_packet read = {.opcode = WIRE_READ_REQUEST,
		.pkey = WIRE_PKEY_DEFAULT,
		.dest_qpn = qp_number(w->end[1].qp),
		.psn = world_default.psn,
		.va = (uintptr_t)s->buf[1],
		.rkey = s->key[1],
		.dma_len = BUF};
	uint32_t bystander = qp_number(s->bystander.end[0].qp);
	struct link_rx rx[LINK_BURST];
	uint64_t sent = 0;

	for (int round = 0; round < 100; round++) {
		bool had_its_turn = false;

		for (int i = 0; i < LINK_BURST; i++)
			inject(s, 1, &read);
		engine_input(w->end[1].engine, rx,
			w->end[1].link->ops->recv(w->end[1].link, rx, LINK_BURST),
			w->now);
		assert_int_equal(world_send(&s->bystander.end[1], 1, "hello", 5, 0,
					 IBV_SEND_INLINE),
			round < 64 ? 0 : -ENOMEM);
		if (round == 64) /* nobody acknowledges them here */
			break;
		engine_output(w->end[1].engine, &w->burst, w->now);
		for (int i = 0; i < w->burst.n_pkts; i++) {
			had_its_turn |= qpn_in(w->burst.pkt[i].hdr) == bystander;
		}
		sent += (uint64_t)w->burst.n_pkts;
		assert_true(had_its_turn);
	}
	assert_true(sent > 64);
	assert_int_equal(stats(s, 1)->rx_request_packets, 65 * LINK_BURST);
	assert_true(stats(s, 1)->rx_duplicate > 64 * LINK_BURST);
	close_scene(s);
}

/* Whatever comes to one queue pair, in order, behind, ahead or foolish, the other one
 * completes its messages in the meantime.
 */
static void flood_of_requests(void **state)
{
	static const uint8_t opcodes[] = {WIRE_SEND_ONLY, WIRE_WRITE_ONLY,
		WIRE_SEND_MIDDLE, WIRE_READ_REQUEST, WIRE_FETCH_ADD, WIRE_ACK};
	struct scene *s = open_scene();
	struct world *w = &s->victim;
	uint64_t seen = 0;

	for (uint64_t id = 0; id < 50; id++) {
		for (uint32_t i = 0; i < 200; i++) {
			struct wire_packet pkt = {
				.opcode = opcodes[i % ARRAY_SIZE(opcodes)],
				.pkey = WIRE_PKEY_DEFAULT,
				.dest_qpn = qp_number(w->end[1].qp),
				.psn = psn_add(world_default.psn, 100 + i),
				.va = (uintptr_t)s->buf[1],
				.rkey = s->key[1],
				.ack_req = true};

			inject(s, 1, &pkt);
		}
		exchange(s, &s->bystander, id);
	}
	seen = stats(s, 1)->rx_out_of_sequence + stats(s, 1)->rx_drop_stale_ack;
	assert_true(seen >= 50 * 200);
	assert_int_equal(stats(s, 1)->tx_naks_sequence, 1); /* no amplifier */
	assert_int_equal(qp_state(w->end[1].qp), IBV_QPS_RTS);
	exchange(s, w, 99);
	close_scene(s);
}

struct silence {
	struct scene *s;
	uint32_t from_qpn, to_qpn;
	int n_pass; /* packets before the peer dies */
};

/* The wire of a peer that dies: nothing comes from it any more. */
static bool silenced(void *arg, int from_end, uint8_t *data, uint32_t len)
{
	struct silence *silence = arg;
	uint32_t qpn = qpn_in(data);

	if (qpn != silence->from_qpn && qpn != silence->to_qpn)
		return true;
	return silence->n_pass-- > 0;
}

/* The peer dies in the middle of a message. Who sends is told after its retries; who
 * receives keeps the buffer until the queue pair is given up; the others go on meanwhile.
 */
static void peer_dies(void **state)
{
	struct scene *s = open_scene();
	struct world *w = &s->victim;
	struct silence silence = {s, qp_number(w->end[0].qp), qp_number(w->end[1].qp), 5};
	struct ibv_qp_attr error = {.qp_state = IBV_QPS_ERR};
	uint64_t id = 0;

	link_mem_set_filter(w->end[0].link, silenced, &silence);
	world_recv(&w->end[1], 7, s->buf[1], BUF, s->key[1]);
	world_send(&w->end[0], 1, s->buf[0], BUF, s->key[0], IBV_SEND_SIGNALED);
	world_send(&w->end[0], 2, s->buf[0], 4, s->key[0], IBV_SEND_SIGNALED);
	while (qp_state(w->end[0].qp) == IBV_QPS_RTS) {
		exchange(s, &s->bystander, id++);
		assert_true(w->now < WORLD_FOREVER);
	}
	assert_true(id > 100); /* 8 times 67 ms */
	assert_int_equal(world_wc(w->end[0].scq).status, IBV_WC_RETRY_EXC_ERR);
	assert_int_equal(world_wc(w->end[0].scq).status, IBV_WC_WR_FLUSH_ERR);
	assert_int_equal(stats(s, 0)->qp_errors, 1);
	assert_int_equal(stats(s, 0)->ack_timeouts, 8);

	/* half of the message is there, and that is not told as anything else */
	assert_true(cq_is_empty(w->end[1].rcq));
	assert_int_equal(qp_state(w->end[1].qp), IBV_QPS_RTS);
	assert_int_equal(qp_modify(w->end[1].qp, &error, IBV_QP_STATE), 0);
	assert_int_equal(world_wc(w->end[1].rcq).status, IBV_WC_WR_FLUSH_ERR);
	exchange(s, &s->bystander, id);
	close_scene(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replay),
		cmocka_unit_test(guessed_answers),
		cmocka_unit_test(forged_notifications),
		cmocka_unit_test(flood_of_reads),
		cmocka_unit_test(flood_of_requests),
		cmocka_unit_test(peer_dies),
	};

	return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
