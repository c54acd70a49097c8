/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Transmit side of the UDP link. A burst becomes messages to the kernel, each a run of
 * packets to one destination, from one socket and of one size (the last may be shorter),
 * which the kernel or the NIC cuts up again (UDP GSO).
 */
#include <assert.h>
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>

#include "lib/log.h"
#include "lib/util.h"
#include "udp_priv.h"

/* How long one burst may wait for room in a socket. Beyond that it is congestion, and
 * the engine's to deal with.
 */
#define SEND_WAIT_MS 1

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
	const struct run *run = &tx->run[m];
	const struct link_tx *head = &burst->pkt[run->first];
	struct wire_flow flow = {.sport = sport, .dport = WIRE_UDP_PORT};
	struct msghdr *hdr = &tx->msg[m].msg_hdr;
	struct iovec *iov = &tx->layout.iov[tx->layout.n_iovs];

	memcpy(flow.src, udp->link.gid, sizeof(flow.src));
	memcpy(flow.dst, head->dgid, sizeof(flow.dst));
	/* the kernel gives the same identifications; see tx_options() in udp.c */
	run_begin(&tx->layout, 0);
	run_put(&tx->layout, burst, run, &flow);

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

static void run_sent(struct link_udp *udp, const struct run *run, uint32_t bytes)
{
	udp->link.stats.tx_packets += (uint64_t)run->n_pkts;
	udp->link.stats.tx_bytes += bytes;
}

static void wait_writable(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};

	poll(&pfd, 1, SEND_WAIT_MS);
}

/* The kernel refused the message that run @run is. Return: whether to try once more */
static bool refusal_may_pass(
	struct link_udp *udp, const struct run *run, int fd, bool *waited)
{
	int err = errno;

	if (err == EIO && run->n_pkts > 1) {
		/* Older kernels have no GSO on an interface without checksum
		 * offload. The packets are laid out with the identifications of a GSO
		 * send, so they are lost; the next burst is sent one by one.
		 */
		udp->tx.run_max = 1;
		log_write(LOG_LEVEL_WARN, "udp", "%s takes no UDP GSO: slow sends",
			udp->link.ifname);
		return false;
	}
	if ((err == EAGAIN || err == ENOBUFS) && !*waited) {
		*waited = true;
		wait_writable(fd);
	}
	return true;
}

/*
 * Send the first @n messages from @sock. Each message that the kernel refuses gets one
 * more try, as the reason may have been a passing one: no room, or an error that an
 * earlier packet left in the socket. The burst as a whole waits for room once.
 */
static void messages_send(struct link_udp *udp, const struct udp_tx_socket *sock, int n)
{
	struct udp_tx *tx = &udp->tx;
	bool waited = false, retried = false;
	int done = 0;

	while (done < n) {
		int sent =
			sendmmsg(sock->fd, &tx->msg[done], (unsigned int)(n - done), 0);

		udp->link.stats.tx_syscalls++;
		if (sent > 0) {
			for (int end = done + sent; done < end; done++)
				run_sent(udp, &tx->run[done], tx->msg[done].msg_len);
			retried = false;
		} else if (!retried &&
			   refusal_may_pass(udp, &tx->run[done], sock->fd, &waited)) {
			retried = true;
		} else {
			udp->link.stats.tx_failed += (uint64_t)tx->run[done].n_pkts;
			retried = false;
			done++;
		}
	}
	run_reset(&tx->layout);
}

void link_udp_send(struct link *link, const struct link_burst *burst)
{
	struct link_udp *udp = link_udp(link);
	const struct udp_tx_socket *sock = NULL;
	int n_msgs = 0, next;

	for (int i = 0; i < burst->n_pkts; i = next) {
		const struct link_tx *pkt = &burst->pkt[i];
		struct run run = run_find(burst, i, udp->tx.run_max, UDP_TX_SOCKETS);

		next = i + run.n_pkts;
		if (gid_is_ipv4(pkt->dgid) != udp->is_ipv4) {
			/* no such address from here */
			link->stats.tx_failed += (uint64_t)(next - i);
			continue;
		}
		if (n_msgs && sock != socket_of(&udp->tx, pkt)) {
			messages_send(udp, sock, n_msgs);
			n_msgs = 0;
		}
		sock = socket_of(&udp->tx, pkt);
		udp->tx.run[n_msgs] = run;
		message_put(udp, burst, n_msgs++, sock->port);
	}
	if (n_msgs)
		messages_send(udp, sock, n_msgs);
}
