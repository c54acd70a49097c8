/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Long random sequences of packets, buffers and changes to the engine's responder, judged
 * by the model after every packet. Most packets are such that something comes of them;
 * the generator looks at the model for that.
 *
 * Usage: test_responder_model [PACKETS [SEED]]; of each kind of queue pair
 */
#include "responder_judge.h"

#include "lib/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define OTHER_PD 2
#define N_PAST	 32	 /* packets that may come again */
#define RING_GAP 0x10000 /* between the regions' addresses */

static uint32_t n_packets = 250000;
static uint64_t first_seed = 1;

struct player {
	struct judge j;
	uint64_t rng;
	uint64_t next_id;
	uint8_t data[MP_MAX];
	uint8_t past[N_PAST][MP_MAX];
	uint32_t past_size[N_PAST];
	uint32_t n_past;
};

static uint32_t below(struct player *p, uint32_t n)
{
	return rng_below(&p->rng, n);
}

static bool chance(struct player *p, uint32_t per_mille)
{
	return rng_chance(&p->rng, per_mille);
}

/* Regions. */

enum {
	R_ALL,
	R_READ_ONLY,
	R_OTHER_PD,
	R_NO_ATOMICS,
	R_LOCAL,
	R_SKEWED,
	R_TINY,
	R_WINDOW_1,
	R_WINDOW_2,
	R_OTHERS_WINDOW,
	N_REGIONS
};

/* A window on R_ALL */
static void make_window(struct player *p, int i)
{
	const int all = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
			IBV_ACCESS_REMOTE_ATOMIC;
	int access = chance(p, 500) ? all : (int)below(p, 16) & all;

	if (chance(p, 300))
		access |= IBV_ACCESS_ZERO_BASED;
	judge_window(&p->j, i, i == R_WINDOW_1 ? 1 : 2, i != R_OTHERS_WINDOW, R_ALL,
		access, 8 * below(p, 100), p->j.size / 2);
}

static void make_region(struct player *p, int i)
{
	static const int access[N_REGIONS] = {
		[R_ALL] = WORLD_ALL_ACCESS | IBV_ACCESS_MW_BIND,
		[R_READ_ONLY] = IBV_ACCESS_REMOTE_READ,
		[R_OTHER_PD] = WORLD_ALL_ACCESS,
		[R_NO_ATOMICS] = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE,
		[R_LOCAL] = IBV_ACCESS_LOCAL_WRITE,
		[R_SKEWED] = WORLD_ALL_ACCESS,
		[R_TINY] = WORLD_ALL_ACCESS,
	};
	uint32_t half = p->j.size / 2, at = i == R_ALL ? 0 : below(p, half) & ~7u;
	uint32_t length = i == R_ALL ? p->j.size : i == R_TINY ? below(p, 40) : half;

	if (i >= R_WINDOW_1) {
		make_window(p, i);
		return;
	}
	if (i == R_SKEWED) {
		at += 3;
		length -= 8;
	}
	judge_region(&p->j, i, i == R_OTHER_PD ? OTHER_PD : WORLD_PD, access[i],
		RING_GAP * (uint64_t)(i + 1) + 8 * below(p, 100), at, length);
}

/* One that fits more often than not */
static const struct model_region *some_region(struct player *p, int good)
{
	return &p->j.m.region[chance(p, 930) ? good : (int)below(p, N_REGIONS)];
}

/* Receive buffers. */

static uint32_t some_size(struct player *p)
{
	uint32_t mtu = p->j.m.mtu;

	switch (below(p, 6)) {
	case 0:
		return below(p, 8);
	case 1:
		return mtu * below(p, 5);
	default:
		return below(p, 4 * mtu);
	}
}

static void post(struct player *p)
{
	struct model_buffer b = {
		.id = p->next_id++, .n = (int)below(p, MODEL_PIECES + 1)};

	if (!b.n && chance(p, 800))
		b.n = 1;
	for (int i = 0; i < b.n; i++) {
		const struct model_region *r = some_region(p, R_ALL);
		struct model_piece *piece = &b.piece[i];

		piece->key = chance(p, 5) ? (uint32_t)rng_next(&p->rng) : r->key;
		piece->length = chance(p, 300) ? some_size(p) : 4 * p->j.m.mtu;
		piece->va = r->va;
		if (r->length > piece->length)
			piece->va += below(p, (uint32_t)r->length - piece->length);
	}
	judge_post(&p->j, &b);
}

/* Packets. */

