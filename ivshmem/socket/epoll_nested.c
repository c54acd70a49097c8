/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An epoll set in another: what it has to tell depends on connections in it, of which the
 * kernel knows nothing. So the outer's inner set has the inner set of the other.
 */
#include <errno.h>

#include "epoll.h"
#include "epoll_priv.h"
#include "real.h"

#define NESTED_EVENTS (EPOLLIN | EPOLLET)

/* Both have an inner set, the other one's in ours. */
static int join(struct set *s, struct set *other, const struct member *m)
{
	int rc;

	pthread_mutex_lock(&other->lock);
	rc = epoll_inner_make(other);
	pthread_mutex_unlock(&other->lock);
	if (!rc)
		rc = epoll_inner_make(s);
	if (!rc)
		rc = epoll_inner_control(s, EPOLL_CTL_ADD, m, NESTED_EVENTS);
	/* It is there by another number. */
	return rc == -EEXIST ? 0 : rc;
}

int epoll_nested_add(
	struct set *s, int fd, struct fdent e, const struct epoll_event *event)
{
	struct member *m;
	int rc;

	/* The kernel's judgement is asked for, not its events. */
	if (real.epoll_ctl(s->outer, EPOLL_CTL_ADD, fd, (void *)event))
		return -errno;
	real.epoll_ctl(s->outer, EPOLL_CTL_DEL, fd, NULL);
	m = epoll_member_add(s, fd);
	if (!m)
		return -ENOMEM;
	m->is_set = true;
	m->e = e;
	rc = join(s, epoll_set(e), m);
	if (rc)
		epoll_member_remove(s, m);
	else
		epoll_wanted(s, m, event);
	return rc;
}

/* EPOLLET: has something come since it was told? Not all that comes rings. */
static bool is_edge(const struct member *m, uint32_t *stamp)
{
	struct set *other = epoll_set(m->e);

	pthread_mutex_lock(&other->lock);
	*stamp = epoll_stamp(other);
	pthread_mutex_unlock(&other->lock);
	return m->fresh || *stamp != m->told_head;
}

static bool has_news(const struct member *m, uint64_t *until, uint32_t *stamp)
{
	int inner;

	return m->event.events & EPOLLIN && epoll_set_look(m->e, &inner, until) &&
	       (!(m->event.events & EPOLLET) || is_edge(m, stamp));
}

bool epoll_nested_is_news(const struct member *m, uint64_t *until)
{
	uint32_t stamp;

	return has_news(m, until, &stamp);
}

uint32_t epoll_nested_look(struct member *m)
{
	uint64_t until = 0;

	if (!has_news(m, &until, &m->told_head))
		return 0;
	m->fresh = false;
	return EPOLLIN;
}
