/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A fuzzer's bytes as what applications give to verbs: attributes with any mask, work
 * requests with any opcode, flags and pieces. Most values that they make are such that
 * something can come of them, and any other can be said as well.
 */
#ifndef TESTS_FUZZ_VERBS_INPUT_H
#define TESTS_FUZZ_VERBS_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <infiniband/verbs.h>

/* Abort with the place when it is not so. */
#define must(ok)                                                                 \
	do {                                                                     \
		if (!(ok)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #ok); \
			abort();                                                 \
		}                                                                \
	} while (0)

/* What is left of the input; zeros come behind its end. */
struct input {
	const uint8_t *at;
	size_t left;
};

static inline uint8_t in_u8(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->at++;
}

static inline uint16_t in_u16(struct input *in)
{
	uint16_t high = in_u8(in);

	return (uint16_t)(high << 8 | in_u8(in));
}

static inline uint32_t in_u32(struct input *in)
{
	uint32_t high = in_u16(in);

	return high << 16 | in_u16(in);
}

#define IN_SGE_MAX  5
#define IN_KEYS_MAX 8
#define IN_MWS_MAX  2
#define IN_MRS_MAX  4

/* What work requests may name. */
struct input_memory {
	uint8_t *buf; /* also of inline data, so at least 64 KiB */
	uint32_t size;
	uint32_t lkey[IN_KEYS_MAX];
	/* the peer's */
	uint64_t remote;
	uint32_t rkey[IN_KEYS_MAX];
	/* to be bound; or NULL */
	struct ibv_mw *mw[IN_MWS_MAX];
	struct ibv_mr *mr[IN_MRS_MAX];
};

/** input_attr() - any attributes. Return: a mask
 * @gid: that addresses lead to, mostly
 */
int input_attr(struct input *in, const uint8_t gid[16], uint32_t dest_qpn,
	struct ibv_qp_attr *attr);

/** input_step() - the attributes of one step on the way to RTS. Return: the mask */
int input_step(struct input *in, enum ibv_qp_type type, enum ibv_qp_state next,
	const uint8_t gid[16], uint32_t dest_qpn, struct ibv_qp_attr *attr);

/** input_send_wr() - a work request that names @sge, of IN_SGE_MAX; UD fields not set */
void input_send_wr(struct input *in, const struct input_memory *mem, struct ibv_sge *sge,
	struct ibv_send_wr *wr);

void input_recv_wr(struct input *in, const struct input_memory *mem, struct ibv_sge *sge,
	struct ibv_recv_wr *wr);

#endif