static uint8_t some_opcode(struct player *p)
{
	static const uint8_t base[] = {
		[IBV_QPT_RC] = 0, [IBV_QPT_UC] = 0x20, [IBV_QPT_UD] = 0x60};
	const struct model *m = &p->j.m;
	uint8_t service = base[m->type];

	if (chance(p, 20))
		return (uint8_t)below(p, 256);
	if (chance(p, 5))
		return MP_CNP;
	if (m->type == IBV_QPT_UD)
		return (uint8_t)(0x64 + below(p, 2));
	if (m->message == 'S' && m->type == IBV_QPT_RC && chance(p, 50))
		return 0x16;		  /* ends in an invalidation */
	if (m->message && chance(p, 950)) /* go on with it */
		return (uint8_t)(service + (m->message == 'W' ? 6 : 0) + 1 +
				 (chance(p, 500) ? 0 : 1 + below(p, 2)));
	if (m->type == IBV_QPT_RC && chance(p, 350))
		return (uint8_t)(chance(p, 500) ? 0x0c : 0x13 + below(p, 2));
	if (m->type == IBV_QPT_RC && chance(p, 100))
		return 0x17; /* SEND with invalidate */
	return (uint8_t)(service + (chance(p, 500) ? 6 : 0) +
			 (chance(p, 500) ? 0 : 4 + below(p, 2)));
}

static uint32_t some_psn(struct player *p)
{
	uint32_t expected = p->j.m.expected;

	if (chance(p, 850))
		return expected;
	if (chance(p, 100)) /* about the border of the two halves, or anywhere */
		return (expected + (chance(p, 500) ? 0x7ffffe + below(p, 4)
						   : (uint32_t)rng_next(&p->rng))) &
		       0xffffff;
	return (expected + (chance(p, 600) ? -(1 + below(p, 30)) : 1 + below(p, 5))) &
	       0xffffff;
}

/* As many bytes as the packet must have, most of the time */
static uint32_t some_payload(struct player *p, const struct mp *pkt)
{
	const struct model *m = &p->j.m;
	uint64_t left = m->to_length - m->got;

	if (chance(p, 15))
		return below(p, m->mtu + 9);
	if (!mp_has(pkt, ')'))
		return m->mtu;
	if (pkt->form[0] == 'W' && !mp_has(pkt, '('))
		return left <= m->mtu ? (uint32_t)left : 1 + below(p, m->mtu);
	return mp_has(pkt, '(') ? below(p, m->mtu + 1) : 1 + below(p, m->mtu);
}

static void aim(struct player *p, struct mp *pkt)
{
	int good = chance(p, 800) ? R_ALL : chance(p, 500) ? R_WINDOW_1 : R_WINDOW_2;
	const struct model_region *r = some_region(p, good);
	uint32_t length = chance(p, 980) ? pkt->length : 0; /* it may end outside */
	uint64_t room = r->length > length ? r->length - length : 0;

	pkt->key = chance(p, 5) ? (uint32_t)rng_next(&p->rng) : r->key;
	pkt->va = r->va + (room ? below(p, (uint32_t)room + 1) : 0);
	if (mp_has(pkt, 'O'))
		pkt->va &= chance(p, 20) ? ~0ull : ~7ull;
	if (chance(p, 5))
		pkt->va = chance(p, 500) ? rng_next(&p->rng) << 16
					 : UINT64_MAX - below(p, 9);
}

static void ask(struct player *p, struct mp *pkt)
{
	if (mp_has(pkt, 'R'))
		pkt->length = chance(p, 5) ? (uint32_t)rng_next(&p->rng) : some_size(p);
	else if (mp_has(pkt, '(') && !mp_has(pkt, ')'))
		pkt->length = pkt->n_data + (chance(p, 10) ? 0 : some_size(p));
	else
		pkt->length = pkt->n_data + (chance(p, 10) ? 1 : 0);
	if (chance(p, 3))
		pkt->length = 0x7ffffff0 + below(p, 0x20);
	aim(p, pkt);
	pkt->swap_add = rng_next(&p->rng);
	pkt->compare = rng_next(&p->rng);
	if (mp_has(pkt, 'C') && chance(p, 500)) { /* the value that is there */
		int64_t at = model_find(&p->j.m, pkt->key, WORLD_PD, pkt->va, 8, 0);

		if (at >= 0)
			memcpy(&pkt->compare, p->j.memory + at, 8);
	}
}

static void spoil_headers(struct player *p, struct mp *pkt)
{
	switch (below(p, 6)) {
	case 0:
		pkt->qpn ^= 1u << below(p, 24);
		break;
	case 1:
		pkt->pkey = (uint16_t)rng_next(&p->rng);
		break;
	case 2:
		pkt->pkey = 0x7fff; /* which is right */
		break;
	case 3:
		pkt->version = (uint8_t)below(p, 16);
		break;
	case 4:
		pkt->qkey ^= 1u << below(p, 32);
		break;
	default:
		pkt->pad = (uint8_t)below(p, 4);
	}
}

static uint32_t make_packet(struct player *p, uint8_t *bytes)
{
	struct mp pkt = judge_mp(&p->j, some_opcode(p), some_psn(p));
	uint32_t size;

	pkt.data = p->data + below(p, 64);
	pkt.solicited = chance(p, 500);
	pkt.ack_req = chance(p, 500);
	pkt.src_qpn = below(p, 1 << 24);
	pkt.syndrome = (uint8_t)below(p, 256);
	pkt.to_invalidate =
		p->j.m.region[chance(p, 800) ? R_WINDOW_2 : (int)below(p, N_REGIONS)].key;
	memcpy(pkt.imm, p->data + below(p, 64), 4);
	if (pkt.form) {
		pkt.n_data = some_payload(p, &pkt);
		ask(p, &pkt);
	} else {
		pkt.n_data = below(p, 100);
	}
	pkt.pad = pkt.form && mp_has(&pkt, '.') ? -pkt.n_data & 3 : 0;
	if (chance(p, 20))
		spoil_headers(p, &pkt);
	size = mp_build(&pkt, bytes);
	if (chance(p, 5))
		size = below(p, size);
	return size;
}

