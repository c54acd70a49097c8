/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CRC-32 by carry-less multiplication, with 128-bit registers (PCLMULQDQ) or 512-bit ones
 * (VPCLMULQDQ and AVX-512).
 *
 * After Gopal et al., "Fast CRC computation for generic polynomials using PCLMULQDQ
 * instruction" (Intel, 2009): 16 bytes stand for a polynomial, and moving them D bytes
 * ahead multiplies it by x^(8 D), which modulo P is a multiplication of either half by a
 * constant of 33 bits. So a register's content is "folded" onto what lies D bytes further
 * on, until 16 bytes are left whose CRC is that of the whole. With 16 bytes at a time and
 * D of 64, four registers work side by side; with four times 64 bytes D is 256.
 *
 * Each function is made twice from one inline body: @dst is NULL, or gets a copy of what
 * the CRC was taken of, stored from the same registers.
 */
#ifdef __x86_64__

#include "crc_priv.h"

#include <immintrin.h>
#include <string.h>

#define TARGET_SSE __attribute__((target("sse4.1,pclmul")))
#define TARGET_AVX512 \
	__attribute__((target("avx512f,avx512vl,avx512dq,vpclmulqdq,pclmul")))
#define INLINE static inline __attribute__((always_inline))

/* For a distance of D bytes: x^(8 D + 32) and x^(8 D - 32) modulo P, bit-reversed and
 * shifted by one, for the lower and the upper half.
 */
#define FOLD_16_LO  0x1751997d0
#define FOLD_16_HI  0x0ccaa009e
#define FOLD_32_LO  0x0f1da05aa
#define FOLD_32_HI  0x15a546366
#define FOLD_48_LO  0x03db1ecdc
#define FOLD_48_HI  0x174359406
#define FOLD_64_LO  0x154442bd4
#define FOLD_64_HI  0x1c6e41596
#define FOLD_256_LO 0x11542778a
#define FOLD_256_HI 0x1322d1430
/* x^64 modulo P, P itself, and x^64 / P, for the last bytes. */
#define FOLD_4	   0x163cd6124
#define BARRETT_P  0x1db710641
#define BARRETT_MU 0x1f7011641

/* Where the body stands. */
struct cursor {
	const uint8_t *src;
	uint8_t *dst; /* or NULL */
	size_t left;
	intptr_t ahead; /* from src to what will be copied next; used with dst */
};

static inline struct cursor copy_cursor(
	void *dst, const void *src, size_t size, const void *next)
{
	return (struct cursor){.src = src,
		.dst = dst,
		.left = size,
		.ahead = next ? (intptr_t)((uintptr_t)next - (uintptr_t)src) : 0};
}

/* The computation keeps the processor from looking far enough ahead by itself: without
 * this, packets that are scattered in memory and in no cache take 1.3 times as long as
 * memcpy().
 */
INLINE void fetch_ahead(const struct cursor *c)
{
	if (c->dst)
		__builtin_prefetch(
			(const void *)((uintptr_t)c->src + (uintptr_t)c->ahead));
}

/* ---- 128 bits ---- */

TARGET_SSE INLINE __m128i next_128(struct cursor *c)
{
	__m128i v = _mm_loadu_si128((const __m128i *)c->src);

	if (c->dst) {
		_mm_storeu_si128((__m128i *)c->dst, v);
		c->dst += 16;
	}
	c->src += 16;
	c->left -= 16;
	return v;
}

TARGET_SSE INLINE __m128i fold_128(__m128i v, __m128i by, __m128i onto)
{
	__m128i lo = _mm_clmulepi64_si128(v, by, 0x00);
	__m128i hi = _mm_clmulepi64_si128(v, by, 0x11);

	return _mm_xor_si128(_mm_xor_si128(lo, hi), onto);
}

TARGET_SSE INLINE __m128i start_128(uint32_t state, struct cursor *c)
{
	return _mm_xor_si128(next_128(c), _mm_cvtsi32_si128((int)state));
}

/* The CRC of the 16 bytes that @v stands for: folded to 8 and to 4 bytes with 4 more,
 * whose remainder is then found by Barrett's reduction.
 */
TARGET_SSE INLINE uint32_t reduce_128(__m128i v)
{
	const __m128i by_8 = _mm_set_epi64x(FOLD_16_HI, FOLD_16_LO);
	const __m128i by_4 = _mm_set_epi64x(0, FOLD_4);
	const __m128i barrett = _mm_set_epi64x(BARRETT_MU, BARRETT_P);
	const __m128i low_32 = _mm_set_epi32(0, 0, 0, -1);
	__m128i t;

	v = _mm_xor_si128(_mm_srli_si128(v, 8), _mm_clmulepi64_si128(v, by_8, 0x10));
	t = _mm_clmulepi64_si128(_mm_and_si128(v, low_32), by_4, 0x00);
	v = _mm_xor_si128(_mm_srli_si128(v, 4), t);
	t = _mm_clmulepi64_si128(_mm_and_si128(v, low_32), barrett, 0x10);
	t = _mm_clmulepi64_si128(_mm_and_si128(t, low_32), barrett, 0x00);
	return (uint32_t)_mm_extract_epi32(_mm_xor_si128(v, t), 1);
}

/* Less than 16 bytes, by table. They are read once: the CRC is of the copy. */
TARGET_SSE INLINE uint32_t small(uint32_t state, struct cursor *c)
{
	uint8_t bytes[16];

	memcpy(bytes, c->src, c->left);
	if (c->dst)
		memcpy(c->dst, bytes, c->left);
	return crc_table_raw(state, bytes, c->left);
}

