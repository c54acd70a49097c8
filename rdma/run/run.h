/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parts of vrdma-run. Whatever fails ends the program with a message, as there is
 * nothing to go on with.
 */
#ifndef RDMA_RUN_RUN_H
#define RDMA_RUN_RUN_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "rdma/provider/device_dir.h"

/* Where libibverbs looks for the character devices; it can't be told another place. */
#define NODE_DIR "/dev/infiniband"
/* The sysfs tree, in the same file system, as that is private and goes by itself. */
#define TREE_DIR NODE_DIR "/sysfs"

#define DEVICES_MAX	 64
#define DEVICE_NAME_SIZE 64 /* IBV_SYSFS_NAME_MAX */

struct device_entry {
	char name[DEVICE_NAME_SIZE];
	struct device_where where;
	char ifname[IF_NAMESIZE];
	int n_gids; /* in the table at first; empty entries behind them are not counted */
	uint8_t gid[DEVICE_GID_MAX][16];
};

struct device_list {
	int n;
	struct device_entry entry[DEVICES_MAX];
};

/** die() - print a message and exit */
void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* devices.c: which devices there are, and their sysfs tree */
void devices_add(struct device_list *list, const char *addrs);
/* On all addresses of an interface. */
void devices_add_interface(struct device_list *list, const char *ifname);
/* A host of its own on interface @port; each of @addrs has a prefix length. */
void devices_add_port(struct device_list *list, const char *port, const char *addrs);
void devices_set_mac(struct device_list *list, const char *mac); /* the last one's */
void devices_set_gateway(struct device_list *list, const char *gateways);
bool devices_have_port(const struct device_list *list);
void devices_name_last(struct device_list *list, const char *name);
void devices_add_all(struct device_list *list);
bool devices_are_possible(void); /* would devices_add_all() find an interface? */
void devices_print(const struct device_list *list);
void devices_make_tree(struct device_list *list);

/* mounts.c: a mount namespace with an empty, writable NODE_DIR */
void mounts_make(void);

#endif
