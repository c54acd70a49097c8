/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The directory's clients, and the loop. Neighbours: directory_ask.c (requests),
 * directory_match.c (who is meant).
 */
#include "ivshmem/directory_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_PER_RUN 64

static void client_destroy(struct directory *d, struct dir_client **link)
{
	struct dir_client *c = *link;

	requests_forget(c);
	*link = c->next;
	d->stats.n_clients--;
	close(c->sock);
	free(c);
}

/* -- clients */

void client_garbage(struct dir_client *c)
{
	c->directory->stats.dropped_garbage++;
	c->ended = true;
}

void message_close(struct message *m)
{
	while (m->n_fds)
		close(m->fds[--m->n_fds]);
}

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
		client_garbage(c);
	else
		request_handle(c, &m);
	message_close(&m);
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

void directory_set_elsewhere(struct directory *d, const struct directory_elsewhere *e)
{
	d->elsewhere = e;
}

int directory_fd(const struct directory *d)
{
	return d->epoll;
}

const struct directory_stats *directory_stats(const struct directory *d)
{
	return &d->stats;
}

void directory_status(const struct directory *d, FILE *to)
{
	const struct directory_stats *s = &d->stats;

	fprintf(to,
		" processes=%u listeners=%u offers=%u offered=%" PRIu64 " paired=%" PRIu64
		" cancelled=%" PRIu64 " no_listener=%" PRIu64 " accept_no_offer=%" PRIu64
		" addr_foreign=%" PRIu64 " dir_refused=%" PRIu64 " dir_garbage=%" PRIu64,
		s->n_clients, s->n_listeners, s->n_offers, s->offered, s->paired,
		s->cancelled, s->no_listener, s->accept_no_offer, s->addr_foreign,
		s->refused_access + s->refused_full, s->dropped_garbage);
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
