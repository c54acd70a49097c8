/* SPDX-License-Identifier: BSD-3-Clause */
#include "conn.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dirclient.h"
#include "epoll.h"
#include "ivshmem/shring_layout.h"
#include "real.h"

#define SIZE_VARIABLE "VRDMA_SOCKET_BUFFER"
#define SIZE_DEFAULT  (256u << 10)

struct conn *conns;
struct conn_local *conn_locals;
static int arena_fd = -1;
static _Atomic uint32_t lowest;	  /* no slot below is free, mostly */
static _Atomic uint32_t conn_top; /* no slot from here on was ever used by us */

/* -- slots */

static void *table(size_t size, int flags)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void bell_ring(void *arg, enum shring_dir dir);

static int arena_map(int fd, void *at)
{
	size_t size = CONNS_MAX * sizeof(*conns);
	void *p = mmap(at, size, PROT_READ | PROT_WRITE,
		MAP_SHARED | (at ? MAP_FIXED_NOREPLACE : 0), fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	conns = p;
	arena_fd = fd;
	return 0;
}

/* A file, so that a program that replaces this one can have it. */
static int arena_make(void)
{
	int fd = memfd_create("vrdma-conns", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, CONNS_MAX * sizeof(*conns)))
		return -ENOMEM;
	fd = fdtab_protect(fd);
	return fd < 0 ? -ENOMEM : arena_map(fd, NULL);
}

static void tables_make(void)
{
	if (conns)
		return; /* adopted */
	conn_locals = table(CONNS_MAX * sizeof(*conn_locals), MAP_PRIVATE);
	if (conn_locals && !arena_make())
		shring_ring_hook = bell_ring;
}

static void slot_clear(struct conn *c)
{
	uint32_t generation = c->generation, holders = c->holders;

	memset((void *)c, 0, sizeof(*c));
	c->generation = generation + 1;
	c->holders = holders;
	c->memory_fd = -1;
}

struct conn *conn_new(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	uint32_t none;

	pthread_once(&once, tables_make);
	if (!conns)
		return NULL;
	for (uint32_t i = atomic_load(&lowest); i < CONNS_MAX; i++) {
		struct conn *c = &conns[i];

		none = 0;
		if (!atomic_load(&c->holders) &&
			atomic_compare_exchange_strong(&c->holders, &none, 1)) {
			atomic_store(&lowest, i + 1);
			conn_top = MAX(conn_top, i + 1);
			slot_clear(c);
			return c;
		}
	}
	return NULL;
}

static void ring_unmap(struct conn *c)
{
	if (c->base)
		munmap(c->base, c->size);
	if (c->memory_fd >= 0)
		fdtab_release(c->memory_fd);
}

/* This process is done with it. A race about lowest only makes a slot wait for longer. */
static void slot_release(struct conn *c)
{
	atomic_fetch_sub(&c->holders, 1);
	if (conn_index(c) < atomic_load(&lowest))
		atomic_store(&lowest, conn_index(c));
}

void conn_free(struct conn *c)
{
	ring_unmap(c);
	slot_release(c);
}

void conn_leave_all(void)
{
	for (uint32_t i = 0; i < conn_top; i++) {
		if (!atomic_exchange(&conn_locals[i].n_fds, 0))
			continue;
		fdtab_set(atomic_load(&conn_locals[i].fd),
			(struct fdent){.kind = FD_KERNEL});
		slot_release(&conns[i]);
	}
}

void conn_hold_all(uint32_t add)
{
	for (uint32_t i = 0; i < conn_top; i++) {
		if (atomic_load(&conn_locals[i].n_fds))
			atomic_fetch_add(&conns[i].holders, add);
	}
}

/* -- rings */

/* The bell: a byte on the shadow. If it takes no more the peer has many to read. */
static void bell_ring(void *arg, enum shring_dir dir)
{
	/* 0 would be no argument */
	const struct conn *c = &conns[(uintptr_t)arg - 1];
	int fd = atomic_load(&conn_locals[conn_index(c)].fd), saved = errno;

	if (!c->silent)
		real.send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	errno = saved;
}

static uint32_t ring_size(void)
{
	const char *text = getenv(SIZE_VARIABLE);
	unsigned long size = text ? strtoul(text, NULL, 10) : 0;

	if (!size)
		return SIZE_DEFAULT;
	size = MIN(MAX(size, SHRING_SIZE_MIN), SHRING_SIZE_MAX);
	return round_up_pow2((uint32_t)size);
}

/* Keeps a copy of the descriptor, for exec. */
static int ring_map(struct conn *c, int memory, size_t size)
{
	int copy = real.fcntl64(memory, F_DUPFD_CLOEXEC, 0);
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);

	c->memory_fd = copy < 0 ? -1 : fdtab_protect(copy);
	if (p == MAP_FAILED)
		return -ENOMEM;
	c->base = p;
	c->size = size;
	return 0;
}

