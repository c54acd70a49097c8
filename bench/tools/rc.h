/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reliable connections for benchmarks; what fails ends the program.
 */
#ifndef BENCH_TOOLS_RC_H
#define BENCH_TOOLS_RC_H

#include <infiniband/verbs.h>

#define BENCH_INLINE_MAX 220 /* as perftest has it */

/** rc_create() - a queue pair with one completion queue, in INIT
 * @depth: requests that fit either queue; all of them are signaled
 */
struct ibv_qp *rc_create(struct ibv_pd *pd, struct ibv_cq *cq, uint32_t depth);

/** rc_connect() - take a queue pair from INIT to RTS; PSNs begin with 0 */
void rc_connect(
	struct ibv_qp *qp, const union ibv_gid *gid, uint32_t qpn, enum ibv_mtu mtu);

/** rc_own_address() - what the other side needs to know of this device */
void rc_own_address(struct ibv_context *ctx, union ibv_gid *gid, enum ibv_mtu *mtu);

/** rc_poll() - ibv_poll_cq(), all of it successful */
int rc_poll(struct ibv_cq *cq, struct ibv_wc *wc, int max);

#endif
