/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Transmit side of the packet port. As in the UDP link a burst becomes messages to the
 * kernel, each a run of packets to cut up; here each has its virtio-net header, which
 * asks for that, and all headers of its first packet in front. The kernel gives packet i
 * the identification i, and completes the UDP checksums.
 */
#include <stdlib.h>
#include <string.h>

#include "port_priv.h"

/* RoCEv2 source ports: 0xC000 + 14 bits of entropy (annex A17). */
#define SPORT_BASE  0xc000
#define SPORT_COUNT 0x4000
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

/* How the packets to one destination leave. */
struct way {
	enum neigh_way kind;
	int fd;
	uint8_t mac[ETH_MAC_SIZE];
};

static struct way way_find(
	struct link_port *port, const uint8_t dgid[16], uint32_t n_packets)
{
	struct way way = {.kind = NEIGH_SEND, .fd = port->tapped_fd};

	if (gid_is_multicast(dgid)) {
		eth_group_mac(dgid, way.mac);
	} else if (!memcmp(dgid, port->self.gid, 16)) {
		memcpy(way.mac, port->self.mac, sizeof(way.mac));
	} else {
		way.fd = port->fd;
		way.kind = port_neigh_find(port, dgid, n_packets, way.mac);
	}
	return way;
}

static void vnet_header_put(uint8_t *p, size_t headers, size_t segment, bool is_run)
{
	struct virtio_net_hdr vnet = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = is_run ? VIRTIO_NET_HDR_GSO_UDP_L4 : VIRTIO_NET_HDR_GSO_NONE,
		.hdr_len = (uint16_t)headers,
		.gso_size = (uint16_t)(is_run ? segment : 0),
		.csum_start = (uint16_t)(headers - ETH_UDP_SIZE),
		.csum_offset = 6,
	};

	memcpy(p, &vnet, sizeof(vnet));
}

/* Make message @m of the packets of run @m. */
static void message_put(struct link_port *port, const struct link_burst *burst, int m,
	const struct way *way)
{
	struct run_tx *tx = &port->tx;
	const struct run *run = &tx->run[m];
	const struct link_tx *head = &burst->pkt[run->first];
	struct eth_packet pkt = {
		.flow = {.sport = (uint16_t)(SPORT_BASE | head->sport_hash % SPORT_COUNT),
			.dport = WIRE_UDP_PORT},
		.tclass = LINK_ECN_ECT0,
		.size = run_size(burst, run),
	};
	struct iovec *iov = &tx->layout.iov[tx->layout.n_iovs];
	size_t headers = port->is_ipv4 ? ETH_HEADERS_MAX - ETH_IPV6_SIZE + ETH_IPV4_SIZE
				       : ETH_HEADERS_MAX;
	uint8_t *front = run_begin(&tx->layout, PORT_VNET_SIZE + headers);

	memcpy(pkt.dmac, way->mac, sizeof(pkt.dmac));
	memcpy(pkt.smac, port->self.mac, sizeof(pkt.smac));
	memcpy(pkt.flow.src, port->self.gid, sizeof(pkt.flow.src));
	memcpy(pkt.flow.dst, head->dgid, sizeof(pkt.flow.dst));
	vnet_header_put(front, headers, link_tx_size(head), run->n_pkts > 1);
	eth_headers_put(&pkt, front + PORT_VNET_SIZE);
	run_put(&tx->layout, burst, run, &pkt.flow);
	tx->msg[m].msg_hdr = (struct msghdr){
		.msg_iov = iov,
		.msg_iovlen = 1,
	};
}

/* The MAC that message @m is for is not known yet: keep a copy. */
static void message_hold(struct link_port *port, const struct link_burst *burst, int m)
{
	const struct iovec *iov = port->tx.msg[m].msg_hdr.msg_iov;
	const struct run *run = &port->tx.run[m];
	struct neigh_held *held = malloc(sizeof(*held) + iov->iov_len);

	if (!held) {
		port->link.stats.tx_failed += (uint64_t)run->n_pkts;
		return;
	}
	*held = (struct neigh_held){
		.n_packets = (uint32_t)run->n_pkts, .size = (uint32_t)iov->iov_len};
	memcpy(held->data, iov->iov_base, iov->iov_len);
	run_count(&port->link.stats, burst, run);
	port_neigh_hold(port, burst->pkt[run->first].dgid, held);
}

/* Lay out the run as message @m, if it is to be sent now. Return: messages that are there
 */
static int run_enqueue(struct link_port *port, const struct link_burst *burst,
	const struct run *run, const struct way *way, int m)
{
	if (way->kind == NEIGH_DROP)
		return m;
	port->tx.run[m] = *run;
	message_put(port, burst, m, way);
	if (way->kind == NEIGH_SEND)
		return m + 1;
	message_hold(port, burst, m);
	return m;
}

void link_port_send(struct link *link, const struct link_burst *burst)
{
	struct link_port *port = link_port(link);
	struct way way = {.fd = -1};
	int n_msgs = 0, next;

	run_reset(&port->tx.layout);
	for (int i = 0; i < burst->n_pkts; i = next) {
		const struct link_tx *pkt = &burst->pkt[i];
		struct run run = run_find(burst, i, port->tx.max_pkts, SPORT_COUNT);
		int fd = way.fd;

		next = i + run.n_pkts;
		if (gid_is_ipv4(pkt->dgid) != port->is_ipv4) {
			link->stats.tx_failed += (uint64_t)run.n_pkts;
			continue;
		}
		way = way_find(port, pkt->dgid, (uint32_t)run.n_pkts);
		if (n_msgs && fd != way.fd) {
			run_send(link, &port->tx, burst, fd, n_msgs);
			n_msgs = 0;
		}
		n_msgs = run_enqueue(port, burst, &run, &way, n_msgs);
	}
	if (n_msgs)
		run_send(link, &port->tx, burst, way.fd, n_msgs);
}

void link_port_expect(struct link *link, const uint8_t gid[16])
{
	struct link_port *port = link_port(link);

	if (gid_is_ipv4(gid) == port->is_ipv4)
		way_find(port, gid, 0);
}

void port_frame_send(const struct link_port *port, const void *frame, size_t size)
{
	struct virtio_net_hdr vnet = {0};
	struct iovec iov[] = {
		{.iov_base = &vnet, .iov_len = sizeof(vnet)},
		{.iov_base = (void *)frame, .iov_len = size},
	};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	if (sendmsg(port->fd, &msg, MSG_DONTWAIT) < 0) {
		/* Whoever needs it asks again. */
	}
}
