/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The opcode table: what each of the 256 BTH opcodes is and carries. Everything that
 * parses, builds or dispatches packets asks this table and nothing else.
 *
 * Source: IBTA volume 1, table 38 (opcodes) and 9.3 (order of the headers); annex A17.9.3
 * (CNP). Reliable datagrams are absent: no RoCE device speaks them.
 */
#include "packet.h"

#define SIZE_OF(flags, header, size) (((flags) & (header)) ? (size) : 0)
#define HDR_SIZE(flags)                                                             \
	(WIRE_BTH_SIZE + SIZE_OF(flags, WIRE_HAS_DETH, WIRE_DETH_SIZE) +            \
		SIZE_OF(flags, WIRE_HAS_RETH, WIRE_RETH_SIZE) +                     \
		SIZE_OF(flags, WIRE_HAS_ATOMIC_ETH, WIRE_ATOMIC_ETH_SIZE) +         \
		SIZE_OF(flags, WIRE_HAS_AETH, WIRE_AETH_SIZE) +                     \
		SIZE_OF(flags, WIRE_HAS_ATOMIC_ACK_ETH, WIRE_ATOMIC_ACK_ETH_SIZE) + \
		SIZE_OF(flags, WIRE_HAS_IMM, WIRE_IMM_SIZE) +                       \
		SIZE_OF(flags, WIRE_HAS_IETH, WIRE_IETH_SIZE) +                     \
		SIZE_OF(flags, WIRE_IS_CNP, WIRE_CNP_RESERVED))

#define ROW(service, operation, text, what) \
	[WIRE_OPCODE(service, operation)] = {text, (what), HDR_SIZE(what)}

#define FIRST  WIRE_IS_FIRST
#define MIDDLE 0
#define LAST   WIRE_IS_LAST
#define ONLY   (WIRE_IS_FIRST | WIRE_IS_LAST)
#define SEND   (WIRE_IS_SEND | WIRE_HAS_PAYLOAD)
#define WRITE  (WIRE_IS_WRITE | WIRE_HAS_PAYLOAD)
#define RESP   (WIRE_IS_READ_RESP | WIRE_HAS_PAYLOAD)
#define IMM    WIRE_HAS_IMM
#define IETH   WIRE_HAS_IETH
#define RETH   WIRE_HAS_RETH
#define AETH   WIRE_HAS_AETH
#define DETH   WIRE_HAS_DETH

/* RC and UC have these in common. */
#define CONNECTED(service, prefix)                                                       \
	ROW(service, WIRE_SEND_FIRST, prefix "_send_first", SEND | FIRST),               \
		ROW(service, WIRE_SEND_MIDDLE, prefix "_send_middle", SEND | MIDDLE),    \
		ROW(service, WIRE_SEND_LAST, prefix "_send_last", SEND | LAST),          \
		ROW(service, WIRE_SEND_LAST_IMM, prefix "_send_last_imm",                \
			SEND | LAST | IMM),                                              \
		ROW(service, WIRE_SEND_ONLY, prefix "_send_only", SEND | ONLY),          \
		ROW(service, WIRE_SEND_ONLY_IMM, prefix "_send_only_imm",                \
			SEND | ONLY | IMM),                                              \
		ROW(service, WIRE_WRITE_FIRST, prefix "_write_first",                    \
			WRITE | FIRST | RETH),                                           \
		ROW(service, WIRE_WRITE_MIDDLE, prefix "_write_middle", WRITE | MIDDLE), \
		ROW(service, WIRE_WRITE_LAST, prefix "_write_last", WRITE | LAST),       \
		ROW(service, WIRE_WRITE_LAST_IMM, prefix "_write_last_imm",              \
			WRITE | LAST | IMM),                                             \
		ROW(service, WIRE_WRITE_ONLY, prefix "_write_only",                      \
			WRITE | ONLY | RETH),                                            \
		ROW(service, WIRE_WRITE_ONLY_IMM, prefix "_write_only_imm",              \
			WRITE | ONLY | RETH | IMM)

const struct wire_opcode wire_opcodes[256] = {
	CONNECTED(WIRE_RC, "rc"),
	ROW(WIRE_RC, WIRE_READ_REQUEST, "rc_read_request", WIRE_IS_READ | ONLY | RETH),
	ROW(WIRE_RC, WIRE_READ_RESP_FIRST, "rc_read_resp_first", RESP | FIRST | AETH),
	ROW(WIRE_RC, WIRE_READ_RESP_MIDDLE, "rc_read_resp_middle", RESP | MIDDLE),
	ROW(WIRE_RC, WIRE_READ_RESP_LAST, "rc_read_resp_last", RESP | LAST | AETH),
	ROW(WIRE_RC, WIRE_READ_RESP_ONLY, "rc_read_resp_only", RESP | ONLY | AETH),
	ROW(WIRE_RC, WIRE_ACK, "rc_ack", WIRE_IS_ACK | ONLY | AETH),
	ROW(WIRE_RC, WIRE_ATOMIC_ACK, "rc_atomic_ack",
		WIRE_IS_ATOMIC_ACK | ONLY | AETH | WIRE_HAS_ATOMIC_ACK_ETH),
	ROW(WIRE_RC, WIRE_COMPARE_SWAP, "rc_compare_swap",
		WIRE_IS_ATOMIC | ONLY | WIRE_HAS_ATOMIC_ETH),
	ROW(WIRE_RC, WIRE_FETCH_ADD, "rc_fetch_add",
		WIRE_IS_ATOMIC | ONLY | WIRE_HAS_ATOMIC_ETH),
	ROW(WIRE_RC, WIRE_SEND_LAST_INV, "rc_send_last_inv", SEND | LAST | IETH),
	ROW(WIRE_RC, WIRE_SEND_ONLY_INV, "rc_send_only_inv", SEND | ONLY | IETH),

	CONNECTED(WIRE_UC, "uc"),

	ROW(WIRE_UD, WIRE_SEND_ONLY, "ud_send_only", SEND | ONLY | DETH),
	ROW(WIRE_UD, WIRE_SEND_ONLY_IMM, "ud_send_only_imm", SEND | ONLY | DETH | IMM),

	[WIRE_OPCODE_CNP] = {"cnp", WIRE_IS_CNP | ONLY, HDR_SIZE(WIRE_IS_CNP)},
};