int conn_create_ring(struct conn *c)
{
	const struct shring_bell bell = {.arg = (void *)(uintptr_t)(conn_index(c) + 1)};
	uint32_t size = ring_size();
	size_t area = shring_area_size(size, size);
	int fd = memfd_create("vrdma-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING), rc;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)area) ||
		real.fcntl64(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		rc = -errno;
	else
		rc = ring_map(c, fd, area);
	if (!rc)
		rc = shring_create(&c->ring, c->base, area, size, size, &bell);
	if (!rc)
		return fd;
	real.close(fd);
	return rc;
}

int conn_attach_ring(struct conn *c, int memory)
{
	const struct shring_bell bell = {.arg = (void *)(uintptr_t)(conn_index(c) + 1)};
	size_t most = shring_area_size(SHRING_SIZE_MAX, SHRING_SIZE_MAX);
	int seals = real.fcntl64(memory, F_GET_SEALS), rc;
	struct stat st;

	/* It must be so that it can't be taken away from under us. */
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(memory, &st) ||
		st.st_size <= 0 || (uint64_t)st.st_size > most)
		return -EPROTO;
	rc = ring_map(c, memory, (size_t)st.st_size);
	return rc ? rc : shring_attach(&c->ring, c->base, c->size, &bell);
}

/* -- descriptors */

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

/* The bell needs a number that stays. */
static void fd_replace(struct fdent e, struct conn_local *local, int gone)
{
	if (atomic_load(&local->fd) != gone)
		return;
	for (int fd = 0; fd < (int)FDTAB_SIZE; fd++) {
		if (fd != gone && fdtab_is(fd, e)) {
			atomic_store(&local->fd, fd);
			return;
		}
	}
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

static void offer_cancel(const struct conn *c)
{
	struct dir_request request = {.op = DIR_CANCEL, .id = c->offer_id};
	struct dir_reply reply;

	dirclient_ask(&request, NULL, 0, &reply, NULL);
}

static void both_take(struct conn *c, bool taken[2])
{
	taken[0] = lock_take(&c->lock[0]);
	taken[1] = lock_take(&c->lock[1]);
}

static void both_give(struct conn *c, const bool taken[2])
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
	bool taken[2];

	if (atomic_fetch_sub(&local->n_fds, 1) > 1) {
		fdtab_set(fd, (struct fdent){.kind = FD_KERNEL});
		fd_replace(e, local, fd);
		return;
	}
	conn_advance(c, fd);
	if (conn_state(c) == CONN_OFFERED && atomic_load(&c->holders) == 1)
		conn_revert(c, fd);
	if (conn_state(c) == CONN_CONNECTING && atomic_load(&c->holders) == 1)
		offer_cancel(c);
	both_take(c, taken);
	fdtab_set(fd, (struct fdent){.kind = FD_KERNEL});
	/* If two processes do this at once none is the last, and the shadow's end tells
	 * the peer, as for one that dies.
	 */
	if (atomic_load(&c->holders) == 1)
		ring_close(c);
	ring_unmap(c);
	both_give(c, taken);
	slot_release(c);
}

/* -- exec */

uint32_t conn_count(void)
{
	return atomic_load(&conn_top);
}

int conn_arena_fd(void)
{
	return arena_fd;
}

int conn_adopt_arena(int fd, void *at)
{
	conn_locals = table(CONNS_MAX * sizeof(*conn_locals), MAP_PRIVATE);
	if (!conn_locals || arena_map(fd, at))
		return -ENOMEM;
	shring_ring_hook = bell_ring;
	fdtab_set(fd, (struct fdent){.kind = FD_OURS});
	return 0;
}

static bool ring_map_again(const struct conn *c)
{
	return mmap(c->base, c->size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED_NOREPLACE, c->memory_fd,
		       0) == (void *)c->base;
}

void conn_adopt(int fd, struct fdent e)
{
	const struct conn *c = &conns[e.index];
	struct conn_local *local = &conn_locals[e.index];

	if (!atomic_load(&local->n_fds)) {
		if (!ring_map_again(c))
			return;
		atomic_store(&local->fd, fd);
		real.fcntl64(c->memory_fd, F_SETFD, FD_CLOEXEC);
		fdtab_set(c->memory_fd, (struct fdent){.kind = FD_OURS});
		conn_top = MAX(conn_top, (uint32_t)e.index + 1);
	}
	atomic_fetch_add(&local->n_fds, 1);
	fdtab_set(fd, e);
}

void conn_adopt_or_leave(uint32_t index)
{
	if (index < CONNS_MAX && !atomic_load(&conn_locals[index].n_fds))
		slot_release(&conns[index]);
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

static void state_change(struct conn *c, uint32_t from, uint32_t to)
{
	atomic_compare_exchange_strong(&c->state, &from, to);
}

static void look_if_connected(struct conn *c, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	if (real.poll(&p, 1, 0) <= 0)
		return;
	if (p.revents & (POLLERR | POLLHUP)) {
		offer_cancel(c);
		state_change(c, CONN_CONNECTING, CONN_KERNEL);
	} else if (p.revents & POLLOUT) {
		c->offered_ns = now_ns();
		state_change(c, CONN_CONNECTING, CONN_OFFERED);
	}
}

void conn_advance(struct conn *c, int fd)
{
	if (likely(conn_state(c) == CONN_RING))
		return;
	if (conn_state(c) == CONN_CONNECTING)
		look_if_connected(c, fd);
	if (conn_state(c) == CONN_OFFERED && shring_is_attached(&c->ring))
		state_change(c, CONN_OFFERED, CONN_RING);
}

static void flush_to_kernel(struct conn *c, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	const struct shring_end *tx = &c->ring.end[SHRING_WRITE];
	uint32_t at = 0;
	ssize_t n;

	/* Nothing was read from it, and it is no more than UNATTACHED_MAX. */
	while (at < tx->pos) {
		n = real.send(
			fd, tx->data + at, tx->pos - at, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0)
			at += (uint32_t)n;
		else if (errno == EAGAIN)
			real.poll(&p, 1, -1);
		else if (errno != EINTR)
			return;
	}
}

static void options_restore(const struct conn *c, int fd)
{
	int nodelay = c->nodelay, cork = c->cork;

	real.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, sizeof(nodelay));
	if (cork)
		real.setsockopt(fd, IPPROTO_TCP, TCP_CORK, &cork, sizeof(cork));
}

bool conn_revert(struct conn *c, int fd)
{
	struct dir_request request = {.op = DIR_CANCEL, .id = c->offer_id};
	struct dir_reply reply;
	bool taken[2];
	int rc;

	both_take(c, taken);
	if (conn_state(c) == CONN_OFFERED) {
		rc = dirclient_ask(&request, NULL, 0, &reply, NULL);
		if (rc == -EBUSY || shring_is_attached(&c->ring)) {
			state_change(c, CONN_OFFERED, CONN_RING);
		} else {
			flush_to_kernel(c, fd);
			options_restore(c, fd);
			if (atomic_load(&c->write_shut))
				real.shutdown(fd, SHUT_WR);
			state_change(c, CONN_OFFERED, CONN_KERNEL);
		}
	}
	both_give(c, taken);
	return conn_state(c) != CONN_KERNEL;
}

void conn_look_at_shadow(struct conn *c, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};
	int saved = errno;

	if (conn_state(c) == CONN_RING && real.poll(&p, 1, 0) > 0)
		atomic_store(&c->shadow_ended, 1);
	errno = saved;
}

