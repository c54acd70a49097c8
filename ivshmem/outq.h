/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a client is still to be told: messages in order, for as long as its socket takes
 * no more. Pure.
 *
 * The queue is bounded without dropping anything. Notices that a peer is there and that
 * it is gone cancel each other while they wait, so per ID at most one "gone" and one set
 * of vectors can wait, however often peers come and go. That also means that no message
 * refers to a peer that is gone: its descriptors may be closed.
 */
#ifndef IVSHMEM_OUTQ_H
#define IVSHMEM_OUTQ_H

#include <stdint.h>

enum outq_kind {
	OUTQ_VERSION,
	OUTQ_ID, /* the client's own: peer */
	OUTQ_MEMORY,
	OUTQ_VECTOR, /* one of a peer's, or of the client's own */
	OUTQ_GONE,
};

struct outq_msg {
	uint16_t kind; /* enum outq_kind */
	uint16_t peer; /* its ID */
	uint16_t vector;
};

struct outq {
	struct outq_msg *msgs; /* the first waiting one is msgs[head] */
	uint32_t head;
	uint32_t n;
	uint32_t capacity;
};

/** outq_push() - append; return 0 or -ENOMEM */
int outq_push(struct outq *q, enum outq_kind kind, uint16_t peer, uint16_t vector);

/** outq_push_gone() - a peer is gone: take out what waits about its vectors, and append
 * the notice unless the client has not been told of any of them Return: 0 or -ENOMEM
 */
int outq_push_gone(struct outq *q, uint16_t peer);

/** outq_peek() - the first message, valid until the queue is changed; NULL if empty */
const struct outq_msg *outq_peek(const struct outq *q);

/** outq_pop() - remove the first message; there must be one */
void outq_pop(struct outq *q);

/** outq_free() - forget everything; @q is empty and usable afterwards */
void outq_free(struct outq *q);

#endif
