/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's own counters. docs/counters.md says what each one counts. The names become
 * extended statistics; those of drops begin with tx_drop_ and rx_drop_.
 *
 *   tx_frames_in + tx_replicas = tx_frames + all tx_drop_*
 *   rx_frames_in + rx_segments = rx_frames + all rx_drop_*
 *
 * Each struct has one writer at a time: the queue's thread, or the control thread.
 * Readers may see a sum in the making.
 */
#ifndef PMD_COUNTERS_H
#define PMD_COUNTERS_H

#include <stdint.h>

#define TX_COUNTERS(X)       \
	X(tx_frames_in)      \
	X(tx_replicas)       \
	X(tx_frames)         \
	X(tx_bytes)          \
	X(tx_messages)       \
	X(tx_copied)         \
	X(tx_tso)            \
	X(tx_flooded)        \
	X(tx_mac_local)      \
	X(tx_drop_runt)      \
	X(tx_drop_oversize)  \
	X(tx_drop_offload)   \
	X(tx_drop_no_peer)   \
	X(tx_drop_ring_full) \
	X(tx_drop_no_buffer) \
	X(tx_drop_post)      \
	X(tx_drop_peer_lost)

#define RX_COUNTERS(X)        \
	X(rx_frames_in)       \
	X(rx_segments)        \
	X(rx_frames)          \
	X(rx_bytes)           \
	X(rx_messages)        \
	X(rx_copied)          \
	X(rx_tso)             \
	X(rx_failed_receives) \
	X(rx_drop_record)     \
	X(rx_drop_offload)    \
	X(rx_drop_oversize)   \
	X(rx_drop_no_mbuf)    \
	X(rx_drop_stopped)

#define COUNTER_FIELD(name) uint64_t name;

struct tx_counters {
	TX_COUNTERS(COUNTER_FIELD)
};

struct rx_counters {
	RX_COUNTERS(COUNTER_FIELD)
};

#undef COUNTER_FIELD

#endif
