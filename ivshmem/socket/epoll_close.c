/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Members of epoll sets whose descriptors are closed. As with the kernel's, a member is
 * an open file and the number by which it was put in. As long as the process has the file
 * by another number the member goes on to be told, though its own may be something else
 * by then: it is an orphan.
 */
#include "epoll.h"

#include "conn.h"
#include "epoll_priv.h"
#include "real.h"

struct member *epoll_by_tag(const struct set *s, int tag)
{
	struct member *m;

	if (likely(tag >= 0))
		return epoll_member(s, tag);
	for (m = s->orphans; m && m->tag != tag; m = m->next_orphan)
		;
	return m;
}

static void tag_change(const struct set *s, struct member *m, int tag)
{
	uint32_t events = EPOLLIN | EPOLLRDHUP | EPOLLET;

	m->tag = tag;
	if (m->is_conn && conn_state(&conns[m->e.index]) != CONN_RING)
		events |= EPOLLOUT;
	epoll_inner_control(s, EPOLL_CTL_MOD, m, events);
}

static void make_orphan(struct set *s, struct member *m, int fd)
{
	tag_change(s, m, EPOLL_TAG_ORPHAN - s->n_orphaned++);
	m->fd = fd;
	s->members[m->key] = NULL;
	m->next_orphan = s->orphans;
	s->orphans = m;
}

struct member *epoll_bring_home(struct set *s, int fd, struct fdent e)
{
	union fdword now = {.e = e}, then;
	struct member **link = &s->orphans, *m;

	for (; (m = *link); link = &m->next_orphan) {
		then.e = m->e;
		if (m->key == fd && then.word == now.word)
			break;
	}
	if (!m)
		return NULL;
	*link = m->next_orphan;
	s->members[fd] = m;
	m->fd = fd;
	tag_change(s, m, fd);
	return m;
}

/* Another descriptor of what @m is, when @gone is closed; -1: none */
static int other_fd(const struct member *m, int gone)
{
	if (m->is_set)
		return epoll_set(m->e)->n_fds > 1 ? m->fd : -1;
	return m->is_conn && !m->absent ? conn_other_fd(m->e, gone) : -1;
}

static void fd_leaves(struct set *s, int gone, struct fdent e)
{
	struct member *m = epoll_member(s, gone), *next;
	union fdword closed = {.e = e}, has;
	int fd;

	for (struct member *o = s->orphans; o; o = next) {
		next = o->next_orphan;
		has.e = o->e;
		if (has.word != closed.word)
			continue;
		fd = other_fd(o, gone);
		if (fd < 0)
			epoll_member_remove(s, o);
		else if (o->fd == gone)
			o->fd = fd;
	}
	if (!m)
		return;
	fd = other_fd(m, gone);
	if (fd >= 0)
		make_orphan(s, m, fd);
	else
		epoll_member_remove(s, m);
}

void epoll_fd_closed(int fd, struct fdent e)
{
	epoll_each_set(fd_leaves, fd, e);
}
