/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory of connections' rings, and their bells. See conn_priv.h.
 */
#include "conn_priv.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "real.h"

/* The bell: a byte on the shadow. If it takes no more the peer has many to read. */
void conn_bell_ring(void *arg, enum shring_dir dir)
{
	/* 0 would be no argument */
	struct conn *c = &conns[(uintptr_t)arg - 1];
	int fd = atomic_load(&conn_locals[conn_index(c)].fd), saved = errno;

	if (!c->silent && real.send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
		errno != EPIPE)
		conn_shadow_failed(c, errno);
	errno = saved;
}

/* The descriptors stay, for exec, and for the directory to know. Return: the channel */
static void *ring_map(struct conn *c, const struct dir_memory *m, const int *fds)
{
	void *p = mmap(NULL, m->map_size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0],
		(off_t)m->map_offset);

	c->memory_fd = fdtab_protect(fds[0]);
	c->lifetime_fd = fds[1] < 0 ? -1 : fdtab_protect(fds[1]);
	if (p == MAP_FAILED)
		return NULL;
	c->base = p;
	c->size = m->map_size;
	c->map_offset = m->map_offset;
	return c->base + (m->offset - m->map_offset);
}

int conn_create_ring(struct conn *c, const uint32_t size[2],
	const struct dir_memory *memory, const int *fds)
{
	const struct shring_bell bell = {.arg = (void *)(uintptr_t)(conn_index(c) + 1)};
	void *channel = ring_map(c, memory, fds);

	return channel ? shring_create(
				 &c->ring, channel, memory->size, size[0], size[1], &bell)
		       : -ENOMEM;
}

int conn_attach_ring(struct conn *c, const struct dir_memory *memory, const int *fds)
{
	const struct shring_bell bell = {.arg = (void *)(uintptr_t)(conn_index(c) + 1)};
	void *channel = ring_map(c, memory, fds);

	return channel ? shring_attach(&c->ring, channel, memory->size, &bell) : -ENOMEM;
}

void conn_ring_unmap(struct conn *c)
{
	if (c->base)
		munmap(c->base, c->size);
	if (c->memory_fd >= 0)
		fdtab_release(c->memory_fd);
	if (c->lifetime_fd >= 0)
		fdtab_release(c->lifetime_fd);
}

bool conn_ring_map_again(const struct conn *c)
{
	return mmap(c->base, c->size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED_NOREPLACE, c->memory_fd,
		       (off_t)c->map_offset) == (void *)c->base;
}
