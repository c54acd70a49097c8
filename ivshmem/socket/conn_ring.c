/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory of connections' rings, and their bells. See conn_priv.h.
 */
#include "conn_priv.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "real.h"

#define PLACE_FIRST ((uintptr_t)0x100000000000)
#define PLACE_RANGE ((uintptr_t)0x400000000000)
#define PLACE_UNIT  ((uintptr_t)0x10000) /* the largest page */

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

/* Another process that is to have the ring must have the same place free: so it's one
 * that few things are at, and not the same one in every program.
 */
static void *place_for(size_t size)
{
	static _Atomic uintptr_t next;
	uintptr_t none = 0, start;

	if (!atomic_load(&next)) {
		random_bytes(&start, sizeof(start));
		start = PLACE_FIRST + start % PLACE_RANGE / PLACE_UNIT * PLACE_UNIT;
		atomic_compare_exchange_strong(&next, &none, start);
	}
	size = (size + PLACE_UNIT - 1) / PLACE_UNIT * PLACE_UNIT;
	return (void *)atomic_fetch_add(&next, size);
}

/* The descriptors stay, for exec, and for the directory to know. Return: the channel */
static void *ring_map(struct conn *c, const struct dir_memory *m, const int *fds)
{
	struct conn_local *local = &conn_locals[conn_index(c)];
	void *p = mmap(place_for(m->map_size), m->map_size, PROT_READ | PROT_WRITE,
		MAP_SHARED, fds[0], (off_t)m->map_offset);

	local->memory_fd[0] = fdtab_protect(fds[0]);
	local->memory_fd[1] = fds[1] < 0 ? -1 : fdtab_protect(fds[1]);
	c->is_far = fds[1] >= 0;
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
	struct conn_local *local = &conn_locals[conn_index(c)];

	if (c->base)
		munmap(c->base, c->size);
	conn_memory_close(local->memory_fd);
	local->memory_fd[0] = local->memory_fd[1] = -1;
}

void conn_memory_close(const int memory_fd[2])
{
	for (int i = 0; i < 2; i++) {
		if (memory_fd[i] >= 0)
			fdtab_release(memory_fd[i]);
	}
}

bool conn_ring_map_again(const struct conn *c, int memory_fd)
{
	return mmap(c->base, c->size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED_NOREPLACE, memory_fd,
		       (off_t)c->map_offset) == (void *)c->base;
}
