/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A connection that uses, or is about to use, a ring. Its state lies in memory that a
 * process shares with its forked children, as they share the connection; the peer has no
 * access to it. What differs from process to process is in conn_local.
 *
 * States. CONNECTING: the kernel's connect() is not done. OFFERED: it is, and the
 * listener has not attached to the ring; what is written waits there. RING: both are
 * there. KERNEL: the ring is not used (any more), all calls go to the kernel. Only
 * forward, by conn_advance() and conn_revert().
 *
 * Locks: lock[dir] for all calls of shring.h for that direction, and for the process not
 * to unmap the ring. Both are taken to change the state, READ first. doze is for going to
 * sleep (wait.c).
 */
#ifndef IVSHMEM_SOCKET_CONN_H
#define IVSHMEM_SOCKET_CONN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fdtab.h"
#include "ivshmem/dirproto.h"
#include "ivshmem/shring.h"
#include "lock.h"

#define CONNS_MAX	       65536
#define UNATTACHED_MAX	       (64u << 10) /* bytes to write before somebody attached */
#define UNATTACHED_NS	       (500 * NSEC_PER_MSEC) /* until the offer is taken back */
#define CONN_KEEPALIVE_OPTIONS 4
#define CONN_USE_KERNEL	       (-4096) /* no errno: let the kernel do it */

enum conn_state {
	CONN_CONNECTING = 1,
	CONN_OFFERED,
	CONN_RING,
	CONN_KERNEL,
};

struct conn {
	struct shring ring;
	struct lock lock[2]; /* by enum shring_dir */
	struct lock doze;
	uint32_t asleep;  /* threads that sleep on the shadow; under doze */
	uint32_t n_again; /* times in a row that somebody waited for these to wake */
	_Atomic uint32_t watched; /* epoll sets that rely on a ticket being armed */
	_Atomic uint32_t holders; /* processes that have a descriptor; 0: slot is free */
	_Atomic uint32_t generation;
	_Atomic uint32_t state;	   /* enum conn_state */
	_Atomic uint32_t nonblock; /* O_NONBLOCK of the open file */
	_Atomic uint32_t
		shadow_ended; /* the kernel's connection ended: the peer is gone */
	_Atomic uint32_t shadow_lost; /* ... and nobody is there who ended it */
	_Atomic uint32_t dead;	      /* reset: nothing can be sent any more */
	_Atomic int32_t error;	      /* SO_ERROR: to be told once */
	_Atomic uint32_t read_shut, write_shut;
	_Atomic uint32_t n_full; /* times that a write found the ring full */
	_Atomic uint32_t n_empty;
	bool nodelay, cork; /* as the program set them */
	bool silent;	    /* don't ring: the kernel's close() will tell the peer */
	bool shadow_shut;  /* both sides have finished, and so the shadow was shut down */
	bool linger_abort; /* SO_LINGER with 0 seconds */
	int keepalive[CONN_KEEPALIVE_OPTIONS]; /* as the program set them: keepalive.c */
	uint64_t timeout_ns[2];		       /* SO_RCVTIMEO, SO_SNDTIMEO; 0: none */
	uint64_t offer_id;
	uint64_t offered_ns;
	uint64_t spin_ns[2];
	/* The ring's memory: addresses are the same in all that have it. */
	bool is_far;   /* conn_is_far() */
	uint8_t *base; /* what is mapped */
	size_t size;
	uint64_t map_offset;
};

/* Of this process. */
struct conn_local {
	_Atomic int32_t fd; /* one that the bell can be rung on */
	_Atomic uint32_t n_fds;
	/* The ring's file, and what tells the directory that somebody has it; -1: none */
	int memory_fd[2];
	_Atomic uint32_t bells_taken; /* epoll sets have to know */
};

extern struct conn *conns; /* CONNS_MAX; NULL until the first */
extern struct conn_local *conn_locals;

/** conn_new() - a slot, without descriptor or ring yet; NULL: none is free */
struct conn *conn_new(void);

/** conn_free() - give back a slot that never got a descriptor */
void conn_free(struct conn *c);

/** conn_count() - slots of a higher index were never used by this process */
uint32_t conn_count(void);

/** conn_n_held() - how many connections this process has */
uint32_t conn_n_held(void);

/** conn_arena_fd() - the file of all slots */
int conn_arena_fd(void);

/** conn_adopt_arena() - have this one; before the first connection. Return: 0 or -ENOMEM
 * @fd: consumed on success
 */
int conn_adopt_arena(int fd);

/** conn_join_arena() - the same, when others may just make the first
 * @fd: borrowed
 * Return: is it ours now, or has it been?
 */
bool conn_join_arena(int fd);

/** conn_adopt() - @fd is the connection @e, which others gave to this process
 * @memory_fd: as in conn_local; consumed, and out of the program's way already
 * Return: false if its memory can't be had
 */
