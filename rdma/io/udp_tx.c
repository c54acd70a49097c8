/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Transmit side of the UDP link. A burst becomes messages to the kernel, each a run of
 * packets to one destination, from one socket and of one size (the last may be shorter),
 * which the kernel or the NIC cuts up again (UDP GSO).
 */
#include <netinet/udp.h>
#include <string.h>

#include "udp_priv.h"

static struct udp_tx_socket *socket_of(struct udp_tx *tx, const struct link_tx *pkt)
{
	return &tx->socket[pkt->sport_hash % UDP_TX_SOCKETS];
}

/* Tell the kernel where to cut. */
static void segment_size_put(
	struct msghdr *hdr, void *control, size_t size, uint16_t segment)
{
	struct cmsghdr *cmsg;

	hdr->msg_control = control;
	hdr->msg_controllen = size;
	cmsg = CMSG_FIRSTHDR(hdr);
	cmsg->cmsg_level = SOL_UDP;
	cmsg->cmsg_type = UDP_SEGMENT;
	cmsg->cmsg_len = CMSG_LEN(sizeof(segment));
	memcpy(CMSG_DATA(cmsg), &segment, sizeof(segment));
}

/* Make message @m of the packets of run @m. */
static void message_put(
	struct link_udp *udp, const struct link_burst *burst, int m, uint16_t sport)
{
	struct udp_tx *tx = &udp->tx;
	struct run_layout *layout = &tx->runs.layout;
	const struct run *run = &tx->runs.run[m];
	const struct link_tx *head = &burst->pkt[run->first];
	struct wire_flow flow = {.sport = sport, .dport = WIRE_UDP_PORT};
	struct msghdr *hdr = &tx->runs.msg[m].msg_hdr;
	struct iovec *iov = &layout->iov[layout->n_iovs];

	memcpy(flow.src, udp->link.gid, sizeof(flow.src));
	memcpy(flow.dst, head->dgid, sizeof(flow.dst));
	/* the kernel gives the same identifications; see tx_options() in udp.c */
	run_begin(layout, 0);
	run_put(layout, burst, run, &flow);

	*hdr = (struct msghdr){
		.msg_name = &tx->to[m],
		.msg_namelen = gid_to_sockaddr(
			head->dgid, udp->scope, WIRE_UDP_PORT, &tx->to[m]),
		.msg_iov = iov,
		.msg_iovlen = 1,
	};
	if (run->n_pkts > 1)
		segment_size_put(hdr, tx->control[m].buf, sizeof(tx->control[m].buf),
			(uint16_t)link_tx_size(head));
}

void link_udp_send(struct link *link, const struct link_burst *burst)
{
	struct link_udp *udp = link_udp(link);
	const struct udp_tx_socket *sock = NULL;
	struct run_tx *runs = &udp->tx.runs;
	int n_msgs = 0, next;

	run_reset(&runs->layout);
	for (int i = 0; i < burst->n_pkts; i = next) {
		const struct link_tx *pkt = &burst->pkt[i];
		struct run run = run_find(burst, i, runs->max_pkts, UDP_TX_SOCKETS);

		next = i + run.n_pkts;
		if (gid_is_ipv4(pkt->dgid) != udp->is_ipv4) {
			/* no such address from here */
			link->stats.tx_failed += (uint64_t)(next - i);
			continue;
		}
		if (n_msgs && sock != socket_of(&udp->tx, pkt)) {
			run_send(link, runs, burst, sock->fd, n_msgs);
			n_msgs = 0;
		}
		sock = socket_of(&udp->tx, pkt);
		runs->run[n_msgs] = run;
		message_put(udp, burst, n_msgs++, sock->port);
	}
	if (n_msgs)
		run_send(link, runs, burst, sock->fd, n_msgs);
}
