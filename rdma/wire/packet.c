/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parsing and building of RoCEv2 headers, both led by the opcode table (opcode.c). The
 * order of the steps below is the order of the headers on the wire; offsets within each
 * are drawn in packet.h.
 */
#include "packet.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "be.h"

/* BTH byte 1 */
#define BTH_SOLICITED 0x80
#define BTH_MIG_REQ   0x40
#define BTH_PAD_SHIFT 4
#define BTH_PAD_MASK  0x3
#define BTH_TVER_MASK 0x0f
/* BTH byte 4 */
#define BTH_FECN 0x80
#define BTH_BECN 0x40
/* BTH byte 8 */
#define BTH_ACK_REQ 0x80

static void bth_get(const uint8_t *p, struct wire_packet *out)
{
	out->opcode = p[0];
	out->solicited = p[1] & BTH_SOLICITED;
	out->mig_req = p[1] & BTH_MIG_REQ;
	out->pad = p[1] >> BTH_PAD_SHIFT & BTH_PAD_MASK;
	out->pkey = be_get16(p + 2);
	out->fecn = p[4] & BTH_FECN;
	out->becn = p[4] & BTH_BECN;
	out->dest_qpn = be_get24(p + 5);
	out->ack_req = p[8] & BTH_ACK_REQ;
	out->psn = be_get24(p + 9);
}

static void bth_put(uint8_t *p, const struct wire_packet *pkt)
{
	p[0] = pkt->opcode;
	p[1] = (uint8_t)((pkt->solicited ? BTH_SOLICITED : 0) |
			 (pkt->mig_req ? BTH_MIG_REQ : 0) |
			 (pkt->pad & BTH_PAD_MASK) << BTH_PAD_SHIFT);
	be_put16(p + 2, pkt->pkey);
	p[4] = (uint8_t)((pkt->fecn ? BTH_FECN : 0) | (pkt->becn ? BTH_BECN : 0));
	be_put24(p + 5, pkt->dest_qpn);
	p[8] = pkt->ack_req ? BTH_ACK_REQ : 0;
	be_put24(p + 9, pkt->psn);
}

/* The headers behind BTH; the caller has checked that all of them are there. */
static void extended_get(const uint8_t *p, uint32_t flags, struct wire_packet *out)
{
	if (flags & WIRE_HAS_DETH) {
		out->qkey = be_get32(p);
		out->src_qpn = be_get24(p + 5);
		p += WIRE_DETH_SIZE;
	}
	if (flags & WIRE_HAS_RETH) {
		out->va = be_get64(p);
		out->rkey = be_get32(p + 8);
		out->dma_len = be_get32(p + 12);
		p += WIRE_RETH_SIZE;
	}
	if (flags & WIRE_HAS_ATOMIC_ETH) {
		out->va = be_get64(p);
		out->rkey = be_get32(p + 8);
		out->swap_add = be_get64(p + 12);
		out->compare = be_get64(p + 20);
		p += WIRE_ATOMIC_ETH_SIZE;
	}
	if (flags & WIRE_HAS_AETH) {
		out->syndrome = p[0];
		out->msn = be_get24(p + 1);
		p += WIRE_AETH_SIZE;
	}
	if (flags & WIRE_HAS_ATOMIC_ACK_ETH) {
		out->orig_data = be_get64(p);
		p += WIRE_ATOMIC_ACK_ETH_SIZE;
	}
	if (flags & WIRE_HAS_IMM) {
		memcpy(&out->imm_be, p, WIRE_IMM_SIZE);
		p += WIRE_IMM_SIZE;
	}
	if (flags & WIRE_HAS_IETH)
		out->rkey = be_get32(p);
}

int wire_parse(const uint8_t *buf, size_t size, struct wire_packet *out)
{
	const struct wire_opcode *op;

	*out = (struct wire_packet){0};
	if (size < WIRE_BTH_SIZE)
		return -EINVAL;
	op = &wire_opcodes[buf[0]];
	if (!op->name || buf[1] & BTH_TVER_MASK)
		return -EINVAL;
	bth_get(buf, out);
	if (size < (size_t)op->hdr_size + out->pad)
		return -EINVAL;
	if (!(op->flags & WIRE_HAS_PAYLOAD) && size != op->hdr_size)
		return -EINVAL;

	extended_get(buf + WIRE_BTH_SIZE, op->flags, out);
	out->payload = buf + op->hdr_size;
	out->payload_len = (uint32_t)(size - op->hdr_size - out->pad);
	return 0;
}

static uint8_t *extended_put(uint8_t *p, uint32_t flags, const struct wire_packet *pkt)
{
	if (flags & WIRE_HAS_DETH) {
		be_put32(p, pkt->qkey);
		be_put32(p + 4, pkt->src_qpn & WIRE_24BIT);
		p += WIRE_DETH_SIZE;
	}
	if (flags & WIRE_HAS_RETH) {
		be_put64(p, pkt->va);
		be_put32(p + 8, pkt->rkey);
		be_put32(p + 12, pkt->dma_len);
		p += WIRE_RETH_SIZE;
	}
	if (flags & WIRE_HAS_ATOMIC_ETH) {
		be_put64(p, pkt->va);
		be_put32(p + 8, pkt->rkey);
		be_put64(p + 12, pkt->swap_add);
		be_put64(p + 20, pkt->compare);
		p += WIRE_ATOMIC_ETH_SIZE;
	}
	if (flags & WIRE_HAS_AETH) {
		p[0] = pkt->syndrome;
		be_put24(p + 1, pkt->msn);
		p += WIRE_AETH_SIZE;
	}
	if (flags & WIRE_HAS_ATOMIC_ACK_ETH) {
		be_put64(p, pkt->orig_data);
		p += WIRE_ATOMIC_ACK_ETH_SIZE;
	}
	if (flags & WIRE_HAS_IMM) {
		memcpy(p, &pkt->imm_be, WIRE_IMM_SIZE);
		p += WIRE_IMM_SIZE;
	}
	if (flags & WIRE_HAS_IETH) {
		be_put32(p, pkt->rkey);
		p += WIRE_IETH_SIZE;
	}
	if (flags & WIRE_IS_CNP) {
		memset(p, 0, WIRE_CNP_RESERVED);
		p += WIRE_CNP_RESERVED;
	}
	return p;
}

size_t wire_build(const struct wire_packet *pkt, uint8_t *buf)
{
	const struct wire_opcode *op = &wire_opcodes[pkt->opcode];
	uint8_t *end;

	assert(op->name);
	bth_put(buf, pkt);
	end = extended_put(buf + WIRE_BTH_SIZE, op->flags, pkt);
	assert(end - buf == op->hdr_size);
	return op->hdr_size;
}
