/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Transmit: frames become messages, as docs/frame-protocol.md says.
 *
 * A frame of more than TX_COPY_MAX bytes is a message of its own and is sent from where
 * it lies; its mbuf is freed when the message is acknowledged. Smaller ones are copied,
 * all of one burst to one peer into as few messages as they fit: a copy of that size
 * costs less than what a message costs, and the mbuf is free at once.
 *
 * All messages of a burst to one peer are posted in one chain, of which the last one is
 * signalled. A full ring to one peer drops that peer's frames and nobody else's; that is
 * why tx_burst() always takes all frames. The buffers for copies are everyone's: a peer
 * may have as many of them in flight as it leaves to all others (a "dynamic threshold":
 * Choudhury, Hahne, 1998), so that k peers that acknowledge nothing hold k/(k+1) of them.
 */
#include "pmd/port.h"

#include "lib/util.h"
#include "pmd/conn.h"

#define TX_COPY_MAX   2048
#define TX_REAP_EVERY 16 /* messages to a peer */

#define TX_GROUP_BIT 1 /* in an address' first byte */
#define TX_L4 \
	(RTE_MBUF_F_TX_TCP_CKSUM | RTE_MBUF_F_TX_UDP_CKSUM | RTE_MBUF_F_TX_SCTP_CKSUM)
#define TX_KNOWN                                                                       \
	(TX_L4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_IPV4 | \
		RTE_MBUF_F_TX_IPV6)

/* record_of() - what the mbuf asks for; false if this driver does not offer it */
static bool record_of(const struct rte_mbuf *mbuf, struct frame_record *record)
{
	uint64_t flags = mbuf->ol_flags & RTE_MBUF_F_TX_OFFLOAD_MASK;

	record->len = mbuf->pkt_len;
	record->flags = 0;
	record->mss = 0;
	if (likely(!flags))
		return true;
	if (flags & ~TX_KNOWN)
		return false;
	if (flags & TX_L4)
		record->flags |= FRAME_CSUM;
	if (flags & RTE_MBUF_F_TX_IP_CKSUM)
		record->flags |= FRAME_IPCSUM;
	if (flags & RTE_MBUF_F_TX_TCP_SEG) {
		record->flags |= FRAME_TSO;
		record->mss = mbuf->tso_segsz;
	}
	return true;
}

/* Posting */

static void touch(struct txq *txq, struct conn *conn)
{
	if (conn->n_staged == 0)
		txq->touched[txq->n_touched++] = conn;
}

/* reap_for_room() - once a round: a peer that acknowledges nothing must not cost a system
 * call for each of its frames
 */
static void reap_for_room(struct txq *txq, struct conn *conn)
{
	if (conn->reaped_round == txq->round)
		return;
	conn->reaped_round = txq->round;
	conn_reap(conn, &txq->counters);
}

/* stage() - the next message's slot; NULL if the ring is full */
static struct conn_slot *stage(struct txq *txq, struct conn *conn)
{
	if (unlikely(conn->head - conn->tail == conn->n_slots)) {
		reap_for_room(txq, conn);
		if (conn->head - conn->tail == conn->n_slots)
			return NULL;
	}
	touch(txq, conn);
	conn->open_used = 0;
	conn->n_staged++;
	return &conn->slots[conn->head++ & (conn->n_slots - 1)];
}

static void count_posted(struct txq *txq, struct conn *conn, uint32_t first, uint32_t end)
{
	for (uint32_t i = first; i != end; i++) {
		const struct conn_slot *slot = &conn->slots[i & (conn->n_slots - 1)];

		txq->counters.tx_messages++;
		txq->counters.tx_frames += slot->n_frames;
		txq->counters.tx_bytes += slot->n_bytes;
		conn->tx_frames += slot->n_frames;
		conn->tx_bytes += slot->n_bytes;
	}
}

/* unpost() - the slots from @first on were refused by the device */
static void unpost(struct txq *txq, struct conn *conn, uint32_t first)
{
	for (uint32_t i = first; i != conn->head; i++) {
		struct conn_slot *slot = &conn->slots[i & (conn->n_slots - 1)];

		txq->counters.tx_drop_post += slot->n_frames;
		conn_slot_free(conn, slot);
	}
	conn->head = first;
	conn_fail(conn);
}

