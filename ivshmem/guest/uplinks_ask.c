/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What guests ask, and what the directory asks for native processes that have to do with
 * guests. docs/uplink-protocol.md, section 3.
 */
#include "ivshmem/guest/uplinks_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ivshmem/sockaddr.h"
#include "lib/util.h"

static void answer(struct guest *g, uint16_t type, uint64_t id, int error)
{
	struct up_msg msg = {.type = type, .id = id, .error = error};

	guest_send(g, &msg);
}

/* -- listeners */

static void publish(struct guest *g, const struct up_msg *msg)
{
	struct guest_published *p;

	if (guest_of(g->uplinks, &msg->dst) != g) {
		g->stats.addr_refused++;
		return;
	}
	if (g->n_published == UPLINKS_PUBLISHED_MAX) {
		g->stats.limited++;
		return;
	}
	p = malloc(sizeof(*p));
	if (!p)
		return;
	p->id = msg->id;
	p->addr = msg->dst;
	LIST_INSERT_HEAD(&g->published, p, links);
	g->n_published++;
	g->stats.published++;
}

static void unpublish(struct guest *g, uint64_t id)
{
	struct guest_published *p = LIST_FIRST(&g->published), *next;

	for (; p; p = next) {
		next = LIST_NEXT(p, links);
		if (p->id != id)
			continue;
		LIST_REMOVE(p, links);
		free(p);
		g->n_published--;
	}
}

/* -- offers */

/* Where would it go? @to: a guest, or NULL for a native process in @netns */
static int destination(const struct guest *from, const struct dir_addr *dst,
	struct guest **to, uint64_t *netns)
{
	const struct published *p;

	*to = guest_of(from->uplinks, dst);
	if (*to)
		return *to != from && guest_listens(*to, dst) ? 0 : -ENOENT;
	if (dir_addr_is_loopback(dst))
		return -ENOENT;
	p = directory_find(from->uplinks->directory, dst, 0);
	if (!p)
		return -ENOENT;
	*netns = p->at.netns;
	return 0;
}

static int offer(struct guest *g, const struct up_msg *msg, struct ring **out)
{
	struct guest *to;
	uint64_t netns = 0;
	struct ring *r;
	int rc;

	if (guest_of(g->uplinks, &msg->src) != g) {
		g->stats.addr_refused++;
		return -EACCES;
	}
	rc = destination(g, &msg->dst, &to, &netns);
	if (rc) {
		g->stats.no_listener++;
		return rc;
	}
	if (!msg->size || msg->size > DIR_MEMORY_MAX)
		return -EINVAL;
	if (g->n_ends == UPLINKS_ENDS_MAX) {
		g->stats.limited++;
		return -ENOSPC;
	}
	rc = ring_new(&r, g->uplinks, msg->size);
	if (rc) {
		g->stats.no_memory++;
		return rc;
	}
	r->src = msg->src;
	r->dst = msg->dst;
	r->to = to;
	r->to_netns = netns;
	end_take_guest(&r->ends[0], g, msg->id);
	g->stats.offered++;
	*out = r;
	return 0;
}

static int offer_asked(struct guest *g, const struct up_msg *msg)
{
	struct up_msg reply = {.type = UP_OFFER_R, .id = msg->id};
	struct ring *r;

	if (end_find(g, msg->id))
		return -EPROTO;
	reply.error = offer(g, msg, &r);
	if (!reply.error) {
		reply.offset = r->offset;
		reply.size = r->size;
	}
	guest_send(g, &reply);
	return 0;
}

/* Cancelled in the sense of who accepts; the memory is the client's until it lets go. */
static void cancel_asked(struct guest *g, uint64_t id)
{
	struct ring_end *e = end_find(g, id);
	bool open = e && e == &e->ring->ends[0] && e->ring->open;

	if (open) {
		ring_close_offer(e->ring);
		g->stats.cancelled++;
	}
	answer(g, UP_CANCEL_R, id, open ? 0 : -EBUSY);
}

/* -- accepting */

static bool is_offer_good(const struct ring *r)
{
	return r->ends[0].holder == END_GUEST ||
	       directory_offer_is_connected(r->uplinks->directory, r->ends[0].id);
}

/* The acceptor has been told, so now the client's side is. */
static void client_tell(struct ring *r, const uint8_t *token)
{
	struct ring_end *client = &r->ends[0];
	struct up_msg msg = {.type = UP_ACCEPTED, .id = client->id};

	ring_close_offer(r);
	if (client->holder == END_NATIVE) {
		directory_offer_accepted(r->uplinks->directory, client->id, token);
		return;
	}
	client->guest->stats.accepted++;
	memcpy(msg.token, token, sizeof(msg.token));
	guest_send(client->guest, &msg);
}

