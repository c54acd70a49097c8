/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_vrdma as an application sees it: three ports of one process, connected by the
 * userspace device. Frames of every size and shape arrive as they were sent, or are
 * counted under a name; ports may stop, start, go and come back.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_malloc.h>
#include <rte_tcp.h>

#include "lib/util.h"
#include "pmd/frame.h"
#include "tests/unit/pmd_rig.h"

#define A	   0
#define B	   1
#define C	   2
#define MS_NOTHING 200 /* for a frame that must not */

static uint16_t port[RIG_PORTS];

static const char *const peers[RIG_PORTS] = {",peer=127.0.0.2,peer=127.0.0.3",
	",peer=127.0.0.1,peer=127.0.0.3", ",peer=127.0.0.1,peer=127.0.0.2"};

static void attach_with(int index, const char *more)
{
	char args[128];
	int ret;

	snprintf(args, sizeof(args), "%s%s", peers[index], more);
	ret = rig_attach(index, args);
	assert_in_range(ret, 0, RTE_MAX_ETHPORTS - 1);
	port[index] = (uint16_t)ret;
}

static void attach(int index)
{
	attach_with(index, "");
}

/* all_up() - asks each port twice: the first time one may not know yet that another was
 * restarted; when that one has all its peers, it does
 */
static void all_up(void)
{
	for (int i = 0; i < 2 * RIG_PORTS; i++)
		rig_wait(port[i % RIG_PORTS], "peers_up", RIG_PORTS - 1);
}

static int setup(void **state)
{
	for (int i = 0; i < RIG_PORTS; i++) {
		attach(i);
		rig_start(port[i], false, RIG_MTU);
	}
	all_up();
	return 0;
}

static int teardown(void **state)
{
	for (int i = 0; i < RIG_PORTS; i++) {
		rig_check_sums(port[i]);
		rig_detach(i);
	}
	assert_int_equal(rig_mbufs_in_use(), 0);
	return 0;
}

static void receive_one(
	uint16_t to, uint32_t dst, uint32_t src, uint32_t len, uint32_t seed)
{
	struct rte_mbuf *mbuf;

	rig_expect(to, &mbuf, 1);
	assert_true(rig_frame_is(mbuf, dst, src, len, seed));
	rte_pktmbuf_free(mbuf);
}

static void receive_nothing(uint16_t from)
{
	struct rte_mbuf *mbuf;

	if (rig_receive(from, &mbuf, 1, MS_NOTHING) == 0)
		return;
	rte_pktmbuf_dump(stderr, mbuf, 64);
	fail_msg("port %u received a frame", from);
}

static void send_one(
	uint16_t from, uint32_t dst, uint32_t src, uint32_t len, uint32_t seed)
{
	struct rte_mbuf *mbuf = rig_frame(dst, src, len, seed);

	rig_send(from, &mbuf, 1);
}

/* teach() - let all ports learn where station 1 of each port is */
static void teach(void)
{
	for (int i = 0; i < RIG_PORTS; i++) {
		send_one(port[i], RIG_BROADCAST, RIG_STATION(i, 1), 60, 1);
		for (int j = 0; j < RIG_PORTS; j++)
			if (j != i)
				receive_one(
					port[j], RIG_BROADCAST, RIG_STATION(i, 1), 60, 1);
	}
}

/* What completes sends is whoever receives, which may be a thread that is not run for a
 * while; so a ring may be full although each frame has arrived.
 */
static void send_surely(
	uint16_t from, uint32_t dst, uint32_t src, uint32_t len, uint32_t seed)
{
	uint64_t dropped;

	do {
		dropped = rig_stat(from, "tx_drop_ring_full");
		send_one(from, dst, src, len, seed);
		if (rig_stat(from, "tx_drop_ring_full") == dropped)
			return;
	} while (!usleep(1000));
}

static void every_length(void **state)
{
	uint32_t dst = RIG_STATION(B, 1), src = RIG_STATION(A, 1);

	teach();
	for (uint32_t len = FRAME_LEN_MIN; len <= RIG_MTU + FRAME_OVERHEAD; len++) {
		send_surely(port[A], dst, src, len, len);
		receive_one(port[B], dst, src, len, len);
	}
	receive_nothing(port[C]);
}

