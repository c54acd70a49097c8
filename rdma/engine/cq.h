/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Completion queue: a ring of ibv_wc with one producer (the engine, under its owner's
 * lock) and one consumer (whoever polls, under the provider's queue lock). The two may
 * run concurrently.
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

/** cq_notify - called by cq_push(), as the producer */
typedef void cq_notify(void *arg, enum cq_event event);

/** cq_set_notify() - whom to tell; set before the queue is used */
void cq_set_notify(struct cq *cq, cq_notify *notify, void *arg);

/** cq_arm() - producer: tell of the next completion that is pushed, or of the next that
 * is solicited or an error. To be told again, arm again. A queue that is armed for every
 * completion stays so (11.4.2.2).
 */
void cq_arm(struct cq *cq, bool solicited_only);

/** cq_push() - producer: add a completion
 * @solicited: the sender wants the receiver to be told of it
 * Return: false when the queue is full
 */
bool cq_push(struct cq *cq, const struct ibv_wc *wc, bool solicited);

/** cq_poll() - consumer: take up to @n completions. Return: how many */
int cq_poll(struct cq *cq, int n, struct ibv_wc *wc);

/** cq_is_empty() - consumer: is there nothing to take? */
bool cq_is_empty(const struct cq *cq);

/** cq_resize() - make room for at least @depth completions. Neither side may be active.
 * Return: 0, -EINVAL (no such depth, or more than it holds now), -ENOMEM
 */
int cq_resize(struct cq *cq, uint32_t depth);

/** cq_purge() - drop what a queue pair left behind. Neither side may be active. */
void cq_purge(struct cq *cq, uint32_t qpn);

#endif
