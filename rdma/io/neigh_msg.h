/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How hosts of a link ask for each other's MAC address: ARP (RFC 826, RFC 5227) for IPv4
 * and neighbour discovery (RFC 4861, RFC 4862) for IPv6, as one kind of message. Pure:
 * frames in, structs out, and back.
 */
#ifndef RDMA_IO_NEIGH_MSG_H
#define RDMA_IO_NEIGH_MSG_H

#include "eth.h"

/* An IPv6 solicitation: Ethernet, IPv6, ICMPv6 24, option 8. ARP is shorter. */
#define NEIGH_MSG_MAX (ETH_SIZE + ETH_IPV6_SIZE + 32)

/** struct neigh_self - who we are on the link */
struct neigh_self {
	uint8_t gid[16];
	uint8_t mac[ETH_MAC_SIZE];
};

enum neigh_msg_kind {
	NEIGH_MSG_QUERY,    /* who has @target? */
	NEIGH_MSG_ANSWER,   /* @mac has @target, as somebody asked to know */
	NEIGH_MSG_ANNOUNCE, /* the same, unasked */
};

struct neigh_msg {
	enum neigh_msg_kind kind;
	uint8_t target[16];
	uint8_t mac[ETH_MAC_SIZE]; /* the asker's, or the one that is told */
	bool has_mac;  /* of a teller: not so where IPv6 confirms what the asker knows */
	bool has_from; /* not so while an asker makes sure of its own address */
	uint8_t from[16]; /* the asker's address */
};

/** neigh_msg_parse() - take apart a frame of ETH_KIND_NEIGHBOUR
 * Return: 0; -EPROTO when it is malformed; -ENOMSG when it is another message of ARP or
 *         ICMPv6
 */
int neigh_msg_parse(const uint8_t *frame, size_t size, struct neigh_msg *out);

/** neigh_query_put() - write the frame that asks for @target
 * @mac: the host to ask; NULL: everybody
 * Return: its size, at most NEIGH_MSG_MAX
 */
size_t neigh_query_put(const struct neigh_self *self, const uint8_t target[16],
	const uint8_t *mac, uint8_t *frame);

/** neigh_probe_put() - write the frame that asks, before we use our address, whether
 * somebody else does
 */
size_t neigh_probe_put(const struct neigh_self *self, uint8_t *frame);

/** neigh_answer_put() - write our answer to @query */
size_t neigh_answer_put(
	const struct neigh_self *self, const struct neigh_msg *query, uint8_t *frame);

/** neigh_announce_put() - write what tells everybody of our address */
size_t neigh_announce_put(const struct neigh_self *self, uint8_t *frame);

/** neigh_solicited_group() - the group to which IPv6 queries for @gid go */
void neigh_solicited_group(const uint8_t gid[16], uint8_t group[16]);

#endif
