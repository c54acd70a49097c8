/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The TCP connection between the two sides of a benchmark: who listens is the server, the
 * other the client, which measures. Its end also ends the run.
 */
#ifndef BENCH_TOOLS_PAIR_H
#define BENCH_TOOLS_PAIR_H

#include <stdbool.h>
#include <stddef.h>

/** pair_open() - meet the other side; ends the program when that does not work
 * @local: own address, numeric
 * @peer:  the server's address, or NULL: be the server
 */
int pair_open(const char *local, const char *peer);

/** pair_exchange() - give @mine, get @theirs: plain bytes, as both are one program */
void pair_exchange(int fd, const void *mine, void *theirs, size_t size);

/** pair_barrier() - both sides are there when this returns */
void pair_barrier(int fd);

/** pair_ended() - has the other side gone? A system call. */
bool pair_ended(int fd);

#endif
