/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Events: of completion queues to their channels, and asynchronous ones to the device's
 * descriptor, both made by event_fd_open(). The messages are those of the kernel's ABI
 * (rdma/ib_user_verbs.h), as libibverbs reads them.
 *
 * What a descriptor does not take, because nobody reads it, waits in memory and is sent
 * when an event has been read. Nothing is lost.
 *
 * Locking: device.lock, by which all of this is called but events_await_ack() and the
 * two that libibverbs calls when an event was read (event_ops).
 */
#ifndef RDMA_PROVIDER_EVENTS_H
#define RDMA_PROVIDER_EVENTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct device;
struct ibv_context;

/* One that waits to be sent. */
struct event_waiting {
	STAILQ_ENTRY(event_waiting) entry;
	int fd;
	bool is_async;
	uint64_t element; /* the object, as a pointer */
	uint32_t type;
};

STAILQ_HEAD(event_queue, event_waiting);

/** events_send_comp() - tell that the completion queue @element has what was asked for */
void events_send_comp(struct device *dev, int fd, void *element);

/** events_send_async() - @type: enum ibv_event_type; @element: the object it is about */
void events_send_async(struct ibv_context *ctx, uint32_t type, void *element);

/** events_forget() - drop what was sent about @element and has not been read
 * Return: how many there were
 */
uint32_t events_forget_comp(struct device *dev, int fd, const void *element);
uint32_t events_forget_async(struct ibv_context *ctx, const void *element);

/** events_await_ack() - wait until the application has acknowledged @n events
 * @n_acked: its count, under @mutex; @cond tells of changes
 */
void events_await_ack(pthread_mutex_t *mutex, pthread_cond_t *cond,
	const uint32_t *n_acked, uint32_t n);

/** events_forget_all() - the context with the asynchronous descriptor @fd goes */
void events_forget_all(struct device *dev, int fd);

#endif
