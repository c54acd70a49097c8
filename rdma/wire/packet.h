/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RoCEv2 packets: the opcode table, the headers behind UDP, and their parsing and
 * building. Pure: bytes in, structs out. The invariant CRC is in icrc.h, PSN
 * arithmetic in psn.h.
 *
 * Source: InfiniBand Architecture Specification volume 1, chapter 9 (transport),
 * annex A17 (RoCEv2). Byte offsets on the wire, all fields big-endian:
 *
 *   BTH (9.2), 12 bytes                    RETH (9.3.3), 16 bytes
 *   0  opcode                              0  virtual address      (64)
 *   1  SE(1) M(1) pad(2) tver(4)           8  rkey                 (32)
 *   2  partition key (16)                  12 DMA length           (32)
 *   4  FECN(1) BECN(1) reserved(6)
 *   5  destination QP (24)                 AETH (9.3.5), 4 bytes
 *   8  A(1) reserved(7)                    0  syndrome
 *   9  PSN (24)                            1  MSN (24)
 *
 *   DETH (9.3.2), 8 bytes                  AtomicETH (9.3.4), 28 bytes
 *   0  Q_Key (32)                          0  virtual address      (64)
 *   4  reserved                            8  rkey                 (32)
 *   5  source QP (24)                      12 swap or add data     (64)
 *                                          20 compare data         (64)
 *   ImmDt 4, IETH 4 (an rkey), AtomicAckETH 8 (original data)
 */
#ifndef RDMA_WIRE_PACKET_H
#define RDMA_WIRE_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_UDP_PORT		 4791
#define WIRE_BTH_SIZE		 12
#define WIRE_DETH_SIZE		 8
#define WIRE_RETH_SIZE		 16
#define WIRE_ATOMIC_ETH_SIZE	 28
#define WIRE_AETH_SIZE		 4
#define WIRE_ATOMIC_ACK_ETH_SIZE 8
#define WIRE_IMM_SIZE		 4
#define WIRE_IETH_SIZE		 4
#define WIRE_CNP_RESERVED	 16 /* zeros behind the BTH of a CNP (A17.9.3) */
#define WIRE_ICRC_SIZE		 4
#define WIRE_PKEY_DEFAULT	 0xffff
#define WIRE_QPN_MULTICAST	 0xffffff
#define WIRE_24BIT		 0xffffffu
/* The longest header chain of one packet: BTH, RETH, ImmDt; or BTH, AtomicETH. */
#define WIRE_HDR_MAX 40

/* Opcodes: service in the upper 3 bits, operation in the lower 5 (table 38). */
enum wire_service {
	WIRE_RC = 0,
	WIRE_UC = 1,
	WIRE_RD = 2,
	WIRE_UD = 3,
	WIRE_CNP = 4,
};

enum wire_operation {
	WIRE_SEND_FIRST = 0x00,
	WIRE_SEND_MIDDLE = 0x01,
	WIRE_SEND_LAST = 0x02,
	WIRE_SEND_LAST_IMM = 0x03,
	WIRE_SEND_ONLY = 0x04,
	WIRE_SEND_ONLY_IMM = 0x05,
	WIRE_WRITE_FIRST = 0x06,
	WIRE_WRITE_MIDDLE = 0x07,
	WIRE_WRITE_LAST = 0x08,
	WIRE_WRITE_LAST_IMM = 0x09,
	WIRE_WRITE_ONLY = 0x0a,
	WIRE_WRITE_ONLY_IMM = 0x0b,
	WIRE_READ_REQUEST = 0x0c,
	WIRE_READ_RESP_FIRST = 0x0d,
	WIRE_READ_RESP_MIDDLE = 0x0e,
	WIRE_READ_RESP_LAST = 0x0f,
	WIRE_READ_RESP_ONLY = 0x10,
	WIRE_ACK = 0x11,
	WIRE_ATOMIC_ACK = 0x12,
	WIRE_COMPARE_SWAP = 0x13,
	WIRE_FETCH_ADD = 0x14,
	WIRE_SEND_LAST_INV = 0x16,
	WIRE_SEND_ONLY_INV = 0x17,
};

#define WIRE_OPCODE(service, operation) ((uint8_t)((service) << 5 | (operation)))
/* Congestion notification packet (annex A17): service 4, operation 1. */
#define WIRE_OPCODE_CNP 0x81

