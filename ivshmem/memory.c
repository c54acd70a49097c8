/* SPDX-License-Identifier: BSD-3-Clause */
#include "ivshmem/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* Allocate all of @size; a signal must not leave it half done. */
static int allocate(int fd, uint64_t size)
{
	int rc;

	if (ftruncate(fd, (off_t)size))
		return -errno;
	do {
		rc = fallocate(fd, 0, 0, (off_t)size);
	} while (rc && errno == EINTR);
	return rc ? -errno : 0;
}

/* Not to be written to is no seal for us: the clients write. */
static int seal(int fd)
{
	return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) ? -errno
										 : 0;
}

static int create(int *out, const char *name, uint64_t size, unsigned flags)
{
	char shown[256];
	int fd, rc;

	snprintf(shown, sizeof(shown), "ivshmem-%s", name);
	fd = memfd_create(shown, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
	if (fd < 0)
		return -errno;
	rc = allocate(fd, size);
	if (!rc)
		rc = seal(fd);
	if (rc) {
		close(fd);
		return rc;
	}
	*out = fd;
	return 0;
}

int memory_create(
	int *fd, bool *is_huge, const char *name, uint64_t size, enum memory_huge huge)
{
	int rc;

	*is_huge = false;
	if (huge != MEMORY_HUGE_NEVER) {
		/* Fails when size is no multiple, or when too few are free. */
		rc = create(fd, name, size, MFD_HUGETLB);
		*is_huge = rc == 0;
		if (!rc || huge == MEMORY_HUGE_ALWAYS)
			return rc;
	}
	return create(fd, name, size, 0);
}

int memory_create_channel(int *out, uint64_t size)
{
	int fd = memfd_create("vrdma-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING), rc;

	if (fd < 0)
		return -errno;
	rc = ftruncate(fd, (off_t)size) ? -errno : seal(fd);
	if (rc)
		close(fd);
	else
		*out = fd;
	return rc;
}
