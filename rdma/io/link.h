/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The link: what carries packets for an engine. Implementations: udp.h (a UDP
 * socket), port.h (a packet socket), mem.h (two ends in memory, scripted, for tests).
 *
 * A link owns addresses, UDP, IP and the ICRC; the engine sees only what lies between
 * UDP header and ICRC. One thread at a time may send, and one at a time receive; the two
 * may run concurrently. The provider's locks see to that.
 */
#ifndef RDMA_IO_LINK_H
#define RDMA_IO_LINK_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "rdma/wire/packet.h"

/* Packets in a burst: at a path MTU of 4096 they fill four messages of 64 KiB to the
 * kernel. */
#define LINK_BURST	60
#define LINK_BURST_IOVS 256 /* payload pieces in a burst */
/* BTH to ICRC inclusive, at the largest path MTU that there is */
#define LINK_PKT_MAX (WIRE_HDR_MAX + 4096 + WIRE_ICRC_SIZE)

/* IP's ECN bits (RFC 3168). A link sends all packets as LINK_ECN_ECT0. */
enum { LINK_ECN_ECT0 = 2, LINK_ECN_CE = 3 };

/** struct link_tx - one packet to send: headers, then payload pieces, then pad */
struct link_tx {
	uint8_t hdr[WIRE_HDR_MAX];
	uint8_t hdr_len;
	uint8_t pad;	    /* 0..3 zero bytes behind the payload */
	uint16_t iov_first; /* payload: burst->iov[iov_first .. +n_iov) */
	uint16_t n_iov;
	uint16_t sport_hash;  /* flow entropy; packets of one QP have the same */
	uint8_t sgid_index;   /* from; for who has several links (link_set.h) */
	uint32_t payload_len; /* bytes */
	uint8_t dgid[16];     /* to; IPv4 as ::ffff:a.b.c.d */
};

/** struct link_burst - packets to send, in order; filled by the engine */
struct link_burst {
	int n_pkts;
	int n_iovs;
	struct link_tx pkt[LINK_BURST];
	struct iovec iov[LINK_BURST_IOVS];
};

/** struct link_rx - one packet that came in; ICRC checked where it can be, and cut off */
struct link_rx {
	const uint8_t *data; /* BTH first; valid until the next recv() */
	uint32_t len;
	uint8_t sgid[16]; /* from */
	uint8_t dgid[16]; /* to: one of the link's own, or a multicast group */
	uint8_t ecn;	  /* IP ECN bits, 0 if not known */
};

/* Packets that end at the link, by cause, and what it carried. What recv() gave is
 * rx_packets - rx_runt - rx_bad_icrc - rx_truncated - rx_malformed - rx_foreign.
 */
#define LINK_COUNTERS(X)                                                                 \
	X(tx_packets)                                                                    \
	X(tx_bytes) /* UDP payload */                                                    \
	X(tx_syscalls)                                                                   \
	X(tx_failed)  /* the kernel refused the packet; recovery is the engine's */      \
	X(rx_packets) /* all that came in */                                             \
	X(rx_bytes)                                                                      \
	X(rx_syscalls)                                                                   \
	X(rx_runt) /* shorter than BTH and ICRC */                                       \
	X(rx_bad_icrc)                                                                   \
	X(rx_icrc_unverified) /* passed on; the IP header is not known (facts: UDP over  \
				 IPv4) */                                                \
	X(rx_truncated)                                                                  \
	X(rx_overflow) /* lost in the socket for want of buffer, as the kernel counts */ \
	/* Of links that have Ethernet and IP headers of their own: */                   \
	X(tx_no_route)	 /* not in our network, and there is no gateway */               \
	X(tx_unresolved) /* the neighbour did not answer, or too much waited for         \
			    answers; some are in tx_packets as well */                   \
	X(rx_malformed)	 /* wrong Ethernet, IP or UDP header */                          \
	X(rx_foreign)	 /* to another address, or a group that was not joined */        \
	/* ARP, neighbour discovery, the table of neighbours (struct neigh_stats) */     \
	X(neigh_malformed)                                                               \
	X(neigh_answers)   /* that we gave */                                            \
	X(neigh_conflicts) /* another host told that our address is its own */           \
	X(neigh_asked)                                                                   \
	X(neigh_answered)                                                                \
	X(neigh_ignored)                                                                 \
	X(neigh_moved)                                                                   \
	X(neigh_evicted)                                                                 \
	/* IGMP, MLD */                                                                  \
	X(group_queries) /* that came in */                                              \
	X(group_reports) /* that we gave */

struct link_stats {
#define X(counter) uint64_t counter;
	LINK_COUNTERS(X)
#undef X
};

struct link;

struct link_ops {
	/** send() - send a burst in order. Packets that can't be sent are counted in
	 * tx_failed and lost; the engine's recovery deals with them as with any loss.
	 */
	void (*send)(struct link *link, const struct link_burst *burst);
	/** expect() - packets to @gid will be sent soon: see to what takes time, such as
	 * asking for its MAC address. NULL: nothing does. Counts as sending.
	 */
	void (*expect)(struct link *link, const uint8_t gid[16]);
	/** recv() - up to @max packets; 0 if none is there. Never blocks. Call it until
	 * it gives 0 before waiting for @fd and @more_fd: it may hold packets that the
	 * kernel has handed over already. Both are to be waited for level-triggered.
	 */
	int (*recv)(struct link *link, struct link_rx *pkts, int max);
	/** join(), leave() - take part in a multicast group, or no longer. What anybody
	 * sends to it, this link included, then comes out of recv() with the group as
	 * its dgid. Packets can be sent to a group without this.
	 *
	 * No thread may receive meanwhile. join() may change @fd: a thread that waits for
	 * the old one is to be woken.
	 * @gid: 224.0.0.0/4 as ::ffff:a.b.c.d, or ff00::/8; joined at most once
	 * Return: 0, -EINVAL (no group, or of the other IP version than the link's),
	 *         -ENOMEM, or as the kernel says
	 */
	int (*join)(struct link *link, const uint8_t gid[16]);
	void (*leave)(struct link *link, const uint8_t gid[16]);
	/** refresh() - the interface or its addresses have changed: see to ip_mtu and
	 * has_gid. NULL: nothing that could change. Called by one thread at a time.
	 */
	void (*refresh)(struct link *link);
	/** close() - free the link, which leaves all groups. */
	void (*close)(struct link *link);
};

struct link {
	const struct link_ops *ops;
	struct link_stats stats;
	uint8_t gid[16];	 /* own address */
	_Atomic bool has_gid;	 /* false while the interface has lost the address */
	_Atomic uint32_t ip_mtu; /* of the interface, bytes, IP header included */
	char ifname[16];
	_Atomic int fd; /* readable when recv() may give packets; -1 if there is none */
	int more_fd; /* another one, for the link's life; -1 if there is none. Not one for
			both, by epoll: to watch a socket slows each packet down. */
};

/** link_take_error() - poll(2) said POLLERR, as when an interface goes down: it would say
 * so for ever, as recv() need not look at the socket.
 * @pfd: after poll(2); one of the link's
 */
void link_take_error(const struct pollfd *pfd);

/** link_wait() - until recv() may give packets, or for @timeout_ms, or an error.
 * Return: may it give packets?
 */
bool link_wait(const struct link *link, int timeout_ms);

static inline void link_close(struct link *link)
{
	if (link)
		link->ops->close(link);
}

#endif
