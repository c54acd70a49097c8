/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A region's uplinks begin and end.
 */
#include "ivshmem/guest/uplinks_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "ivshmem/guest/channel.h"
#include "lib/util.h"

#define FDS_OF_GUEST  4 /* listener, its lock, the uplink, its process */
#define SMALLEST_RING (128u << 10)

static_assert(DIR_TOKEN_SIZE == UP_NAME_SIZE, "WELCOME has a name in its token");

uint64_t uplinks_fds_needed(uint32_t n_guests, uint64_t size)
{
	uint64_t rings = MIN(size / SMALLEST_RING, UPLINKS_RINGS_MAX);

	return n_guests ? 2 + (uint64_t)n_guests * FDS_OF_GUEST + rings : 0;
}

/* The first page of the memory tells which it is. */
static int memory_name(struct uplinks *u)
{
	void *p;

	u->map_unit = channel_unit(u->config.memory_fd, u->config.size);
	p = mmap(NULL, u->map_unit, PROT_READ | PROT_WRITE, MAP_SHARED,
		u->config.memory_fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	random_bytes(u->name, sizeof(u->name));
	memcpy(p, u->name, sizeof(u->name));
	munmap(p, u->map_unit);
	return 0;
}

static int guest_open(struct guest *g, struct uplinks *u, const struct guest_config *c)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = &g->as_listener};
	char path[2 * LISTENER_PATH_SIZE];
	int rc;

	g->source = UPLINKS_STREAM;
	g->uplinks = u;
	g->config = c;
	g->as_listener = (struct guest_part){UPLINKS_LISTENER, g};
	g->as_process = (struct guest_part){UPLINKS_PROCESS, g};
	snprintf(path, sizeof(path), "%s.%s" UPLINKS_SUFFIX, u->config.socket, c->name);
	rc = listener_open(
		&g->listener, path, SOCK_STREAM, access_is_private(u->config.access));
	if (!rc && epoll_ctl(u->epoll, EPOLL_CTL_ADD, g->listener.fd, &event))
		rc = -errno;
	return rc;
}

static int guests_open(struct uplinks *u)
{
	int rc = 0;

	u->guests = calloc(u->config.n_guests, sizeof(*u->guests));
	if (!u->guests)
		return -ENOMEM;
	for (uint32_t i = 0; i < u->config.n_guests; i++)
		u->guests[i].sock = u->guests[i].pidfd = u->guests[i].listener.fd = -1;
	for (uint32_t i = 0; i < u->config.n_guests && !rc; i++)
		rc = guest_open(&u->guests[i], u, &u->config.guests[i]);
	return rc;
}

static int loop_open(struct uplinks *u)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = u};

	u->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (u->epoll < 0)
		return -errno;
	u->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (u->timer < 0 || epoll_ctl(u->epoll, EPOLL_CTL_ADD, u->timer, &event))
		return -errno;
	return 0;
}

int uplinks_open(
	struct uplinks **out, const struct uplinks_config *config, struct directory *d)
{
	struct uplinks *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return -ENOMEM;
	u->source = UPLINKS_TIMER;
	u->config = *config;
	u->directory = d;
	u->epoll = u->timer = -1;
	rc = loop_open(u);
	if (!rc)
		rc = areas_init(&u->areas, config->size);
	if (!rc)
		rc = memory_name(u);
	if (!rc)
		rc = guests_open(u);
	if (rc) {
		uplinks_close(u);
		return rc;
	}
	uplinks_serve_natives(u);
	directory_set_elsewhere(d, &u->elsewhere);
	*out = u;
	return 0;
}

static void guest_close(struct guest *g)
{
	if (g->sock >= 0)
		close(g->sock);
	upstream_free(&g->stream);
	guest_session_end(g);
	ends_orphan(g);
	ends_release_orphans(g);
	guest_process_forget(g);
	listener_close(&g->listener);
}

void uplinks_close(struct uplinks *u)
{
	struct ring *r;

	if (!u)
		return;
	for (uint32_t i = 0; u->guests && i < u->config.n_guests; i++)
		guest_close(&u->guests[i]);
	/* What is left is native processes'; these go on. */
	while ((r = LIST_FIRST(&u->open)) || (r = LIST_FIRST(&u->paired))) {
		for (int i = 0; i < 2; i++) {
			if (r->ends[i].lifetime_fd >= 0)
				close(r->ends[i].lifetime_fd);
		}
		ring_drop(r);
	}
	areas_free(&u->areas);
	free(u->guests);
	if (u->timer >= 0)
		close(u->timer);
	if (u->epoll >= 0)
		close(u->epoll);
	free(u);
}
