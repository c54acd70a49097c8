/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CRC-32 (IEEE 802.3, zlib's crc32()), by itself and in one pass with a copy. Which of
 * the implementations does it is found when the program starts: the fastest on this CPU.
 *
 * The value between calls is at every point a finished CRC, so calls chain; the first one
 * gets 0.
 */
#ifndef RDMA_WIRE_CRC_H
#define RDMA_WIRE_CRC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** crc_add() - go on over @size bytes */
uint32_t crc_add(uint32_t crc, const void *src, size_t size);

/** crc_copy() - copy and go on over what was copied
 * The CRC is that of what @dst holds then, even if another thread writes @src meanwhile.
 * @dst:  must not overlap @src
 * @next: what will be copied next, so that it can be fetched into the caches by then;
 * only a hint, so it may point anywhere. NULL if not known
 */
uint32_t crc_copy(
	uint32_t crc, void *dst, const void *src, size_t size, const void *next);

/** struct crc_variant - one implementation */
struct crc_variant {
	const char *name;
	bool (*usable)(void); /* on this CPU */
	uint32_t (*add)(uint32_t crc, const void *src, size_t size);
	uint32_t (*copy)(
		uint32_t crc, void *dst, const void *src, size_t size, const void *next);
};

#define CRC_VARIANTS_MAX 3

/** crc_variants - in the order of what to expect; the last one is usable everywhere;
 * unused ones have no name. For tests and benchmarks.
 */
extern const struct crc_variant crc_variants[CRC_VARIANTS_MAX];

/** crc_variant() - the one that is in use */
const struct crc_variant *crc_variant(void);

#endif