static void post(struct txq *txq, struct conn *conn)
{
	uint32_t n = conn->n_staged, first = conn->head - n, n_ok = n;
	struct ibv_send_wr *bad;

	for (uint32_t i = 0; i < n; i++) {
		struct ibv_send_wr *wr = &conn->wr[i];

		wr->wr_id = first + i;
		wr->next = i + 1 < n ? wr + 1 : NULL;
		wr->opcode = IBV_WR_SEND;
		wr->send_flags = i + 1 < n ? 0 : IBV_SEND_SIGNALED;
		wr->sg_list = conn->sge[i];
	}
	conn->n_staged = 0;
	conn->open_used = 0;
	if (unlikely(ibv_post_send(conn->qp, conn->wr, &bad)))
		n_ok = (uint32_t)(bad - conn->wr);
	count_posted(txq, conn, first, first + n_ok);
	if (unlikely(n_ok < n))
		unpost(txq, conn, first + n_ok);
	/* Not at every burst: asking costs more than it frees. */
	if (conn->head - conn->reaped_head >= TX_REAP_EVERY) {
		conn->reaped_head = conn->head;
		conn_reap(conn, &txq->counters);
	}
}

static struct conn *conn_up(struct port *port, uint32_t peer)
{
	/* Pairs with the release in conn.c, on_up(). */
	return atomic_load_explicit(&port->up[peer], memory_order_acquire);
}

/* Messages that hold copies */

static bool bounce_left(const struct txq *txq, const struct conn *conn)
{
	return conn->n_bounces < rte_mempool_avail_count(txq->port->bounce);
}

/* reap_all() - acknowledged messages of peers that nothing is sent to any more hold
 * buffers, too
 */
static void reap_all(struct txq *txq)
{
	uint32_t n = atomic_load_explicit(&txq->port->n_peers, memory_order_acquire);

	if (txq->all_reaped == txq->round)
		return;
	txq->all_reaped = txq->round;
	for (uint32_t i = 0; i < n; i++) {
		struct conn *conn = conn_up(txq->port, i);

		if (conn && conn->n_bounces)
			reap_for_room(txq, conn);
	}
}

static struct rte_mbuf *bounce_alloc(struct txq *txq, struct conn *conn)
{
	if (unlikely(!bounce_left(txq, conn))) {
		reap_for_room(txq, conn);
		if (!bounce_left(txq, conn))
			reap_all(txq);
		if (!bounce_left(txq, conn))
			return NULL;
	}
	return rte_pktmbuf_alloc(txq->port->bounce);
}

/* bounce_open() - begin one; false when there is no room, which is counted */
static bool bounce_open(struct txq *txq, struct conn *conn)
{
	struct rte_mbuf *bounce = bounce_alloc(txq, conn);
	struct conn_slot *slot;
	uint32_t i;

	if (unlikely(!bounce)) {
		txq->counters.tx_drop_no_buffer++;
		return false;
	}
	slot = stage(txq, conn);
	if (unlikely(!slot)) {
		rte_pktmbuf_free(bounce);
		txq->counters.tx_drop_ring_full++;
		return false;
	}
	conn->n_bounces++;
	*slot = (struct conn_slot){.mbuf = bounce};
	i = conn->n_staged - 1;
	conn->wr[i].num_sge = 1;
	conn->sge[i][0] = (struct ibv_sge){
		(uintptr_t)bounce->buf_addr, 0, *port_bounce_lkey(bounce)};
	return true;
}

static void copy_frame(uint8_t *to, const struct rte_mbuf *mbuf)
{
	for (; mbuf; mbuf = mbuf->next) {
		memcpy(to, rte_pktmbuf_mtod(mbuf, const uint8_t *), mbuf->data_len);
		to += mbuf->data_len;
	}
}

