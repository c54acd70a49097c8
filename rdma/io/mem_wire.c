/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the wire of the link in memory does to packets. All randomness comes from one
 * generator of the pair: the same script and the same calls give the same run.
 *
 * A reordered packet is held back until 1..8 later ones of its direction are queued, or
 * until the receiver finds nothing else: reordering alone never loses a packet.
 */
#include "mem_priv.h"

#include <stdlib.h>
#include <string.h>

#include "lib/util.h"

#define PPM	      1000000
#define HOLD_BACK_MAX 8
#define LOWER_HEADERS 48 /* what IP and Ethernet add to a UDP payload, less the ICRC */

/* splitmix64: any seed will do, 0 included. */
static uint64_t wire_random(struct mem_wire *wire)
{
	uint64_t z = wire->random += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static bool wire_chance(struct mem_wire *wire, uint32_t ppm)
{
	return ppm && wire_random(wire) % PPM < ppm;
}

struct mem_packet *mem_packet_alloc(
	const uint8_t src_gid[16], const uint8_t dst_gid[16], size_t size)
{
	struct mem_packet *pkt = malloc(sizeof(*pkt) + size);

	if (!pkt)
		return NULL;
	pkt->behind = 0;
	pkt->ecn = LINK_ECN_ECT0;
	pkt->arrives_ns = 0;
	pkt->size = (uint32_t)size;
	memcpy(pkt->src_gid, src_gid, sizeof(pkt->src_gid));
	memcpy(pkt->dst_gid, dst_gid, sizeof(pkt->dst_gid));
	return pkt;
}

/* A packet reaches the receiver's queue, and lets held ones behind it. */
static void wire_deliver(struct mem_end *to, struct mem_packet *pkt)
{
	struct mem_queue held = to->held;

	mem_queue_push(&to->queue, pkt);
	if (!held.head)
		return;
	mem_queue_init(&to->held);
	for (uint64_t arrives_ns = pkt->arrives_ns; (pkt = mem_queue_pop(&held));) {
		pkt->arrives_ns = MAX(pkt->arrives_ns, arrives_ns);
		mem_queue_push(--pkt->behind ? &to->held : &to->queue, pkt);
	}
}

static void wire_hold_or_deliver(struct mem_end *to, struct mem_packet *pkt)
{
	struct mem_wire *wire = to->wire;

	if (!wire_chance(wire, wire->script.reorder_ppm)) {
		wire_deliver(to, pkt);
		return;
	}
	wire->stats.reordered++;
	pkt->behind = 1 + (uint32_t)(wire_random(wire) % HOLD_BACK_MAX);
	mem_queue_push(&to->held, pkt);
}

static void wire_mark(struct mem_wire *wire, struct mem_packet *pkt)
{
	pkt->ecn = LINK_ECN_CE;
	wire->stats.marked++;
}

static void wire_duplicate(struct mem_end *to, const struct mem_packet *pkt)
{
	struct mem_packet *copy = mem_packet_alloc(pkt->src_gid, pkt->dst_gid, pkt->size);

	if (!copy)
		return;
	memcpy(copy->data, pkt->data, pkt->size);
	copy->ecn = pkt->ecn;
	copy->arrives_ns = pkt->arrives_ns;
	to->wire->stats.duplicated++;
	wire_hold_or_deliver(to, copy);
}

/* The bottleneck. Return: false if its queue is full */
static bool wire_queue(struct mem_end *to, struct mem_packet *pkt)
{
	struct mem_wire *wire = to->wire;
	const struct link_mem_script *script = &wire->script;
	uint64_t begins_ns = MAX(wire->now_ns, to->busy_ns);

	if (script->rate) {
		uint64_t waiting =
			(begins_ns - wire->now_ns) * script->rate / NSEC_PER_SEC;

		if (script->queue_bytes && waiting > script->queue_bytes) {
			wire->stats.overflowed++;
			return false;
		}
		if (script->mark_bytes && waiting > script->mark_bytes)
			wire_mark(wire, pkt);
		begins_ns += (pkt->size + LOWER_HEADERS) * NSEC_PER_SEC / script->rate;
		to->busy_ns = begins_ns;
	}
	pkt->arrives_ns = begins_ns + script->delay_ns;
	return true;
}

void mem_wire_carry(struct mem_end *from, struct mem_end *to, struct mem_packet *pkt)
{
	struct mem_wire *wire = to->wire;
	const struct link_mem_script *script = &wire->script;

	wire->stats.carried++;
	if (wire->filter &&
		!wire->filter(wire->filter_arg, from->index, pkt->data, pkt->size)) {
		wire->stats.filtered++;
		free(pkt);
		return;
	}
	if (!to->open || wire_chance(wire, script->loss_ppm)) {
		wire->stats.lost++;
		free(pkt);
		return;
	}
	if (wire_chance(wire, script->corrupt_ppm)) {
		uint64_t bit = wire_random(wire) % (pkt->size * 8ull);

		pkt->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		wire->stats.corrupted++;
	}
	if (!wire_queue(to, pkt)) {
		free(pkt);
		return;
	}
	if (wire_chance(wire, script->ce_ppm))
		wire_mark(wire, pkt);
	if (wire_chance(wire, script->duplicate_ppm))
		wire_duplicate(to, pkt);
	wire_hold_or_deliver(to, pkt);
}
