/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guests of a region, as its server sees them: each has an uplink by which its agent
 * publishes, offers and accepts for the programs in it (docs/uplink-protocol.md), and
 * pieces of the region's memory for its connections. All that comes by an uplink is the
 * guest's word: a guest can use its own addresses, its own numbers, and no more than the
 * limits.
 *
 * An object without threads: call uplinks_run_once() when uplinks_fd() is readable. It
 * never blocks. It is what lies elsewhere to the region's directory.
 */
#ifndef IVSHMEM_GUEST_UPLINKS_H
#define IVSHMEM_GUEST_UPLINKS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "ivshmem/access.h"
#include "ivshmem/dirproto.h"

#define UPLINKS_GUESTS_MAX    64 /* of a region */
#define UPLINKS_NAME_SIZE     32
#define UPLINKS_ADDRS_MAX     16       /* of a guest */
#define UPLINKS_PUBLISHED_MAX 1024     /* of a guest */
#define UPLINKS_ENDS_MAX      4096     /* of connections, of a guest */
#define UPLINKS_RINGS_MAX     4096     /* of a region */
#define UPLINKS_SUFFIX	      ".guest" /* behind the region's socket, '.' and the name */

struct directory;

/** struct guest_config - a guest that may have an uplink */
struct guest_config {
	char name[UPLINKS_NAME_SIZE];
	uint32_t n_addrs;
	struct dir_addr addrs[UPLINKS_ADDRS_MAX]; /* port 0 */
};

/** struct uplinks_config - all of it is borrowed for the object's life */
struct uplinks_config {
	const char *region; /* its name, for messages */
	const char *socket; /* the region's; those of guests are beside it */
	const struct access_list *access;
	int memory_fd;
	uint64_t size;
	uint32_t n_guests;
	const struct guest_config *guests;
};

struct uplinks;

/** uplinks_open() - listen for the guests' uplinks, and stand behind @d
 * @d: borrowed
 * Return: 0 or a negative errno, see listener_open()
 */
int uplinks_open(
	struct uplinks **out, const struct uplinks_config *config, struct directory *d);

/** uplinks_close() - disconnect all. NULL is fine. Close the directory before. */
void uplinks_close(struct uplinks *u);

int uplinks_fd(const struct uplinks *u);
void uplinks_run_once(struct uplinks *u);

/** uplinks_fds_needed() - descriptors for so many guests in so much memory, at most */
uint64_t uplinks_fds_needed(uint32_t n_guests, uint64_t size);

/** uplinks_totals() - " rings=... ring_memory=..." of the region */
void uplinks_totals(const struct uplinks *u, FILE *to);

/** uplinks_status() - a line for each guest */
void uplinks_status(const struct uplinks *u, FILE *to);

#endif
