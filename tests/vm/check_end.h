/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One end of verbs_check, window_check and datagram_check: a device with a queue pair and
 * a buffer, and a TCP connection to the other end. Uses libibverbs alone, on whatever
 * device it finds first. What fails ends the program.
 *
 * A byte over TCP is a barrier. Bytes on both sides come from one formula, pattern(), so
 * that neither has to tell the other what to expect.
 */
#ifndef TESTS_VM_CHECK_END_H
#define TESTS_VM_CHECK_END_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <infiniband/verbs.h>

#define BUF_SIZE   (1u << 19)
#define DEPTH	   32
#define CHECK_QKEY 0x11111111

#define CHECK(cond)                                                                \
	do {                                                                       \
		if (!(cond)) {                                                     \
			fprintf(stderr, "%s:%d: failed: %s\n", __func__, __LINE__, \
				#cond);                                            \
			exit(1);                                                   \
		}                                                                  \
	} while (0)

/* What each tells the other; both are x86. */
struct end {
	uint32_t qpn, psn, rkey, is_server, is_rxe;
	uint64_t addr;
	union ibv_gid gid;
};

extern struct ibv_context *ctx;
extern struct ibv_pd *pd;
extern struct ibv_cq *cq;
extern struct ibv_qp *qp;
extern struct ibv_mr *mr;
extern uint8_t *buf;
extern struct end own, peer;

/* Make everything but the connection of the queue pair. */
void open_all(enum ibv_qp_type type, int gid_index, bool is_server);
void close_all(void);
/* Bring the queue pair from RESET to RTS; RC and UC with the peer. */
void connect_end(int gid_index);
struct ibv_ah_attr route_to(union ibv_gid gid, int gid_index);

/* The server listens, the client connects to @server; then they tell each other. */
void meet(const char *server);
void swap_ends(void);
/* Wait until the other end is here as well. */
void barrier(char where);
void tell(uint32_t value);
uint32_t hear(void);

void fill(uint8_t *p, uint32_t size, uint32_t seed);
void check_filled(const uint8_t *p, uint32_t size, uint32_t seed);

/* Wait for the next completion, with @status. */
struct ibv_wc expect(enum ibv_wc_status status);
/* RC and UC: in two pieces
 * @off: where the data is on this side; the request's id
 * @remote_off: where on the other
 */
void post(enum ibv_wr_opcode opcode, uint32_t off, uint32_t remote_off, uint32_t size,
	uint32_t rkey);
/* A buffer of @size bytes at @off, which is its id as well */
void post_recv(uint32_t off, uint32_t size);

#endif
