/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Regions, who is admitted to them, and the loop. Neighbours: peer.c, server_status.c.
 *
 * One event is taken from epoll at a time, so that nothing that an event frees can turn
 * up again as a later event of the same round. epoll serves what is ready in turn, so a
 * region that is flooded does not keep the others waiting.
 */
#include "ivshmem/server_priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "ivshmem/dirproto.h"
#include "ivshmem/proto.h"
#include "ivshmem/sockaddr.h"

#define TICK_NS	       (200 * NSEC_PER_MSEC)
#define EVENTS_PER_RUN 64
#define FDS_OF_REGION  3  /* listener, lock, memory */
#define FDS_OF_PROCESS 3  /* its connection, and an offer at a time */
#define FDS_OF_OTHERS  64 /* epoll, timer, and whatever else the process has */

static_assert(SERVER_PEERS_MAX <= PROTO_ID_MAX + 1, "every client gets an ID");

/* -- configuration */

void server_config_init(struct server_config *config)
{
	uint64_t pages = (uint64_t)sysconf(_SC_PHYS_PAGES);

	config->memory_max = pages * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
	config->stall_seconds = 30;
	config->join_rate = 100;
}

void region_config_init(struct region_config *config)
{
	memset(config, 0, sizeof(*config));
	config->n_vectors = 1;
	config->max_peers = 16;
}

static bool is_name(const char *s)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		"0123456789._-";

	return *s && s[strspn(s, allowed)] == '\0';
}

/* A path that can be shown in a log, at the end of a line. */
static bool is_path(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++) {
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return false;
	}
	return true;
}

static bool shares_address(const struct guest_config *a, const struct guest_config *b)
{
	for (uint32_t i = 0; i < a->n_addrs; i++) {
		for (uint32_t k = 0; k < b->n_addrs; k++) {
			if (dir_addr_same_ip(&a->addrs[i], &b->addrs[k]))
				return true;
		}
	}
	return false;
}

static const char *guests_check(const struct region_config *config)
{
	if (config->n_guests && !config->n_processes)
		return "a region with guests needs sockets";
	for (uint32_t i = 0; i < config->n_guests; i++) {
		const struct guest_config *g = &config->guests[i];

		if (!is_name(g->name) || !g->n_addrs)
			return "a guest needs a name and an address";
		if (strlen(config->socket) + 1 + strlen(g->name) +
				strlen(UPLINKS_SUFFIX) >=
			LISTENER_PATH_SIZE)
			return "the path of the socket is too long for guests";
		for (uint32_t k = 0; k < i; k++) {
			if (!strcmp(g->name, config->guests[k].name))
				return "two guests have one name";
			if (shares_address(g, &config->guests[k]))
				return "two guests have one address";
		}
	}
	return NULL;
}

const char *region_config_check(const struct region_config *config)
{
	if (!is_name(config->name))
		return "a region needs a name of letters, digits, '.', '_' and '-'";
	if (*config->tenant && !is_name(config->tenant))
		return "a tenant's name is of letters, digits, '.', '_' and '-'";
	if (!is_path(config->socket))
		return "a region needs the path of a socket";
	if (config->size < SERVER_SIZE_MIN || config->size > SERVER_SIZE_MAX ||
		(config->size & (config->size - 1)))
		return "the size must be a power of two, 4K to 1T";
	if (config->n_vectors < 1 || config->n_vectors > SERVER_VECTORS_MAX)
		return "vectors: 1 to 64";
	if (config->max_peers < 1 || config->max_peers > SERVER_PEERS_MAX)
		return "max-peers: 1 to 1024";
	if (config->max_half_open > config->max_peers)
		return "max-half-open: at most max-peers";
	if (config->n_processes > DIRECTORY_CLIENTS_MAX)
		return "sockets: at most 4096";
	if (config->n_processes &&
		strlen(config->socket) + strlen(DIR_SUFFIX) >= LISTENER_PATH_SIZE)
		return "the path of the socket is too long for sockets";
	return guests_check(config);
}

/* -- clients come and go */

static void count_end(struct region *r, enum peer_end end)
{
	struct region_stats *stats = &r->stats;

	switch (end) {
	case PEER_STAYS:
		break;
	case PEER_LEFT:
		stats->left++;
		break;
	case PEER_GARBAGE:
		stats->dropped_garbage++;
		break;
	case PEER_STALLED:
		stats->dropped_stalled++;
		break;
	case PEER_ERROR:
		stats->dropped_error++;
		break;
	}
}

