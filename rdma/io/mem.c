/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The link in memory. A packet is one allocation of exactly its size, so that a
 * sanitizer sees an engine that reads past its end. All randomness comes from one
 * generator of the pair: the same script and the same calls give the same run.
 *
 * A reordered packet is held back until 1..8 later ones of its direction are queued, or
 * until the receiver finds nothing else: reordering alone never loses a packet.
 */
#include "mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/util.h"
#include "link_priv.h"
#include "rdma/wire/gid.h"

#define PPM	      1000000
#define HOLD_BACK_MAX 8
#define MEM_SPORT     0xc000
#define MEM_GROUPS    16
#define LOWER_HEADERS 48 /* what IP and Ethernet add to a UDP payload, less the ICRC */

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

static struct mem_end *mem_end(struct link *link)
{
	return container_of(link, struct mem_end, link);
}

static void queue_init(struct mem_queue *q)
{
	q->head = NULL;
	q->tail = &q->head;
}

static void queue_push(struct mem_queue *q, struct mem_packet *pkt)
{
	pkt->next = NULL;
	*q->tail = pkt;
	q->tail = &pkt->next;
}

static struct mem_packet *queue_pop(struct mem_queue *q)
{
	struct mem_packet *pkt = q->head;

	if (pkt) {
		q->head = pkt->next;
		if (!q->head)
			q->tail = &q->head;
	}
	return pkt;
}

static void queue_free(struct mem_queue *q)
{
	struct mem_packet *pkt;

	while ((pkt = queue_pop(q)))
		free(pkt);
}

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

static struct wire_flow mem_flow(const uint8_t src[16], const uint8_t dst[16])
{
	struct wire_flow flow = {.sport = MEM_SPORT, .dport = WIRE_UDP_PORT};

	memcpy(flow.src, src, sizeof(flow.src));
	memcpy(flow.dst, dst, sizeof(flow.dst));
	return flow;
}

