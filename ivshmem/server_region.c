/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Regions are made and removed. Neighbour: server.c.
 */
#include "ivshmem/server_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ivshmem/dirproto.h"

#define FDS_OF_REGION  3  /* listener, lock, memory */
#define FDS_OF_PROCESS 3  /* its connection, and an offer at a time */
#define FDS_OF_OTHERS  64 /* epoll, timer, and whatever else the process has */

static struct region **region_find(const struct server *s, const char *name)
{
	for (uint32_t i = 0; i < s->n_regions; i++) {
		if (!strcmp(s->regions[i]->config.name, name))
			return (struct region **)&s->regions[i];
	}
	return NULL;
}

static uint64_t fds_needed(const struct region_config *config)
{
	uint64_t n =
		FDS_OF_REGION + (uint64_t)config->max_peers * (1 + config->n_vectors);

	if (config->n_processes)
		n += FDS_OF_REGION + (uint64_t)config->n_processes * FDS_OF_PROCESS;
	n += uplinks_fds_needed(config->n_guests, config->size);
	return n;
}

/* Would the clients of all regions get by with the descriptors that we may have? */
static bool fds_suffice(const struct server *s, const struct region_config *added)
{
	uint64_t n = FDS_OF_OTHERS + fds_needed(added);
	struct rlimit limit;

	for (uint32_t i = 0; i < s->n_regions; i++)
		n += fds_needed(&s->regions[i]->config);
	return !getrlimit(RLIMIT_NOFILE, &limit) && n <= limit.rlim_cur;
}

static int region_admissible(const struct server *s, const struct region_config *config)
{
	if (region_config_check(config))
		return -EINVAL;
	if (region_find(s, config->name))
		return -EEXIST;
	if (s->n_regions == SERVER_REGIONS_MAX)
		return -ENOSPC;
	/* No sum is above the limit, so the difference is not negative. */
	if (config->size > s->config.memory_max - s->memory)
		return -EDQUOT;
	return fds_suffice(s, config) ? 0 : -EMFILE;
}

static void region_free(struct region *r)
{
	if (r->memory_fd >= 0)
		close(r->memory_fd);
	free(r->peers);
	free(r);
}

static int region_create(
	struct region **out, struct server *s, const struct region_config *config)
{
	struct region *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return -ENOMEM;
	r->kind = SOURCE_LISTENER;
	r->server = s;
	r->config = *config;
	if (!*r->config.tenant)
		memcpy(r->config.tenant, config->name, sizeof(config->name));
	r->memory_fd = -1;
	r->peers = calloc(config->max_peers, sizeof(struct peer *));
	rc = r->peers ? memory_create(&r->memory_fd, &r->stats.is_huge, config->name,
				config->size, config->huge)
		      : -ENOMEM;
	if (rc)
		region_free(r);
	else
		*out = r;
	return rc;
}

/* The directory for the socket shim, if the region is to have one. */
static int region_directory_open(struct region *r)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = &r->sockets};
	char path[LISTENER_PATH_SIZE + sizeof(DIR_SUFFIX)];
	int rc;

	if (!r->config.n_processes)
		return 0;
	snprintf(path, sizeof(path), "%s" DIR_SUFFIX, r->config.socket);
	rc = directory_open(
		&r->sockets.directory, path, &r->config.access, r->config.n_processes);
	if (rc)
		return rc;
	r->sockets.kind = SOURCE_DIRECTORY;
	if (epoll_ctl(r->server->epoll, EPOLL_CTL_ADD, directory_fd(r->sockets.directory),
		    &event))
		return -errno;
	return 0;
}

/* The uplinks of its guests, if it has any. */
static int region_guests_open(struct region *r)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = &r->guests};
	const struct uplinks_config config = {
		.region = r->config.name,
		.socket = r->config.socket,
		.access = &r->config.access,
		.memory_fd = r->memory_fd,
		.size = r->config.size,
		.n_guests = r->config.n_guests,
		.guests = r->config.guests,
	};
	int rc;

	if (!r->config.n_guests)
		return 0;
	rc = uplinks_open(&r->guests.uplinks, &config, r->sockets.directory);
	if (rc)
		return rc;
	r->guests.kind = SOURCE_UPLINKS;
	if (epoll_ctl(r->server->epoll, EPOLL_CTL_ADD, uplinks_fd(r->guests.uplinks),
		    &event))
		return -errno;
	return 0;
}

static void region_sockets_close(struct region *r)
{
	directory_close(r->sockets.directory);
	uplinks_close(r->guests.uplinks);
}

int server_region_add(struct server *s, const struct region_config *config)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct region *r;
	int rc = region_admissible(s, config);

	if (rc)
		return rc;
	rc = region_create(&r, s, config);
	if (rc)
		return rc;
	rc = listener_open(&r->listener, config->socket, SOCK_STREAM,
		access_is_private(&config->access));
	if (rc)
		goto fail_listener;
	event.data.ptr = r;
	if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, r->listener.fd, &event)) {
		rc = -errno;
		goto fail_epoll;
	}
	rc = region_directory_open(r);
	if (!rc)
		rc = region_guests_open(r);
	if (rc)
		goto fail_sockets;
	s->regions[s->n_regions++] = r;
	s->memory += config->size;
	return 0;

fail_sockets:
	region_sockets_close(r);
fail_epoll:
	listener_close(&r->listener);
fail_listener:
	region_free(r);
	return rc;
}

int server_region_remove(struct server *s, const char *name)
{
	struct region **found = region_find(s, name), *r;

	if (!found)
		return -ENOENT;
	r = *found;
	*found = s->regions[--s->n_regions];
	s->memory -= r->config.size;
	listener_close(&r->listener);
	region_sockets_close(r);
	for (uint32_t i = 0; i < r->config.max_peers; i++) {
		if (r->peers[i])
			peer_destroy(r->peers[i]);
	}
	region_free(r);
	return 0;
}

int server_region_stats(
	const struct server *s, const char *name, struct region_stats *stats)
{
	struct region **found = region_find(s, name);

	if (!found)
		return -ENOENT;
	*stats = (*found)->stats;
	return 0;
}
