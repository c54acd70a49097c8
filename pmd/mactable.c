/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See mactable.h. Only the learning thread puts words into free entries; others change
 * a word to 0 by compare-and-swap, so an entry that was learned anew meanwhile stays. A
 * tick and its entry are two words: a reader that sees one old and one new takes an aged
 * address for fresh or the other way round, for one frame, which does no harm.
 */
#include "pmd/mactable.h"

#include <string.h>

#define MAC_SHIFT 16
#define PEER_MASK 0xffffu
#define GROUP_BIT ((uint64_t)1 << 40) /* of the first byte */

static uint64_t mac_word(const uint8_t mac[6])
{
	uint64_t word = 0;

	for (int i = 0; i < 6; i++)
		word = word << 8 | mac[i];
	return word;
}

static uint32_t set_of(const struct mactable *table, uint64_t mac)
{
	uint64_t hash = (mac ^ table->seed) * 0x9e3779b97f4a7c15ull;

	hash ^= hash >> 32;
	hash *= 0xd6e8feb86659fd93ull;
	return (uint32_t)(hash >> 40) % MACTABLE_SETS;
}

static uint64_t entry_at(struct mactable *table, uint32_t set, int way)
{
	return atomic_load_explicit(&table->entry[set][way], memory_order_relaxed);
}

/* age_at() - 0 as well if it was seen just after the caller took the time */
static uint32_t age_at(struct mactable *table, uint32_t set, int way, uint32_t now)
{
	uint32_t age =
		now - atomic_load_explicit(&table->seen[set][way], memory_order_relaxed);

	return age > INT32_MAX ? 0 : age;
}

static int find_way(struct mactable *table, uint32_t set, uint64_t mac)
{
	for (int way = 0; way < MACTABLE_WAYS; way++)
		if (entry_at(table, set, way) >> MAC_SHIFT == mac)
			return way;
	return MACTABLE_NONE;
}

int mactable_lookup(struct mactable *table, const uint8_t mac[6], uint32_t now)
{
	uint64_t word = mac_word(mac);
	uint32_t set = set_of(table, word);

	for (int way = 0; way < MACTABLE_WAYS; way++) {
		uint64_t entry = entry_at(table, set, way);

		if (entry >> MAC_SHIFT != word || !entry)
			continue;
		if (age_at(table, set, way, now) > table->max_age)
			return MACTABLE_NONE;
		return (int)(entry & PEER_MASK) - 1;
	}
	return MACTABLE_NONE;
}

/* victim_rank() - how fit an entry is to make room for an address of @peer; the
 * highest goes, 0 stays
 */
static uint64_t victim_rank(
	const struct mactable *table, uint64_t entry, uint32_t age, uint32_t peer)
{
	if (!entry || age > table->max_age)
		return UINT64_MAX;
	if ((entry & PEER_MASK) == peer + 1)
		return ((uint64_t)1 << 32) + age;
	return age > MACTABLE_BUSY ? age : 0;
}

static void insert(
	struct mactable *table, uint32_t set, uint64_t mac, uint32_t peer, uint32_t now)
{
	uint64_t best = 0;
	int victim = MACTABLE_NONE;

	for (int way = 0; way < MACTABLE_WAYS; way++) {
		uint64_t rank = victim_rank(table, entry_at(table, set, way),
			age_at(table, set, way, now), peer);

		if (rank > best) {
			best = rank;
			victim = way;
		}
	}
	if (victim == MACTABLE_NONE) {
		table->stats.refused++;
		return;
	}
	table->stats.learned++;
	if (best != UINT64_MAX)
		table->stats.evicted++;
	atomic_store_explicit(&table->seen[set][victim], now, memory_order_relaxed);
	atomic_store_explicit(&table->entry[set][victim], mac << MAC_SHIFT | (peer + 1),
		memory_order_relaxed);
}

void mactable_learn(
	struct mactable *table, const uint8_t mac[6], uint32_t peer, uint32_t now)
{
	uint64_t word = mac_word(mac);
	uint64_t entry = word << MAC_SHIFT | (peer + 1);
	uint32_t set;
	int way;

	if ((word & GROUP_BIT) || !word)
		return;
	set = set_of(table, word);
	way = find_way(table, set, word);
	if (way == MACTABLE_NONE) {
		insert(table, set, word, peer, now);
		return;
	}
	/* Written only when they change: readers keep the lines in their caches. */
	if (age_at(table, set, way, now) != 0)
		atomic_store_explicit(&table->seen[set][way], now, memory_order_relaxed);
	if (entry_at(table, set, way) != entry) {
		table->stats.moved++;
		atomic_store_explicit(
			&table->entry[set][way], entry, memory_order_relaxed);
	}
}

bool mactable_forget(struct mactable *table, const uint8_t mac[6])
{
	uint64_t word = mac_word(mac);
	uint32_t set = set_of(table, word);
	int way = find_way(table, set, word);
	uint64_t entry;

	if (way == MACTABLE_NONE || !word)
		return false;
	entry = entry_at(table, set, way);
	return entry >> MAC_SHIFT == word &&
	       atomic_compare_exchange_strong(&table->entry[set][way], &entry, 0);
}

void mactable_flush_peer(struct mactable *table, uint32_t peer)
{
	for (uint32_t set = 0; set < MACTABLE_SETS; set++)
		for (int way = 0; way < MACTABLE_WAYS; way++) {
			uint64_t entry = entry_at(table, set, way);

			if ((entry & PEER_MASK) == peer + 1)
				atomic_compare_exchange_strong(
					&table->entry[set][way], &entry, 0);
		}
}

void mactable_walk(struct mactable *table, uint32_t now,
	void (*visit)(void *arg, const uint8_t mac[6], uint32_t peer, uint32_t age),
	void *arg)
{
	for (uint32_t set = 0; set < MACTABLE_SETS; set++)
		for (int way = 0; way < MACTABLE_WAYS; way++) {
			uint64_t entry = entry_at(table, set, way);
			uint32_t age = age_at(table, set, way, now);
			uint8_t mac[6];

			if (!entry || age > table->max_age)
				continue;
			for (int i = 0; i < 6; i++)
				mac[i] = (uint8_t)(entry >> (56 - 8 * i));
			visit(arg, mac, (uint32_t)(entry & PEER_MASK) - 1, age);
		}
}