static void bursts_keep_their_order(void **state)
{
	uint32_t dst = RIG_STATION(B, 1), src = RIG_STATION(A, 1), seen = 0;
	struct rte_mbuf *pkts[64];

	teach();
	for (uint32_t round = 0; round < 50; round++) {
		for (uint32_t i = 0; i < ARRAY_SIZE(pkts); i++)
			pkts[i] = rig_frame(dst, src, 60 + (i * 97 + round * 13) % 1400,
				round * 64 + i);
		rig_send(port[A], pkts, ARRAY_SIZE(pkts));
		rig_expect(port[B], pkts, ARRAY_SIZE(pkts));
		for (uint32_t i = 0; i < ARRAY_SIZE(pkts); i++, seen++)
			assert_true(rig_frame_is(pkts[i], dst, src,
				60 + (i * 97 + round * 13) % 1400, seen));
		rte_pktmbuf_free_bulk(pkts, ARRAY_SIZE(pkts));
	}
	/* They shared messages. */
	assert_true(rig_stat(port[A], "tx_messages") < seen / 8);
}

static void learns_replicates_never_reflects(void **state)
{
	uint64_t copies;

	teach();
	copies = rig_stat(port[A], "tx_replicas");
	send_one(port[A], RIG_STATION(B, 1), RIG_STATION(A, 1), 100, 5);
	receive_one(port[B], RIG_STATION(B, 1), RIG_STATION(A, 1), 100, 5);
	receive_nothing(port[C]);
	assert_int_equal(rig_stat(port[A], "tx_replicas"), copies);

	send_one(port[A], RIG_STATION(9, 9), RIG_STATION(A, 1), 100, 6);
	receive_one(port[B], RIG_STATION(9, 9), RIG_STATION(A, 1), 100, 6);
	receive_one(port[C], RIG_STATION(9, 9), RIG_STATION(A, 1), 100, 6);
	assert_int_equal(rig_stat(port[A], "tx_replicas"), copies + 1);
	receive_nothing(port[A]);
}

static void a_station_moves(void **state)
{
	uint32_t station = RIG_STATION(B, 1);

	teach();
	/* From B to C: everyone hears it there. */
	send_one(port[C], RIG_BROADCAST, station, 60, 2);
	receive_one(port[A], RIG_BROADCAST, station, 60, 2);
	receive_one(port[B], RIG_BROADCAST, station, 60, 2);
	assert_int_equal(rig_stat(port[A], "mac_moved"), 1);
	send_one(port[A], station, RIG_STATION(A, 1), 60, 3);
	receive_one(port[C], station, RIG_STATION(A, 1), 60, 3);
	/* And to A itself: its own frames make A forget where it was. */
	send_one(port[A], RIG_STATION(C, 1), station, 60, 4);
	receive_one(port[C], RIG_STATION(C, 1), station, 60, 4);
	assert_int_equal(rig_stat(port[A], "tx_mac_local"), 1);
}

static void restart(int which, bool tso, uint16_t mtu)
{
	rig_start(port[which], tso, mtu);
	all_up();
}

static void large_frames_in_one_piece(void **state)
{
	uint32_t src = RIG_STATION(A, 1);
	static const uint32_t lens[] = {512, 513, 2048, 2049, 8192, 9000, 9022};

	restart(A, false, 9000);
	/* The receiving port has an MTU of 1500, and too small mbufs for another. */
	send_one(port[A], RIG_BROADCAST, src, 9000, 1);
	rig_wait(port[B], "rx_drop_oversize", 1);
	assert_int_equal(rte_eth_dev_set_mtu(port[B], 9000), -EINVAL);
	restart(B, false, 9000);
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		send_one(port[A], RIG_BROADCAST, src, lens[i], lens[i]);
		receive_one(port[B], RIG_BROADCAST, src, lens[i], lens[i]);
	}
}