bool conn_adopt(int fd, struct fdent e, const int memory_fd[2]);

/** conn_take_over() - as conn_adopt(), of one that was held (conn_hold()) on its way here
 */
bool conn_take_over(int fd, struct fdent e, const int memory_fd[2]);

/** conn_adopt_or_leave() - one that was held for us, and of which none may be left */
void conn_adopt_or_leave(uint32_t index);

/** conn_hold() - it's on the way to another process: one more has it; or one less */
void conn_hold(uint32_t index, bool one_more);

/** conn_hold_all() - one more, or less, has all connections of this process: a fork */
void conn_hold_all(uint32_t add);

/** conn_forked() - in the child: it has them now */
void conn_forked(void);

/** conn_leave_all() - the process ends; the kernel will close its descriptors */
void conn_leave_all(void);

/** conn_create_ring() - as side 0; conn_attach_ring() - as side 1, to what a peer made
 * @size:   of the ring for writing and the one for reading
 * @memory: where the directory says that it is
 * @fds:    that came with this, DIR_REPLY_FDS_MAX; consumed
 * Return: 0 or a negative errno
 */
int conn_create_ring(struct conn *c, const uint32_t size[2],
	const struct dir_memory *memory, const int *fds);
int conn_attach_ring(struct conn *c, const struct dir_memory *memory, const int *fds);

/** conn_install() - @fd is this connection from now on */
void conn_install(struct conn *c, int fd);

/** conn_dup() - @to is the same open file as @from, a connection */
void conn_dup(struct fdent e, int to);

/** conn_other_fd() - a descriptor of the connection @e besides @gone, -1: none */
int conn_other_fd(struct fdent e, int gone);

/** conn_close_fd() - @fd, which is @e, is about to be closed in this process */
void conn_close_fd(int fd, struct fdent e);

/** conn_lock() - the connection that @fd is, locked for @dir
 * Return: NULL if it's none (any more) or the kernel's; -EAGAIN in @rc means that a
 * signal handler interrupted this very thread in the middle of such a call
 */
struct conn *conn_lock(int fd, struct fdent e, enum shring_dir dir, int *rc);
void conn_unlock(struct conn *c, enum shring_dir dir);

/** conn_advance() - notice that the kernel has connected, or that the listener attached.
 * Cheap when there's nothing to notice. Call with one lock or none.
 */
void conn_advance(struct conn *c, int fd);

/** conn_cancel_offer() - tell the directory that nobody is to attach
 * Return: 0, -EBUSY if somebody has, or why there is no answer
 */
int conn_cancel_offer(const struct conn *c);

/** conn_revert() - nobody attaches: go on with the kernel alone, after sending what was
 * written so far. Call without locks.
 * Return: false if the listener has attached meanwhile
 */
bool conn_revert(struct conn *c, int fd);

/** conn_settle() - before another process gets it: is it the ring or the kernel? An offer
 * is its process' own: the directory forgets it when that ends, and another one could not
 * tell whether it was accepted before. Call without locks.
 */
void conn_settle(struct conn *c, int fd);

/** conn_settle_all() - the same, of all connections of this process */
void conn_settle_all(void);

/** conn_shadow_failed() - a call on the shadow gave errno @error */
void conn_shadow_failed(struct conn *c, int error);

/** conn_look_at_shadow() - has the peer gone? A system call; with any lock, or none */
void conn_look_at_shadow(struct conn *c, int fd);

/** conn_is_forsaken() - OFFERED, and something shows that nobody will attach: call
 * conn_revert(). A system call in that state.
 */
bool conn_is_forsaken(struct conn *c, int fd);

/** conn_peer_finished() - will the peer send no more? Locked for reading. */
bool conn_peer_finished(const struct conn *c);

/** conn_notice_end() - what the ring and the shadow say of the connection's end, as the
 * kernel would tell it: sets dead and error. Locked for reading.
 */
void conn_notice_end(struct conn *c, int fd);

/** conn_error_of() - what a call that got @rc from the ring returns, and what that
 * changes
 */
int conn_error_of(struct conn *c, int rc);

static inline uint32_t conn_state(const struct conn *c)
{
	return atomic_load_explicit(&c->state, memory_order_acquire);
}

/** conn_is_far() - is one of the two ends in a guest, and the other one not there? */
static inline bool conn_is_far(const struct conn *c)
{
	return c->is_far;
}

/** conn_is_ordinary() - has a ring, and no end in sight; without locks */
static inline bool conn_is_ordinary(const struct conn *c)
{
	return conn_state(c) == CONN_RING &&
	       !(c->shadow_ended | c->dead | c->read_shut | c->write_shut) && !c->error;
}

static inline uint32_t conn_index(const struct conn *c)
{
	return (uint32_t)(c - conns);
}

#endif
