/* SPDX-License-Identifier: BSD-3-Clause */
#include "ivshmem/outq.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/util.h"

#define OUTQ_FIRST 64 /* messages that the first allocation holds */

/* Make room for one more at the end. */
static int reserve(struct outq *q)
{
	struct outq_msg *msgs;
	uint32_t capacity;

	if (q->head + q->n < q->capacity)
		return 0;
	/* Moving at least half of the array back costs O(1) per message. */
	if (q->head && q->head >= q->n) {
		memmove(q->msgs, q->msgs + q->head, q->n * sizeof(*q->msgs));
		q->head = 0;
		return 0;
	}
	capacity = q->capacity ? q->capacity * 2 : OUTQ_FIRST;
	msgs = reallocarray(q->msgs, capacity, sizeof(*msgs));
	if (!msgs)
		return -ENOMEM;
	q->msgs = msgs;
	q->capacity = capacity;
	return 0;
}

int outq_push(struct outq *q, enum outq_kind kind, uint16_t peer, uint16_t vector)
{
	if (reserve(q))
		return -ENOMEM;
	q->msgs[q->head + q->n++] = (struct outq_msg){
		.kind = kind,
		.peer = peer,
		.vector = vector,
	};
	return 0;
}

int outq_push_gone(struct outq *q, uint16_t peer)
{
	struct outq_msg *msgs = q->msgs + q->head;
	bool told = true;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < q->n; i++) {
		if (msgs[i].kind == OUTQ_VECTOR && msgs[i].peer == peer) {
			/* Vectors are sent in order: if the first waits, all do. */
			if (msgs[i].vector == 0)
				told = false;
			continue;
		}
		msgs[kept++] = msgs[i];
	}
	q->n = kept;
	return told ? outq_push(q, OUTQ_GONE, peer, 0) : 0;
}

const struct outq_msg *outq_peek(const struct outq *q)
{
	return q->n ? &q->msgs[q->head] : NULL;
}

void outq_pop(struct outq *q)
{
	assert(q->n);
	q->head++;
	if (--q->n == 0)
		q->head = 0;
}

void outq_free(struct outq *q)
{
	free(q->msgs);
	memset(q, 0, sizeof(*q));
}
