/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Transmit side of the packet port. As in the UDP link a burst becomes messages to the
 * kernel, each a run of packets to cut up; here each has its virtio-net header, which
 * asks for that, and all headers of its first packet in front. The kernel gives packet i
 * the identification i, and completes the UDP checksums.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "lib/util.h"
#include "port_priv.h"

/* RoCEv2 source ports: 0xC000 + 14 bits of entropy (annex A17). */
#define SPORT_BASE  0xc000
#define SPORT_COUNT 0x4000
/* How long one burst may wait for room in the socket. Beyond that it is congestion, and
 * the engine's to deal with.
 */
#define SEND_WAIT_MS 1

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
		way.fd = port->link.fd;
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
	struct port_tx *tx = &port->tx;
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

static void count_sent(
	struct link_port *port, const struct link_burst *burst, const struct run *run)
{
	port->link.stats.tx_packets += (uint64_t)run->n_pkts;
	port->link.stats.tx_bytes += run_size(burst, run);
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
	count_sent(port, burst, run);
	port_neigh_hold(port, burst->pkt[run->first].dgid, held);
}

static void wait_writable(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};

	poll(&pfd, 1, SEND_WAIT_MS);
}

/* The kernel refused the message that @run is. Return: whether to try once more */
static bool refusal_may_pass(
	struct link_port *port, const struct run *run, int fd, bool *waited)
{
	int err = errno;

	if (err == EINVAL && run->n_pkts > 1) {
		/* Linux before 6.2. The packets are laid out with the identifications of
		 * a GSO send, so they are lost; the next burst is sent one by one. */
		port->tx.run_max = 1;
		log_write(LOG_LEVEL_WARN, "port", "%s takes no UDP GSO: slow sends",
			port->link.ifname);
		return false;
	}
	if ((err == EAGAIN || err == ENOBUFS) && !*waited) {
		*waited = true;
		wait_writable(fd);
		return true;
	}
	return false;
}

/* Send the first @n messages. The burst waits for room once; what the kernel refuses then
 * is lost.
 */
static void messages_send(
	struct link_port *port, const struct link_burst *burst, int fd, int n)
{
	struct port_tx *tx = &port->tx;
	bool waited = false;
	int done = 0;

	while (done < n) {
		int sent = sendmmsg(
			fd, &tx->msg[done], (unsigned int)(n - done), MSG_DONTWAIT);

		port->link.stats.tx_syscalls++;
		if (sent > 0) {
			for (int end = done + sent; done < end; done++)
				count_sent(port, burst, &tx->run[done]);
		} else if (!refusal_may_pass(port, &tx->run[done], fd, &waited)) {
			port->link.stats.tx_failed += (uint64_t)tx->run[done].n_pkts;
			done++;
		}
	}
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

	for (int i = 0; i < burst->n_pkts; i = next) {
		const struct link_tx *pkt = &burst->pkt[i];
		struct run run = run_find(burst, i, port->tx.run_max, SPORT_COUNT);
		int fd = way.fd;

		next = i + run.n_pkts;
		if (gid_is_ipv4(pkt->dgid) != port->is_ipv4) {
			link->stats.tx_failed += (uint64_t)run.n_pkts;
			continue;
		}
		way = way_find(port, pkt->dgid, (uint32_t)run.n_pkts);
		if (n_msgs && fd != way.fd) {
			messages_send(port, burst, fd, n_msgs);
			n_msgs = 0;
		}
		n_msgs = run_enqueue(port, burst, &run, &way, n_msgs);
	}
	if (n_msgs)
		messages_send(port, burst, way.fd, n_msgs);
	run_reset(&port->tx.layout);
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

	if (sendmsg(port->link.fd, &msg, MSG_DONTWAIT) < 0) {
		/* Whoever needs it asks again. */
	}
}
