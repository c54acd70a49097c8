/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory ordering: all words that the two sides share are accessed with the default of
 * C11, sequentially consistent, where they take part in the sleep handshake (head, tail,
 * tickets, state); docs/shring-protocol.md, section 4, says why that is needed there.
 */
#include "shring.h"
#include "shring_layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ivshmem/doorbell.h"

#define SIZE_LOG2_MIN 16
#define SIZE_LOG2_MAX 22

/* A long write or read tells the other side of each piece, which can work on it while
 * the next is copied.
 */
#define PIECE (32u << 10)

static_assert(SHRING_SIZE_MIN == 1u << SIZE_LOG2_MIN, "limits");
static_assert(SHRING_SIZE_MAX == 1u << SIZE_LOG2_MAX, "limits");

static struct shring_side *own(const struct shring *r)
{
	return &r->ctrl->side[r->side];
}

static struct shring_side *peer(const struct shring *r)
{
	return &r->ctrl->side[!r->side];
}

/* -- bells */

void (*shring_ring_hook)(void *arg, enum shring_dir dir);

static void bell_ring(const struct shring_bell *bell, enum shring_dir dir)
{
	if (bell->ring)
		bell->ring(bell->arg, dir);
	else if (bell->arg)
		shring_ring_hook(bell->arg, dir);
	else if (bell->fd[dir] >= 0)
		doorbell_ring(bell->fd[dir]);
}

/* W2: our index has been stored. @dir is what the peer may wait for, and @end ours. */
static void bell_answer(struct shring *r, struct shring_end *end, enum shring_dir dir)
{
	uint64_t ticket = atomic_load(&peer(r)->ticket[dir]);

	if (likely(ticket == 0) || ticket == end->rung)
		return;
	end->rung = ticket;
	bell_ring(&r->bell, dir);
}

/* -- state */

/* Rare, and from several threads: so nobody is asked whether they sleep. */
static void state_add(struct shring *r, uint32_t bits)
{
	/* Pairs with the load in rx_look(): the head was stored before. */
	atomic_fetch_or(&own(r)->state, bits);
	bell_ring(&r->bell, SHRING_READ);
	bell_ring(&r->bell, SHRING_WRITE);
}

/* The first reason stays. */
static int fail(struct shring *r, int error)
{
	int none = 0;

	if (atomic_compare_exchange_strong(&r->error, &none, error) &&
		error != ECONNRESET)
		state_add(r, SHRING_RESET);
	return -atomic_load(&r->error);
}

/* An error that lets nothing be read any more; a reset comes behind the bytes. */
static bool is_final(int error)
{
	return error != 0 && error != ECONNRESET;
}

/* -- the writer's side */

static uint32_t tx_free(const struct shring_end *tx)
{
	return tx->size - (tx->pos - tx->seen);
}

static int tx_state(struct shring *r)
{
	int error = atomic_load_explicit(&r->error, memory_order_relaxed);
	uint32_t state;

	if (unlikely(error))
		return -error;
	if (unlikely(r->end[SHRING_WRITE].shut))
		return -EPIPE;
	state = atomic_load_explicit(&peer(r)->state, memory_order_acquire);
	if (unlikely(state & SHRING_RESET))
		return fail(r, ECONNRESET);
	return unlikely(state & SHRING_DONE) ? -EPIPE : 0;
}

/* See how far the reader is: it may only go forward, and not past us. */
static int tx_look(struct shring *r)
{
	struct shring_end *tx = &r->end[SHRING_WRITE];
	/* Pairs with the store in shring_consume(): those bytes have been read. */
	uint32_t tail = atomic_load(&peer(r)->tail);

	if (unlikely(tail - tx->seen > tx->pos - tx->seen))
		return fail(r, EPROTO);
	tx->seen = tail;
	return 0;
}