/* shapes of an mbuf: what a frame of 6000 bytes may look like */
static struct rte_mbuf *in_pieces(
	uint32_t dst, uint32_t src, uint32_t len, uint32_t piece)
{
	struct rte_mbuf *whole = rig_frame(dst, src, len, 3), *head = NULL;
	const uint8_t *bytes = rte_pktmbuf_mtod(whole, const uint8_t *);

	for (uint32_t at = 0; at < len; at += piece) {
		struct rte_mbuf *seg = rte_pktmbuf_alloc(rig_mempool());
		uint32_t size = MIN(piece, len - at);

		assert_non_null(seg);
		memcpy(rte_pktmbuf_append(seg, (uint16_t)size), bytes + at, size);
		if (!head)
			head = seg;
		else
			assert_int_equal(rte_pktmbuf_chain(head, seg), 0);
	}
	rte_pktmbuf_free(whole);
	return head;
}

static void jumbo(void)
{
	restart(A, false, 9000);
	restart(B, false, 9000);
}

static void mbufs_of_many_pieces(void **state)
{
	static const uint32_t pieces[] = {2000, 1000, 700, 100, 14};

	jumbo();
	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		struct rte_mbuf *mbuf =
			in_pieces(RIG_BROADCAST, RIG_STATION(A, 1), 6000, pieces[i]);

		rig_send(port[A], &mbuf, 1);
		receive_one(port[B], RIG_BROADCAST, RIG_STATION(A, 1), 6000, 3);
	}
	/* More pieces than a work request takes are copied, twice as there are two peers.
	 */
	assert_int_equal(rig_stat(port[A], "tx_copied"), 2 * 3);
}

/* A clone shares data and the room in front of it with others: nothing may be written. */
static void shared_mbufs_stay_untouched(void **state)
{
	struct rte_mbuf *mbuf, *clone;
	uint8_t before[FRAME_HDR_SIZE];

	jumbo();
	mbuf = rig_frame(RIG_BROADCAST, RIG_STATION(A, 1), 5000, 9);
	memset(rte_pktmbuf_mtod(mbuf, uint8_t *) - FRAME_HDR_SIZE, 0x5a, FRAME_HDR_SIZE);
	memset(before, 0x5a, sizeof(before));
	clone = rte_pktmbuf_clone(mbuf, rig_mempool());
	assert_non_null(clone);
	rig_send(port[A], &clone, 1);
	receive_one(port[B], RIG_BROADCAST, RIG_STATION(A, 1), 5000, 9);
	assert_memory_equal(rte_pktmbuf_mtod(mbuf, uint8_t *) - FRAME_HDR_SIZE, before,
		FRAME_HDR_SIZE);
	assert_true(rig_frame_is(mbuf, RIG_BROADCAST, RIG_STATION(A, 1), 5000, 9));
	rte_pktmbuf_free(mbuf);
}

static void free_foreign(void *addr, void *block)
{
	free(block);
}

static void memory_that_is_not_registered(void **state)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(rig_mempool());
	struct rte_mbuf *model = rig_frame(RIG_BROADCAST, RIG_STATION(A, 1), 6000, 4);
	uint16_t room = 8192;
	struct rte_mbuf_ext_shared_info *shinfo;
	uint8_t *block = malloc(room);

	jumbo();
	assert_non_null(block);
	shinfo = rte_pktmbuf_ext_shinfo_init_helper(block, &room, free_foreign, block);
	rte_pktmbuf_attach_extbuf(mbuf, block, RTE_BAD_IOVA, room, shinfo);
	memcpy(rte_pktmbuf_append(mbuf, 6000), rte_pktmbuf_mtod(model, void *), 6000);
	rte_pktmbuf_free(model);
	rig_send(port[A], &mbuf, 1);
	receive_one(port[B], RIG_BROADCAST, RIG_STATION(A, 1), 6000, 4);
	assert_int_equal(rig_stat(port[A], "tx_copied"), 2);
}

