/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A model of the responder: what one queue pair must make of one packet that comes in,
 * said a second time and in another way than rdma/engine does, from the rules of the
 * specification (IBTA volume 1, 9.7.4 and 9.7.5 for RC, 9.8 for UC and UD; annex A17).
 * It is slow and simple, has memory of its own, and no part of it is the engine's.
 *
 * Where the specification leaves a choice, the model says which one the device has made
 * (docs/rdma-device.md, docs/interop.md), or allows each.
 */
#ifndef TESTS_UNIT_RESPONDER_MODEL_H
#define TESTS_UNIT_RESPONDER_MODEL_H

#include <infiniband/verbs.h>

#include "model_packet.h"
#include "rdma/engine/engine.h" /* for the counters' names */

#define MODEL_REGIONS  16
#define MODEL_PIECES   4
#define MODEL_BUFFERS  64 /* a receive queue's, at most */
#define MODEL_ANSWERS  160
#define MODEL_RESULTS  256 /* atomics whose result is remembered */
#define MODEL_MSG_MAX  (1u << 31)
#define MODEL_GRH_SIZE 40

/* A region, or what a memory window shows of one */
struct model_region {
	uint32_t key; /* 0: none */
	int window;   /* type 1 or 2; 0: a region */
	uint32_t qpn; /* type 2: only for this queue pair's peer */
	uint32_t pd;
	int access;
	uint64_t va, length;
	uint32_t at; /* where in the memory */
};

struct model_piece {
	uint64_t va;
	uint32_t length, key;
};

struct model_buffer {
	uint64_t id;
	int n;
	struct model_piece piece[MODEL_PIECES];
};

/* The result of an atomic, for who asks again. */
struct model_atomic {
	uint32_t psn;
	uint64_t value;
	uint32_t n_fetches; /* READs and atomics up to it */
};

struct model {
	/* what it is */
	enum ibv_qp_type type;
	uint32_t qpn, peer_qpn, pd, mtu, qkey;
	bool shared_queue;
	uint32_t rnr_timer;
	uint32_t max_fetches; /* max_dest_rd_atomic */
	int access;	      /* qp_access_flags */
	enum ibv_qp_state state;
	/* its surroundings */
	struct model_region region[MODEL_REGIONS];
	uint8_t *memory;
	struct model_buffer posted[MODEL_BUFFERS];
	uint32_t n_posted;
	/* where it stands */
	uint32_t expected; /* PSN */
	uint32_t last_data_psn;
	uint32_t msn;
	bool told_of_hole; /* or of a buffer that lacks */
	char message;	   /* S or W: it has begun and not ended; or 0 */
	uint64_t got;	   /* its bytes so far */
	uint64_t to_va;
	uint32_t to_key, to_length;
	bool holds; /* a buffer */
	struct model_buffer held;
	struct model_atomic atomic[MODEL_RESULTS];
	uint32_t n_atomics, n_fetches;
};

/* Where a packet came from and to, as the IP header tells. */
struct model_origin {
	bool from_peer;
	uint8_t sgid[16], dgid[16];
	uint8_t ecn;
};

struct model_answer {
	uint8_t opcode;
	uint32_t psn;
	bool has_aeth;
	uint8_t syndrome;
	uint32_t msn;
	uint64_t original;
	uint32_t at, n_data; /* data, in the memory */
};

/* What must come of a packet. */
struct model_verdict {
	const char *drop[8]; /* in one of these counters, and no more happens; or none */
	int n_drops;
	struct model_answer answer[MODEL_ANSWERS];
	int n_answers;
	bool notifies; /* besides, the sender is told of congestion */
	uint32_t notified_qpn;
	bool may_be_silent;		     /* the answers may lack */
	struct ibv_wc wc[MODEL_BUFFERS + 2]; /* of errors: id and status */
	int n_wcs;
	struct engine_stats counts; /* by how much they grow, drops not counted */
	int n_events;
	enum ibv_event_type last_event;
	/* an error ended a receive: what the memory of its buffer holds is not said */
	bool is_spoiled;
	struct model_buffer spoiled;
};

/* Expect @psn, and know nothing of what was before; as from RESET to RTR. */
void model_connect(struct model *m, uint32_t psn);

void model_receive(struct model *m, const uint8_t *bytes, uint32_t size,
	const struct model_origin *origin, struct model_verdict *v);

/* Where @length bytes at @va lie in the memory, if @key allows it; or -1 */
int64_t model_find(const struct model *m, uint32_t key, uint32_t pd, uint64_t va,
	uint64_t length, int access);

#endif
