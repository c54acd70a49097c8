/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One client: what it is told, in the protocol's order, and how its end is noticed.
 *
 * A client never answers, so that it reads can be seen only from the kernel's count of
 * what lies unread in its socket (SIOCOUTQ). Whatever ends a client only marks it: the
 * loop in server.c takes it out, as that tells the others, which can end some of these in
 * turn.
 */
#include "ivshmem/server_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/sockios.h>

#include "ivshmem/proto.h"

/* Bytes of kernel memory, which the kernel doubles; some 10 messages. What lies unread
 * keeps its descriptors in flight, even after we have closed, and the kernel limits these
 * per user (RLIMIT_NOFILE, unix(7) ETOOMANYREFS): a client that does not read must not
 * hold many.
 */
#define SEND_BUFFER 4096

static void peer_end(struct peer *p, enum peer_end why)
{
	if (p->end != PEER_STAYS)
		return;
	p->end = why;
	p->region->n_ended++;
}

int peer_create(
	struct peer **out, struct region *r, int sock, const struct access_peer *who)
{
	uint32_t n = r->config.n_vectors;
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP};
	struct peer *p = calloc(1, sizeof(*p) + n * sizeof(p->vectors[0]));
	int size = SEND_BUFFER, rc;

	if (!p)
		return -ENOMEM;
	p->kind = SOURCE_PEER;
	p->region = r;
	p->sock = -1;
	p->half_open = true;
	p->pid = who->pid;
	p->uid = who->uid;
	p->progress_ns = now_ns();
	for (uint32_t i = 0; i < n; i++)
		p->vectors[i] = -1;
	for (uint32_t i = 0; i < n; i++) {
		p->vectors[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (p->vectors[i] < 0)
			goto fail;
	}
	event.data.ptr = p;
	if (setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) ||
		epoll_ctl(r->server->epoll, EPOLL_CTL_ADD, sock, &event))
		goto fail;
	p->sock = sock;
	*out = p;
	return 0;

fail:
	rc = -errno;
	peer_destroy(p);
	return rc;
}

void peer_destroy(struct peer *p)
{
	if (p->sock >= 0) {
		epoll_ctl(p->region->server->epoll, EPOLL_CTL_DEL, p->sock, NULL);
		close(p->sock);
	}
	for (uint32_t i = 0; i < p->region->config.n_vectors; i++) {
		if (p->vectors[i] >= 0)
			close(p->vectors[i]);
	}
	outq_free(&p->out);
	free(p);
}

static int send_one(const struct peer *p, const struct outq_msg *msg)
{
	const struct region *r = p->region;

	switch ((enum outq_kind)msg->kind) {
	case OUTQ_VERSION:
		return proto_send(p->sock, PROTO_VERSION, -1);
	case OUTQ_ID:
	case OUTQ_GONE:
		return proto_send(p->sock, msg->peer, -1);
	case OUTQ_MEMORY:
		return proto_send(p->sock, PROTO_MEMORY, r->memory_fd);
	case OUTQ_VECTOR:
		/* It is there: see outq_push_gone(). */
		return proto_send(
			p->sock, msg->peer, r->peers[msg->peer]->vectors[msg->vector]);
	}
	return -EINVAL;
}

static void want_out(struct peer *p, bool wanted)
{
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLRDHUP | (wanted ? EPOLLOUT : 0),
		.data.ptr = p,
	};

	if (p->wants_out == wanted)
		return;
	if (epoll_ctl(p->region->server->epoll, EPOLL_CTL_MOD, p->sock, &event))
		peer_end(p, PEER_ERROR);
	p->wants_out = wanted;
}

/* What a failed send means for the client. */
static void send_failed(struct peer *p, int rc)
{
	switch (-rc) {
	case EAGAIN:
		want_out(p, true);
		break;
	case ETOOMANYREFS: /* the kernel has no place now: the tick tries again */
	case ENOBUFS:
	case ENOMEM:
		want_out(p, false);
		break;
	case EPIPE:
	case ECONNRESET:
		peer_end(p, PEER_LEFT);
		break;
	default:
		peer_end(p, PEER_ERROR);
	}
}

static void flush(struct peer *p)
{
	const struct outq_msg *msg;
	int rc;

	if (p->settled) {
		p->settled = false;
		p->progress_ns = now_ns();
	}
	tick_arm(p->region->server);
	while (p->end == PEER_STAYS && (msg = outq_peek(&p->out))) {
		rc = send_one(p, msg);
		if (rc) {
			send_failed(p, rc);
			return;
		}
		/* Its own vectors end the set-up. */
		if (msg->kind == OUTQ_VECTOR && msg->peer == p->id &&
			msg->vector == p->region->config.n_vectors - 1)
			p->told = true;
		outq_pop(&p->out);
		p->region->stats.sent++;
	}
	if (p->end == PEER_STAYS)
		want_out(p, false);
}

static void queue(struct peer *p, enum outq_kind kind, uint16_t id, uint16_t vector)
{
	if (outq_push(&p->out, kind, id, vector))
		peer_end(p, PEER_ERROR);
}

static void queue_vectors(struct peer *p, const struct peer *of)
{
	for (uint32_t i = 0; i < p->region->config.n_vectors; i++)
		queue(p, OUTQ_VECTOR, of->id, (uint16_t)i);
}

void peer_setup(struct peer *p)
{
	const struct region *r = p->region;

	queue(p, OUTQ_VERSION, 0, 0);
	queue(p, OUTQ_ID, p->id, 0);
	queue(p, OUTQ_MEMORY, 0, 0);
	for (uint32_t id = 0; id < r->config.max_peers; id++) {
		if (r->peers[id] && r->peers[id] != p)
			queue_vectors(p, r->peers[id]);
	}
	queue_vectors(p, p);
	flush(p);
}

void peer_tell_joined(struct peer *p, const struct peer *other)
{
	queue_vectors(p, other);
	flush(p);
}

void peer_tell_gone(struct peer *p, uint16_t other)
{
	if (outq_push_gone(&p->out, other))
		peer_end(p, PEER_ERROR);
	flush(p);
}

void peer_ready(struct peer *p, uint32_t events)
{
	char byte;
	ssize_t n;

	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		/* Descriptors that come along are closed by the kernel. */
		n = recv(p->sock, &byte, sizeof(byte), MSG_DONTWAIT);
		if (n > 0)
			peer_end(p, PEER_GARBAGE);
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			peer_end(p, PEER_LEFT);
	}
	if (events & EPOLLOUT)
		flush(p);
}

bool peer_settle(struct peer *p, uint64_t now)
{
	int unread;

	if (ioctl(p->sock, SIOCOUTQ, &unread)) {
		peer_end(p, PEER_ERROR);
		return false;
	}
	p->settled = !unread && !outq_peek(&p->out);
	if (p->settled || unread < p->unread)
		p->progress_ns = now;
	p->unread = unread;
	if (p->half_open && p->told && !unread) {
		p->half_open = false;
		p->region->stats.n_half_open--;
	}
	return p->settled;
}

bool peer_tick(struct peer *p, uint64_t now)
{
	uint64_t limit = p->region->server->config.stall_seconds * NSEC_PER_SEC;

	if (outq_peek(&p->out))
		flush(p);
	if (peer_settle(p, now) || p->end != PEER_STAYS)
		return false;
	if (now - p->progress_ns < limit)
		return true;
	/* If it has read all, it is the kernel that takes no more from us. A new client
	 * should not wait for ever then; who has long been there can.
	 */
	if (p->unread)
		peer_end(p, PEER_STALLED);
	else if (!p->told)
		peer_end(p, PEER_ERROR);
	return true;
}
