/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * epoll sets that have connections in them. See epoll_priv.h.
 */
#ifndef IVSHMEM_SOCKET_EPOLL_H
#define IVSHMEM_SOCKET_EPOLL_H

#include <stdbool.h>
#include <stdint.h>

#include "fdtab.h"

/** epoll_fd_closed() - @fd, which is @e, is about to be closed: it leaves all sets unless
 * the process has a duplicate
 */
void epoll_fd_closed(int fd, struct fdent e);

/** epoll_fd_is_conn() - @fd, which may be in sets, has become a connection */
void epoll_fd_is_conn(int fd);

/** epoll_bell_taken() - bells of @fd, which is @e, were heard by somebody else */
void epoll_bell_taken(int fd, struct fdent e);

/** epoll_set_closed() - @fd, a set, is about to be closed */
void epoll_set_closed(int fd, struct fdent e);

/** epoll_set_dup() - @to is the same set */
void epoll_set_dup(struct fdent e, int to);

/** epoll_set_look() - for poll() of a set's descriptor
 * @inner: set to the descriptor to wait for in its place, or -1: only the set itself
 * @until: made earlier if it's to be looked at again by then; 0: never
 * Return: is something in it ready?
 */
bool epoll_set_look(struct fdent e, int *inner, uint64_t *until);

#endif
