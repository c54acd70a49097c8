/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections as the descriptors of this process: install, copy, close, lock.
 */
#include "conn_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "epoll.h"
#include "family.h"
#include "keepalive.h"
#include "real.h"
#include "wait.h"

/* -- begin, copy, end */

static void options_read(struct conn *c, int fd)
{
	struct linger linger = {0};
	struct timeval tv;
	socklen_t len;
	int on = 1, value = 0;

	len = sizeof(value);
	real.getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &len);
	c->nodelay = value;
	/* A bell must not wait for others to be acknowledged. */
	real.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	len = sizeof(linger);
	real.getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len);
	c->linger_abort = linger.l_onoff && !linger.l_linger;
	for (int i = 0; i < 2; i++) {
		len = sizeof(tv);
		if (!real.getsockopt(fd, SOL_SOCKET,
			    i == SHRING_READ ? SO_RCVTIMEO : SO_SNDTIMEO, &tv, &len))
			c->timeout_ns[i] = (uint64_t)tv.tv_sec * NSEC_PER_SEC +
					   (uint64_t)tv.tv_usec * NSEC_PER_USEC;
	}
	keepalive_begin(c, fd);
	atomic_store(&c->nonblock, (real.fcntl64(fd, F_GETFL) & O_NONBLOCK) != 0);
}

void conn_install(struct conn *c, int fd)
{
	struct conn_local *local = &conn_locals[conn_index(c)];

	options_read(c, fd);
	atomic_store(&local->fd, fd);
	atomic_store(&local->n_fds, 1);
	fdtab_set(fd, (struct fdent){.kind = FD_CONN,
			      .index = conn_index(c),
			      .generation = atomic_load(&c->generation)});
	epoll_fd_is_conn(fd);
}

void conn_dup(struct fdent e, int to)
{
	atomic_fetch_add(&conn_locals[e.index].n_fds, 1);
	fdtab_set(to, e);
}

int conn_other_fd(struct fdent e, int gone)
{
	for (int fd = 0; fd <= fdtab_top(); fd++) {
		if (fd != gone && fdtab_is(fd, e))
			return fd;
	}
	return -1;
}

/* The bell needs a number that stays. */
static void fd_replace(struct fdent e, struct conn_local *local, int gone)
{
	int fd = atomic_load(&local->fd) == gone ? conn_other_fd(e, gone) : -1;

	if (fd >= 0)
		atomic_store(&local->fd, fd);
}

/* What TCP does: unread bytes, or a linger time of 0, make it a reset. */
static void ring_close(struct conn *c)
{
	char bells[64];
	struct iovec iov[2];
	int fd = atomic_load(&conn_locals[conn_index(c)].fd);

	if (conn_state(c) == CONN_KERNEL)
		return;
	c->silent = true;
	if (c->linger_abort || shring_peek(&c->ring, iov) > 0) {
		shring_abort(&c->ring);
	} else {
		if (!atomic_load(&c->write_shut))
			shring_shutdown(&c->ring, SHRING_WRITE);
		shring_shutdown(&c->ring, SHRING_READ);
	}
	/* The kernel would make a reset of it as well. */
	if (conn_state(c) == CONN_RING) {
		while (real.recv(fd, bells, sizeof(bells), MSG_DONTWAIT) > 0)
			;
	}
}

void conn_take_both(struct conn *c, bool taken[2])
{
	taken[0] = lock_take(&c->lock[0]);
	taken[1] = lock_take(&c->lock[1]);
}

void conn_give_both(struct conn *c, const bool taken[2])
{
	for (int i = 0; i < 2; i++) {
		if (taken[i])
			lock_give(&c->lock[i]);
	}
}

void conn_close_fd(int fd, struct fdent e)
{
	struct conn *c = &conns[e.index];
	struct conn_local *local = &conn_locals[e.index];
	bool taken[2], is_last;

	if (atomic_fetch_sub(&local->n_fds, 1) > 1) {
		fdtab_set(fd, (struct fdent){.kind = FD_KERNEL});
		fd_replace(e, local, fd);
		return;
	}
	conn_advance(c, fd);
	is_last = conn_is_last_holder(c);
	if (conn_state(c) == CONN_OFFERED && is_last)
		conn_revert(c, fd);
	if (conn_state(c) == CONN_CONNECTING && is_last)
		conn_cancel_offer(c);
	conn_take_both(c, taken);
	fdtab_set(fd, (struct fdent){.kind = FD_KERNEL});
	/* If two processes do this at once none is the last, and the shadow's end tells
	 * the peer, as for one that dies.
	 */
	if (is_last)
		ring_close(c);
	conn_ring_unmap(c);
	conn_give_both(c, taken);
	conn_slot_release(c);
}

bool conn_adopt(int fd, struct fdent e, const int memory_fd[2])
{
	struct conn *c = &conns[e.index];
	struct conn_local *local = &conn_locals[e.index];

	if (atomic_load(&local->n_fds)) {
		conn_memory_close(memory_fd);
	} else {
		if (!conn_ring_map_again(c, memory_fd[0])) {
			conn_memory_close(memory_fd);
			return false;
		}
		memcpy(local->memory_fd, memory_fd, sizeof(local->memory_fd));
		atomic_store(&local->fd, fd);
		if (conn_is_far(c))
			wait_bell_is_far(fd);
		conn_slot_used(e.index);
	}
	atomic_fetch_add(&local->n_fds, 1);
	fdtab_set(fd, e);
	return true;
}

bool conn_take_over(int fd, struct fdent e, const int memory_fd[2])
{
	bool had = atomic_load(&conn_locals[e.index].n_fds);

	if (!conn_adopt(fd, e, memory_fd))
		return false;
	if (had)
		conn_hold(e.index, false);
	else
		family_take(e.index);
	return true;
}

/* -- calls */

struct conn *conn_lock(int fd, struct fdent e, enum shring_dir dir, int *rc)
{
	struct conn *c = &conns[e.index];

	*rc = CONN_USE_KERNEL;
	if (conn_state(c) == CONN_KERNEL)
		return NULL;
	if (!lock_take(&c->lock[dir])) {
		*rc = -EAGAIN;
		return NULL;
	}
	if (likely(fdtab_is(fd, e) && conn_state(c) != CONN_KERNEL))
		return c;
	lock_give(&c->lock[dir]);
	return NULL;
}

void conn_unlock(struct conn *c, enum shring_dir dir)
{
	lock_give(&c->lock[dir]);
}
