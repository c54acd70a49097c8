/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the guest's directory asks of the server, and what comes of it.
 */
#include "ivshmem/guest/uplink_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ivshmem/guest/channel.h"
#include "ivshmem/guest/lifetime.h"
#include "ivshmem/sockaddr.h"
#include "lib/util.h"

/* What need not be said at once waits here, not in the stream: that has room for so much
 * only, and loses it when the session ends.
 */
static bool may_tell(const struct uplink *u)
{
	return u->state == UPLINK_UP && !upstream_waits(&u->stream);
}

/* -- ends */

void uplink_ends_free(struct uplink_ends *ends)
{
	struct uplink_end *e;

	while ((e = TAILQ_FIRST(ends))) {
		TAILQ_REMOVE(ends, e, links);
		if (e->lifetime_fd >= 0)
			close(e->lifetime_fd);
		free(e);
	}
}

void uplink_end_gone(struct uplink *u, struct uplink_end *e)
{
	close(e->lifetime_fd);
	e->lifetime_fd = -1;
	TAILQ_REMOVE(&u->ends, e, links);
	u->n_ends--;
	TAILQ_INSERT_TAIL(&u->gone, e, links);
	u->stats.released++;
	uplink_tell(u);
}

/* The server may have given memory, of which no process hears. */
static void end_unknown(struct uplink *u, uint64_t id)
{
	struct uplink_end *e = malloc(sizeof(*e));

	if (!e)
		return; /* then it is taken until the guest ends */
	*e = (struct uplink_end){.source = UPLINK_END, .id = id, .lifetime_fd = -1};
	TAILQ_INSERT_TAIL(&u->gone, e, links);
	u->stats.released++;
}

static void release_gone(struct uplink *u)
{
	struct uplink_end *e;

	while ((e = TAILQ_FIRST(&u->gone)) && may_tell(u)) {
		struct up_msg msg = {.type = UP_RELEASE, .id = e->id};

		TAILQ_REMOVE(&u->gone, e, links);
		TAILQ_INSERT_TAIL(&u->told, e, links);
		e->told_at = u->n_asked;
		uplink_send(u, &msg);
	}
}

/* The server has read all that came before the question that it answered. */
static void forget_heard(struct uplink *u, const struct question *answered)
{
	struct uplink_end *e;

	while ((e = TAILQ_FIRST(&u->told)) && e->told_at < answered->number) {
		TAILQ_REMOVE(&u->told, e, links);
		free(e);
	}
}

/* Return: the reading end of its pipe, or a negative errno */
static int end_new(struct uplink *u, uint64_t id)
{
	struct uplink_end *e = malloc(sizeof(*e));
	int theirs = -1;

	if (!e)
		return -ENOMEM;
	*e = (struct uplink_end){.source = UPLINK_END, .id = id};
	e->lifetime_fd = lifetime_open(&theirs, u->epoll, e);
	if (e->lifetime_fd < 0) {
		theirs = e->lifetime_fd;
		free(e);
		return theirs;
	}
	TAILQ_INSERT_TAIL(&u->ends, e, links);
	u->n_ends++;
	return theirs;
}

/* -- questions */

static int ask(struct uplink *u, struct up_msg *msg, uint16_t answer)
{
	struct question *q = malloc(sizeof(*q));

	if (!q)
		return -ENOMEM;
	*q = (struct question){.answer = answer,
		.id = msg->id,
		.number = ++u->n_asked,
		.asked_ns = now_ns()};
	TAILQ_INSERT_TAIL(&u->questions, q, links);
	u->last_id = MAX(u->last_id, msg->id);
	uplink_send(u, msg);
	return 0;
}

/* Was this asked? Then it isn't any more. */
static bool was_asked(struct uplink *u, uint16_t answer, uint64_t id)
{
	struct question *q;

	TAILQ_FOREACH(q, &u->questions, links)
	{
		if (q->answer != answer || q->id != id)
			continue;
		TAILQ_REMOVE(&u->questions, q, links);
		forget_heard(u, q);
		free(q);
		return true;
	}
	return false;
}

/* Nobody accepts what the server does not know of; an offer taken back is none; and an
 * acceptor is told before the client's side is (docs, section 3, "order").
 */
static int error_without_answer(uint16_t answer, bool drained)
{
	if (answer == UP_CANCEL_R)
		return 0;
	return answer == UP_ACCEPT_R && !drained ? -ECONNABORTED : -ENOENT;
}

void uplink_forget(struct uplink *u, bool drained)
{
	struct question *q;

	u->first_id = u->last_id;
	TAILQ_CONCAT(&u->gone, &u->told, links);
	while ((q = TAILQ_FIRST(&u->questions))) {
		struct dir_reply reply = {
			.error = error_without_answer(q->answer, drained)};

		TAILQ_REMOVE(&u->questions, q, links);
		if (q->answer != UP_CANCEL_R)
			end_unknown(u, q->id);
		directory_answer(u->directory, q->id, &reply, NULL);
		free(q);
	}
}

/* -- listeners */