/* Return: bytes free, at least 1, or an error; looks only if there are less than @want */
static int64_t tx_space(struct shring *r, size_t want)
{
	struct shring_end *tx = &r->end[SHRING_WRITE];
	int rc = tx_state(r);

	if (unlikely(rc))
		return rc;
	if (tx_free(tx) < want) {
		rc = tx_look(r);
		if (unlikely(rc))
			return rc;
	}
	return tx_free(tx) ? (int64_t)tx_free(tx) : -EAGAIN;
}

/* -- the reader's side */

/* See how far the writer is. Return: bytes, 0 at the end, error */
static int64_t rx_look(struct shring *r)
{
	struct shring_end *rx = &r->end[SHRING_READ];
	/* What can end the stream is read before head, so that head is the final one.
	 * These pair with the stores in state_add() and fail().
	 */
	int error = atomic_load(&r->error);
	uint32_t state = atomic_load(&peer(r)->state);
	/* Pairs with the store in shring_commit(): those bytes have been written. */
	uint32_t head = atomic_load(&peer(r)->head);

	if (unlikely(rx->ended))
		return 0;
	/* It may only go forward, and not more than a ring ahead of us. */
	if (unlikely(head - rx->seen > rx->size - (rx->seen - rx->pos)))
		return fail(r, EPROTO);
	rx->seen = head;
	if (likely(head != rx->pos))
		return head - rx->pos;
	if (state & SHRING_FINISHED || rx->shut) {
		rx->ended = true;
		return 0;
	}
	if (error || state & SHRING_RESET)
		return fail(r, ECONNRESET);
	return -EAGAIN;
}

/* Return: bytes that can be read, 0 at the end, or an error */
static int64_t rx_bytes(struct shring *r)
{
	struct shring_end *rx = &r->end[SHRING_READ];
	int error = atomic_load_explicit(&r->error, memory_order_relaxed);

	if (unlikely(is_final(error)))
		return -error;
	return rx->seen != rx->pos ? rx->seen - rx->pos : rx_look(r);
}

/* -- moving bytes */

/* The @len bytes at @end's position, in one piece or two. */
static void pieces(const struct shring_end *end, uint32_t len, struct iovec iov[2])
{
	uint32_t at = end->pos & (end->size - 1);
	uint32_t first = MIN(len, end->size - at);

	iov[0] = (struct iovec){end->data + at, first};
	iov[1] = (struct iovec){end->data, len - first};
}

ssize_t shring_reserve(struct shring *r, struct iovec iov[2])
{
	struct shring_end *tx = &r->end[SHRING_WRITE];
	int64_t len = tx_space(r, tx->size);

	pieces(tx, len > 0 ? (uint32_t)len : 0, iov);
	return len;
}

void shring_commit(struct shring *r, size_t len)
{
	struct shring_end *tx = &r->end[SHRING_WRITE];

	assert(len <= tx_free(tx));
	if (len == 0)
		return;
	tx->pos += (uint32_t)len;
	/* W1. Pairs with the load in rx_look(). */
	atomic_store(&own(r)->head, tx->pos);
	bell_answer(r, tx, SHRING_READ);
}

static void copy_in(const struct shring_end *tx, const uint8_t *buf, size_t len)
{
	struct iovec iov[2];

	pieces(tx, (uint32_t)len, iov);
	memcpy(iov[0].iov_base, buf, iov[0].iov_len);
	if (unlikely(iov[1].iov_len))
		memcpy(iov[1].iov_base, buf + iov[0].iov_len, iov[1].iov_len);
}

static void copy_out(const struct shring_end *rx, uint8_t *buf, size_t len)
{
	struct iovec iov[2];

	pieces(rx, (uint32_t)len, iov);
	memcpy(buf, iov[0].iov_base, iov[0].iov_len);
	if (unlikely(iov[1].iov_len))
		memcpy(buf + iov[0].iov_len, iov[1].iov_base, iov[1].iov_len);
}

