/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One net_vrdma port: what its parts share. The parts are ethdev.c (DPDK's view), conn.c
 * (a peer's queue pair; callbacks of control.h), tx.c, rx.c, stats.c and telemetry.c.
 *
 * Threads
 *   transmit  whoever calls tx_burst; one at a time
 *   receive   whoever calls rx_burst; one at a time, and beside transmit
 *   control   the hello protocol's thread; makes and destroys connections
 *   admin     the application's calls other than bursts, telemetry, DPDK's interrupt
 * thread
 *
 * A burst is online in @qsbr (as PORT_QSBR_TX or PORT_QSBR_RX) from its begin to its end.
 * Control publishes a connection by storing its pointer, takes it back by storing NULL
 * or unlinking it, waits until no burst that began before is left, and owns it then. So
 * bursts need no locks, and threads that never come back hold nothing up.
 */
#ifndef PMD_PORT_H
#define PMD_PORT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <infiniband/verbs.h>

#include <ethdev_driver.h>
#include <rte_cycles.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_rcu_qsbr.h>

#include "pmd/args.h"
#include "pmd/control.h"
#include "pmd/counters.h"
#include "pmd/device.h"
#include "pmd/frame.h"
#include "pmd/heap.h"
#include "pmd/hello_auth.h"
#include "pmd/mactable.h"
#include "pmd/rxpool.h"

#define PORT_QSBR_RX	  0
#define PORT_QSBR_TX	  1
#define PORT_QSBR_THREADS 2

#define PORT_RX_BUCKETS	 1024 /* power of two */
#define PORT_RX_POLL	 32   /* completions taken at a time */
#define PORT_TX_BURST	 32   /* frames dealt with at a time */
#define PORT_BOUNCE_MIN	 256  /* messages that hold copied frames, in flight to all */
#define PORT_BOUNCE_MAX	 1024
#define PORT_BOUNCE_SIZE UINT16_MAX

struct conn;

/* Receive: a message being taken apart, maybe over several bursts. */
struct rx_cursor {
	struct rxbuf *buf; /* NULL: none */
	struct conn *conn; /* NULL when it is gone; valid within one burst only */
	uint32_t qpn;
	uint32_t size;
	uint32_t offset;
	/* A frame that is cut into segments: */
	uint32_t segment;    /* next one */
	uint32_t n_segments; /* 0: none */
	uint32_t mss;
	struct frame_record record;
	struct frame_layout layout;
};

struct rxq {
	struct port *port;
	struct rte_mempool *mempool; /* the application's */
	struct rxpool *pool;
	struct ibv_cq *cq;
	uint16_t port_id;
	uint16_t n_wc;
	uint16_t next_wc;
	struct rx_cursor cursor;
	struct ibv_wc wc[PORT_RX_POLL];
	struct rx_counters counters;
	_Atomic uint64_t
		n_passed; /* completions; a poll without any is as all there can be */
} __rte_cache_aligned;

struct txq {
	struct port *port;
	const struct heap_table *table; /* of this burst */
	uint32_t table_hint;
	uint32_t now;	     /* tick of this burst */
	uint32_t round;	     /* counts on with each PORT_TX_BURST frames; 0 before */
	uint32_t all_reaped; /* the last round in which reap_all() ran */
	uint32_t n_touched;
	struct conn *touched[CONTROL_PEERS_MAX]; /* connections with something to post */
	struct tx_counters counters;
} __rte_cache_aligned;

struct port {
	struct rte_eth_dev_data *data;
	struct args args;
	struct device dev;
	struct rte_rcu_qsbr *qsbr;
	struct heap heap;
	struct rte_mempool *bounce; /* for messages of copied frames */
	struct poolmr bounce_mrs;
	uint32_t tick_shift; /* a tick is 2^tick_shift TSC cycles, about a second */
	uint32_t max_sge;

	/* Set while both queues are stopped, or by admin; read by bursts. */
	_Atomic uint16_t mtu;
	bool finish; /* received frames are to be finished: the application does not */

	/* Connections that may be sent to, by peer. */
	_Atomic(struct conn *) up[CONTROL_PEERS_MAX];
	_Atomic uint32_t n_peers; /* one more than the highest index that was ever up */
	/* All connections, by queue pair number, for received messages. */
	_Atomic(struct conn *) rx_bucket[PORT_RX_BUCKETS];

	struct mactable macs;
	struct txq txq;
	struct rxq rxq;

	/* Control and admin. */
	pthread_mutex_t admin_lock; /* for control; no callback of control takes it */
	struct control *control;    /* NULL while the port is stopped */
	struct hello_key key;
	bool has_key;
	pthread_mutex_t lock; /* for conn[] below, against telemetry */
	struct conn *conn[CONTROL_PEERS_MAX];
	struct conn *graves; /* see conn.c; control's, or admin's while stopped */
	uint32_t n_graves;
	_Atomic uint32_t n_up;
	_Atomic uint64_t lost_frames; /* given up by control; see conn.c */
	_Atomic uint64_t lost_bytes;

	/* statistics as of the last reset */
	struct tx_counters tx_base;
	struct rx_counters rx_base;
};

/** port_bounce_lkey() - the key of an mbuf of port->bounce is kept with it */
static inline uint32_t *port_bounce_lkey(struct rte_mbuf *bounce)
{
	return rte_mbuf_to_priv(bounce);
}

static inline uint32_t port_tick(const struct port *port)
{
	return (uint32_t)(rte_rdtsc() >> port->tick_shift);
}

/** port_frame_max() - the longest frame that is not to be segmented */
static inline uint32_t port_frame_max(const struct port *port)
{
	return atomic_load_explicit(&port->mtu, memory_order_relaxed) + FRAME_OVERHEAD;
}

/* tx.c */
uint16_t tx_burst(void *queue, struct rte_mbuf **pkts, uint16_t n);

/* rx.c */
uint16_t rx_burst(void *queue, struct rte_mbuf **pkts, uint16_t n);
/** rx_stop() - count and give back what was received and nobody will fetch */
void rx_stop(struct rxq *rxq);

/* stats.c */
/** port_counters() - all counters since the last reset */
void port_counters(struct port *port, struct tx_counters *tx, struct rx_counters *rx);
int stats_get(struct rte_eth_dev *eth, struct rte_eth_stats *stats);
int stats_reset(struct rte_eth_dev *eth);
int xstats_get(struct rte_eth_dev *eth, struct rte_eth_xstat *xstats, unsigned n);
int xstats_get_names(
	struct rte_eth_dev *eth, struct rte_eth_xstat_name *names, unsigned n);

/* telemetry.c */
void telemetry_add(struct port *port);
void telemetry_remove(struct port *port);

#endif
