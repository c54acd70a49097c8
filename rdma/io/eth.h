/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ethernet frames that carry RoCEv2: their Ethernet, IP and UDP headers, built and taken
 * apart. Pure. Offsets as on the wire, all fields big-endian:
 *
 *   Ethernet, 14     IPv4 (RFC 791), 20          IPv6 (RFC 8200), 40      UDP, 8
 *   0  to            0  version 4, length 5      0  version 6, class,     0 from port
 *   6  from          1  DSCP(6) ECN(2)              flow label            2 to port
 *   12 what follows  2  bytes in all             4  bytes behind it       4 bytes
 *                    4  identification           6  next header           6 checksum
 *                    6  DF(0x4000), fragment     7  hop limit
 *                    8  TTL                      8  from
 *                    9  protocol                 24 to
 *                    10 checksum of this header
 *                    12 from
 *                    16 to
 *
 * Strict where the specification leaves no choice (annex A17.4): no IPv4 options, no
 * fragments, DF set. The UDP checksum is not looked at: the ICRC says more, and NICs
 * leave it out.
 */
#ifndef RDMA_IO_ETH_H
#define RDMA_IO_ETH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rdma/wire/icrc.h"

#define ETH_MAC_SIZE	6
#define ETH_SIZE	14
#define ETH_IPV4_SIZE	20
#define ETH_IPV6_SIZE	40
#define ETH_UDP_SIZE	8
#define ETH_HEADERS_MAX (ETH_SIZE + ETH_IPV6_SIZE + ETH_UDP_SIZE)
#define ETH_ECN_MASK	0x3

enum { ETH_TYPE_IPV4 = 0x0800, ETH_TYPE_ARP = 0x0806, ETH_TYPE_IPV6 = 0x86dd };
enum { ETH_PROTO_IGMP = 2, ETH_PROTO_UDP = 17, ETH_PROTO_ICMPV6 = 58 };

/** struct eth_packet - one frame, or several of one size that are yet to be cut */
struct eth_packet {
	uint8_t dmac[ETH_MAC_SIZE];
	uint8_t smac[ETH_MAC_SIZE];
	struct wire_flow flow;
	uint8_t tclass;	     /* DSCP and ECN */
	uint16_t ip_id;	     /* IPv4 */
	const uint8_t *data; /* UDP payload; set by eth_parse(): into its frame */
	size_t size;
};

/* What a frame is to a RoCEv2 host. */
enum eth_kind {
	ETH_KIND_UDP,
	ETH_KIND_NEIGHBOUR, /* ARP, neighbour discovery; see neigh_msg.h */
	ETH_KIND_GROUP,	    /* IGMP, MLD; see group_msg.h */
	ETH_KIND_OTHER,
};

/** eth_kind() - by the headers' types alone; nothing else is checked */
enum eth_kind eth_kind(const uint8_t *frame, size_t size);

/** eth_headers_put() - write the headers in front of @pkt->size bytes of UDP payload
 *
 * The UDP checksum is the pseudo header's sum, for whoever sends the frame to complete
 * (as a virtio-net header asks for).
 * @buf: at least ETH_HEADERS_MAX bytes
 * Return: bytes written
 */
size_t eth_headers_put(const struct eth_packet *pkt, uint8_t *buf);

/** eth_parse() - take apart a frame of ETH_KIND_UDP
 * @out: filled; its data point into @frame. Ethernet padding is cut off.
 * Return: 0, or -EPROTO when headers are wrong, or the source is no host
 */
int eth_parse(const uint8_t *frame, size_t size, struct eth_packet *out);

/** eth_group_mac() - where frames to a multicast group go (RFC 1112, RFC 2464) */
void eth_group_mac(const uint8_t gid[16], uint8_t mac[ETH_MAC_SIZE]);

/** eth_mac_is_host() - neither a group's nor zero */
bool eth_mac_is_host(const uint8_t mac[ETH_MAC_SIZE]);

/** eth_gid_is_host() - neither a group's, nor everybody's, nor unspecified */
bool eth_gid_is_host(const uint8_t gid[16]);

/** eth_sum() - go on with an Internet checksum's sum (RFC 1071) over @size bytes */
uint32_t eth_sum(uint32_t sum, const void *buf, size_t size);

/** eth_sum_end() - the checksum of a sum: 0 where the checksum that is in it is right */
uint16_t eth_sum_end(uint32_t sum);

/** eth_ipv6_put() - write Ethernet and IPv6 headers, for UDP and others
 * @size: bytes behind the IPv6 header
 * Return: bytes written
 */
size_t eth_ipv6_put(const struct eth_packet *pkt, uint8_t next_header, uint8_t hop_limit,
	size_t size, uint8_t *buf);

/** eth_ipv6_sum() - the sum of a pseudo header (RFC 8200, 8.1) */
uint32_t eth_ipv6_sum(
	const uint8_t src[16], const uint8_t dst[16], uint8_t next_header, size_t size);

#endif
