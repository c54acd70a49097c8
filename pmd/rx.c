/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receive: messages become frames, as docs/frame-protocol.md says. A peer is not trusted:
 * whatever it sends is judged record by record, and costs it that record.
 *
 * The only frame of a message is handed up in the buffer that it came in. Frames that
 * share a message are copied into mbufs of their own: they are small, they need room in
 * front that their neighbour has, and the buffer is free at once. Small frames, and
 * any that fit while buffers run low, are copied as well. When there is no buffer left at
 * all, the device tells senders to wait (RNR NAK), and nothing is lost.
 */
#include "pmd/port.h"

#include <netinet/in.h>
#include <string.h>

#include "lib/util.h"
#include "pmd/conn.h"
#include "pmd/offload.h"

#define RX_COPY_MAX 512

/* Handing up */

/* mark_finished() - the checksums are right, as they were made here or were never in
 * danger. Of other frames nothing is known: they have what their sender gave them.
 */
static void mark_finished(struct rte_mbuf *mbuf, const struct frame_layout *layout)
{
	mbuf->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_GOOD;
	if (layout->ip_version == 4)
		mbuf->ol_flags |= RTE_MBUF_F_RX_IP_CKSUM_GOOD;
}

/* mark_unfinished() - hand up a frame that is still to be finished by the port that it
 * goes out by. DPDK has no such thing on receive. Open vSwitch 3.1 passes an mbuf's
 * transmit flags on as they are, whichever port set them (lib/netdev-dpdk.c,
 * netdev_dpdk_prep_hwol_packet(); lib/netdev-linux.c, netdev_linux_prepend_vnet_hdr());
 * it wants one segment, and TX_TCP_SEG on what is longer than the MTU. Newer ones differ:
 * this is the one place to change.
 */
static void mark_unfinished(struct rte_mbuf *mbuf, const struct frame_record *record,
	const struct frame_layout *layout)
{
	mark_finished(mbuf, layout);
	mbuf->ol_flags |=
		layout->ip_version == 4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
	mbuf->l2_len = layout->l2_len;
	mbuf->l3_len = layout->l3_len;
	mbuf->l4_len = layout->l4_len;
	if (layout->l4_proto == IPPROTO_TCP)
		mbuf->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM;
	else if (layout->l4_proto == IPPROTO_UDP)
		mbuf->ol_flags |= RTE_MBUF_F_TX_UDP_CKSUM;
	else
		mbuf->ol_flags |= RTE_MBUF_F_TX_SCTP_CKSUM;
	if (record->flags & FRAME_TSO) {
		mbuf->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
		mbuf->tso_segsz = record->mss;
	}
}

static struct rte_mbuf *mbuf_alloc(struct rxq *rxq)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(rxq->mempool);

	if (unlikely(!mbuf))
		rxq->counters.rx_drop_no_mbuf++;
	else
		mbuf->port = rxq->port_id;
	return mbuf;
}

static void set_len(struct rxq *rxq, struct rte_mbuf *mbuf, uint32_t len)
{
	mbuf->data_len = (uint16_t)len;
	mbuf->pkt_len = len;
	rxq->counters.rx_frames++;
	rxq->counters.rx_bytes += len;
}

static struct rte_mbuf *copy_up(struct rxq *rxq, const uint8_t *frame, uint32_t len)
{
	struct rte_mbuf *mbuf = mbuf_alloc(rxq);

	if (unlikely(!mbuf))
		return NULL;
	memcpy(rte_pktmbuf_mtod(mbuf, void *), frame, len);
	set_len(rxq, mbuf, len);
	rxq->counters.rx_copied++;
	return mbuf;
}

/* wrap_up() - the buffer goes with the mbuf; the cursor loses it */
static struct rte_mbuf *wrap_up(struct rxq *rxq, struct rxbuf *buf, uint32_t len)
{
	uint32_t room = FRAME_HEADROOM - FRAME_HDR_SIZE;
	struct rte_mbuf *mbuf = mbuf_alloc(rxq);

	if (unlikely(!mbuf))
		return NULL;
	rte_mbuf_ext_refcnt_set(&buf->shinfo, 1);
	rte_pktmbuf_attach_extbuf(mbuf, buf->msg - room, buf->msg_iova - room,
		(uint16_t)(FRAME_HEADROOM + len), &buf->shinfo);
	mbuf->data_off = FRAME_HEADROOM;
	set_len(rxq, mbuf, len);
	rxq->cursor.buf = NULL;
	return mbuf;
}

static bool fits(const struct rxq *rxq, uint32_t len)
{
	return len + RTE_PKTMBUF_HEADROOM <= rte_pktmbuf_data_room_size(rxq->mempool);
}

/* hand_up() - the frame at the cursor, whole */
static struct rte_mbuf *hand_up(struct rxq *rxq, uint32_t len)
{
	struct rx_cursor *cursor = &rxq->cursor;
	const uint8_t *frame = cursor->buf->msg + cursor->offset + FRAME_HDR_SIZE;
	bool alone = cursor->offset == 0 && cursor->size == FRAME_HDR_SIZE + len;