static void receive(struct player *p)
{
	uint32_t slot = p->n_past % N_PAST, size;
	uint8_t *bytes = p->past[slot], *exact;
	bool stranger = chance(p, 10);

	if (p->n_past >= N_PAST && chance(p, 40)) { /* an old one, from the wire */
		slot = below(p, N_PAST);
		bytes = p->past[slot];
		size = p->past_size[slot];
	} else {
		size = make_packet(p, bytes);
		p->past_size[slot] = size;
		p->n_past++;
	}
	exact = malloc(size ? size : 1);
	assert_non_null(exact);
	memcpy(exact, bytes, size);
	p->j.origin.from_peer = !stranger;
	p->j.origin.sgid[15] ^= stranger;
	p->j.origin.ecn = (uint8_t)below(p, 4);
	judge_packet(&p->j, exact, size);
	p->j.origin.sgid[15] ^= stranger;
	free(exact);
}

static void change_something(struct player *p)
{
	const struct model *m = &p->j.m;

	switch (below(p, 4)) {
	case 0:
		make_region(p, (int)below(p, N_REGIONS));
		break;
	case 1:
		judge_drop_region(&p->j, 1 + (int)below(p, N_REGIONS - 1));
		break;
	case 2:
		if (m->type != IBV_QPT_UD && m->state == IBV_QPS_RTS)
			judge_set_access(&p->j, (int)below(p, 16) & WORLD_ALL_ACCESS);
		break;
	default:
		judge_connect(&p->j, chance(p, 300) ? IBV_QPS_RTR : IBV_QPS_RTS,
			below(p, 1 << 24));
	}
}

static void step(struct player *p)
{
	const struct model *m = &p->j.m;

	if (m->state == IBV_QPS_ERR && chance(p, 600))
		judge_connect(&p->j, IBV_QPS_RTS, below(p, 1 << 24));
	if (chance(p, 2))
		change_something(p);
	if (!m->region[R_WINDOW_2].key && chance(p, 300))
		make_region(p, R_WINDOW_2);
	if (m->n_posted < 6 && chance(p, m->n_posted ? 500 : 900))
		post(p);
	receive(p);
}

static void play(enum ibv_qp_type type, enum ibv_mtu mtu, bool shared_queue, uint32_t n)
{
	struct player *p = calloc(1, sizeof(*p));
	uint32_t size = 16 * (128u << mtu) < 8192 ? 8192 : 16 * (128u << mtu);

	assert_non_null(p);
	p->rng = first_seed * 0x9e3779b97f4a7c15ull + 1;
	judge_open(&p->j, type, mtu, shared_queue, size, p->rng);
	for (size_t i = 0; i < sizeof(p->data); i++)
		p->data[i] = (uint8_t)rng_next(&p->rng);
	for (int i = 0; i < N_REGIONS; i++)
		make_region(p, i);
	judge_connect(&p->j, IBV_QPS_RTS, 0xfffff0);
	while (p->j.n_packets < n)
		step(p);
	/* the generator must have made sense */
	print_message("%llu packets, %llu taken\n", (unsigned long long)p->j.n_packets,
		(unsigned long long)p->j.n_taken);
	assert_true(p->j.n_taken > p->j.n_packets / 2);
	judge_close(&p->j);
	free(p);
}

static void rc(void **state)
{
	play(IBV_QPT_RC, IBV_MTU_256, false, n_packets * 4);
}

static void rc_with_srq(void **state)
{
	play(IBV_QPT_RC, IBV_MTU_256, true, n_packets);
}

static void rc_large_packets(void **state)
{
	play(IBV_QPT_RC, IBV_MTU_4096, false, n_packets / 4);
}

static void uc(void **state)
{
	play(IBV_QPT_UC, IBV_MTU_256, false, n_packets);
}

static void uc_with_srq(void **state)
{
	play(IBV_QPT_UC, IBV_MTU_512, true, n_packets / 2);
}

static void ud(void **state)
{
	play(IBV_QPT_UD, IBV_MTU_256, false, n_packets / 2);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rc),
		cmocka_unit_test(rc_with_srq),
		cmocka_unit_test(rc_large_packets),
		cmocka_unit_test(uc),
		cmocka_unit_test(uc_with_srq),
		cmocka_unit_test(ud),
	};

	if (argc > 1)
		n_packets = (uint32_t)strtoul(argv[1], NULL, 0);
	if (argc > 2)
		first_seed = strtoull(argv[2], NULL, 0);
	return cmocka_run_group_tests_name("responder_model", tests, NULL, NULL);
}
