/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two ends for the tests of memory windows: end 1 has the memory; end 0 is the peer that
 * gets keys.
 */
#ifndef TESTS_UNIT_SHOWN_H
#define TESTS_UNIT_SHOWN_H

#include "engine_world.h"
#include "rdma/engine/mw.h"

#define SIZE	     8192
#define REGION_FLAGS (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND)
#define ALL_REMOTE \
	(IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC)

struct shown {
	struct world w;
	_Alignas(8) uint8_t memory[SIZE]; /* end 1's, without any remote access */
	_Alignas(8) uint8_t peer[SIZE];	  /* end 0's */
	struct ibv_mr mr;
	uint32_t peer_key;
};

struct mr_table *shown_mrs(struct shown *s);

/* @flags: end 1's rights to its own memory */
void shown_open_with(struct shown *s, const struct world_config *config, int flags);
void shown_open(struct shown *s);

/* A window that is bound to nothing. */
struct ibv_mw shown_window(struct shown *s, enum ibv_mw_type type);

struct ibv_send_wr shown_bind_wr(struct shown *s, struct ibv_mw *mw, uint64_t off,
	uint64_t length, unsigned int access);
struct ibv_send_wr shown_inv_wr(enum ibv_wr_opcode opcode, uint32_t rkey);
void shown_post(struct shown *s, int end, const struct ibv_send_wr *wr);

/* Bind by end 1's queue pair, with success. */
void shown_bind(struct shown *s, struct ibv_mw *mw, uint64_t off, uint64_t length,
	unsigned int access);

/* End 0 does something with a key. Return: how it ends */
enum ibv_wc_status shown_use(struct shown *s, enum ibv_wr_opcode opcode, uint32_t rkey,
	uint64_t va, uint32_t len);

/* End 0 sends @len bytes and gives @rkey back. */
void shown_send_inv(struct shown *s, uint32_t len, uint32_t rkey);

/* The address of what end 1 has @off bytes behind the beginning. */
uint64_t shown_at(struct shown *s, uint64_t off);

#endif
