/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The choice between the implementations.
 */
#include "crc.h"

#include "crc_priv.h"
#include "lib/util.h"

#define TRIES 4 /* the first one finds nothing in the caches */

static const struct crc_variant *chosen;

static bool always(void)
{
	return true;
}

const struct crc_variant crc_variants[CRC_VARIANTS_MAX] = {
#ifdef __x86_64__
	{"vpclmul", crc_has_vpclmul, crc_vpclmul_add, crc_vpclmul_copy},
	{"pclmul", crc_has_pclmul, crc_pclmul_add, crc_pclmul_copy},
#endif
	{"words", always, crc_words_add, crc_words_copy},
};

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
 * that plain instructions are faster.
 */
__attribute__((constructor)) static void choose(void)
{
	uint64_t best = UINT64_MAX;

	crc_words_init();
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
