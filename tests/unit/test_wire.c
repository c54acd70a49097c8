/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma/wire: the opcode table against the specification's, parsing and building of every
 * opcode at every length, PSN arithmetic, the ICRC against published packets.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/util.h"
#include "rdma/wire/icrc.h"
#include "rdma/wire/packet.h"
#include "rdma/wire/psn.h"

/*
 * IBTA volume 1, table 38, as numbers, so that a slip in packet.h shows: the opcode, the
 * sizes of BTH and extended headers together, and what the packet is:
 *   place: first, middle, last, only
 *   kind:  send, write, read request, Read response, ack, Atomic ack, x: atomic, cnp
 */
struct spec_row {
	uint8_t opcode;
	uint8_t size;
	char place;
	char kind;
	bool payload;
};

static const struct spec_row spec[] = {
	/* RC */
	{0x00, 12, 'f', 's', true},
	{0x01, 12, 'm', 's', true},
	{0x02, 12, 'l', 's', true},
	{0x03, 12 + 4, 'l', 's', true},
	{0x04, 12, 'o', 's', true},
	{0x05, 12 + 4, 'o', 's', true},
	{0x06, 12 + 16, 'f', 'w', true},
	{0x07, 12, 'm', 'w', true},
	{0x08, 12, 'l', 'w', true},
	{0x09, 12 + 4, 'l', 'w', true},
	{0x0a, 12 + 16, 'o', 'w', true},
	{0x0b, 12 + 16 + 4, 'o', 'w', true},
	{0x0c, 12 + 16, 'o', 'r', false},
	{0x0d, 12 + 4, 'f', 'R', true},
	{0x0e, 12, 'm', 'R', true},
	{0x0f, 12 + 4, 'l', 'R', true},
	{0x10, 12 + 4, 'o', 'R', true},
	{0x11, 12 + 4, 'o', 'a', false},
	{0x12, 12 + 4 + 8, 'o', 'A', false},
	{0x13, 12 + 28, 'o', 'x', false},
	{0x14, 12 + 28, 'o', 'x', false},
	{0x16, 12 + 4, 'l', 's', true},
	{0x17, 12 + 4, 'o', 's', true},
	/* UC */
	{0x20, 12, 'f', 's', true},
	{0x21, 12, 'm', 's', true},
	{0x22, 12, 'l', 's', true},
	{0x23, 12 + 4, 'l', 's', true},
	{0x24, 12, 'o', 's', true},
	{0x25, 12 + 4, 'o', 's', true},
	{0x26, 12 + 16, 'f', 'w', true},
	{0x27, 12, 'm', 'w', true},
	{0x28, 12, 'l', 'w', true},
	{0x29, 12 + 4, 'l', 'w', true},
	{0x2a, 12 + 16, 'o', 'w', true},
	{0x2b, 12 + 16 + 4, 'o', 'w', true},
	/* UD */
	{0x64, 12 + 8, 'o', 's', true},
	{0x65, 12 + 8 + 4, 'o', 's', true},
	/* CNP: sixteen reserved bytes */
	{0x81, 12 + 16, 'o', 'c', false},
};

static const struct spec_row *spec_find(unsigned int opcode)
{
	for (size_t i = 0; i < ARRAY_SIZE(spec); i++) {
		if (spec[i].opcode == opcode)
			return &spec[i];
	}
	return NULL;
}

static char place_of(uint32_t flags)
{
	bool first = flags & WIRE_IS_FIRST, last = flags & WIRE_IS_LAST;

	return first && last ? 'o' : first ? 'f' : last ? 'l' : 'm';
}

/* Exactly one kind, or '?'. */
static char kind_of(uint32_t flags)
{
	static const struct {
		uint32_t flag;
		char kind;
	} kinds[] = {
		{WIRE_IS_SEND, 's'},
		{WIRE_IS_WRITE, 'w'},
		{WIRE_IS_READ, 'r'},
		{WIRE_IS_ATOMIC, 'x'},
		{WIRE_IS_READ_RESP, 'R'},
		{WIRE_IS_ACK, 'a'},
		{WIRE_IS_ATOMIC_ACK, 'A'},
		{WIRE_IS_CNP, 'c'},
	};
	char kind = '?';
	int n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (flags & kinds[i].flag) {
			kind = kinds[i].kind;
			n++;
		}
	}
	return n == 1 ? kind : '?';
}

