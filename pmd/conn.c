/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See conn.h. The callbacks of control.h, and the sender's completions.
 *
 * The end of a connection, in conn_down(): no new frames (it leaves port->up[] and
 * rx_bucket); then a short time for what is in flight to be acknowledged, so that an
 * orderly end loses nothing and the counters of both sides agree; then the queue pair is
 * stopped, and joins the graves. What is still in flight then is counted as
 * tx_drop_peer_lost, though the peer may have received it: nobody can know.
 *
 * In its grave it waits until the receive queue's thread has taken all that it had
 * received: the device forgets such completions with their queue pair, and the receive
 * buffers that they tell of would be lost for good. That may take as long as the
 * application likes, so on_tick() looks again and again and nobody waits.
 */
#include "pmd/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/util.h"

#define MODULE "conn"
#define CAPS   (HELLO_CAP_CSUM | HELLO_CAP_TSO | HELLO_CAP_COALESCE)

#define DRAIN_TX_US   5000
#define DRAIN_STEP_US 100

/* IBTA 9.7.5.2.8, ibv_modify_qp(3): about 67 ms until a packet is sent again, 7 times in
 * all; a receiver without a buffer is waited for without end, 0.01 ms at first.
 */
#define ACK_TIMEOUT 14
#define RETRIES	    7
#define RNR_RETRIES 7
#define RNR_TIMER   1
#define HOP_LIMIT   64

static struct conn *conn_of(struct port *port, unsigned peer)
{
	return port->conn[peer];
}

static void wait_for_bursts(struct port *port)
{
	rte_rcu_qsbr_synchronize(port->qsbr, RTE_QSBR_THRID_INVALID);
}

/* Sender's completions */

static void slot_done(struct conn *conn, struct tx_counters *counters, bool lost)
{
	struct conn_slot *slot = &conn->slots[conn->tail++ & (conn->n_slots - 1)];

	conn_slot_free(conn, slot);
	if (!lost)
		return;
	counters->tx_frames -= slot->n_frames;
	counters->tx_bytes -= slot->n_bytes;
	counters->tx_drop_peer_lost += slot->n_frames;
}

/* RC completes in order: all before the one that failed were delivered. */
static void completion(
	struct conn *conn, const struct ibv_wc *wc, struct tx_counters *counters)
{
	uint32_t position = (uint32_t)wc->wr_id;

	while (conn->tail != position)
		slot_done(conn, counters, false);
	slot_done(conn, counters, wc->status != IBV_WC_SUCCESS);
	if (unlikely(wc->status != IBV_WC_SUCCESS))
		conn_fail(conn);
}

int conn_reap(struct conn *conn, struct tx_counters *counters)
{
	struct ibv_wc wc[PORT_TX_BURST];
	int n = ibv_poll_cq(conn->cq, PORT_TX_BURST, wc);

	for (int i = 0; i < n; i++)
		completion(conn, &wc[i], counters);
	return n;
}

void conn_fail(struct conn *conn)
{
	if (!atomic_exchange(&conn->failed, true))
		control_conn_failed(conn->port->control, conn->peer);
}

/* Making */

static int make_qp(struct conn *conn)
{
	struct port *port = conn->port;
	struct ibv_qp_init_attr init = {
		.send_cq = conn->cq,
		.recv_cq = port->rxq.cq,
		.srq = port->rxq.pool->srq,
		.cap = {.max_send_wr = conn->n_slots, .max_send_sge = port->max_sge},
		.qp_type = IBV_QPT_RC,
	};
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = port->dev.port_num,
	};

	conn->qp = ibv_create_qp(port->dev.pd, &init);
	if (!conn->qp)
		return -errno;
	conn->qpn = conn->qp->qp_num;
	return -ibv_modify_qp(conn->qp, &attr,
		IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
}

static int make_ring(struct conn *conn)
{
	struct port *port = conn->port;

	conn->n_slots = port->args.txq_size;
	conn->slots = calloc(conn->n_slots, sizeof(*conn->slots));
	conn->hdrs = calloc(conn->n_slots, sizeof(*conn->hdrs));
	if (!conn->slots || !conn->hdrs)
		return -ENOMEM;
	conn->hdrs_mr = ibv_reg_mr(
		port->dev.pd, conn->hdrs, conn->n_slots * sizeof(*conn->hdrs), 0);
	if (!conn->hdrs_mr)
		return -errno;
	conn->cq = ibv_create_cq(port->dev.ctx, (int)conn->n_slots, NULL, NULL, 0);
	return conn->cq ? 0 : -errno;
}

