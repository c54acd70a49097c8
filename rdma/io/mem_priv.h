/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parts of the link in memory: its ends (mem.c), and what the wire between them does
 * to packets (mem_wire.c).
 */
#ifndef RDMA_IO_MEM_PRIV_H
#define RDMA_IO_MEM_PRIV_H

#include "mem.h"

#define MEM_GROUPS 16

struct mem_packet {
	struct mem_packet *next;
	uint32_t behind; /* held back: later packets still to let pass */
	uint32_t size;	 /* BTH to ICRC inclusive */
	uint8_t src_gid[16];
	uint8_t dst_gid[16];
	uint8_t ecn;
	uint64_t arrives_ns;
	uint8_t data[];
};

/* First in, first out. */
struct mem_queue {
	struct mem_packet *head;
	struct mem_packet **tail;
};

struct mem_end {
	struct link link; /* first, as ops get a pointer to it */
	struct mem_wire *wire;
	int index;
	struct mem_queue queue;	       /* to be received here */
	struct mem_queue held;	       /* held back on the way here */
	struct mem_queue loaned;       /* handed out by the last recv() */
	uint64_t busy_ns;	       /* the way here is, until then */
	uint8_t group[MEM_GROUPS][16]; /* joined; zero where there is none */
	bool open;
};

struct mem_wire {
	struct mem_end end[2];
	struct link_mem_script script;
	struct link_mem_stats stats;
	uint64_t random;
	uint64_t now_ns;
	link_mem_filter *filter;
	void *filter_arg;
};

static inline void mem_queue_init(struct mem_queue *q)
{
	q->head = NULL;
	q->tail = &q->head;
}

static inline void mem_queue_push(struct mem_queue *q, struct mem_packet *pkt)
{
	pkt->next = NULL;
	*q->tail = pkt;
	q->tail = &pkt->next;
}

static inline struct mem_packet *mem_queue_pop(struct mem_queue *q)
{
	struct mem_packet *pkt = q->head;

	if (pkt) {
		q->head = pkt->next;
		if (!q->head)
			q->tail = &q->head;
	}
	return pkt;
}

/** mem_packet_alloc() - NULL if there is no memory */
struct mem_packet *mem_packet_alloc(
	const uint8_t src_gid[16], const uint8_t dst_gid[16], size_t size);

/** mem_wire_carry() - do to a packet what the script says. Consumes @pkt. */
void mem_wire_carry(struct mem_end *from, struct mem_end *to, struct mem_packet *pkt);

#endif
