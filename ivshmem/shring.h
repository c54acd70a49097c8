/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A channel in shared memory: two byte streams, one each way, between two sides that do
 * not trust each other. Protocol and proofs: docs/shring-protocol.md. Sleeping is in
 * shring_wait.h.
 *
 * A side is a struct shring in the memory of its process; it lies where the caller wants
 * it, so it may be shared by a process and its forked children. It borrows the shared
 * memory. One thread at a time may call the functions for writing and one those for
 * reading (the two may be different), which includes asking, arming and disarming for
 * that direction; those marked "any thread" may run beside them.
 *
 * The bell: when a sleeping peer may go on, the side that made it so calls bell.ring().
 */
#ifndef IVSHMEM_SHRING_H
#define IVSHMEM_SHRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "lib/util.h"

#define SHRING_VERSION_MIN 1u
#define SHRING_VERSION_MAX 1u
#define SHRING_SIZE_MIN	   (64u << 10)
#define SHRING_SIZE_MAX	   (4u << 20)

struct shring_ctrl;

/* What somebody waits for: bytes to read, or space to write. */
enum shring_dir {
	SHRING_READ,
	SHRING_WRITE,
};

struct shring_bell {
	/* Wakes the peer's thread that waits for @dir; from any thread, must not block.
	 * NULL: shring_ring_hook() if @arg isn't NULL, else doorbell_ring() of the
	 * eventfd fd[dir], if that is not negative.
	 */
	void (*ring)(void *arg, enum shring_dir dir);
	void *arg;
	int fd[2]; /* borrowed; the two may be one if the peer waits in one thread */
};

/* What rings where a pointer to a function would not do, as programs with different
 * addresses share the side; set by the process, once.
 */
extern void (*shring_ring_hook)(void *arg, enum shring_dir dir);

/* One direction, as this side sees it. */
struct shring_end {
	_Alignas(CACHE_LINE) uint8_t *data;
	uint32_t size;
	uint32_t pos;	 /* ours: the writer's head, the reader's tail */
	uint32_t seen;	 /* the last of the other's, checked */
	bool shut;	 /* shring_shutdown() was called */
	bool ended;	 /* reader: all has been read */
	uint64_t ticket; /* the last that we took to sleep */
	uint64_t rung;	 /* the last of the peer's that we rang for */
};

struct shring {
	struct shring_ctrl *ctrl;
	uint32_t side;	   /* 0 created it, 1 attached */
	_Atomic int error; /* why the connection ended: an errno, 0 while it lives */
	struct shring_bell bell;
	struct shring_end end[2]; /* by enum shring_dir */
};

/** shring_version_pick() - the highest version that we and one who speaks @min..@max know
 * Return: the version, or -EPROTONOSUPPORT
 */
int shring_version_pick(uint32_t min, uint32_t max);

/** shring_area_size() - bytes of shared memory that a channel needs
 * Return: the bytes, or 0 if a size isn't a power of two in SHRING_SIZE_MIN..MAX
 */
size_t shring_area_size(uint32_t write_size, uint32_t read_size);

/** shring_create() - make a channel; nobody else may use the memory yet
 * @base:       borrowed, on a page boundary
 * @size:       bytes at @base; shring_area_size() of them are used
 * @write_size: bytes of the ring that we write, @read_size of the one that we read
 * @bell:       copied
 * Return: 0, -EINVAL
 */
int shring_create(struct shring *r, void *base, size_t size, uint32_t write_size,
	uint32_t read_size, const struct shring_bell *bell);

/** shring_attach() - be the other side of what a peer created
 * Return: 0, -EINVAL, or that the memory holds no channel for us: -EPROTO,
 * -EPROTONOSUPPORT (the creator has been told), -EBUSY (somebody has attached)
 */
int shring_attach(
	struct shring *r, void *base, size_t size, const struct shring_bell *bell);

/** shring_is_attached() - has the attacher come? The creator may write before. */
bool shring_is_attached(struct shring *r);

/** shring_write() - append up to @len bytes to the stream
 * Return: bytes taken (0 only if @len is 0), or
 *   -EAGAIN       the ring is full
 *   -EPIPE        shring_shutdown() was called, or the peer reads no more
 *   -ECONNRESET   the peer aborted or is dead
 *   -ECONNABORTED shring_abort() was called
 *   -EPROTO       the peer broke the protocol
 */
ssize_t shring_write(struct shring *r, const void *buf, size_t len);

/** shring_read() - take up to @len bytes from the stream
 * Return: bytes (0 if @len is 0, or at the end of the stream), or as shring_write()
 * with -EAGAIN for an empty ring; -ECONNRESET comes behind the bytes that are there
 */
ssize_t shring_read(struct shring *r, void *buf, size_t len);

/** shring_reserve() - the free part of the ring, to be filled in place
 * @iov: set to one or two pieces; unused ones have length 0
 * Return: bytes in both pieces, or an error as of shring_write()
 */
ssize_t shring_reserve(struct shring *r, struct iovec iov[2]);

/** shring_commit() - the first @len bytes of what was reserved are in the stream */
void shring_commit(struct shring *r, size_t len);

/** shring_peek() - the bytes that can be read, in place
 * They can change while one looks: copy first, then judge.
 * Return: bytes in both pieces, 0 at the end, or an error as of shring_read()
 */
ssize_t shring_peek(struct shring *r, struct iovec iov[2]);

/** shring_consume() - the first @len bytes of what was peeked at are done with */
void shring_consume(struct shring *r, size_t len);

/** shring_is_ready() - would waiting for @dir end at once?
 * Reading: bytes, end or error. Writing: a quarter of the ring is free, or error.
 */
bool shring_is_ready(struct shring *r, enum shring_dir dir);

/** shring_shutdown() - SHRING_WRITE: no more bytes will come; SHRING_READ: we read no
 * more, which makes the peer's writes fail. By the thread that has that direction.
 */
void shring_shutdown(struct shring *r, enum shring_dir dir);

/** shring_abort() - end both directions at once; any thread */
void shring_abort(struct shring *r);

/** shring_peer_gone() - the owner has learnt that the peer is dead; any thread.
 * It must then wake its own threads that wait.
 */
void shring_peer_gone(struct shring *r);

/** shring_arm() - about to sleep until the bell for @dir rings
 * Return: false if there is no need to (and nothing is armed)
 */
bool shring_arm(struct shring *r, enum shring_dir dir);

/** shring_arm_anyway() - as shring_arm(), also if waiting would end at once: for who has
 * been told of that and waits for what comes next. The caller looks again afterwards.
 */
void shring_arm_anyway(struct shring *r, enum shring_dir dir);

/** shring_disarm() - awake again: no bell is needed */
void shring_disarm(struct shring *r, enum shring_dir dir);

#endif
