/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A queue pair of the engine and the model of the responder, side by side: both get the
 * same buffers, regions and packets, and after each packet the engine must have done what
 * the model says: answers, completions, counters, events, state, and every byte of
 * memory. The first difference is printed, with the packet, and ends the test.
 */
#ifndef TESTS_UNIT_RESPONDER_JUDGE_H
#define TESTS_UNIT_RESPONDER_JUDGE_H

#include "engine_world.h"
#include "rdma/engine/mw.h"
#include "responder_model.h"

/* A pseudo-random sequence (xorshift64*), the same on every machine */
static inline uint64_t rng_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 2685821657736338717ull >> 16;
}

static inline uint32_t rng_below(uint64_t *state, uint32_t n)
{
	return (uint32_t)(rng_next(state) % n);
}

static inline bool rng_chance(uint64_t *state, uint32_t per_mille)
{
	return rng_below(state, 1000) < per_mille;
}

struct judge {
	struct world w;
	struct world_end *end; /* the device */
	struct world_config config;
	struct rq *srq; /* or NULL */
	/* of the regions that are windows: their keys, and whose they are (mw.h) */
	uint32_t window[MODEL_REGIONS];
	int region_below[MODEL_REGIONS];
	struct mw_list windows_of_own, windows_of_other;
	uint8_t *memory;
	uint32_t size;
	struct engine_stats before;
	struct model m;
	struct model_verdict v;
	struct model_origin origin; /* the peer; a test may change it */
	uint64_t n_packets;
	uint64_t n_taken; /* not dropped */
};

/* A queue pair in RTS, and @size bytes of memory that no region shows. */
void judge_open(struct judge *j, enum ibv_qp_type type, enum ibv_mtu mtu,
	bool shared_queue, uint32_t size, uint64_t seed);
void judge_close(struct judge *j);

/* Region @i, in place of the one that is there, shows memory from @at on, at @va. */
void judge_region(struct judge *j, int i, uint32_t pd, int access, uint64_t va,
	uint32_t at, uint32_t length);
void judge_drop_region(struct judge *j, int i);
/* Region @i becomes a window that shows @length bytes of region @below, from @off on.
 * @for_own: one of type 2 is for the peer of the queue pair; or of another one
 */
void judge_window(struct judge *j, int i, int type, bool for_own, int below, int access,
	uint32_t off, uint32_t length);

/* Bring the queue pair, whatever it was in, to @state; the next request has @psn. */
void judge_connect(struct judge *j, enum ibv_qp_state state, uint32_t psn);
void judge_set_access(struct judge *j, int access);

/* Return: whether the queue took it */
bool judge_post(struct judge *j, const struct model_buffer *buffer);

/* A packet comes in: bytes from BTH to the last before the ICRC. */
void judge_packet(struct judge *j, const uint8_t *bytes, uint32_t size);

/* What every good packet to the queue pair has */
struct mp judge_mp(const struct judge *j, uint8_t opcode, uint32_t psn);

#endif
