/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Transmit side of the UDP link. A burst becomes messages to the kernel, each a run of
 * packets to one destination, from one socket and of one size (the last may be shorter),
 * which the kernel or the NIC cuts up again (UDP GSO). Payload is gathered where it lies.
 */
#include <assert.h>
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>

#include "lib/log.h"
#include "lib/util.h"
#include "udp_priv.h"

/* A message may be as large as one IP packet: 65507 bytes for IPv4, and this for IPv6,
 * where the kernel counts the IP header in.
 */
#define RUN_MAX_BYTES (65535 - 40 - 8)
/* How long one burst may wait for room in a socket. Beyond that it is congestion, and
 * the engine's to deal with.
 */
#define SEND_WAIT_MS 1

static struct udp_tx_socket *socket_of(struct udp_tx *tx, const struct link_tx *pkt)
{
	return &tx->socket[pkt->sport_hash % UDP_TX_SOCKETS];
}

/* How many packets from @first on can be one message. */
static int run_length(const struct udp_tx *tx, const struct link_burst *burst, int first)
{
	const struct link_tx *head = &burst->pkt[first];
	size_t segment = link_tx_size(head), total = segment;
	int n = 1;

	while (first + n < burst->n_pkts && n < tx->run_max) {
		const struct link_tx *pkt = &burst->pkt[first + n];
		size_t size = link_tx_size(pkt);

		if (size > segment || total + size > RUN_MAX_BYTES ||
			pkt->sport_hash % UDP_TX_SOCKETS !=
				head->sport_hash % UDP_TX_SOCKETS ||
			memcmp(pkt->dgid, head->dgid, sizeof(pkt->dgid)) != 0)
			break;
		total += size;
		n++;
		if (size < segment)
			break; /* a shorter one ends the run */
	}
	return n;
}

static void iov_add(struct udp_tx *tx, void *base, size_t size)
{
	assert(tx->n_iovs < (int)ARRAY_SIZE(tx->iov));
	tx->iov[tx->n_iovs++] = (struct iovec){.iov_base = base, .iov_len = size};
}

/* Put @size bytes into the scratch area: as an iovec of their own, or added to the last
 * one, which then must be in the scratch area too.
 */
static uint8_t *scratch_take(struct udp_tx *tx, size_t size, bool extend)
{
	uint8_t *p = tx->scratch + tx->n_scratch;

	assert(tx->n_scratch + size <= sizeof(tx->scratch));
	tx->n_scratch += size;
	if (extend)
		tx->iov[tx->n_iovs - 1].iov_len += size;
	else
		iov_add(tx, p, size);
	return p;
}

/* Lay out one packet behind what the message has already. */
static void packet_put(struct udp_tx *tx, const struct link_burst *burst,
	const struct link_tx *pkt, const struct wire_flow *flow, uint16_t ip_id)
{
	const struct iovec *iov = &burst->iov[pkt->iov_first];
	uint8_t tail[LINK_TAIL_MAX];
	size_t tail_size;

	/* in front of all but a message's first lies another one's tail */
	memcpy(scratch_take(tx, pkt->hdr_len, ip_id > 0), pkt->hdr, pkt->hdr_len);
	for (int i = 0; i < pkt->n_iov; i++) {
		if (iov[i].iov_len)
			iov_add(tx, iov[i].iov_base, iov[i].iov_len);
	}
	tail_size = link_tx_tail(burst, pkt, flow, ip_id, tail);
	memcpy(scratch_take(tx, tail_size, pkt->payload_len == 0), tail, tail_size);
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
	const struct udp_run *run = &tx->run[m];
	const struct link_tx *head = &burst->pkt[run->first];
	struct wire_flow flow = {.sport = sport, .dport = WIRE_UDP_PORT};
	struct msghdr *hdr = &tx->msg[m].msg_hdr;
	int iov_first = tx->n_iovs;

	memcpy(flow.src, udp->link.gid, sizeof(flow.src));
	memcpy(flow.dst, head->dgid, sizeof(flow.dst));
	/* packet i of a run has i as its IP identification; see tx_options() in udp.c */
	for (int i = 0; i < run->n_pkts; i++)
		packet_put(tx, burst, &burst->pkt[run->first + i], &flow, (uint16_t)i);

	*hdr = (struct msghdr){
		.msg_name = &tx->to[m],
		.msg_namelen = gid_to_sockaddr(
			head->dgid, udp->scope, WIRE_UDP_PORT, &tx->to[m]),
		.msg_iov = &tx->iov[iov_first],
		.msg_iovlen = (size_t)(tx->n_iovs - iov_first),
	};
	if (run->n_pkts > 1)
		segment_size_put(hdr, tx->control[m].buf, sizeof(tx->control[m].buf),
			(uint16_t)link_tx_size(head));
}

static void run_sent(struct link_udp *udp, const struct udp_run *run, uint32_t bytes)
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
	struct link_udp *udp, const struct udp_run *run, int fd, bool *waited)
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
	tx->n_iovs = 0;
	tx->n_scratch = 0;
}

void link_udp_send(struct link *link, const struct link_burst *burst)
{
	struct link_udp *udp = link_udp(link);
	const struct udp_tx_socket *sock = NULL;
	int n_msgs = 0, next;

	for (int i = 0; i < burst->n_pkts; i = next) {
		const struct link_tx *pkt = &burst->pkt[i];

		next = i + run_length(&udp->tx, burst, i);
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
		udp->tx.run[n_msgs] = (struct udp_run){.first = i, .n_pkts = next - i};
		message_put(udp, burst, n_msgs++, sock->port);
	}
	if (n_msgs)
		messages_send(udp, sock, n_msgs);
}