static struct mem_packet *packet_alloc(
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

static struct mem_packet *packet_gather(
	struct mem_end *from, const struct link_burst *burst, const struct link_tx *tx)
{
	struct mem_packet *pkt = packet_alloc(from->link.gid, tx->dgid, link_tx_size(tx));
	struct wire_flow flow = mem_flow(from->link.gid, tx->dgid);

	if (pkt)
		link_tx_put(burst, tx, &flow, 0, pkt->data);
	return pkt;
}

/* A packet reaches the receiver's queue, and lets held ones behind it. */
static void wire_deliver(struct mem_end *to, struct mem_packet *pkt)
{
	struct mem_queue held = to->held;

	queue_push(&to->queue, pkt);
	if (!held.head)
		return;
	queue_init(&to->held);
	for (uint64_t arrives_ns = pkt->arrives_ns; (pkt = queue_pop(&held));) {
		pkt->arrives_ns = MAX(pkt->arrives_ns, arrives_ns);
		queue_push(--pkt->behind ? &to->held : &to->queue, pkt);
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
	queue_push(&to->held, pkt);
}

static void wire_mark(struct mem_wire *wire, struct mem_packet *pkt)
{
	pkt->ecn = LINK_ECN_CE;
	wire->stats.marked++;
}

static void wire_duplicate(struct mem_end *to, const struct mem_packet *pkt)
{
	struct mem_packet *copy = packet_alloc(pkt->src_gid, pkt->dst_gid, pkt->size);

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

/* What the wire does to one packet. Consumes @pkt. */
static void wire_carry(struct mem_end *from, struct mem_end *to, struct mem_packet *pkt)
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

static uint8_t *mem_group(struct mem_end *end, const uint8_t gid[16])
{
	for (int i = 0; i < MEM_GROUPS; i++) {
		if (!memcmp(end->group[i], gid, 16))
			return end->group[i];
	}
	return NULL;
}

static bool mem_listens(struct mem_end *end, const uint8_t gid[16])
{
	if (gid_is_multicast(gid))
		return mem_group(end, gid) != NULL;
	return !memcmp(end->link.gid, gid, 16);
}

static void mem_send_one(
	struct mem_end *from, const struct link_burst *burst, const struct link_tx *tx)
{
	struct link_stats *stats = &from->link.stats;
	bool sent = gid_is_multicast(tx->dgid);

	for (int i = 0; i < 2; i++) {
		struct mem_end *to = &from->wire->end[i];
		struct mem_packet *pkt;

		if (!mem_listens(to, tx->dgid))
			continue;
		pkt = packet_gather(from, burst, tx);
		if (!pkt)
			continue;
		sent = true;
		wire_carry(from, to, pkt);
	}
	if (!sent) {
		stats->tx_failed++;
		return;
	}
	stats->tx_packets++;
	stats->tx_bytes += link_tx_size(tx);
}

static void mem_send(struct link *link, const struct link_burst *burst)
{
	for (int i = 0; i < burst->n_pkts; i++)
		mem_send_one(mem_end(link), burst, &burst->pkt[i]);
}

static int mem_join(struct link *link, const uint8_t gid[16])
{
	static const uint8_t none[16];
	uint8_t *group = mem_group(mem_end(link), none);

	if (!gid_is_multicast(gid) || gid_is_ipv4(gid) != gid_is_ipv4(link->gid))
		return -EINVAL;
	if (!group)
		return -ENOMEM;
	memcpy(group, gid, 16);
	return 0;
}

static void mem_leave(struct link *link, const uint8_t gid[16])
{
	uint8_t *group = mem_group(mem_end(link), gid);

	if (group)
		memset(group, 0, 16);
}

/* Judge a packet as a device would. true: pass it on. */
static bool mem_check(struct mem_end *end, const struct mem_packet *pkt)
{
	struct wire_flow flow = mem_flow(pkt->src_gid, pkt->dst_gid);

	if (pkt->size < WIRE_BTH_SIZE + WIRE_ICRC_SIZE) {
		end->link.stats.rx_runt++;
		return false;
	}
	if (!link_icrc_ok(&flow, 0, pkt->data, pkt->size)) {
		end->link.stats.rx_bad_icrc++;
		return false;
	}
	return true;
}

/* What was held back comes when nothing else is under way. */
static struct mem_packet *queue_pop_arrived(struct mem_end *end)
{
	struct mem_queue *q = end->queue.head ? &end->queue : &end->held;

	return q->head && q->head->arrives_ns <= end->wire->now_ns ? queue_pop(q) : NULL;
}

static int mem_recv(struct link *link, struct link_rx *pkts, int max)
{
	struct mem_end *end = mem_end(link);
	struct mem_packet *pkt;
	int n = 0;

	queue_free(&end->loaned);
	while (n < max) {
		pkt = queue_pop_arrived(end);
		if (!pkt)
			break;
		queue_push(&end->loaned, pkt);
		link->stats.rx_packets++;
		link->stats.rx_bytes += pkt->size;
		if (!mem_check(end, pkt))
			continue;
		pkts[n] = (struct link_rx){.data = pkt->data,
			.len = pkt->size - WIRE_ICRC_SIZE,
			.ecn = pkt->ecn};
		memcpy(pkts[n].sgid, pkt->src_gid, 16);
		memcpy(pkts[n].dgid, pkt->dst_gid, 16);
		n++;
	}
	return n;
}

static void mem_close(struct link *link)
{
	struct mem_end *end = mem_end(link);
	struct mem_wire *wire = end->wire;

	queue_free(&end->queue);
	queue_free(&end->held);
	queue_free(&end->loaned);
	end->open = false;
	if (!wire->end[0].open && !wire->end[1].open)
		free(wire);
}

static const struct link_ops mem_ops = {
	.send = mem_send,
	.recv = mem_recv,
	.join = mem_join,
	.leave = mem_leave,
	.close = mem_close,
};

static void mem_end_init(struct mem_wire *wire, int index, uint32_t ip_mtu)
{
	/* ::ffff:192.0.2.1 and .2: documentation addresses (RFC 5737) */
	const uint8_t gid[16] = {[10] = 0xff, 0xff, 192, 0, 2, (uint8_t)(index + 1)};
	struct mem_end *end = &wire->end[index];

	end->wire = wire;
	end->index = index;
	end->open = true;
	end->link.ops = &mem_ops;
	end->link.ip_mtu = ip_mtu;
	end->link.has_gid = true;
	end->link.fd = -1;
	memcpy(end->link.gid, gid, sizeof(gid));
	snprintf(end->link.ifname, sizeof(end->link.ifname), "mem%d", index);
	queue_init(&end->queue);
	queue_init(&end->held);
	queue_init(&end->loaned);
}

int link_mem_pair(
	const struct link_mem_script *script, uint32_t ip_mtu, struct link *end[2])
{
	struct mem_wire *wire = calloc(1, sizeof(*wire));

	if (!wire)
		return -ENOMEM;
	if (script)
		wire->script = *script;
	wire->random = wire->script.seed;
	for (int i = 0; i < 2; i++) {
		mem_end_init(wire, i, ip_mtu);
		end[i] = &wire->end[i].link;
	}
	return 0;
}

void link_mem_set_filter(struct link *end, link_mem_filter *filter, void *arg)
{
	struct mem_wire *wire = mem_end(end)->wire;

	wire->filter = filter;
	wire->filter_arg = arg;
}

void link_mem_set_script(struct link *end, const struct link_mem_script *script)
{
	struct mem_wire *wire = mem_end(end)->wire;

	wire->script = *script;
	wire->random = script->seed;
}

void link_mem_set_time(struct link *end, uint64_t now_ns)
{
	mem_end(end)->wire->now_ns = now_ns;
}

uint64_t link_mem_next_ns(struct link *end)
{
	struct mem_wire *wire = mem_end(end)->wire;
	uint64_t next_ns = UINT64_MAX;

	for (int i = 0; i < 2; i++) {
		const struct mem_end *e = &wire->end[i];
		const struct mem_packet *pkt =
			e->queue.head ? e->queue.head : e->held.head;

		if (pkt)
			next_ns = MIN(next_ns, pkt->arrives_ns);
	}
	return next_ns;
}

int link_mem_inject(struct link *to, const void *data, uint32_t len)
{
	struct mem_end *end = mem_end(to);
	const uint8_t *peer_gid = end->wire->end[!end->index].link.gid;
	struct mem_packet *pkt =
		packet_alloc(peer_gid, to->gid, (size_t)len + WIRE_ICRC_SIZE);
	struct wire_flow flow = mem_flow(peer_gid, to->gid);

	if (!pkt)
		return -ENOMEM;
	memcpy(pkt->data, data, len);
	/* what is shorter than a BTH is a runt, whatever its ICRC */
	memset(pkt->data + len, 0, WIRE_ICRC_SIZE);
	if (len >= WIRE_BTH_SIZE)
		link_icrc_write(&flow, 0, pkt->data, pkt->size);
	queue_push(&end->queue, pkt);
	return 0;
}

const struct link_mem_stats *link_mem_stats(struct link *end)
{
	return &mem_end(end)->wire->stats;
}
