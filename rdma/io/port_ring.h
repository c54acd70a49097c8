/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A packet socket's receive ring (PACKET_RX_RING, TPACKET_V2): slots of one size in
 * memory that is shared with the kernel, which puts a frame into each, in order, while it
 * handles the packet. So frames come without a system call, and the buffers in which they
 * travelled are free at once, on the core that filled them: for a sender on this machine
 * that makes 60 KB a third cheaper than a queue of such buffers, which another core
 * empties.
 *
 * A slot is the kernel's until it says otherwise, then ours until it is given back. One
 * thread at a time.
 */
#ifndef RDMA_IO_PORT_RING_H
#define RDMA_IO_PORT_RING_H

#include <linux/if_packet.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct port_ring {
	uint8_t *mem; /* NULL: there is no ring */
	size_t size;
	struct tpacket2_hdr **slot;
	uint32_t n_slots;
	uint32_t next;	 /* to be read */
	uint32_t oldest; /* that is held: those from here to next are, n_held */
	uint32_t n_held;
};

/** struct port_ring_size - @n_blocks pieces of memory, each with as many slots as fit */
struct port_ring_size {
	uint32_t slot;	/* bytes; a multiple of TPACKET_ALIGNMENT */
	uint32_t block; /* bytes; a multiple of the page's */
	uint32_t n_blocks;
};

/** port_ring_open() - give a socket a ring, before it is bound
 * @fd: borrowed, for the ring's life; takes virtio-net headers
 * Return: 0, -ENOMEM, or as the kernel says
 */
int port_ring_open(struct port_ring *ring, int fd, const struct port_ring_size *size);

/** port_ring_close() - the socket keeps its ring; it is to be closed, too */
void port_ring_close(struct port_ring *ring);

/** port_ring_peek() - the next frame's slot, or NULL: none came */
static inline const struct tpacket2_hdr *port_ring_peek(const struct port_ring *ring)
{
	const struct tpacket2_hdr *hdr = ring->slot[ring->next];
	/* Pairs with the kernel's barrier between a frame and its status. */
	uint32_t status = __atomic_load_n(&hdr->tp_status, __ATOMIC_ACQUIRE);

	return (status & TP_STATUS_USER) && ring->n_held < ring->n_slots ? hdr : NULL;
}

static inline uint32_t port_ring_behind(const struct port_ring *ring, uint32_t slot)
{
	return slot + 1 < ring->n_slots ? slot + 1 : 0;
}

/** port_ring_take() - go on behind the slot that port_ring_peek() gave: it is held */
static inline void port_ring_take(struct port_ring *ring)
{
	ring->next = port_ring_behind(ring, ring->next);
	ring->n_held++;
}

/** port_ring_give_back() - all slots that are held but the last @n_keep */
void port_ring_give_back(struct port_ring *ring, uint32_t n_keep);

#endif
