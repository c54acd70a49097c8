/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parts of a set of links: who is in it (link_set.c), sending and receiving
 * (link_set_io.c), multicast groups (link_set_group.c).
 */
#ifndef RDMA_IO_LINK_SET_PRIV_H
#define RDMA_IO_LINK_SET_PRIV_H

#include <stdatomic.h>

#include "link_set.h"
#include "lib/util.h"

/* A group that the set is to be in. */
struct link_set_group {
	struct link_set_group *next;
	uint8_t gid[16];
	struct link *by; /* which joined it; NULL: none can at present */
};

struct link_set {
	struct link *link[LINK_SET_MAX]; /* NULL: none */
	int n_links;
	struct link_set_group *groups;
	struct link_stats gone; /* of links that were removed, and of no link */

	/* What tells of packets: the one link's descriptors, or from the second link on
	 * always epoll_fd. */
	_Atomic int fd, more_fd;
	int epoll_fd;		      /* or -1 */
	int watched[LINK_SET_MAX][2]; /* what it watches of each link, or -1 */

	int current;   /* that is received from; -1: there is none */
	uint32_t held; /* a bit for each link that may have what no descriptor tells of */
	uint32_t n_recvs;

	struct link_burst part; /* of a burst: the packets of one link */
};

/* link_set.c: tell what links' descriptors are now. Return: 0 or negative errno */
int link_set_watch(struct link_set *set);

/* link_set_group.c */
/* Join what no link has joined. */
void link_set_rejoin(struct link_set *set);
/* @link goes. */
void link_set_groups_lose(struct link_set *set, const struct link *link);
void link_set_groups_free(struct link_set *set);

#endif
