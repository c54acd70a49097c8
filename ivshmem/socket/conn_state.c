/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The states of connections, forward only, and what shows that a peer has gone.
 * See conn.h.
 */
#include "conn_priv.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "dirclient.h"
#include "ivshmem/shring_layout.h"
#include "keepalive.h"
#include "real.h"
#include "wait.h"

int conn_cancel_offer(const struct conn *c)
{
	struct dir_request request = {.op = DIR_CANCEL, .id = c->offer_id};
	struct dir_reply reply;

	return dirclient_ask(&request, NULL, 0, &reply, NULL);
}

static void state_change(struct conn *c, uint32_t from, uint32_t to)
{
	atomic_compare_exchange_strong(&c->state, &from, to);
}

/* Here, as one that connects has a round trip to judge by. */
static void ring_begins(struct conn *c, int fd)
{
	if (conn_is_far(c))
		wait_bell_is_far(fd);
	state_change(c, CONN_OFFERED, CONN_RING);
}

static void look_if_connected(struct conn *c, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	if (real.poll(&p, 1, 0) <= 0)
		return;
	if (p.revents & (POLLERR | POLLHUP)) {
		conn_cancel_offer(c);
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
		ring_begins(c, fd);
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

	keepalive_end(c, fd);
	real.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, sizeof(nodelay));
	if (cork)
		real.setsockopt(fd, IPPROTO_TCP, TCP_CORK, &cork, sizeof(cork));
}

bool conn_revert(struct conn *c, int fd)
{
	bool taken[2];
	int rc;

	conn_take_both(c, taken);
	if (conn_state(c) == CONN_OFFERED || conn_state(c) == CONN_CONNECTING) {
		rc = conn_cancel_offer(c);
		if (rc == -EBUSY || shring_is_attached(&c->ring)) {
			if (conn_state(c) == CONN_CONNECTING)
				look_if_connected(c, fd);
			ring_begins(c, fd);
		} else {
			flush_to_kernel(c, fd);
			options_restore(c, fd);
			if (atomic_load(&c->write_shut))
				real.shutdown(fd, SHUT_WR);
			state_change(c, conn_state(c), CONN_KERNEL);
		}
	}
	conn_give_both(c, taken);
	return conn_state(c) != CONN_KERNEL;
}

void conn_settle(struct conn *c, int fd)
{
	conn_advance(c, fd);
	if (conn_state(c) == CONN_OFFERED || conn_state(c) == CONN_CONNECTING)
		conn_revert(c, fd);
}

void conn_settle_all(void)
{
	for (uint32_t i = 0; i < conn_count(); i++) {
		if (atomic_load(&conn_locals[i].n_fds))
			conn_settle(&conns[i], atomic_load(&conn_locals[i].fd));
	}
}

/* A reset may be no more than the kernel's answer to bells that a process did not take
 * before it ended, which is an end like others.
 */
void conn_shadow_failed(struct conn *c, int error)
{
	if (error == EAGAIN || error == EINTR)
		return;
	if (conn_is_far(c) && error != ECONNRESET && error != EPIPE)
		atomic_store(&c->shadow_lost, 1);
	atomic_store(&c->shadow_ended, 1);
}

void conn_look_at_shadow(struct conn *c, int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};
	int saved = errno, error = 0;
	socklen_t len = sizeof(error);

	if (conn_state(c) == CONN_RING && real.poll(&p, 1, 0) > 0) {
		if (p.revents & POLLERR &&
			!real.getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) && error)
			conn_shadow_failed(c, error);
		else
			atomic_store(&c->shadow_ended, 1);
	}
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

/* The peer has gone without a word. As TCP: a reset if it had something unread, or if
 * nobody answers.
 */
static bool is_reset_by_end(struct conn *c)
{
	uint32_t tail = atomic_load(&c->ring.ctrl->side[!c->ring.side].tail);

	return atomic_load(&c->shadow_ended) && !conn_peer_finished(c) &&
	       (atomic_load(&c->shadow_lost) || tail != c->ring.end[SHRING_WRITE].pos);
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
