/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The round trip of one queue pair, measured: one packet at a time is followed until it
 * is acknowledged. From that come how long to wait for an ACK (RFC 6298), and how many
 * packets the path itself holds (bandwidth times delay, as TCP Westwood and BBR estimate
 * it). Pure arithmetic.
 */
#ifndef RDMA_ENGINE_RTT_H
#define RDMA_ENGINE_RTT_H

#include <stdint.h>

struct rtt {
	uint64_t begin_ns; /* of the packet that is followed; 0: none is */
	uint32_t psn;
	uint32_t una_psn; /* when it was sent */
	/* smoothed, its variation, the least; 0: not known. At most 2^32 ns. */
	uint32_t mean_ns;
	uint32_t var_ns;
	uint32_t min_ns;
	uint32_t path_pkts; /* in flight when the path is full and no queue is */
};

/** rtt_sent() - packet @psn is sent for the first time; those before @una_psn are
 * acknowledged
 */
void rtt_sent(struct rtt *r, uint32_t psn, uint32_t una_psn, uint64_t now_ns);

/** rtt_acked() - those before @una_psn are acknowledged */
void rtt_acked(struct rtt *r, uint32_t una_psn, uint64_t now_ns);

/** rtt_lost() - something was lost, so what is followed says nothing more */
void rtt_lost(struct rtt *r, uint64_t now_ns);

/** rtt_patience_ns() - how long an ACK takes at most in all likelihood; 0: not known
 * @min_ns: at least
 */
uint64_t rtt_patience_ns(const struct rtt *r, uint64_t min_ns);

#endif
