/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receive buffers: each takes one message of any size, is posted to the shared receive
 * queue, and may be handed up as it is, as the external buffer of an mbuf.
 *
 *   struct rxbuf | ... | room of FRAME_HEADROOM - FRAME_HDR_SIZE | message
 *
 * so that the frame of a message with one record has FRAME_HEADROOM bytes in front of it,
 * of which the record header is the last part.
 *
 * Threads: the receive queue's thread owns all; but a buffer that was handed up comes
 * back from whatever thread frees the mbuf, through the mempool.
 */
#ifndef PMD_RXPOOL_H
#define PMD_RXPOOL_H

#include <stdint.h>
#include <infiniband/verbs.h>

#include <rte_mbuf.h>
#include <rte_mempool.h>

#include "pmd/device.h"
#include "pmd/poolmr.h"

#define RXPOOL_BATCH 32 /* buffers posted at a time */

struct rxbuf {
	struct rte_mbuf_ext_shared_info shinfo;
	struct rxpool *pool;
	uint8_t *msg;
	rte_iova_t msg_iova;
	uint32_t lkey;
};

struct rxpool {
	struct rte_mempool *mempool; /* buffers that are back from above */
	struct ibv_srq *srq;
	struct rxbuf **local; /* buffers that never left: n_local of them */
	uint32_t n_local;
	uint32_t n; /* buffers in all */
	uint32_t n_posted;
	struct poolmr mrs;
};

/** rxpool_create() - make @n buffers and a shared receive queue, and post them
 * @name:   unique in the process
 * @socket: NUMA node
 * Return: 0 and *@poolp, or a negative errno
 */
int rxpool_create(const char *name, uint32_t n, int socket, const struct device *dev,
	struct rxpool **poolp);

/** rxpool_destroy() - free all, once no queue pair uses the queue. Buffers that the
 * application still has after a second are left to it and leak, with a message.
 */
void rxpool_destroy(struct rxpool *pool);

/** rxpool_refill() - post what has come back. Call it in every burst. */
void rxpool_refill(struct rxpool *pool);

/** rxpool_put() - give a buffer back that did not leave the receive queue's thread */
static inline void rxpool_put(struct rxpool *pool, struct rxbuf *buf)
{
	pool->local[pool->n_local++] = buf;
}

/** rxpool_low() - are so many buffers away that frames had better be copied? */
static inline int rxpool_low(const struct rxpool *pool)
{
	return pool->n_posted < pool->n / 4;
}

#endif