static void conn_free(struct conn *conn)
{
	if (conn->qp)
		ibv_destroy_qp(conn->qp);
	if (conn->cq)
		ibv_destroy_cq(conn->cq);
	if (conn->hdrs_mr)
		ibv_dereg_mr(conn->hdrs_mr);
	free(conn->hdrs);
	free(conn->slots);
	free(conn);
}

static int conn_alloc(struct port *port, unsigned peer, struct conn **connp)
{
	struct conn *conn = aligned_alloc(
		RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL(sizeof(*conn), RTE_CACHE_LINE_SIZE));
	int ret;

	if (!conn)
		return -ENOMEM;
	memset(conn, 0, sizeof(*conn));
	conn->port = port;
	conn->peer = (uint16_t)peer;
	conn->psn = random_u32() & HELLO_24BIT;
	ret = make_ring(conn);
	if (!ret)
		ret = make_qp(conn);
	if (ret) {
		conn_free(conn);
		return ret;
	}
	*connp = conn;
	return 0;
}

static uint16_t mtu_bytes(enum ibv_mtu mtu)
{
	return (uint16_t)(128u << mtu);
}

static void fill_endpoint(const struct conn *conn, struct hello_endpoint *local)
{
	const struct port *port = conn->port;

	memcpy(local->gid, port->dev.gid, sizeof(local->gid));
	local->caps = CAPS;
	local->max_message = FRAME_MSG_MAX;
	local->rx_depth = port->args.rxbufs;
	local->path_mtu = mtu_bytes(port->dev.mtu);
	memcpy(local->mac, port->data->mac_addrs->addr_bytes, sizeof(local->mac));
	strcpy(local->name, port->args.node);
	local->n_qps = 1;
	local->qp[0] = (struct hello_qp){conn->qpn, conn->psn};
}

static int on_open(void *arg, unsigned peer, struct hello_endpoint *local)
{
	struct port *port = arg;
	struct conn *conn;
	int ret = port->n_graves < CONTROL_PEERS_MAX ? conn_alloc(port, peer, &conn)
						     : -EBUSY;

	if (ret) {
		log_write(LOG_LEVEL_WARN, MODULE, "peer %u: no queue pair: %s", peer,
			strerror(-ret));
		return ret;
	}
	fill_endpoint(conn, local);
	pthread_mutex_lock(&port->lock);
	port->conn[peer] = conn;
	pthread_mutex_unlock(&port->lock);
	return 0;
}

/* Connecting */

static void rx_insert(struct port *port, struct conn *conn)
{
	_Atomic(struct conn *) *bucket = &port->rx_bucket[conn->qpn % PORT_RX_BUCKETS];

	atomic_store_explicit(&conn->rx_next,
		atomic_load_explicit(bucket, memory_order_relaxed), memory_order_relaxed);
	/* Pairs with the acquire in conn_by_qpn(). */
	atomic_store_explicit(bucket, conn, memory_order_release);
}

static void rx_remove(struct port *port, struct conn *conn)
{
	_Atomic(struct conn *) *link = &port->rx_bucket[conn->qpn % PORT_RX_BUCKETS];
	struct conn *at;

	while ((at = atomic_load_explicit(link, memory_order_relaxed)) != NULL) {
		if (at == conn) {
			atomic_store_explicit(link,
				atomic_load_explicit(
					&conn->rx_next, memory_order_relaxed),
				memory_order_release);
			return;
		}
		link = &at->rx_next;
	}
}

static int to_rtr(struct conn *conn, const struct hello_endpoint *remote)
{
	const struct device *dev = &conn->port->dev;
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = dev->mtu,
		.dest_qp_num = remote->qp[0].qpn,
		.rq_psn = remote->qp[0].psn,
		.min_rnr_timer = RNR_TIMER,
		.ah_attr =
			{
				.is_global = 1,
				.port_num = dev->port_num,
				.grh = {.sgid_index = dev->gid_index,
					.hop_limit = HOP_LIMIT},
			},
	};

	while (mtu_bytes(attr.path_mtu) > remote->path_mtu)
		attr.path_mtu--;
	memcpy(attr.ah_attr.grh.dgid.raw, remote->gid, sizeof(remote->gid));
	return -ibv_modify_qp(conn->qp, &attr,
		IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
			IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
}

static int to_rts(struct conn *conn)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTS,
		.sq_psn = conn->psn,
		.timeout = ACK_TIMEOUT,
		.retry_cnt = RETRIES,
		.rnr_retry = RNR_RETRIES,
	};

	return -ibv_modify_qp(conn->qp, &attr,
		IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
			IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
}

