/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What server.c (regions, who is admitted, the loop), peer.c (one client) and
 * server_status.c share.
 */
#ifndef IVSHMEM_SERVER_PRIV_H
#define IVSHMEM_SERVER_PRIV_H

#include "ivshmem/bucket.h"
#include "ivshmem/directory.h"
#include "ivshmem/outq.h"
#include "ivshmem/server.h"
#include "lib/log.h"

/** enum source_kind - what an event of the loop is about; first member of its struct */
enum source_kind {
	SOURCE_TICK,
	SOURCE_LISTENER,
	SOURCE_PEER,
	SOURCE_DIRECTORY,
	SOURCE_UPLINKS,
};

/** enum peer_end - why a client is to go */
enum peer_end {
	PEER_STAYS,
	PEER_LEFT,
	PEER_GARBAGE,
	PEER_STALLED,
	PEER_ERROR,
};

/** struct peer - one client of a region */
struct peer {
	enum source_kind kind;
	struct region *region;
	int sock;
	uint16_t id;
	bool told;	/* has been sent all of its set-up */
	bool half_open; /* has not read its set-up yet, as far as we know */
	bool wants_out; /* waits for EPOLLOUT */
	bool settled;	/* had read everything, and was sent nothing since */
	enum peer_end end;
	pid_t pid;
	uid_t uid;
	struct outq out;
	int unread;	      /* SIOCOUTQ, when it was last looked at */
	uint64_t progress_ns; /* when all was read, or some more was */
	int vectors[];	      /* n_vectors eventfds; -1 not made yet */
};

/** struct directory_source - a region's directory, as the loop sees it */
struct directory_source {
	enum source_kind kind;
	struct directory *directory; /* NULL: the region has none */
};

/** struct guests_source - its guests' uplinks */
struct guests_source {
	enum source_kind kind;
	struct uplinks *uplinks; /* NULL: the region has none */
};

struct region {
	enum source_kind kind;
	struct server *server;
	struct region_config config;
	struct listener listener;
	struct directory_source sockets;
	struct guests_source guests;
	bool paused; /* no descriptors: the listener waits for the next tick */
	int memory_fd;
	uint32_t next_id;
	uint32_t n_ended; /* peers whose end is not PEER_STAYS */
	struct bucket joins;
	struct log_limit log;
	struct region_stats stats;
	struct peer **peers; /* max_peers, by ID; NULL: free */
};

struct server {
	enum source_kind kind;
	struct server_config config;
	int epoll;
	int timer;
	bool tick_armed;
	int spare_fd; /* given up to be able to turn a client away; -1: gone */
	uint64_t memory;
	uint32_t n_regions;
	struct region *regions[SERVER_REGIONS_MAX];
};

/** tick_arm() - have the loop look after clients (and paused listeners) in a moment */
void tick_arm(struct server *s);

/** peer_create() - a new client with all its descriptors, but not yet of the region
 * @sock: consumed on success
 * Return: 0, -EMFILE, -ENFILE, -ENOMEM, ...
 */
int peer_create(
	struct peer **out, struct region *r, int sock, const struct access_peer *who);

/** peer_destroy() - close its descriptors; it must not be in the region any more */
void peer_destroy(struct peer *p);

/** peer_setup() - queue what a new client is told first, and send what can be sent */
void peer_setup(struct peer *p);

/** peer_tell_joined() - tell @p that @other is there; peer_tell_gone() that it is not */
void peer_tell_joined(struct peer *p, const struct peer *other);
void peer_tell_gone(struct peer *p, uint16_t other);

/** peer_ready() - its socket has something to say: @events of epoll */
void peer_ready(struct peer *p, uint32_t events);

/** peer_settle() - find out whether @p has read all that was sent to it so far
 * Return: whether it has
 */
bool peer_settle(struct peer *p, uint64_t now_ns);

/** peer_tick() - try again to send; end @p if it has not read for too long
 * Return: whether it needs a next tick
 */
bool peer_tick(struct peer *p, uint64_t now_ns);

#endif