	if (!alone || ((len <= RX_COPY_MAX || rxpool_low(rxq->pool)) && fits(rxq, len)))
		return copy_up(rxq, frame, len);
	return wrap_up(rxq, cursor->buf, len);
}

/* Frames that ask for offload */

/* segment_next() - the next piece of the frame at the cursor */
static struct rte_mbuf *segment_next(struct rxq *rxq)
{
	struct rx_cursor *cursor = &rxq->cursor;
	struct rte_mbuf *mbuf = mbuf_alloc(rxq);
	uint32_t index = cursor->segment++;
	uint32_t len;

	if (cursor->segment == cursor->n_segments)
		cursor->n_segments = 0;
	if (unlikely(!mbuf))
		return NULL;
	len = offload_segment(cursor->buf->msg + FRAME_HDR_SIZE, cursor->record.len,
		&cursor->layout, cursor->mss, index, rte_pktmbuf_mtod(mbuf, uint8_t *));
	set_len(rxq, mbuf, len);
	mark_finished(mbuf, &cursor->layout);
	return mbuf;
}

static struct rte_mbuf *segment_first(struct rxq *rxq, const struct frame_record *record,
	const struct frame_layout *layout)
{
	struct rx_cursor *cursor = &rxq->cursor;
	uint32_t mtu = atomic_load_explicit(&rxq->port->mtu, memory_order_relaxed);
	uint32_t hdrs = (uint32_t)layout->l3_len + layout->l4_len;

	if (unlikely(mtu <= hdrs)) {
		rxq->counters.rx_drop_oversize++;
		return NULL;
	}
	cursor->record = *record;
	cursor->layout = *layout;
	cursor->mss = MIN(record->mss, mtu - hdrs);
	cursor->segment = 0;
	cursor->n_segments = offload_n_segments(record->len, layout, cursor->mss);
	rxq->counters.rx_segments += cursor->n_segments - 1;
	return segment_next(rxq);
}

/* offload_up() - finish a frame as far as the application does not, and hand it up */
static struct rte_mbuf *offload_up(struct rxq *rxq, uint8_t *frame,
	const struct frame_record *record, const struct frame_layout *layout)
{
	bool l4 = record->flags & (FRAME_CSUM | FRAME_TSO);
	struct rte_mbuf *mbuf;

	if (rxq->port->finish && (record->flags & FRAME_TSO))
		return segment_first(rxq, record, layout);
	if (record->flags & (FRAME_IPCSUM | FRAME_TSO))
		offload_ipv4_csum(frame, layout);
	if (l4)
		(rxq->port->finish ? offload_l4_csum : offload_pseudo_csum)(
			frame, layout);
	mbuf = hand_up(rxq, record->len);
	if (likely(mbuf && l4)) {
		if (rxq->port->finish)
			mark_finished(mbuf, layout);
		else
			mark_unfinished(mbuf, record, layout);
	}
	return mbuf;
}

/* Messages */

static void learn(struct rxq *rxq, const uint8_t *frame, uint32_t len, uint32_t now)
{
	struct conn *conn = rxq->cursor.conn;

	if (!conn)
		return; /* it came before its peer went */
	mactable_learn(&rxq->port->macs, frame + 6, conn->peer, now);
	conn->rx_frames++;
	conn->rx_bytes += len;
}

/* take_record() - the record at the cursor, which moves on behind it
 * Return: a frame for the application, or NULL if it was dropped
 */
static struct rte_mbuf *take_record(struct rxq *rxq, uint32_t now)
{
	struct rx_cursor *cursor = &rxq->cursor;
	struct frame_record record;
	struct frame_layout layout;
	struct rte_mbuf *mbuf = NULL;
	uint8_t *frame;
	int err;

	rxq->counters.rx_frames_in++;
	err = frame_record_decode(
		cursor->buf->msg, cursor->size, cursor->offset, &record);
	if (unlikely(err == -EPROTO)) {
		rxq->counters.rx_drop_record++;
		cursor->offset = cursor->size;
		return NULL;
	}
	frame = cursor->buf->msg + cursor->offset + FRAME_HDR_SIZE;
	if (unlikely(err)) {
		rxq->counters.rx_drop_offload++;
	} else if (unlikely(!(record.flags & FRAME_TSO) &&
			    record.len > port_frame_max(rxq->port))) {
		rxq->counters.rx_drop_oversize++;
	} else if (record.flags &&
		   unlikely(frame_check_offload(&record, frame, record.len, &layout))) {
		rxq->counters.rx_drop_offload++;
	} else {
		learn(rxq, frame, record.len, now);
		if (record.flags & FRAME_TSO)
			rxq->counters.rx_tso++;
		if (record.flags)
			mbuf = offload_up(rxq, frame, &record, &layout);
		else
			mbuf = hand_up(rxq, record.len);
	}
	cursor->offset += FRAME_HDR_SIZE + record.len;
	return mbuf;
}

