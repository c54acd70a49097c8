/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See pmd_rig.h.
 */
#include "tests/unit/pmd_rig.h"

#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <rte_bus_vdev.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_malloc.h>

#include "lib/util.h"

#define N_MBUFS	   4096
#define N_JUMBO	   256
#define JUMBO_ROOM 9216
#define MBUF_ROOM  2304
#define STATS_MAX  256
#define ETHERTYPE  0x88b5 /* IEEE 802, local experimental */
#define ETH_LEN	   14

static struct rte_mempool *mempool, *jumbo_mempool;
static bool started[RTE_MAX_ETHPORTS];

/* Received, but not yet asked for. */
static struct stash {
	struct rte_mbuf *pkts[32];
	uint16_t n;
	uint16_t at;
} stashes[RTE_MAX_ETHPORTS];

static void skip_all(const char *why)
{
	printf("skipped: %s: %s\n", why, strerror(errno));
	exit(77);
}

static void loopback_up(void)
{
	struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr))
		skip_all("cannot set up a loopback interface");
	close(fd);
}

void rig_init(const char *program)
{
	char prefix[64];
	cpu_set_t cpus;
	char *argv[] = {(char *)program, "--no-huge", "-m", "256", "--no-pci",
		"--no-telemetry", "--no-shconf", prefix, NULL};

	if (unshare(CLONE_NEWNET))
		skip_all("needs root, for a network namespace of its own");
	loopback_up();
	snprintf(prefix, sizeof(prefix), "--file-prefix=pmd_rig_%d", (int)getpid());
	/* As Open vSwitch does: DPDK ties this thread to one CPU, and threads that are
	 * made later would be tied as well.
	 */
	sched_getaffinity(0, sizeof(cpus), &cpus);
	if (rte_eal_init((int)ARRAY_SIZE(argv) - 1, argv) < 0)
		skip_all("DPDK does not start");
	sched_setaffinity(0, sizeof(cpus), &cpus);
	mempool = rte_pktmbuf_pool_create("rig", N_MBUFS, 0, 0, MBUF_ROOM, 0);
	jumbo_mempool =
		rte_pktmbuf_pool_create("rig_jumbo", N_JUMBO, 0, 0, JUMBO_ROOM, 0);
	if (!mempool || !jumbo_mempool)
		skip_all("no memory");
}

struct rte_mempool *rig_mempool(void)
{
	return mempool;
}

unsigned rig_mbufs_in_use(void)
{
	return rte_mempool_in_use_count(mempool) +
	       rte_mempool_in_use_count(jumbo_mempool);
}

int rig_attach(int index, const char *peers)
{
	char name[32], args[256];
	uint16_t port;
	int ret;

	snprintf(name, sizeof(name), "net_vrdma%d", index);
	snprintf(args, sizeof(args), "device=udp,local=127.0.0.%d,rxbufs=64%s%s",
		index + 1, strstr(peers, ",txq_size=") ? "" : ",txq_size=32", peers);
	ret = rte_vdev_init(name, args);
	if (ret)
		return ret;
	assert_int_equal(rte_eth_dev_get_port_by_name(name, &port), 0);
	return port;
}

void rig_start(uint16_t port, bool tso, uint16_t mtu)
{
	struct rte_eth_conf conf = {0};

	if (tso)
		conf.txmode.offloads =
			RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_TCP_CKSUM |
			RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
	rte_eth_dev_stop(port);
	assert_int_equal(rte_eth_dev_configure(port, 1, 1, &conf), 0);
	assert_int_equal(rte_eth_dev_set_mtu(port, mtu), 0);
	assert_int_equal(rte_eth_rx_queue_setup(port, 0, 512, 0, NULL,
				 mtu > RIG_MTU ? jumbo_mempool : mempool),
		0);
	assert_int_equal(rte_eth_tx_queue_setup(port, 0, 512, 0, NULL), 0);
	assert_int_equal(rte_eth_dev_start(port), 0);
	started[port] = true;
}

uint64_t rig_stat(uint16_t port, const char *name)
{
	static struct rte_eth_xstat_name names[STATS_MAX];
	static struct rte_eth_xstat stats[STATS_MAX];
	int n = rte_eth_xstats_get_names(port, names, STATS_MAX);

	assert_in_range(n, 1, STATS_MAX);
	assert_int_equal(rte_eth_xstats_get(port, stats, STATS_MAX), n);
	for (int i = 0; i < n; i++)
		if (strcmp(names[stats[i].id].name, name) == 0)
			return stats[i].value;
	fail_msg("there is no statistic %s", name);
	return 0;
}

