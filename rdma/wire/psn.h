/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Arithmetic on packet sequence numbers: 24 bits, compared as serial numbers (the
 * specification's valid and duplicate regions are the two halves, 9.7.2).
 */
#ifndef RDMA_WIRE_PSN_H
#define RDMA_WIRE_PSN_H

#include <stdint.h>

#define PSN_MASK 0xffffffu

static inline uint32_t psn_add(uint32_t psn, uint32_t n)
{
	return (psn + n) & PSN_MASK;
}

/** psn_diff() - how far @a lies ahead of @b: -2^23..2^23-1 */
static inline int32_t psn_diff(uint32_t a, uint32_t b)
{
	return (int32_t)((a - b) << 8) >> 8;
}

#endif