static int on_connect(void *arg, unsigned peer, const struct hello_endpoint *remote)
{
	struct port *port = arg;
	struct conn *conn = conn_of(port, peer);
	int ret;

	/* What version 1 senders do without asking. */
	if ((remote->caps & CAPS) != CAPS) {
		log_write(LOG_LEVEL_WARN, MODULE, "peer %u (%s) lacks capabilities: %#x",
			peer, remote->name, remote->caps);
		return -EPROTONOSUPPORT;
	}
	conn->max_message = MIN(remote->max_message, FRAME_MSG_MAX);
	rx_insert(port, conn);
	ret = to_rtr(conn, remote);
	if (!ret)
		ret = to_rts(conn);
	if (ret)
		log_write(LOG_LEVEL_WARN, MODULE, "peer %u (%s): queue pair: %s", peer,
			remote->name, strerror(-ret));
	return ret;
}

static void on_up(void *arg, unsigned peer)
{
	struct port *port = arg;

	/* Pairs with the acquire in tx.c. */
	atomic_store_explicit(&port->up[peer], conn_of(port, peer), memory_order_release);
	if (atomic_load(&port->n_peers) <= peer)
		atomic_store(&port->n_peers, peer + 1);
	atomic_fetch_add(&port->n_up, 1);
}

/* Ending */

static void drain_tx(struct conn *conn, struct tx_counters *counters)
{
	for (int us = 0; us < DRAIN_TX_US && conn->tail != conn->head;
		us += DRAIN_STEP_US)
		if (!conn_reap(conn, counters))
			usleep(DRAIN_STEP_US);
}

static void count_lost(struct port *port, const struct tx_counters *counters)
{
	/* What failed was taken off two counters that started at 0. */
	atomic_fetch_add(&port->lost_frames, 0 - counters->tx_frames);
	atomic_fetch_add(&port->lost_bytes, 0 - counters->tx_bytes);
}

/* grave_reap() - the mbufs of a stopped queue pair, as the device lets go of them */
static void grave_reap(struct conn *conn)
{
	struct tx_counters counters = {0};

	while (conn->tail != conn->head && conn_reap(conn, &counters) > 0) {
	}
	count_lost(conn->port, &counters);
}

/* bury() - destroy it; the device may read from its mbufs until the queue pair is gone */
static void bury(struct conn *conn)
{
	struct tx_counters counters = {0};

	grave_reap(conn);
	ibv_destroy_qp(conn->qp);
	conn->qp = NULL;
	while (conn->tail != conn->head)
		slot_done(conn, &counters, true);
	count_lost(conn->port, &counters);
	conn_free(conn);
}

static bool has_passed(const struct conn *conn)
{
	return atomic_load_explicit(&conn->port->rxq.n_passed, memory_order_acquire) >=
	       conn->passed_when;
}

static void graves_visit(struct port *port, bool all)
{
	struct conn **link = &port->graves, *conn;

	while ((conn = *link) != NULL) {
		if (all || has_passed(conn)) {
			*link = conn->next_grave;
			port->n_graves--;
			bury(conn);
		} else {
			grave_reap(conn);
			link = &conn->next_grave;
		}
	}
}

void conns_bury(struct port *port)
{
	graves_visit(port, true);
}

static bool on_tick(void *arg)
{
	struct port *port = arg;

	graves_visit(port, false);
	return port->graves != NULL;
}

/* to_grave() - at most as many completions as there are buffers wait to be taken. So many
 * a poll may have found before the queue pair was stopped, so many come now, and the last
 * ones may not be dealt with before the next poll.
 */
static void to_grave(struct port *port, struct conn *conn)
{
	conn->passed_when = atomic_load(&port->rxq.n_passed) + 3ull * port->rxq.pool->n;
	conn->next_grave = port->graves;
	port->graves = conn;
	port->n_graves++;
}

static void on_down(void *arg, unsigned peer, const char *reason)
{
	struct port *port = arg;
	struct conn *conn = conn_of(port, peer);
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
	struct tx_counters counters = {0};
	bool was_up = atomic_exchange(&port->up[peer], NULL) != NULL;

	if (was_up)
		atomic_fetch_sub(&port->n_up, 1);
	pthread_mutex_lock(&port->lock);
	port->conn[peer] = NULL;
	pthread_mutex_unlock(&port->lock);
	rx_remove(port, conn);
	wait_for_bursts(port);
	mactable_flush_peer(&port->macs, peer);
	/* Control need not hear of what fails from here on. */
	if (!atomic_exchange(&conn->failed, true) && was_up) {
		drain_tx(conn, &counters);
		count_lost(port, &counters);
	}
	ibv_modify_qp(conn->qp, &attr, IBV_QP_STATE);
	to_grave(port, conn);
}

const struct control_ops conn_ops = {
	.conn_open = on_open,
	.conn_connect = on_connect,
	.conn_up = on_up,
	.conn_down = on_down,
	.tick = on_tick,
};
