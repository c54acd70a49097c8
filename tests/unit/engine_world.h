/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two engines, joined by the in-memory link, on a virtual clock: for tests of the engine.
 * Time moves only in world_step(): to the next timer when no packet is under way.
 *
 * Or, with world_direct, one engine that has both queue pairs. It serves them without
 * packets as far as it can (rdma/engine/direct.c); those that it sends come back to it.
 */
#ifndef TESTS_UNIT_ENGINE_WORLD_H
#define TESTS_UNIT_ENGINE_WORLD_H

#include "rdma/engine/engine.h"
#include "rdma/engine/qp.h"
#include "rdma/io/mem.h"

#define WORLD_PD      1
#define WORLD_QKEY    0x11111111
#define WORLD_FOREVER (3600ull * 1000000000)
#define WORLD_ALL_ACCESS                                                             \
	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | \
		IBV_ACCESS_REMOTE_ATOMIC)

struct world_end {
	struct link *link;
	struct engine *engine;
	struct cq *scq, *rcq;
	struct qp *qp;
	/* what the queue pair raised */
	int n_events;
	enum ibv_event_type last_event;
};

struct world {
	bool is_direct;
	uint64_t now;
	struct world_end end[2];
	struct link_burst burst;
};

struct world_config {
	struct link_mem_script script;
	enum ibv_qp_type type;
	enum ibv_mtu mtu;
	uint32_t sq_depth;
	uint32_t rq_depth;
	uint32_t cq_depth;
	uint32_t max_sge;
	uint8_t timeout;
	uint8_t retry_cnt;
	uint8_t rnr_retry;
	uint32_t psn;	   /* of both directions */
	struct rq *srq[2]; /* or NULL */
};

extern const struct world_config world_default;
/* Of worlds that are opened: one engine. Set by world_main_args() if that is asked for.
 */
extern bool world_direct;

/* To begin main() with: "direct" as the only argument sets world_direct. */
void world_main_args(int argc, char **argv);

/* Both ends with one queue pair each, connected (RTS). Asserts on failure. */
void world_open(struct world *w, const struct world_config *config);
void world_close(struct world *w);

/* Bring end @i's queue pair from RESET to RTS, or one step towards it. */
void world_step_state(struct world *w, int i, const struct world_config *config,
	enum ibv_qp_state next);
void world_connect(struct world *w, int i, const struct world_config *config);

/* Give end @i another queue pair, in RTS. Return: the one that it had */
struct qp *world_new_qp(struct world *w, int i, const struct world_config *config);

/* Move packets until both engines are silent and no timer is left, or @until_ns. */
void world_run(struct world *w, uint64_t until_ns);

uint32_t world_reg(struct world_end *end, void *addr, size_t size, int access);
int world_send(struct world_end *end, uint64_t id, void *addr, uint32_t size,
	uint32_t lkey, unsigned int flags);
int world_recv(
	struct world_end *end, uint64_t id, void *addr, uint32_t size, uint32_t lkey);
/* @size bytes from malloc(): a pattern, or zeros when @seed is 0 */
uint8_t *world_buf(size_t size, unsigned int seed);
/* One READ or WRITE of @size bytes by end 0, whose data must arrive. Return: the time
 * that it took
 */
uint64_t world_transfer(struct world *w, enum ibv_wr_opcode opcode, uint32_t size);
/* A filter for a wire that is cut. */
bool world_drop_all(void *arg, int from_end, uint8_t *data, uint32_t len);
/* The next completion; asserts that there is one. */
struct ibv_wc world_wc(struct cq *cq);

#endif
