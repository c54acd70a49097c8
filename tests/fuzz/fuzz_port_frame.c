/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Any frames into the packet port's parsers and its table of neighbours, between packets
 * that are to be sent and a clock that moves on. What is parsed lies within the frame and
 * can be built again; packets go to hosts' MACs only; nothing is leaked.
 *
 * Input: a byte for the IP version, then steps: a byte that says what, and
 *   0 mod 4  two bytes of length and so many of a frame
 *   1, 2     a byte of an address: send to it
 *   3        a byte: so many times 64 ms pass
 */
#include <stdlib.h>
#include <string.h>

#include "lib/util.h"
#include "rdma/io/gid.h"
#include "rdma/io/group_msg.h"
#include "rdma/io/neigh.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void held_free(struct neigh_held *held, const uint8_t mac[ETH_MAC_SIZE])
{
	struct neigh_held *next;

	check(!held || eth_mac_is_host(mac));
	for (; held; held = next) {
		next = held->next;
		free(held);
	}
}

static void packet_in(const uint8_t *frame, size_t size)
{
	uint8_t headers[ETH_HEADERS_MAX + 1];
	struct eth_packet pkt, again;
	size_t n;

	if (eth_parse(frame, size, &pkt) < 0)
		return;
	check(pkt.data >= frame && pkt.data + pkt.size <= frame + size);
	check(eth_gid_is_host(pkt.flow.src));
	n = eth_headers_put(&pkt, headers);
	check(n == (size_t)(pkt.data - frame));
	if (pkt.size == 0) {
		check(eth_parse(headers, n, &again) == 0);
		check(!memcmp(&again.flow, &pkt.flow, sizeof(pkt.flow)));
	}
}

static void neighbour_in(struct neigh_table *table, const struct neigh_self *self,
	const uint8_t *frame, size_t size, uint64_t now)
{
	uint8_t answer[NEIGH_MSG_MAX], mac[ETH_MAC_SIZE];
	struct neigh_msg msg;
	struct neigh_ask ask;

	if (neigh_msg_parse(frame, size, &msg))
		return;
	check(eth_mac_is_host(msg.mac));
	if (msg.kind == NEIGH_MSG_QUERY)
		check(neigh_answer_put(self, &msg, answer) <= sizeof(answer));
	else
		held_free(neigh_told(table, &msg, now, mac, &ask), mac);
}

static void frame_in(struct neigh_table *table, const struct neigh_self *self,
	const uint8_t *data, size_t size, uint64_t now)
{
	uint8_t *frame = malloc(size ? size : 1); /* so that reads behind it are seen */

	memcpy(frame, data, size);
	switch (eth_kind(frame, size)) {
	case ETH_KIND_UDP:
		packet_in(frame, size);
		break;
	case ETH_KIND_NEIGHBOUR:
		neighbour_in(table, self, frame, size, now);
		break;
	case ETH_KIND_GROUP:
		group_is_query(frame, size);
		break;
	case ETH_KIND_OTHER:
		break;
	}
	free(frame);
}

static void packet_out(struct neigh_table *table, const struct neigh_self *self,
	uint8_t to, uint64_t now)
{
	uint8_t dst[16], mac[ETH_MAC_SIZE];
	struct neigh_held *held;
	struct neigh_ask ask;

	memcpy(dst, self->gid, sizeof(dst));
	dst[15] = to;
	dst[13] ^= to >> 6; /* some beyond the gateway */
	switch (neigh_find(table, dst, now, 1, mac, &ask)) {
	case NEIGH_SEND:
		check(eth_mac_is_host(mac));
		break;
	case NEIGH_WAIT:
		held = calloc(1, sizeof(*held) + 2000);
		held->n_packets = 1;
		held->size = 2000;
		check(neigh_hold(table, dst, held, now, mac));
		break;
	case NEIGH_DROP:
		break;
	}
	check(!ask.wanted || ask.everybody || eth_mac_is_host(ask.mac));
}

static struct neigh_table *table_make(bool ipv4, struct neigh_self *self)
{
	struct neigh_config config = {.has_gateway = true};
	struct neigh_table *table;
	uint32_t scope;

	gid_parse(ipv4 ? "10.0.0.1" : "fd00::1", config.gid, &scope);
	gid_parse(ipv4 ? "10.0.0.2" : "fd00::2", config.gateway, &scope);
	config.prefix_len = 112;
	memcpy(self->gid, config.gid, sizeof(self->gid));
	memcpy(self->mac, (uint8_t[]){2, 0, 0, 0, 0, 1}, ETH_MAC_SIZE);
	check(neigh_create(&config, &table) == 0);
	return table;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct neigh_self self;
	struct neigh_table *table = table_make(size && data[0] & 1, &self);
	uint64_t now = NSEC_PER_SEC;
	size_t at = 1;

	while (at + 2 <= size) {
		uint8_t what = data[at] % 4, arg = data[at + 1];
		size_t len;

		at += 2;
		if (what == 3) {
			now += arg * (64 * NSEC_PER_MSEC);
		} else if (what) {
			packet_out(table, &self, arg, now);
		} else {
			len = at < size ? (size_t)arg << 8 | data[at++] : 0;
			len = MIN(len, size - at);
			frame_in(table, &self, data + at, len, now);
			at += len;
		}
	}
	neigh_destroy(table);
	return 0;
}
