/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receive side of the packet port. One system call fills up to PORT_RX_BUFFERS buffers,
 * each with one frame, which may hold several packets of one size that a sender on this
 * machine left for others to cut up; the virtio-net header tells. recv() hands out
 * packets where they lie; what it does not get to hand out stays for the next call.
 */
#include <errno.h>
#include <string.h>

#include "lib/util.h"
#include "port_priv.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

static void slots_reset(struct port_rx *rx)
{
	for (int i = 0; i < PORT_RX_BUFFERS; i++) {
		rx->iov[i] = (struct iovec){
			.iov_base = rx->data + (size_t)i * PORT_BUFFER_SIZE,
			.iov_len = PORT_BUFFER_SIZE,
		};
		rx->msg[i].msg_hdr = (struct msghdr){
			.msg_iov = &rx->iov[i],
			.msg_iovlen = 1,
			.msg_control = rx->buffer[i].control,
			.msg_controllen = sizeof(rx->buffer[i].control),
		};
	}
}

/* The socket's count of frames for which it had no room: of 32 bits, it wraps. */
static void drops_count(struct link_port *port, struct msghdr *hdr)
{
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(hdr);
	uint32_t drops;

	if (!cmsg || cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SO_RXQ_OVFL)
		return;
	memcpy(&drops, CMSG_DATA(cmsg), sizeof(drops));
	port->link.stats.rx_overflow += drops - port->rx.kernel_drops;
	port->rx.kernel_drops = drops;
}

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

/* Make @buf hold the frame's packets, if they are for us. */
static void udp_read(struct link_port *port, const struct virtio_net_hdr *vnet,
	const uint8_t *frame, size_t size, struct port_rx_buffer *buf)
{
	struct link_stats *stats = &port->link.stats;
	struct eth_packet pkt;

	if (eth_parse(frame, size, &pkt) < 0 ||
		segment_size(vnet, &pkt, &buf->segment) < 0)
		stats->rx_malformed++;
	else if (!is_to_us(port, &pkt))
		stats->rx_foreign++;
	else if (pkt.size == 0)
		stats->rx_runt++;
	else
		buf->pkt = pkt;
	if (buf->pkt.size == 0)
		stats->rx_packets++;
}

static void slot_read(struct link_port *port, struct mmsghdr *msg, const uint8_t *data,
	struct port_rx_buffer *buf)
{
	struct virtio_net_hdr vnet;
	const uint8_t *frame = data + PORT_VNET_SIZE;
	size_t size = msg->msg_len;

	drops_count(port, &msg->msg_hdr);
	buf->pkt.size = 0;
	buf->consumed = 0;
	buf->index = 0;
	if (msg->msg_hdr.msg_flags & MSG_TRUNC || size < PORT_VNET_SIZE) {
		port->link.stats.rx_packets++;
		port->link.stats.rx_truncated++;
		return;
	}
	memcpy(&vnet, data, sizeof(vnet));
	size -= PORT_VNET_SIZE;
	switch (eth_kind(frame, size)) {
	case ETH_KIND_UDP:
		udp_read(port, &vnet, frame, size, buf);
		break;
	case ETH_KIND_NEIGHBOUR:
		port_neigh_input(port, frame, size);
		break;
	case ETH_KIND_GROUP:
		port_group_input(port, frame, size);
		break;
	case ETH_KIND_OTHER: /* which the filter keeps out */
		break;
	}
}

/* Receive into all buffers, none of which is in use any more. */
static void buffers_fill(struct link_port *port)
{
	struct port_rx *rx = &port->rx;
	int n;

	slots_reset(rx);
	n = recvmmsg(port->link.fd, rx->msg, PORT_RX_BUFFERS, MSG_DONTWAIT, NULL);
	port->link.stats.rx_syscalls++;
	/* Nothing there, or an error as of an interface that goes down. */
	rx->n_filled = MAX(n, 0);
	rx->current = 0;
	for (int i = 0; i < rx->n_filled; i++)
		slot_read(port, &rx->msg[i], rx->iov[i].iov_base, &rx->buffer[i]);
}

/* The ICRC covers the IPv4 identification. Packets that were never cut, or that were put
 * together, have either what their place in the frame says or all the same.
 */
static bool icrc_is_right(
	const struct port_rx_buffer *buf, const uint8_t *data, size_t size)
{
	const struct eth_packet *pkt = &buf->pkt;
	uint16_t id = (uint16_t)(pkt->ip_id + buf->index);

	return link_icrc_ok(&pkt->flow, id, data, size) ||
	       (buf->index && link_icrc_ok(&pkt->flow, pkt->ip_id, data, size));
}

/* true: pass it on */
static bool packet_check(struct link_port *port, const struct port_rx_buffer *buf,
	const uint8_t *data, size_t size)
{
	struct link_stats *stats = &port->link.stats;

	stats->rx_packets++;
	stats->rx_bytes += size;
	if (size < WIRE_BTH_SIZE + WIRE_ICRC_SIZE) {
		stats->rx_runt++;
		return false;
	}
	if (!icrc_is_right(buf, data, size)) {
		stats->rx_bad_icrc++;
		return false;
	}
	return true;
}

/* Hand out what is left of the current buffer, at most @max packets. */
static int buffer_drain(struct link_port *port, struct link_rx *pkts, int max)
{
	struct port_rx_buffer *buf = &port->rx.buffer[port->rx.current];
	int n = 0;

	while (n < max && buf->consumed < buf->pkt.size) {
		const uint8_t *p = buf->pkt.data + buf->consumed;
		size_t size = MIN(buf->segment, buf->pkt.size - buf->consumed);
		bool good = packet_check(port, buf, p, size);

		buf->consumed += size;
		buf->index++;
		if (!good)
			continue;
		pkts[n].data = p;
		pkts[n].len = (uint32_t)(size - WIRE_ICRC_SIZE);
		pkts[n].ecn = buf->pkt.tclass & ETH_ECN_MASK;
		memcpy(pkts[n].sgid, buf->pkt.flow.src, sizeof(pkts[n].sgid));
		memcpy(pkts[n].dgid, buf->pkt.flow.dst, sizeof(pkts[n].dgid));
		n++;
	}
	return n;
}

int link_port_recv(struct link *link, struct link_rx *pkts, int max)
{
	struct link_port *port = link_port(link);
	struct port_rx *rx = &port->rx;
	int n = 0;

	if (rx->current == rx->n_filled)
		buffers_fill(port);
	while (n < max && rx->current < rx->n_filled) {
		struct port_rx_buffer *buf = &rx->buffer[rx->current];

		n += buffer_drain(port, pkts + n, max - n);
		if (buf->consumed == buf->pkt.size)
			rx->current++;
	}
	return n;
}
