/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames (upproto.h) in and out of a byte stream that never blocks. Both sides of the
 * uplink use it.
 */
#ifndef IVSHMEM_GUEST_UPSTREAM_H
#define IVSHMEM_GUEST_UPSTREAM_H

#include <stdbool.h>

#include "ivshmem/guest/upproto.h"

#define UPSTREAM_WAITING_MAX 1024 /* frames that may wait to be sent */

struct upstream {
	int fd; /* borrowed; non-blocking */
	uint32_t n_in, at_in;
	uint8_t in[16 * UP_FRAME_SIZE];
	uint32_t n_out, at_out, out_size;
	uint8_t *out;
};

void upstream_init(struct upstream *s, int fd);
void upstream_free(struct upstream *s);

/** upstream_fill() - read what is there
 * Return: bytes, 0 at the end of the stream, -EAGAIN, or another error. Call it when
 * upstream_next() has nothing.
 */
int upstream_fill(struct upstream *s);

/** upstream_has() - is there a whole frame among what was read? */
bool upstream_has(const struct upstream *s);

/** upstream_next() - take a frame of what was read
 * Return: 1, 0 if there is no whole frame, -EPROTO
 */
int upstream_next(struct upstream *s, struct up_msg *msg);

/** upstream_skip() - skip what was read until it begins with the frame WELCOME for @name
 * Return: whether it does
 */
bool upstream_skip(struct upstream *s, const uint8_t name[UP_NAME_SIZE]);

/** upstream_send() - send a frame, at once or as soon as there is room
 * Return: 0; -ENOSPC if too many wait already, or -EPIPE: the stream is of no use now
 */
int upstream_send(struct upstream *s, const struct up_msg *msg);

/** upstream_send_now() - hand the frame to the kernel at once, all of it
 * Return: 0, -EAGAIN if that's not possible now (nothing was sent), -EPIPE
 */
int upstream_send_now(struct upstream *s, const struct up_msg *msg);

/** upstream_flush() - send what waits; return 0 or -EPIPE */
int upstream_flush(struct upstream *s);

/** upstream_waits() - does something wait to be sent? */
bool upstream_waits(const struct upstream *s);

#endif
