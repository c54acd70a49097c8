/* SPDX-License-Identifier: BSD-3-Clause */
#include "ivshmem/guest/upstream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/util.h"

void upstream_init(struct upstream *s, int fd)
{
	memset(s, 0, sizeof(*s));
	s->fd = fd;
}

void upstream_free(struct upstream *s)
{
	free(s->out);
	s->out = NULL;
	s->n_out = s->at_out = s->out_size = 0;
}

/* -- in */

int upstream_fill(struct upstream *s)
{
	ssize_t n;

	memmove(s->in, s->in + s->at_in, s->n_in - s->at_in);
	s->n_in -= s->at_in;
	s->at_in = 0;
	if (s->n_in == sizeof(s->in))
		return -EAGAIN;
	n = read(s->fd, s->in + s->n_in, sizeof(s->in) - s->n_in);
	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	s->n_in += (uint32_t)n;
	return (int)n;
}

bool upstream_has(const struct upstream *s)
{
	return s->n_in - s->at_in >= UP_FRAME_SIZE;
}

int upstream_next(struct upstream *s, struct up_msg *msg)
{
	if (!upstream_has(s))
		return 0;
	if (up_decode(msg, s->in + s->at_in))
		return -EPROTO;
	s->at_in += UP_FRAME_SIZE;
	return 1;
}

bool upstream_skip(struct upstream *s, const uint8_t name[UP_NAME_SIZE])
{
	struct up_msg msg;

	for (; upstream_has(s); s->at_in++) {
		if (!up_decode(&msg, s->in + s->at_in) && msg.type == UP_WELCOME &&
			!memcmp(msg.name, name, UP_NAME_SIZE))
			return true;
	}
	return false;
}

/* -- out */

/* Return: bytes taken, 0 if there is no room, or -EPIPE. */
static int put(struct upstream *s, const uint8_t *from, size_t size)
{
	ssize_t n = send(s->fd, from, size, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno == ENOTSOCK)
		n = write(s->fd, from, size);
	if (n >= 0)
		return (int)n;
	return errno == EAGAIN || errno == EINTR ? 0 : -EPIPE;
}

static int append(struct upstream *s, const uint8_t *from, uint32_t size)
{
	uint32_t wanted;
	uint8_t *out;

	if (s->at_out)
		memmove(s->out, s->out + s->at_out, s->n_out - s->at_out);
	s->n_out -= s->at_out;
	s->at_out = 0;
	if (s->n_out + size > UPSTREAM_WAITING_MAX * UP_FRAME_SIZE)
		return -ENOSPC;
	if (s->n_out + size > s->out_size) {
		wanted = MAX(2 * s->out_size, 16u * UP_FRAME_SIZE);
		out = realloc(s->out, wanted);
		if (!out)
			return -ENOSPC;
		s->out = out;
		s->out_size = wanted;
	}
	memcpy(s->out + s->n_out, from, size);
	s->n_out += size;
	return 0;
}

bool upstream_waits(const struct upstream *s)
{
	return s->n_out > s->at_out;
}

int upstream_flush(struct upstream *s)
{
	int n;

	while (upstream_waits(s)) {
		n = put(s, s->out + s->at_out, s->n_out - s->at_out);
		if (n <= 0)
			return n;
		s->at_out += (uint32_t)n;
	}
	return 0;
}

/* Of a frame that is sent in part the rest must follow, so that part is sent. */
static int send_frame(struct upstream *s, const struct up_msg *msg, bool may_wait)
{
	uint8_t frame[UP_FRAME_SIZE];
	int n = 0;

	up_encode(frame, msg);
	if (upstream_flush(s))
		return -EPIPE;
	if (!upstream_waits(s))
		n = put(s, frame, sizeof(frame));
	if (n < 0)
		return -EPIPE;
	if (!n && !may_wait)
		return -EAGAIN;
	if (n == sizeof(frame))
		return 0;
	if (!append(s, frame + n, (uint32_t)(sizeof(frame) - (size_t)n)))
		return 0;
	return n ? -EPIPE : -ENOSPC;
}

int upstream_send(struct upstream *s, const struct up_msg *msg)
{
	return send_frame(s, msg, true);
}

int upstream_send_now(struct upstream *s, const struct up_msg *msg)
{
	return send_frame(s, msg, false);
}
