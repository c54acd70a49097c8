/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The choice between the implementations, and the one that needs nothing: eight tables,
 * so that eight bytes take one step ("slicing by 8"; Kounavis and Berry, 2005).
 */
#include "crc.h"

#include <endian.h>
#include <string.h>

#include "crc_priv.h"
#include "lib/util.h"

#define POLYNOMIAL 0xedb88320u /* bit-reversed */
#define TRIES	   4	       /* the first one finds nothing in the caches */

static uint32_t table[8][256];
static const struct crc_variant *chosen;

uint32_t crc_table_raw(uint32_t state, const uint8_t *p, size_t size)
{
	for (; size >= 8; size -= 8, p += 8) {
		uint32_t lo, hi;

		memcpy(&lo, p, sizeof(lo));
		memcpy(&hi, p + 4, sizeof(hi));
		lo = le32toh(lo) ^ state;
		hi = le32toh(hi);
		state = table[7][lo & 0xff] ^ table[6][lo >> 8 & 0xff] ^
			table[5][lo >> 16 & 0xff] ^ table[4][lo >> 24] ^
			table[3][hi & 0xff] ^ table[2][hi >> 8 & 0xff] ^
			table[1][hi >> 16 & 0xff] ^ table[0][hi >> 24];
	}
	for (; size; size--)
		state = state >> 8 ^ table[0][(state ^ *p++) & 0xff];
	return state;
}

static uint32_t table_add(uint32_t crc, const void *src, size_t size)
{
	return ~crc_table_raw(~crc, src, size);
}

static uint32_t table_copy(
	uint32_t crc, void *dst, const void *src, size_t size, const void *next)
{
	memcpy(dst, src, size);
	return table_add(crc, dst, size);
}

static bool always(void)
{
	return true;
}

const struct crc_variant crc_variants[CRC_VARIANTS_MAX] = {
#ifdef __x86_64__
	{"vpclmul", crc_has_vpclmul, crc_vpclmul_add, crc_vpclmul_copy},
	{"pclmul", crc_has_pclmul, crc_pclmul_add, crc_pclmul_copy},
#endif
	{"table", always, table_add, table_copy},
};

static void table_fill(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t state = i;

		for (int bit = 0; bit < 8; bit++)
			state = state >> 1 ^ (state & 1 ? POLYNOMIAL : 0);
		table[0][i] = state;
	}
	for (int t = 1; t < 8; t++) {
		for (uint32_t i = 0; i < 256; i++)
			table[t][i] =
				table[t - 1][i] >> 8 ^ table[0][table[t - 1][i] & 0xff];
	}
}

/* What one implementation needs for a packet of 4 KiB, ns. */
static uint64_t time_of(const struct crc_variant *v)
{
	static uint8_t from[4096], to[4096];
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < TRIES; i++) {
		uint64_t start = now_ns();

		v->copy(0, to, from, sizeof(from), NULL);
		best = MIN(best, now_ns() - start);
	}
	return best;
}

/* Before main(), so that the fast path has nothing to check. Measured rather than taken
 * for granted: where the processor is emulated, a carry-less multiplication takes so long
 * that the table is faster.
 */
__attribute__((constructor)) static void choose(void)
{
	uint64_t best = UINT64_MAX;

	table_fill();
	for (const struct crc_variant *v = crc_variants;
		v < crc_variants + CRC_VARIANTS_MAX && v->name; v++) {
		uint64_t ns = v->usable() ? time_of(v) : UINT64_MAX;

		if (ns < best) {
			best = ns;
			chosen = v;
		}
	}
}

const struct crc_variant *crc_variant(void)
{
	return chosen;
}

uint32_t crc_add(uint32_t crc, const void *src, size_t size)
{
	return chosen->add(crc, src, size);
}

uint32_t crc_copy(uint32_t crc, void *dst, const void *src, size_t size, const void *next)
{
	return chosen->copy(crc, dst, src, size, next);
}
