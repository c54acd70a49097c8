/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory of connections' rings, and their bells. See conn_priv.h.
 */
#include "conn_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "real.h"

#define SIZE_VARIABLE "VRDMA_SOCKET_BUFFER"
#define SIZE_DEFAULT  (256u << 10)

/* The bell: a byte on the shadow. If it takes no more the peer has many to read. */
void conn_bell_ring(void *arg, enum shring_dir dir)
{
	/* 0 would be no argument */
	const struct conn *c = &conns[(uintptr_t)arg - 1];
	int fd = atomic_load(&conn_locals[conn_index(c)].fd), saved = errno;

	if (!c->silent)
		real.send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	errno = saved;
}

static uint32_t ring_size(void)
{
	const char *text = getenv(SIZE_VARIABLE);
	unsigned long size = text ? strtoul(text, NULL, 10) : 0;

	if (!size)
		return SIZE_DEFAULT;
	size = MIN(MAX(size, SHRING_SIZE_MIN), SHRING_SIZE_MAX);
	return round_up_pow2((uint32_t)size);
}

/* Keeps a copy of the descriptor, for exec. */
static int ring_map(struct conn *c, int memory, size_t size)
{
	int copy = real.fcntl64(memory, F_DUPFD_CLOEXEC, 0);
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);

	c->memory_fd = copy < 0 ? -1 : fdtab_protect(copy);
	if (p == MAP_FAILED)
		return -ENOMEM;
	c->base = p;
	c->size = size;
	return 0;
}

int conn_create_ring(struct conn *c)
{
	const struct shring_bell bell = {.arg = (void *)(uintptr_t)(conn_index(c) + 1)};
	uint32_t size = ring_size();
	size_t area = shring_area_size(size, size);
	int fd = memfd_create("vrdma-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING), rc;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)area) ||
		real.fcntl64(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		rc = -errno;
	else
		rc = ring_map(c, fd, area);
	if (!rc)
		rc = shring_create(&c->ring, c->base, area, size, size, &bell);
	if (!rc)
		return fd;
	real.close(fd);
	return rc;
}

int conn_attach_ring(struct conn *c, int memory)
{
	const struct shring_bell bell = {.arg = (void *)(uintptr_t)(conn_index(c) + 1)};
	size_t most = shring_area_size(SHRING_SIZE_MAX, SHRING_SIZE_MAX);
	int seals = real.fcntl64(memory, F_GET_SEALS), rc;
	struct stat st;

	/* It must be so that it can't be taken away from under us. */
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(memory, &st) ||
		st.st_size <= 0 || (uint64_t)st.st_size > most)
		return -EPROTO;
	rc = ring_map(c, memory, (size_t)st.st_size);
	return rc ? rc : shring_attach(&c->ring, c->base, c->size, &bell);
}

void conn_ring_unmap(struct conn *c)
{
	if (c->base)
		munmap(c->base, c->size);
	if (c->memory_fd >= 0)
		fdtab_release(c->memory_fd);
}

bool conn_ring_map_again(const struct conn *c)
{
	return mmap(c->base, c->size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED_NOREPLACE, c->memory_fd,
		       0) == (void *)c->base;
}
