/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CRC-32 by plain instructions, for processors without carry-less multiplication, or with
 * one that is slow, as in emulators.
 *
 * What is short goes by tables, eight so that eight bytes take one step ("slicing by 8";
 * Kounavis and Berry, 2005).
 *
 * What is long goes by shifts alone, which is three times as fast, or four when emulated,
 * where each load of a table's entry has to translate an address. The idea is that of
 * Russell, "Chorba: A novel CRC32 implementation" (2024): if x^300 is, modulo P, the sum
 * of few powers of x, then a word may be taken out of the message and added again in as
 * many places further on, and the message keeps its CRC. The whole message is so pushed
 * into its last few words, whose CRC goes by the tables.
 *
 * The powers are those of the smallest multiple of P with five terms, found by trying all
 * of them: 1 = x^-145 + x^-183 + x^-211 + x^-300. As the first bit of a message is the
 * lowest of its first word, x^-n is a shift to the left, and to the words behind.
 */
#include "crc_priv.h"

#include <endian.h>
#include <string.h>

#define POLYNOMIAL 0xedb88320u /* bit-reversed */

#define WORD	8u
#define PENDING 5u /* words that 300 bits reach into */
/* Where the shifts begin to be faster. */
#define WORDS_MIN (4 * PENDING * WORD)

static uint32_t table[8][256];

void crc_words_init(void)
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

/* What is to be added to the next words of the message. */
struct pending {
	uint64_t w0, w1, w2, w3, w4;
};

/* Take a word out of the message. */
static inline struct pending word_take(struct pending a, const uint8_t *p)
{
	uint64_t w;

	memcpy(&w, p, WORD);
	w = le64toh(w) ^ a.w0;
	return (struct pending){
		.w0 = a.w1,
		.w1 = a.w2 ^ w << (145 - 128) ^ w << (183 - 128),
		.w2 = a.w3 ^ w >> (192 - 145) ^ w >> (192 - 183) ^ w << (211 - 192),
		.w3 = a.w4 ^ w >> (256 - 211) ^ w << (300 - 256),
		.w4 = w >> (320 - 300),
	};
}

/* The CRC of @p with @a added to its first words; @size is at least theirs. */
static uint32_t rest(struct pending a, const uint8_t *p, size_t size)
{
	const uint64_t add[PENDING] = {a.w0, a.w1, a.w2, a.w3, a.w4};
	uint64_t word[PENDING];
	uint32_t state;

	memcpy(word, p, sizeof(word));
	for (unsigned int i = 0; i < PENDING; i++)
		word[i] ^= htole64(add[i]);
	state = crc_table_raw(0, (const uint8_t *)word, sizeof(word));
	return crc_table_raw(state, p + sizeof(word), size - sizeof(word));
}

/* @size is at least WORDS_MIN, so that something is left when the loop ends. */
static uint32_t words_raw(uint32_t state, const uint8_t *p, size_t size)
{
	struct pending a = {.w0 = state};

	/* Five at a time, so that each has its own register throughout. */
	for (; size >= 2 * PENDING * WORD; size -= PENDING * WORD) {
		a = word_take(a, p);
		a = word_take(a, p + WORD);
		a = word_take(a, p + 2 * WORD);
		a = word_take(a, p + 3 * WORD);
		a = word_take(a, p + 4 * WORD);
		p += PENDING * WORD;
	}
	return rest(a, p, size);
}

uint32_t crc_words_add(uint32_t crc, const void *src, size_t size)
{
	if (size < WORDS_MIN)
		return ~crc_table_raw(~crc, src, size);
	return ~words_raw(~crc, src, size);
}

/* Two passes: to store each word in the same pass is not faster, and takes six times as
 * long in an emulator where the two addresses share an entry of its translation cache.
 */
uint32_t crc_words_copy(
	uint32_t crc, void *dst, const void *src, size_t size, const void *next)
{
	(void)next;
	memcpy(dst, src, size);
	return crc_words_add(crc, dst, size);
}
