/* SPDX-License-Identifier: BSD-3-Clause */
#include "provider_priv.h"

#include "lib/util.h"

#include <rdma/ib_user_verbs.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

union event_message {
	struct ib_uverbs_comp_event_desc comp;
	struct ib_uverbs_async_event_desc async;
};

static bool try_send(const struct event_waiting *ev)
{
	union event_message msg = {0};
	size_t size;

	if (ev->is_async) {
		msg.async.element = ev->element;
		msg.async.event_type = ev->type;
		size = sizeof(msg.async);
	} else {
		msg.comp.cq_handle = ev->element;
		size = sizeof(msg.comp);
	}
	/* When it can't be sent for another reason than want of room, it can't be sent
	 * later either; but a socket that is connected to itself knows none. */
	return send(ev->fd, &msg, size, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

/* Those of completion channels wait apart, as many a program never reads asynchronous
 * events. */
static struct event_queue *waiting(struct device *dev, bool is_async)
{
	return is_async ? &dev->async_events : &dev->comp_events;
}

static bool others_wait(const struct event_queue *q, int fd)
{
	const struct event_waiting *ev;

	STAILQ_FOREACH(ev, q, entry)
	{
		if (ev->fd == fd)
			return true;
	}
	return false;
}

static void send_event(struct device *dev, const struct event_waiting *ev)
{
	struct event_queue *q = waiting(dev, ev->is_async);
	struct event_waiting *copy;

	if (!others_wait(q, ev->fd) && try_send(ev))
		return;
	copy = malloc(sizeof(*copy));
	if (!copy) {
		dev->events_lost++;
		return;
	}
	*copy = *ev;
	STAILQ_INSERT_TAIL(q, copy, entry);
	atomic_fetch_add(&dev->n_events_waiting, 1);
}

void events_send_comp(struct device *dev, int fd, void *element)
{
	send_event(dev, &(struct event_waiting){
				.fd = fd, .element = (uint64_t)(uintptr_t)element});
}

void events_send_async(struct ibv_context *ctx, uint32_t type, void *element)
{
	send_event(to_device(ctx), &(struct event_waiting){.fd = ctx->async_fd,
					   .is_async = true,
					   .element = (uint64_t)(uintptr_t)element,
					   .type = type});
}

static void remove_waiting(struct device *dev, struct event_waiting *ev)
{
	STAILQ_REMOVE(waiting(dev, ev->is_async), ev, event_waiting, entry);
	atomic_fetch_sub(&dev->n_events_waiting, 1);
	free(ev);
}

/* Something was read, so there is room again. */
static void send_waiting(struct device *dev, bool is_async)
{
	struct event_waiting *ev, *next;

	for (ev = STAILQ_FIRST(waiting(dev, is_async)); ev; ev = next) {
		next = STAILQ_NEXT(ev, entry);
		if (try_send(ev))
			remove_waiting(dev, ev);
	}
}

/* Take all messages out of @fd and put back those that are not about @element. Who reads
 * meanwhile finds it empty and waits, or gets one of them as ever.
 */
static uint32_t forget(struct device *dev, int fd, bool is_async, uint64_t element)
{
	struct event_queue *q = waiting(dev, is_async);
	struct event_queue kept = STAILQ_HEAD_INITIALIZER(kept);
	struct event_waiting *ev, *next;
	union event_message msg;
	uint32_t n = 0;

	while (recv(fd, &msg, sizeof(msg), MSG_DONTWAIT) > 0) {
		/* Both kinds begin with the element. */
		if (msg.comp.cq_handle == element) {
			n++;
			continue;
		}
		ev = malloc(sizeof(*ev));
		if (!ev) {
			dev->events_lost++;
			continue;
		}
		*ev = (struct event_waiting){.fd = fd,
			.is_async = is_async,
			.element = msg.comp.cq_handle,
			.type = is_async ? msg.async.event_type : 0};
		STAILQ_INSERT_TAIL(&kept, ev, entry);
		atomic_fetch_add(&dev->n_events_waiting, 1);
	}
	for (ev = STAILQ_FIRST(q); ev; ev = next) {
		next = STAILQ_NEXT(ev, entry);
		if (ev->fd == fd && ev->element == element) {
			n++;
			remove_waiting(dev, ev);
		}
	}
	/* These are older than what waits. */
	STAILQ_CONCAT(&kept, q);
	STAILQ_CONCAT(q, &kept);
	send_waiting(dev, is_async);
	return n;
}

uint32_t events_forget_comp(struct device *dev, int fd, const void *element)
{
	return forget(dev, fd, false, (uint64_t)(uintptr_t)element);
}

uint32_t events_forget_async(struct ibv_context *ctx, const void *element)
{
	return forget(to_device(ctx), ctx->async_fd, true, (uint64_t)(uintptr_t)element);
}

void events_await_ack(
	pthread_mutex_t *mutex, pthread_cond_t *cond, const uint32_t *n_acked, uint32_t n)
{
	pthread_mutex_lock(mutex);
	while (*n_acked != n)
		pthread_cond_wait(cond, mutex);
	pthread_mutex_unlock(mutex);
}

void events_forget_all(struct device *dev, int fd)
{
	struct event_waiting *ev, *next;

	for (ev = STAILQ_FIRST(&dev->async_events); ev; ev = next) {
		next = STAILQ_NEXT(ev, entry);
		if (ev->fd == fd)
			remove_waiting(dev, ev);
	}
}

/* libibverbs calls these when it has read an event. */

static void event_was_read(struct device *dev, bool is_async)
{
	if (likely(!atomic_load(&dev->n_events_waiting)))
		return;
	engine_lock(dev);
	send_waiting(dev, is_async);
	engine_unlock(dev);
}

static void cq_event(struct ibv_cq *ibcq)
{
	event_was_read(to_device(ibcq->context), false);
}

static void async_event(struct ibv_context *ctx, struct ibv_async_event *event)
{
	event_was_read(to_device(ctx), true);
}

const struct verbs_context_ops event_ops = {
	.cq_event = cq_event,
	.async_event = async_event,
};