/* As Open vSwitch with userspace TSO: one mbuf, flagged, with room for more headers. */
static void tso_passed_on(void **state)
{
	static const uint32_t payloads[] = {1, 1000, 1449, 20000, 65000};

	restart(B, true, RIG_MTU);
	for (size_t i = 0; i < ARRAY_SIZE(payloads); i++) {
		struct rte_mbuf *mbuf =
			rig_tcp(RIG_BROADCAST, RIG_STATION(A, 1), payloads[i], 1448);
		struct rte_ipv4_hdr *ip;
		struct rte_tcp_hdr *tcp;

		rig_send(port[A], &mbuf, 1);
		rig_expect(port[B], &mbuf, 1);
		assert_int_equal(mbuf->nb_segs, 1);
		assert_int_equal(mbuf->pkt_len, 66 + payloads[i]);
		assert_true(rte_pktmbuf_headroom(mbuf) >= FRAME_HEADROOM);
		assert_int_equal(mbuf->ol_flags & RTE_MBUF_F_TX_OFFLOAD_MASK,
			RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_TCP_CKSUM |
				RTE_MBUF_F_TX_IPV4);
		assert_int_equal(mbuf->tso_segsz, 1448);
		assert_int_equal(mbuf->l2_len, 14);
		assert_int_equal(mbuf->l3_len, 20);
		assert_int_equal(mbuf->l4_len, 32);
		ip = rte_pktmbuf_mtod_offset(mbuf, struct rte_ipv4_hdr *, 14);
		tcp = (struct rte_tcp_hdr *)(ip + 1);
		assert_int_equal(rte_ipv4_cksum(ip), 0);
		assert_int_equal(tcp->cksum, rte_ipv4_phdr_cksum(ip, 0));
		rte_pktmbuf_free(mbuf);
	}
	rig_wait(port[A], "peers_up", RIG_PORTS - 1);
	assert_int_equal(rig_stat(port[B], "rx_tso"), ARRAY_SIZE(payloads));
}

/* For an application that knows no TSO: finished frames that hold the same bytes. */
static void tso_finished(void **state)
{
	static const uint32_t payloads[] = {1, 1448, 1449, 65000};

	for (size_t i = 0; i < ARRAY_SIZE(payloads); i++) {
		uint32_t n = (payloads[i] + 1447) / 1448;
		struct rte_mbuf *mbuf =
			rig_tcp(RIG_BROADCAST, RIG_STATION(A, 1), payloads[i], 1448);
		struct rte_mbuf *pkts[64];

		rig_send(port[A], &mbuf, 1);
		rig_expect(port[B], pkts, n);
		for (uint32_t k = 0; k < n; k++) {
			struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(
				pkts[k], struct rte_ipv4_hdr *, 14);
			struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(ip + 1);

			assert_true(pkts[k]->pkt_len <= 14 + RIG_MTU);
			assert_int_equal(rte_ipv4_cksum(ip), 0);
			assert_int_equal(rte_ipv4_udptcp_cksum_verify(ip, tcp), 0);
			assert_int_equal(
				rte_be_to_cpu_32(tcp->sent_seq), 0xffffff00u + 1448 * k);
			assert_int_equal(rte_be_to_cpu_16(ip->packet_id), 0x1234 + k);
			assert_int_equal(tcp->tcp_flags,
				0x10 | (k == 0 ? 0x80 : 0) | (k == n - 1 ? 0x09 : 0));
		}
		rte_pktmbuf_free_bulk(pkts, n);
	}
	receive_nothing(port[B]);
}

static void what_may_not_be_sent(void **state)
{
	struct rte_mbuf *mbuf;

	/* runt */
	mbuf = rig_frame(RIG_BROADCAST, RIG_STATION(A, 1), FRAME_LEN_MIN, 1);
	rte_pktmbuf_trim(mbuf, 1);
	rig_send(port[A], &mbuf, 1);
	assert_int_equal(rig_stat(port[A], "tx_drop_runt"), 1);
	/* longer than the MTU, without TSO; longer than anything, with TSO */
	send_one(port[A], RIG_BROADCAST, RIG_STATION(A, 1), RIG_MTU + FRAME_OVERHEAD + 1,
		1);
	assert_int_equal(rig_stat(port[A], "tx_drop_oversize"), 1);
	mbuf = in_pieces(RIG_BROADCAST, RIG_STATION(A, 1), 60000, 2000);
	assert_int_equal(
		rte_pktmbuf_chain(mbuf, rig_frame(0, 0, FRAME_LEN_MAX - 60000 + 1, 0)),
		0);
	mbuf->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
	rig_send(port[A], &mbuf, 1);
	assert_int_equal(rig_stat(port[A], "tx_drop_oversize"), 2);
	receive_nothing(port[B]);
}

