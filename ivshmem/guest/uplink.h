/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The agent's side of the uplink (docs/uplink-protocol.md): what the guest's directory
 * cannot do alone it asks the region's server. Connects, and connects again, by itself.
 *
 * An object without threads: call uplink_run_once() when uplink_fd() is readable. It
 * never blocks.
 */
#ifndef IVSHMEM_GUEST_UPLINK_H
#define IVSHMEM_GUEST_UPLINK_H

#include <stdio.h>

struct directory;
struct uplink;

/** struct uplink_config - borrowed for the object's life */
struct uplink_config {
	const char *path;   /* a character device, or a UNIX socket */
	const char *memory; /* the region's memory; NULL: look for the device */
};

/** uplink_open() - stand behind @d, and begin to connect; 0 or a negative errno */
int uplink_open(
	struct uplink **out, const struct uplink_config *config, struct directory *d);

/** uplink_close() - NULL is fine. Close the directory before. */
void uplink_close(struct uplink *u);

int uplink_fd(const struct uplink *u);
void uplink_run_once(struct uplink *u);

/** uplink_status() - a line of name=value pairs */
void uplink_status(const struct uplink *u, FILE *to);

#endif