static void poll_all(void)
{
	struct rte_mbuf *pkts[32];

	for (uint16_t port = 0; port < RTE_MAX_ETHPORTS; port++)
		if (started[port])
			rte_pktmbuf_free_bulk(pkts, rte_eth_rx_burst(port, 0, pkts, 32));
}

static void empty_stash(uint16_t port)
{
	struct stash *stash = &stashes[port];

	while (stash->at < stash->n)
		rte_pktmbuf_free(stash->pkts[stash->at++]);
}

void rig_stop(uint16_t port)
{
	started[port] = false;
	empty_stash(port);
	rte_eth_dev_stop(port);
}

void rig_detach(int index)
{
	char name[32];
	uint16_t port;

	snprintf(name, sizeof(name), "net_vrdma%d", index);
	assert_int_equal(rte_eth_dev_get_port_by_name(name, &port), 0);
	rig_stop(port);
	assert_int_equal(rte_vdev_uninit(name), 0);
}

void rig_wait(uint16_t port, const char *name, uint64_t value)
{
	uint64_t end = now_ns() + RIG_TIMEOUT * NSEC_PER_SEC;

	while (rig_stat(port, name) != value) {
		if (now_ns() > end)
			fail_msg("port %u: %s is %lu and not %lu", port, name,
				(unsigned long)rig_stat(port, name),
				(unsigned long)value);
		poll_all();
		usleep(100);
	}
}

static uint64_t sum_of(uint16_t port, const char *prefix)
{
	struct rte_eth_xstat_name names[STATS_MAX];
	struct rte_eth_xstat stats[STATS_MAX];
	int n = rte_eth_xstats_get_names(port, names, STATS_MAX);
	uint64_t sum = 0;

	assert_int_equal(rte_eth_xstats_get(port, stats, STATS_MAX), n);
	for (int i = 0; i < n; i++)
		if (strncmp(names[i].name, prefix, strlen(prefix)) == 0)
			sum += stats[i].value;
	return sum;
}

void rig_check_sums(uint16_t port)
{
	assert_int_equal(rig_stat(port, "tx_frames_in") + rig_stat(port, "tx_replicas"),
		rig_stat(port, "tx_frames") + sum_of(port, "tx_drop_"));
	assert_int_equal(rig_stat(port, "rx_frames_in") + rig_stat(port, "rx_segments"),
		rig_stat(port, "rx_frames") + sum_of(port, "rx_drop_"));
}

/* fill_stash() - as applications do, ask for a whole burst */
static void fill_stash(uint16_t port)
{
	struct stash *stash = &stashes[port];

	if (stash->at < stash->n)
		return;
	stash->at = 0;
	stash->n = rte_eth_rx_burst(port, 0, stash->pkts, ARRAY_SIZE(stash->pkts));
	if (!stash->n)
		usleep(50);
}

unsigned rig_receive(
	uint16_t port, struct rte_mbuf **pkts, unsigned n, unsigned timeout_ms)
{
	uint64_t end = now_ns() + timeout_ms * NSEC_PER_MSEC;
	struct stash *stash = &stashes[port];
	unsigned got = 0;

	while (got < n && now_ns() < end) {
		fill_stash(port);
		while (got < n && stash->at < stash->n)
			pkts[got++] = stash->pkts[stash->at++];
	}
	return got;
}

static void show_statistics(uint16_t port)
{
	struct rte_eth_xstat_name names[STATS_MAX];
	struct rte_eth_xstat stats[STATS_MAX];
	int n = rte_eth_xstats_get_names(port, names, STATS_MAX);

	if (rte_eth_xstats_get(port, stats, STATS_MAX) != n)
		return;
	for (int i = 0; i < n; i++)
		if (stats[i].value)
			printf("port %u: %s %lu\n", port, names[i].name,
				(unsigned long)stats[i].value);
}

void rig_expect(uint16_t port, struct rte_mbuf **pkts, unsigned n)
{
	unsigned got = rig_receive(port, pkts, n, RIG_TIMEOUT * 1000);
	uint16_t each;

	if (got == n)
		return;
	RTE_ETH_FOREACH_DEV(each)
	show_statistics(each);
	fail_msg("port %u received %u frames of %u", port, got, n);
}

