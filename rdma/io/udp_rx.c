/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receive side of the UDP link. One system call fills up to UDP_RX_BUFFERS buffers, each
 * with one packet or with a run of packets of one size that GRO put together (the last
 * may be shorter). recv() hands out packets where they lie; what it does not get to hand
 * out stays for the next call.
 */
#include <netinet/udp.h>
#include <string.h>

#include "lib/util.h"
#include "udp_priv.h"

#define IP_ECN_MASK 0x3
#define ASK_MIN	    4 /* buffers */

static void slot_reset(struct udp_rx *rx, int i)
{
	struct udp_rx_buffer *buf = &rx->buffer[i];

	rx->iov[i] = (struct iovec){
		.iov_base = rx->data + (size_t)i * UDP_BUFFER_SIZE,
		.iov_len = UDP_BUFFER_SIZE,
	};
	rx->msg[i].msg_hdr = (struct msghdr){
		.msg_name = &buf->from,
		.msg_namelen = sizeof(buf->from),
		.msg_iov = &rx->iov[i],
		.msg_iovlen = 1,
		.msg_control = buf->control,
		.msg_controllen = sizeof(buf->control),
	};
}

void udp_rx_init(struct udp_rx *rx)
{
	rx->n_ask = ASK_MIN;
	for (int i = 0; i < UDP_RX_BUFFERS; i++)
		slot_reset(rx, i);
}

static void control_read(struct link_udp *udp, struct udp_rx_socket *sock,
	struct udp_rx_buffer *buf, const struct cmsghdr *cmsg)
{
	int value = 0; /* TOS comes as a byte, the others as 32 bits */

	memcpy(&value, CMSG_DATA(cmsg), MIN(cmsg->cmsg_len - CMSG_LEN(0), sizeof(value)));
	if (cmsg->cmsg_level == SOL_UDP && cmsg->cmsg_type == UDP_GRO) {
		buf->segment = (uint32_t)value;
	} else if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SO_RXQ_OVFL) {
		/* a counter of 32 bits that never goes back, but wraps */
		udp->link.stats.rx_overflow += (uint32_t)value - sock->kernel_drops;
		sock->kernel_drops = (uint32_t)value;
	} else if ((cmsg->cmsg_level == IPPROTO_IP && cmsg->cmsg_type == IP_TOS) ||
		   (cmsg->cmsg_level == IPPROTO_IPV6 && cmsg->cmsg_type == IPV6_TCLASS)) {
		buf->ecn = (uint8_t)(value & IP_ECN_MASK);
	}
}

static void slot_read(struct link_udp *udp, struct udp_rx_socket *sock,
	struct mmsghdr *msg, struct udp_rx_buffer *buf)
{
	struct msghdr *hdr = &msg->msg_hdr;

	buf->size = msg->msg_len;
	buf->segment = 0;
	buf->consumed = 0;
	buf->ecn = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(hdr); c; c = CMSG_NXTHDR(hdr, c))
		control_read(udp, sock, buf, c);
	if (buf->segment == 0)
		buf->segment = buf->size;

	buf->port = ntohs(udp->is_ipv4 ? buf->from.in.sin_port : buf->from.in6.sin6_port);
	gid_from_sockaddr(&buf->from.sa, buf->gid);
	if (hdr->msg_flags & MSG_TRUNC) {
		udp->link.stats.rx_packets++;
		udp->link.stats.rx_truncated++;
		buf->consumed = buf->size;
	} else if (buf->size == 0) { /* an empty datagram */
		udp->link.stats.rx_packets++;
		udp->link.stats.rx_runt++;
	}
}

/* One system call for up to n_ask buffers. Return: buffers that were filled
 *
 * To ask for more than there is costs as much as an empty receive, in the way of what has
 * come. But who rests between polls has to get an ACK and the message behind it at once:
 * with less than ASK_MIN, Open vSwitch's poll thread took one, and slept on the other.
 */
static int buffers_receive(struct link_udp *udp, int fd)
{
	struct udp_rx *rx = &udp->rx;
	int n = recvmmsg(fd, rx->msg, (unsigned int)rx->n_ask, MSG_DONTWAIT, NULL);

	udp->link.stats.rx_syscalls++;
	/* Nothing there, or an error that an ICMP message left: no packet either way. */
	n = MAX(n, 0);
	rx->n_ask = MIN(MAX(2 * n, ASK_MIN), UDP_RX_BUFFERS);
	return n;
}

/* Receive into buffers, none of which is in use any more. */
static void buffers_fill(struct link_udp *udp)
{
	struct udp_rx_socket *sock = udp_socket_ready(udp);
	struct udp_rx *rx = &udp->rx;

	for (int i = 0; i < rx->n_filled; i++)
		slot_reset(rx, i);
	rx->n_filled = 0;
	rx->current = 0;
	if (!sock)
		return;
	rx->n_filled = buffers_receive(udp, sock->fd);
	memcpy(rx->dgid, sock->gid, sizeof(rx->dgid));
	for (int i = 0; i < rx->n_filled; i++)
		slot_read(udp, sock, &rx->msg[i], &rx->buffer[i]);
}

/* Check a packet as far as its IP header is known. true: pass it on. */
static bool packet_check(struct link_udp *udp, const struct udp_rx_buffer *buf,
	const uint8_t *data, uint32_t size)
{
	struct link_stats *stats = &udp->link.stats;
	struct wire_flow flow = {.sport = buf->port, .dport = WIRE_UDP_PORT};

	stats->rx_packets++;
	stats->rx_bytes += size;
	if (size < WIRE_BTH_SIZE + WIRE_ICRC_SIZE) {
		stats->rx_runt++;
		return false;
	}
	if (udp->is_ipv4) {
		stats->rx_icrc_unverified++;
		return true;
	}
	memcpy(flow.src, buf->gid, sizeof(flow.src));
	memcpy(flow.dst, udp->rx.dgid, sizeof(flow.dst));
	if (!link_icrc_ok(&flow, 0, data, size)) {
		stats->rx_bad_icrc++;
		return false;
	}
	return true;
}

/* Hand out what is left of the current buffer, at most @max packets. */
static int buffer_drain(struct link_udp *udp, struct link_rx *pkts, int max)
{
	struct udp_rx_buffer *buf = &udp->rx.buffer[udp->rx.current];
	const uint8_t *data = udp->rx.data + (size_t)udp->rx.current * UDP_BUFFER_SIZE;
	int n = 0;

	while (n < max && buf->consumed < buf->size) {
		const uint8_t *p = data + buf->consumed;
		uint32_t size = MIN(buf->segment, buf->size - buf->consumed);

		buf->consumed += size;
		if (!packet_check(udp, buf, p, size))
			continue;
		pkts[n].data = p;
		pkts[n].len = size - WIRE_ICRC_SIZE;
		pkts[n].ecn = buf->ecn;
		memcpy(pkts[n].sgid, buf->gid, sizeof(pkts[n].sgid));
		memcpy(pkts[n].dgid, udp->rx.dgid, sizeof(pkts[n].dgid));
		n++;
	}
	return n;
}

int link_udp_recv(struct link *link, struct link_rx *pkts, int max)
{
	struct link_udp *udp = link_udp(link);
	struct udp_rx *rx = &udp->rx;
	int n = 0;

	if (rx->current == rx->n_filled)
		buffers_fill(udp);
	while (n < max && rx->current < rx->n_filled) {
		struct udp_rx_buffer *buf = &rx->buffer[rx->current];

		n += buffer_drain(udp, pkts + n, max - n);
		if (buf->consumed == buf->size)
			rx->current++;
	}
	return n;
}
