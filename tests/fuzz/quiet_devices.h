/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two devices that are opened as any are, but joined by the link in memory instead of UDP
 * sockets, without a thread behind them, and on a clock that the test moves. So whatever
 * happens does so in the calling thread and again the same way next time.
 *
 * Link with quiet_wraps of tests/meson.build.
 */
#ifndef TESTS_FUZZ_QUIET_DEVICES_H
#define TESTS_FUZZ_QUIET_DEVICES_H

#include "rdma/include/vrdma.h"

extern uint64_t quiet_now_ns;

/** quiet_open() - both; to be called once. Aborts when it can't be. */
void quiet_open(struct ibv_context *ctx[2]);

#endif
