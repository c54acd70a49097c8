/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of learned addresses: which MAC address is behind which peer. Bounded and
 * without locks: 1024 sets of 4 entries, an entry is one atomic word.
 *
 * Threads: one thread at a time learns (the receive queue's). Any may look up, forget and
 * flush meanwhile.
 *
 * Flood-proof: the hash has a secret seed, and a new address takes the place of a free
 * or aged entry, else of the same peer's oldest in the set, else of the oldest one,
 * but only when that was not seen for MACTABLE_BUSY ticks. So a peer that invents
 * addresses loses its own; addresses in use by others stay.
 */
#ifndef PMD_MACTABLE_H
#define PMD_MACTABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define MACTABLE_SETS	  1024
#define MACTABLE_WAYS	  4
#define MACTABLE_SIZE	  (MACTABLE_SETS * MACTABLE_WAYS)
#define MACTABLE_NONE	  (-1)
#define MACTABLE_PEER_MAX 0xfffe

/* Times are ticks of the caller's choice, about a second. */
#define MACTABLE_BUSY 4

/** struct mactable_stats - written by the learning thread */
struct mactable_stats {
	uint64_t learned; /* new addresses */
	uint64_t moved;	  /* addresses that changed from one peer to another */
	uint64_t evicted; /* live addresses that made room for new ones */
	uint64_t refused; /* not learned, as all entries of the set were busy */
};

/** struct mactable - all zero but for seed and max_age is an empty table */
struct mactable {
	/* MAC address << 16 | peer + 1; 0 is a free entry. */
	_Atomic uint64_t entry[MACTABLE_SETS][MACTABLE_WAYS];
	_Atomic uint32_t seen[MACTABLE_SETS][MACTABLE_WAYS]; /* tick */
	uint64_t seed;
	uint32_t max_age; /* ticks */
	struct mactable_stats stats;
};

/** mactable_lookup() - returns the peer that @mac is behind, or MACTABLE_NONE */
int mactable_lookup(struct mactable *table, const uint8_t mac[6], uint32_t now);

/** mactable_learn() - @mac was seen behind @peer (at most MACTABLE_PEER_MAX)
 * Group addresses and the zero address are not learned.
 */
void mactable_learn(
	struct mactable *table, const uint8_t mac[6], uint32_t peer, uint32_t now);

/** mactable_forget() - @mac was seen on our own side; returns whether it was known */
bool mactable_forget(struct mactable *table, const uint8_t mac[6]);

/** mactable_flush_peer() - forget all that is behind @peer */
void mactable_flush_peer(struct mactable *table, uint32_t peer);

/** mactable_walk() - call @visit for each address that is not aged */
void mactable_walk(struct mactable *table, uint32_t now,
	void (*visit)(void *arg, const uint8_t mac[6], uint32_t peer, uint32_t age),
	void *arg);

#endif
