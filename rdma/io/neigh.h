/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which MAC address packets to an address go to: the next hop (the address itself if it
 * is in our network, else the gateway) and the table of neighbours. Pure: a state machine
 * that takes addresses, messages and a time, and says what to send. No thread of its own,
 * no timer; the caller serialises.
 *
 * Built for a link with hostile hosts on it:
 * - entries are made for addresses that we send to, never for what somebody says, and
 *   there are at most NEIGH_MAX;
 * - a MAC is taken over only in answer to a question of ours. What tells another one
 *   unasked makes us ask everybody, once in a while; the first answer counts;
 * - packets that wait for an answer are limited in number and bytes, dropped after a
 *   while, and counted.
 */
#ifndef RDMA_IO_NEIGH_H
#define RDMA_IO_NEIGH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "eth.h"
#include "neigh_msg.h"

#define NEIGH_MAX	     1024
#define NEIGH_HELD_BYTES     (512u << 10) /* that wait for one neighbour */
#define NEIGH_HELD_BYTES_ALL (4u << 20)

struct neigh_config {
	uint8_t gid[16];
	uint8_t prefix_len; /* bits of the GID: an IPv4 network's and 96 */
	bool has_gateway;
	uint8_t gateway[16];
};

/** neigh_in_network() - is @gid in our network, or link-local? */
bool neigh_in_network(const struct neigh_config *config, const uint8_t gid[16]);

struct neigh_stats {
	uint64_t asked;	     /* questions of ours */
	uint64_t answered;   /* answers that were taken */
	uint64_t ignored;    /* answers to nothing that we asked */
	uint64_t moved;	     /* neighbours whose MAC changed */
	uint64_t evicted;    /* entries that made room for others */
	uint64_t no_route;   /* packets: not in our network, and there is no gateway */
	uint64_t unresolved; /* packets that waited in vain, or for which there was no
				room to wait */
};

/** struct neigh_held - a packet that waits; made by the caller with malloc() */
struct neigh_held {
	struct neigh_held *next;
	uint64_t since_ns;
	uint32_t n_packets; /* that it will be on the wire */
	uint32_t size;	    /* of data */
	uint8_t data[];
};

/** struct neigh_ask - a question to send, if the table wants one */
struct neigh_ask {
	bool wanted;
	bool everybody; /* or @mac alone */
	uint8_t mac[ETH_MAC_SIZE];
	uint8_t target[16];
};

enum neigh_way {
	NEIGH_SEND, /* the MAC is known */
	NEIGH_WAIT, /* it is not yet: neigh_hold() */
	NEIGH_DROP, /* counted already */
};

struct neigh_table;

/** neigh_create() - Return: 0 or -ENOMEM. @config is copied. */
int neigh_create(const struct neigh_config *config, struct neigh_table **out);
void neigh_destroy(struct neigh_table *table);

/** neigh_find() - how to send a packet
 * @dst: a host's GID, of our own IP version
 * @mac: filled for NEIGH_SEND
 * @ask: filled
 * @n_packets: to count, for NEIGH_DROP
 */
enum neigh_way neigh_find(struct neigh_table *table, const uint8_t dst[16],
	uint64_t now_ns, uint32_t n_packets, uint8_t mac[ETH_MAC_SIZE],
	struct neigh_ask *ask);

/** neigh_hold() - keep a packet for which neigh_find() just said NEIGH_WAIT
 * @dst:  as it had
 * @held: consumed, unless the MAC has become known meanwhile; freed and counted when
 *        there is no room
 * @mac:  filled when it is known
 * Return: whether @held was consumed
 */
bool neigh_hold(struct neigh_table *table, const uint8_t dst[16], struct neigh_held *held,
	uint64_t now_ns, uint8_t mac[ETH_MAC_SIZE]);

/** neigh_told() - a message says which MAC its target has
 * @msg: NEIGH_MSG_ANSWER or NEIGH_MSG_ANNOUNCE
 * @mac: filled when packets are returned: where to send them
 * @ask: filled
 * Return: packets that waited for it, first come first; the caller frees them
 */
struct neigh_held *neigh_told(struct neigh_table *table, const struct neigh_msg *msg,
	uint64_t now_ns, uint8_t mac[ETH_MAC_SIZE], struct neigh_ask *ask);

const struct neigh_stats *neigh_stats(const struct neigh_table *table);

#endif
