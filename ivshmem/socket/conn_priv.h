/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files about connections share:
 *
 *     conn_slot.c    the table of them, shared by a process and its children
 *     conn_ring.c    their rings' memory
 *     conn_state.c   their states, and the peer's end (conn.h only)
 *     conn.c         the descriptors that they have in this process
 */
#ifndef IVSHMEM_SOCKET_CONN_PRIV_H
#define IVSHMEM_SOCKET_CONN_PRIV_H

#include "conn.h"

/* conn_slot.c: this process is done with it */
void conn_slot_release(struct conn *c);
/* is it the only one? Those that were killed don't count */
bool conn_is_last_holder(struct conn *c);
/* it has this one now */
void conn_slot_used(uint32_t index);

/* conn_ring.c */
void conn_ring_unmap(struct conn *c);
/* Where a program before mapped it. Return: false if something else is there */
bool conn_ring_map_again(const struct conn *c, int memory_fd);
void conn_memory_close(const int memory_fd[2]);
/* The bell: a byte on the shadow. @arg: 1 + the connection's index */
void conn_bell_ring(void *arg, enum shring_dir dir);

/* conn.c: both locks; @taken: whether it was not this thread's already */
void conn_take_both(struct conn *c, bool taken[2]);
void conn_give_both(struct conn *c, const bool taken[2]);

#endif
