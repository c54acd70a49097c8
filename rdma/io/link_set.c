/* SPDX-License-Identifier: BSD-3-Clause */
#include "link_set.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "link_set_priv.h"

static_assert(LINK_SET_MAX <= 32, "held has a bit for each");

int link_set_create(struct link_set **out)
{
	struct link_set *set = calloc(1, sizeof(*set));

	if (!set)
		return -ENOMEM;
	set->fd = set->more_fd = -1;
	set->epoll_fd = -1;
	set->current = -1;
	for (int i = 0; i < LINK_SET_MAX; i++)
		set->watched[i][0] = set->watched[i][1] = -1;
	*out = set;
	return 0;
}

void link_set_destroy(struct link_set *set)
{
	if (!set)
		return;
	link_set_groups_free(set);
	for (int i = 0; i < LINK_SET_MAX; i++)
		link_close(set->link[i]);
	if (set->epoll_fd >= 0)
		close(set->epoll_fd);
	free(set);
}

/* Return: its index, or -1 */
static int first_link(const struct link_set *set)
{
	for (int i = 0; i < LINK_SET_MAX; i++) {
		if (set->link[i])
			return i;
	}
	return -1;
}

/* Let epoll_fd watch @fd in the place of *@watched, for link @i. */
static int watch_fd(const struct link_set *set, int i, int *watched, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = (uint32_t)i};

	if (fd == *watched)
		return 0;
	if (*watched >= 0)
		epoll_ctl(set->epoll_fd, EPOLL_CTL_DEL, *watched, NULL);
	*watched = -1;
	if (fd >= 0 && epoll_ctl(set->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	*watched = fd;
	return 0;
}

/* What link @i has for descriptors, of which joining a group changes one. */
static int watch_one(struct link_set *set, int i)
{
	const struct link *link = set->link[i];
	int err = watch_fd(set, i, &set->watched[i][0], link ? link->fd : -1);

	return err ? err
		   : watch_fd(set, i, &set->watched[i][1], link ? link->more_fd : -1);
}

int link_set_watch(struct link_set *set)
{
	int first = first_link(set), err = 0;

	if (set->epoll_fd < 0 && set->n_links > 1) {
		set->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
		if (set->epoll_fd < 0)
			return -errno;
	}
	if (set->epoll_fd < 0) {
		set->fd = first >= 0 ? set->link[first]->fd : -1;
		set->more_fd = first >= 0 ? set->link[first]->more_fd : -1;
		return 0;
	}
	for (int i = 0; i < LINK_SET_MAX && !err; i++)
		err = watch_one(set, i);
	set->fd = set->epoll_fd;
	set->more_fd = -1;
	return err;
}

/* Before its descriptors are closed, as others may get their numbers. */
static struct link *take_out(struct link_set *set, uint8_t index)
{
	struct link *link = set->link[index];

	set->link[index] = NULL;
	set->n_links--;
	set->held &= ~(1u << index);
	if (set->current == index)
		set->current = first_link(set);
	link_set_watch(set);
	return link;
}

int link_set_add(struct link_set *set, uint8_t index, struct link *link)
{
	int err;

	set->link[index] = link;
	set->n_links++;
	if (set->current < 0)
		set->current = index;
	err = link_set_watch(set);
	if (err) {
		take_out(set, index);
		return err;
	}
	link_set_rejoin(set);
	return 0;
}

static void add_stats(struct link_stats *sum, const struct link_stats *stats)
{
#define X(counter) sum->counter += stats->counter;
	LINK_COUNTERS(X)
#undef X
}

void link_set_remove(struct link_set *set, uint8_t index)
{
	struct link *link = take_out(set, index);

	add_stats(&set->gone, &link->stats);
	link_set_groups_lose(set, link);
	link_close(link);
}

struct link *link_set_link(const struct link_set *set, uint8_t index)
{
	return set->link[index];
}

int link_set_fd(const struct link_set *set)
{
	return set->fd;
}

int link_set_more_fd(const struct link_set *set)
{
	return set->more_fd;
}

struct link_stats link_set_stats(const struct link_set *set)
{
	struct link_stats sum = set->gone;

	for (int i = 0; i < LINK_SET_MAX; i++) {
		if (set->link[i])
			add_stats(&sum, &set->link[i]->stats);
	}
	return sum;
}
