/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table of connections: a file that is mapped by a process, its forked children and
 * what these exec. See conn_priv.h.
 */
#include "conn_priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "family.h"
#include "real.h"

struct conn *conns;
struct conn_local *conn_locals;
static int arena_fd = -1;
static _Atomic uint32_t lowest;	  /* no slot below is free, mostly */
static _Atomic uint32_t conn_top; /* no slot from here on was ever used by us */

static void *table(size_t size, int flags)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static_assert(CONNS_MAX <= FAMILY_THINGS, "each has its bit");

/* What is in the file. */
struct arena {
	struct conn conns[CONNS_MAX];
	struct family family;
};

/* One process less has it. A race about lowest only makes a slot wait for longer. */
static void slot_lost(uint32_t index)
{
	atomic_fetch_sub(&conns[index].holders, 1);
	if (index < atomic_load(&lowest))
		atomic_store(&lowest, index);
}

static int arena_map(int fd)
{
	size_t size = sizeof(struct arena);
	struct arena *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	conns = p->conns;
	family_open(&p->family, fd, slot_lost);
	arena_fd = fd;
	return 0;
}

/* A file, so that a program that replaces this one can have it. */
static int arena_make(void)
{
	int fd = memfd_create("vrdma-conns", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, sizeof(struct arena)))
		return -ENOMEM;
	fd = fdtab_protect(fd);
	return fd < 0 ? -ENOMEM : arena_map(fd);
}

static pthread_once_t first = PTHREAD_ONCE_INIT;
static void make_first(void);

static void tables_make(void)
{
	if (conns)
		return; /* adopted */
	conn_locals = table(CONNS_MAX * sizeof(*conn_locals), MAP_PRIVATE);
	if (conn_locals && !arena_make())
		shring_ring_hook = conn_bell_ring;
}

static void slot_clear(struct conn *c)
{
	uint32_t generation = c->generation, holders = c->holders;

	memset((void *)c, 0, sizeof(*c));
	c->generation = generation + 1;
	c->holders = holders;
	conn_locals[conn_index(c)].memory_fd[0] = -1;
	conn_locals[conn_index(c)].memory_fd[1] = -1;
}

void conn_slot_used(uint32_t index)
{
	conn_top = MAX(conn_top, index + 1);
}

static struct conn *slot_take(void)
{
	uint32_t none;

	for (uint32_t i = atomic_load(&lowest); i < CONNS_MAX; i++) {
		struct conn *c = &conns[i];

		none = 0;
		if (!atomic_load(&c->holders) &&
			atomic_compare_exchange_strong(&c->holders, &none, 1)) {
			atomic_store(&lowest, i + 1);
			conn_slot_used(i);
			slot_clear(c);
			family_take(i);
			return c;
		}
	}
	return NULL;
}

struct conn *conn_new(void)
{
	struct conn *c;

	pthread_once(&first, make_first);
	if (!conns)
		return NULL;
	c = slot_take();
	if (unlikely(!c)) {
		family_bury_all();
		c = slot_take();
	}
	return c;
}

void conn_slot_release(struct conn *c)
{
	family_give(conn_index(c));
	slot_lost(conn_index(c));
}

bool conn_is_last_holder(struct conn *c)
{
	if (atomic_load(&c->holders) > 1)
		family_bury(conn_index(c));
	return atomic_load(&c->holders) == 1;
}

void conn_free(struct conn *c)
{
	conn_ring_unmap(c);
	conn_slot_release(c);
}

void conn_leave_all(void)
{
	for (uint32_t i = 0; i < conn_top; i++) {
		if (!atomic_exchange(&conn_locals[i].n_fds, 0))
			continue;
		fdtab_set(atomic_load(&conn_locals[i].fd),
			(struct fdent){.kind = FD_KERNEL});
		conn_slot_release(&conns[i]);
	}
	family_leave();
}

void conn_forked(void)
{
	family_forked();
	for (uint32_t i = 0; i < conn_top; i++) {
		if (atomic_load(&conn_locals[i].n_fds))
			family_take(i);
	}
}

void conn_hold_all(uint32_t add)
{
	for (uint32_t i = 0; i < conn_top; i++) {
		if (atomic_load(&conn_locals[i].n_fds))
			atomic_fetch_add(&conns[i].holders, add);
	}
}

/* -- exec */

uint32_t conn_count(void)
{
	return atomic_load(&conn_top);
}

uint32_t conn_n_held(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < conn_top; i++)
		n += atomic_load(&conn_locals[i].n_fds) != 0;
	return n;
}

int conn_arena_fd(void)
{
	return arena_fd;
}

int conn_adopt_arena(int fd)
{
	conn_locals = table(CONNS_MAX * sizeof(*conn_locals), MAP_PRIVATE);
	if (!conn_locals || arena_map(fd))
		return -ENOMEM;
	shring_ring_hook = conn_bell_ring;
	fdtab_set(fd, (struct fdent){.kind = FD_OURS});
	return 0;
}

/* What make_first() is to take. */
static __thread int offered = -1;

static void make_first(void)
{
	int copy = offered < 0 ? -1 : real.fcntl64(offered, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		tables_make();
	else if (!conns)
		conn_adopt_arena(fdtab_protect(copy));
	else
		family_close(copy);
}

bool conn_join_arena(int fd)
{
	struct stat theirs, ours;

	if (fstat(fd, &theirs) || theirs.st_size != sizeof(struct arena))
		return false;
	offered = fd;
	pthread_once(&first, make_first);
	offered = -1;
	return conns && !fstat(arena_fd, &ours) && ours.st_ino == theirs.st_ino &&
	       ours.st_dev == theirs.st_dev;
}

void conn_hold(uint32_t index, bool one_more)
{
	if (one_more)
		atomic_fetch_add(&conns[index].holders, 1);
	else
		slot_lost(index);
}

void conn_adopt_or_leave(uint32_t index)
{
	if (index < CONNS_MAX && !atomic_load(&conn_locals[index].n_fds))
		conn_slot_release(&conns[index]);
}