ssize_t shring_write(struct shring *r, const void *buf, size_t len)
{
	int64_t space = tx_space(r, MAX(len, 1u));
	uint32_t n;

	if (unlikely(space < 0))
		return len || space != -EAGAIN ? space : 0;
	n = (uint32_t)MIN(len, (size_t)space);
	if (unlikely(n == 0))
		return 0;
	for (uint32_t at = 0; at < n; at += len) {
		len = MIN(n - at, PIECE);
		copy_in(&r->end[SHRING_WRITE], (const uint8_t *)buf + at, len);
		shring_commit(r, len);
	}
	return n;
}

ssize_t shring_peek(struct shring *r, struct iovec iov[2])
{
	int64_t len = rx_bytes(r);

	/* More than what was seen before may be there by now. */
	if (len > 0)
		len = rx_look(r);
	pieces(&r->end[SHRING_READ], len > 0 ? (uint32_t)len : 0, iov);
	return len;
}

void shring_consume(struct shring *r, size_t len)
{
	struct shring_end *rx = &r->end[SHRING_READ];

	assert(len <= rx->seen - rx->pos);
	if (len == 0)
		return;
	rx->pos += (uint32_t)len;
	/* W1. Pairs with the load in tx_look(). */
	atomic_store(&own(r)->tail, rx->pos);
	/* A writer sleeps until a quarter is free. We have seen at most what it wrote,
	 * so we don't think less free than there is.
	 */
	if (rx->size - (rx->seen - rx->pos) >= rx->size / 4)
		bell_answer(r, rx, SHRING_WRITE);
}

ssize_t shring_read(struct shring *r, void *buf, size_t len)
{
	int64_t bytes = rx_bytes(r);
	uint32_t n;

	if (unlikely(bytes <= 0))
		return len || bytes != -EAGAIN ? bytes : 0;
	n = (uint32_t)MIN(len, (size_t)bytes);
	if (unlikely(n == 0))
		return 0;
	for (uint32_t at = 0; at < n; at += len) {
		len = MIN(n - at, PIECE);
		copy_out(&r->end[SHRING_READ], (uint8_t *)buf + at, len);
		shring_consume(r, len);
	}
	return n;
}

/* -- sleeping */

bool shring_is_ready(struct shring *r, enum shring_dir dir)
{
	struct shring_end *tx = &r->end[SHRING_WRITE];
	int64_t space;

	if (dir == SHRING_READ)
		return rx_bytes(r) != -EAGAIN;
	space = tx_space(r, tx->size / 4);
	return space != -EAGAIN && (space < 0 || space >= tx->size / 4);
}

void shring_arm_anyway(struct shring *r, enum shring_dir dir)
{
	/* S1 */
	atomic_store(&own(r)->ticket[dir], ++r->end[dir].ticket);
}

bool shring_arm(struct shring *r, enum shring_dir dir)
{
	shring_arm_anyway(r, dir);
	/* S2 */
	if (!shring_is_ready(r, dir))
		return true;
	shring_disarm(r, dir);
	return false;
}

void shring_disarm(struct shring *r, enum shring_dir dir)
{
	atomic_store_explicit(&own(r)->ticket[dir], 0, memory_order_relaxed);
}

/* -- ends */

void shring_shutdown(struct shring *r, enum shring_dir dir)
{
	r->end[dir].shut = true;
	state_add(r, dir == SHRING_WRITE ? SHRING_FINISHED : SHRING_DONE);
}

void shring_abort(struct shring *r)
{
	fail(r, ECONNABORTED);
}

void shring_peer_gone(struct shring *r)
{
	fail(r, ECONNRESET);
}

/* -- begin */

int shring_version_pick(uint32_t min, uint32_t max)
{
	uint32_t version = MIN(max, SHRING_VERSION_MAX);

	if (min > max || version < min || version < SHRING_VERSION_MIN)
		return -EPROTONOSUPPORT;
	return (int)version;
}

static bool size_is_valid(uint32_t size)
{
	return size >= SHRING_SIZE_MIN && size <= SHRING_SIZE_MAX &&
	       (size & (size - 1)) == 0;
}

