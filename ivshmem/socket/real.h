/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libc's own functions behind those that the library puts in front of them. Everything in
 * this folder calls the kernel through these, never by the plain name.
 */
#ifndef IVSHMEM_SOCKET_REAL_H
#define IVSHMEM_SOCKET_REAL_H

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "lib/util.h"

#define EXPORT __attribute__((visibility("default")))

#define REAL_FUNCTIONS(X)                                                                \
	X(int, socket, (int, int, int))                                                  \
	X(int, connect, (int, const struct sockaddr *, socklen_t))                       \
	X(int, listen, (int, int))                                                       \
	X(int, accept4, (int, struct sockaddr *, socklen_t *, int))                      \
	X(int, getpeername, (int, struct sockaddr *, socklen_t *))                       \
	X(int, shutdown, (int, int))                                                     \
	X(int, getsockopt, (int, int, int, void *, socklen_t *))                         \
	X(int, setsockopt, (int, int, int, const void *, socklen_t))                     \
	X(ssize_t, read, (int, void *, size_t))                                          \
	X(ssize_t, write, (int, const void *, size_t))                                   \
	X(ssize_t, readv, (int, const struct iovec *, int))                              \
	X(ssize_t, writev, (int, const struct iovec *, int))                             \
	X(ssize_t, recv, (int, void *, size_t, int))                                     \
	X(ssize_t, send, (int, const void *, size_t, int))                               \
	X(ssize_t, recvfrom, (int, void *, size_t, int, struct sockaddr *, socklen_t *)) \
	X(ssize_t, sendto,                                                               \
		(int, const void *, size_t, int, const struct sockaddr *, socklen_t))    \
	X(ssize_t, recvmsg, (int, struct msghdr *, int))                                 \
	X(ssize_t, sendmsg, (int, const struct msghdr *, int))                           \
	X(int, recvmmsg, (int, struct mmsghdr *, unsigned, int, struct timespec *))      \
	X(int, sendmmsg, (int, struct mmsghdr *, unsigned, int))                         \
	X(ssize_t, sendfile, (int, int, off_t *, size_t))                                \
	X(ssize_t, splice, (int, off64_t *, int, off64_t *, size_t, unsigned))           \
	X(int, close, (int))                                                             \
	X(int, close_range, (unsigned, unsigned, int))                                   \
	X(int, dup, (int))                                                               \
	X(int, dup2, (int, int))                                                         \
	X(int, dup3, (int, int, int))                                                    \
	X(int, fcntl64, (int, int, ...))                                                 \
	X(int, ioctl, (int, unsigned long, ...))                                         \
	X(int, ppoll,                                                                    \
		(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *))    \
	X(int, poll, (struct pollfd *, nfds_t, int))                                     \
	X(int, select, (int, fd_set *, fd_set *, fd_set *, struct timeval *))            \
	X(int, pselect,                                                                  \
		(int, fd_set *, fd_set *, fd_set *, const struct timespec *,             \
			const sigset_t *))                                               \
	X(int, epoll_create1, (int))                                                     \
	X(int, epoll_ctl, (int, int, int, struct epoll_event *))                         \
	X(int, epoll_pwait, (int, struct epoll_event *, int, int, const sigset_t *))     \
	X(pid_t, fork, (void))                                                           \
	X(int, fclose, (FILE *))                                                         \
	X(FILE *, fdopen, (int, const char *))                                           \
	X(int, fileno_unlocked, (FILE *))                                                \
	X(int, vdprintf, (int, const char *, va_list))                                   \
	X(int, execvpe, (const char *, char *const *, char *const *))                    \
	X(int, fexecve, (int, char *const *, char *const *))                             \
	X(int, posix_spawn,                                                              \
		(pid_t *, const char *, const posix_spawn_file_actions_t *,              \
			const posix_spawnattr_t *, char *const *, char *const *))        \
	X(int, posix_spawnp,                                                             \
		(pid_t *, const char *, const posix_spawn_file_actions_t *,              \
			const posix_spawnattr_t *, char *const *, char *const *))        \
	X(int, posix_spawn_file_actions_init, (posix_spawn_file_actions_t *))            \
	X(int, posix_spawn_file_actions_destroy, (posix_spawn_file_actions_t *))         \
	X(int, posix_spawn_file_actions_addopen,                                         \
		(posix_spawn_file_actions_t *, int, const char *, int, mode_t))          \
	X(int, posix_spawn_file_actions_addclose, (posix_spawn_file_actions_t *, int))   \
	X(int, posix_spawn_file_actions_adddup2,                                         \
		(posix_spawn_file_actions_t *, int, int))                                \
	X(int, posix_spawn_file_actions_addchdir_np,                                     \
		(posix_spawn_file_actions_t *, const char *))                            \
	X(int, posix_spawn_file_actions_addfchdir_np,                                    \
		(posix_spawn_file_actions_t *, int))                                     \
	X(int, posix_spawn_file_actions_addclosefrom_np,                                 \
		(posix_spawn_file_actions_t *, int))                                     \
	X(int, posix_spawn_file_actions_addtcsetpgrp_np,                                 \
		(posix_spawn_file_actions_t *, int))                                     \
	X(long, syscall, (long, long, long, long, long, long, long))                     \
	X(int, system, (const char *))                                                   \
	X(FILE *, popen, (const char *, const char *))                                   \
	X(int, pclose, (FILE *))                                                         \
	X(int, execve, (const char *, char *const *, char *const *))

struct real {
#define X(type, name, args) type(*name) args;
	REAL_FUNCTIONS(X)
#undef X
};

extern struct real real;

/** real_init() - find them; before anything else, and more than once does no harm */
void real_init(void);

#endif