static void test_opcode_table(void **state)
{
	for (unsigned int i = 0; i < 256; i++) {
		const struct wire_opcode *op = &wire_opcodes[i];
		const struct spec_row *row = spec_find(i);

		if (!row) {
			assert_null(op->name);
			assert_int_equal(op->flags, 0);
			assert_int_equal(op->hdr_size, 0);
			continue;
		}
		assert_non_null(op->name);
		assert_int_equal(op->hdr_size, row->size);
		assert_in_range(op->hdr_size, WIRE_BTH_SIZE, WIRE_HDR_MAX);
		assert_int_equal(place_of(op->flags), row->place);
		assert_int_equal(kind_of(op->flags), row->kind);
		assert_int_equal(!!(op->flags & WIRE_HAS_PAYLOAD), row->payload);
	}
}

/* Each field set to something that shows when it moves or is cut. */
static struct wire_packet full_packet(uint8_t opcode)
{
	return (struct wire_packet){
		.opcode = opcode,
		.solicited = true,
		.ack_req = true,
		.becn = true,
		.pkey = 0x8123,
		.dest_qpn = 0xfedcba,
		.psn = 0x876543,
		.syndrome = 0x61,
		.msn = 0x9abcde,
		.qkey = 0x80010000,
		.src_qpn = 0xa1b2c3,
		.va = 0xfedcba9876543210ull,
		.rkey = 0x89abcdef,
		.dma_len = 0x80000001,
		.imm_be = 0x12345678,
		.swap_add = 0x8877665544332211ull,
		.compare = 0xf0e0d0c0b0a09080ull,
		.orig_data = 0x8192a3b4c5d6e7f8ull,
	};
}

static void assert_same_bth(const struct wire_packet *a, const struct wire_packet *b)
{
	assert_int_equal(a->opcode, b->opcode);
	assert_int_equal(a->solicited, b->solicited);
	assert_int_equal(a->mig_req, b->mig_req);
	assert_int_equal(a->ack_req, b->ack_req);
	assert_int_equal(a->fecn, b->fecn);
	assert_int_equal(a->becn, b->becn);
	assert_int_equal(a->pad, b->pad);
	assert_int_equal(a->pkey, b->pkey);
	assert_int_equal(a->dest_qpn, b->dest_qpn);
	assert_int_equal(a->psn, b->psn);
}

static void assert_same_extended(const struct wire_packet *a, const struct wire_packet *b)
{
	uint32_t flags = wire_opcodes[a->opcode].flags;

	if (flags & WIRE_HAS_DETH) {
		assert_int_equal(a->qkey, b->qkey);
		assert_int_equal(a->src_qpn, b->src_qpn);
	}
	if (flags & (WIRE_HAS_RETH | WIRE_HAS_ATOMIC_ETH))
		assert_int_equal(a->va, b->va);
	if (flags & (WIRE_HAS_RETH | WIRE_HAS_ATOMIC_ETH | WIRE_HAS_IETH))
		assert_int_equal(a->rkey, b->rkey);
	if (flags & WIRE_HAS_RETH)
		assert_int_equal(a->dma_len, b->dma_len);
	if (flags & WIRE_HAS_ATOMIC_ETH) {
		assert_int_equal(a->swap_add, b->swap_add);
		assert_int_equal(a->compare, b->compare);
	}
	if (flags & WIRE_HAS_AETH) {
		assert_int_equal(a->syndrome, b->syndrome);
		assert_int_equal(a->msn, b->msn);
	}
	if (flags & WIRE_HAS_ATOMIC_ACK_ETH)
		assert_int_equal(a->orig_data, b->orig_data);
	if (flags & WIRE_HAS_IMM)
		assert_int_equal(a->imm_be, b->imm_be);
}

static void test_round_trip(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(spec); i++) {
		struct wire_packet in = full_packet(spec[i].opcode), out;
		uint8_t buf[WIRE_HDR_MAX + 8] = {0};
		size_t size, payload = spec[i].payload ? 8 : 0;

		in.pad = spec[i].payload ? 3 : 0;
		size = wire_build(&in, buf);
		assert_int_equal(size, spec[i].size);
		assert_int_equal(wire_parse(buf, size + payload, &out), 0);
		assert_same_bth(&in, &out);
		assert_same_extended(&in, &out);
		assert_int_equal(out.payload_len, payload - in.pad);
		assert_ptr_equal(out.payload, buf + size);
	}
}