size_t shring_area_size(uint32_t write_size, uint32_t read_size)
{
	if (!size_is_valid(write_size) || !size_is_valid(read_size))
		return 0;
	return SHRING_CTRL_SIZE + (size_t)write_size + read_size;
}

static void shring_init(struct shring *r, void *base, uint32_t side,
	const uint32_t size[2], const struct shring_bell *bell)
{
	uint8_t *data = (uint8_t *)base + SHRING_CTRL_SIZE;

	memset(r, 0, sizeof(*r));
	r->ctrl = base;
	r->side = side;
	r->bell = *bell;
	/* Ring 0 is what side 0 writes. */
	r->end[side == 0 ? SHRING_WRITE : SHRING_READ].data = data;
	r->end[side == 0 ? SHRING_WRITE : SHRING_READ].size = size[0];
	r->end[side == 0 ? SHRING_READ : SHRING_WRITE].data = data + size[0];
	r->end[side == 0 ? SHRING_READ : SHRING_WRITE].size = size[1];
}

int shring_create(struct shring *r, void *base, size_t size, uint32_t write_size,
	uint32_t read_size, const struct shring_bell *bell)
{
	const uint32_t sizes[2] = {write_size, read_size};
	size_t need = shring_area_size(write_size, read_size);
	struct shring_header *header = base;

	if (need == 0 || need > size || (uintptr_t)base % SHRING_CTRL_SIZE)
		return -EINVAL;
	shring_init(r, base, 0, sizes, bell);
	memset(base, 0, SHRING_CTRL_SIZE);
	header->version = SHRING_VERSION_MAX;
	for (int i = 0; i < 2; i++)
		header->size_log2[i] = (uint32_t)__builtin_ctz(sizes[i]);
	atomic_store(&own(r)->state, SHRING_OPEN);
	/* Pairs with the load in header_read(). */
	atomic_store_explicit(&header->magic, SHRING_MAGIC, memory_order_release);
	return 0;
}

/* Judge the header, each word read once. */
static int header_read(struct shring_header *header, size_t area, uint32_t size[2])
{
	uint32_t version, log2;

	/* Pairs with the store in shring_create(). */
	if (atomic_load_explicit(&header->magic, memory_order_acquire) != SHRING_MAGIC)
		return -EPROTO;
	version = atomic_load_explicit(&header->version, memory_order_relaxed);
	if (version < SHRING_VERSION_MIN || version > SHRING_VERSION_MAX)
		return -EPROTONOSUPPORT;
	for (int i = 0; i < 2; i++) {
		log2 = atomic_load_explicit(&header->size_log2[i], memory_order_relaxed);
		if (log2 < SIZE_LOG2_MIN || log2 > SIZE_LOG2_MAX)
			return -EPROTO;
		size[i] = 1u << log2;
	}
	return shring_area_size(size[0], size[1]) > area ? -EPROTO : 0;
}

int shring_attach(
	struct shring *r, void *base, size_t size, const struct shring_bell *bell)
{
	uint32_t sizes[2] = {SHRING_SIZE_MIN, SHRING_SIZE_MIN};
	int rc;

	if (size < SHRING_CTRL_SIZE || (uintptr_t)base % SHRING_CTRL_SIZE)
		return -EINVAL;
	rc = header_read(base, size, sizes);
	if (rc == 0 || rc == -EPROTONOSUPPORT)
		shring_init(r, base, 1, sizes, bell);
	if (rc == -EPROTONOSUPPORT)
		state_add(r, SHRING_RESET);
	if (rc)
		return rc;
	if (atomic_fetch_or(&own(r)->state, SHRING_OPEN) & SHRING_OPEN)
		return -EBUSY;
	return 0;
}

bool shring_is_attached(struct shring *r)
{
	return atomic_load(&peer(r)->state) & SHRING_OPEN;
}