/* What an opcode is; enum wire_flag values combine in wire_opcode.flags. */
enum wire_flag {
	/* its headers behind BTH, in this order on the wire */
	WIRE_HAS_DETH = 1 << 0,
	WIRE_HAS_RETH = 1 << 1,
	WIRE_HAS_ATOMIC_ETH = 1 << 2,
	WIRE_HAS_AETH = 1 << 3,
	WIRE_HAS_ATOMIC_ACK_ETH = 1 << 4,
	WIRE_HAS_IMM = 1 << 5,
	WIRE_HAS_IETH = 1 << 6,
	/* its place in a message: ONLY is FIRST and LAST, MIDDLE is neither */
	WIRE_IS_FIRST = 1 << 8,
	WIRE_IS_LAST = 1 << 9,
	/* what it does; the last four are responses, the others requests */
	WIRE_IS_SEND = 1 << 10,
	WIRE_IS_WRITE = 1 << 11,
	WIRE_IS_READ = 1 << 12,
	WIRE_IS_ATOMIC = 1 << 13,
	WIRE_IS_READ_RESP = 1 << 14,
	WIRE_IS_ACK = 1 << 15,
	WIRE_IS_ATOMIC_ACK = 1 << 16,
	WIRE_IS_CNP = 1 << 17,
	/* payload may follow the headers */
	WIRE_HAS_PAYLOAD = 1 << 18,
};

#define WIRE_IS_REQUEST	 (WIRE_IS_SEND | WIRE_IS_WRITE | WIRE_IS_READ | WIRE_IS_ATOMIC)
#define WIRE_IS_RESPONSE (WIRE_IS_READ_RESP | WIRE_IS_ACK | WIRE_IS_ATOMIC_ACK)

/** struct wire_opcode - one row of the opcode table */
struct wire_opcode {
	const char *name; /* NULL: no such opcode */
	uint32_t flags;	  /* enum wire_flag */
	uint8_t hdr_size; /* BTH and what follows it, bytes */
};

/** wire_opcodes - indexed by BTH opcode */
extern const struct wire_opcode wire_opcodes[256];

/* AETH syndromes (9.7.5.2.1): class in the upper 3 bits, value in the lower 5. */
enum wire_syndrome {
	WIRE_SYN_ACK = 0x00,
	WIRE_SYN_ACK_NO_CREDIT_LIMIT = 0x1f,
	WIRE_SYN_RNR_NAK = 0x20, /* | timer code */
	WIRE_SYN_NAK_PSN = 0x60,
	WIRE_SYN_NAK_INVALID_REQUEST = 0x61,
	WIRE_SYN_NAK_REMOTE_ACCESS = 0x62,
	WIRE_SYN_NAK_REMOTE_OPERATION = 0x63,
	WIRE_SYN_NAK_INVALID_RD = 0x64,
};
#define WIRE_SYN_CLASS(syndrome) ((syndrome)&0x60)

/**
 * struct wire_packet - one packet's headers, in host byte order
 *
 * Which fields hold something is told by wire_opcodes[opcode].flags.
 */
struct wire_packet {
	uint8_t opcode;
	bool solicited;
	bool mig_req;
	bool ack_req;
	bool fecn;
	bool becn;
	uint8_t pad;	  /* 0..3 bytes behind the payload */
	uint8_t syndrome; /* AETH */
	uint16_t pkey;
	uint32_t dest_qpn; /* 24 bits */
	uint32_t psn;	   /* 24 bits */
	uint32_t msn;	   /* AETH, 24 bits */
	uint32_t qkey;	   /* DETH */
	uint32_t src_qpn;  /* DETH, 24 bits */
	uint64_t va;	   /* RETH, AtomicETH */
	uint32_t rkey;	   /* RETH, AtomicETH, IETH */
	uint32_t dma_len;  /* RETH, bytes */
	uint32_t imm_be;   /* ImmDt as it lies on the wire, as ibv_wc.imm_data wants it */
	uint64_t swap_add; /* AtomicETH */
	uint64_t compare;  /* AtomicETH */
	uint64_t orig_data;	/* AtomicAckETH */
	const uint8_t *payload; /* set by wire_parse(): into its buffer */
	uint32_t payload_len;	/* bytes, without pad */
};

/** wire_parse() - take a packet apart
 * @buf:  borrowed; from the first byte of BTH to the last before the ICRC
 * @size: bytes in @buf
 * @out:  filled; its payload points into @buf
 * Return: 0, or -EINVAL for an unknown opcode, a transport version other than 0, a
 *         length too short for the opcode's headers and pad, or payload on an opcode
 *         that has none
 */
int wire_parse(const uint8_t *buf, size_t size, struct wire_packet *out);

/** wire_build() - write a packet's headers
 * @pkt: a known opcode; payload fields are not used
 * @buf: at least WIRE_HDR_MAX bytes
 * Return: bytes written, which is wire_opcodes[pkt->opcode].hdr_size
 */
size_t wire_build(const struct wire_packet *pkt, uint8_t *buf);

#endif