/* Each bit of BTH that has a meaning moves exactly one field. */
static void test_bth_bits(void **state)
{
	uint8_t buf[WIRE_BTH_SIZE] = {0x04};
	struct wire_packet pkt;

	buf[1] = 0x80;
	assert_int_equal(wire_parse(buf, sizeof(buf), &pkt), 0);
	assert_true(pkt.solicited && !pkt.mig_req && pkt.pad == 0);
	buf[1] = 0x40;
	assert_int_equal(wire_parse(buf, sizeof(buf), &pkt), 0);
	assert_true(!pkt.solicited && pkt.mig_req && pkt.pad == 0);
	buf[1] = 0x00;
	buf[4] = 0x80;
	assert_int_equal(wire_parse(buf, sizeof(buf), &pkt), 0);
	assert_true(pkt.fecn && !pkt.becn);
	buf[4] = 0x40;
	assert_int_equal(wire_parse(buf, sizeof(buf), &pkt), 0);
	assert_true(!pkt.fecn && pkt.becn);
	buf[4] = 0x3f; /* reserved: ignored */
	buf[8] = 0x7f; /* reserved: ignored */
	assert_int_equal(wire_parse(buf, sizeof(buf), &pkt), 0);
	assert_true(!pkt.fecn && !pkt.becn && !pkt.ack_req);
	buf[8] = 0x80;
	assert_int_equal(wire_parse(buf, sizeof(buf), &pkt), 0);
	assert_true(pkt.ack_req);
	for (int tver = 1; tver < 16; tver++) {
		buf[1] = (uint8_t)tver;
		assert_int_equal(wire_parse(buf, sizeof(buf), &pkt), -EINVAL);
	}
}

static bool parse_should_succeed(
	const struct spec_row *row, size_t size, unsigned int pad)
{
	if (!row)
		return false;
	return row->payload ? size >= row->size + pad : size == row->size && pad == 0;
}

static void parse_check(uint8_t *buf, size_t size, const struct spec_row *row,
	uint8_t opcode, unsigned int pad)
{
	bool good = parse_should_succeed(row, size, pad);
	struct wire_packet pkt;

	memset(buf, 0xa5, size);
	if (size > 0)
		buf[0] = opcode;
	if (size > 1)
		buf[1] = (uint8_t)(pad << 4);
	assert_int_equal(wire_parse(buf, size, &pkt), good ? 0 : -EINVAL);
	if (good)
		assert_int_equal(row->size + pkt.payload_len + pad, size);
}

/* Buffers of exactly the packet's size: a sanitizer build sees reads past the end. */
static void test_every_opcode_every_length(void **state)
{
	for (unsigned int opcode = 0; opcode < 256; opcode++) {
		const struct spec_row *row = spec_find(opcode);

		for (size_t size = 0; size <= 200; size++) {
			uint8_t *buf = malloc(size ? size : 1);

			assert_non_null(buf);
			for (unsigned int pad = 0; pad <= 3; pad++)
				parse_check(buf, size, row, (uint8_t)opcode, pad);
			free(buf);
		}
	}
}

static void test_psn(void **state)
{
	assert_int_equal(psn_add(0xffffff, 1), 0);
	assert_int_equal(psn_add(0, 0xffffff), 0xffffff);
	assert_int_equal(psn_add(0xfffff0, 0x20), 0x10);
	assert_int_equal(psn_diff(5, 3), 2);
	assert_int_equal(psn_diff(3, 5), -2);
	assert_int_equal(psn_diff(1, 0xffffff), 2);
	assert_int_equal(psn_diff(0xffffff, 1), -2);
	assert_int_equal(psn_diff(0x7fffff, 0), 0x7fffff);
	assert_int_equal(psn_diff(0x800000, 0), -0x800000);
	assert_int_equal(psn_diff(0, 0x800000), -0x800000);
}

static struct wire_flow ipv4_flow(
	const uint8_t src[4], const uint8_t dst[4], uint16_t sport)
{
	struct wire_flow flow = {
		.src = {[10] = 0xff, 0xff},
		.dst = {[10] = 0xff, 0xff},
		.sport = sport,
		.dport = WIRE_UDP_PORT,
	};

	memcpy(flow.src + 12, src, 4);
	memcpy(flow.dst + 12, dst, 4);
	return flow;
}

static void assert_icrc(const struct wire_flow *flow, uint16_t ip_id, const uint8_t *pkt,
	size_t hdr_len, size_t size, const uint8_t expected[4])
{
	uint32_t crc = icrc_begin(flow, ip_id, pkt, hdr_len, size + WIRE_ICRC_SIZE);
	uint8_t icrc[4];

	icrc_end(icrc_add(crc, pkt + hdr_len, size - hdr_len), icrc);
	assert_memory_equal(icrc, expected, 4);
}

