/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Asking the directory of the region (docs/socket-shim.md, section 3). One connection per
 * process, made when it is first needed. Any thread.
 */
#ifndef IVSHMEM_SOCKET_DIRCLIENT_H
#define IVSHMEM_SOCKET_DIRCLIENT_H

#include <stdbool.h>

#include "ivshmem/dirproto.h"

/** dirclient_init() - take the region from the environment */
void dirclient_init(void);

/** dirclient_is_on() - is there a region to ask? */
bool dirclient_is_on(void);

/** dirclient_ask() - one request, one answer
 * @fds:     borrowed; @n_fds go with it
 * @out_fds: NULL, or set to the DIR_REPLY_FDS_MAX descriptors that came with the answer,
 *           -1: none
 * Return: the answer's error, or why there is none: -ENOTCONN: it was not asked; -EPIPE:
 * DIR_ACCEPT was asked, and it ended before the answer came
 */
int dirclient_ask(struct dir_request *request, const int *fds, int n_fds,
	struct dir_reply *reply, int *out_fds);

/** dirclient_session() - a number that is another one when the directory was lost and
 * found again, and has forgotten what it was told
 */
uint32_t dirclient_session(void);

/** dirclient_forked() - in the child: the connection is the parent's */
void dirclient_forked(void);

/** dirclient_fork_lock() - before, after: no thread is in the middle of asking */
void dirclient_fork_lock(bool take);

#endif