void rig_send(uint16_t port, struct rte_mbuf **pkts, unsigned n)
{
	assert_int_equal(rte_eth_tx_burst(port, 0, pkts, (uint16_t)n), n);
}

static void put_mac(uint8_t *to, uint32_t station)
{
	if (station == RIG_BROADCAST) {
		memset(to, 0xff, 6);
		return;
	}
	memset(to, 0, 6);
	to[0] = 2;
	to[4] = (uint8_t)(station >> 8);
	to[5] = (uint8_t)station;
}

static uint8_t pattern(uint32_t seed, uint32_t at)
{
	return (uint8_t)(seed * 31 + at * 7 + (at >> 8));
}

static void put_frame(
	uint8_t *frame, uint32_t dst, uint32_t src, uint32_t len, uint32_t seed)
{
	put_mac(frame, dst);
	put_mac(frame + 6, src);
	frame[12] = ETHERTYPE >> 8;
	frame[13] = ETHERTYPE & 0xff;
	for (uint32_t i = ETH_LEN; i < len; i++)
		frame[i] = pattern(seed, i);
}

static void free_block(void *addr, void *block)
{
	rte_free(block);
}

struct rte_mbuf *rig_large(uint32_t len)
{
	uint16_t room = (uint16_t)(RTE_PKTMBUF_HEADROOM + len +
				   sizeof(struct rte_mbuf_ext_shared_info) + 16);
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(mempool);
	uint8_t *block = rte_malloc(NULL, room, 0);
	struct rte_mbuf_ext_shared_info *shinfo;

	assert_non_null(mbuf);
	assert_non_null(block);
	shinfo = rte_pktmbuf_ext_shinfo_init_helper(block, &room, free_block, block);
	rte_pktmbuf_attach_extbuf(mbuf, block, rte_malloc_virt2iova(block), room, shinfo);
	mbuf->data_off = RTE_PKTMBUF_HEADROOM;
	mbuf->data_len = (uint16_t)len;
	mbuf->pkt_len = len;
	return mbuf;
}

struct rte_mbuf *rig_frame(uint32_t dst, uint32_t src, uint32_t len, uint32_t seed)
{
	struct rte_mbuf *mbuf;

	if (len + RTE_PKTMBUF_HEADROOM > MBUF_ROOM) {
		mbuf = rig_large(len);
	} else {
		mbuf = rte_pktmbuf_alloc(mempool);
		assert_non_null(mbuf);
		assert_non_null(rte_pktmbuf_append(mbuf, (uint16_t)len));
	}
	put_frame(rte_pktmbuf_mtod(mbuf, uint8_t *), dst, src, len, seed);
	return mbuf;
}

bool rig_frame_is(const struct rte_mbuf *mbuf, uint32_t dst, uint32_t src, uint32_t len,
	uint32_t seed)
{
	static uint8_t want[UINT16_MAX], got[UINT16_MAX];

	if (mbuf->pkt_len != len)
		return false;
	put_frame(want, dst, src, len, seed);
	return memcmp(want, rte_pktmbuf_read(mbuf, 0, len, got), len) == 0;
}

struct rte_mbuf *rig_tcp(uint32_t dst, uint32_t src, uint32_t payload, uint16_t mss)
{
	static const uint8_t ip_tcp[] = {0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0,
		10, 0, 0, 1, 10, 0, 0, 2, /* TCP: */
		0x10, 0, 0x20, 0, 0xff, 0xff, 0xff, 0, 1, 2, 3, 4,
		0x80, /* data offset 8 */
		0x99 /* CWR ACK PSH FIN */, 1, 0, 0, 0, 0, 0, 1, 1, 8, 10, 1, 2, 3, 4, 5,
		6, 7, 8};
	uint32_t len = ETH_LEN + sizeof(ip_tcp) + payload;
	struct rte_mbuf *mbuf = rig_frame(dst, src, len, 77);
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);

	memcpy(frame + ETH_LEN, ip_tcp, sizeof(ip_tcp));
	frame[12] = 8;
	frame[13] = 0;
	frame[16] = (uint8_t)((len - ETH_LEN) >> 8);
	frame[17] = (uint8_t)(len - ETH_LEN);
	mbuf->l2_len = ETH_LEN;
	mbuf->l3_len = 20;
	mbuf->l4_len = 32;
	mbuf->ol_flags |=
		RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_TCP_CKSUM;
	if (mss) {
		mbuf->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
		mbuf->tso_segsz = mss;
	}
	return mbuf;
}