/* scapy, test/contrib/roce.uts, "RoCE layer": a UC SEND Only */
static void test_icrc_uc_send(void **state)
{
	static const uint8_t src[4] = {192, 168, 0, 7};
	static const uint8_t icrc[4] = {0x78, 0xf3, 0x53, 0xf3};
	static const uint8_t payload[] = {0x46, 0x30, 0x81, 0x8b, 0xe2, 0x89, 0x35, 0xd9,
		0x0e, 0x9a, 0x95, 0x50, 0x54, 0x01, 0xbe, 0x88, 0x5e, 0x50, 0x00, 0x00};
	struct wire_packet pkt = {.opcode = WIRE_OPCODE(WIRE_UC, WIRE_SEND_ONLY),
		.mig_req = true,
		.pad = 2,
		.pkey = 0xffff,
		.dest_qpn = 211,
		.psn = 13571856};
	struct wire_flow flow = ipv4_flow(src, src, 49152);
	uint8_t buf[WIRE_BTH_SIZE + sizeof(payload)];

	assert_int_equal(wire_build(&pkt, buf), WIRE_BTH_SIZE);
	memcpy(buf + WIRE_BTH_SIZE, payload, sizeof(payload));
	for (size_t hdr_len = WIRE_BTH_SIZE; hdr_len <= sizeof(buf); hdr_len++)
		assert_icrc(&flow, 1144, buf, hdr_len, sizeof(buf), icrc);
}

/* scapy, test/contrib/roce.uts, "RoCE CNP captured on ConnectX-4 Lx" */
static void test_icrc_cnp(void **state)
{
	static const uint8_t src[4] = {10, 0, 17, 1}, dst[4] = {10, 0, 18, 1};
	static const uint8_t icrc[4] = {0x82, 0xfd, 0x00, 0x2a};
	static const uint8_t bth[] = {
		0x81, 0x00, 0xff, 0xff, 0x40, 0x00, 0x01, 0x18, 0x00, 0x00, 0x00, 0x00};
	struct wire_packet pkt = {.opcode = WIRE_OPCODE_CNP,
		.becn = true,
		.pkey = 0xffff,
		.dest_qpn = 0x118};
	struct wire_flow flow = ipv4_flow(src, dst, 0);
	uint8_t buf[WIRE_HDR_MAX];
	size_t size = wire_build(&pkt, buf);

	assert_int_equal(size, 28);
	assert_memory_equal(buf, bth, sizeof(bth));
	assert_icrc(&flow, 0x718c, buf, size, size, icrc);
	/* FECN, BECN and the bits beside them may change on the way */
	buf[4] = 0x93;
	assert_icrc(&flow, 0x718c, buf, size, size, icrc);
}

/* CRC-32 bit by bit, over an IPv6 packet written out here: nothing shared with icrc.c. */
static uint32_t slow_crc(const uint8_t *p, size_t size)
{
	uint32_t crc = ~0u;

	while (size--) {
		crc ^= *p++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

static void test_icrc_ipv6(void **state)
{
	uint8_t raw[8 + 40 + 8 + 12 + 8], icrc[4], expected[4];
	struct wire_flow flow = {.src = {0xfd, [15] = 1},
		.dst = {0xfd, [15] = 2},
		.sport = 0xc123,
		.dport = WIRE_UDP_PORT};
	struct wire_packet pkt = {.opcode = 0x04, .pad = 3, .pkey = 0xffff, .psn = 7};
	uint8_t *p = raw, *bth = raw + 8 + 40 + 8;
	uint32_t crc;

	memset(p, 0xff, 8);
	p += 8;
	memcpy(p, (uint8_t[]){0x6f, 0xff, 0xff, 0xff, 0, 32, 17, 0xff}, 8);
	memcpy(p + 8, flow.src, 16);
	memcpy(p + 24, flow.dst, 16);
	p += 40;
	memcpy(p, (uint8_t[]){0xc1, 0x23, 0x12, 0xb7, 0, 32, 0xff, 0xff}, 8);
	wire_build(&pkt, bth);
	memcpy(bth + 12, "hello\0\0\0", 8);

	crc = icrc_begin(&flow, 0x1234, bth, 12, 24);
	icrc_end(icrc_add(crc, bth + 12, 8), icrc);
	bth[4] = 0xff;
	crc = slow_crc(raw, sizeof(raw));
	for (int i = 0; i < 4; i++)
		expected[i] = (uint8_t)(crc >> 8 * i);
	assert_memory_equal(icrc, expected, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_opcode_table),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_bth_bits),
		cmocka_unit_test(test_every_opcode_every_length),
		cmocka_unit_test(test_psn),
		cmocka_unit_test(test_icrc_uc_send),
		cmocka_unit_test(test_icrc_cnp),
		cmocka_unit_test(test_icrc_ipv6),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