/* message_begin() - put the cursor on what a completion tells of; false if it failed */
static bool message_begin(struct rxq *rxq, const struct ibv_wc *wc)
{
	struct rx_cursor *cursor = &rxq->cursor;
	struct rxbuf *buf = (struct rxbuf *)(uintptr_t)wc->wr_id;

	rxq->pool->n_posted--;
	if (unlikely(wc->status != IBV_WC_SUCCESS)) {
		struct conn *conn = conn_by_qpn(rxq->port, wc->qp_num);

		rxq->counters.rx_failed_receives++;
		rxpool_put(rxq->pool, buf);
		if (conn)
			conn_fail(conn);
		return false;
	}
	rxq->counters.rx_messages++;
	cursor->buf = buf;
	cursor->qpn = wc->qp_num;
	cursor->conn = conn_by_qpn(rxq->port, wc->qp_num);
	cursor->size = wc->byte_len;
	cursor->offset = 0;
	cursor->n_segments = 0;
	if (unlikely(!cursor->size)) {
		rxq->counters.rx_frames_in++;
		rxq->counters.rx_drop_record++;
	}
	return true;
}

/* count_passed() - for conn.c, which wants to know when all of a queue pair's completions
 * have been taken
 */
static void count_passed(struct rxq *rxq, uint32_t n)
{
	uint64_t before = atomic_load_explicit(&rxq->n_passed, memory_order_relaxed);

	/* Pairs with the acquire in conn.c, has_passed(). */
	atomic_store_explicit(&rxq->n_passed, before + n, memory_order_release);
}

/* next_completion() - NULL if there is none; asks the device at most once too often */
static const struct ibv_wc *next_completion(struct rxq *rxq, int max)
{
	int n;

	if (rxq->next_wc == rxq->n_wc) {
		n = ibv_poll_cq(rxq->cq, MIN(max, PORT_RX_POLL), rxq->wc);
		rxq->next_wc = 0;
		rxq->n_wc = (uint16_t)MAX(n, 0);
		count_passed(rxq, n > 0 ? (uint32_t)n : rxq->pool->n);
		if (n <= 0)
			return NULL;
	}
	return &rxq->wc[rxq->next_wc++];
}

static bool cursor_at_end(const struct rx_cursor *cursor)
{
	return !cursor->buf || (!cursor->n_segments && cursor->offset >= cursor->size);
}

/* cursor_leave() - the message is done with, or its buffer went up */
static void cursor_leave(struct rxq *rxq)
{
	if (rxq->cursor.buf)
		rxpool_put(rxq->pool, rxq->cursor.buf);
	rxq->cursor.buf = NULL;
}

static uint16_t take_frames(struct rxq *rxq, struct rte_mbuf **pkts, uint16_t n)
{
	uint32_t now = port_tick(rxq->port);
	struct rx_cursor *cursor = &rxq->cursor;
	const struct ibv_wc *wc;
	uint16_t got = 0;

	if (cursor->buf) /* from the burst before: the connection may be gone */
		cursor->conn = conn_by_qpn(rxq->port, cursor->qpn);
	while (got < n) {
		struct rte_mbuf *mbuf;

		if (cursor_at_end(cursor)) {
			cursor_leave(rxq);
			wc = next_completion(rxq, n - got);
			if (!wc)
				break;
			if (!message_begin(rxq, wc))
				continue;
			if (cursor_at_end(cursor))
				continue;
		}
		mbuf = cursor->n_segments ? segment_next(rxq) : take_record(rxq, now);
		if (likely(mbuf != NULL))
			pkts[got++] = mbuf;
	}
	return got;
}

uint16_t rx_burst(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	struct rxq *rxq = queue;
	struct port *port = rxq->port;
	uint16_t got;

	rte_rcu_qsbr_thread_online(port->qsbr, PORT_QSBR_RX);
	got = take_frames(rxq, pkts, n);
	rxpool_refill(rxq->pool);
	rte_rcu_qsbr_thread_offline(port->qsbr, PORT_QSBR_RX);
	return got;
}

/* count_rest() - how many frames the rest of the message at the cursor has */
static void count_rest(struct rxq *rxq)
{
	struct rx_cursor *cursor = &rxq->cursor;
	struct frame_record record;

	rxq->counters.rx_drop_stopped +=
		cursor->n_segments ? cursor->n_segments - cursor->segment : 0;
	while (cursor->offset < cursor->size) {
		rxq->counters.rx_frames_in++;
		rxq->counters.rx_drop_stopped++;
		if (frame_record_decode(cursor->buf->msg, cursor->size, cursor->offset,
			    &record) == -EPROTO)
			return;
		cursor->offset += FRAME_HDR_SIZE + record.len;
	}
}

void rx_stop(struct rxq *rxq)
{
	const struct ibv_wc *wc;

	if (rxq->cursor.buf)
		count_rest(rxq);
	cursor_leave(rxq);
	while ((wc = next_completion(rxq, PORT_RX_POLL)) != NULL) {
		if (!message_begin(rxq, wc))
			continue;
		count_rest(rxq);
		cursor_leave(rxq);
	}
}
