/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Multicast groups (specification 10.5): which UD queue pairs get a copy of what is sent
 * to a group. That the link gets these packets is its owner's business (rdma/io/link.h,
 * join()).
 *
 * A queue pair that sends to a group it is attached to gets a copy as well, as with NICs.
 *
 * Locking: as engine.h.
 */
#ifndef RDMA_ENGINE_MCAST_H
#define RDMA_ENGINE_MCAST_H

#include <stdbool.h>
#include <stdint.h>

#define MCAST_GROUP_MAX 256 /* groups of an engine */
#define MCAST_QP_MAX	256 /* queue pairs of a group */

struct engine;
struct qp;

/** mcast_attach() - let a queue pair have what is sent to @gid; to do so again changes
 * nothing
 * Return: 0, -EINVAL (it is not UD), -ENOMEM (one of the limits, or no memory)
 */
int mcast_attach(struct engine *e, struct qp *qp, const uint8_t gid[16]);

/** mcast_detach() - Return: 0, or -EINVAL: it is not attached */
int mcast_detach(struct engine *e, struct qp *qp, const uint8_t gid[16]);

/** mcast_has_group() - is any queue pair attached to @gid? */
bool mcast_has_group(const struct engine *e, const uint8_t gid[16]);

#endif
