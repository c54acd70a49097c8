/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who is admitted to a region, and the loop. Neighbours: server_region.c, peer.c.
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
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "ivshmem/proto.h"

#define TICK_NS	       (200 * NSEC_PER_MSEC)
#define EVENTS_PER_RUN 64

static_assert(SERVER_PEERS_MAX <= PROTO_ID_MAX + 1, "every client gets an ID");

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
