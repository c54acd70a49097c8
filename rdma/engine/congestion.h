/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Congestion control of one queue pair: how much it may have in flight. Pure arithmetic
 * on what the requester and the completer tell.
 */
#ifndef RDMA_ENGINE_CONGESTION_H
#define RDMA_ENGINE_CONGESTION_H

#include <stdbool.h>
#include <stdint.h>

#define CONGESTION_WINDOW_MIN_PKTS 2u

/* The window, in packets. It doubles each round trip up to ssthresh, then grows by one.
 *
 * A loss leaves it at what the path holds when no queue does (TCP Westwood's rule), but
 * takes an eighth at least, as that is an estimate, and half at most: so a queue that
 * overflowed drains, while a wire that just loses now and then does not starve the
 * sender, as it would with Reno's halving. At most once per round trip. Larger than that
 * it would only cost more: as the receiver keeps nothing behind a hole, all that was in
 * flight is sent again.
 */
struct congestion {
	uint32_t cwnd;
	uint32_t cwnd_max;
	uint32_t ssthresh;
	uint32_t cwnd_acked;  /* towards the next growth by one */
	uint32_t recover_psn; /* losses below it are already answered for */
	bool in_recovery;
	uint32_t undo_cwnd; /* 0, or before an impatient restart */
};

/** congestion_reset() - nothing is known of the path
 * @mtu: of the path, bytes
 */
void congestion_reset(struct congestion *c, uint32_t mtu);

/** congestion_acked() - @n packets were acknowledged, all before @una_psn now are
 * @grow: false while something else than the window limits, so that it says nothing
 */
void congestion_acked(struct congestion *c, uint32_t una_psn, uint32_t n, bool grow);

/** congestion_lost() - a packet was lost while those up to @snd_max were under way
 * @path_pkts: what the path holds, or 0
 */
void congestion_lost(struct congestion *c, uint32_t snd_max, uint32_t path_pkts);

/** congestion_restart() - all that is in flight is in vain: begin with the smallest
 * window
 */
void congestion_restart(struct congestion *c);

/** congestion_doubt() - likely that it is; should that prove wrong, congestion_undo() */
void congestion_doubt(struct congestion *c, uint32_t snd_max, uint32_t path_pkts);
void congestion_undo(struct congestion *c);

#endif
