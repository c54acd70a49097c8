/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files about epoll sets share:
 *
 *     epoll_set.c    sets, their members, epoll_ctl()
 *     epoll_tell.c   what there is to tell of members
 *     epoll_wait.c   sleeping, epoll_wait()
 *     epoll_close.c  members whose descriptors are closed
 *     epoll_nested.c sets in sets
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
 * A bell costs its ringer more than a message. So those that had something to tell a
 * short while ago only rest during the sleep: once the first bell has ended it they are
 * hot again, and no more bells are asked for.
 *
 * Programs that take turns at reading and writing take a connection out of the set and
 * put it in again for each message. So who is taken out stays in the inner set, absent,
 * until its bell rings or the descriptor is closed.
 *
 * A set in a set is always hot: what in it is ready is looked at, and armed, with it.
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
#define EPOLL_TAG_ORPHAN  (-3) /* and below */
/* what are no events in epoll_event.events */
#define EPOLL_FLAGS (EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP)

enum heat {
	MEMBER_COLD,
	MEMBER_RESTING,
	MEMBER_HOT,
	N_HEATS,
};

struct member {
	struct member *next, **link; /* in the set's list for its heat; not if cold */
	struct member *next_orphan;
	enum heat heat;
	uint64_t told_ns; /* when something was told last */
	int fd;		  /* one that is open */
	int key;	  /* by which the program put it in */
	int tag;	  /* in the inner set: the key, or an orphan's */
	bool is_conn;
	bool is_set; /* e is another set */
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
	bool looked_at;		   /* poll() or another set may sleep on the inner one */
	uint32_t direct;	   /* threads that wait for the program's set itself */
	_Atomic uint64_t asked_ns; /* when the kernel was asked last */
	_Atomic uint64_t found_ns; /* ... and had something to tell */
	uint64_t cooled_ns;	   /* when the hot ones were gone through last */
	uint64_t spin_ns;
	struct member **members; /* by descriptor */
	int n_members;		 /* length of the array */
	struct member *lists[N_HEATS];
	struct member *orphans;
	int n_orphaned; /* ever */
};

/* epoll_set.c */
struct set *epoll_set(struct fdent e);
/* NULL: it is not in the set, and not absent either */
struct member *epoll_member(const struct set *s, int fd);
/* The end of one that is absent. */
void epoll_forget(struct set *s, struct member *m);
/* @fd < 0 on failure; not yet in the inner set */
struct member *epoll_member_add(struct set *s, int fd);
void epoll_member_remove(struct set *s, struct member *m);
/* Have an inner set. Return: 0 or -ENOMEM */
int epoll_inner_make(struct set *s);
/* Return: 0 or a negative errno */
int epoll_inner_control(
	const struct set *s, int op, const struct member *m, uint32_t events);
/* As the program wants a connection or a set from now on. */
void epoll_wanted(struct set *s, struct member *m, const struct epoll_event *event);
void epoll_each_set(
	void (*call)(struct set *s, int fd, struct fdent e), int fd, struct fdent e);
void epoll_move(struct set *s, struct member *m, enum heat to);
/* It is the kernel's by now: the program's set has it again. */
void epoll_to_kernel(struct set *s, struct member *m);
/* No ticket is needed for it any more. */
void epoll_unwatch(struct member *m);

/* epoll_close.c */
/* Whom the inner set tells of; NULL: it's there no more */
struct member *epoll_by_tag(const struct set *s, int tag);
/* The orphan that was put in as @fd, if this is the same again: none any more */
struct member *epoll_bring_home(struct set *s, int fd, struct fdent e);

/* epoll_nested.c; with the lock of the set that the other is in */
int epoll_nested_add(
	struct set *s, int fd, struct fdent e, const struct epoll_event *event);
/* Is there something to tell of it? Not forgotten by asking. @until: as conn_limit() */
bool epoll_nested_is_news(const struct member *m, uint64_t *until);
uint32_t epoll_nested_look(struct member *m);

/* epoll_tell.c */
/* Events of @m to tell, 0: none now */
uint32_t epoll_look_at(struct member *m);
/* Of a member with EPOLLET: has something come since the last event was told? */
bool epoll_is_news(const struct member *m, uint32_t mask);
/* A number that changes when the peers of its connections do something */
uint32_t epoll_stamp(const struct set *s);
/* Tell what the hot ones have. Return: how many events */
int epoll_look(struct set *s, struct epoll_event *events, int max);

#endif
