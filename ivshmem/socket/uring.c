/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * io_uring: the kernel would receive and send on connections' shadows, past the rings. So
 * in a program that has a region there is no io_uring, as on a kernel without it, which
 * programs are prepared for: by libc's syscall(), and by liburing's functions, as these
 * make the system calls themselves.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "dirclient.h"
#include "real.h"

struct io_uring;
struct io_uring_params;
struct io_uring_probe;

/* Not as in <unistd.h>: without a variable list it's a jump, which leaves no trace on the
 * stack, for system calls that return twice.
 */
EXPORT long any_syscall(
	long number, long a, long b, long c, long d, long e, long f) __asm__("syscall");

EXPORT long any_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	if (unlikely(number == SYS_io_uring_setup && dirclient_is_on())) {
		errno = ENOSYS;
		return -1;
	}
	return real.syscall(number, a, b, c, d, e, f);
}

/* liburing's own, if it's there and may be used. */
static void *liburing(const char *name)
{
	return dirclient_is_on() ? NULL : dlsym(RTLD_NEXT, name);
}

#define URING(type, name, types, values, otherwise)    \
	EXPORT type name types;                        \
	EXPORT type name types                         \
	{                                              \
		type(*next) types = liburing(#name);   \
                                                       \
		return next ? next values : otherwise; \
	}

URING(int, io_uring_setup, (unsigned n, struct io_uring_params *p), (n, p), -ENOSYS)
URING(int, io_uring_queue_init, (unsigned n, struct io_uring *ring, unsigned flags),
	(n, ring, flags), -ENOSYS)
URING(int, io_uring_queue_init_params,
	(unsigned n, struct io_uring *ring, struct io_uring_params *p), (n, ring, p),
	-ENOSYS)
URING(int, io_uring_queue_init_mem,
	(unsigned n, struct io_uring *ring, struct io_uring_params *p, void *buf,
		size_t size),
	(n, ring, p, buf, size), -ENOSYS)
URING(struct io_uring_probe *, io_uring_get_probe, (void), (), NULL)
