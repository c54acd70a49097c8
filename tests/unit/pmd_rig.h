/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_vrdma ports in one process: DPDK without huge pages, in a network namespace of its
 * own, the ports on 127.0.0.1, 127.0.0.2 and so on, all connected to each other by the
 * userspace device.
 */
#ifndef TESTS_UNIT_PMD_RIG_H
#define TESTS_UNIT_PMD_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>

#define RIG_MTU	    1500
#define RIG_PORTS   3
#define RIG_TIMEOUT 20 /* seconds for what must happen */

/** rig_init() - a new network namespace, DPDK, a mempool. Ends the program with 77,
 * saying why, where that cannot be had.
 */
void rig_init(const char *program);

/** rig_attach() - make port net_vrdma<index>
 * @peers: more arguments, such as ",peer=127.0.0.2"
 * Return: DPDK's port id, or a negative errno
 */
int rig_attach(int index, const char *peers);
void rig_detach(int index);

/** rig_start() - stop if need be, configure and start; @tso: with transmit offloads, as
 * Open vSwitch does
 */
void rig_start(uint16_t port, bool tso, uint16_t mtu);

void rig_stop(uint16_t port);

struct rte_mempool *rig_mempool(void);
unsigned rig_mbufs_in_use(void);

/** rig_stat() - an extended statistic by name */
uint64_t rig_stat(uint16_t port, const char *name);
/** rig_wait() - until a statistic has a value, polling all started ports' receive queues
 * meanwhile (what is received is freed)
 */
void rig_wait(uint16_t port, const char *name, uint64_t value);
/** rig_check_sums() - the two equations of docs/counters.md */
void rig_check_sums(uint16_t port);

/** rig_receive() - up to @n frames, @timeout_ms long; returns how many */
unsigned rig_receive(
	uint16_t port, struct rte_mbuf **pkts, unsigned n, unsigned timeout_ms);

/** rig_expect() - exactly @n frames, in good time; or fail and show all statistics */
void rig_expect(uint16_t port, struct rte_mbuf **pkts, unsigned n);

/** rig_send() - hand frames to a port; it takes them all */
void rig_send(uint16_t port, struct rte_mbuf **pkts, unsigned n);

/* Frames. Addresses: station @s of port p has 02:00:00:00:<p>:<s>. */
#define RIG_STATION(port, s) ((uint32_t)((port) << 8 | (s)))
#define RIG_BROADCAST	     UINT32_MAX

/** rig_frame() - a frame of @len bytes, not IP, with a pattern by @seed */
struct rte_mbuf *rig_frame(uint32_t dst, uint32_t src, uint32_t len, uint32_t seed);
/** rig_frame_is() - does a received frame have all that rig_frame() put there? */
bool rig_frame_is(const struct rte_mbuf *mbuf, uint32_t dst, uint32_t src, uint32_t len,
	uint32_t seed);
/** rig_tcp() - a TCP segment over IPv4 with @payload bytes, no checksums, to be finished
 */
struct rte_mbuf *rig_tcp(uint32_t dst, uint32_t src, uint32_t payload, uint16_t mss);

/** rig_large() - an mbuf of one segment with room for @len bytes, in memory of DPDK's
 * heap */
struct rte_mbuf *rig_large(uint32_t len);

#endif
