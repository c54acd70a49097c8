/* SPDX-License-Identifier: BSD-3-Clause */
#include "ready.h"

#include <errno.h>

#include "ivshmem/shring_layout.h"
#include "real.h"

#define WANT_READ  (POLLIN | POLLRDNORM | POLLRDHUP)
#define WANT_WRITE (POLLOUT | POLLWRNORM | POLLWRBAND)

static uint32_t kernel_mask(int fd, uint32_t wanted)
{
	struct pollfd p = {.fd = fd, .events = (short)wanted};

	return real.poll(&p, 1, 0) > 0 ? (uint32_t)(uint16_t)p.revents : 0;
}

/* Will no more bytes come? Locked for reading. */
static bool is_finished(struct conn *c)
{
	uint32_t state = atomic_load(&c->ring.ctrl->side[!c->ring.side].state);

	return state & (SHRING_FINISHED | SHRING_RESET) || atomic_load(&c->read_shut) ||
	       atomic_load(&c->shadow_ended) || atomic_load(&c->dead);
}

static int read_mask(int fd, struct fdent e, uint32_t wanted, uint32_t *mask)
{
	struct conn *c;
	bool finished;
	int rc;

	c = conn_lock(fd, e, SHRING_READ, &rc);
	if (!c)
		return rc;
	conn_advance(c, fd);
	conn_notice_end(c, fd);
	finished = is_finished(c);
	if (conn_is_ready(c, SHRING_READ))
		*mask |= wanted & (POLLIN | POLLRDNORM);
	if (finished)
		*mask |= wanted & (POLLRDHUP | POLLIN | POLLRDNORM);
	if ((finished && atomic_load(&c->write_shut)) || atomic_load(&c->dead))
		*mask |= POLLHUP;
	if (atomic_load(&c->error))
		*mask |= POLLERR;
	conn_unlock(c, SHRING_READ);
	return 0;
}

static int write_mask(int fd, struct fdent e, uint32_t wanted, uint32_t *mask)
{
	struct conn *c;
	int rc;

	c = conn_lock(fd, e, SHRING_WRITE, &rc);
	if (!c)
		return rc;
	if (conn_is_ready(c, SHRING_WRITE))
		*mask |= wanted & WANT_WRITE;
	conn_unlock(c, SHRING_WRITE);
	return 0;
}

uint32_t ready_mask(int fd, struct fdent e, uint32_t wanted)
{
	struct conn *c = &conns[e.index];
	uint32_t mask = 0;
	int rc;

	conn_advance(c, fd);
	if (conn_state(c) == CONN_CONNECTING)
		return 0;
	if (conn_is_forsaken(c, fd))
		conn_revert(c, fd);
	if (conn_state(c) == CONN_KERNEL)
		return kernel_mask(fd, wanted);
	rc = read_mask(fd, e, wanted, &mask);
	if (!rc && wanted & WANT_WRITE)
		rc = write_mask(fd, e, wanted, &mask);
	return rc == CONN_USE_KERNEL ? kernel_mask(fd, wanted) : mask;
}

static enum doze doze(int fd, struct fdent e, enum shring_dir dir)
{
	struct conn *c;
	enum doze result;
	int rc;

	c = conn_lock(fd, e, dir, &rc);
	if (!c)
		return DOZE_READY;
	result = doze_begin(c, fd, dir);
	conn_unlock(c, dir);
	doze_pass_on(c, fd, e);
	return result;
}

uint32_t ready_watch(const struct conn *c, uint32_t wanted)
{
	switch (conn_state(c)) {
	case CONN_CONNECTING:
		return POLLOUT;
	case CONN_KERNEL:
		return wanted;
	default:
		return atomic_load(&c->shadow_ended) || atomic_load(&c->read_shut)
			       ? 0
			       : POLLIN | POLLRDHUP;
	}
}

enum doze ready_doze(int fd, struct fdent e, uint32_t wanted, uint32_t *dozing)
{
	enum doze result;

	*dozing = 0;
	if (conn_state(&conns[e.index]) == CONN_KERNEL)
		return DOZE_SLEEP;
	/* Reading is always armed, for the events that nobody has to ask for. */
	result = doze(fd, e, SHRING_READ);
	if (result != DOZE_SLEEP) {
		/* Bytes that nobody asked for are no reason not to sleep. */
		if (result != DOZE_READY || wanted & (POLLIN | POLLRDNORM))
			return result;
	} else {
		*dozing |= 1u << SHRING_READ;
	}
	if (!(wanted & WANT_WRITE))
		return DOZE_SLEEP;
	result = doze(fd, e, SHRING_WRITE);
	if (result == DOZE_SLEEP)
		*dozing |= 1u << SHRING_WRITE;
	return result;
}

void ready_wake(int fd, struct fdent e, uint32_t dozing)
{
	for (uint32_t dir = 0; dir < 2; dir++) {
		if (dozing & 1u << dir)
			doze_end(&conns[e.index], fd, e, (enum shring_dir)dir);
	}
}
