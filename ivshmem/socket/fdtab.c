/* SPDX-License-Identifier: BSD-3-Clause */
#include "fdtab.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "real.h"

_Atomic uint64_t *fdtab;

void fdtab_init(void)
{
	void *p = mmap(NULL, FDTAB_SIZE * sizeof(*fdtab), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	fdtab = p == MAP_FAILED ? NULL : p;
}

static _Atomic int top;

int fdtab_top(void)
{
	return atomic_load(&top);
}

void fdtab_set(int fd, struct fdent e)
{
	union fdword w = {.e = e};
	int seen;

	if ((unsigned)fd >= FDTAB_SIZE || !fdtab)
		return;
	seen = atomic_load(&top);
	while (e.kind == FD_CONN && fd > seen &&
		!atomic_compare_exchange_weak(&top, &seen, fd))
		;
	atomic_store(&fdtab[fd], w.word);
}

/* Programs count on getting the lowest free number, and select() on small ones. */
int fdtab_protect(int fd)
{
	struct rlimit limit;
	int from = 512, moved;

	if (!getrlimit(RLIMIT_NOFILE, &limit))
		from = (int)MIN(limit.rlim_cur, FDTAB_SIZE) / 4 * 3;
	moved = real.fcntl64(fd, F_DUPFD_CLOEXEC, from);
	real.close(fd);
	if (moved >= 0)
		fdtab_set(moved, (struct fdent){.kind = FD_OURS});
	return moved;
}

void fdtab_release(int fd)
{
	fdtab_set(fd, (struct fdent){.kind = FD_KERNEL});
	real.close(fd);
}
