/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Any bytes as a packet: the parser reads nothing behind them, and what it takes for a
 * packet it can build again. Bits that are reserved do not survive.
 */
#include <stdlib.h>
#include <string.h>

#include "rdma/wire/packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

/* The headers of @data with the reserved bits cleared, as BTH and DETH have them. */
static void reserved_clear(
	const uint8_t *data, const struct wire_opcode *op, uint8_t *hdr)
{
	memcpy(hdr, data, op->hdr_size);
	hdr[4] &= 0xc0;
	hdr[8] &= 0x80;
	if (op->flags & WIRE_HAS_DETH)
		hdr[WIRE_BTH_SIZE + 4] = 0;
	if (op->flags & WIRE_IS_CNP)
		memset(hdr + WIRE_BTH_SIZE, 0, WIRE_CNP_RESERVED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t expected[WIRE_HDR_MAX], built[WIRE_HDR_MAX];
	const struct wire_opcode *op;
	struct wire_packet pkt;

	if (wire_parse(data, size, &pkt) < 0)
		return 0;
	op = &wire_opcodes[pkt.opcode];
	check(op->name && op->hdr_size + pkt.payload_len + pkt.pad == size);
	check(pkt.payload == data + op->hdr_size);
	check(wire_build(&pkt, built) == op->hdr_size);
	reserved_clear(data, op, expected);
	check(!memcmp(built, expected, op->hdr_size));
	return 0;
}
