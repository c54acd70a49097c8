/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ends of the link in memory. A packet is one allocation of exactly its size, so that
 * a sanitizer sees an engine that reads past its end.
 */
#include "mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/util.h"
#include "link_priv.h"
#include "mem_priv.h"
#include "rdma/wire/gid.h"

#define MEM_SPORT 0xc000

static struct mem_end *mem_end(struct link *link)
{
	return container_of(link, struct mem_end, link);
}

static void queue_free(struct mem_queue *q)
{
	struct mem_packet *pkt;

	while ((pkt = mem_queue_pop(q)))
		free(pkt);
}

static struct wire_flow mem_flow(const uint8_t src[16], const uint8_t dst[16])
{
	struct wire_flow flow = {.sport = MEM_SPORT, .dport = WIRE_UDP_PORT};

	memcpy(flow.src, src, sizeof(flow.src));
	memcpy(flow.dst, dst, sizeof(flow.dst));
	return flow;
}

static struct mem_packet *packet_gather(
	struct mem_end *from, const struct link_burst *burst, const struct link_tx *tx)
{
	struct mem_packet *pkt =
		mem_packet_alloc(from->link.gid, tx->dgid, link_tx_size(tx));
	struct wire_flow flow = mem_flow(from->link.gid, tx->dgid);

	if (pkt)
		link_tx_put(burst, tx, &flow, 0, pkt->data);
	return pkt;
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
		mem_wire_carry(from, to, pkt);
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

	return q->head && q->head->arrives_ns <= end->wire->now_ns ? mem_queue_pop(q)
								   : NULL;
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
		mem_queue_push(&end->loaned, pkt);
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
	end->link.more_fd = -1;
	memcpy(end->link.gid, gid, sizeof(gid));
	snprintf(end->link.ifname, sizeof(end->link.ifname), "mem%d", index);
	mem_queue_init(&end->queue);
	mem_queue_init(&end->held);
	mem_queue_init(&end->loaned);
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
		mem_packet_alloc(peer_gid, to->gid, (size_t)len + WIRE_ICRC_SIZE);
	struct wire_flow flow = mem_flow(peer_gid, to->gid);

	if (!pkt)
		return -ENOMEM;
	memcpy(pkt->data, data, len);
	/* what is shorter than a BTH is a runt, whatever its ICRC */
	memset(pkt->data + len, 0, WIRE_ICRC_SIZE);
	if (len >= WIRE_BTH_SIZE)
		link_icrc_write(&flow, 0, pkt->data, pkt->size);
	mem_queue_push(&end->queue, pkt);
	return 0;
}

const struct link_mem_stats *link_mem_stats(struct link *end)
{
	return &mem_end(end)->wire->stats;
}
