/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Completion channels, and the descriptor of which they consist: what is written to it is
 * read from it, message by message. Linked into the provider, and into the library that
 * vrdma-run preloads.
 */
#ifndef RDMA_PROVIDER_COMP_CHANNEL_H
#define RDMA_PROVIDER_COMP_CHANNEL_H

#include <stdbool.h>
#include <infiniband/verbs.h>

/** event_fd_open() - Return: the descriptor, or a negative errno */
int event_fd_open(void);

/** event_fd_is_ours() - was it made by event_fd_open()? */
bool event_fd_is_ours(int fd);

/** comp_channel_create() - what ibv_create_comp_channel() does for devices of the kernel;
 * ibv_destroy_comp_channel() ends it. NULL and errno on failure.
 */
struct ibv_comp_channel *comp_channel_create(struct ibv_context *ctx);

#endif
