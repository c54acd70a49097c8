/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The directory's clients and their requests. Neighbour: directory_match.c.
 */
#include "ivshmem/directory_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ivshmem/memory.h"
#include "ivshmem/sockaddr.h"
#include "lib/fdmsg.h"
#include "lib/util.h"

static_assert(DIR_FDS_MAX <= FDMSG_MAX, "a request's descriptors");

#define EVENTS_PER_RUN 64

/* A request as it came. */
struct message {
	struct dir_request request;
	int n_fds;
	int fds[FDMSG_MAX];
};

/* -- entries */

static void offer_free(struct directory *d, struct dir_client *c, struct offer **link)
{
	struct offer *o = *link;

	*link = o->next;
	c->n_offers--;
	d->stats.n_offers--;
	close(o->sock);
	close(o->memory_fd);
	free(o);
}

static void published_free(
	struct directory *d, struct dir_client *c, struct published **link)
{
	struct published *p = *link;

	*link = p->next;
	c->n_published--;
	d->stats.n_listeners--;
	free(p);
}

static void client_destroy(struct directory *d, struct dir_client **link)
{
	struct dir_client *c = *link;

	while (c->published)
		published_free(d, c, &c->published);
	while (c->offers) {
		offer_free(d, c, &c->offers);
		d->stats.cancelled++;
	}
	*link = c->next;
	d->stats.n_clients--;
	close(c->sock);
	free(c);
}

/* -- answers */

