/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every opcode at every length from 0 to 4200 bytes, to a queue pair of each type in each
 * state, judged by the model of the responder. The headers are such that the packet is a
 * good one where its opcode and length allow it, and in states that receive, PSNs are the
 * expected one, one that came before, or one ahead, in turn. Packets end where memory
 * does, so that one byte read beyond them is the end of the test.
 */
#include "responder_judge.h"

#include "lib/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#define LEN_MAX 4200
#define ROOM	8192 /* pages in front of the one that can't be read */
#define PAGE	4096
#define VA	0x7000000000000000
#define MEMORY	16384
#define MESSAGE 8192 /* of several packets: two of the path MTU */

struct sweep {
	struct judge j;
	enum ibv_qp_state state;
	uint8_t *end; /* of what can be read */
};

static bool receives(enum ibv_qp_state state)
{
	return state >= IBV_QPS_RTR && state <= IBV_QPS_SQE;
}

static void reconnect(struct sweep *s)
{
	judge_connect(&s->j, s->state, 0xfffff0);
}

/* Fill in what a packet of @len bytes in all must say, and put it in. */
static void put_in(struct sweep *s, struct mp *pkt, uint32_t len)
{
	uint8_t headers[64], *bytes = s->end - len;
	uint32_t n;

	pkt->va = VA;
	pkt->key = s->j.m.region[0].key;
	n = mp_build(pkt, headers);
	if (pkt->form && mp_has(pkt, 'W'))
		pkt->length = !mp_has(pkt, ')') ? MESSAGE : len > n ? len - n : 0;
	else
		pkt->length = 8;
	mp_build(pkt, headers);
	memcpy(bytes, headers, MIN(n, len));
	judge_packet(&s->j, bytes, len);
}

/* Packets from the middle and the end of a message must find one that has begun. */
static void begin_message(struct sweep *s, char kind)
{
	uint8_t first =
		(uint8_t)(s->j.m.type == IBV_QPT_UC ? 0x20 : 0) + (kind == 'W' ? 6 : 0);
	struct mp pkt = judge_mp(&s->j, first, s->j.m.expected);

	if (s->j.m.message)
		reconnect(s);
	put_in(s, &pkt, s->j.m.mtu + (kind == 'W' ? 28 : 12));
	assert_int_equal(s->j.m.message, kind);
}

static void prepare(struct sweep *s, const char *form)
{
	struct model *m = &s->j.m;
	struct model_buffer b = {
		.n = 1, .piece = {{VA + MESSAGE, MEMORY - MESSAGE, m->region[0].key}}};

	if (m->state != s->state)
		reconnect(s);
	if (!receives(s->state) || !form)
		return;
	if (!m->n_posted)
		judge_post(&s->j, &b);
	if (!strchr("SW", form[0]) || m->type == IBV_QPT_UD)
		return;
	if (strchr(form, '(')) {
		if (m->message)
			reconnect(s);
	} else if (m->message != form[0]) {
		begin_message(s, form[0]);
	}
	if (!m->n_posted)
		judge_post(&s->j, &b);
}

static void every_length(struct sweep *s, uint8_t opcode)
{
	static const uint32_t ahead[] = {0, 0xffffff, 5};
	const char *form = mp_form(opcode);

	for (uint32_t len = 0; len <= LEN_MAX; len++) {
		struct mp pkt;

		prepare(s, form);
		pkt = judge_mp(&s->j, opcode, s->j.m.expected);
		pkt.psn = (pkt.psn + ahead[(len + s->state) % ARRAY_SIZE(ahead)]) &
			  0xffffff;
		pkt.ack_req = true;
		/* any in which a message may end, seldom one in the others */
		if (form && strchr(form, '.'))
			pkt.pad = strchr(form, ')') ? (len >> 2) & 3 : len % 16 == 7;
		put_in(s, &pkt, len);
	}
}

static void sweep_type(enum ibv_qp_type type)
{
	struct sweep *s = calloc(1, sizeof(*s));
	uint8_t *pages = mmap(NULL, ROOM + PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_non_null(s);
	assert_ptr_not_equal(pages, MAP_FAILED);
	s->end = pages + ROOM;
	assert_int_equal(mprotect(s->end, PAGE, PROT_NONE), 0);
	judge_open(&s->j, type, IBV_MTU_4096, false, MEMORY, 1);
	judge_region(&s->j, 0, WORLD_PD, WORLD_ALL_ACCESS, VA, 0, MEMORY);
	for (int state = IBV_QPS_RESET; state <= IBV_QPS_ERR; state++) {
		uint64_t taken = s->j.n_taken;

		if (state == IBV_QPS_SQE && type == IBV_QPT_RC) /* it has no such state */
			continue;
		s->state = (enum ibv_qp_state)state;
		reconnect(s);
		for (int opcode = 0; opcode < 256; opcode++)
			every_length(s, (uint8_t)opcode);
		assert_int_equal(s->j.n_taken > taken, receives(s->state));
	}
	judge_close(&s->j);
	munmap(pages, ROOM + PAGE);
	free(s);
}

static void rc(void **state)
{
	sweep_type(IBV_QPT_RC);
}

static void uc(void **state)
{
	sweep_type(IBV_QPT_UC);
}

static void ud(void **state)
{
	sweep_type(IBV_QPT_UD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rc),
		cmocka_unit_test(uc),
		cmocka_unit_test(ud),
	};

	return cmocka_run_group_tests_name("every_packet", tests, NULL, NULL);
}
