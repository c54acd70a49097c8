/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Completion queue: a ring of completions. Any number of producers, one at a time (a lock
 * inside), and consumers, one at a time (cq_lock()); the two sides may run concurrently.
 *
 * An entry says itself whether it is there, and is a cache line: who waits for it reads
 * nothing else, and nothing else has to come from the producer's core.
 */
#ifndef RDMA_ENGINE_CQ_H
#define RDMA_ENGINE_CQ_H

#include <stdbool.h>
#include <stdint.h>
#include <infiniband/verbs.h>

#define CQ_DEPTH_MAX (1u << 22)

struct cq;

/** cq_create() - room for at least @depth completions, 1..CQ_DEPTH_MAX
 * Return: 0, -EINVAL, -ENOMEM
 */
int cq_create(uint32_t depth, struct cq **out);
void cq_destroy(struct cq *cq);

/** cq_depth() - how many completions fit */
uint32_t cq_depth(const struct cq *cq);

enum cq_event {
	CQ_COMPLETION, /* what cq_arm() asked for */
	CQ_OVERRUN,    /* a completion was lost; told once */
};

/** cq_notify - called by cq_push() */
typedef void cq_notify(void *arg, enum cq_event event);

/** cq_set_notify() - whom to tell; set before the queue is used */
void cq_set_notify(struct cq *cq, cq_notify *notify, void *arg);

/** cq_arm() - tell of the next completion that is pushed, or of the next that is
 * solicited or an error. To be told again, arm again. A queue that is armed for every
 * completion stays so (11.4.2.2). Under the engine's lock.
 */
void cq_arm(struct cq *cq, bool solicited_only);

enum cq_flags {
	CQ_SOLICITED = 1, /* the sender wants the receiver to be told of it */
	CQ_DIRECT = 2,	  /* its message came without packets (direct.c) */
};

/** cq_push() - producer: add a completion, and tell of it. Under the engine's lock.
 * @flags: enum cq_flags
 * Return: false when the queue is full
 */
bool cq_push(struct cq *cq, const struct ibv_wc *wc, int flags);

/** cq_hold(), cq_add(), cq_release() - the same in steps, without the engine's lock: what
 * may be refused is known before anything else is done.
 *
 * cq_hold() - producer: let nobody else add until cq_release()
 * Return: false if there is no room for @n more, or somebody is to be told of them
 */
bool cq_hold(struct cq *cq, uint32_t n);
void cq_add(struct cq *cq, const struct ibv_wc *wc, int flags);
void cq_release(struct cq *cq);

/** cq_lock() - consumer: all below is called with it */
void cq_lock(struct cq *cq);
void cq_unlock(struct cq *cq);

/** cq_poll() - consumer: take up to @n completions. Return: how many */
int cq_poll(struct cq *cq, int n, struct ibv_wc *wc);

/** cq_expects_direct() - consumer, when there was nothing to take: will the next
 * completion probably come without packets? Then to look for packets, a system call,
 * would only delay it. It is false now and then.
 */
bool cq_expects_direct(struct cq *cq);

/** cq_is_empty() - is there nothing to take? With cq_lock() or the engine's lock */
bool cq_is_empty(const struct cq *cq);

/** cq_resize() - make room for at least @depth completions. With cq_lock() and the
 * engine's lock. Return: 0, -EINVAL (no such depth, or more than it holds now), -ENOMEM
 */
int cq_resize(struct cq *cq, uint32_t depth);

/** cq_purge() - drop what a queue pair left behind. With cq_lock() and the engine's lock
 */
void cq_purge(struct cq *cq, uint32_t qpn);

#endif