bool conn_is_forsaken(struct conn *c, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLRDHUP};
	int saved = errno;
	bool something = conn_state(c) == CONN_OFFERED && real.poll(&p, 1, 0) > 0;

	errno = saved;
	if (!something)
		return conn_state(c) == CONN_OFFERED && c->ring.end[SHRING_WRITE].pos &&
		       now_ns() - c->offered_ns > UNATTACHED_NS;
	/* Who attaches does so before it rings. */
	conn_advance(c, fd);
	return conn_state(c) == CONN_OFFERED;
}

static uint32_t peer_state(const struct conn *c)
{
	return atomic_load(&c->ring.ctrl->side[!c->ring.side].state);
}

bool conn_peer_finished(const struct conn *c)
{
	return peer_state(c) & SHRING_FINISHED;
}

/* The peer has gone without a word. As TCP: a reset if it had something unread. */
static bool is_reset_by_end(struct conn *c)
{
	uint32_t tail = atomic_load(&c->ring.ctrl->side[!c->ring.side].tail);

	return atomic_load(&c->shadow_ended) && !conn_peer_finished(c) &&
	       tail != c->ring.end[SHRING_WRITE].pos;
}

void conn_notice_end(struct conn *c, int fd)
{
	if (unlikely(peer_state(c) & SHRING_RESET || is_reset_by_end(c)))
		conn_error_of(c, -ECONNRESET);
	/* Nobody will ring any more: the shadow ends as TCP would. */
	if (unlikely(atomic_load(&c->write_shut) && !c->shadow_shut &&
		     conn_state(c) == CONN_RING && conn_peer_finished(c))) {
		c->shadow_shut = true;
		real.shutdown(fd, SHUT_WR);
	}
}

int conn_error_of(struct conn *c, int rc)
{
	if (rc == -EPROTO || rc == -ECONNABORTED)
		rc = -ECONNRESET;
	if (rc == -ECONNRESET && !atomic_exchange(&c->dead, 1))
		atomic_store(&c->error, ECONNRESET);
	return rc;
}