static void peer_take_out(struct region *r, struct peer *p)
{
	static const char *const why[] = {
		[PEER_LEFT] = "left",
		[PEER_GARBAGE] = "is dropped: it sends, which no client does",
		[PEER_STALLED] = "is dropped: it does not read",
		[PEER_ERROR] = "is dropped: its socket failed, or there is no memory",
	};
	uint16_t id = p->id;

	log_limited(&r->log, p->end == PEER_LEFT ? LOG_LEVEL_INFO : LOG_LEVEL_WARN,
		"ivshmem", "region %s: client %u %s", r->config.name, id, why[p->end]);
	count_end(r, p->end);
	r->peers[id] = NULL;
	r->n_ended--;
	r->stats.n_peers--;
	r->stats.n_half_open -= p->half_open;
	for (uint32_t i = 0; i < r->config.max_peers; i++) {
		if (r->peers[i])
			peer_tell_gone(r->peers[i], id);
	}
	peer_destroy(p);
}

/* Take out those who ended. Telling the others may end more. */
static void region_reap(struct region *r)
{
	while (r->n_ended) {
		for (uint32_t i = 0; i < r->config.max_peers; i++) {
			if (r->peers[i] && r->peers[i]->end != PEER_STAYS)
				peer_take_out(r, r->peers[i]);
		}
	}
}

/* A free ID: the one that has been free for longest, or nearly so, since a client that is
 * slow to hear that an ID is gone would ring its next owner's doorbell. There is one.
 */
static uint16_t id_pick(struct region *r)
{
	uint32_t id = r->next_id;

	while (r->peers[id])
		id = (id + 1) % r->config.max_peers;
	r->next_id = (id + 1) % r->config.max_peers;
	return (uint16_t)id;
}

static void peer_put_in(struct region *r, struct peer *p)
{
	p->id = id_pick(r);
	r->peers[p->id] = p;
	r->stats.joined++;
	r->stats.n_peers++;
	r->stats.n_half_open++;
	log_limited(&r->log, LOG_LEVEL_INFO, "ivshmem",
		"region %s: client %u joined (pid %d, uid %u)", r->config.name, p->id,
		(int)p->pid, p->uid);
	for (uint32_t i = 0; i < r->config.max_peers; i++) {
		if (r->peers[i] && r->peers[i] != p)
			peer_tell_joined(r->peers[i], p);
	}
	peer_setup(p);
}

static bool too_many_half_open(struct region *r)
{
	uint32_t max = r->config.max_half_open;
	uint64_t now = now_ns();

	if (!max || r->stats.n_half_open < max)
		return false;
	/* The count is as old as the last tick. */
	for (uint32_t i = 0; i < r->config.max_peers; i++) {
		if (r->peers[i] && r->peers[i]->half_open)
			peer_settle(r->peers[i], now);
	}
	return r->stats.n_half_open >= max;
}

static void refuse(struct region *r, uint64_t *counter, const char *why)
{
	++*counter;
	log_limited(&r->log, LOG_LEVEL_WARN, "ivshmem", "region %s: client refused: %s",
		r->config.name, why);
}

/* The rate comes last: only those who would be let in use it up. */
static bool is_admitted(struct region *r, const struct access_peer *who)
{
	const struct server_config *limits = &r->server->config;
	uint32_t rate = limits->join_rate;
	/* All of a region's clients may come back at once. */
	uint32_t burst = MAX(rate, 2 * r->config.max_peers);
	struct region_stats *stats = &r->stats;

	if (!access_allows(&r->config.access, who))
		refuse(r, &stats->refused_access, "not on the access list");
	else if (stats->n_peers == r->config.max_peers)
		refuse(r, &stats->refused_full, "the region is full");
	else if (too_many_half_open(r))
		refuse(r, &stats->refused_half_open, "too many do not read");
	else if (!bucket_take(&r->joins, rate, burst, now_ns()))
		refuse(r, &stats->refused_rate, "too many in a short time");
	else
		return true;
	return false;
}

/* @sock: consumed */
static void client_new(struct region *r, int sock)
{
	struct access_peer who;
	struct peer *p;
	int rc = access_peer_get(sock, &who);

	if (rc)
		goto refuse;
	if (!is_admitted(r, &who)) {
		free(who.groups);
		close(sock);
		return;
	}
	rc = peer_create(&p, r, sock, &who);
	free(who.groups);
	if (rc)
		goto refuse;
	peer_put_in(r, p);
	return;

refuse:
	refuse(r, &r->stats.refused_resources, strerror(-rc));
	close(sock);
}