/* What @v stands for and what is left. */
TARGET_SSE INLINE uint32_t finish_128(__m128i v, struct cursor *c)
{
	const __m128i by_16 = _mm_set_epi64x(FOLD_16_HI, FOLD_16_LO);

	while (c->left >= 16)
		v = fold_128(v, by_16, next_128(c));
	return c->left ? small(reduce_128(v), c) : reduce_128(v);
}

TARGET_SSE INLINE uint32_t body_128(uint32_t state, struct cursor c)
{
	const __m128i by_64 = _mm_set_epi64x(FOLD_64_HI, FOLD_64_LO);
	const __m128i by_16 = _mm_set_epi64x(FOLD_16_HI, FOLD_16_LO);
	__m128i v0, v1, v2, v3;

	if (c.left < 16)
		return small(state, &c);
	v0 = start_128(state, &c);
	if (c.left < 48)
		return finish_128(v0, &c);
	v1 = next_128(&c);
	v2 = next_128(&c);
	v3 = next_128(&c);
	while (c.left >= 64) {
		fetch_ahead(&c);
		v0 = fold_128(v0, by_64, next_128(&c));
		v1 = fold_128(v1, by_64, next_128(&c));
		v2 = fold_128(v2, by_64, next_128(&c));
		v3 = fold_128(v3, by_64, next_128(&c));
	}
	v1 = fold_128(v0, by_16, v1);
	v2 = fold_128(v1, by_16, v2);
	v3 = fold_128(v2, by_16, v3);
	return finish_128(v3, &c);
}

bool crc_has_pclmul(void)
{
	return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}

TARGET_SSE uint32_t crc_pclmul_add(uint32_t crc, const void *src, size_t size)
{
	return ~body_128(~crc, (struct cursor){.src = src, .left = size});
}

TARGET_SSE uint32_t crc_pclmul_copy(
	uint32_t crc, void *dst, const void *src, size_t size, const void *next)
{
	return ~body_128(~crc, copy_cursor(dst, src, size, next));
}

/* ---- 512 bits ---- */

TARGET_AVX512 INLINE __m512i next_512(struct cursor *c)
{
	__m512i v = _mm512_loadu_si512(c->src);

	fetch_ahead(c);
	if (c->dst) {
		_mm512_storeu_si512(c->dst, v);
		c->dst += 64;
	}
	c->src += 64;
	c->left -= 64;
	return v;
}

TARGET_AVX512 INLINE __m512i fold_512(__m512i v, __m512i by, __m512i onto)
{
	__m512i lo = _mm512_clmulepi64_epi128(v, by, 0x00);
	__m512i hi = _mm512_clmulepi64_epi128(v, by, 0x11);

	return _mm512_ternarylogic_epi64(lo, hi, onto, 0x96); /* xor of three */
}

/* The four lanes onto the last one. */
TARGET_AVX512 INLINE __m128i lanes_join(__m512i v)
{
	const __m512i by = _mm512_set_epi64(0, 0, FOLD_16_HI, FOLD_16_LO, FOLD_32_HI,
		FOLD_32_LO, FOLD_48_HI, FOLD_48_LO);
	__m512i last = _mm512_maskz_mov_epi64(0xc0, v);
	__m512i t = fold_512(v, by, last);
	__m256i half = _mm256_xor_si256(
		_mm512_castsi512_si256(t), _mm512_extracti64x4_epi64(t, 1));

	return _mm_xor_si128(
		_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

TARGET_AVX512 INLINE __m512i main_512(__m512i v0, struct cursor *c)
{
	const __m512i by_256 =
		_mm512_broadcast_i32x4(_mm_set_epi64x(FOLD_256_HI, FOLD_256_LO));
	const __m512i by_64 =
		_mm512_broadcast_i32x4(_mm_set_epi64x(FOLD_64_HI, FOLD_64_LO));
	__m512i v1, v2, v3;

	if (c->left >= 192) {
		v1 = next_512(c);
		v2 = next_512(c);
		v3 = next_512(c);
		while (c->left >= 256) {
			v0 = fold_512(v0, by_256, next_512(c));
			v1 = fold_512(v1, by_256, next_512(c));
			v2 = fold_512(v2, by_256, next_512(c));
			v3 = fold_512(v3, by_256, next_512(c));
		}
		v1 = fold_512(v0, by_64, v1);
		v2 = fold_512(v1, by_64, v2);
		v0 = fold_512(v2, by_64, v3);
	}
	while (c->left >= 64)
		v0 = fold_512(v0, by_64, next_512(c));
	return v0;
}

TARGET_AVX512 INLINE uint32_t body_512(uint32_t state, struct cursor c)
{
	__m512i v;
	__m128i w;

	if (c.left < 16)
		return small(state, &c);
	if (c.left < 64) {
		w = start_128(state, &c);
	} else {
		v = _mm512_xor_si512(next_512(&c),
			_mm512_zextsi128_si512(_mm_cvtsi32_si128((int)state)));
		w = lanes_join(main_512(v, &c));
	}
	return finish_128(w, &c);
}

bool crc_has_vpclmul(void)
{
	return crc_has_pclmul() && __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
	       __builtin_cpu_supports("vpclmulqdq");
}

TARGET_AVX512 uint32_t crc_vpclmul_add(uint32_t crc, const void *src, size_t size)
{
	return ~body_512(~crc, (struct cursor){.src = src, .left = size});
}

TARGET_AVX512 uint32_t crc_vpclmul_copy(
	uint32_t crc, void *dst, const void *src, size_t size, const void *next)
{
	return ~body_512(~crc, copy_cursor(dst, src, size, next));
}

#endif
