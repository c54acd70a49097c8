/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bytes of a channel in shared memory: docs/shring-protocol.md, section 2.
 *
 *   0x0000 header       0x0080 side 0's three lines      0x1000 ring 0
 *                       0x0200 side 1's three lines             ring 1
 *
 * Everything here may be changed by a hostile peer at any time. Each word is read once,
 * by an atomic load, and never is what we wrote ourselves.
 */
#ifndef IVSHMEM_SHRING_LAYOUT_H
#define IVSHMEM_SHRING_LAYOUT_H

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define SHRING_MAGIC	 0x676e7273u /* "srng" */
#define SHRING_CTRL_SIZE 4096u
#define SHRING_LINE	 128 /* lines are fetched in pairs of 64 */

/*
 *   0                   1                   2                   3
 *   0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *  +---------------------------------------------------------------+
 *  |                            magic                              |
 *  +---------------------------------------------------------------+
 *  |                            version                            |
 *  +---------------------------------------------------------------+
 *  |                 log2 of the size of ring 0, 16..22            |
 *  +---------------------------------------------------------------+
 *  |                 log2 of the size of ring 1, 16..22            |
 *  +---------------------------------------------------------------+
 */
struct shring_header {
	_Alignas(SHRING_LINE) _Atomic uint32_t magic;
	_Atomic uint32_t version;
	_Atomic uint32_t size_log2[2];
};

/* Bits of the state word: they are only ever set. */
#define SHRING_OPEN	1u /* this side is there */
#define SHRING_FINISHED 2u /* its head is final */
#define SHRING_DONE	4u /* it reads no more */
#define SHRING_RESET	8u /* it gave the connection up */

/*
 *  +---------------------------------------------------------------+
 *  |            head: bytes written so far, modulo 2^32            |  stream line
 *  +-------------------------------------------------------+-------+
 *  |                         state                         |R|D|F|O|
 *  +-------------------------------------------------------+-------+
 *  ...
 *  +---------------------------------------------------------------+
 *  |             tail: bytes read so far, modulo 2^32              |  space line
 *  +---------------------------------------------------------------+
 *  ...
 *  +---------------------------------------------------------------+
 *  |            the sleeping reader's ticket, 0: awake             |  sleep line
 *  |                                                               |
 *  +---------------------------------------------------------------+
 *  |            the sleeping writer's ticket, 0: awake             |
 *  |                                                               |
 *  +---------------------------------------------------------------+
 */
struct shring_side {
	_Alignas(SHRING_LINE) _Atomic uint32_t head;
	_Atomic uint32_t state;
	_Alignas(SHRING_LINE) _Atomic uint32_t tail;
	_Alignas(SHRING_LINE) _Atomic uint64_t ticket[2]; /* by enum shring_dir */
};

struct shring_ctrl {
	struct shring_header header;
	struct shring_side side[2];
};

static_assert(offsetof(struct shring_header, version) == 4, "layout");
static_assert(offsetof(struct shring_header, size_log2) == 8, "layout");
static_assert(offsetof(struct shring_side, state) == 4, "layout");
static_assert(offsetof(struct shring_side, tail) == 0x80, "layout");
static_assert(offsetof(struct shring_side, ticket) == 0x100, "layout");
static_assert(offsetof(struct shring_ctrl, side) == 0x80, "layout");
static_assert(sizeof(struct shring_side) == 0x180, "layout");
static_assert(sizeof(struct shring_ctrl) <= SHRING_CTRL_SIZE, "layout");
/* A lock would lie in the private memory of each side, and protect nothing. */
static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "lock-free");

#endif