static void answer(struct dir_client *c, const struct dir_reply *reply, int fd)
{
	union fdmsg control;
	struct iovec iov = {(void *)reply, sizeof(*reply)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	fdmsg_put(&msg, &control, &fd, fd >= 0);
	/* A client has one question open at most, so there is room, or it is hostile. */
	if (sendmsg(c->sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(*reply))
		c->ended = true;
}

static void answer_rc(struct dir_client *c, int rc, uint64_t id)
{
	struct dir_reply reply = {.error = rc, .id = id};

	answer(c, &reply, -1);
}

/* -- requests */

static int publish(struct dir_client *c, const struct message *m, uint64_t *id)
{
	struct directory *d = c->directory;
	struct published *p;
	int rc;

	if (c->n_published == DIRECTORY_LISTENERS_MAX)
		return -ENOSPC;
	rc = published_new(&p, d, m->fds, m->n_fds);
	if (rc)
		return rc;
	memcpy(p->ring, m->request.ring, sizeof(p->ring));
	*id = p->id = ++d->next_id;
	p->next = c->published;
	c->published = p;
	c->n_published++;
	d->stats.n_listeners++;
	d->stats.published++;
	return 0;
}

static int unpublish(struct dir_client *c, uint64_t id)
{
	for (struct published **p = &c->published; *p; p = &(*p)->next) {
		if ((*p)->id == id) {
			published_free(c->directory, c, p);
			return 0;
		}
	}
	return -ENOENT;
}

/* The port is the kernel's word; of the address the socket may know nothing yet. */
static int offer_check(const struct dir_request *r, const struct proof *proof)
{
	if (proof->local.port != r->src.port || !r->src.port)
		return -EINVAL;
	if (!r->size || r->size > DIR_MEMORY_MAX)
		return -EINVAL;
	if (!dir_addr_is_any(&proof->local) && !dir_addr_same(&proof->local, &r->src))
		return -EINVAL;
	return 0;
}

/* Return: an offer, as yet without memory, or NULL. Takes the socket. */
static struct offer *offer_new(struct dir_client *c, struct message *m)
{
	struct directory *d = c->directory;
	struct offer *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->id = ++d->next_id;
	o->src = m->request.src;
	o->dst = m->request.dst;
	o->sock = m->fds[--m->n_fds];
	o->memory_fd = -1;
	o->next = c->offers;
	c->offers = o;
	c->n_offers++;
	d->stats.n_offers++;
	d->stats.offered++;
	return o;
}

static int offer(struct dir_client *c, struct message *m)
{
	struct directory *d = c->directory;
	const struct published *to;
	struct proof proof;
	struct dir_reply reply = {0};
	struct offer *o;
	uint64_t size;
	int rc, memory;

	if (m->n_fds != 1)
		return -EINVAL;
	rc = proof_get(&proof, m->fds[0]);
	if (!rc)
		rc = offer_check(&m->request, &proof);
	if (rc)
		return rc;
	to = directory_find(d, &m->request.dst, proof.netns);
	if (!to) {
		d->stats.no_listener++;
		return -ENOENT;
	}
	if (c->n_offers == DIRECTORY_OFFERS_MAX)
		return -ENOSPC;
	size = rings_agree(&m->request, to, reply.ring);
	if (!size || size > DIR_MEMORY_MAX)
		return -EINVAL;
	rc = memory_create_channel(&memory, size);
	if (rc)
		return rc;
	o = offer_new(c, m);
	if (!o) {
		close(memory);
		return -ENOMEM;
	}
	o->dst_netns = to->at.netns;
	o->memory_fd = memory;
	o->memory.size = o->memory.map_size = size;
	reply.id = o->id;
	reply.memory = o->memory;
	answer(c, &reply, o->memory_fd);
	return 0;
}

static int cancel(struct dir_client *c, uint64_t id)
{
	for (struct offer **o = &c->offers; *o; o = &(*o)->next) {
		if ((*o)->id == id) {
			offer_free(c->directory, c, o);
			c->directory->stats.cancelled++;
			return 0;
		}
	}
	return -EBUSY;
}

static void accept_offer(struct dir_client *c, const struct message *m)
{
	struct directory *d = c->directory;
	struct dir_reply reply = {0};
	struct dir_client *owner;
	struct offer **o = NULL;

	if (m->n_fds == 1)
		o = offer_find(d, m->fds[0], &owner);
	if (!o) {
		d->stats.accept_no_offer++;
		answer_rc(c, -ENOENT, 0);
		return;
	}
	random_bytes(reply.token, sizeof(reply.token));
	reply.id = (*o)->id;
	reply.memory = (*o)->memory;
	/* Nothing was sent on it yet, so there is room for these few. */
	if (send((*o)->sock, reply.token, sizeof(reply.token),
		    MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(reply.token)) {
		answer_rc(c, -ENOENT, 0);
		d->stats.cancelled++;
	} else {
		answer(c, &reply, (*o)->memory_fd);
		d->stats.paired++;
	}
	offer_free(d, owner, o);
}

static void garbage(struct dir_client *c)
{
	c->directory->stats.dropped_garbage++;
	c->ended = true;
}

static void handle(struct dir_client *c, struct message *m)
{
	uint64_t id = 0;
	int rc;

	if (!c->greeted && m->request.op != DIR_HELLO) {
		garbage(c);
		return;
	}
	switch (m->request.op) {
	case DIR_HELLO:
		c->greeted = true;
		rc = m->request.version == DIR_VERSION ? 0 : -EPROTONOSUPPORT;
		break;
	case DIR_PUBLISH:
		rc = publish(c, m, &id);
		break;
	case DIR_UNPUBLISH:
		rc = unpublish(c, m->request.id);
		break;
	case DIR_OFFER:
		rc = offer(c, m);
		if (!rc)
			return;
		break;
	case DIR_CANCEL:
		rc = cancel(c, m->request.id);
		break;
	case DIR_ACCEPT:
		accept_offer(c, m);
		return;
	default:
		garbage(c);
		return;
	}
	answer_rc(c, rc, id);
}

/* -- clients */

static void client_ready(struct dir_client *c)
{
	union fdmsg control;
	struct message m = {0};
	struct iovec iov = {&m.request, sizeof(m.request)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	fdmsg_expect(&msg, &control);
	n = recvmsg(c->sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		c->ended = true;
		return;
	}
	m.n_fds = fdmsg_take(&msg, m.fds);
	if (n != sizeof(m.request) || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		garbage(c);
	else
		handle(c, &m);
	while (m.n_fds)
		close(m.fds[--m.n_fds]);
}

/* @sock: consumed */
static void client_new(struct directory *d, int sock)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct access_peer who;
	struct dir_client *c;
	bool allowed = false;

	if (!access_peer_get(sock, &who)) {
		allowed = access_allows(d->access, &who);
		free(who.groups);
	}
	if (!allowed) {
		d->stats.refused_access++;
		goto refuse;
	}
	c = d->stats.n_clients < d->max_clients ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		d->stats.refused_full++;
		goto refuse;
	}
	c->directory = d;
	c->sock = sock;
	event.data.ptr = c;
	if (epoll_ctl(d->epoll, EPOLL_CTL_ADD, sock, &event)) {
		free(c);
		goto refuse;
	}
	c->next = d->clients;
	d->clients = c;
	d->stats.n_clients++;
	d->stats.joined++;
	return;

refuse:
	close(sock);
}

static void reap(struct directory *d)
{
	for (struct dir_client **c = &d->clients; *c;) {
		if ((*c)->ended)
			client_destroy(d, c);
		else
			c = &(*c)->next;
	}
}

/* -- the loop */

void directory_run_once(struct directory *d)
{
	struct epoll_event event;
	struct dir_client *c;
	int sock;

	/* One at a time: what an event frees must not turn up as a later one. */
	for (int i = 0; i < EVENTS_PER_RUN; i++) {
		if (epoll_wait(d->epoll, &event, 1, 0) != 1)
			return;
		c = event.data.ptr;
		if (c) {
			client_ready(c);
			if (c->ended)
				reap(d);
			continue;
		}
		sock = accept4(d->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (sock >= 0)
			client_new(d, sock);
	}
}

int directory_fd(const struct directory *d)
{
	return d->epoll;
}

const struct directory_stats *directory_stats(const struct directory *d)
{
	return &d->stats;
}

int directory_open(struct directory **out, const char *path,
	const struct access_list *access, uint32_t max_clients)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
	struct directory *d = calloc(1, sizeof(*d));
	int rc;

	if (!d)
		return -ENOMEM;
	d->access = access;
	d->max_clients = max_clients;
	d->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (d->epoll < 0) {
		rc = -errno;
		goto fail;
	}
	rc = listener_open(&d->listener, path, SOCK_SEQPACKET, access_is_private(access));
	if (rc)
		goto fail_listener;
	if (epoll_ctl(d->epoll, EPOLL_CTL_ADD, d->listener.fd, &event)) {
		rc = -errno;
		goto fail_epoll;
	}
	*out = d;
	return 0;

fail_epoll:
	listener_close(&d->listener);
fail_listener:
	close(d->epoll);
fail:
	free(d);
	return rc;
}

void directory_close(struct directory *d)
{
	if (!d)
		return;
	while (d->clients)
		client_destroy(d, &d->clients);
	listener_close(&d->listener);
	close(d->epoll);
	free(d);
}
