/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The records of the frame protocol, and where the headers of a frame lie. Pure: bytes
 * in, structs out; neither DPDK nor verbs. Reference: docs/frame-protocol.md sections 2
 * and 3. All fields on the wire are big-endian.
 *
 *   record header, 8 bytes
 *   0  type, 1
 *   1  flags
 *   2  MSS            (16)
 *   4  frame length   (32)
 *   8  the frame
 */
#ifndef PMD_FRAME_H
#define PMD_FRAME_H

#include <stdint.h>

#define FRAME_TYPE_ETHERNET 1

#define FRAME_CSUM   (1u << 0) /* the layer 4 checksum is not filled in */
#define FRAME_IPCSUM (1u << 1) /* the IPv4 header checksum is not filled in */
#define FRAME_TSO    (1u << 2) /* a TCP segment to be cut into pieces of mss bytes */
#define FRAME_FLAGS  (FRAME_CSUM | FRAME_IPCSUM | FRAME_TSO)

#define FRAME_HDR_SIZE 8
#define FRAME_ETH_LEN  14
#define FRAME_OVERHEAD 22  /* Ethernet header and two VLAN tags, beyond the MTU */
#define FRAME_HEADROOM 128 /* in front of a frame that is handed up */
#define FRAME_LEN_MIN  FRAME_ETH_LEN
#define FRAME_LEN_MAX  (UINT16_MAX - FRAME_HEADROOM)
#define FRAME_MSG_MAX  (FRAME_HDR_SIZE + FRAME_LEN_MAX)
#define FRAME_MSS_MIN  48 /* as Linux' least TCP MSS */
#define FRAME_MTU_MIN  68 /* RFC 791 */
#define FRAME_MTU_MAX  (FRAME_LEN_MAX - FRAME_OVERHEAD)

/** struct frame_record - a record header; host order */
struct frame_record {
	uint32_t len;  /* of the frame, bytes */
	uint16_t mss;  /* 0 without FRAME_TSO */
	uint8_t flags; /* FRAME_* */
};

/** frame_record_encode() - write a record header of FRAME_HDR_SIZE bytes */
void frame_record_encode(uint8_t *hdr, const struct frame_record *record);

/** frame_record_decode() - judge the record at @offset of a message
 * @msg:    borrowed, @size bytes
 * @offset: below @size
 * Return: 0; or -EPROTO when header or frame reach beyond the message or a field is
 *         out of bounds, or -EBADMSG when a FRAME_TSO record is not alone in its
 *         message; only then @record is valid as well, so that it can be passed over
 */
int frame_record_decode(
	const uint8_t *msg, uint32_t size, uint32_t offset, struct frame_record *record);

/** struct frame_layout - where the headers of an IP frame lie; bytes */
struct frame_layout {
	uint16_t l2_len;    /* Ethernet and VLAN tags */
	uint16_t l3_len;    /* IPv4 with options, IPv6 with extension headers */
	uint16_t l4_len;    /* 0 unless TCP, UDP or SCTP */
	uint8_t ip_version; /* 4 or 6 */
	uint8_t l4_proto;
	uint32_t ip_end; /* from the frame's start to the end of the IP packet */
};

/** frame_check_offload() - find the headers of a frame that asks for offload, and check
 * that what it asks for can be done (docs/frame-protocol.md section 3)
 * @frame: borrowed; its first @avail bytes, which must hold all headers
 * @avail: at most record->len
 * Return: 0 and @layout, or -EPROTO
 */
int frame_check_offload(const struct frame_record *record, const uint8_t *frame,
	uint32_t avail, struct frame_layout *layout);

#endif