static void listener_watch(struct region *r, bool on)
{
	struct epoll_event event = {.events = on ? EPOLLIN : 0, .data.ptr = r};

	r->paused = !on;
	/* Cannot fail: it is there, and a change needs no memory. */
	epoll_ctl(r->server->epoll, EPOLL_CTL_MOD, r->listener.fd, &event);
}

static int spare_open(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* No descriptor is left for the next client: turn it away by means of the spare one, or
 * it would wait in vain and the loop would not rest.
 */
static void client_turn_away(struct region *r)
{
	struct server *s = r->server;
	int sock = -1;

	if (s->spare_fd >= 0) {
		close(s->spare_fd);
		sock = accept4(r->listener.fd, NULL, NULL, SOCK_CLOEXEC);
		if (sock >= 0) {
			close(sock);
			refuse(r, &r->stats.refused_resources, "no descriptors left");
		}
		s->spare_fd = spare_open();
	}
	if (sock < 0) {
		listener_watch(r, false);
		tick_arm(s);
	}
}

static void listener_ready(struct region *r)
{
	int sock = accept4(r->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (sock >= 0)
		client_new(r, sock);
	else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
		 errno == ENOBUFS)
		client_turn_away(r);
	/* else it has gone again */
}

/* -- the loop */

void tick_arm(struct server *s)
{
	struct itimerspec when = {.it_value.tv_nsec = TICK_NS};

	if (s->tick_armed)
		return;
	timerfd_settime(s->timer, 0, &when, NULL);
	s->tick_armed = true;
}

static void tick(struct server *s)
{
	uint64_t expirations, now = now_ns();
	bool again = false;

	if (read(s->timer, &expirations, sizeof(expirations)) < 0)
		return;
	s->tick_armed = false;
	if (s->spare_fd < 0)
		s->spare_fd = spare_open();
	for (uint32_t i = 0; i < s->n_regions; i++) {
		struct region *r = s->regions[i];

		if (r->paused)
			listener_watch(r, true);
		for (uint32_t id = 0; id < r->config.max_peers; id++) {
			if (r->peers[id])
				again |= peer_tick(r->peers[id], now);
		}
		region_reap(r);
	}
	if (again || s->spare_fd < 0)
		tick_arm(s);
}

int server_run_once(struct server *s)
{
	struct epoll_event event;
	struct peer *p;
	struct region *r;
	int n;

	for (int i = 0; i < EVENTS_PER_RUN; i++) {
		n = epoll_wait(s->epoll, &event, 1, 0);
		if (n <= 0)
			return n < 0 && errno != EINTR ? -errno : 0;
		switch (*(enum source_kind *)event.data.ptr) {
		case SOURCE_TICK:
			tick(s);
			break;
		case SOURCE_LISTENER:
			r = event.data.ptr;
			listener_ready(r);
			region_reap(r);
			break;
		case SOURCE_PEER:
			p = event.data.ptr;
			r = p->region;
			peer_ready(p, event.events);
			region_reap(r);
			break;
		case SOURCE_DIRECTORY:
			directory_run_once(
				((struct directory_source *)event.data.ptr)->directory);
			break;
		case SOURCE_UPLINKS:
			uplinks_run_once(
				((struct guests_source *)event.data.ptr)->uplinks);
			break;
		}
	}
	return 0;
}

int server_fd(const struct server *s)
{
	return s->epoll;
}

int server_open(struct server **out, const struct server_config *config)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct server *s;
	int rc;

	if (!config->stall_seconds || !config->join_rate)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->kind = SOURCE_TICK;
	s->config = *config;
	s->timer = s->spare_fd = -1;
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll < 0)
		goto fail;
	s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->timer < 0)
		goto fail;
	s->spare_fd = spare_open();
	if (s->spare_fd < 0)
		goto fail;
	event.data.ptr = s;
	if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->timer, &event))
		goto fail;
	*out = s;
	return 0;

fail:
	rc = -errno;
	server_close(s);
	return rc;
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

void server_close(struct server *s)
{
	if (!s)
		return;
	while (s->n_regions)
		server_region_remove(s, s->regions[0]->config.name);
	close_if_open(s->spare_fd);
	close_if_open(s->timer);
	close_if_open(s->epoll);
	free(s);
}

/* -- regions */

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
	close_if_open(r->memory_fd);
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
