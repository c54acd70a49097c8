/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The RoCEv2 engine: queue pairs as state machines. Packets and a time go in, packets,
 * completions and a deadline come out; no sockets, no clock, no threads.
 *
 *     engine_input()  ->  responder.c  (requests: receive queues, memory, ACK and NAK)
 *                     ->  completer.c  (responses: what was acknowledged, or why not)
 *     qp_post_send()  ->  requester.c  (send queue: messages to packets, window, retries)
 *     engine_output() <-  requester's packets, then responder's ACK, queue pair by
 *                         queue pair in turn
 *     engine_expire()     ACK timeouts, RNR waits, pacing
 *     congestion: congestion.h (window, loss), dcqcn.h (rate, marks), cnp.c
 *
 * Vocabulary types (work requests, completions, attributes) are those of verbs.h.
 *
 * Locking: the caller serialises all calls on one engine and its objects (this is called
 * the engine's lock), but for the other end of rings (rq.h, cq.h) and qp_post_lane().
 * What those share with the rest has locks inside that are held briefly, in this order: a
 * lane's (lane.c), producers' of completion queues by address; and by itself, that of a
 * receive queue's producers.
 */
#ifndef RDMA_ENGINE_ENGINE_H
#define RDMA_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "cq.h"
#include "mcast.h"
#include "mr.h"
#include "mw.h"
#include "rq.h"
#include "timers.h"
#include "rdma/io/link.h"

#define ENGINE_QP_MAX	   (1u << 16)
#define ENGINE_MSG_MAX	   (1u << 31) /* bytes in a message */
#define ENGINE_WR_MAX	   (1u << 14) /* work requests in a queue of a queue pair */
#define ENGINE_SGE_MAX	   32
#define ENGINE_RD_MAX	   16u /* READs and atomics under way, each way (max_rd_atomic) */
#define ENGINE_INLINE_MAX  512
#define ENGINE_GID_MAX	   32
#define ENGINE_NO_DEADLINE TIMERS_NONE

/* Every counter of an engine: what it is called and what it counts (docs/counters.md). */
#define ENGINE_COUNTERS(X)     \
	X(direct_messages)     \
	X(tx_send_messages)    \
	X(rx_send_messages)    \
	X(tx_write_messages)   \
	X(rx_write_messages)   \
	X(tx_read_requests)    \
	X(tx_atomic_requests)  \
	X(rx_read_requests)    \
	X(rx_atomic_requests)  \
	X(tx_request_packets)  \
	X(tx_retransmitted)    \
	X(tx_read_responses)   \
	X(tx_atomic_responses) \
	X(tx_acks)             \
	X(tx_naks_sequence)    \
	X(tx_naks_rnr)         \
	X(tx_naks_fatal)       \
	X(rx_request_packets)  \
	X(rx_read_responses)   \
	X(rx_atomic_responses) \
	X(rx_answers_lost)     \
	X(rx_acks)             \
	X(rx_naks_sequence)    \
	X(rx_naks_rnr)         \
	X(rx_naks_fatal)       \
	X(ack_timeouts)        \
	X(mw_binds)            \
	X(mw_invalidates)      \
	X(rx_invalidates)      \
	X(hasty_retries)       \
	X(rx_duplicate)        \
	X(rx_out_of_sequence)  \
	X(rx_drop_malformed)   \
	X(rx_drop_unsupported) \
	X(rx_group_packets)    \
	X(rx_drop_no_group)    \
	X(rx_drop_no_qp)       \
	X(rx_drop_qp_state)    \
	X(rx_drop_source)      \
	X(rx_drop_destination) \
	X(rx_drop_pkey)        \
	X(rx_drop_qkey)        \
	X(rx_drop_no_buffer)   \
	X(rx_drop_access)      \
	X(rx_drop_no_memory)   \
	X(rx_messages_cut_off) \
	X(rx_ecn_marked)       \
	X(tx_cnps)             \
	X(rx_cnps)             \
	X(rate_cuts)           \
	X(cnps_no_memory)      \
	X(rx_drop_stale_ack)   \
	X(cq_overruns)         \
	X(qp_errors)

struct engine_stats {
#define X(name) uint64_t name;
	ENGINE_COUNTERS(X)
#undef X
};

struct engine;

int engine_create(struct engine **out);
/** engine_destroy() - every queue pair must be gone */
void engine_destroy(struct engine *e);

/** engine_set_line_rate() - the rate that congestion notifications begin to cut from, for
 * queue pairs that are connected later
 * @rate: bytes per second; 10 Gb/s if never called
 */
void engine_set_line_rate(struct engine *e, uint64_t rate);

/** engine_mrs() - the table of keys; not to be kept, as messages that pass without the
 * caller's lock read it, and stop doing so before this returns
 */
struct mr_table *engine_mrs(struct engine *e);
/** engine_stats() - the counters as of now */
const struct engine_stats *engine_stats(struct engine *e);

/** engine_set_gid() - an address whose packets this engine gets
 *
 * Queue pairs can be connected from the addresses that it knows, take what comes to
 * theirs alone, and are served without packets when they are connected to another one
 * (direct.c). An engine that was never told any has one of index 0, which it does not
 * look at.
 * @index: as queue pairs and address handles name it (sgid_index), below ENGINE_GID_MAX
 * @gid:   NULL: that index has none any more; no queue pair may be connected from it
 */
void engine_set_gid(struct engine *e, uint8_t index, const uint8_t gid[16]);

/** engine_has_gid() - can queue pairs be connected from the address with that index? */
bool engine_has_gid(const struct engine *e, uint8_t index);

/** engine_input() - take packets in, in the order in which they came */
void engine_input(struct engine *e, const struct link_rx *pkts, int n, uint64_t now_ns);

/** engine_output() - fill a burst with what may be sent now
 * @burst: overwritten. Its payload pieces point into registered memory and are to be
 *         read before the engine is called again.
 * Return: packets in it; call again until it is 0
 */
int engine_output(struct engine *e, struct link_burst *burst, uint64_t now_ns);

/** engine_deadline() - when to call engine_expire(), or ENGINE_NO_DEADLINE.
 * It may be too early, never too late.
 */
uint64_t engine_deadline(const struct engine *e);
void engine_expire(struct engine *e, uint64_t now_ns);

#endif