/* What a guest may make of the offload fields of its frames. */
static void offload_that_cannot_be(void **state)
{
	static const struct {
		uint64_t flags;
		uint16_t mss, at;
		uint8_t value;
	} bad[] = {
		{RTE_MBUF_F_TX_TCP_SEG, 0, 0, 255},	 /* MSS 0 */
		{RTE_MBUF_F_TX_TCP_SEG, 47, 0, 255},	 /* MSS too small */
		{RTE_MBUF_F_TX_TCP_SEG, 1000, 23, 17},	 /* UDP */
		{RTE_MBUF_F_TX_TCP_SEG, 1000, 12, 0x99}, /* not IP */
		{RTE_MBUF_F_TX_TCP_SEG, 1000, 14, 0x44}, /* header length */
		{RTE_MBUF_F_TX_TCP_SEG, 1000, 46, 0x10}, /* data offset 1 */
		{RTE_MBUF_F_TX_TCP_SEG, 1000, 16, 0xff}, /* total length */
		{RTE_MBUF_F_TX_TCP_SEG, 1000, 20, 0x20}, /* a fragment */
		{RTE_MBUF_F_TX_TCP_CKSUM, 0, 12, 0x99},
		{RTE_MBUF_F_TX_UDP_SEG, 1000, 0, 255}, /* not offered */
		{RTE_MBUF_F_TX_TUNNEL_VXLAN, 0, 0, 255},
		{RTE_MBUF_F_TX_OUTER_IP_CKSUM, 0, 0, 255},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct rte_mbuf *mbuf =
			rig_tcp(RIG_BROADCAST, RIG_STATION(A, 1), 2000, 0);
		uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);

		mbuf->ol_flags &= ~RTE_MBUF_F_TX_OFFLOAD_MASK;
		mbuf->ol_flags |= bad[i].flags;
		mbuf->tso_segsz = bad[i].mss;
		frame[bad[i].at] = bad[i].value;
		rig_send(port[A], &mbuf, 1);
		assert_int_equal(rig_stat(port[A], "tx_drop_offload"), i + 1);
	}
	receive_nothing(port[B]);
}

