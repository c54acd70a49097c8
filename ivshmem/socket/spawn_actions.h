/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What posix_spawn() is to do with descriptors, for those that we start ourselves.
 */
#ifndef IVSHMEM_SOCKET_SPAWN_ACTIONS_H
#define IVSHMEM_SOCKET_SPAWN_ACTIONS_H

#include <spawn.h>

struct spawn_actions;

/** spawn_actions_of() - what the program has put there; NULL: nothing */
const struct spawn_actions *spawn_actions_of(const posix_spawn_file_actions_t *of);

/** spawn_actions_run() - do it, in the child. Return: 0, or -1 with errno */
int spawn_actions_run(const struct spawn_actions *s);

#endif