/* send_copy() - consumes one reference to @mbuf */
static void send_copy(struct txq *txq, struct conn *conn, struct rte_mbuf *mbuf,
	const struct frame_record *record)
{
	uint32_t size = FRAME_HDR_SIZE + record->len;
	struct conn_slot *slot;
	struct ibv_sge *sge;
	uint8_t *to;

	/* A frame to be segmented is alone in its message. */
	if (!conn->open_used || conn->open_used + size > conn->max_message ||
		(record->flags & FRAME_TSO)) {
		if (unlikely(!bounce_open(txq, conn))) {
			rte_pktmbuf_free(mbuf);
			return;
		}
	}
	sge = conn->sge[conn->n_staged - 1];
	slot = &conn->slots[(conn->head - 1) & (conn->n_slots - 1)];
	to = (uint8_t *)(uintptr_t)sge->addr + sge->length;
	frame_record_encode(to, record);
	copy_frame(to + FRAME_HDR_SIZE, mbuf);
	sge->length += size;
	slot->n_frames++;
	slot->n_bytes += record->len;
	conn->open_used = record->flags & FRAME_TSO ? 0 : sge->length;
	txq->counters.tx_copied++;
	rte_pktmbuf_free(mbuf);
}

/* Messages sent from where the frame lies */

/* sole_owner() - may the record header be written in front of the frame? */
static bool sole_owner(const struct rte_mbuf *mbuf)
{
	if (rte_mbuf_refcnt_read(mbuf) != 1 ||
		rte_pktmbuf_headroom(mbuf) < FRAME_HDR_SIZE || RTE_MBUF_CLONED(mbuf))
		return false;
	return !RTE_MBUF_HAS_EXTBUF(mbuf) || rte_mbuf_ext_refcnt_read(mbuf->shinfo) == 1;
}

/* gather() - list [@addr, +@len), which may lie in several regions
 * Return: entries of @sge in use, or -1 if that is too many or memory is not registered
 */
static int gather(
	struct txq *txq, struct ibv_sge *sge, int n, uintptr_t addr, uint32_t len)
{
	int max = (int)txq->port->max_sge;

	while (len) {
		const struct heap_region *region =
			heap_find(txq->table, addr, &txq->table_hint);
		uint32_t part;

		if (unlikely(!region || n == max))
			return -1;
		part = (uint32_t)MIN(region->end - addr, (uintptr_t)len);
		sge[n++] = (struct ibv_sge){addr, part, region->lkey};
		addr += part;
		len -= part;
	}
	return n;
}

/* gather_frame() - record header and frame */
static int gather_frame(struct txq *txq, struct conn *conn, struct rte_mbuf *mbuf,
	uint8_t *hdr, struct ibv_sge *sge, const struct frame_record *record)
{
	uintptr_t start = rte_pktmbuf_mtod(mbuf, uintptr_t);
	int n = 0;

	if (sole_owner(mbuf)) {
		start -= FRAME_HDR_SIZE;
		hdr = (uint8_t *)start;
		n = gather(txq, sge, n, start, FRAME_HDR_SIZE + mbuf->data_len);
	} else {
		sge[n++] = (struct ibv_sge){
			(uintptr_t)hdr, FRAME_HDR_SIZE, conn->hdrs_mr->lkey};
		n = gather(txq, sge, n, start, mbuf->data_len);
	}
	if (n > 0)
		frame_record_encode(hdr, record);
	while (n > 0 && (mbuf = mbuf->next) != NULL)
		n = gather(
			txq, sge, n, rte_pktmbuf_mtod(mbuf, uintptr_t), mbuf->data_len);
	return n;
}

/* send_direct() - consumes one reference to @mbuf */
static void send_direct(struct txq *txq, struct conn *conn, struct rte_mbuf *mbuf,
	const struct frame_record *record)
{
	struct conn_slot *slot = stage(txq, conn);
	uint32_t i;
	int n;

	if (unlikely(!slot)) {
		txq->counters.tx_drop_ring_full++;
		rte_pktmbuf_free(mbuf);
		return;
	}
	i = conn->n_staged - 1;
	n = gather_frame(
		txq, conn, mbuf, conn->hdrs[slot - conn->slots], conn->sge[i], record);
	if (unlikely(n < 0)) {
		/* Foreign memory, or in too many pieces: the slot goes back. */
		conn->head--;
		if (--conn->n_staged == 0)
			txq->n_touched--; /* it was the last to be touched */
		send_copy(txq, conn, mbuf, record);
		return;
	}
	conn->wr[i].num_sge = n;
	*slot = (struct conn_slot){mbuf, 1, record->len};
}

/* Where to */

