/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ivshmem server: regions of shared memory, each with a socket at which QEMU's
 * ivshmem-doorbell devices and native processes join it, and with it each other.
 * docs/ivshmem.md is the protocol's and the limits' description.
 *
 * A region belongs to one tenant. Regions share nothing: not memory, not IDs, not
 * notices, not limits on peers. A client of one region cannot find out about another.
 *
 * The server is one object without threads, of which its caller runs the loop: wait until
 * server_fd() is readable, then call server_run_once(). The library neither blocks nor
 * touches signals. Below it: listener.h (socket files), access.h (who may), memory.h,
 * outq.h (what a client is to be told), proto.h (one message).
 */
#ifndef IVSHMEM_SERVER_H
#define IVSHMEM_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "ivshmem/access.h"
#include "ivshmem/guest/uplinks.h"
#include "ivshmem/listener.h"
#include "ivshmem/memory.h"

#define SERVER_NAME_SIZE   64
#define SERVER_REGIONS_MAX 256
#define SERVER_PEERS_MAX   1024 /* of a region, at the same time */
#define SERVER_VECTORS_MAX 64
#define SERVER_SIZE_MIN	   4096
#define SERVER_SIZE_MAX	   (UINT64_C(1) << 40)

/** struct server_config - limits of the whole server */
struct server_config {
	uint64_t memory_max;	/* bytes, all regions together */
	uint32_t stall_seconds; /* a client that reads nothing for so long is dropped */
	uint32_t join_rate;	/* connections to a region: per second, and at once */
};

/** server_config_init() - the defaults: half of the machine's memory, 30 s, 100 */
void server_config_init(struct server_config *config);

/** struct region_config - one region */
struct region_config {
	char name[SERVER_NAME_SIZE];   /* unique; letters, digits and "._-" */
	char tenant[SERVER_NAME_SIZE]; /* whom it belongs to; empty: as the name */
	char socket[LISTENER_PATH_SIZE];
	uint64_t size;		/* bytes; a power of two, as it becomes a PCI BAR */
	uint32_t n_vectors;	/* of each client */
	uint32_t max_peers;	/* clients at the same time */
	uint32_t max_half_open; /* of these, such as have not read their set-up yet */
	uint32_t n_processes;	/* that may use the socket shim; 0: no directory */
	enum memory_huge huge;
	struct access_list access;
	uint32_t n_guests; /* that have programs with the socket shim */
	struct guest_config guests[UPLINKS_GUESTS_MAX];
};

/** region_config_init() - the defaults: 1 vector, 16 peers, all may be half-open */
void region_config_init(struct region_config *config);

/** region_config_check() - can such a region be?
 * Return: NULL, or what is wrong with it, as text
 */
const char *region_config_check(const struct region_config *config);

/** struct region_stats - counters since the region was made, and its state now
 *
 * joined = n_peers + left + dropped_*
 */
struct region_stats {
	uint32_t n_peers;
	uint32_t n_half_open;
	bool is_huge;
	uint64_t joined;
	uint64_t left;		    /* went by themselves, or crashed */
	uint64_t refused_access;    /* not on the access list */
	uint64_t refused_full;	    /* max_peers are there */
	uint64_t refused_half_open; /* max_half_open are there */
	uint64_t refused_rate;	    /* more than join_rate */
	uint64_t refused_resources; /* no descriptors or memory left */
	uint64_t dropped_garbage;   /* sent something: clients have nothing to say */
	uint64_t dropped_stalled;   /* did not read for stall_seconds */
	uint64_t dropped_error;	    /* the socket failed, or no memory was left */
	uint64_t sent;		    /* messages */
};

struct server;

/** server_open() - make a server without regions
 * Return: 0 or a negative errno
 */
int server_open(struct server **out, const struct server_config *config);

/** server_close() - disconnect everybody, remove the sockets. NULL is fine. Memory lives
 * on as long as a client has it mapped.
 */
void server_close(struct server *s);

/** server_fd() - readable when server_run_once() has something to do; the server's */
int server_fd(const struct server *s);

/** server_run_once() - do what there is to do; never blocks
 * Return: 0 or a negative errno when waiting for events itself fails
 */
int server_run_once(struct server *s);

/** server_region_add() - make a region and listen at its socket
 * @config: borrowed for the call; must pass region_config_check()
 * Return: 0 or a negative errno:
 * -EINVAL     the check fails
 * -EEXIST     the name is taken, or a file that is no socket is at the socket's path
 * -EADDRINUSE another server is there
 * -EDQUOT     memory_max
 * -ENOSPC     SERVER_REGIONS_MAX
 * -EMFILE     the process' limit on descriptors (RLIMIT_NOFILE) is below what max_peers
 *             clients of all regions need
 * or what memory_create() and listener_open() say
 */
int server_region_add(struct server *s, const struct region_config *config);

/** server_region_remove() - disconnect its clients and forget it; -ENOENT if there is
 * none */
int server_region_remove(struct server *s, const char *name);

/** server_region_stats() - 0, or -ENOENT if there is no such region */
int server_region_stats(
	const struct server *s, const char *name, struct region_stats *stats);

/** server_status() - write all regions, their counters and clients, as lines of
 * name=value pairs; the names stay the same from one version to the next
 */
void server_status(const struct server *s, FILE *to);

#endif