static int accept_by_guest(struct guest *g, const struct up_msg *msg, struct ring *r)
{
	struct up_msg reply = {
		.type = UP_ACCEPT_R, .id = msg->id, .offset = r->offset, .size = r->size};

	if (g->n_ends == UPLINKS_ENDS_MAX) {
		g->stats.limited++;
		return -ENOSPC;
	}
	random_bytes(reply.token, sizeof(reply.token));
	/* First the acceptor, and surely: section 3, "order". */
	if (upstream_send_now(&g->stream, &reply))
		return -EAGAIN;
	end_take_guest(&r->ends[1], g, msg->id);
	g->stats.accepted++;
	client_tell(r, reply.token);
	return 0;
}

static int accept_asked(struct guest *g, const struct up_msg *msg)
{
	struct ring *r;
	int rc = -ENOENT;

	if (end_find(g, msg->id))
		return -EPROTO;
	if (guest_of(g->uplinks, &msg->dst) != g) {
		g->stats.addr_refused++;
		answer(g, UP_ACCEPT_R, msg->id, -EACCES);
		return 0;
	}
	r = ring_open_find(g->uplinks, &msg->src, &msg->dst, g, 0);
	if (r && is_offer_good(r))
		rc = accept_by_guest(g, msg, r);
	if (rc) {
		g->stats.no_offer++;
		answer(g, UP_ACCEPT_R, msg->id, -ENOENT);
	}
	return 0;
}

int guest_asks(struct guest *g, struct up_msg *msg)
{
	struct ring_end *e;

	if (!msg->id)
		return -EPROTO;
	switch (msg->type) {
	case UP_PUBLISH:
		publish(g, msg);
		return 0;
	case UP_UNPUBLISH:
		unpublish(g, msg->id);
		return 0;
	case UP_OFFER:
		return offer_asked(g, msg);
	case UP_CANCEL:
		cancel_asked(g, msg->id);
		return 0;
	case UP_ACCEPT:
		return accept_asked(g, msg);
	case UP_RELEASE:
		e = end_find(g, msg->id);
		if (!e)
			return 0; /* it may never have heard that there was no memory */
		g->stats.cancelled += e->ring->open;
		end_release(e);
		return 0;
	default:
		return -EPROTO;
	}
}

/* -- native processes */

static bool owns(void *arg, const struct dir_addr *addr)
{
	return guest_of(arg, addr) != NULL;
}

static void ignore_published(void *arg, struct published *p)
{
}

static void ignore_unpublished(void *arg, uint64_t id)
{
}

/* Answer a native process, which gets @e; its pipe is closed here in any case. */
static int native_answer(struct ring_end *e, uint64_t id, struct dir_reply *reply)
{
	struct channel ch = ring_channel(e->ring);
	int rc = end_take_native(e, id, &ch.lifetime_fd);

	if (rc)
		return rc;
	rc = directory_answer(e->ring->uplinks->directory, id, reply, &ch);
	close(ch.lifetime_fd);
	return rc;
}

static int native_offer(void *arg, const struct offer *o, uint64_t size)
{
	struct uplinks *u = arg;
	struct guest *to = guest_of(u, &o->dst);
	struct dir_reply reply = {0};
	struct ring *r;
	int rc;

	if (!to || guest_of(u, &o->src) || !guest_listens(to, &o->dst))
		return -ENOENT;
	rc = ring_new(&r, u, size);
	if (rc) {
		u->native_no_memory++;
		return rc;
	}
	r->src = o->src;
	r->dst = o->dst;
	r->to = to;
	rc = native_answer(&r->ends[0], o->id, &reply);
	if (rc && r->ends[0].holder == END_NOBODY)
		ring_drop(r);
	/* Who did not get the answer has ended; the pipe tells. */
	return rc == -EPIPE ? 0 : rc;
}

static int native_cancel(void *arg, uint64_t id)
{
	struct uplinks *u = arg;
	struct dir_reply reply = {0};
	struct ring *r;

	LIST_FOREACH(r, &u->open, links)
	{
		if (r->ends[0].holder == END_NATIVE && r->ends[0].id == id)
			break;
	}
	if (r)
		ring_close_offer(r);
	directory_answer(u->directory, id, &reply, NULL);
	return 0;
}

static int native_accept(
	void *arg, uint64_t id, const struct dir_addr *src, const struct proof *dst)
{
	struct uplinks *u = arg;
	struct ring *r = ring_open_find(u, src, &dst->local, NULL, dst->netns);
	struct dir_reply reply = {0};
	int rc;

	if (!r)
		return -ENOENT;
	random_bytes(reply.token, sizeof(reply.token));
	rc = native_answer(&r->ends[1], id, &reply);
	if (rc)
		return rc == -EPIPE ? 0 : rc;
	client_tell(r, reply.token);
	return 0;
}

void uplinks_serve_natives(struct uplinks *u)
{
	u->elsewhere = (struct directory_elsewhere){
		.arg = u,
		.owns = owns,
		.published = ignore_published,
		.unpublished = ignore_unpublished,
		.offer = native_offer,
		.cancel = native_cancel,
		.accept = native_accept,
	};
}
