/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the model's files share: messages (model_message.c), and what becomes of a packet
 * on a queue pair of each service.
 */
#ifndef TESTS_UNIT_MODEL_PRIV_H
#define TESTS_UNIT_MODEL_PRIV_H

#include "responder_model.h"

/* AETH syndromes (9.7.5.2.1) */
enum {
	ACK = 0x1f, /* credits are not counted */
	RNR = 0x20,
	NAK_SEQUENCE = 0x60,
	NAK_INVALID = 0x61,
	NAK_ACCESS = 0x62,
	NAK_OPERATION = 0x63,
};

static inline uint32_t after(uint32_t psn, uint32_t n)
{
	return (psn + n) % (1u << 24);
}

/* The packet is of no use and must be in @counter, or in another one that is named. */
static inline void model_drop(struct model_verdict *v, const char *counter)
{
	v->drop[v->n_drops++] = counter;
}

/* Receive queues: the oldest posted buffer becomes the held one. */
bool model_take_buffer(struct model *m);
/* The held buffer's receive completes. */
void model_complete(struct model *m, struct model_verdict *v, enum ibv_wc_status status);
/* Put @n bytes behind those that the held buffer has got already. */
enum ibv_wc_status model_fill_buffer(
	struct model *m, struct model_verdict *v, const uint8_t *data, uint32_t n);

/* Is it the packet that comes next in a message, and as long as one there must be? */
bool model_is_in_order(const struct model *m, const struct mp *p);
bool model_wants_buffer(const struct model *m, const struct mp *p);
void model_begin_message(struct model *m, const struct mp *p);
/* Return: 0, or the NAK that the packet's data deserves */
int model_write_memory(struct model *m, const struct mp *p);
void model_end_message(struct model *m, struct model_verdict *v, const struct mp *p);

/* model_reliable.c */
void model_receive_reliable(struct model *m, struct model_verdict *v, const struct mp *p);
/* model_unreliable.c */
void model_receive_unreliable(
	struct model *m, struct model_verdict *v, const struct mp *p);
void model_receive_datagram(struct model *m, struct model_verdict *v, const struct mp *p,
	uint32_t size, const struct model_origin *origin);

#endif
