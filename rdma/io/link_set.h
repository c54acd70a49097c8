/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The links of a device that has several addresses: a link for each, by the index of its
 * address in the GID table. They come and go while others carry packets.
 *
 * Packets leave by the link that their sgid_index says. One link at a time is received
 * from, the one that had packets last, as a look at all of them costs a system call; that
 * is taken once in a while. A set of one link costs what the link does.
 *
 * Locking: as link.h says. link_set_add(), _remove(), _join(), _leave(): nobody may send
 * or receive meanwhile; a thread that waits for the descriptor is to be woken.
 */
#ifndef RDMA_IO_LINK_SET_H
#define RDMA_IO_LINK_SET_H

#include "link.h"

#define LINK_SET_MAX 32

struct link_set;

/** link_set_create() - an empty set. Return: 0 or -ENOMEM */
int link_set_create(struct link_set **out);

/** link_set_destroy() - with the links that are in it */
void link_set_destroy(struct link_set *set);

/** link_set_add() - put a link in
 * @link: consumed on success
 * @index: below LINK_SET_MAX, and free
 * Return: 0, -EMFILE, -ENFILE or -ENOMEM
 */
int link_set_add(struct link_set *set, uint8_t index, struct link *link);

/** link_set_remove() - close the link of an index. Groups that were joined through it are
 * joined through another one of its IP version, if there is any, or the next that comes.
 */
void link_set_remove(struct link_set *set, uint8_t index);

/** link_set_link() - the link of an index, or NULL */
struct link *link_set_link(const struct link_set *set, uint8_t index);

/** link_set_send(), _expect(), _recv() - as struct link_ops says. A packet from an index
 * that has no link is counted in tx_failed.
 */
void link_set_send(struct link_set *set, const struct link_burst *burst);
void link_set_expect(struct link_set *set, uint8_t index, const uint8_t gid[16]);
int link_set_recv(struct link_set *set, struct link_rx *pkts, int max);

/** link_set_holds() - may there be packets that the descriptor does not tell of? As who
 * receives.
 */
bool link_set_holds(const struct link_set *set);

/** link_set_join(), _leave() - as struct link_ops says, by any link of @gid's IP version
 * Return: also -EINVAL if there is no such link
 */
int link_set_join(struct link_set *set, const uint8_t gid[16]);
void link_set_leave(struct link_set *set, const uint8_t gid[16]);

/** link_set_fd(), _more_fd() - as struct link says; may be called at any time */
int link_set_fd(const struct link_set *set);
int link_set_more_fd(const struct link_set *set);

/** link_set_stats() - the sum over all links, those that were removed too */
struct link_stats link_set_stats(const struct link_set *set);

#endif