/* With all buffers in the application's hands the sender waits, and nothing is lost. */
static void buffers_held_back(void **state)
{
	struct rte_mbuf *held[64], *waiting[20], *mbuf;
	uint32_t src = RIG_STATION(A, 1), dst = RIG_STATION(B, 1);

	restart(B, true, RIG_MTU);
	teach();
	for (size_t i = 0; i < ARRAY_SIZE(held); i++) {
		mbuf = rig_tcp(dst, src, 30000, 1448);
		rig_send(port[A], &mbuf, 1);
		rig_expect(port[B], &held[i], 1);
	}
	receive_nothing(port[B]);
	assert_int_equal(rig_stat(port[B], "rx_buffers_posted"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(waiting); i++) {
		mbuf = rig_tcp(dst, src, 30000, 1448);
		rig_send(port[A], &mbuf, 1);
	}
	receive_nothing(port[B]);
	assert_true(rig_stat(port[B], "dev_tx_naks_rnr") > 0);
	rte_pktmbuf_free_bulk(held, ARRAY_SIZE(held));
	rig_expect(port[B], waiting, ARRAY_SIZE(waiting));
	rte_pktmbuf_free_bulk(waiting, ARRAY_SIZE(waiting));
}

static void a_full_ring_drops(void **state)
{
	uint64_t dropped;

	teach();
	for (int i = 0; i < 400; i++)
		send_one(port[A], RIG_STATION(B, 1), RIG_STATION(A, 1), 1000, 1);
	/* 32 messages in flight and 64 receive buffers; nobody fetches them */
	dropped = rig_stat(port[A], "tx_drop_ring_full");
	assert_true(dropped > 100);
	/* C is not affected. */
	send_one(port[A], RIG_STATION(C, 1), RIG_STATION(A, 1), 1000, 2);
	receive_one(port[C], RIG_STATION(C, 1), RIG_STATION(A, 1), 1000, 2);
	rig_wait(port[B], "rx_frames_in", 2 + 400 - dropped);
}

/* long_rings() - A may have more messages in flight than there are buffers for copies */
static void long_rings(void)
{
	rig_detach(A);
	attach_with(A, ",txq_size=4096");
	rig_start(port[A], false, RIG_MTU);
	all_up();
	teach();
}

static void to_c_arrives(void)
{
	uint32_t dst = RIG_STATION(C, 1), src = RIG_STATION(A, 1);

	for (uint32_t i = 0; i < 20; i++)
		send_one(port[A], dst, src, 100, i);
	for (uint32_t i = 0; i < 20; i++)
		receive_one(port[C], dst, src, 100, i);
}

/* What a peer has acknowledged does not hold up the frames to another. */
static void acknowledged_buffers_come_back(void **state)
{
	uint32_t dst = RIG_STATION(B, 1), src = RIG_STATION(A, 1);

	long_rings();
	for (uint32_t i = 0; i < 37 * 50; i++) {
		send_one(port[A], dst, src, 100, i);
		receive_one(port[B], dst, src, 100, i);
		if (i % 37 == 0)
			to_c_arrives();
	}
	assert_int_equal(rig_stat(port[A], "tx_drop_no_buffer"), 0);
}

/* Nor does what a peer never acknowledges. */
static void a_stalled_peer_leaves_buffers(void **state)
{
	uint64_t dropped;

	long_rings();
	for (uint32_t i = 0; i < 3 * 1024; i++)
		send_one(port[A], RIG_STATION(B, 1), RIG_STATION(A, 1), 100, i);
	dropped = rig_stat(port[A], "tx_drop_no_buffer");
	assert_true(dropped > 0);
	to_c_arrives();
	assert_int_equal(rig_stat(port[A], "tx_drop_no_buffer"), dropped);
	rig_wait(port[B], "rx_frames_in", 2 + 3 * 1024 - dropped);
}

static void no_peer(void **state)
{
	rig_stop(port[B]);
	rig_stop(port[C]);
	rig_wait(port[A], "peers_up", 0);
	send_one(port[A], RIG_BROADCAST, RIG_STATION(A, 1), 60, 1);
	assert_int_equal(rig_stat(port[A], "tx_drop_no_peer"), 1);
	rig_start(port[B], false, RIG_MTU);
	rig_start(port[C], false, RIG_MTU);
	all_up();
}

static void a_peer_goes_and_comes_back(void **state)
{
	teach();
	rig_detach(B);
	rig_wait(port[A], "peers_up", 1);
	/* What was known to be behind B is asked for everywhere. */
	send_one(port[A], RIG_STATION(B, 1), RIG_STATION(A, 1), 60, 1);
	receive_one(port[C], RIG_STATION(B, 1), RIG_STATION(A, 1), 60, 1);
	attach(B);
	rig_start(port[B], false, RIG_MTU);
	for (int i = 0; i < RIG_PORTS; i++)
		rig_wait(port[i], "peers_up", 2);
	teach();
	send_one(port[A], RIG_STATION(B, 1), RIG_STATION(A, 1), 60, 2);
	receive_one(port[B], RIG_STATION(B, 1), RIG_STATION(A, 1), 60, 2);
}

static void received_but_never_fetched(void **state)
{
	teach();
	for (int i = 0; i < 10; i++)
		send_one(port[A], RIG_STATION(B, 1), RIG_STATION(A, 1), 500, 1);
	while (rig_stat(port[B], "dev_rx_send_messages") < 2 + 10)
		usleep(1000);
	rig_stop(port[B]);
	assert_int_equal(rig_stat(port[B], "rx_drop_stopped"), 10);
	assert_int_equal(rig_stat(port[B], "rx_frames_in"), 2 + 10);
	rig_check_sums(port[B]);
	restart(B, false, RIG_MTU);
}

/* Buffers are not lost with a peer, however long nobody fetches what it sent. */
static void fetched_after_its_peer_went(void **state)
{
	uint32_t dst = RIG_STATION(B, 1), src = RIG_STATION(A, 1);

	for (int round = 0; round < 3; round++) {
		teach();
		for (uint32_t i = 0; i < 30; i++)
			send_one(port[A], dst, src, 500, i);
		rig_stop(port[A]);
		while (rig_stat(port[B], "peers_up") != RIG_PORTS - 2)
			usleep(1000);
		usleep(200000); /* longer than the port might wait for us */
		for (uint32_t i = 0; i < 30; i++)
			receive_one(port[B], dst, src, 500, i);
		restart(A, false, RIG_MTU);
	}
}

static void statistics_reset(void **state)
{
	struct rte_eth_stats stats;

	teach();
	assert_int_equal(rte_eth_stats_get(port[A], &stats), 0);
	assert_int_equal(stats.opackets, 2);
	assert_int_equal(stats.ipackets, 2);
	assert_int_equal(stats.obytes, 120);
	rte_eth_stats_reset(port[A]);
	assert_int_equal(rte_eth_stats_get(port[A], &stats), 0);
	assert_int_equal(
		stats.opackets + stats.ipackets + stats.obytes + stats.ibytes, 0);
}

static void link_and_mtu(void **state)
{
	struct rte_eth_link link;

	assert_int_equal(rte_eth_link_get_nowait(port[A], &link), 0);
	assert_int_equal(link.link_status, RTE_ETH_LINK_UP);
	assert_int_equal(rte_eth_promiscuous_enable(port[A]), 0);
	assert_int_equal(rte_eth_allmulticast_enable(port[A]), 0);
	assert_int_equal(rte_eth_dev_set_mtu(port[A], FRAME_MTU_MIN - 1), -EINVAL);
	assert_int_equal(rte_eth_dev_set_mtu(port[A], FRAME_MTU_MAX + 1), -EINVAL);
	rig_stop(port[A]);
	assert_int_equal(rte_eth_dev_set_mtu(port[A], FRAME_MTU_MAX), 0);
	assert_int_equal(rte_eth_dev_start(port[A]), -EINVAL); /* with these mbufs */
	assert_int_equal(rte_eth_dev_set_mtu(port[A], FRAME_MTU_MIN), 0);
	restart(A, false, RIG_MTU);
}

static void bad_arguments(void **state)
{
	assert_int_equal(rig_attach(7, ",colour=red"), -EINVAL);
	assert_int_equal(rig_attach(7, ",key=/nonexistent"), -ENOENT);
	assert_int_equal(rig_attach(300, ""), -EINVAL); /* no address */
	assert_int_equal(rig_attach(0, ""), -EEXIST);	/* the name is taken */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		TEST(every_length),
		TEST(bursts_keep_their_order),
		TEST(learns_replicates_never_reflects),
		TEST(a_station_moves),
		TEST(large_frames_in_one_piece),
		TEST(mbufs_of_many_pieces),
		TEST(shared_mbufs_stay_untouched),
		TEST(memory_that_is_not_registered),
		TEST(tso_passed_on),
		TEST(tso_finished),
		TEST(what_may_not_be_sent),
		TEST(offload_that_cannot_be),
		TEST(buffers_held_back),
		TEST(a_full_ring_drops),
		TEST(acknowledged_buffers_come_back),
		TEST(a_stalled_peer_leaves_buffers),
		TEST(no_peer),
		TEST(a_peer_goes_and_comes_back),
		TEST(received_but_never_fetched),
		TEST(fetched_after_its_peer_went),
		TEST(statistics_reset),
		TEST(link_and_mtu),
		TEST(bad_arguments),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]); /* a name or pattern */
	rig_init(argv[0]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
