/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sending and receiving by a set of links.
 */
#include <string.h>
#include <sys/epoll.h>

#include "link_set_priv.h"

/* Receives for each look at which links have packets. */
#define LOOK_INTERVAL 4

/* Send */

/* Most bursts are from one address. */
static bool is_of_one(const struct link_burst *burst)
{
	for (int i = 1; i < burst->n_pkts; i++) {
		if (burst->pkt[i].sgid_index != burst->pkt[0].sgid_index)
			return false;
	}
	return true;
}

static void send_by(struct link_set *set, uint8_t index, const struct link_burst *burst)
{
	struct link *link = index < LINK_SET_MAX ? set->link[index] : NULL;

	if (link)
		link->ops->send(link, burst);
	else
		set->gone.tx_failed += (uint64_t)burst->n_pkts;
}

static void part_append(struct link_burst *part, const struct link_burst *burst,
	const struct link_tx *pkt)
{
	struct link_tx *tx = &part->pkt[part->n_pkts++];

	*tx = *pkt;
	tx->iov_first = (uint16_t)part->n_iovs;
	memcpy(&part->iov[part->n_iovs], &burst->iov[pkt->iov_first],
		pkt->n_iov * sizeof(*part->iov));
	part->n_iovs += pkt->n_iov;
}

/* Packets of one address keep their order, which is all that a queue pair needs. */
static void send_parts(struct link_set *set, const struct link_burst *burst)
{
	struct link_burst *part = &set->part;
	bool done[LINK_BURST] = {false};

	for (int first = 0; first < burst->n_pkts; first++) {
		uint8_t index = burst->pkt[first].sgid_index;

		if (done[first])
			continue;
		part->n_pkts = 0;
		part->n_iovs = 0;
		for (int i = first; i < burst->n_pkts; i++) {
			if (burst->pkt[i].sgid_index != index)
				continue;
			part_append(part, burst, &burst->pkt[i]);
			done[i] = true;
		}
		send_by(set, index, part);
	}
}

void link_set_send(struct link_set *set, const struct link_burst *burst)
{
	if (likely(is_of_one(burst)))
		send_by(set, burst->pkt[0].sgid_index, burst);
	else
		send_parts(set, burst);
}

void link_set_expect(struct link_set *set, uint8_t index, const uint8_t gid[16])
{
	struct link *link = set->link[index];

	if (link && link->ops->expect)
		link->ops->expect(link, gid);
}

/* Receive */

static int recv_from(struct link_set *set, int i, struct link_rx *pkts, int max)
{
	int n = set->link[i]->ops->recv(set->link[i], pkts, max);

	set->current = i;
	if (n == max)
		set->held |= 1u << i;
	else
		set->held &= ~(1u << i);
	return n;
}

/* An error, as of an interface that goes down, makes a descriptor ready until it is
 * taken; a link that gets its packets from memory shared with the kernel never does.
 */
static void take_errors(const struct link *link)
{
	link_take_error(&(struct pollfd){.fd = link->fd, .revents = POLLERR});
	link_take_error(&(struct pollfd){.fd = link->more_fd, .revents = POLLERR});
}

/* Go on with another link that has packets, if any has: in turn with one that the kernel
 * names, which does so in turn, and one that holds some.
 */
static void look(struct link_set *set)
{
	uint32_t others = set->held & ~(1u << set->current);
	struct epoll_event ev;

	if (others && (set->n_recvs & LOOK_INTERVAL)) {
		set->current = __builtin_ctz(others);
		return;
	}
	set->gone.rx_syscalls++;
	if (epoll_wait(set->epoll_fd, &ev, 1, 0) != 1)
		return;
	set->current = (int)ev.data.u32;
	if (unlikely(ev.events & EPOLLERR))
		take_errors(set->link[set->current]);
}

int link_set_recv(struct link_set *set, struct link_rx *pkts, int max)
{
	int n;

	if (unlikely(set->current < 0))
		return 0;
	if (unlikely(set->n_links > 1) && ++set->n_recvs % LOOK_INTERVAL == 0)
		look(set);
	n = recv_from(set, set->current, pkts, max);
	while (unlikely(!n && set->held))
		n = recv_from(set, __builtin_ctz(set->held), pkts, max);
	return n;
}

bool link_set_holds(const struct link_set *set)
{
	return set->held;
}
