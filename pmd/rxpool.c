/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See rxpool.h. The mempool does three things: it lays the buffers out in memory whose IO
 * addresses are contiguous within each, tells these addresses, and takes buffers back
 * from any thread. It is made full; taking all out of it at the start posts them.
 */
#include "pmd/rxpool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_errno.h>

#include "lib/log.h"
#include "lib/util.h"
#include "pmd/frame.h"

#define MODULE "rxpool"
#define MSG_AT                                                                        \
	(RTE_ALIGN_CEIL(sizeof(struct rxbuf), RTE_CACHE_LINE_SIZE) + FRAME_HEADROOM - \
		FRAME_HDR_SIZE)
#define RXBUF_SIZE    (MSG_AT + FRAME_MSG_MAX)
#define LEAK_AFTER_MS 1000

/* shinfo's callback: the last mbuf on the buffer was freed */
static void on_freed(void *addr, void *opaque)
{
	struct rxbuf *buf = opaque;

	rte_mempool_put(buf->pool->mempool, buf);
}

static void init_buf(struct rte_mempool *mempool, void *opaque, void *obj, unsigned index)
{
	struct rxpool *pool = opaque;
	struct rxbuf *buf = obj;

	memset(buf, 0, sizeof(*buf));
	buf->shinfo.free_cb = on_freed;
	buf->shinfo.fcb_opaque = buf;
	buf->pool = pool;
	buf->msg = (uint8_t *)obj + MSG_AT;
	buf->msg_iova = rte_mempool_virt2iova(obj) + MSG_AT;
	buf->lkey = poolmr_lkey(&pool->mrs, obj);
}

static int make_buffers(
	struct rxpool *pool, const char *name, int socket, struct ibv_pd *pd)
{
	int ret;

	pool->mempool = rte_mempool_create_empty(
		name, pool->n, RXBUF_SIZE, 0, 0, socket, RTE_MEMPOOL_F_SC_GET);
	if (!pool->mempool)
		return -rte_errno;
	if (rte_mempool_populate_default(pool->mempool) < 0)
		return -ENOMEM;
	ret = poolmr_init(&pool->mrs, pool->mempool, pd, IBV_ACCESS_LOCAL_WRITE);
	if (ret)
		return ret;
	rte_mempool_obj_iter(pool->mempool, init_buf, pool);
	return 0;
}

int rxpool_create(const char *name, uint32_t n, int socket, const struct device *dev,
	struct rxpool **poolp)
{
	struct ibv_srq_init_attr attr = {.attr = {.max_wr = n, .max_sge = 1}};
	struct rxpool *pool = calloc(1, sizeof(*pool));
	int ret = -ENOMEM;

	if (!pool)
		return -ENOMEM;
	pool->n = n;
	pool->local = calloc(n, sizeof(struct rxbuf *));
	if (!pool->local)
		goto err;
	ret = make_buffers(pool, name, socket, dev->pd);
	if (ret)
		goto err;
	pool->srq = ibv_create_srq(dev->pd, &attr);
	if (!pool->srq) {
		ret = -errno;
		goto err;
	}
	for (uint32_t i = 0; i < n / RXPOOL_BATCH; i++)
		rxpool_refill(pool);
	*poolp = pool;
	return 0;
err:
	rxpool_destroy(pool);
	return ret;
}

/* all_home() - wait for the buffers that the application has */
static bool all_home(struct rxpool *pool)
{
	for (int ms = 0; ms < LEAK_AFTER_MS; ms++) {
		uint32_t home = pool->n_posted + pool->n_local +
				rte_mempool_avail_count(pool->mempool);

		if (home >= pool->n)
			return true;
		usleep(1000);
	}
	return false;
}

void rxpool_destroy(struct rxpool *pool)
{
	bool home;

	if (!pool)
		return;
	if (pool->srq)
		ibv_destroy_srq(pool->srq);
	poolmr_destroy(&pool->mrs);
	home = !pool->srq || all_home(pool);
	free(pool->local);
	if (!home) {
		log_write(LOG_LEVEL_WARN, MODULE,
			"received frames are still in use: their buffers stay allocated");
		return;
	}
	rte_mempool_free(pool->mempool);
	free(pool);
}

/* take() - up to RXPOOL_BATCH buffers: first those whose lines are in this core's cache
 */
static uint32_t take(struct rxpool *pool, struct rxbuf **bufs)
{
	uint32_t n = MIN(pool->n_local, RXPOOL_BATCH);
	unsigned more;

	pool->n_local -= n;
	memcpy(bufs, pool->local + pool->n_local, n * sizeof(struct rxbuf *));
	if (n == RXPOOL_BATCH)
		return n;
	more = MIN(rte_mempool_avail_count(pool->mempool), RXPOOL_BATCH - n);
	if (more && rte_mempool_get_bulk(pool->mempool, (void **)bufs + n, more) == 0)
		n += more;
	return n;
}

/* post() - returns how many were posted */
static uint32_t post(struct rxpool *pool, struct rxbuf **bufs, uint32_t n)
{
	struct ibv_recv_wr wr[RXPOOL_BATCH], *bad;
	struct ibv_sge sge[RXPOOL_BATCH];

	for (uint32_t i = 0; i < n; i++) {
		sge[i] = (struct ibv_sge){
			(uintptr_t)bufs[i]->msg, FRAME_MSG_MAX, bufs[i]->lkey};
		wr[i] = (struct ibv_recv_wr){.wr_id = (uintptr_t)bufs[i],
			.next = i + 1 < n ? &wr[i + 1] : NULL,
			.sg_list = &sge[i],
			.num_sge = 1};
	}
	if (ibv_post_srq_recv(pool->srq, wr, &bad))
		return (uint32_t)(bad - wr);
	return n;
}

void rxpool_refill(struct rxpool *pool)
{
	struct rxbuf *bufs[RXPOOL_BATCH];
	uint32_t n, n_ok;

	/* Not for a few: a call per batch is what counts. */
	if (pool->n - pool->n_posted < RXPOOL_BATCH)
		return;
	n = take(pool, bufs);
	if (!n)
		return;
	n_ok = post(pool, bufs, n);
	pool->n_posted += n_ok;
	for (uint32_t i = n_ok; i < n; i++)
		rxpool_put(pool, bufs[i]);
}