static void send_to(struct txq *txq, struct conn *conn, struct rte_mbuf *mbuf,
	const struct frame_record *record)
{
	if (unlikely(atomic_load_explicit(&conn->failed, memory_order_relaxed))) {
		txq->counters.tx_drop_peer_lost++;
		rte_pktmbuf_free(mbuf);
	} else if (unlikely(FRAME_HDR_SIZE + record->len > conn->max_message)) {
		txq->counters.tx_drop_oversize++;
		rte_pktmbuf_free(mbuf);
	} else if (record->len <= TX_COPY_MAX) {
		send_copy(txq, conn, mbuf, record);
	} else {
		send_direct(txq, conn, mbuf, record);
	}
}

static void more_references(struct rte_mbuf *mbuf)
{
	for (; mbuf; mbuf = mbuf->next)
		rte_mbuf_refcnt_update(mbuf, 1);
}

static void send_to_all(
	struct txq *txq, struct rte_mbuf *mbuf, const struct frame_record *record)
{
	struct port *port = txq->port;
	uint32_t n = atomic_load_explicit(&port->n_peers, memory_order_acquire);
	struct conn *last = NULL;

	for (uint32_t i = 0; i < n; i++) {
		struct conn *conn = conn_up(port, i);

		if (!conn)
			continue;
		if (last) {
			more_references(mbuf);
			txq->counters.tx_replicas++;
			send_to(txq, last, mbuf, record);
		}
		last = conn;
	}
	if (last) {
		txq->counters.tx_flooded++;
		send_to(txq, last, mbuf, record);
	} else {
		txq->counters.tx_drop_no_peer++;
		rte_pktmbuf_free(mbuf);
	}
}

/* frame_ok() - is the frame one that may be sent? Counts why not. */
static bool frame_ok(
	struct txq *txq, const struct rte_mbuf *mbuf, struct frame_record *record)
{
	struct frame_layout layout;

	if (unlikely(mbuf->pkt_len < FRAME_LEN_MIN || mbuf->data_len < FRAME_ETH_LEN)) {
		txq->counters.tx_drop_runt++;
		return false;
	}
	if (unlikely(mbuf->pkt_len > FRAME_LEN_MAX)) {
		txq->counters.tx_drop_oversize++;
		return false;
	}
	if (unlikely(!record_of(mbuf, record) ||
		     (record->flags && frame_check_offload(record,
					       rte_pktmbuf_mtod(mbuf, const uint8_t *),
					       mbuf->data_len, &layout)))) {
		txq->counters.tx_drop_offload++;
		return false;
	}
	if (record->flags & FRAME_TSO) {
		txq->counters.tx_tso++;
	} else if (unlikely(mbuf->pkt_len > port_frame_max(txq->port))) {
		txq->counters.tx_drop_oversize++;
		return false;
	}
	return true;
}

static void send_frame(struct txq *txq, struct rte_mbuf *mbuf)
{
	struct port *port = txq->port;
	const uint8_t *dst = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	struct frame_record record;
	struct conn *conn = NULL;
	int peer;

	if (unlikely(!frame_ok(txq, mbuf, &record))) {
		rte_pktmbuf_free(mbuf);
		return;
	}
	if (unlikely(mactable_forget(&port->macs, dst + 6)))
		txq->counters.tx_mac_local++;
	if (!(dst[0] & TX_GROUP_BIT)) {
		peer = mactable_lookup(&port->macs, dst, txq->now);
		if (peer != MACTABLE_NONE)
			conn = conn_up(port, (uint32_t)peer);
	}
	if (likely(conn != NULL))
		send_to(txq, conn, mbuf, &record);
	else
		send_to_all(txq, mbuf, &record);
}

uint16_t tx_burst(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	struct txq *txq = queue;
	struct port *port = txq->port;

	rte_rcu_qsbr_thread_online(port->qsbr, PORT_QSBR_TX);
	txq->table = heap_table(&port->heap);
	txq->now = port_tick(port);
	txq->counters.tx_frames_in += n;
	for (uint16_t i = 0; i < n;) {
		uint16_t end = (uint16_t)MIN(n, i + PORT_TX_BURST);

		txq->round++;
		while (i < end)
			send_frame(txq, pkts[i++]);
		for (uint32_t j = 0; j < txq->n_touched; j++)
			post(txq, txq->touched[j]);
		txq->n_touched = 0;
	}
	rte_rcu_qsbr_thread_offline(port->qsbr, PORT_QSBR_TX);
	return n;
}
