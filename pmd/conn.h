/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The connection to one peer: its queue pair, and the messages that are in flight on it.
 *
 * Who owns what is in port.h: the transmit queue's thread has the transmit part while the
 * connection is in port->up[], the receive queue's thread reads while it is in a
 * rx_bucket, the rest is control's.
 */
#ifndef PMD_CONN_H
#define PMD_CONN_H

#include <stdatomic.h>
#include <stdint.h>
#include <infiniband/verbs.h>

#include "pmd/control.h"
#include "pmd/port.h"

#define CONN_SGE_MAX 8

/* A message in flight: what to free when it is done. */
struct conn_slot {
	struct rte_mbuf *mbuf;
	uint32_t n_frames;
	uint32_t n_bytes;
};

struct conn {
	struct port *port;
	struct ibv_qp *qp;
	struct ibv_cq *cq; /* of sends */
	uint32_t qpn;
	uint32_t psn;
	uint16_t peer;
	uint32_t max_message;		/* what the peer takes */
	_Atomic(struct conn *) rx_next; /* in its rx_bucket */
	_Atomic bool failed;
	struct conn *next_grave;
	uint64_t passed_when; /* rxq.n_passed when it may be destroyed */

	/* Transmit. The ring has n_slots, a power of two; positions count on. */
	struct conn_slot *slots __rte_cache_aligned;
	uint8_t (*hdrs)[FRAME_HDR_SIZE]; /* a record header per slot, registered */
	struct ibv_mr *hdrs_mr;
	uint32_t n_slots;
	uint32_t head;	       /* next to fill */
	uint32_t tail;	       /* oldest in flight */
	uint32_t n_staged;     /* at the head, to be posted when the burst ends */
	uint32_t n_bounces;    /* buffers of port->bounce that are in the ring */
	uint32_t reaped_head;  /* the head when post() last asked for completions */
	uint32_t reaped_round; /* of txq->round: when asked for want of room */
	uint32_t
		open_used; /* bytes in the last staged message if it holds copies, or 0 */
	uint64_t tx_frames;
	uint64_t tx_bytes;
	struct ibv_send_wr wr[PORT_TX_BURST];
	struct ibv_sge sge[PORT_TX_BURST][CONN_SGE_MAX];

	/* Receive. */
	uint64_t rx_frames __rte_cache_aligned;
	uint64_t rx_bytes;
};

extern const struct control_ops conn_ops;

/** conn_reap() - free what is done; transmit's thread, or control when it owns @conn
 * Return: how many completions there were
 */
int conn_reap(struct conn *conn, struct tx_counters *counters);

/** conns_bury() - destroy all connections that have ended. While the port is stopped, and
 * after rx_stop().
 */
void conns_bury(struct port *port);

/** conn_slot_free() - the device is done with what a slot of @conn holds */
static inline void conn_slot_free(struct conn *conn, const struct conn_slot *slot)
{
	if (slot->mbuf->pool == conn->port->bounce)
		conn->n_bounces--;
	rte_pktmbuf_free(slot->mbuf);
}

/** conn_fail() - the queue pair is broken: nothing more can be sent; control is told */
void conn_fail(struct conn *conn);

/** conn_by_qpn() - for a message that was received; online in qsbr as PORT_QSBR_RX */
static inline struct conn *conn_by_qpn(struct port *port, uint32_t qpn)
{
	/* Pairs with the release in rx_insert(). */
	struct conn *conn = atomic_load_explicit(
		&port->rx_bucket[qpn % PORT_RX_BUCKETS], memory_order_acquire);

	while (conn && conn->qpn != qpn)
		conn = atomic_load_explicit(&conn->rx_next, memory_order_acquire);
	return conn;
}

#endif