static bool is_link_local(const struct dir_addr *a)
{
	return a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

static void publish_one(struct uplink *u, const struct published *p, struct dir_addr addr)
{
	struct up_msg msg = {.type = UP_PUBLISH, .id = p->id, .dst = addr};

	if (dir_addr_is_loopback(&addr) || is_link_local(&addr))
		return;
	msg.dst.port = p->at.local.port;
	uplink_send(u, &msg);
}

static void publish(void *arg, struct published *p)
{
	struct uplink *u = arg;
	bool v4 = dir_addr_is_v4(&p->at.local);

	if (p->told == u->stats.sessions)
		return;
	if (!may_tell(u)) {
		u->listeners_wait = true;
		return;
	}
	p->told = u->stats.sessions;
	if (!dir_addr_is_any(&p->at.local))
		publish_one(u, p, p->at.local);
	for (uint32_t i = 0; i < p->n_ips; i++) {
		if (dir_addr_is_v4(&p->ips[i]) == v4 || (!v4 && !p->v6only))
			publish_one(u, p, p->ips[i]);
	}
}

static void unpublish(void *arg, uint64_t id)
{
	struct up_msg msg = {.type = UP_UNPUBLISH, .id = id};

	uplink_send(arg, &msg);
}

void uplink_tell(struct uplink *u)
{
	release_gone(u);
	if (!u->listeners_wait || !may_tell(u))
		return;
	u->listeners_wait = false;
	directory_each_published(u->directory, publish, u);
}

/* -- connections */

static bool owns(void *arg, const struct dir_addr *addr)
{
	return false;
}

/* Connections of the loopback network are never the server's. */
static bool may_ask(
	const struct uplink *u, const struct dir_addr *src, const struct dir_addr *dst)
{
	return u->state == UPLINK_UP && !dir_addr_is_loopback(src) &&
	       !dir_addr_is_loopback(dst);
}

static int offer(void *arg, const struct offer *o, uint64_t size)
{
	struct up_msg msg = {.type = UP_OFFER,
		.id = o->id,
		.src = o->src,
		.dst = o->dst,
		.size = size};
	struct uplink *u = arg;

	return may_ask(u, &o->src, &o->dst) ? ask(u, &msg, UP_OFFER_R) : -ENOENT;
}

static int cancel(void *arg, uint64_t id)
{
	struct up_msg msg = {.type = UP_CANCEL, .id = id};
	struct dir_reply reply = {0};
	struct uplink *u = arg;

	if (u->state == UPLINK_UP && id > u->first_id)
		return ask(u, &msg, UP_CANCEL_R);
	directory_answer(u->directory, id, &reply, NULL);
	return 0;
}

static int accept_asked(
	void *arg, uint64_t id, const struct dir_addr *src, const struct proof *dst)
{
	struct up_msg msg = {.type = UP_ACCEPT, .id = id, .src = *src, .dst = dst->local};
	struct uplink *u = arg;

	return may_ask(u, src, &dst->local) ? ask(u, &msg, UP_ACCEPT_R) : -ENOENT;
}

void uplink_serve(struct uplink *u)
{
	u->elsewhere = (struct directory_elsewhere){
		.arg = u,
		.owns = owns,
		.published = publish,
		.unpublished = unpublish,
		.offer = offer,
		.cancel = cancel,
		.accept = accept_asked,
	};
}

static bool is_in_memory(const struct uplink *u, const struct up_msg *msg)
{
	return msg->size && msg->size <= DIR_MEMORY_MAX && msg->size <= u->size &&
	       msg->offset <= u->size - msg->size && msg->offset >= AREA_PAGE &&
	       msg->offset % AREA_PAGE == 0;
}

/* Memory for the process that asked. If it has gone, the pipe tells. */
static int memory_told(struct uplink *u, const struct up_msg *msg)
{
	struct dir_reply reply = {0};
	struct channel ch;

	if (!is_in_memory(u, msg))
		return -EPROTO;
	ch = channel_at(u->memory_fd, u->map_unit, msg->offset, msg->size);
	ch.lifetime_fd = end_new(u, msg->id);
	if (ch.lifetime_fd < 0) {
		/* Who accepts must not go on without: nobody knows of the ring. */
		reply.error = msg->type == UP_OFFER_R ? -ENOENT : -ECONNABORTED;
		end_unknown(u, msg->id);
		directory_answer(u->directory, msg->id, &reply, NULL);
		return 0;
	}
	memcpy(reply.token, msg->token, sizeof(reply.token));
	directory_answer(u->directory, msg->id, &reply, &ch);
	close(ch.lifetime_fd);
	return 0;
}

static int answer_told(struct uplink *u, const struct up_msg *msg)
{
	struct dir_reply reply = {.error = msg->error};

	if (!was_asked(u, msg->type, msg->id) || msg->error > 0)
		return -EPROTO;
	if (!msg->error && msg->type != UP_CANCEL_R) {
		u->stats.offered += msg->type == UP_OFFER_R;
		u->stats.accepted += msg->type == UP_ACCEPT_R;
		return memory_told(u, msg);
	}
	directory_answer(u->directory, msg->id, &reply, NULL);
	return 0;
}

int uplink_told(struct uplink *u, const struct up_msg *msg)
{
	switch (msg->type) {
	case UP_OFFER_R:
	case UP_CANCEL_R:
	case UP_ACCEPT_R:
		return answer_told(u, msg);
	case UP_ACCEPTED:
		if (directory_offer_accepted(u->directory, msg->id, msg->token))
			u->stats.accept_failed++;
		return 0;
	default:
		return -EPROTO;
	}
}
