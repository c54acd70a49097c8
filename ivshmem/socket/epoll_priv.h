/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files about epoll sets share:
 *
 *     epoll_set.c    sets, their members, epoll_ctl()
 *     epoll_tell.c   what there is to tell of members
 *     epoll_wait.c   sleeping, epoll_wait()
 *
 * The program's own set keeps what is the kernel's. Connections are members of a record
 * of ours, and of a second kernel set, the inner one, in which also the program's is. Who
 * waits sleeps on the inner one.
 *
 * A member is hot or cold. Hot ones are looked at in user space by each epoll_wait().
 * Before it sleeps, hot ones that have nothing to tell get their tickets armed and are
 * cold: they cost nothing until their bell rings, which the inner set tells (edge by
 * edge). So what a call costs depends on how many are active, not on how many there are.
 *
 * Programs that take turns at reading and writing take a connection out of the set and
 * put it in again for each message. So who is taken out stays in the inner set, absent,
 * until its bell rings or the descriptor is closed.
 *
 * Sockets that may become connections are recorded as well, so that they can change over
 * when they do. What is here is of this process; a child that changes a set that it
 * shares with its parent changes the kernel's part alone.
 *
 * Locking: a set's lock guards it and its members.
 */
#ifndef IVSHMEM_SOCKET_EPOLL_PRIV_H
#define IVSHMEM_SOCKET_EPOLL_PRIV_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "fdtab.h"

#define EPOLL_TAG_PROGRAM (-1) /* of the program's set in the inner one */
#define EPOLL_TAG_KICK	  (-2)
/* what are no events in epoll_event.events */
#define EPOLL_FLAGS (EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP)

struct member {
	struct member *next_hot, **hot_link; /* hot_link: NULL: cold */
	int fd;
	bool is_conn;
	bool absent; /* taken out by the program; a connection, cold */
	bool armed;  /* counted in the connection's watched */
	bool off;    /* EPOLLONESHOT has been told */
	struct fdent e;
	struct epoll_event event; /* the program's */
	/* EPOLLET: what was told last */
	bool fresh;
	uint32_t told_mask;
	uint32_t told_head;
	uint32_t told_full;
	uint32_t told_end;
};

struct set {
	pthread_mutex_t lock;
	uint32_t n_fds; /* 0: free */
	uint32_t generation;
	int outer; /* the program's */
	int inner; /* -1: no connection was ever in it */
	int kick;
	uint32_t sleepers;
	uint32_t direct;   /* threads that wait for the program's set itself */
	uint64_t asked_ns; /* when the kernel was asked last */
	uint64_t spin_ns;
	struct member **members; /* by descriptor */
	int n_members;		 /* length of the array */
	struct member *hot;
};

/* epoll_set.c */
struct set *epoll_set(struct fdent e);
/* NULL: it is not in the set, and not absent either */
struct member *epoll_member(const struct set *s, int fd);
/* The end of one that is absent. */
void epoll_forget(struct set *s, struct member *m);
void epoll_make_hot(struct set *s, struct member *m);
void epoll_make_cold(struct member *m);

/* epoll_tell.c */
/* Events of @m to tell, 0: none now */
uint32_t epoll_look_at(struct member *m);
/* Of a member with EPOLLET: has something come since the last event was told? */
bool epoll_is_news(const struct member *m, uint32_t mask);
/* Tell what the hot ones have. Return: how many events */
int epoll_look(struct set *s, struct epoll_event *events, int max);

#endif
