/* SPDX-License-Identifier: BSD-3-Clause */
#include "port_ring.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

static int slots_find(struct port_ring *ring, const struct port_ring_size *size)
{
	uint32_t per_block = size->block / size->slot;

	ring->slot = calloc(ring->n_slots, sizeof(ring->slot[0]));
	if (!ring->slot)
		return -ENOMEM;
	for (uint32_t i = 0; i < ring->n_slots; i++)
		ring->slot[i] =
			(struct tpacket2_hdr *)(ring->mem +
						(size_t)(i / per_block) * size->block +
						(size_t)(i % per_block) * size->slot);
	return 0;
}

int port_ring_open(struct port_ring *ring, int fd, const struct port_ring_size *size)
{
	uint32_t n_slots = size->block / size->slot * size->n_blocks;
	struct tpacket_req req = {
		.tp_block_size = size->block,
		.tp_block_nr = size->n_blocks,
		.tp_frame_size = size->slot,
		.tp_frame_nr = n_slots,
	};
	int version = TPACKET_V2;
	void *mem;

	if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) < 0 ||
		setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)) < 0)
		return -errno;
	ring->size = (size_t)size->block * size->n_blocks;
	mem = mmap(NULL, ring->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		fd, 0);
	if (mem == MAP_FAILED)
		return -errno;
	ring->mem = mem;
	ring->n_slots = n_slots;
	return slots_find(ring, size);
}

void port_ring_close(struct port_ring *ring)
{
	if (ring->mem)
		munmap(ring->mem, ring->size);
	free(ring->slot);
	*ring = (struct port_ring){0};
}

void port_ring_give_back(struct port_ring *ring, uint32_t n_keep)
{
	while (ring->n_held > n_keep) {
		/* What was to be read of it was read before. */
		__atomic_store_n(&ring->slot[ring->oldest]->tp_status, TP_STATUS_KERNEL,
			__ATOMIC_RELEASE);
		ring->oldest = port_ring_behind(ring, ring->oldest);
		ring->n_held--;
	}
}
