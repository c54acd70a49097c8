/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RoCEv2 packets for the model of the responder: taken apart and put together anew from
 * the specification (IBTA volume 1: table 38, 9.2, 9.3; annex A17), so that a mistake of
 * rdma/wire is not made here as well.
 *
 * What an opcode is stands in a text, its form. One letter says what it does:
 *   S SEND, W WRITE, R READ, C compare and swap, F fetch and add,
 *   r READ response, a acknowledge, x atomic acknowledge, N congestion notification;
 * brackets say where it stands in its message: ( begins it, ) ends it; and then come the
 * headers behind BTH, in order, and a dot if data may follow:
 *   D DETH, T RETH, O AtomicETH, A AETH, V AtomicAckETH, I ImmDt, K IETH, Z 16 zeros
 */
#ifndef TESTS_UNIT_MODEL_PACKET_H
#define TESTS_UNIT_MODEL_PACKET_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MP_MAX 4400 /* bytes of any packet in the tests */
#define MP_CNP 0x81 /* opcode of a congestion notification */

struct mp {
	uint8_t opcode;
	const char *form;
	bool solicited, ack_req, becn;
	uint8_t version;
	uint8_t pad;
	uint16_t pkey;
	uint32_t qpn, psn;
	uint32_t qkey, src_qpn;
	uint64_t va;
	uint32_t key, length; /* RETH and AtomicETH; IETH's is to_invalidate */
	uint64_t swap_add, compare;
	uint8_t syndrome;
	uint32_t msn;
	uint64_t original;
	uint8_t imm[4];
	uint32_t to_invalidate;
	const uint8_t *data;
	uint32_t n_data; /* bytes, pad not counted */
};

/* NULL if there is no such opcode */
const char *mp_form(uint8_t opcode);

static inline bool mp_has(const struct mp *p, char letter)
{
	return strchr(p->form, letter);
}

/* 3 bits of service: 0 RC, 1 UC, 3 UD */
static inline int mp_service(const struct mp *p)
{
	return p->opcode >> 5;
}

/* Return: false if it is no packet at all */
bool mp_parse(const uint8_t *bytes, uint32_t size, struct mp *p);

/* BTH and the headers of p->opcode, then p->n_data bytes from p->data (or none where the
 * opcode has none), then the pad. Return: bytes written
 */
uint32_t mp_build(const struct mp *p, uint8_t *bytes);

#endif
