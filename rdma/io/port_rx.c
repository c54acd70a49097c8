/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receive side of the packet port: frames to packets. A frame may hold several packets of
 * one size that a sender on this machine left for others to cut up; the virtio-net header
 * tells. recv() hands out packets where they lie; what it does not get to hand out stays
 * for the next call.
 */
#include <errno.h>
#include <string.h>

#include "lib/util.h"
#include "port_priv.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

/* Our address by its MAC, or a group of ours. */
static bool is_to_us(const struct link_port *port, const struct eth_packet *pkt)
{
	if (gid_is_multicast(pkt->flow.dst))
		return (pkt->dmac[0] & 1) && port_is_member(port, pkt->flow.dst);
	return !memcmp(pkt->flow.dst, port->self.gid, 16) &&
	       !memcmp(pkt->dmac, port->self.mac, ETH_MAC_SIZE);
}

/* The size of the packets that a frame holds. Return: 0 or -EPROTO */
static int segment_size(
	const struct virtio_net_hdr *vnet, const struct eth_packet *pkt, size_t *segment)
{
	*segment = pkt->size;
	if (vnet->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return 0;
	if (vnet->gso_type != VIRTIO_NET_HDR_GSO_UDP_L4 || vnet->gso_size == 0)
		return -EPROTO;
	*segment = MIN((size_t)vnet->gso_size, pkt->size);
	return 0;
}

/* Make the frame's packets those to be handed out, if they are for us. */
static void udp_read(struct link_port *port, const struct virtio_net_hdr *vnet,
	const uint8_t *data, size_t size)
{
	struct port_frame *frame = &port->rx.frame;
	struct link_stats *stats = &port->link.stats;
	struct eth_packet pkt;

	if (eth_parse(data, size, &pkt) < 0 ||
		segment_size(vnet, &pkt, &frame->segment) < 0)
		stats->rx_malformed++;
	else if (!is_to_us(port, &pkt))
		stats->rx_foreign++;
	else if (pkt.size == 0)
		stats->rx_runt++;
	else
		frame->pkt = pkt;
	if (frame->pkt.size == 0)
		stats->rx_packets++;
}

static void frame_read(struct link_port *port, const struct port_input *in)
{
	struct virtio_net_hdr vnet;
	const uint8_t *data = in->data + PORT_VNET_SIZE;
	size_t size = in->size - PORT_VNET_SIZE;

	port->rx.frame.pkt.size = 0;
	port->rx.frame.consumed = 0;
	port->rx.frame.index = 0;
	if (in->is_cut || in->size < PORT_VNET_SIZE) {
		port->link.stats.rx_packets++;
		port->link.stats.rx_truncated++;
		return;
	}
	memcpy(&vnet, in->data, sizeof(vnet));
	switch (eth_kind(data, size)) {
	case ETH_KIND_UDP:
		udp_read(port, &vnet, data, size);
		break;
	case ETH_KIND_NEIGHBOUR:
		port_neigh_input(port, data, size);
		break;
	case ETH_KIND_GROUP:
		port_group_input(port, data, size);
		break;
	case ETH_KIND_OTHER: /* which the filter keeps out */
		break;
	}
}

/* The ICRC covers the IPv4 identification. Packets that were never cut, or that were put
 * together, have either what their place in the frame says or all the same.
 */
static bool icrc_is_right(
	const struct port_frame *frame, const uint8_t *data, size_t size)
{
	const struct eth_packet *pkt = &frame->pkt;
	uint16_t id = (uint16_t)(pkt->ip_id + frame->index);

	return link_icrc_ok(&pkt->flow, id, data, size) ||
	       (frame->index && link_icrc_ok(&pkt->flow, pkt->ip_id, data, size));
}

/* true: pass it on */
static bool packet_check(struct link_port *port, const struct port_frame *frame,
	const uint8_t *data, size_t size)
{
	struct link_stats *stats = &port->link.stats;

	stats->rx_packets++;
	stats->rx_bytes += size;
	if (size < WIRE_BTH_SIZE + WIRE_ICRC_SIZE) {
		stats->rx_runt++;
		return false;
	}
	if (!icrc_is_right(frame, data, size)) {
		stats->rx_bad_icrc++;
		return false;
	}
	return true;
}

/* Hand out what is left of the frame, at most @max packets. */
static int frame_drain(struct link_port *port, struct link_rx *pkts, int max)
{
	struct port_frame *frame = &port->rx.frame;
	int n = 0;

	while (n < max && frame->consumed < frame->pkt.size) {
		const uint8_t *p = frame->pkt.data + frame->consumed;
		size_t size = MIN(frame->segment, frame->pkt.size - frame->consumed);
		bool good = packet_check(port, frame, p, size);

		frame->consumed += size;
		frame->index++;
		if (!good)
			continue;
		pkts[n].data = p;
		pkts[n].len = (uint32_t)(size - WIRE_ICRC_SIZE);
		pkts[n].ecn = frame->pkt.tclass & ETH_ECN_MASK;
		memcpy(pkts[n].sgid, frame->pkt.flow.src, sizeof(pkts[n].sgid));
		memcpy(pkts[n].dgid, frame->pkt.flow.dst, sizeof(pkts[n].dgid));
		n++;
	}
	return n;
}

static bool input_next(struct link_port *port, struct port_input *in)
{
	return port->rx.has_rings ? port_rings_next(port, in) : port_queue_next(port, in);
}

int link_port_recv(struct link *link, struct link_rx *pkts, int max)
{
	struct link_port *port = link_port(link);
	const struct port_frame *frame = &port->rx.frame;
	bool keep = frame->consumed < frame->pkt.size;
	struct port_input in;
	int n;

	if (port->rx.has_rings)
		port_rings_begin(port, keep);
	else
		port_queue_begin(port, keep);
	n = frame_drain(port, pkts, max);
	while (n < max && input_next(port, &in)) {
		frame_read(port, &in);
		n += frame_drain(port, pkts + n, max - n);
	}
	return n;
}
